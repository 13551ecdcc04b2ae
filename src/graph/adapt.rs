//! How tensors of the base become those of new layers: what `keeping` asks for, first as shapes, then as values.
//!
//! An edit leaves a [`Kept`] with the layer that it makes or changes. Shapes are known after the last edit; [`resolve`] says
//! then what becomes of each tensor, or why it cannot, without any values. [`Adapted::apply`] makes the values.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{key, path};
use crate::diag::{Code, Problem, Result};
use crate::ops::attr::Attr;
use crate::ops::{self, Op, ParamDecl};
use crate::source::Span;
use crate::syntax::tree::{How, HowKind, Index, Pick, Spanned};

/// A `keeping` clause at one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The path of the old layer, for messages.
    pub path: String,
    /// Its tensors by their names in it.
    pub olds: Vec<(&'static str, Adapted)>,
    pub hows: Arc<[How]>,
    pub span: Span,
}

/// A tensor of the base, and what clauses make of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapted {
    /// Its key in the base.
    pub key: String,
    /// As the base has it.
    pub decl: ParamDecl,
    /// What is done to it, and the shape that this gives.
    changes: Vec<Change>,
    shape: Vec<usize>,
    /// The same in words.
    text: Vec<String>,
}

/// One axis made anew, entry by entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The tensor before: what lies outside the axis, the axis, what lies inside.
    outer: usize,
    axis: usize,
    inner: usize,
    entries: Vec<Run>,
    scale: f32,
}

/// Entries in a row, as many as the text says and not as the axis is long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    entry: Entry,
    len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// Old ones from this on.
    Old(usize),
    /// All old ones, again and again.
    Cycle,
    Mean,
    Sum,
    Zeros,
    New,
}

/// How many entries there are.
fn total(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.len).sum()
}

/// The tensors of a layer that `keeping` clauses make, by name. Of several clauses the latest that has a tensor wins.
///
/// # Errors
/// A tensor that the clause cannot bring to its shape.
pub fn resolve(
    layer: &str,
    op: &Op,
    params: &[ParamDecl],
    clauses: &[Kept],
) -> Result<BTreeMap<&'static str, Adapted>> {
    let mut found = BTreeMap::new();
    for clause in clauses.iter().rev() {
        let mut made = clause.resolve(layer, op, params, &found)?;
        found.append(&mut made);
    }
    Ok(found)
}

