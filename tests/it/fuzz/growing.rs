//! Small texts that ask for much: lists in lists, blocks in blocks, loops in loops, long patterns, many mistakes.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A part of a spec: what it defines, what stands in its network, and edits.
#[derive(Clone, Debug, Default)]
struct Part {
    definitions: String,
    body: String,
    edits: String,
}

fn body(body: String) -> Part {
    Part { body, ..Part::default() }
}

/// Specs of a few parts.
pub fn specs() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        3 => lists(),
        3 => blocks(),
        3 => functions(),
        2 => loops(),
        3 => mistakes(),
        3 => patterns(),
        1 => labels(),
        1 => arguments(),
        1 => brackets(),
        1 => maps(),
        1 => ties(),
    ];
    (proptest::collection::vec(part, 1..4), any::<bool>()).prop_map(|(parts, with_layers)| {
        let all = |of: fn(&Part) -> &str| parts.iter().map(of).collect::<Vec<_>>().join("\n");
        let (definitions, body, edits) = (all(|part| &part.definitions), all(|part| &part.body), all(|part| &part.edits));
        let layers = if with_layers { DEEP } else { "" };
        let weights = if edits.contains("map ") { edits.as_str() } else { "" };
        let edits = if weights.is_empty() { edits.as_str() } else { "" };
        format!("{definitions}\nnetwork n {{\n input [N, 4]\n{layers}\n{body}\n relu\n}}\nbase n {{ {weights}\n }}\n{edits}\n")
    })
}

/// Layers that lie deep, for patterns.
const DEEP: &str = " a: { a: { a: { b: seq { for i in 0..12 { seq { relu; a: { a: linear(4) } } } } } } }";

/// Lists that hold earlier ones, and what walks over them.
fn lists() -> impl Strategy<Value = Part> {
    let list = (1..4usize, any::<Index>(), select(&["[{}]", "zip({}, {})", "{}[0..1]", "normal({})", "([{}], 1)"][..]));
    let end = select(
        &[
            "let y = len(x)",
            "let y = x == x",
            "let y = -x",
            "linear(x)",
            "concat(x)",
            "let y = sum(x)",
            "let y = min(x)",
            "for y in x { for z in y { let w = z } }",
            "reshape(x)",
            "let y = x + 1",
            "\"{x}\": relu",
            "if x != [1] { relu }",
            "let y, z = x",
            "let y = make_divisible(x, 8)",
            "let y = x[0][0][-1]",
        ][..],
    );
    (proptest::collection::vec(list, 1..70), proptest::collection::vec(end, 0..4)).prop_map(|(lists, ends)| {
        let mut text = String::from(" let x0 = 1\n");
        for (at, (copies, of, form)) in lists.iter().enumerate() {
            // mostly the one before, so that they grow
            let of = if copies % 2 == 1 { of.index(at + 1) } else { at };
            let value = form.replace("{}", &vec![format!("x{of}"); *copies].join(", "));
            text += &format!(" let x{} = {value}\n", at + 1);
        }
        text += &format!(" let x = x{}\n", lists.len());
        ends.iter().for_each(|end| text += &format!(" {end}\n"));
        body(text)
    })
}

/// Blocks that call earlier ones once or more.
fn blocks() -> impl Strategy<Value = Part> {
    let form = select(
        &[
            "{}",
            "{}; {}",
            "{}; {}; {}",
            "seq { {}; {} }",
            "a: { {} }; b: { {} }",
            "residual { {} } shortcut { {} }",
            "for i in 0..3 { {} }",
            "if in.features == 4 { {}; {} } else { {} }",
            "in -> {} -> {}",
            "let v = in -> {}; {}",
        ][..],
    );
    let first = select(&["", "relu", "let x = y", "in", "linear(in.features)", "a: seq { }"][..]);
    (first, proptest::collection::vec(form, 1..40)).prop_map(|(first, forms)| {
        let mut definitions = format!("block b0 {{ {first} }}\n");
        for (at, form) in forms.iter().enumerate() {
            definitions += &format!("block b{} {{ {} }}\n", at + 1, form.replace("{}", &format!("b{at}")));
        }
        Part { definitions, body: format!(" b{}\n", forms.len()), ..Part::default() }
    })
}

