//! What texts mean: precedence, statements, selectors, and where statements end.

use super::super::parse;
use super::super::tree::*;
use super::messages;
use crate::source::FileId;

fn file(text: &str) -> File {
    let (tree, problems) = parse(FileId(0), text);
    assert!(problems.is_empty(), "{text}\n{:?}", messages(text));
    tree
}

/// An expression with all its parentheses.
fn show(expr: &Expr) -> String {
    match &expr.kind {
        ExprKind::Int(value) => value.to_string(),
        ExprKind::Float(value) => format!("{value:?}"),
        ExprKind::Bool(value) => value.to_string(),
        ExprKind::None => "none".into(),
        ExprKind::Str(text) => format!("'{text}'"),
        ExprKind::List(values) => format!("[{}]", values.iter().map(show).collect::<Vec<_>>().join(" ")),
        ExprKind::Name(name) => name.clone(),
        ExprKind::Role(role) => format!("@{role}"),
        ExprKind::In => "in".into(),
        ExprKind::Prev => "prev".into(),
        ExprKind::Call(name, args) => format!("{}{}", name.value, show_args(args)),
        ExprKind::Field(value, name) => format!("{}.{}", show(value), name.value),
        ExprKind::Index(value, index) => format!("{}[{}]", show(value), show(index)),
        ExprKind::Slice(value, from, to) => {
            let end = |end: &Option<Box<Expr>>| end.as_deref().map(show).unwrap_or_default();
            format!("{}[{}..{}]", show(value), end(from), end(to))
        }
        ExprKind::Unary(operator, value) => format!("({operator:?} {})", show(value)),
        ExprKind::Binary(operator, left, right) => format!("({operator:?} {} {})", show(left), show(right)),
        ExprKind::If(condition, then, otherwise) => {
            format!("(if {} {} {})", show(condition), show(then), show(otherwise))
        }
        ExprKind::Paren(chain) => format!("<{}>", show_chain(chain)),
    }
}

fn show_args(args: &Args) -> String {
    let one = |arg: &Arg| match &arg.name {
        Some(name) => format!("{}={}", name.value, show(&arg.value)),
        None => show(&arg.value),
    };
    format!("({})", args.args.iter().map(one).collect::<Vec<_>>().join(" "))
}

fn show_chain(chain: &Chain) -> String {
    chain.steps.iter().map(show_step).collect::<Vec<_>>().join(" -> ")
}

fn show_step(step: &Step) -> String {
    let label = step.label.as_ref().map(|label| {
        let parts = label.parts.iter().map(|part| match part {
            LabelPart::Text(text) => text.clone(),
            LabelPart::Expr(expr) => format!("{{{}}}", show(expr)),
        });
        parts.collect::<String>() + ": "
    });
    let kind = match &step.kind {
        StepKind::Seq(body) => format!("seq {}", show_body(body)),
        StepKind::Braces(body) => show_body(body),
        StepKind::Residual(residual) => {
            let condition = |condition: &Option<Expr>| condition.as_ref().map(|c| format!("if {} ", show(c)));
            let mut text = format!("residual {}", condition(&residual.condition).unwrap_or_default());
            text += &show_body(&residual.main);
            if let Some(shortcut) = &residual.shortcut {
                let condition = condition(&shortcut.condition).unwrap_or_default();
                text += &format!(" shortcut {condition}{}", show_body(&shortcut.body));
            }
            text
        }
        StepKind::Expr(expr) => show(expr),
    };
    label.unwrap_or_default() + &kind
}

fn show_body(body: &Body) -> String {
    format!("{{{}}}", body.stmts.iter().map(show_stmt).collect::<Vec<_>>().join("; "))
}