impl Kept {
    /// The tensors that it makes but for those of `found`.
    fn resolve(
        &self,
        layer: &str,
        op: &Op,
        params: &[ParamDecl],
        found: &BTreeMap<&'static str, Adapted>,
    ) -> Result<BTreeMap<&'static str, Adapted>> {
        let named: Vec<&str> = self.hows.iter().filter_map(|how| tensor_of(&how.value)).collect();
        let is_meant = |name: &str| named.is_empty() || named.contains(&name);
        let pairs: Vec<(&ParamDecl, &Adapted)> = params
            .iter()
            .filter(|param| is_meant(param.name))
            .filter_map(|param| Some((param, &self.olds.iter().find(|(name, _)| *name == param.name)?.1)))
            .collect();
        let (shown, was) = (path::display(layer), path::display(&self.path));
        for how in self.hows.iter() {
            let fits = pairs.iter().any(|(param, old)| how.value.concerns(op, param.name, &old.shape));
            if !fits {
                let names = |names: Vec<&str>| if names.is_empty() { "none".into() } else { names.join(", ") };
                let problem = Problem::new(Code::BadEdit, format!("`{}` is for no tensor of `{shown}`", how.value))
                    .note(format!("`{shown}` has {}", names(params.iter().map(|param| param.name).collect())))
                    .note(format!("`{was}` had {}", names(self.olds.iter().map(|(name, _)| *name).collect())));
                return Err(problem.hints(with_tensors(op)).at(how.span));
            }
        }
        let mut made = BTreeMap::new();
        for (param, old) in pairs.into_iter().filter(|(param, _)| !found.contains_key(param.name)) {
            let what = Tensors { layer, was: &self.path, name: param.name };
            made.insert(param.name, self.tensor(op, param, old, what)?);
        }
        Ok(made)
    }

    fn tensor(&self, op: &Op, param: &ParamDecl, old: &Adapted, what: Tensors<'_>) -> Result<Adapted> {
        let Adapted { key, decl, mut changes, mut shape, mut text } = old.clone();
        let same_rank = shape.len() == param.shape.len();
        for how in self.hows.iter().filter(|how| how.value.concerns(op, param.name, &old.shape)) {
            let (rows, channels) = axes(op, param.name, shape.len());
            match &how.value {
                HowKind::Weights | HowKind::Tensor(_) => {}
                HowKind::Rows(picks) | HowKind::Channels(picks) => {
                    let axis = if matches!(how.value, HowKind::Rows(_)) { rows } else { channels };
                    let Some(axis) = axis else { continue };
                    let wanted = if same_rank { Some(param.shape[axis]) } else { None };
                    let most = wanted.unwrap_or_else(|| param.shape.iter().product());
                    let entries = entries(picks, shape[axis], most, &what, axis)?;
                    let got = total(&entries);
                    if wanted.is_some_and(|wanted| wanted != got) {
                        return Err(what.count(op, how, got, param.shape[axis]));
                    }
                    change(&mut changes, &mut shape, axis, entries, 1.0);
                    text.push(how.value.to_string());
                }
                HowKind::Repeat => {
                    let Some(axis) = channels.filter(|_| same_rank && shape.iter().all(|dim| *dim > 0)) else {
                        continue;
                    };
                    let (old, new) = (shape[axis], param.shape[axis]);
                    let entries = vec![Run { entry: Entry::Cycle, len: new }];
                    change(&mut changes, &mut shape, axis, entries, old as f32 / new as f32);
                    text.push(how.value.to_string());
                }
                HowKind::Center if same_rank => {
                    for axis in 2..shape.len() {
                        let (old, new) = (shape[axis], param.shape[axis]);
                        if old != new {
                            change(&mut changes, &mut shape, axis, centre(old, new), 1.0);
                        }
                    }
                    text.push(how.value.to_string());
                }
                HowKind::Center => {}
            }
        }
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        let reshapes = self.hows.iter().any(|how| matches!(how.value, HowKind::Weights | HowKind::Tensor(_)));
        if shape != param.shape {
            if !reshapes || count(&shape) != count(&param.shape) {
                return Err(what.misfit(self.span, &shape, &param.shape, reshapes));
            }
            text.push("reshaped".into());
        }
        Ok(Adapted { key, decl, changes, shape: param.shape.clone(), text })
    }
}

/// How an op that has no weight or no bias would have one.
pub fn with_tensors(op: &Op) -> Option<String> {
    let lacks = |name: &str| op.attr(name) == Some(Attr::Bool(false));
    let (argument, what) = match (lacks("affine"), lacks("bias")) {
        (true, _) if op.name() == "rms_norm" => ("affine", "a weight"),
        (true, _) => ("affine", "a weight and a bias"),
        (false, true) => ("bias", "a bias"),
        (false, false) => return None,
    };
    let entry = ops::find(op.name())?;
    // what has no default is as it was
    let before = if entry.args.iter().any(|arg| arg.default.is_none()) { ".., " } else { "" };
    Some(format!("`{}({before}{argument} = true)` has {what}", op.name()))
}

/// A tensor, for messages.
struct Tensors<'a> {
    layer: &'a str,
    was: &'a str,
    name: &'static str,
}

