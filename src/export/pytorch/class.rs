//! Units that are alike become one class, with parameters for the literals in which they differ.

use indexmap::{IndexMap, IndexSet};
use rustc_hash::FxHashSet;

use super::code::{Call, Code, Doc, Piece, camel, expression, identifier, is_identifier, literal, signature, walk};
use super::unit::{Kind, Unit, Units, What};
use crate::ops::attr::Attr;
use crate::writer::relate::{Expr, Found, Slot, parameters};

/// Units of one text.
#[derive(Debug)]
pub struct Class {
    pub name: String,
    /// Written where it is used: `nn.Sequential` that is there once, or has no name.
    pub is_inline: bool,
    pub units: Vec<usize>,
    pub params: Vec<Param>,
    /// What each literal is, in the order in which they are written.
    exprs: Vec<Expr>,
    /// The values of the parameters for each unit.
    args: Vec<Vec<Attr>>,
}

/// A parameter of a class.
#[derive(Debug)]
pub struct Param {
    pub name: String,
    /// What is meant where a call does not say it.
    pub default: Option<Attr>,
}

/// The classes of a network, what others use before them; the network's own is the last.
pub struct Classes {
    pub all: Vec<Class>,
    /// The class of each unit.
    pub of: Vec<usize>,
}

/// Finds the classes of units, and names them; the network's is called `network`.
pub fn classes(units: &Units, network: &str, taken: &[&str]) -> Classes {
    let mut of: Vec<usize> = vec![];
    let mut by_text: IndexMap<String, Vec<usize>> = IndexMap::new();
    for (at, unit) in units.all.iter().enumerate() {
        // a unit comes after those inside it
        let text = text_of(unit, &|inner| of[inner]);
        let entry = by_text.entry(text);
        of.push(entry.index());
        entry.or_default().push(at);
    }
    let mut names: FxHashSet<String> = taken.iter().map(|name| name.to_string()).collect();
    names.insert(network.to_string());
    let mut all: Vec<Class> = vec![];
    for members in by_text.into_values() {
        let first = &units.all[members[0]];
        let is_named = first.block.is_some() && members.len() > 1;
        let is_inline = match first.kind {
            Kind::Sequential => !is_named,
            Kind::Module => false,
            Kind::Holder => members[0] != units.root,
        };
        let name = if members[0] == units.root {
            network.to_string()
        } else if is_inline {
            String::new()
        } else {
            named(first, &mut names)
        };
        let mut class = Class { name, is_inline, units: members, params: vec![], exprs: vec![], args: vec![] };
        if !is_inline {
            parameterise(&mut class, units, &all, &of);
        }
        all.push(class);
    }
    Classes { all, of }
}

fn named(unit: &Unit, names: &mut FxHashSet<String>) -> String {
    let label = unit.path.rsplit('.').find(|label| label.contains(|c: char| c.is_ascii_alphabetic()));
    let plain = |text: &str| text.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_').to_string();
    let name = match (&unit.block, label) {
        (Some(block), _) => camel(block.rsplit(['.', ':']).next().unwrap_or(block)),
        (None, Some(label)) if !plain(label).is_empty() => camel(&plain(label)),
        _ => "Unit".to_string(),
    };
    let numbered = (2..).map(|number| format!("{name}{number}"));
    let mut all = std::iter::once(name.clone()).chain(numbered);
    let name = all.find(|name| !names.contains(name)).expect("numbers do not end");
    names.insert(name.clone());
    name
}

/// All that units of one class have in common.
fn text_of(unit: &Unit, class: &dyn Fn(usize) -> usize) -> String {
    let mut text = format!("{:?}\n{}\n", unit.kind, unit.block.as_deref().unwrap_or_default());
    for item in &unit.items {
        text += &format!("{}{:?}", item.label, item.what);
        signature(&item.code, class, &mut text);
        text.push('\n');
    }
    text += &format!("({})\n", unit.params.join(","));
    for step in &unit.steps {
        text += &step.targets.join(",");
        signature(&step.code, class, &mut text);
        text.push('\n');
    }
    text += &unit.results.join(",");
    text
}