fn show_stmt(stmt: &Stmt) -> String {
    let names = |names: &[Name]| names.iter().map(|name| name.value.as_str()).collect::<Vec<_>>().join(",");
    match stmt {
        Stmt::Let(Let::Function { name, params, value, .. }) => {
            format!("let {}({}) = {}", name.value, names(params), show(value))
        }
        Stmt::Let(Let::Values { names: left, value, .. }) => format!("let {} = {}", names(left), show_chain(value)),
        Stmt::For(For { names: left, over, body, .. }) => {
            let over = match over {
                Over::Range { from, to, inclusive } => {
                    format!("{}..{}{}", show(from), if *inclusive { "=" } else { "" }, show(to))
                }
                Over::List(list) => show(list),
            };
            format!("for {} in {over} {}", names(left), show_body(body))
        }
        Stmt::If(If { condition, then, otherwise, .. }) => {
            let otherwise = otherwise.as_ref().map(|body| format!(" else {}", show_body(body)));
            format!("if {} {}{}", show(condition), show_body(then), otherwise.unwrap_or_default())
        }
        Stmt::Output(one) => format!("output {} = {}", one.name.value, show_chain(&one.value)),
        Stmt::Chain(chain) => show_chain(chain),
    }
}

/// The statements of a block with that body.
fn body(text: &str) -> String {
    let tree = file(&format!("block b {{\n{text}\n}}"));
    let [Item::Block(block)] = &tree.items[..] else { panic!("{tree:?}") };
    block.body.stmts.iter().map(show_stmt).collect::<Vec<_>>().join("; ")
}

