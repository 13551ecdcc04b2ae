//! The lines of a base's braces that say what becomes of a file's tensors: `part`, `map`, `ignore`, `join` and `resize`.

use archc_base::Resample;

use crate::diag::{At, Code, Diagnostic, Diagnostics, Problem, Result, suggest};
use crate::source::Span;
use crate::syntax::tree::{self, Arg, Args, ChangeKind, Expr, ExprKind, Unary};
use crate::weights::{
    Change, Fault, IgnoreLine, Intake, JoinLine, Line, Lines, MapLine, Need, ResizeLine, WeightsSource,
};

/// Where the lines stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    part: Option<Span>,
    /// Each `map`, and its changes.
    maps: Vec<(Span, Vec<Span>)>,
    ignores: Vec<Span>,
    joins: Vec<Span>,
    resizes: Vec<Span>,
}

impl Places {
    fn of(base: &tree::Base) -> Places {
        let part = base.weights.first().and_then(|weights| weights.part.as_ref());
        let map = |map: &tree::Map| (map.span, map.changes.iter().map(|change| change.span).collect());
        Places {
            part: part.map(|part| part.span),
            maps: base.maps.iter().map(map).collect(),
            ignores: base.ignores.iter().map(|ignore| ignore.regex.span).collect(),
            joins: base.joins.iter().map(|join| join.span).collect(),
            resizes: base.resizes.iter().map(|resize| resize.span).collect(),
        }
    }

    /// A mistake at the line that it is about.
    pub fn place(&self, fault: Fault) -> Box<Diagnostic> {
        let span = match fault.line {
            Line::Part => self.part.as_ref(),
            Line::Map(at) => self.maps.get(at).map(|(span, _)| span),
            Line::Change(map, at) => self.maps.get(map).and_then(|(_, changes)| changes.get(at)),
            Line::Ignore(at) => self.ignores.get(at),
            Line::Join(at) => self.joins.get(at),
            Line::Resize(at) => self.resizes.get(at),
        };
        match span {
            Some(span) => fault.problem.at(*span),
            None => fault.problem.anywhere(),
        }
    }

    /// The lines that must match a key, each by its word.
    fn required<'a>(&'a self, lines: &'a Lines) -> impl Iterator<Item = (&'static str, Span)> {
        let must = |need: Need| need == Need::Must;
        let maps = lines.maps.iter().zip(&self.maps).filter(move |(line, _)| must(line.need));
        let ignores = lines.ignores.iter().zip(&self.ignores).filter(move |(line, _)| must(line.need));
        (self.part.iter().map(|span| ("part", *span)))
            .chain(maps.map(|(_, (span, _))| ("map", *span)))
            .chain(ignores.map(|(_, span)| ("ignore", *span)))
            .chain(self.joins.iter().map(|span| ("join", *span)))
            .chain(self.resizes.iter().map(|span| ("resize", *span)))
    }
}

/// The checked lines, and where they stand.
///
/// # Errors
/// Every line that is wrong whatever the file has, and those that nothing is there for.
pub(super) fn of(base: &tree::Base, weights: &WeightsSource) -> std::result::Result<(Intake, Places), Diagnostics> {
    let mut problems = Diagnostics::new();
    let lines = lines(base, &mut problems);
    let places = Places::of(base);
    if problems.has_errors() {
        return Err(problems);
    }
    let intake = Intake::new(&lines).map_err(|faults| {
        faults.into_iter().for_each(|fault| problems.push(places.place(fault)));
        std::mem::take(&mut problems)
    })?;
    if let WeightsSource::Random { .. } = weights {
        for (word, span) in places.required(&lines) {
            let message = match word {
                "part" => "weights that are drawn have no parts".to_string(),
                _ => format!("this `{word}` has no file whose keys it could match: the weights are random"),
            };
            let problem = Problem::new(Code::WeightsMap, message);
            problems.push(problem.hint("name the file: `weights \"model.safetensors\"`").at(span));
        }
    }
    if problems.has_errors() { Err(problems) } else { Ok((intake, places)) }
}