/// Functions that call earlier ones.
fn functions() -> impl Strategy<Value = Part> {
    let form = select(
        &[
            "{}(n)",
            "{}(n) + {}(n)",
            "{}({}(n))",
            "if n > 3 then {}(n) else {}(n + 1)",
            "[{}(n), {}(n)]",
            "{}(n) * 2",
            "{}",
        ][..],
    );
    (proptest::collection::vec(form, 1..50), any::<bool>()).prop_map(|(forms, local)| {
        let mut text = String::from("let f0(n) = n\n");
        for (at, form) in forms.iter().enumerate() {
            text += &format!("let f{}(n) = {}\n", at + 1, form.replace("{}", &format!("f{at}")));
        }
        let call = format!(" linear(f{}(1))\n", forms.len());
        let (definitions, body) = if local { (String::new(), text + &call) } else { (text, call) };
        Part { definitions, body, ..Part::default() }
    })
}

/// Loops in loops over much.
fn loops() -> impl Strategy<Value = Part> {
    let over = select(
        &["0..2", "0..100", "0..10000", "0..10**18", "-5..=5", "[1, 2, 3]", "zip([1, 2], [3, 4])", "0..1000000000"][..],
    );
    let inside = select(
        &[
            "let x = i",
            "let x = j",
            "relu",
            "\"l{i}\": relu",
            "linear(i)",
            "let x = [i, i, i]",
            "let x = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
            "seq { }",
            "let f(n) = n + i",
            "append",
            "let x = in.shape",
            "let v = in -> linear(4)",
        ][..],
    );
    (proptest::collection::vec(over, 1..5), proptest::collection::vec(inside, 1..4)).prop_map(|(overs, inside)| {
        let open: String = overs.iter().map(|over| format!("for i in {over} {{ ")).collect();
        body(format!(" {open}{}{}\n", inside.join("; "), " }".repeat(overs.len())))
    })
}

/// The same mistake often, or several.
fn mistakes() -> impl Strategy<Value = Part> {
    let mistake = select(
        &[
            "let x = y",
            "linear(7 / 2)",
            "remove",
            "relu relu",
            "concat(a, b)",
            "linear(out = 4, out = 5)",
            "nothing",
            "a: relu",
            "let x = nothing(3)",
            "\"{q}\": relu",
            "conv2d(4, kernel = 3)",
            "reshape(5, 5)",
            "}",
            "\"",
        ][..],
    );
    (proptest::collection::vec(mistake, 1..4), select(&[1, 10, 200, 3000][..]), any::<bool>()).prop_map(
        |(mistakes, times, as_edits)| {
            if as_edits {
                let edits = mistakes.iter().map(|mistake| format!("append {mistake}\n")).collect::<String>();
                return Part { edits: edits.repeat(times.min(100)), ..Part::default() };
            }
            body(mistakes.iter().map(|mistake| format!(" {mistake}\n")).collect::<String>().repeat(times))
        },
    )
}

/// Edits of long patterns.
fn patterns() -> impl Strategy<Value = Part> {
    let segment = select(&["**", "**", "*", "a", "a*", "b", "[*]", "[-1]", "[0..5]", "relu", "*a*a*"][..]);
    let verb = select(
        &[
            "remove {}",
            "freeze {}",
            "insert relu after {}",
            "set {} { out = 4 }",
            "output o = {}",
            "init {} with zeros",
        ][..],
    );
    let one = (verb, proptest::collection::vec(segment, 1..40), select(&[1, 1, 1, 50][..]));
    proptest::collection::vec(one, 1..4).prop_map(|edits| {
        let mut text = String::new();
        for (verb, segments, times) in edits {
            let pattern = segments.join(".").replace(".[", "[").trim_start_matches("[*]").to_string();
            text += &format!("{}\n", verb.replace("{}", &vec![pattern; times].join(".")));
        }
        Part { edits: text, ..Part::default() }
    })
}

