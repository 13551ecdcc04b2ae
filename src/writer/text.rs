//! From statements to text: names, lines and braces.
//!
//! Whether a value needs a name is known when it is used: as what flows it is `prev` or goes without saying, as what
//! flowed into the braces it is `in`, and otherwise its label has to be a name that is visible there. So the text is made
//! again as long as a value was used that had no name.

use std::sync::LazyLock;

use rustc_hash::{FxHashMap, FxHashSet};

use super::About;
use super::block::{Block, plain_name, snake};
use super::plain::unwritable;
use super::tree::{Arg, ArgValue, Body, Condition, Dim, Expr, For, Guard, Id, Label, LabelPart, Over, Ref, Step, Stmt};
use crate::build::number::FUNCTIONS;
use crate::diag::Problem;
use crate::graph::{Graph, Roles, path};
use crate::io::preprocess::Preprocess;
use crate::ops::attr::{Attr, Positional};
use crate::ops::{self, Entry, MANUAL};
use crate::zoo;

/// Lines are not longer where they can be broken.
const WIDTH: usize = 118;
/// Braces stand in one line up to this width.
const SHORT: usize = 96;

const RESERVED: &[&str] = &[
    "in", "prev", "let", "for", "if", "then", "else", "and", "or", "not", "true", "false", "none", "seq", "residual",
    "shortcut",
];
/// Words that arguments are made of, and what else a name would hide.
const WORDS: &[&str] = &[
    "N",
    "out",
    "same",
    "tied",
    "tap",
    "output",
    "input",
    "preprocess",
    "labels",
    "roles",
    "nearest",
    "bilinear",
    "bicubic",
    "constant",
    "reflect",
    "replicate",
    "circular",
    "zeros",
    "ones",
    "normal",
    "trunc_normal",
    "uniform",
    "from",
    "random",
    "hf",
    "kaiming_normal",
    "kaiming_uniform",
    "xavier_uniform",
    "imagenet",
    "block",
    "network",
];

/// Which names there are.
pub struct Names {
    /// The labels of the network, which hide names that are defined outside.
    labels: FxHashSet<String>,
    /// The blocks and the network of the text.
    defined: FxHashSet<String>,
    /// The parameters of its blocks.
    params: FxHashSet<String>,
}

impl Names {
    pub fn new(graph: &Graph, network: &str) -> Names {
        let mut labels: FxHashSet<String> = FxHashSet::default();
        for id in graph.ids() {
            labels.extend(graph.node(id).path.split('.').filter(|label| is_name(label)).map(str::to_string));
        }
        Names { labels, defined: FxHashSet::from_iter([network.to_string()]), params: FxHashSet::default() }
    }

    /// A name for a block.
    pub fn block(&mut self, class: Option<&str>, label: &str, body: &Body) -> String {
        let name = class.map_or_else(|| plain_name(label, body), snake);
        let name =
            if name.chars().next().is_some_and(|c| c.is_ascii_alphabetic()) { name } else { format!("unit_{name}") };
        let is_free = |name: &str| {
            !self.defined.contains(name)
                && !self.params.contains(name)
                && !is_word(name)
                && ops::find(name).is_none()
                && !FUNCTIONS.contains(&name)
        };
        let name = if ops::find(&name).is_some() || is_word(&name) { format!("{name}_block") } else { name };
        let name = numbered(&name, is_free);
        self.defined.insert(name.clone());
        name
    }

    /// A name for a parameter of a block whose names so far are `own`.
    pub fn param(&mut self, name: &str, label: &str, own: &mut FxHashSet<String>) -> String {
        let plain = match name {
            "p" => "rate",
            "number" | "factor" => "factor",
            "shape" => "size",
            name if is_name(name) => name,
            _ => "size",
        };
        let is_free = |name: &str| !own.contains(name) && self.is_free(name);
        let qualified = format!("{label}_{plain}");
        let name = match is_free(plain) {
            true => plain.to_string(),
            false if is_name(label) && is_free(&qualified) => qualified,
            false => numbered(plain, is_free),
        };
        own.insert(name.clone());
        self.params.insert(name.clone());
        name
    }

    /// Whether a name hides nothing and is hidden by nothing. `out` is a parameter like others in a block.
    fn is_free(&self, name: &str) -> bool {
        (name == "out" || !is_word(name))
            && !self.labels.contains(name)
            && !self.defined.contains(name)
            && !is_callable(name)
            && !FUNCTIONS.contains(&name)
    }
}

/// The first of a name, `name_2`, `name_3` .. that is free.
fn numbered(name: &str, is_free: impl Fn(&str) -> bool) -> String {
    if is_free(name) {
        return name.to_string();
    }
    let others = (2..).map(|number| format!("{name}_{number}"));
    others.into_iter().find(|name| is_free(name)).expect("numbers do not end")
}

fn is_word(name: &str) -> bool {
    RESERVED.contains(&name) || WORDS.contains(&name)
}