/// A literal of a unit: its name, the label of what it belongs to, its value.
type Literal<'u> = (String, &'u str, Attr);

/// The literals of a unit, those of what is written inside it among them.
fn literals<'u>(at: usize, units: &'u Units, made: &[Class], of: &[usize], out: &mut Vec<Literal<'u>>) {
    let unit = &units.all[at];
    let items = unit.items.iter().map(|item| (&item.code, item.label.as_str()));
    let steps = unit.steps.iter().map(|step| (&step.code, ""));
    for (code, label) in items.chain(steps) {
        let mut inner = vec![];
        walk(code, &mut |piece| match piece {
            Piece::Slot(name, value) => inner.push(Err((name.to_string(), label, value.clone()))),
            Piece::Unit(unit) => inner.push(Ok(*unit)),
            _ => {}
        });
        for one in inner {
            match one {
                Err(literal) => out.push(literal),
                Ok(inner) => {
                    let class = &made[of[inner]];
                    if class.is_inline {
                        literals(inner, units, made, of, out);
                        continue;
                    }
                    let place = class.units.iter().position(|unit| *unit == inner).expect("it is one of them");
                    for (param, value) in class.params.iter().zip(&class.args[place]) {
                        out.push((param.name.clone(), label, value.clone()));
                    }
                }
            }
        }
    }
}

/// Finds the parameters of a class, whose inner classes are `made`.
fn parameterise(class: &mut Class, units: &Units, made: &[Class], of: &[usize]) {
    let mut all: Vec<Vec<Literal<'_>>> = vec![];
    for unit in &class.units {
        let mut literals_of = vec![];
        literals(*unit, units, made, of, &mut literals_of);
        all.push(literals_of);
    }
    let slots: Vec<Slot> = (0..all[0].len())
        .map(|at| Slot {
            values: all.iter().map(|literals| Some(literals[at].2.clone())).collect(),
            inputs: vec![None; all.len()],
            name: all[0][at].0.clone(),
            label: all[0][at].1.to_string(),
            is_number_of_label: false,
        })
        .collect();
    let (exprs, found) = parameters(&slots, |_| None);
    // what `forward` uses is an attribute, beside the modules
    let labels = units.all[class.units[0]].items.iter().map(|item| item.label.clone());
    let mut own: FxHashSet<String> = labels.chain(["self", "x"].map(String::from)).collect();
    let mut order: Vec<usize> = (0..found.len()).collect();
    let defaults: Vec<Option<Attr>> = found.iter().map(default).collect();
    order.sort_by_key(|at| defaults[*at].is_some());
    let place = |at: usize| order.iter().position(|other| *other == at).expect("each has its place");
    class.exprs = exprs.into_iter().map(|expr| moved(expr, &place)).collect();
    class.params = order
        .iter()
        .map(|at| Param { name: param_name(&found[*at], &mut own), default: defaults[*at].clone() })
        .collect();
    let value = |at: &usize, unit: usize| found[*at].values[unit].clone().expect("every unit has every literal");
    class.args = (0..class.units.len()).map(|unit| order.iter().map(|at| value(at, unit)).collect()).collect();
}

/// An expression of parameters that have other places.
fn moved(expr: Expr, place: &dyn Fn(usize) -> usize) -> Expr {
    match expr {
        Expr::Param(at) => Expr::Param(place(at)),
        Expr::Times(factor, of) => Expr::Times(factor, Box::new(moved(*of, place))),
        Expr::Over(of, divisor) => Expr::Over(Box::new(moved(*of, place)), divisor),
        Expr::Plus(of, more) => Expr::Plus(Box::new(moved(*of, place)), more),
        other => other,
    }
}

fn param_name(found: &Found, own: &mut FxHashSet<String>) -> String {
    let plain = if is_identifier(&found.name) { found.name.clone() } else { "value".to_string() };
    let label = identifier(&found.label);
    let qualified = format!("{label}_{plain}");
    let numbered = (2..).map(|number| format!("{plain}_{number}"));
    let labelled =
        (!found.label.is_empty() && !found.label.starts_with(|c: char| c.is_ascii_digit())).then_some(qualified);
    let mut all = std::iter::once(plain.clone()).chain(labelled).chain(numbered);
    let name = all.find(|name| !own.contains(name)).expect("numbers do not end");
    own.insert(name.clone());
    name
}