#[test]
fn expressions_follow_precedence() {
    let cases = [
        ("1 + 2 * 3", "(Add 1 (Mul 2 3))"),
        ("a - b - c", "(Sub (Sub a b) c)"),
        ("a / b // c % d", "(Rem (FloorDiv (Div a b) c) d)"),
        ("-2 ** 2", "(Neg (Pow 2 2))"),
        ("2 ** -1", "(Pow 2 (Neg 1))"),
        ("2 ** 3 ** 2", "(Pow 2 (Pow 3 2))"),
        ("2 ** -3 ** 2", "(Pow 2 (Neg (Pow 3 2)))"),
        ("-a * b", "(Mul (Neg a) b)"),
        ("--a", "(Neg (Neg a))"),
        ("a * -b", "(Mul a (Neg b))"),
        ("not a == b", "(Not (Eq a b))"),
        ("not not a", "(Not (Not a))"),
        ("a or b and not c", "(Or a (And b (Not c)))"),
        ("a < b and b <= c", "(And (Lt a b) (Le b c))"),
        ("a + b > c * d", "(Gt (Add a b) (Mul c d))"),
        ("if a or b then c + 1 else d", "(if (Or a b) (Add c 1) d)"),
        ("if a then b else if c then d else e", "(if a b (if c d e))"),
        ("[3, 4, 6, 3][i]", "[3 4 6 3][i]"),
        ("depths[0..stage]", "depths[0..stage]"),
        ("depths[1..][..2][0]", "depths[1..][..2][0]"),
        ("in.shape[1] * 2", "(Mul in.shape[1] 2)"),
        ("trunk.0.\"a-b\".conv", "trunk.0.a-b.conv"),
        ("layer3.5.conv2", "layer3.5.conv2"),
        ("(64, 128)", "[64 128]"),
        ("(64,)", "[64]"),
        ("(64)", "<64>"),
        ("[]", "[]"),
        ("[1, (2, 3),]", "[1 [2 3]]"),
        ("f(1, b = 2,)", "f(1 b=2)"),
        ("f(a == b, c = d == e)", "f((Eq a b) c=(Eq d e))"),
        ("f()", "f()"),
        ("1e-3 * 0.5", "(Mul 0.001 0.5)"),
        ("1E+3", "1000.0"),
        (r#""a\"b\\c\d{e}""#, r#"'a"b\c\d{e}'"#),
        ("(x -> relu) * 0", "(Mul <x -> relu> 0)"),
        ("in * (seen + peak -> sigmoid)", "(Mul in <(Add seen peak) -> sigmoid>)"),
        ("concat(prev, (prev -> \"d{i}\": dense(8)))", "concat(prev <prev -> d{i}: dense(8)>)"),
        ("input + inner * internal - order / notes", "(Sub (Add input (Mul inner internal)) (Div order notes))"),
        ("a -b", "(Sub a b)"),
        ("9223372036854775807", "9223372036854775807"),
    ];
    for (text, wanted) in cases {
        assert_eq!(body(&format!("let x = {text}")), format!("let x = {wanted}"), "{text}");
        assert_eq!(body(&format!("f({text})")), format!("f({wanted})"), "{text}");
        // An `if` expression at the head of a statement needs parentheses.
        if !text.starts_with("if") {
            assert_eq!(body(text), wanted, "{text}");
        }
    }
}

#[test]
fn statements_end_where_they_should() {
    let cases = [
        ("a; b\nc", "a; b; c"),
        (";;a;;\n;b;", "a; b"),
        ("a ->\n\n  b", "a -> b"),
        ("a\n\n  -> b\n  # comment\n  -> c", "a -> b -> c"),
        ("f(a,\n  b\n  ,c\n)", "f(a b c)"),
        ("a +\nb", "(Add a b)"),
        ("a\n-b", "a; (Neg b)"),
        ("let x =\n  3", "let x = 3"),
        ("let a,\n b = c", "let a,b = c"),
        ("let x = not\na", "let x = (Not a)"),
        ("let x = if a then 1\n  else 2", "let x = (if a 1 2)"),
        ("if a { b }\nelse { c }", "if a {b} else {c}"),
        ("if a { b } else if c { d } else { e }", "if a {b} else {if c {d} else {e}}"),
        ("if a { b } else if c { d }\n\n else if e { f }", "if a {b} else {if c {d} else {if e {f}}}"),
        ("residual { a }\n\n# side\nshortcut if b { c }\nd", "residual {a} shortcut if b {c}; d"),
        ("residual if a { b }", "residual if a {b}"),
        ("r: residual { b } -> c", "r: residual {b} -> c"),
        ("for i in 0..4 { a }", "for i in 0..4 {a}"),
        ("for i in 1..=len(d) { a }", "for i in 1..=len(d) {a}"),
        ("for a, b in [(1, 16), (6, 24)] { c }", "for a,b in [[1 16] [6 24]] {c}"),
        ("for i in depths { a }", "for i in depths {a}"),
        ("output x = a\n -> b\nc", "output x = a -> b; c"),
        ("output: a -> b", "output: a -> b"),
        ("x: { a }", "x: {a}"),
        ("{ a }", "{a}"),
        ("seq { a; b }", "seq {a; b}"),
        ("\"layer{stage + 1}\": seq { }", "layer{(Add stage 1)}: seq {}"),
        ("\"b{s}-{i}\": a", "b{s}-{i}: a"),
        ("\"block1-0\": a", "block1-0: a"),
        ("let f(c, w) = make(c * w, 8)", "let f(c,w) = make((Mul c w) 8)"),
        ("x -> none", "x -> none"),
        ("a # b; c\nd", "a; d"),
        ("f(\"# no comment\") # one", "f('# no comment')"),
        ("(x -> {\na\nb\n})", "<x -> {a; b}>"),
        // Words that are no names only where they stand.
        ("input: a -> output: b", "input: a -> output: b"),
        ("block: seq { map: base }", "block: seq {map: base}"),
        ("at: before(with = as)", "at: before(with=as)"),
    ];
    for (text, wanted) in cases {
        assert_eq!(body(text), wanted, "{text}");
        assert_eq!(body(&text.replace('\n', "\r\n")), wanted, "{text}");
        if !text.contains('"') {
            assert_eq!(body(&text.replace(' ', "\t")), wanted, "{text}");
        }
    }
}

fn show_place(place: &Place) -> String {
    let segment = |segment: &Spanned<Segment>| match &segment.value {
        Segment::Glob(glob) => format!(".{glob}"),
        Segment::Role(role) => format!("@{role}"),
        Segment::Tap(stride) => format!("tap({stride})"),
        Segment::Indices(indices) => {
            format!("[{}]", indices.iter().map(Index::to_string).collect::<Vec<_>>().join(" "))
        }
    };
    place.segments.iter().map(segment).collect::<String>().trim_start_matches('.').to_string()
}

fn show_selector(selector: &Selector) -> String {
    let one = |select: &Select| {
        let mut text = match &select.kind {
            SelectKind::All => "<all>".to_string(),
            SelectKind::Place(place) => show_place(place),
            SelectKind::Range(from, to) => format!("{}..={}", show_place(from), show_place(to)),
        };
        if let Some(of) = &select.of {
            text += &format!(":{}", of.value);
        }
        if let Some(filter) = &select.filter {
            text += &format!(" where {}", show(filter));
        }
        text
    };
    let list = |list: &[Select]| list.iter().map(one).collect::<Vec<_>>().join(", ");
    let mut text = list(&selector.include);
    if !selector.except.is_empty() {
        text += &format!(" except {}", list(&selector.except));
    }
    if let Some(expect) = &selector.expect {
        text += &format!(" expect {}", expect.value);
    }
    text
}

fn show_edit(text: &str) -> String {
    let tree = file(text);
    let [Item::Edit(edit)] = &tree.items[..] else { panic!("{text}: {tree:?}") };
    let hows = |hows: &[How]| hows.iter().map(|how| how.value.to_string()).collect::<Vec<_>>().join(" & ");
    let keeping = |keeping: &Keeping| match &keeping.kind {
        KeepingKind::Alike(alike) => format!("keeping <{}>", hows(alike)),
        KeepingKind::Each(heirs) => {
            let heir =
                |heir: &Heir| format!("{}={} {}", show_place(&heir.new), show_place(&heir.old), hows(&heir.hows));
            format!("keeping {{{}}}", heirs.iter().map(heir).collect::<Vec<_>>().join("; "))
        }
    };
    let new = |new: &New| {
        let name = new.name.iter().map(|name| format!(" as {}", name.value));
        let kept = new.keeping.iter().map(|kept| format!(" {}", keeping(kept)));
        show_chain(&new.chain) + &name.chain(kept).collect::<String>()
    };
    // `around`, not `residual`, and sides as names, so that they are told from the text itself
    let side = |word: &str| format!("{}{}", word[..1].to_uppercase(), &word[1..]);
    let part = |part: &Part| match part {
        Part::Selector(target) => show_selector(target),
        Part::Place(place) | Part::Path(place) => show_place(place),
        Part::New(layers) => new(layers),
        Part::Input(input) => {
            let sizes: Vec<String> = input.dims.iter().map(show).collect();
            format!("{}: [{}]", input.name.as_ref().map_or("", |name| &name.value), sizes.join(" "))
        }
        Part::Name(name) => format!("{} =", name.value),
        Part::Expr(expr) => show(expr),
        Part::Entries(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(name, to)| format!("{}={}", name.value, show(to))).collect();
            format!("{{{}}}", entries.join(" "))
        }
        Part::Keeping(kept) => keeping(kept),
        Part::Word(word) if ["insert", "cut"].contains(&edit.verb.value.as_str()) => side(&word.value),
        Part::Word(word) => word.value.clone(),
    };
    let parts: Vec<String> = edit.parts.iter().map(part).collect();
    match parts.as_slice() {
        [around, target, project @ ..] if around == "around" => format!("around {target} {}", !project.is_empty()),
        parts => format!("{} {}", edit.verb.value, parts.join(" ")),
    }
}

