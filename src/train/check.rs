//! Reads a `train` block against the table of its words and against the network that it trains.

use indexmap::{IndexMap, IndexSet};

use super::reach::unreached;
use super::spec::{Chosen, Draft, Said, Takes, TrainSpec, WORDS, Word};
use crate::build::{Builder, Env, Globals, Value};
use crate::diag::{Code, Diagnostics, Problem, Result, and, list, suggest};
use crate::edit;
use crate::graph::{Graph, NodeId, key};
use crate::ops::Role;
use crate::resolve::Program;
use crate::source::Span;
use crate::syntax::tree::{self, Expr, ExprKind, TrainLine};
use crate::typed::Typed;
use crate::words::{Arg, Argument, Call, Kind, Setting};

/// Checks the spec's `train` block, where it has one. `typed` is the edited network, where that is known.
pub fn check<'a>(
    program: &'a Program,
    globals: &Globals<'a>,
    typed: Option<&Typed>,
    problems: &mut Diagnostics,
) -> Option<TrainSpec> {
    let train = program.train()?;
    let word_span = Span { end: train.span.start + "train".len() as u32, ..train.span };
    if program.base().is_none() {
        let problem = Problem::new(Code::Train, "there is no network to train");
        problems.push(problem.hint("begin with `base resnet50`").at(word_span));
        return None;
    }
    let mut draft = Draft::default();
    // expressions are evaluated in a network of nothing: no value of the network is meant in a `train` block
    let mut nothing = Graph::new();
    let read = nothing.patch(|patch| {
        let mut builder = Builder::new(program, patch, globals);
        let mut reader = Reader { env: Env::file(Program::SPEC), builder: &mut builder, problems };
        reader.words(train, word_span, &mut draft);
        let found = std::mem::take(&mut builder.problems);
        problems.extend(found);
        Err::<(), ()>(())
    });
    debug_assert!(read.is_err(), "the network of nothing is thrown away");
    if let Some(typed) = typed {
        let mut places = Places { program, globals, typed, graph: typed.graph().clone(), problems };
        places.unfreezes(train, &mut draft);
        places.factors(train, &mut draft);
        let trainable = typed.order().iter().any(|id| is_trainable(typed, *id));
        if !trainable {
            let problem = Problem::new(Code::Train, "nothing of this network can be trained");
            let frozen = typed.order().iter().any(|id| typed.graph().node(*id).frozen);
            let hint = if frozen { "everything is frozen: `freeze all except ..`" } else { "it has no weights" };
            problems.push(problem.hint(hint).at(word_span));
        }
        if let Some(problem) = several_inputs(typed) {
            problems.push(problem.at(word_span));
        }
        if let Some(problem) = unreached(typed, &draft.unfreezes) {
            problems.push(problem.at(word_span));
        }
    }
    draft.finish()
}

/// Data is a picture a sample, and a network that takes more learns nothing from it.
fn several_inputs(typed: &Typed) -> Option<Problem> {
    let names: Vec<&str> = typed.graph().inputs().keys().map(String::as_str).collect();
    let message = format!("a network learns from one input, this one has {}", and(&names));
    let problem = Problem::new(Code::Train, message).note("`data` gives a picture a sample");
    (names.len() > 1).then(|| problem.hint("leave the other inputs out to train; `archc run` takes all of them"))
}

/// What reading values needs.
struct Reader<'a, 'b, 'p> {
    builder: &'b mut Builder<'a, 'p>,
    env: Env<'a>,
    problems: &'b mut Diagnostics,
}