/// Whether every file sees an op or a block of this name.
fn is_callable(name: &str) -> bool {
    static CALLABLE: LazyLock<FxHashSet<&str>> = LazyLock::new(|| {
        let blocks = zoo::text(zoo::BLOCKS).unwrap_or_default().lines();
        let names = blocks.filter_map(|line| {
            let rest = line.strip_prefix("block ")?;
            Some(&rest[..rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?])
        });
        names.chain(MANUAL.iter().map(|entry| entry.name)).collect()
    });
    CALLABLE.contains(name)
}

/// Whether a text is a name of the language.
pub fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !RESERVED.contains(&text)
}

/// Whether an argument is what the op takes where none is given.
pub fn is_default(entry: &Entry, arg: &Arg) -> bool {
    let decl = entry.args.iter().find(|decl| decl.name == arg.name);
    let is_default = |value: &Attr| decl.is_some_and(|decl| decl.is_default(value));
    match &arg.value {
        ArgValue::One(Expr::Value(value)) => is_default(value),
        ArgValue::One(_) => false,
        ArgValue::Each(list) => {
            let literal = |expr: &Expr| if let Expr::Value(value) = expr { Some(value.clone()) } else { None };
            let values: Option<Vec<Attr>> = list.iter().map(literal).collect();
            values.is_some_and(|values| is_default(&Attr::List(values)))
        }
    }
}

/// What is written.
pub struct Sheet<'a> {
    pub about: &'a About<'a>,
    pub graph: &'a Graph,
    pub inputs: &'a [(String, Id, crate::graph::NodeId)],
    pub body: &'a Body,
    pub blocks: &'a [Block],
    pub names: &'a Names,
}

/// The text of a network.
///
/// # Errors
/// A value that no name reaches.
pub fn text(sheet: &Sheet<'_>) -> Result<String, Problem> {
    let mut needs = Needs::default();
    loop {
        let mut writer = Writer::new(sheet, needs);
        let text = writer.file()?;
        if writer.missing.is_empty() {
            return Ok(text);
        }
        if let Some(id) = writer.missing.iter().find(|id| writer.needs.names.contains(id)) {
            return Err(unwritable(format!("the value {id} has a name that is hidden")));
        }
        needs = std::mem::take(&mut writer.needs);
        // a label first, and where that does not do, a name
        for id in std::mem::take(&mut writer.missing) {
            if writer.has_label.contains(&id) && needs.labels.insert(id) {
                continue;
            }
            needs.names.insert(id);
        }
    }
}

/// Values that are named.
#[derive(Default)]
struct Needs {
    /// Those whose label is written though it goes without saying.
    labels: FxHashSet<Id>,
    /// Those of a `let`.
    names: FxHashSet<Id>,
}

/// A line, or lines in braces.
enum Doc {
    Line(String),
    /// Pairs of what stands before braces and in them.
    Braces(Vec<(String, Vec<Doc>)>),
}

struct Writer<'a> {
    sheet: &'a Sheet<'a>,
    needs: Needs,
    /// Values that were used and have no name.
    missing: FxHashSet<Id>,
    /// Values whose label can be a name.
    has_label: FxHashSet<Id>,
    scope: Scope,
    /// The parameters of the block.
    params: Vec<String>,
    values: Vec<String>,
    block_names: FxHashSet<String>,
    /// Variables of loops with the first number of those that count.
    vars: FxHashMap<Id, (String, i64)>,
    /// How many loops are open: what they make has a label of each round.
    loops: usize,
}

/// What is visible.
#[derive(Default)]
struct Scope {
    /// Names and what they mean, the latest last; whether they are labels.
    bound: Vec<(String, Id, bool)>,
    by_id: FxHashMap<Id, Vec<usize>>,
    by_name: FxHashMap<String, Vec<usize>>,
    parts: FxHashMap<Id, Vec<String>>,
    /// What flows.
    flow: Option<Id>,
    /// What `in` is.
    input: Option<Id>,
}

impl Scope {
    fn bind(&mut self, name: &str, id: Id, is_label: bool) {
        let at = self.bound.len();
        self.bound.push((name.to_string(), id, is_label));
        self.by_id.entry(id).or_default().push(at);
        self.by_name.entry(name.to_string()).or_default().push(at);
    }

    fn forget(&mut self, mark: usize) {
        while self.bound.len() > mark {
            let (name, id, _) = self.bound.pop().expect("there are more");
            for of in [self.by_id.get_mut(&id), self.by_name.get_mut(&name)].into_iter().flatten() {
                of.pop();
            }
        }
    }

    /// The name by which a value, or, where `as_label`, its layer or scope can be reached.
    fn name(&self, id: Id, as_label: bool) -> Option<&str> {
        let named = self.by_id.get(&id)?.iter().rev().map(|at| (*at, &self.bound[*at]));
        let visible = |(at, (name, ..)): &(usize, &(String, Id, bool))| {
            self.by_name.get(name).and_then(|latest| latest.last()) == Some(at)
        };
        named.filter(|(_, bound)| bound.2 || !as_label).find(visible).map(|(_, bound)| bound.0.as_str())
    }
}