#[test]
fn edits_are_understood() {
    let cases = [
        ("insert se(reduction = 16) at layer3[5]", "insert se(reduction=16) At layer3[5]"),
        ("insert dropout(0.5) -> relu as x before fc", "insert dropout(0.5) -> relu as x Before fc"),
        ("output aux = layer3 -> a: fcn_head(21)\n-> relu", "output aux = layer3 a: fcn_head(21) -> relu"),
        ("input meta: [N, 2 * n,]", "input meta: [N (Mul 2 n)]"),
        ("dilate to 2 * n", "dilate to (Mul 2 n)"),
        ("freeze all except @head, @stages[-1].**:relu", "freeze <all> except @head, @stages[-1].**:relu"),
        ("cut after tap( 16 )", "cut After tap(16)"),
        ("append { concat(in, @stages[0].a) }", "append {concat(in @stages[0].a)}"),
        ("insert lora(rank = 8) beside **.mlp.**:linear", "insert lora(rank=8) Beside **.mlp.**:linear"),
        (
            "replace avgpool..=fc with {\n a: relu\n flatten\n} as head",
            "replace avgpool..=fc with {a: relu; flatten} as head",
        ),
        ("replace with with with as with", "replace with with with as with"),
        ("insert before before before", "insert before Before before"),
        ("insert x as at at at", "insert x as at At at"),
        ("remove except except except", "remove except except except"),
        ("remove layer3.5.conv2, \"a-b\".c", "remove layer3.5.conv2, a-b.c"),
        ("remove a,\n b", "remove a, b"),
        ("remove l[-1].x[0..3][0..=2][1..][*][0, 2,5][..4]", "remove l[-1].x[0..3][0..=2][1..][*][0 2 5][..4]"),
        ("remove layer*[-1] expect 4", "remove layer*[-1] expect 4"),
        (
            "freeze all, **:conv2d where kernel == 3 and groups == 1, c except fc, x.** expect 2",
            "freeze <all>, **:conv2d where (And (Eq kernel 3) (Eq groups 1)), c except fc, x.** expect 2",
        ),
        ("replace **:relu with gelu expect 17", "replace **:relu expect 17 with gelu"),
        ("replace a expect 2 with gelu as b", "replace a expect 2 with gelu as b"),
        ("set a { eps = 1 } expect 20", "set a expect 20 {eps=1}"),
        ("init a with zeros expect 3", "init a expect 3 with zeros"),
        ("freeze \"all\"", "freeze all"),
        ("freeze all.x", "freeze all.x"),
        ("freeze *\n", "freeze *"),
        ("unfreeze **", "unfreeze **"),
        ("replace a with same keeping weights", "replace a with same keeping <weights>"),
        (
            "replace a with same(out = 2) as b keeping rows [0..10, -1,\n new], bias expect 3",
            "replace a expect 3 with same(out=2) as b keeping <rows 0..10, -1, new & bias>",
        ),
        (
            "set a.kernel = 3 keeping center, channels [*, 1..=2, mean, sum, zeros, new], channels repeat",
            "set a {kernel=3} keeping <center & channels *, 1..=2, mean, sum, zeros, new & channels repeat>",
        ),
        (
            "replace a with b keeping { x = a[0]; y.z = weights weight, rows [1]\n w = rows\n}",
            "replace a with b keeping {x=a[0] ; y.z=weights weight & rows 1; w=rows }",
        ),
        ("residual around layer1[0] project auto", "around layer1[0] true"),
        ("residual around around", "around around false"),
        ("connect a.0 to b[1] with concat", "connect a.0 to b[1] with concat"),
        ("cut after avgpool", "cut After avgpool"),
        ("cut before before", "cut Before before"),
        ("append { a: relu } as decoder", "append {a: relu} as decoder"),
        ("prepend concat(in, in)", "prepend concat(in in)"),
        ("set layer4[0].conv2 { stride = 1, dilation = (2, 2) }", "set layer4[0].conv2 {stride=1 dilation=[2 2]}"),
        ("set a { stride = 1\n dilation = 2,\n\n groups = 3; out = 4 }", "set a {stride=1 dilation=2 groups=3 out=4}"),
        ("set layer4[0].conv2.stride = 1", "set layer4[0].conv2 {stride=1}"),
        ("set layer4[0].stride =\n 1 + 1", "set layer4[0] {stride=(Add 1 1)}"),
        ("set **:conv2d where kernel == 3 { stride = 1 }", "set **:conv2d where (Eq kernel 3) {stride=1}"),
        ("output c = layer2", "output c = layer2"),
        ("output output = output", "output output = output"),
        ("rename fc to head.fc", "rename fc to head.fc"),
        ("tie a to b", "tie a to b"),
        ("init fc.bias with constant(-4.6)", "init fc.bias with constant((Neg 4.6))"),
    ];
    for (text, wanted) in cases {
        assert_eq!(show_edit(text), wanted, "{text}");
    }
}