impl<'a> Reader<'a, '_, '_> {
    /// Every line but the `lr` ones.
    fn words(&mut self, train: &'a tree::Train, train_span: Span, draft: &mut Draft) {
        let mut seen: IndexMap<&str, Span> = IndexMap::new();
        // what a misspelt word was meant to be is not missing too
        let mut meant: Vec<&str> = vec![];
        for line in &train.lines {
            let (name, values, span) = match line {
                TrainLine::Factor { word, .. } if word.value == "lr" => continue,
                TrainLine::Unfreeze { word, .. } if word.value == "unfreeze" => continue,
                TrainLine::Factor { word, span, .. } | TrainLine::Unfreeze { word, span, .. } => {
                    let message = match word.value.as_str() {
                        "lr" => "`lr` takes a factor, with `by`".to_string(),
                        "unfreeze" => "`unfreeze` takes epochs, with `after`".to_string(),
                        other => format!("`{other}` takes no place, only `lr` and `unfreeze` do"),
                    };
                    let hint = "`lr layer4 by 0.1`, `unfreeze layer4 after 2`";
                    self.problems.push(Problem::new(Code::Train, message).hint(hint).at(*span));
                    continue;
                }
                TrainLine::Values { word, values, span } => (word, values, *span),
            };
            if name.value == "lr" {
                let problem = Problem::new(Code::Train, "`lr` gives the layers of a place a factor of their own");
                let hint =
                    "the rate itself is the optimizer's: `optimizer sgd(lr = 0.01)`; a factor: `lr layer4 by 0.1`";
                self.problems.push(problem.hint(hint).at(span));
                continue;
            }
            if name.value == "unfreeze" {
                let problem = Problem::new(Code::Train, "`unfreeze` needs the epochs after which the layers learn");
                self.problems.push(problem.hint("`unfreeze layer4 after 2`").at(span));
                continue;
            }
            let Some(word) = WORDS.iter().find(|word| word.name == name.value) else {
                let problem = Problem::new(Code::UnknownName, format!("`train` has no `{}`", name.value));
                let names = || WORDS.iter().map(|word| word.name).chain(["lr", "unfreeze"]);
                let hint = suggest(&name.value, names())
                    .unwrap_or_else(|| format!("it has {}", list(&names().collect::<Vec<_>>())));
                self.problems.push(problem.hint(hint).at(name.span));
                meant.extend(crate::diag::nearest(&name.value, WORDS.iter().map(|word| word.name)).first());
                continue;
            };
            if let Some(first) = seen.get(word.name) {
                let problem = Problem::new(Code::Duplicate, format!("`{}` is given twice", word.name));
                self.problems.push(problem.see(*first, "first given here").at(name.span));
                continue;
            }
            seen.insert(word.name, name.span);
            if let Some(said) = self.word(word, values) {
                put(word, draft, said);
            }
        }
        for word in WORDS {
            match &word.takes {
                Takes::One { default: None, of } if !seen.contains_key(word.name) && !meant.contains(&word.name) => {
                    let names: Vec<&str> = of.iter().map(|call| call.name).collect();
                    let problem = Problem::new(Code::Train, format!("`train` needs `{}`: {}", word.name, word.doc));
                    self.problems
                        .push(problem.hint(format!("`{}` is one of {}", word.name, list(&names))).at(train_span));
                }
                Takes::One { default: Some(name), of } if !seen.contains_key(word.name) => {
                    let call = of.iter().find(|call| call.name == *name).expect("the default is one of them");
                    let args = call.args.iter().map(|arg| arg.default.expect("it is complete by itself")()).collect();
                    put(word, draft, Said::One(Chosen { name, args, span: train_span }));
                }
                Takes::Many(_) if !seen.contains_key(word.name) => put(word, draft, Said::Many(vec![])),
                Takes::Value { default, .. } if !seen.contains_key(word.name) => {
                    put(word, draft, Said::Value(default.clone()));
                }
                Takes::One { .. } | Takes::Many(_) | Takes::Value { .. } => {}
            }
        }
    }

    /// The line of a word, read; None after a mistake.
    fn word(&mut self, word: &'static Word, values: &'a [Expr]) -> Option<Said> {
        match &word.takes {
            Takes::Value { kind, .. } => {
                let expr = self.only(word, values)?;
                self.setting(word.name, *kind, expr).map(Said::Value)
            }
            Takes::One { of, .. } => {
                let expr = self.only(word, values)?;
                self.choice(word, of, expr).map(Said::One)
            }
            Takes::Many(of) => {
                let choices: Vec<_> = values.iter().map(|expr| self.choice(word, of, expr)).collect();
                choices.into_iter().collect::<Option<_>>().map(Said::Many)
            }
        }
    }