impl<'a> Writer<'a> {
    fn new(sheet: &'a Sheet<'a>, needs: Needs) -> Writer<'a> {
        Writer {
            sheet,
            needs,
            missing: FxHashSet::default(),
            has_label: FxHashSet::default(),
            scope: Scope::default(),
            params: vec![],
            values: vec![],
            block_names: FxHashSet::default(),
            vars: FxHashMap::default(),
            loops: 0,
        }
    }

    fn file(&mut self) -> Result<String, Problem> {
        let about = self.sheet.about;
        let mut out = String::from("archc 1\n\n");
        for line in about.comment {
            out += &format!("# {}\n", line.replace(['\n', '\r'], " "));
        }
        if !about.comment.is_empty() {
            out.push('\n');
        }
        for block in self.sheet.blocks {
            let doc = self.block(block)?;
            render(&[doc], 0, &mut out, true);
            out.push('\n');
        }
        let doc = self.network()?;
        render(&[doc], 0, &mut out, false);
        Ok(out)
    }

    fn block(&mut self, block: &Block) -> Result<Doc, Problem> {
        self.scope = Scope::default();
        self.values = block.values.clone();
        self.params = block.params.iter().map(|param| param.name.clone()).collect();
        self.block_names = self.values.iter().chain(&self.params).cloned().collect();
        let mut shown: Vec<String> = self.values.clone();
        shown.extend(block.params.iter().filter(|param| param.default.is_none()).map(|param| param.name.clone()));
        for param in &block.params {
            if let Some(default) = &param.default {
                shown.push(format!("{} = {}", param.name, literal(default)?));
            }
        }
        let list = if shown.is_empty() { String::new() } else { format!("({})", shown.join(", ")) };
        let seq = if block.numbered { " seq" } else { "" };
        let docs = self.braces(&block.body)?;
        Ok(Doc::Braces(vec![(format!("block {}{list}{seq} {{", block.name), docs)]))
    }

    fn network(&mut self) -> Result<Doc, Problem> {
        self.scope = Scope::default();
        (self.values, self.params, self.block_names) = (vec![], vec![], FxHashSet::default());
        let about = self.sheet.about;
        let mut docs = vec![];
        for (name, id, node) in self.sheet.inputs {
            if !is_name(name) {
                return Err(unwritable(format!("`{name}` is no name for an input")));
            }
            let shape = self.sheet.graph.node(*node).shape.as_ref();
            let dims = shape.map_or(&[][..], |shape| &shape.dims);
            let sizes: String = dims.iter().map(|size| format!(", {size}")).collect();
            docs.push(Doc::Line(format!("input {name}: [N{sizes}]")));
            self.scope.bind(name, *id, true);
        }
        if let Some(preprocess) = about.preprocess {
            docs.push(Doc::Line(preprocess_text(preprocess)));
        }
        if let Some(labels) = about.labels {
            let shown = if labels == "imagenet" { labels.to_string() } else { literal(&Attr::Str(labels.into()))? };
            docs.push(Doc::Line(format!("labels {shown}")));
        }
        docs.push(Doc::Line(String::new()));
        docs.extend(self.braces(self.sheet.body)?);
        let roles = roles_text(self.sheet.graph.roles());
        if !roles.is_empty() {
            docs.push(Doc::Line(String::new()));
            let lines = roles.into_iter().map(Doc::Line).collect();
            docs.push(Doc::Braces(vec![("roles {".into(), lines)]));
        }
        Ok(Doc::Braces(vec![(format!("network {} {{", about.name), docs)]))
    }

    /// The statements of braces.
    fn braces(&mut self, body: &Body) -> Result<Vec<Doc>, Problem> {
        let outer = (self.scope.flow, self.scope.input, self.scope.bound.len());
        let input = body.input.map(|_| body.id);
        (self.scope.flow, self.scope.input) = (input, input);
        let mut docs = vec![];
        if self.needs.names.contains(&body.id) {
            let name = self.fresh("x");
            docs.push(Doc::Line(format!("let {name} = in")));
            self.scope.bind(&name, body.id, false);
        }
        self.stmts(&body.stmts, &mut docs)?;
        (self.scope.flow, self.scope.input) = (outer.0, outer.1);
        self.scope.forget(outer.2);
        Ok(docs)
    }

    fn stmts(&mut self, stmts: &[Stmt], docs: &mut Vec<Doc>) -> Result<(), Problem> {
        stmts.iter().try_for_each(|stmt| self.stmt(stmt, docs))
    }

    fn stmt(&mut self, stmt: &Stmt, docs: &mut Vec<Doc>) -> Result<(), Problem> {
        let plain = self.reached(&stmt.label);
        let is_layer = !matches!(stmt.step, Step::For(_) | Step::When { .. } | Step::Bare(_) | Step::Output { .. });
        let can_label = is_layer && self.loops == 0 && plain.is_some() && !matches!(stmt.step, Step::Residual { .. });
        if can_label {
            self.has_label.insert(stmt.id);
        }
        let shows_label = !stmt.label.is_auto || self.needs.labels.contains(&stmt.id);
        let mut label = if is_layer && shows_label { self.label(&stmt.label)? } else { String::new() };
        let head = self.head(stmt)?;
        // a name that the text needs beside the label
        let named = self.needs.names.contains(&stmt.id);
        let name = if named || matches!(stmt.step, Step::Chunk { .. }) { Some(self.name_for(stmt)) } else { None };
        let constant = matches!(&stmt.step, Step::Op { entry, .. } if ops::makes_constant(entry.name));
        if let (true, Some(name)) = (constant, &name) {
            if label.is_empty() {
                label = self.label(&stmt.label)?;
            }
            let call = self.step_text(stmt)?;
            docs.push(Doc::Line(format!("let {name} = {label}{call}")));
            self.scope.bind(name, stmt.id, false);
            return Ok(());
        }
        match &stmt.step {
            Step::Scope { numbered, body, .. } => {
                let seq = if *numbered { "seq {" } else { "{" };
                let inside = self.braces(body)?;
                docs.push(Doc::Braces(vec![(format!("{head}{label}{seq}"), inside)]));
            }
            Step::Residual { main, side, when } => {
                let (of_all, of_side) = self.guards(when.as_ref())?;
                let mut parts = vec![(format!("{head}residual{of_all} {{"), self.braces(main)?)];
                if let Some(side) = side {
                    parts.push((format!("shortcut{of_side} {{"), self.braces(side)?));
                }
                docs.push(Doc::Braces(parts));
            }
            Step::For(one) => docs.push(self.looped(one)?),
            Step::When { guard, stmts } => {
                let condition = self.condition(&guard.condition)?;
                let mark = self.scope.bound.len();
                let mut inside = vec![];
                self.loops += 1;
                self.stmts(stmts, &mut inside)?;
                self.loops -= 1;
                self.scope.forget(mark);
                docs.push(Doc::Braces(vec![(format!("if {condition} {{"), inside)]));
            }
            Step::Chunk { parts, .. } => {
                let base = name.clone().unwrap_or_default();
                let names = self.part_names(stmt, *parts, &base);
                let call = self.step_text(stmt)?;
                // a chunk is a `let` and needs its head in any case
                let head = match (head.is_empty(), self.scope.flow == self.scope.input) {
                    (false, _) => head,
                    (true, true) => "in -> ".to_string(),
                    (true, false) => "prev -> ".to_string(),
                };
                docs.push(Doc::Line(format!("let {} = {head}{label}{call}", names.join(", "))));
                for name in &names {
                    self.scope.bind(name, Id::MAX, false);
                }
                self.scope.parts.insert(stmt.id, names);
                return Ok(());
            }
            _ => {
                let call = self.step_text(stmt)?;
                docs.push(Doc::Line(format!("{head}{label}{call}")));
            }
        }
        if stmt.flows() {
            self.scope.flow = Some(stmt.id);
        }
        if let (false, Some(plain)) = (label.is_empty(), plain) {
            self.scope.bind(&plain, stmt.id, true);
        }
        if let Some(name) = name {
            docs.push(Doc::Line(format!("let {name} = prev")));
            self.scope.bind(&name, stmt.id, false);
        }
        Ok(())
    }

    /// How a layer is reached by its label: one that is a name, or a path that begins with one.
    fn reached(&self, label: &Label) -> Option<String> {
        let text = label.text()?;
        if is_name(&text) {
            return Some(text);
        }
        let shown = self.label(label).ok()?;
        (text.contains('.') && !shown.starts_with('"')).then(|| shown.trim_end_matches(": ").to_string())
    }

    /// What a step takes from the chain, where that is not what flows: `in -> `.
    fn head(&mut self, stmt: &Stmt) -> Result<String, Problem> {
        match &stmt.takes {
            Some(Ref::Value(id)) if self.scope.flow == Some(*id) => Ok(String::new()),
            Some(takes) => {
                let value = self.value(takes)?;
                let hides = is_callable(&value) || self.sheet.blocks.iter().any(|block| block.name == value);
                Ok(if hides { format!("({value}) -> ") } else { format!("{value} -> ") })
            }
            None => Ok(String::new()),
        }
    }

    /// A step in one line, without label and head.
    fn step_text(&mut self, stmt: &Stmt) -> Result<String, Problem> {
        Ok(match &stmt.step {
            Step::Op { entry, args, operands } => {
                let operands: Vec<String> = operands.iter().map(|one| self.value(one)).collect::<Result<_, _>>()?;
                self.call(entry, args, operands)?
            }
            Step::Infix { sign, operands, number, swapped } => {
                let mut sides: Vec<String> = operands.iter().map(|one| self.value(one)).collect::<Result<_, _>>()?;
                if let Some(number) = number {
                    let number = self.expr(number, 10)?;
                    sides.insert(if *swapped { 0 } else { sides.len() }, number);
                }
                sides.join(&format!(" {sign} "))
            }
            Step::Call { block, args, values } => {
                let block = &self.sheet.blocks[*block];
                let mut shown: Vec<String> = values.iter().map(|one| self.value(one)).collect::<Result<_, _>>()?;
                let first = block.params.iter().position(|param| param.default.is_none());
                let firsts = args.iter().zip(&block.params).enumerate().filter(|(at, _)| Some(*at) == first);
                let rest = args.iter().zip(&block.params).enumerate().filter(|(at, _)| Some(*at) != first);
                for (at, ((name, value), param)) in firsts.chain(rest) {
                    let is_default =
                        matches!((value, &param.default), (Expr::Value(value), Some(default)) if value == default);
                    if is_default {
                        continue;
                    }
                    let value = self.expr(value, 0)?;
                    shown.push(if Some(at) == first { value } else { format!("{name} = {value}") });
                }
                if shown.is_empty() { block.name.clone() } else { format!("{}({})", block.name, shown.join(", ")) }
            }
            Step::Chunk { entry, parts, axis } => {
                let args = [
                    Arg { name: "parts", value: ArgValue::One(Expr::Value(Attr::Int(*parts as i64))) },
                    Arg { name: "axis", value: ArgValue::One(axis.clone()) },
                ];
                self.call(entry, &args, vec![])?
            }
            Step::Tied { of } => format!("tied({})", self.value(of)?),
            Step::Bare(value) => {
                let value = self.value(value)?;
                let hides = is_callable(&value) || self.sheet.blocks.iter().any(|block| block.name == value);
                if hides { format!("({value})") } else { value }
            }
            Step::Output { name, value } => {
                if !is_name(name) {
                    return Err(unwritable(format!("`{name}` is no name for an output")));
                }
                let value = self.value(value)?;
                let hides = is_callable(&value) || self.sheet.blocks.iter().any(|block| block.name == value);
                if hides { format!("output {name} = ({value})") } else { format!("output {name} = {value}") }
            }
            Step::Scope { .. } | Step::Residual { .. } | Step::For(_) | Step::When { .. } => {
                unreachable!("they have braces")
            }
        })
    }

    fn call(&mut self, entry: &Entry, args: &[Arg], operands: Vec<String>) -> Result<String, Problem> {
        let mut shown = operands;
        let has_operands = !shown.is_empty();
        for (at, arg) in args.iter().enumerate().filter(|(_, arg)| !is_default(entry, arg)) {
            // the first argument of others than `slice` stands alone
            let alone = at == 0 && !has_operands && entry.positional != Positional::All;
            let value = match &arg.value {
                ArgValue::One(value) => self.expr(value, 0)?,
                ArgValue::Each(list) => {
                    let list: Vec<String> = list.iter().map(|value| self.expr(value, 0)).collect::<Result<_, _>>()?;
                    let is_gathered = alone && entry.positional == Positional::Gathered && !list.is_empty();
                    if is_gathered { list.join(", ") } else { format!("[{}]", list.join(", ")) }
                }
            };
            shown.push(if alone { value } else { format!("{} = {value}", arg.name) });
        }
        let is_bare = shown.is_empty() && !ops::OPERAND_OPS.contains(&entry.name);
        Ok(if is_bare { entry.name.to_string() } else { format!("{}({})", entry.name, shown.join(", ")) })
    }

    fn looped(&mut self, one: &For) -> Result<Doc, Problem> {
        let mark = self.scope.bound.len();
        let mut taken: Vec<Id> = vec![];
        let mut named = |writer: &mut Self, var: Id, hint: &str, from: i64| {
            let name = writer.fresh(hint);
            // not seen by the statements around it
            writer.scope.bind(&name, Id::MAX, false);
            writer.vars.insert(var, (name.clone(), from));
            taken.push(var);
            name
        };
        let head = match &one.over {
            Over::Range { var, from, count } => {
                let var = named(self, *var, "i", *from);
                match *from {
                    0 => format!("for {var} in 0..{count} {{"),
                    from => format!("for {var} in {from}..={} {{", from + count - 1),
                }
            }
            Over::Rows { vars, rows } => {
                let mut lines: Vec<String> = vec![];
                for row in rows {
                    let row: Vec<String> = row.iter().map(|value| self.expr(value, 0)).collect::<Result<_, _>>()?;
                    lines.push(if let [one] = row.as_slice() { one.clone() } else { format!("({})", row.join(", ")) });
                }
                let hint = |name: &str| if is_name(name) { param_hint(name).to_string() } else { "n".to_string() };
                let names: Vec<String> = vars.iter().map(|(var, name)| named(self, *var, &hint(name), 0)).collect();
                format!("for {} in [{}] {{", names.join(", "), lines.join(", "))
            }
        };
        let flow = self.scope.flow.replace(one.carry);
        if flow.is_none() {
            self.scope.flow = None;
        }
        let mut docs = vec![];
        if self.needs.names.contains(&one.carry) {
            let name = self.fresh("x");
            docs.push(Doc::Line(format!("let {name} = prev")));
            self.scope.bind(&name, one.carry, false);
        }
        self.loops += 1;
        self.stmts(&one.stmts, &mut docs)?;
        self.loops -= 1;
        self.scope.flow = flow;
        self.scope.forget(mark);
        taken.iter().for_each(|var| _ = self.vars.remove(var));
        Ok(Doc::Braces(vec![(head, docs)]))
    }

    /// A value of the network.
    fn value(&mut self, one: &Ref) -> Result<String, Problem> {
        match one {
            Ref::External(at) => Ok(self.values[*at].clone()),
            Ref::Value(id) => {
                if self.scope.input == Some(*id) {
                    return Ok("in".into());
                }
                if self.scope.flow == Some(*id) {
                    return Ok("prev".into());
                }
                let name = self.scope.name(*id, false).map(str::to_string);
                Ok(name.unwrap_or_else(|| {
                    self.missing.insert(*id);
                    "in".into()
                }))
            }
            Ref::Part(id, part) => {
                let name = self.scope.parts.get(id).and_then(|parts| parts.get(*part)).cloned();
                name.ok_or_else(|| unwritable("a part of a `chunk` is used where its name is not seen".into()))
            }
            Ref::Inside(id, path) => {
                let Some(name) = self.scope.name(*id, true).map(str::to_string) else {
                    if self.has_label.contains(id) && !self.needs.labels.contains(id) {
                        self.missing.insert(*id);
                        return Ok("in".into());
                    }
                    return Err(unwritable(format!("what lies at `{path}` of an entry is used beside it")));
                };
                if path.is_empty() {
                    return Ok(name);
                }
                let mut text = name;
                for label in path.split('.') {
                    text += &match label {
                        label if path::is_number(label) && (label == "0" || !label.starts_with('0')) => {
                            format!("[{label}]")
                        }
                        label if is_name(label) => format!(".{label}"),
                        label => format!(".\"{}\"", quoted(label)?),
                    };
                }
                Ok(text)
            }
        }
    }

    /// An expression beside an operator of this strength: 0 none, 1 `+`, 2 `*`, 10 anything.
    fn expr(&self, expr: &Expr, strength: usize) -> Result<String, Problem> {
        let (text, own) = match expr {
            Expr::Value(value) => return literal(value),
            Expr::Param(at) => return Ok(self.params[*at].clone()),
            Expr::Var(var) => return Ok(self.var(*var).0),
            Expr::In(dim) => {
                return Ok(match dim {
                    Dim::Channels => "in.channels".into(),
                    Dim::Height => "in.height".into(),
                    Dim::Width => "in.width".into(),
                    Dim::Features => "in.features".into(),
                    Dim::Axis(axis) => format!("in.shape[{axis}]"),
                });
            }
            Expr::Times(factor, of) => (format!("{factor} * {}", self.expr(of, 3)?), 2),
            Expr::Over(of, divisor) => (format!("{} // {divisor}", self.expr(of, 2)?), 2),
            Expr::Plus(of, more) if *more < 0 => (format!("{} - {}", self.expr(of, 1)?, more.unsigned_abs()), 1),
            Expr::Plus(of, more) => (format!("{} + {more}", self.expr(of, 1)?), 1),
            Expr::Power(factor, exponent) => (format!("{factor} * 2 ** {}", self.expr(exponent, 10)?), 2),
            Expr::First(var, first, rest) => {
                let (name, from) = self.var(*var);
                let (first, rest) = (self.expr(first, 0)?, self.expr(rest, 0)?);
                (format!("if {name} == {from} then {first} else {rest}"), 0)
            }
        };
        Ok(if strength > own && strength > 0 { format!("({text})") } else { text })
    }

    fn var(&self, var: Id) -> (String, i64) {
        self.vars.get(&var).cloned().expect("a variable is used in its loop")
    }

    /// A label with its colon. One that has dots is a path.
    fn label(&self, label: &Label) -> Result<String, Problem> {
        // labels between dots, each of texts and numbers
        let mut labels: Vec<Vec<LabelPart>> = vec![vec![]];
        for part in &label.parts {
            match part {
                LabelPart::Number(_) => labels.last_mut().expect("never empty").push(part.clone()),
                LabelPart::Text(text) => {
                    for (nth, text) in text.split('.').enumerate() {
                        if nth > 0 {
                            labels.push(vec![]);
                        }
                        if !text.is_empty() {
                            labels.last_mut().expect("never empty").push(LabelPart::Text(text.to_string()));
                        }
                    }
                }
            }
        }
        let mut shown = String::new();
        for (nth, parts) in labels.iter().enumerate() {
            match parts.as_slice() {
                [LabelPart::Number(Expr::Value(number))] if nth > 0 => shown += &format!("[{number}]"),
                [LabelPart::Number(Expr::Var(var))] if nth > 0 => shown += &format!("[{}]", self.var(*var).0),
                parts => {
                    if nth > 0 {
                        shown.push('.');
                    }
                    shown += &self.one_label(parts)?;
                }
            }
        }
        Ok(format!("{shown}: "))
    }

    fn one_label(&self, parts: &[LabelPart]) -> Result<String, Problem> {
        let mut text = String::new();
        let mut is_plain = true;
        for part in parts {
            match part {
                LabelPart::Text(part) => {
                    is_plain &= quoted(part)? == *part;
                    text += &quoted(part)?;
                }
                LabelPart::Number(Expr::Value(value)) => text += &value.to_string(),
                LabelPart::Number(value) => {
                    is_plain = false;
                    text += &format!("{{{}}}", self.expr(value, 0)?);
                }
            }
        }
        Ok(if is_plain && is_name(&text) { text } else { format!("\"{text}\"") })
    }

    /// What stands before the branches of a residual.
    fn guards(&mut self, when: Option<&Guard>) -> Result<(String, String), Problem> {
        let Some(guard) = when else { return Ok(Default::default()) };
        let text = format!(" if {}", self.condition(&guard.condition)?);
        Ok(if guard.of_side { (String::new(), text) } else { (text, String::new()) })
    }

    fn condition(&self, condition: &Condition) -> Result<String, Problem> {
        let pairs = |pairs: &[(Expr, Expr)], sign: &str, joint: &str| -> Result<String, Problem> {
            let pairs = pairs.iter().map(|(left, right)| {
                Ok::<String, Problem>(format!("{} {sign} {}", self.expr(left, 0)?, self.expr(right, 0)?))
            });
            Ok(pairs.collect::<Result<Vec<_>, _>>()?.join(joint))
        };
        match condition {
            Condition::Holds(expr) => self.expr(expr, 0),
            Condition::Not(expr) => Ok(format!("not {}", self.expr(expr, 10)?)),
            Condition::Differ(list) => pairs(list, "!=", " or "),
            Condition::Equal(list) => pairs(list, "==", " and "),
        }
    }

    /// A name that nothing has here.
    fn fresh(&self, hint: &str) -> String {
        let is_free = |name: &str| {
            self.sheet.names.is_free(name)
                && !self.block_names.contains(name)
                && self.scope.by_name.get(name).is_none_or(Vec::is_empty)
        };
        if hint == "i" {
            return ["i", "j", "k"]
                .into_iter()
                .find(|name| is_free(name))
                .map_or_else(|| numbered("i", is_free), str::to_string);
        }
        numbered(hint, is_free)
    }

    /// A name for what a statement makes.
    fn name_for(&self, stmt: &Stmt) -> String {
        let made = match &stmt.step {
            Step::Op { entry, .. } | Step::Chunk { entry, .. } => entry.name.trim_end_matches("2d"),
            Step::Infix { sign, .. } => match *sign {
                "+" => "sum",
                "-" => "rest",
                "*" => "scaled",
                _ => "ratio",
            },
            Step::Call { block, .. } => &self.sheet.blocks[*block].name,
            _ => "x",
        };
        let labelled = stmt.label.text().filter(|text| is_name(text) && self.sheet.names.is_free(text));
        let base = labelled.unwrap_or_else(|| {
            if is_callable(made) || is_word(made) { format!("{made}_out") } else { made.to_string() }
        });
        self.fresh(&base)
    }

    /// Names for the parts of a `chunk`.
    fn part_names(&self, stmt: &Stmt, parts: usize, base: &str) -> Vec<String> {
        // `qkv` is taken apart as q, k and v
        let whole = match &stmt.takes {
            Some(Ref::Value(id)) => self.scope.name(*id, true).unwrap_or_default(),
            _ => "",
        };
        let letters: Vec<String> = whole.chars().map(|c| c.to_string()).collect();
        let usual: &[&str] = if parts == 3 { &["q", "k", "v"] } else { &[] };
        let usual: Vec<String> = usual.iter().map(|name| name.to_string()).collect();
        let fits = |names: &[String]| {
            let is_free = |name: &String| is_name(name) && self.fresh(name) == *name;
            names.len() == parts && (1..parts).all(|at| !names[..at].contains(&names[at])) && names.iter().all(is_free)
        };
        for names in [letters, usual] {
            if fits(&names) {
                return names;
            }
        }
        let base = base.trim_end_matches("_out");
        let mut names: Vec<String> = vec![];
        for part in 0..parts {
            let mut name = self.fresh(&format!("{base}_{part}"));
            while names.contains(&name) {
                name += "_";
            }
            names.push(name);
        }
        names
    }
}