/// What most units have, where it goes without saying: sizes of channels are always said.
fn default(found: &Found) -> Option<Attr> {
    let is_size = ["channels", "features", "size", "shape", "heads"].iter().any(|word| found.name.contains(word))
        && !found.name.contains("kernel");
    let mut counts: IndexMap<String, (Attr, usize)> = IndexMap::new();
    for value in found.values.iter().flatten() {
        counts.entry(literal(value)).or_insert((value.clone(), 0)).1 += 1;
    }
    let (value, count) = counts.into_values().max_by_key(|(_, count)| *count)?;
    (!is_size && 2 * count >= found.values.len()).then_some(value)
}

impl Class {
    /// The values of the parameters, for each unit.
    pub fn args(&self) -> &[Vec<Attr>] {
        &self.args
    }
}

impl Classes {
    /// The literals of a class as they are written, to be taken one after another.
    pub fn cursor(&self, class: usize) -> Cursor<'_> {
        let class = &self.all[class];
        let names: Vec<String> = class.params.iter().map(|param| param.name.clone()).collect();
        Cursor { exprs: class.exprs.iter(), names }
    }
}

/// The literals of a class that were not written yet.
pub struct Cursor<'c> {
    exprs: std::slice::Iter<'c, Expr>,
    names: Vec<String>,
}

impl<'c> Cursor<'c> {
    /// The parameters that the literals which are left are made of, for `forward`, where they are attributes.
    pub fn attributes(&mut self) -> Vec<String> {
        let mut used: IndexSet<usize> = IndexSet::new();
        self.exprs.clone().for_each(|expr| params_of(expr, &mut used));
        used.sort_unstable();
        let names = used.iter().map(|at| self.names[*at].clone()).collect();
        self.names.iter_mut().for_each(|name| *name = format!("self.{name}"));
        names
    }

    fn next(&mut self) -> (&'c Expr, String) {
        let expr = self.exprs.next().expect("every literal has its expression");
        (expr, expression(expr, &self.names))
    }
}

fn params_of(expr: &Expr, used: &mut IndexSet<usize>) {
    match expr {
        Expr::Param(at) => _ = used.insert(*at),
        Expr::Times(_, of) | Expr::Over(of, _) | Expr::Plus(of, _) | Expr::Power(_, of) => params_of(of, used),
        Expr::First(_, first, rest) => {
            params_of(first, used);
            params_of(rest, used);
        }
        Expr::Value(_) | Expr::In(_) | Expr::Var(_) => {}
    }
}

/// Lays out code.
pub fn laid(code: &[Piece], units: &Units, classes: &Classes, cursor: &mut Cursor<'_>) -> Doc {
    let mut parts: Vec<Doc> = vec![];
    for piece in code {
        let doc = match piece {
            Piece::Text(text) => Doc::Text(text.clone()),
            Piece::Slot(..) => Doc::Text(cursor.next().1),
            Piece::Call(call) => laid_call(call, units, classes, cursor),
            Piece::Unit(unit) => laid_unit(*unit, units, classes, cursor),
            Piece::In(_) | Piece::Own => unreachable!("lines are filled before they are laid out"),
        };
        match (parts.last_mut(), doc) {
            (Some(Doc::Text(before)), Doc::Text(more)) => *before += &more,
            (_, doc) => parts.push(doc),
        }
    }
    if parts.len() == 1 { parts.remove(0) } else { Doc::Joined(parts) }
}