fn lines(base: &tree::Base, problems: &mut Diagnostics) -> Lines {
    let need = |optional: bool| if optional { Need::May } else { Need::Must };
    let part = base.weights.first().and_then(|weights| weights.part.as_ref());
    let mut lines = Lines { part: part.map(|part| part.value.clone()), ..Lines::default() };
    for tree::Map { from, to, changes, optional, .. } in &base.maps {
        let changes = changes.iter().filter_map(|one| problems.take(change(one))).collect();
        lines.maps.push(MapLine { from: from.value.clone(), to: to.value.clone(), changes, need: need(*optional) });
    }
    for tree::Ignore { regex, optional, .. } in &base.ignores {
        lines.ignores.push(IgnoreLine { regex: regex.value.clone(), need: need(*optional) });
    }
    for tree::Join { from, to, order: words, .. } in &base.joins {
        let order = problems.take(order(words)).unwrap_or_default();
        lines.joins.push(JoinLine { from: from.value.clone(), to: to.value.clone(), order });
    }
    for tree::Resize { regex, by, from, .. } in &base.resizes {
        let known = Resample::named(&by.value).filter(|by| *by != Resample::Nearest);
        let known = known.ok_or_else(|| {
            let problem = Problem::new(Code::BadValue, format!("tables are not resized by `{}`", by.value));
            problem.hint("by `bicubic`, as timm does, or by `bilinear`")
        });
        let (by, from) = (problems.take(known.at(by.span)), from.as_ref().map(|from| problems.take(grid(from))));
        if let (Some(by), None | Some(Some(_))) = (by, from) {
            lines.resizes.push(ResizeLine { regex: regex.value.clone(), by, from: from.flatten() });
        }
    }
    lines
}

/// `permute(3, 2, 0, 1)`, `reshape(768, 3, 16, 16)` or `rows 0..10`.
fn change(change: &tree::Change) -> Result<Change> {
    let (name, args) = match &change.kind {
        ChangeKind::Rows(from, to) => return Ok(Change::Rows(*from as usize..*to as usize)),
        ChangeKind::Call(name, args) => (name, args),
    };
    match name.value.as_str() {
        "permute" => {
            let what = "the axes of the file's tensor in their new order";
            numbers(name, args, what, number).map(Change::Permute)
        }
        "reshape" => {
            let is_left =
                |expr: &Expr| matches!(&expr.kind, ExprKind::Unary(Unary::Neg, one) if one.kind == ExprKind::Int(1));
            let size = |expr: &Expr| if is_left(expr) { Some(None) } else { number(expr).map(Some) };
            let sizes = numbers(name, args, "the sizes of the new shape, of which one may be -1", size)?;
            if sizes.iter().filter(|size| size.is_none()).count() > 1 {
                let problem = Problem::new(Code::BadValue, "one size of a `reshape` may be -1");
                return Err(problem.hint("it is what the others leave").at(args.span));
            }
            Ok(Change::Reshape(sizes))
        }
        other => {
            let problem = Problem::new(Code::UnknownName, format!("a file's tensors are not changed by `{other}`"));
            let hint = suggest(other, ["permute", "reshape", "rows"]);
            let known = "there are `permute(1, 0)`, `reshape(768, 768)` and `rows 0..10`";
            Err(problem.hint(hint.unwrap_or_else(|| known.into())).at(change.span))
        }
    }
}

/// A whole number of 0 or more.
fn number(expr: &Expr) -> Option<usize> {
    match expr.kind {
        ExprKind::Int(number @ 0..) => usize::try_from(number).ok(),
        _ => None,
    }
}

/// Arguments without names, one at least, each as `of` takes it.
fn numbers<T>(name: &tree::Name, args: &Args, what: &str, of: impl Fn(&Expr) -> Option<T>) -> Result<Vec<T>> {
    let name = &name.value;
    let number = |arg: &Arg| {
        of(&arg.value).filter(|_| arg.name.is_none()).ok_or_else(|| {
            Problem::new(Code::BadValue, format!("`{name}` takes whole numbers: {what}")).at(arg.value.span)
        })
    };
    if args.args.is_empty() {
        let problem = Problem::new(Code::MissingArgument, format!("`{name}` takes {what}"));
        return Err(problem.at(args.span));
    }
    args.args.iter().map(number).collect()
}

/// `[query, key, value]`
fn order(list: &Expr) -> Result<Vec<String>> {
    let wrong = |span: Span| {
        let problem = Problem::new(Code::BadValue, "`order` is a list of the words of the alternation");
        problem.hint("write `order [query, key, value]`").at(span)
    };
    let ExprKind::List(items) = &list.kind else { return Err(wrong(list.span)) };
    let word = |item: &Expr| match &item.kind {
        ExprKind::Name(word) | ExprKind::Str(word) => Ok(word.clone()),
        ExprKind::Int(number) => Ok(number.to_string()),
        _ => Err(wrong(item.span)),
    };
    items.iter().map(word).collect()
}

/// `(14, 14)`
fn grid(pair: &Expr) -> Result<(usize, usize)> {
    let size = |expr: &Expr| match expr.kind {
        ExprKind::Int(size @ 1..) => Some(size as usize),
        _ => None,
    };
    let found = match &pair.kind {
        ExprKind::List(items) if items.len() == 2 => size(&items[0]).zip(size(&items[1])),
        _ => size(pair).map(|size| (size, size)),
    };
    found.ok_or_else(|| {
        let problem = Problem::new(Code::BadValue, "`from` is the height and the width of the file's table");
        problem.hint("write `from (14, 14)`").at(pair.span)
    })
}