/// What a variable is called that stands for an argument.
fn param_hint(name: &str) -> &str {
    match name {
        "p" => "rate",
        "number" | "label" => "n",
        name => name,
    }
}

/// A literal.
fn literal(value: &Attr) -> Result<String, Problem> {
    let list = |values: &[Attr]| -> Result<String, Problem> {
        Ok(values.iter().map(literal).collect::<Result<Vec<_>, _>>()?.join(", "))
    };
    Ok(match value {
        Attr::Float(value) if !value.is_finite() => {
            return Err(unwritable(format!("{value} is no number of the language")));
        }
        Attr::Str(text) => format!("\"{}\"", text_in_quotes(text)?),
        Attr::Call(word, args) => format!("{word}({})", list(args)?),
        Attr::List(values) => format!("[{}]", list(values)?),
        other => other.to_string(),
    })
}

fn text_in_quotes(text: &str) -> Result<String, Problem> {
    if text.contains(['\n', '\r']) {
        return Err(unwritable(format!("{text:?} has several lines")));
    }
    Ok(text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A label in quotes.
fn quoted(label: &str) -> Result<String, Problem> {
    if label.contains(['{', '}', '[', ']', '.']) {
        return Err(unwritable(format!("{label:?} is no label")));
    }
    text_in_quotes(label)
}

fn preprocess_text(preprocess: &Preprocess) -> String {
    let Preprocess { resize, crop, interpolation, mean, std } = preprocess;
    let mut shown = vec![];
    shown.extend(resize.map(|size| format!("resize = {size}")));
    shown.extend(crop.map(|(height, width)| {
        if height == width { format!("crop = {height}") } else { format!("crop = [{height}, {width}]") }
    }));
    shown.push(format!("interpolation = {}", interpolation.name()));
    shown.push(format!("mean = {mean:?}"));
    shown.push(format!("std = {std:?}"));
    let line = format!("preprocess {{ {} }}", shown.join(", "));
    if line.len() + 4 <= WIDTH { line } else { format!("preprocess {{\n{}\n}}", shown.join("\n")) }
}

fn roles_text(roles: &Roles) -> Vec<String> {
    let line = |(name, role): (&str, &crate::graph::Role)| {
        let places: Vec<String> = role.places.iter().map(|place| place.display()).collect();
        match (role.is_list, places.as_slice()) {
            (false, [one]) => format!("{name} = {one}"),
            _ => format!("{name} = [{}]", places.join(", ")),
        }
    };
    roles.iter().map(line).collect()
}

/// Writes documents line by line.
fn render(docs: &[Doc], indent: usize, out: &mut String, is_short: bool) {
    let pad = " ".repeat(indent);
    for doc in docs {
        match doc {
            Doc::Line(line) if line.is_empty() => {
                if !out.ends_with("\n\n") && !out.ends_with("{\n") {
                    out.push('\n');
                }
            }
            Doc::Line(line) => {
                for line in line.split('\n') {
                    break_line(line, indent, out);
                }
            }
            Doc::Braces(parts) => {
                if let Some(line) =
                    one_line(doc).filter(|line| (indent > 0 || is_short) && indent + line.len() <= SHORT)
                {
                    *out += &format!("{pad}{line}\n");
                    continue;
                }
                for (nth, (head, inside)) in parts.iter().enumerate() {
                    if nth == 0 {
                        break_line(head, indent, out);
                    } else {
                        *out += &format!("{pad}}} {head}\n");
                    }
                    render(inside, indent + 4, out, is_short);
                }
                *out += &format!("{pad}}}\n");
            }
        }
    }
}

/// Braces in one line, where few and short statements stand in them.
fn one_line(doc: &Doc) -> Option<String> {
    match doc {
        Doc::Line(line) => (!line.contains('\n') && !line.is_empty()).then(|| line.clone()),
        Doc::Braces(parts) => {
            let mut text = String::new();
            for (nth, (head, inside)) in parts.iter().enumerate() {
                if inside.len() > 4 {
                    return None;
                }
                let inside: Vec<String> = inside.iter().map(one_line).collect::<Option<_>>()?;
                let length: usize = inside.iter().map(String::len).sum();
                if length > SHORT || inside.len() > 1 && inside.iter().any(|line| line.contains('{')) {
                    return None;
                }
                let before = if nth > 0 { " " } else { "" };
                let inside = inside.join("; ");
                text += &if inside.is_empty() {
                    format!("{before}{head}}}")
                } else {
                    format!("{before}{head} {inside} }}")
                };
            }
            Some(text)
        }
    }
}

/// Writes a line, broken behind commas in brackets where it is long.
fn break_line(line: &str, indent: usize, out: &mut String) {
    let mut rest = line;
    let mut pad = indent;
    while pad + rest.len() > WIDTH {
        let end = (WIDTH - pad.min(WIDTH / 2)).min(rest.len());
        let end = (0..=end).rev().find(|end| rest.is_char_boundary(*end)).unwrap_or(0);
        let Some(at) = rest[..end].rfind(", ").filter(|at| *at > 0 && !in_quotes(rest, *at)) else { break };
        *out += &format!("{}{}\n", " ".repeat(pad), &rest[..at + 1]);
        rest = &rest[at + 2..];
        pad = indent + 8;
    }
    *out += &format!("{}{rest}\n", " ".repeat(pad));
}

fn in_quotes(line: &str, at: usize) -> bool {
    line[..at].matches('"').count() % 2 == 1
}