fn laid_call(call: &Call, units: &Units, classes: &Classes, cursor: &mut Cursor<'_>) -> Doc {
    let mut args = vec![];
    for arg in &call.args {
        let is_default = |expr: &Expr| match (expr, &arg.default) {
            (Expr::Value(value), Some(default)) => value == default,
            _ => false,
        };
        let doc = match arg.code.as_slice() {
            [Piece::Slot(..)] => {
                let (expr, text) = cursor.next();
                if is_default(expr) {
                    continue;
                }
                Doc::Text(text)
            }
            code => laid(code, units, classes, cursor),
        };
        args.push(match (arg.keyword, doc) {
            (Some(keyword), Doc::Text(text)) => Doc::Text(format!("{keyword}={text}")),
            (_, doc) => doc,
        });
    }
    Doc::Call { head: format!("{}(", call.head), args, tail: ")" }
}

/// How a module is made.
fn laid_unit(unit: usize, units: &Units, classes: &Classes, cursor: &mut Cursor<'_>) -> Doc {
    let class = &classes.all[classes.of[unit]];
    if class.is_inline {
        return inline(&units.all[unit], units, classes, cursor);
    }
    let mut args = vec![];
    for param in &class.params {
        let (expr, text) = cursor.next();
        match &param.default {
            Some(default) if matches!(expr, Expr::Value(value) if value == default) => {}
            Some(_) => args.push(Doc::Text(format!("{}={text}", param.name))),
            None => args.push(Doc::Text(text)),
        }
    }
    Doc::Call { head: format!("{}(", class.name), args, tail: ")" }
}

/// `nn.Sequential`, `nn.ModuleList`, or what holds parts under any name.
fn inline(unit: &Unit, units: &Units, classes: &Classes, cursor: &mut Cursor<'_>) -> Doc {
    let docs: Vec<(String, What, Doc)> = unit
        .items
        .iter()
        .map(|item| (item.label.clone(), item.what, laid(&item.code, units, classes, cursor)))
        .collect();
    match unit.kind {
        Kind::Sequential => sequential("nn.Sequential(", docs),
        Kind::Module | Kind::Holder => held(docs),
    }
}

/// `head`, which begins `nn.Sequential` or the base of a class that is one, with its modules.
pub fn sequential(head: &str, items: Vec<(String, What, Doc)>) -> Doc {
    let is_numbered = items.iter().enumerate().all(|(at, (label, ..))| *label == at.to_string());
    if is_numbered {
        let docs = items.into_iter().map(|(_, _, doc)| doc).collect();
        return Doc::Call { head: head.to_string(), args: runs(docs), tail: ")" };
    }
    let args = named_items(items);
    match args.as_slice() {
        [Doc::Text(all)] if all.starts_with('*') => {
            let all = all.strip_prefix("*(").and_then(|all| all.strip_suffix(')')).unwrap_or(all);
            Doc::Call { head: format!("{head}OrderedDict("), args: vec![Doc::Text(all.to_string())], tail: "))" }
        }
        _ => Doc::Call { head: format!("{head}OrderedDict(["), args, tail: "]))" },
    }
}

/// Modules and tensors under their names, which others run.
fn held(items: Vec<(String, What, Doc)>) -> Doc {
    let is_list =
        items.iter().enumerate().all(|(at, (label, what, _))| *label == at.to_string() && *what == What::Module);
    if is_list {
        let docs = items.into_iter().map(|(_, _, doc)| doc).collect();
        return Doc::Call { head: "nn.ModuleList([".into(), args: runs(docs), tail: "])" };
    }
    Doc::Call { head: "Parts(".into(), args: items.into_iter().map(held_item).collect(), tail: ")" }
}

fn held_item((label, what, doc): (String, What, Doc)) -> Doc {
    let end = if what == (What::Buffer { is_saved: false }) { ", False)" } else { ")" };
    let name = super::code::quoted(&label);
    Doc::Joined(vec![Doc::Text(format!("({name}, ")), doc, Doc::Text(end.into())])
}

/// Runs of equal modules as what makes them one after another.
fn runs(docs: Vec<Doc>) -> Vec<Doc> {
    let mut out = vec![];
    let mut at = 0;
    while at < docs.len() {
        let text = docs[at].flat();
        let count = docs[at..].iter().take_while(|doc| doc.flat() == text && !doc.is_noted()).count();
        if count > 1 {
            out.push(Doc::Text(format!("*({text} for _ in range({count}))")));
            at += count;
            continue;
        }
        let (count, varied) = varied(&docs[at..]);
        if count > 2 {
            out.push(varied);
            at += count;
            continue;
        }
        out.push(docs[at].clone());
        at += 1;
    }
    out
}