impl Tensors<'_> {
    fn new_key(&self) -> String {
        key(self.layer, self.name)
    }

    fn old_key(&self) -> String {
        key(self.was, self.name)
    }

    /// Not as many entries as the tensor has.
    fn count(&self, op: &Op, how: &How, got: usize, wanted: usize) -> Box<crate::diag::Diagnostic> {
        let what = if matches!(how.value, HowKind::Rows(_)) { "row" } else { "channel" };
        let message = format!("`{}` needs {}, got {got}", self.new_key(), crate::diag::count(wanted, what));
        let problem = Problem::new(Code::ShapeMismatch, message);
        let has_out = what == "row" && op.attrs().iter().any(|(name, _)| *name == "out");
        let problem = if has_out { problem.hint(format!("`same(out = {got})` has {got} outputs")) } else { problem };
        let hint = match got < wanted {
            true => format!("`new` stands for a {what} that is to be initialised"),
            false => format!("name {wanted} of them"),
        };
        problem.hint(hint).at(how.span)
    }

    fn misfit(&self, span: Span, got: &[usize], wanted: &[usize], reshapes: bool) -> Box<crate::diag::Diagnostic> {
        let message = format!("`{}` is {wanted:?}, what is kept of `{}` is {got:?}", self.new_key(), self.old_key());
        let mut problem = Problem::new(Code::ShapeMismatch, message);
        if got.len() == wanted.len() {
            let differs = |axis: usize| got.get(axis) != wanted.get(axis);
            let mut ways: Vec<&str> = vec![];
            if differs(0) {
                ways.push("`rows [..]` says which outputs");
            }
            if differs(1) {
                ways.push("`channels [..]` or `channels repeat` says which inputs");
            }
            if (2..got.len()).any(differs) {
                ways.push("`center` cuts out or pads a kernel");
            }
            problem = problem.hint(ways.join(", "));
        } else if !reshapes && got.iter().product::<usize>() == wanted.iter().product::<usize>() {
            problem = problem.hint("`weights` beside it takes the values in order");
        } else {
            problem = problem.hint("a tensor of another rank needs as many values");
        }
        problem.at(span)
    }
}

impl HowKind {
    /// Whether it says something of the tensor `name` of shape `shape`.
    fn concerns(&self, op: &Op, name: &str, shape: &[usize]) -> bool {
        let (rows, channels) = axes(op, name, shape.len());
        match self {
            HowKind::Weights => true,
            HowKind::Tensor(own) => *own == name,
            HowKind::Rows(_) => rows.is_some(),
            HowKind::Channels(_) | HowKind::Repeat => channels.is_some(),
            HowKind::Center => shape.len() > 2,
        }
    }
}

fn tensor_of(how: &HowKind) -> Option<&'static str> {
    if let HowKind::Tensor(name) = how { Some(name) } else { None }
}

/// The axes of a layer's outputs and inputs in one of its tensors.
fn axes(op: &Op, name: &str, rank: usize) -> (Option<usize>, Option<usize>) {
    let (rows, channels) = match op {
        // [in, out / groups, kh, kw]
        Op::ConvTranspose2d(_) if name == "weight" => (1, 0),
        _ => (0, 1),
    };
    let has = |axis: usize| Some(axis).filter(|axis| *axis < rank);
    (has(rows), if rank > 1 { has(channels) } else { None })
}

/// The entries that picks name of `old` ones; no more than `most`, which the new tensor holds.
fn entries(picks: &[Spanned<Pick>], old: usize, most: usize, what: &Tensors<'_>, axis: usize) -> Result<Vec<Run>> {
    let (mut entries, mut found) = (vec![], 0);
    for pick in picks {
        let range = match pick.value {
            Pick::Old(index) => range(index, old).ok_or_else(|| {
                let message = format!("`{}` has {old} on axis {axis}, numbered from 0", what.old_key());
                Problem::new(Code::BadValue, message).label("there is none of this number").at(pick.span)
            })?,
            _ => 0..1,
        };
        if range.is_empty() {
            return Err(Problem::new(Code::BadValue, "this range holds nothing").at(pick.span));
        }
        if range.len() > most.saturating_sub(found) {
            let message = format!("`{}` holds no more than {most} of them", what.new_key());
            return Err(Problem::new(Code::ShapeMismatch, message).label("too many from here on").at(pick.span));
        }
        found += range.len();
        let entry = match pick.value {
            Pick::Old(_) => Entry::Old(range.start),
            Pick::Mean => Entry::Mean,
            Pick::Sum => Entry::Sum,
            Pick::Zeros => Entry::Zeros,
            Pick::New => Entry::New,
            Pick::Named(_) | Pick::Between { .. } => unreachable!("the edit put numbers for names"),
        };
        entries.push(Run { entry, len: range.len() });
    }
    Ok(entries)
}