/// Long labels in scopes in scopes.
fn labels() -> impl Strategy<Value = Part> {
    (1..1100usize, 1..60usize, select(&[1, 3, 100, 100_000][..])).prop_map(|(length, depth, times)| {
        let label = "a".repeat(length);
        let open = format!("{label}: {{ ").repeat(depth);
        body(format!(" for i in 0..{times} {{ \"u{{i}}\": {{ {open} relu {} }} }}\n", "}".repeat(depth)))
    })
}

/// Calls whose arguments hold earlier calls.
fn arguments() -> impl Strategy<Value = Part> {
    let form = select(&["{}({})", "{}(kernel = {})", "{}(1)", "{}({}, {})", "{}(out = 4)", "{}"][..]);
    let first = select(&["conv2d(4)", "relu", "se", "linear", "unit(relu)"][..]);
    (first, proptest::collection::vec(form, 1..300)).prop_map(|(first, forms)| {
        let mut text = format!(" let c0 = {first}\n");
        for (at, form) in forms.iter().enumerate() {
            text += &format!(" let c{} = {}\n", at + 1, form.replace("{}", &format!("c{at}")));
        }
        Part {
            definitions: "block unit(a, b = 1, c = a) { a; if b == c { relu } }\n".into(),
            body: format!("{text} c{}\n", forms.len()),
            ..Part::default()
        }
    })
}

/// One kind of token or bracket, very often.
fn brackets() -> impl Strategy<Value = Part> {
    let form = select(
        &[
            ("(", "1", ")"),
            ("[", "1", "]"),
            ("{ ", "relu", " }"),
            ("if true { ", "relu", " }"),
            ("seq { ", "relu", " }"),
            ("a: { ", "relu", " }"),
            ("let x = -", "1", ""),
            ("-", "1", ""),
            ("not ", "true", ""),
            ("relu -> ", "relu", ""),
            ("2 ** ", "2", ""),
            ("", "x", "[0]"),
            ("", "x", ".a"),
            ("residual { ", "relu", " }"),
            ("\"{", "1", "}\""),
            ("if 1 == 1 then 1 else ", "1", ""),
            ("", "x", ", x"),
            ("\n;", "", "\n"),
            ("concat(in, ", "in", ")"),
        ][..],
    );
    let start = select(&["", "let x = ", "linear(", "let x = [", "reshape("][..]);
    (form, start, select(&[5, 60, 127, 300, 20_000][..])).prop_map(|((open, middle, close), start, times)| {
        let end = start.matches(['(', '[']).map(|open| if open == "(" { ")" } else { "]" }).collect::<String>();
        body(format!(" {start}{}{middle}{}{end}\n", open.repeat(times), close.repeat(times)))
    })
}

/// Lines of `map` that grow keys or regular expressions.
fn maps() -> impl Strategy<Value = Part> {
    let line = select(
        &[
            "map \"(.*)\" to \"$1$1\"",
            "map \"(a{100}){100}\" to \"x\"",
            "ignore \"(.*)*(.*)*x\"",
            "ignore \"((a{50}){50}){50}\"",
            "map \"(\\w+)\\.(\\w+)\" to \"$2.$1\"",
        ][..],
    );
    (line, select(&[1, 30, 2500][..])).prop_map(|(line, times)| Part {
        edits: format!("weights random(seed = 0)\n{}", format!("{line}\n").repeat(times)),
        ..Part::default()
    })
}

/// A scope that is tied to one that ties another.
fn ties() -> impl Strategy<Value = Part> {
    (1..20usize, 1..4usize).prop_map(|(depth, copies)| {
        let mut text = String::from(" t0: { linear(4) }\n");
        for at in 1..depth {
            let tied = vec![format!("tied(t{})", at - 1); copies].join("; ");
            text += &format!(" t{at}: {{ {tied} }}\n");
        }
        body(text)
    })
}