#[test]
fn a_whole_file_is_understood() {
    let text = "\u{feff}archc 1\nuse \"zoo:resnet.arch\"\nparam classes = 10\nparam must\nlet k = 3\n\
        base resnet50(classes = 10) {\n  weights \"a.safetensors\"; map \"x(.*)\" to \"$1\"\n  ignore \"aux.*\"\n\
        \n  labels imagenet\n  input [N, 3, 320, 320]\n  preprocess { resize = 256, crop = 224 }\n}\n\
        network n(a, b = 2) {\n  input x: [N, 3]\n  input: relu\n  labels: relu\n  labels \"l.txt\"\n  preprocess { std = 1 }\n}\n\
        network m = n(1)\nnetwork o(c) = n\nblock d(a, b = a,) seq { relu }\n\
        train {\n  lr layer4.** by 0.1\n  augment flip,\n    crop(3)\n  data folder(\"d\")\n  epochs 5\n}\n";
    let tree = file(text);
    let kinds: Vec<String> =
        tree.items.iter().map(|item| format!("{item:?}").split('(').next().unwrap_or("").to_string()).collect();
    let wanted = ["Version", "Use", "Param", "Param", "Let", "Base", "Network", "Network", "Network", "Block", "Train"];
    assert_eq!(kinds, wanted);
    let Item::Base(base) = &tree.items[5] else { panic!() };
    assert_eq!((base.weights.len(), base.maps.len(), base.ignores.len(), base.labels.len()), (1, 1, 1, 1));
    assert_eq!((base.inputs[0].dims.len(), base.preprocess[0].entries.len()), (4, 2));
    assert_eq!(base.maps[0].from.value, "x(.*)");
    let Item::Network(network) = &tree.items[6] else { panic!() };
    let NetworkDefinition::Body(body) = &network.definition else { panic!() };
    assert_eq!((body.inputs.len(), body.labels.len(), body.preprocess.len()), (1, 1, 1));
    assert_eq!(show_body(&body.body), "{input: relu; labels: relu}");
    let Item::Network(alias) = &tree.items[8] else { panic!() };
    let NetworkDefinition::Alias { target, args, .. } = &alias.definition else { panic!() };
    assert_eq!((target.value.as_str(), args.span.start, args.span.end), ("n", target.span.end, target.span.end));
    let Item::Train(train) = &tree.items[10] else { panic!() };
    assert!(matches!(&train.lines[0], TrainLine::Factor { word, .. } if word.value == "lr"));
    assert!(matches!(&train.lines[1], TrainLine::Values { values, .. } if values.len() == 2));
}