/// The numbers that an index names of `len`; None where one of them is not there.
fn range(index: Index, len: usize) -> Option<std::ops::Range<usize>> {
    let place = |at: i64| {
        let at = if at < 0 { at.checked_add(i64::try_from(len).ok()?)? } else { at };
        usize::try_from(at).ok().filter(|at| *at <= len)
    };
    match index {
        Index::All => Some(0..len),
        Index::At(at) => place(at).filter(|at| *at < len).map(|at| at..at + 1),
        Index::Range { from, to, inclusive } => {
            let from = from.map_or(Some(0), place)?;
            let to = match to {
                None => len,
                Some(to) if inclusive => place(to).filter(|to| *to < len)? + 1,
                Some(to) => place(to)?,
            };
            Some(from..to.max(from))
        }
    }
}

/// The middle of a window of `old`, or the window in the middle of zeros.
fn centre(old: usize, new: usize) -> Vec<Run> {
    let (cut, pad) = (old.saturating_sub(new) / 2, new.saturating_sub(old) / 2);
    let middle = old.min(new);
    let zeros = |len| Run { entry: Entry::Zeros, len };
    vec![zeros(pad), Run { entry: Entry::Old(cut), len: middle }, zeros(new - middle - pad)]
}

fn change(changes: &mut Vec<Change>, shape: &mut [usize], axis: usize, entries: Vec<Run>, scale: f32) {
    let (outer, inner) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
    let old = std::mem::replace(&mut shape[axis], total(&entries));
    changes.push(Change { outer, axis: old, inner, entries, scale });
}

impl Adapted {
    /// A tensor as the base has it.
    pub fn of_base(key: String, decl: ParamDecl) -> Adapted {
        Adapted { key, shape: decl.shape.clone(), decl, changes: vec![], text: vec![] }
    }

    /// In words: `channels 0, 1, 2, mean`.
    pub fn how(&self) -> String {
        if self.text.is_empty() { "copied".into() } else { self.text.join(", ") }
    }

    /// Whether some values are those of the initialiser.
    pub fn has_new(&self) -> bool {
        self.changes.iter().flat_map(|change| &change.entries).any(|run| run.entry == Entry::New)
    }

    /// The new values of the base's `values`. `fresh` are those of the initialiser, asked for where some are new.
    ///
    /// # Errors
    /// Those of `fresh`.
    pub fn apply<E>(
        &self,
        mut values: Vec<f32>,
        fresh: impl FnOnce() -> std::result::Result<Vec<f32>, E>,
    ) -> std::result::Result<Vec<f32>, E> {
        // new values lie where the last shape has them, which a reshape in row-major order does not move
        let mut is_new = if self.has_new() { vec![false; values.len()] } else { vec![] };
        for change in &self.changes {
            if !is_new.is_empty() {
                is_new = change.apply(&is_new, false, true, |along, _| along.filter(|is_new| *is_new).count() > 0);
            }
            values = change.apply(&values, 0.0, 0.0, |along, is_mean| {
                let sum: f64 = along.map(f64::from).sum();
                (if is_mean { sum / change.axis as f64 } else { sum }) as f32
            });
            if change.scale != 1.0 {
                values.iter_mut().for_each(|value| *value *= change.scale);
            }
        }
        if is_new.is_empty() {
            return Ok(values);
        }
        let fresh = fresh()?;
        let mixed = values.into_iter().zip(is_new).zip(fresh);
        Ok(mixed.map(|((value, is_new), fresh)| if is_new { fresh } else { value }).collect())
    }
}