    /// The one value of a word.
    fn only(&mut self, word: &Word, values: &'a [Expr]) -> Option<&'a Expr> {
        if let Some(second) = values.get(1) {
            let problem = Problem::new(Code::Train, format!("`{}` takes one value, got {}", word.name, values.len()));
            self.problems.push(problem.at(second.span));
        }
        values.first()
    }

    /// `sgd(lr = 0.1)`, `sgd`, or a `param` that holds such a word.
    fn choice(&mut self, word: &Word, of: &'static [Call], expr: &'a Expr) -> Option<Chosen> {
        let (name, args): (String, &[tree::Arg]) = match &expr.kind {
            ExprKind::Call(name, args) => (name.value.clone(), &args.args),
            ExprKind::Name(name) if of.iter().any(|call| call.name == name) => (name.clone(), &[]),
            _ => match self.value(expr)? {
                Value::Word(name) | Value::Str(name) => (name.to_string(), &[]),
                Value::Poison => return None,
                other => (other.describe(), &[]),
            },
        };
        let Some(call) = of.iter().find(|call| call.name == name) else {
            if let (ExprKind::Str(text), "data") = (&expr.kind, word.name) {
                let kind = if text.ends_with(".csv") { "csv" } else { "folder" };
                let problem = Problem::new(Code::Train, "`data` needs to know what lies there, got a path alone");
                self.problems.push(problem.hint(format!("`data {kind}(\"{text}\")`")).at(expr.span));
                return None;
            }
            let names: Vec<&str> = of.iter().map(|call| call.name).collect();
            let problem = Problem::new(Code::UnknownName, format!("`{}` has no `{name}`", word.name));
            let hint =
                suggest(&name, names.iter().copied()).unwrap_or_else(|| format!("it is one of {}", list(&names)));
            self.problems.push(problem.hint(hint).at(expr.span));
            return None;
        };
        let mut settings: Vec<Option<Setting>> =
            call.args.iter().map(|arg| arg.default.map(|default| default())).collect();
        let mut given: Vec<&str> = vec![];
        let mut position = 0;
        for one in args {
            let at = match &one.name {
                Some(name) => call.args.iter().position(|arg| arg.name == name.value).ok_or((&name.value, name.span)),
                None => {
                    // the first by position, as an op's
                    position += 1;
                    Some(0).filter(|_| position == 1 && !call.args.is_empty()).ok_or((&name, one.value.span))
                }
            };
            let at = match at {
                Ok(at) => at,
                Err((wrong, span)) => {
                    self.problems.push(no_argument(call, one.name.is_some().then_some(wrong.as_str())).at(span));
                    continue;
                }
            };
            let arg: &Arg = &call.args[at];
            if given.contains(&arg.name) {
                let problem = Problem::new(Code::Duplicate, format!("`{}` is given twice", arg.name));
                self.problems.push(problem.at(one.value.span));
                continue;
            }
            given.push(arg.name);
            if let Some(setting) = self.setting(arg.name, arg.kind, &one.value) {
                settings[at] = Some(setting);
            }
        }
        if let Some(missing) = call.args.iter().find(|arg| arg.default.is_none() && !given.contains(&arg.name)) {
            let message = format!("`{}` needs `{}`, {}", call.name, missing.name, missing.kind.describe());
            self.problems.push(Problem::new(Code::MissingArgument, message).at(expr.span));
        }
        Some(Chosen { name: call.name, args: settings.into_iter().collect::<Option<_>>()?, span: expr.span })
    }

    fn value(&mut self, expr: &'a Expr) -> Option<Value<'a>> {
        let value: Result<Value<'a>> = self.builder.eval(&mut self.env, expr);
        self.problems.take(value)
    }

    /// A value of the type that is wanted.
    fn setting(&mut self, name: &str, kind: Kind, expr: &'a Expr) -> Option<Setting> {
        // a word of the table wins over an op of that name
        if let (Kind::Word(of), ExprKind::Name(text)) = (kind, &expr.kind)
            && let Some(call) = of.iter().find(|call| call.name == text)
        {
            return Some(Setting::Word(call.name));
        }
        let value = self.value(expr)?;
        if value.is_poison() {
            return None;
        }
        let setting = convert(kind, &value);
        if setting.is_none() {
            let same_type = match kind {
                Kind::Float { .. } | Kind::Fraction | Kind::Positive => value.as_float().is_some(),
                Kind::Int { .. } => matches!(value, Value::Int(_)),
                Kind::Range { .. } | Kind::Fractions => matches!(value, Value::List(_)),
                _ => false,
            };
            let code = if same_type { Code::BadValue } else { Code::TypeMismatch };
            let message = format!("`{name}` is {}, got {}", kind.describe(), value.describe());
            self.problems.push(Problem::new(code, message).at(expr.span));
        }
        setting
    }
}

fn put(word: &Word, draft: &mut Draft, said: Said) {
    let fits = (word.put)(draft, said);
    assert!(fits, "the kinds of `{}` are those of its type", word.name);
}

fn no_argument(call: &Call, name: Option<&str>) -> Problem {
    let names: Vec<&str> = call.args.iter().map(|arg| arg.name).collect();
    let has = match names.is_empty() {
        true => format!("`{}` takes no arguments", call.name),
        false => format!("it has {}", list(&names)),
    };
    match name {
        Some(name) => {
            let problem = Problem::new(Code::UnknownArgument, format!("`{}` has no argument `{name}`", call.name));
            problem.hint(suggest(name, names).unwrap_or(has))
        }
        None => {
            let message = format!("`{}` takes its first argument by position, the others by name", call.name);
            Problem::new(Code::UnknownArgument, message).hint(has)
        }
    }
}

fn convert(kind: Kind, value: &Value<'_>) -> Option<Setting> {
    let finite = || value.as_float().filter(|value| value.is_finite());
    let pair = || match value {
        Value::List(list) => match &**list {
            [first, second] => Some((first.as_float()?, second.as_float()?)),
            _ => None,
        },
        _ => None,
    };
    let is_fraction = |value: f64| (0.0..1.0).contains(&value);
    Some(match kind {
        Kind::Float { min, max } => Setting::Float(finite().filter(|value| (min..=max).contains(value))?),
        Kind::Fraction => Setting::Float(finite().filter(|value| is_fraction(*value))?),
        Kind::Positive => Setting::Float(finite().filter(|value| *value > 0.0)?),
        Kind::Int { min, max } => match value {
            Value::Int(value) if (min..=max).contains(value) => Setting::Int(*value),
            _ => return None,
        },
        Kind::Bool => match value {
            Value::Bool(value) => Setting::Bool(*value),
            _ => return None,
        },
        Kind::Path => match value {
            Value::Str(text) if !text.is_empty() => Setting::Path(text.to_string()),
            _ => return None,
        },
        Kind::Word(of) => match value {
            Value::Word(text) | Value::Str(text) => {
                Setting::Word(of.iter().find(|call| call.name == text.as_ref())?.name)
            }
            _ => return None,
        },
        Kind::Range { min, max } => {
            let (low, high) = pair().filter(|(low, high)| min <= *low && low <= high && *high <= max)?;
            Setting::Floats((low, high))
        }
        Kind::Fractions => {
            Setting::Floats(pair().filter(|(first, second)| is_fraction(*first) && is_fraction(*second))?)
        }
    })
}

/// Whether a gradient may change tensors of its own that the node has.
pub(super) fn has_weights(typed: &Typed, id: NodeId) -> bool {
    typed.graph().node(id).tied.is_none() && typed.params(id).iter().any(|param| param.role == Role::Weight)
}

/// Whether a gradient changes them from the first epoch on.
fn is_trainable(typed: &Typed, id: NodeId) -> bool {
    !typed.graph().node(id).frozen && has_weights(typed, id)
}

/// Reads the lines whose word takes a place.
struct Places<'a, 'b> {
    program: &'a Program,
    globals: &'b Globals<'a>,
    typed: &'b Typed,
    /// The network in which selectors are resolved.
    graph: Graph,
    problems: &'b mut Diagnostics,
}

impl<'a> Places<'a, '_> {
    /// The `unfreeze` lines: each names frozen layers, none twice, and epochs of the run.
    fn unfreezes(&mut self, train: &'a tree::Train, draft: &mut Draft) {
        let mut named: IndexMap<NodeId, Span> = IndexMap::new();
        let all = draft.epochs.unwrap_or(usize::MAX);
        for line in &train.lines {
            let TrainLine::Unfreeze { word, target, epochs, span } = line else { continue };
            if word.value != "unfreeze" {
                continue;
            }
            let wrong = |got: String| {
                Problem::new(Code::TypeMismatch, format!("`unfreeze` needs whole epochs, 1 or more, got {got}"))
                    .hint("what learns from the beginning is not frozen at all")
            };
            let Some((mut owners, after)) = self.line::<usize>(target, epochs, wrong) else { continue };
            if after >= all {
                let message = format!("these layers never learn: the run has {all} epochs, not more than {after}");
                let problem = Problem::new(Code::Train, message).hint("more `epochs`, or fewer here");
                self.problems.push(problem.at(epochs.span));
                continue;
            }
            owners.retain(|owner| self.typed.graph().node(*owner).frozen);
            if owners.is_empty() {
                let problem = Problem::new(Code::Train, "this `unfreeze` line names no frozen layer with weights")
                    .hint("freeze them first, outside of `train`: `freeze all except fc`");
                self.problems.push(problem.at(target.span));
                continue;
            }
            if let Some(first) = owners.iter().find_map(|id| named.get(id)) {
                let problem = Problem::new(Code::Train, "some of these layers are named by an `unfreeze` line already")
                    .see(*first, "given here")
                    .hint("take them out of one of the lines with `except`");
                self.problems.push(problem.at(*span));
                continue;
            }
            named.extend(owners.iter().map(|id| (*id, *span)));
            draft.unfreezes.extend(owners.into_iter().map(|id| (id, after)));
        }
    }

    /// The `lr` lines: each names trainable tensors, none twice.
    fn factors(&mut self, train: &'a tree::Train, draft: &mut Draft) {
        let mut named: IndexMap<NodeId, Span> = IndexMap::new();
        let unfrozen: IndexSet<NodeId> = draft.unfreezes.iter().map(|(id, _)| *id).collect();
        for line in &train.lines {
            let TrainLine::Factor { word, target, by, span } = line else { continue };
            if word.value != "lr" {
                continue;
            }
            let wrong =
                |got: String| Problem::new(Code::TypeMismatch, format!("a factor is a float of 0 or more, got {got}"));
            let Some((mut owners, factor)) = self.line::<f64>(target, by, wrong) else { continue };
            owners.retain(|owner| is_trainable(self.typed, *owner) || unfrozen.contains(owner));
            if owners.is_empty() {
                let problem = Problem::new(Code::Train, "this `lr` line names no trainable tensor")
                    .hint("these layers are frozen, or have no weights");
                self.problems.push(problem.at(target.span));
                continue;
            }
            let twice: Vec<(NodeId, Span)> = owners.iter().filter_map(|id| Some((*id, *named.get(id)?))).collect();
            if let Some((id, first)) = twice.first() {
                let tensor = self.typed.params(*id).into_iter().find(|param| param.role == Role::Weight);
                let tensor = key(&self.typed.graph().node(*id).path, tensor.map_or("weight", |param| param.name));
                let message = match twice.len() - 1 {
                    0 => format!("`{tensor}` has a factor already"),
                    1 => format!("`{tensor}` and 1 more layer have a factor already"),
                    more => format!("`{tensor}` and {more} more layers have a factor already"),
                };
                let problem = Problem::new(Code::Train, message)
                    .see(*first, "given here")
                    .hint("take it out of one of the lines with `except`");
                self.problems.push(problem.at(*span));
                continue;
            }
            named.extend(owners.iter().map(|id| (*id, *span)));
            draft.factors.extend(owners.into_iter().map(|id| (id, factor)));
        }
    }

    /// The layers with weights whose tensors a selector names, and the value beside it, of which `wrong` complains where it
    /// is another; None after a mistake.
    fn line<T: Argument>(
        &mut self,
        target: &'a tree::Selector,
        beside: &'a Expr,
        wrong: impl Fn(String) -> Problem,
    ) -> Option<(IndexSet<NodeId>, T)> {
        let selected = edit::select_layers(self.program, self.globals, &mut self.graph, target, Some(beside));
        let (layers, value) = match selected {
            Ok((layers, value)) => (layers, value?),
            Err(found) => {
                self.problems.extend(found);
                return None;
            }
        };
        let read = convert(T::KIND, &value).and_then(T::read);
        if read.is_none() && !value.is_poison() {
            self.problems.push(wrong(value.describe()).at(beside.span));
        }
        let owners = layers.into_iter().map(|id| self.typed.graph().owner(id));
        Some((owners.filter(|id| has_weights(self.typed, *id)).collect(), read?))
    }
}