/// The run of calls at the start that differ in one argument, and what makes them.
fn varied(docs: &[Doc]) -> (usize, Doc) {
    let nothing = (0, Doc::Joined(vec![]));
    let args_of = |doc: &Doc| match doc {
        Doc::Call { head, args, tail: ")" } if !doc.is_noted() => {
            Some((head.clone(), args.iter().map(Doc::flat).collect::<Vec<String>>()))
        }
        _ => None,
    };
    let Some((head, first)) = docs.first().and_then(args_of) else { return nothing };
    let Some((_, second)) =
        docs.get(1).and_then(args_of).filter(|(other, args)| *other == head && args.len() == first.len())
    else {
        return nothing;
    };
    let differing: Vec<usize> = (0..first.len()).filter(|at| first[*at] != second[*at]).collect();
    let [place] = differing.as_slice() else { return nothing };
    let place = *place;
    let fits = |doc: &&Doc| {
        args_of(doc).is_some_and(|(other, args)| {
            other == head
                && args.len() == first.len()
                && args.iter().zip(&first).enumerate().all(|(at, (one, other))| at == place || one == other)
        })
    };
    let run: Vec<String> =
        docs.iter().take_while(fits).filter_map(|doc| Some(args_of(doc)?.1[place].clone())).collect();
    // `keyword=value`, or a value by its place
    let (keyword, name) = match first[place].split_once('=') {
        Some((keyword, _)) if is_identifier(keyword) => (format!("{keyword}="), keyword.to_string()),
        _ => (String::new(), "n".to_string()),
    };
    let values: Option<Vec<String>> =
        run.iter().map(|value| value.strip_prefix(keyword.as_str()).map(str::to_string)).collect();
    let Some(values) = values else { return nothing };
    let mut args = first.clone();
    args[place] = format!("{keyword}{name}");
    let call = format!("{head}{})", args.join(", "));
    let count = values.len();
    (count, Doc::Text(format!("*({call} for {name} in ({}))", values.join(", "))))
}

/// Modules under names, runs of those that are counted as what makes them.
fn named_items(items: Vec<(String, What, Doc)>) -> Vec<Doc> {
    let mut out = vec![];
    let mut at = 0;
    while at < items.len() {
        let (label, _, doc) = &items[at];
        let text = doc.flat();
        if let Some((prefix, from)) = counted(label) {
            let count = items[at..]
                .iter()
                .enumerate()
                .take_while(|(nth, (label, _, doc))| {
                    *label == format!("{prefix}{}", from + nth) && doc.flat() == text && !doc.is_noted()
                })
                .count();
            if count > 1 {
                let range = range(from, count);
                out.push(Doc::Text(format!("*((f\"{prefix}{{i}}\", {text}) for i in {range})")));
                at += count;
                continue;
            }
        }
        let name = super::code::quoted(label);
        out.push(Doc::Joined(vec![Doc::Text(format!("({name}, ")), doc.clone(), Doc::Text(")".into())]));
        at += 1;
    }
    out
}

/// `range(..)` of so many numbers from one on.
pub fn range(from: usize, count: usize) -> String {
    if from == 0 { format!("range({count})") } else { format!("range({from}, {})", from + count) }
}

/// A label that ends with a number: what is before it, and the number.
pub fn counted(label: &str) -> Option<(&str, usize)> {
    let prefix = label.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &label[prefix.len()..];
    let number: usize = digits.parse().ok()?;
    let is_plain = number.to_string() == digits && !prefix.contains(['{', '}', '"', '\\']);
    is_plain.then_some((prefix, number))
}

/// Code as one line.
pub fn line(code: &Code, units: &Units, classes: &Classes, cursor: &mut Cursor<'_>) -> String {
    laid(code, units, classes, cursor).flat()
}