impl Change {
    /// The tensor with the axis made anew. `fold` gives the sum, or the mean, along the old axis.
    fn apply<T: Copy>(
        &self,
        old: &[T],
        zero: T,
        new: T,
        fold: impl Fn(&mut dyn Iterator<Item = T>, bool) -> T,
    ) -> Vec<T> {
        let mut out = Vec::with_capacity(self.outer * total(&self.entries) * self.inner);
        for block in old.chunks_exact((self.axis * self.inner).max(1)).take(self.outer) {
            for &Run { entry, len } in &self.entries {
                let values = len * self.inner;
                match entry {
                    Entry::Old(at) => out.extend_from_slice(&block[at * self.inner..][..values]),
                    Entry::Cycle => out.extend(block.iter().copied().cycle().take(values)),
                    Entry::Zeros => out.extend(std::iter::repeat_n(zero, values)),
                    Entry::New => out.extend(std::iter::repeat_n(new, values)),
                    Entry::Mean | Entry::Sum => {
                        let along = |at: usize| block[at..].iter().step_by(self.inner.max(1)).copied();
                        out.extend((0..self.inner).map(|at| fold(&mut along(at), entry == Entry::Mean)));
                    }
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `keeping` clause of a text.
    fn clause(text: &str, olds: &[(&'static str, &[usize])]) -> Kept {
        use crate::syntax::tree::{Item, KeepingKind, Part};
        let mut sources = crate::source::Sources::new();
        let text = format!("replace a with same keeping {text}");
        let file = sources.add("a.arch", text.clone(), None);
        let (tree, problems) = crate::syntax::parse(file, &text);
        assert!(problems.is_empty(), "{text}");
        let [Item::Edit(edit)] = tree.items.as_slice() else { panic!("{text}") };
        let Some(Part::New(new)) = edit.parts.last() else { panic!("{text}") };
        let keeping = new.keeping.as_ref().expect("a clause");
        let KeepingKind::Alike(hows) = &keeping.kind else { panic!("{text}") };
        let old =
            |(name, shape): &(&'static str, &[usize])| (*name, Adapted::of_base(name.to_string(), decl(name, shape)));
        let olds = olds.iter().map(old).collect();
        Kept { path: "a".into(), olds, hows: hows.clone().into(), span: keeping.span }
    }

    fn decl(name: &'static str, shape: &[usize]) -> ParamDecl {
        ParamDecl::weight(name, shape, crate::ops::init::Init::Zeros)
    }

    fn op(text: &str) -> Op {
        let attr = crate::ops::attr::Attr::Int;
        let arg = |name: &str, value| crate::ops::attr::Arg { name: Some(name.into()), value: attr(value) };
        let args = [arg("out", 2), arg("kernel", 3)];
        let args = if text == "linear" { &args[..1] } else { &args[..] };
        (crate::ops::find(text).expect("an op").make)(args).expect("these arguments")
    }

    /// The values 1, 2, .. adapted; fresh values are -1, -2, ..
    fn adapted(of: &str, text: &str, old: &[usize], new: &[usize]) -> std::result::Result<Vec<f32>, String> {
        let found = resolve("a", &op(of), &[decl("weight", new)], &[clause(text, &[("weight", old)])]);
        let found = found.map_err(|problem| problem.problem.message)?;
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        let values = (1..=count(old)).map(|at| at as f32).collect();
        let fresh = || Ok::<_, ()>((1..=count(new)).map(|at| -(at as f32)).collect());
        Ok(found["weight"].apply(values, fresh).expect("fresh values"))
    }

    #[test]
    fn each_way_makes_these_values() {
        type Case<'a> = (&'a str, &'a str, &'a [usize], &'a [usize], &'a [f32]);
        let cases: &[Case] = &[
            ("linear", "weights", &[2, 3], &[2, 3], &[1., 2., 3., 4., 5., 6.]),
            ("conv2d", "weights", &[1, 4], &[1, 1, 2, 2], &[1., 2., 3., 4.]),
            ("linear", "rows [1, 0, 1]", &[2, 2], &[3, 2], &[3., 4., 1., 2., 3., 4.]),
            ("linear", "rows [-1, new]", &[3, 2], &[2, 2], &[5., 6., -3., -4.]),
            ("linear", "rows [0..2]", &[3, 1], &[2, 1], &[1., 2.]),
            ("linear", "rows [0..=1], channels [mean]", &[3, 3], &[2, 1], &[2., 5.]),
            ("linear", "channels [1, new, sum, zeros]", &[2, 2], &[2, 4], &[2., -2., 3., 0., 4., -6., 7., 0.]),
            ("linear", "rows [0, new], channels [1, new]", &[1, 2], &[2, 2], &[2., -2., -3., -4.]),
            (
                "linear",
                "channels repeat",
                &[2, 2],
                &[2, 3],
                &[1. / 1.5, 2. / 1.5, 1. / 1.5, 3. / 1.5, 4. / 1.5, 3. / 1.5],
            ),
            ("conv2d", "center", &[1, 1, 3, 3], &[1, 1, 1, 1], &[5.]),
            ("conv2d", "center", &[1, 1, 1, 2], &[1, 1, 3, 4], &[0., 0., 0., 0., 0., 1., 2., 0., 0., 0., 0., 0.]),
            ("conv2d", "rows [1], weights", &[2, 4], &[1, 1, 2, 2], &[5., 6., 7., 8.]),
            // [in, out, kh, kw]: rows are outputs
            ("conv_transpose2d", "rows [1]", &[2, 2, 1, 1], &[2, 1, 1, 1], &[2., 4.]),
            ("conv_transpose2d", "channels [1]", &[2, 2, 1, 1], &[1, 2, 1, 1], &[3., 4.]),
        ];
        for (of, text, old, new, wanted) in cases {
            let got = adapted(of, text, old, new).expect(text);
            let near = got.iter().zip(*wanted).all(|(got, wanted)| (got - wanted).abs() < 1e-6);
            assert!(got.len() == wanted.len() && near, "{of} {text}: {got:?}, not {wanted:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let cases: &[(&str, &[usize], &[usize], &str)] = &[
            ("rows [3]", &[3, 2], &[1, 2], "`a.weight` has 3 on axis 0, numbered from 0"),
            ("rows [-4]", &[3, 2], &[1, 2], "`a.weight` has 3 on axis 0, numbered from 0"),
            ("rows [0..4]", &[3, 2], &[4, 2], "`a.weight` has 3 on axis 0, numbered from 0"),
            ("rows [2..2]", &[3, 2], &[1, 2], "this range holds nothing"),
            ("rows [0]", &[3, 2], &[2, 2], "`a.weight` needs 2 rows, got 1"),
            ("rows [0, 1]", &[3, 2], &[1, 2], "`a.weight` holds no more than 1 of them"),
            ("rows [0..2000000000, *]", &[2147483648, 1], &[4, 1], "`a.weight` holds no more than 4 of them"),
            ("channels [0]", &[3], &[3], "`channels 0` is for no tensor of `a`"),
            ("center", &[3, 2], &[3, 2], "`center` is for no tensor of `a`"),
            ("bias", &[3, 2], &[3, 2], "`bias` is for no tensor of `a`"),
            ("weights", &[3, 2], &[2, 2], "`a.weight` is [2, 2], what is kept of `a.weight` is [3, 2]"),
            ("rows [0]", &[3, 4], &[1, 1, 2, 2], "`a.weight` is [1, 1, 2, 2], what is kept of `a.weight` is [1, 4]"),
        ];
        for (text, old, new, wanted) in cases {
            assert_eq!(adapted("conv2d", text, old, new), Err(wanted.to_string()), "{text}");
        }
    }
}