#[test]
fn places_are_exact() {
    let text = "# é\nblock b {\n    x: conv2d( 3 ,k = 1 )   # c\n    y   \n\n    -> z\n}\n";
    let tree = file(text);
    let [Item::Block(block)] = &tree.items[..] else { panic!() };
    let at = |span: crate::source::Span| &text[span.start as usize..span.end as usize];
    assert_eq!(at(block.name.span), "b");
    let [Stmt::Chain(first), Stmt::Chain(second)] = &block.body.stmts[..] else { panic!() };
    assert_eq!(at(first.span), "x: conv2d( 3 ,k = 1 )");
    assert_eq!(at(second.span), "y   \n\n    -> z");
    let StepKind::Expr(Expr { kind: ExprKind::Call(name, args), .. }) = &first.steps[0].kind else { panic!() };
    assert_eq!((at(name.span), at(args.span), at(args.args[0].value.span)), ("conv2d", "( 3 ,k = 1 )", "3"));
    let text = "block b { \"a{ i + 1 }\": relu }";
    let tree = file(text);
    let [Item::Block(block)] = &tree.items[..] else { panic!() };
    let [Stmt::Chain(chain)] = &block.body.stmts[..] else { panic!() };
    let Some(Label { parts, .. }) = &chain.steps[0].label else { panic!() };
    let LabelPart::Expr(expr) = &parts[1] else { panic!() };
    assert_eq!(&text[expr.span.start as usize..expr.span.end as usize], "i + 1");
}
