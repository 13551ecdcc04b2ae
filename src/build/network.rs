//! Networks: instances as the base of a spec, or as a scope inside another network.

use super::value::{BindingKind, CallArg, Callable, Target, Value};
use super::{Builder, Env, Naming, Outputs};
use crate::diag::{Code, Problem, Result, list, nest, suggest};
use crate::graph::{NewNode, OWN_OUTPUT};
use crate::ops::constant::Input;
use crate::ops::shape::MAX_DIM;
use crate::resolve::{Found, ModuleId, Program};
use crate::source::Span;
use crate::syntax::tree::{self, ExprKind, NetworkDefinition};

/// An evaluated `name = value`, and its place.
pub type Entry<'a> = (String, Value<'a>, Span);

/// What a network says beside its layers: evaluated `preprocess` entries and `labels`, with their places.
#[derive(Clone, Default)]
pub struct BaseInfo<'a> {
    pub name: String,
    pub preprocess: Option<(Vec<Entry<'a>>, Span)>,
    pub labels: Option<(Value<'a>, Span)>,
    /// The base's braces ask for another input size, and the preprocessing is still the network's own.
    pub resized: bool,
    /// The sizes of the first input that is an image, or else of the first, as the network declares them, the batch left out.
    pub declared: Vec<i64>,
    /// Inputs that are asked to have another number of channels, which is the first edit: by name, with their sizes.
    pub recast: Vec<(String, Vec<i64>)>,
    /// What it says its parts are for.
    pub roles: Vec<&'a tree::RoleLine>,
}

/// A network's own text with its parameters bound.
struct Instance<'a> {
    env: Env<'a>,
    /// The networks that say `= b(..)` on the way, the first one first: where, and b.
    via: Vec<&'a tree::Name>,
    body: &'a tree::NetworkBody,
    roles: Vec<&'a tree::RoleLine>,
}

/// Builds the base network of the spec into an empty graph.
pub fn build_base<'a>(builder: &mut Builder<'a, '_>, base: &'a tree::Base) -> Result<BaseInfo<'a>> {
    let program: &'a Program = builder.program;
    let Some((module, network)) = program.network(&base.name.value) else {
        let problem = Problem::new(Code::UnknownName, format!("there is no network `{}`", base.name.value));
        let near = program.nearest_networks(&base.name.value);
        let problem = match near.as_slice() {
            [] => problem.hint("`archc zoo` lists the networks that ship with archc"),
            near => problem.hint(format!("did you mean {}?", list(near))),
        };
        return Err(problem.at(base.name.span));
    };
    // arguments of the base see the spec's params and lets
    let mut spec = Env::file(Program::SPEC);
    let callable = Callable::new(Target::Network(module, network), vec![]);
    let callable = builder.with_args(&mut spec, callable, &base.args)?;
    builder.open_scope("", Some(&network.name.value), Naming::ByOp, None, network.name.span)?;
    let mut instance = builder.called(base.name.span, &base.name.value, |builder| {
        builder.instance(module, network, &callable.args, "", None, base.name.span)
    })?;
    instance.env.outputs = Outputs::Named;
    let roles = std::mem::take(&mut instance.roles);
    let mut info = BaseInfo { name: base.name.value.clone(), roles, ..BaseInfo::default() };
    inputs(builder, base, &mut spec, &mut instance, &mut info)?;
    settings(builder, base, &mut spec, &mut instance, &mut info)?;

    let input = instance.env.prev.clone();
    let result = match module {
        // a network of the spec's own file is read there
        Program::SPEC => builder.run(&mut instance, input),
        _ => builder.called(base.name.span, &base.name.value, |builder| builder.run(&mut instance, input)),
    }?;
    let result = builder.flowing(&result, network.name.span)?;
    let Some(output) = result else {
        if builder.problems.has_errors() || !builder.unknown.is_empty() {
            return Ok(info);
        }
        let problem = Problem::new(Code::Base, format!("the network `{}` has no layers", network.name.value));
        return Err(problem.at(network.name.span));
    };
    builder.close_scope("", Some(output));
    builder.patch.set_output(OWN_OUTPUT, output, None);
    for (name, (node, span)) in std::mem::take(&mut builder.further) {
        builder.patch.set_output(&name, node, Some(span));
    }
    Ok(info)
}

/// Declares the network's inputs, of the sizes that the base's braces ask for.
fn inputs<'a>(
    builder: &mut Builder<'a, '_>,
    base: &'a tree::Base,
    spec: &mut Env<'a>,
    instance: &mut Instance<'a>,
    info: &mut BaseInfo<'a>,
) -> Result<()> {
    if instance.body.inputs.is_empty() {
        let problem = Problem::new(Code::Base, "a network needs an input");
        return Err(problem.hint("`input image: [N, 3, 224, 224]`").at(base.name.span));
    }
    let mut declared = vec![];
    for input in &instance.body.inputs {
        let name = input.name.as_ref().map_or("image", |name| name.value.as_str());
        declared.push((name, builder.input_sizes(&mut instance.env, input)?, input.span));
    }
    let picture = declared.iter().find(|(_, sizes, _)| sizes.len() == 3);
    info.declared = picture.unwrap_or(&declared[0]).1.clone();
    for asked in &base.inputs {
        let wanted = asked.name.as_ref().map_or(declared[0].0, |name| name.value.as_str());
        let Some((_, known, span)) = declared.iter_mut().find(|(name, ..)| *name == wanted) else {
            let problem = Problem::new(Code::UnknownName, format!("the network has no input `{wanted}`"));
            return Err(problem.hints(suggest(wanted, declared.iter().map(|(name, ..)| *name))).at(asked.span));
        };
        let sizes = builder.input_sizes(spec, asked)?;
        if sizes.len() != known.len() {
            let shown = |sizes: &[i64]| sizes.iter().map(|size| format!(", {size}")).collect::<String>();
            let message = format!("the input is [N{}], got [N{}]", shown(known), shown(&sizes));
            return Err(Problem::new(Code::ShapeMismatch, message).see(*span, "declared here").at(asked.span));
        }
        if let ([high, wide, channels], [declared, ..]) = (sizes.as_slice(), known.as_slice())
            && channels == declared
            && (*high).min(*wide) > 4 * channels
        {
            let message = format!("channels come first in an input, got [N, {high}, {wide}, {channels}]");
            let problem = Problem::new(Code::ShapeMismatch, message).see(*span, "declared here");
            return Err(problem.hint(format!("`input [N, {channels}, {high}, {wide}]`")).at(asked.span));
        }
        if sizes.first() != known.first() {
            info.recast.push((wanted.to_string(), sizes.clone()));
        }
        // parameters keep the declared number of channels
        let sizes: Vec<i64> = known.iter().take(1).chain(sizes.iter().skip(1)).copied().collect();
        info.resized |= sizes != *known;
        *known = sizes;
    }
    let only = declared.len() == 1;
    for (name, shape, span) in declared {
        if builder.patch.is_taken(name) {
            return Err(Problem::new(Code::Duplicate, format!("the input `{name}` is declared twice")).at(span));
        }
        let op = Input { shape }.into();
        let id = builder.patch.add(NewNode { path: name.to_string(), op, operands: vec![], span });
        builder.patch.add_input(name, id);
        instance.env.bind(name, Value::Node(id), BindingKind::Label);
        if only {
            instance.env.input = Some(Value::Node(id));
            instance.env.prev = Some(Value::Node(id));
            builder.patch.set_scope_input("", Some(id));
        }
    }
    Ok(())
}

/// Evaluates `preprocess` and `labels`: the base's braces first, else the network's own.
fn settings<'a>(
    builder: &mut Builder<'a, '_>,
    base: &'a tree::Base,
    spec: &mut Env<'a>,
    instance: &mut Instance<'a>,
    info: &mut BaseInfo<'a>,
) -> Result<()> {
    for (own, of) in [(true, &base.preprocess), (false, &instance.body.preprocess)] {
        if let Some(twice) = of.get(1) {
            return Err(Problem::new(Code::Duplicate, "`preprocess` is given twice").at(twice.span));
        }
        let Some(settings) = of.first().filter(|_| info.preprocess.is_none()) else { continue };
        let mut entries = vec![];
        for (name, value) in &settings.entries {
            let env = if own { &mut *spec } else { &mut instance.env };
            entries.push((name.value.clone(), builder.eval(env, value)?, name.span.to(value.span)));
        }
        info.preprocess = Some((entries, settings.span));
        // the network's own is for its declared size
        info.resized &= !own;
    }
    for (own, of) in [(true, &base.labels), (false, &instance.body.labels)] {
        if let Some(twice) = of.get(1) {
            return Err(Problem::new(Code::Duplicate, "`labels` is given twice").at(twice.span));
        }
        let Some(labels) = of.first().filter(|_| info.labels.is_none()) else { continue };
        let env = if own { &mut *spec } else { &mut instance.env };
        info.labels = Some((builder.eval(env, labels)?, labels.span));
    }
    Ok(())
}

impl<'a> Builder<'a, '_> {
    /// Follows `network a(..) = b(..)` to the network with a body, binding parameters on the way.
    fn instance(
        &mut self,
        module: ModuleId,
        network: &'a tree::Network,
        args: &[CallArg<'a>],
        scope: &str,
        input: Option<Value<'a>>,
        span: Span,
    ) -> Result<Instance<'a>> {
        let mut env = Env::block(module, scope, Naming::ByOp, input.clone());
        self.bind_params(&mut env, &network.name, &network.params, args, span)?;
        let (target, args, roles) = match &network.definition {
            NetworkDefinition::Body(body) => {
                return Ok(Instance { env, via: vec![], body, roles: body.roles.iter().collect() });
            }
            NetworkDefinition::Alias { target, args, roles } => (target, args, roles),
        };
        let program: &'a Program = self.program;
        let Some(Found::Network(module, inner)) = program.find(module, &target.value) else {
            let problem = Problem::new(Code::UnknownName, format!("there is no network `{}` here", target.value));
            return Err(problem.hints(suggest(&target.value, program.visible(module))).at(target.span));
        };
        let callable = Callable::new(Target::Network(module, inner), vec![]);
        let callable = self.with_args(&mut env, callable, args)?;
        let mut instance = self.deeper(target.span, &target.value, |builder| {
            builder.instance(module, inner, &callable.args, scope, input, target.span)
        })?;
        instance.via.insert(0, target);
        // its own roles in place of the other's
        instance.roles.retain(|line| roles.iter().all(|own| own.name.value != line.name.value));
        instance.roles.extend(roles);
        Ok(instance)
    }

    /// A network as a step: a scope whose input is what flows.
    pub(super) fn apply_network(
        &mut self,
        module: ModuleId,
        network: &'a tree::Network,
        args: &[CallArg<'a>],
        at: &str,
        value: Option<Value<'a>>,
        span: Span,
    ) -> Result<Option<Value<'a>>> {
        let input = self.flowing(&value, span)?;
        let mut instance = self.instance(module, network, args, at, value.clone(), span)?;
        instance.env.outputs = Outputs::Left;
        self.open_scope(at, Some(&network.name.value), Naming::ByOp, input, span)?;
        if let (Some(value), Some(tree::Input { name: Some(name), .. })) = (&value, instance.body.inputs.first()) {
            instance.env.bind(&name.value, value.clone(), BindingKind::Label);
        }
        let result = self.run(&mut instance, value)?;
        let output = self.flowing(&result, span)?;
        self.close_scope(at, output);
        Ok(result)
    }

    /// Runs a network's body on what flows into it.
    fn run(&mut self, instance: &mut Instance<'a>, value: Option<Value<'a>>) -> Result<Option<Value<'a>>> {
        let outer = self.patch.calls.clone();
        let inner = instance.via.iter().fold(outer.clone(), |calls, name| nest(calls, name.span, &name.value));
        self.patch.calls = inner;
        let result = self.braces(&mut instance.env, &instance.body.body, value);
        self.patch.calls = outer;
        result
    }

    /// The sizes after the batch of one `input`.
    pub fn input_sizes(&mut self, env: &mut Env<'a>, input: &'a tree::Input) -> Result<Vec<i64>> {
        let Some((batch, sizes)) = input.dims.split_first() else {
            let problem = Problem::new(Code::BadValue, "an input needs its sizes: `[N, 3, 224, 224]`");
            return Err(problem.at(input.span));
        };
        if !matches!(&batch.kind, ExprKind::Name(name) if name == "N") {
            let problem = Problem::new(Code::BadValue, "the first axis of an input is the batch, `N`");
            return Err(problem.hint("`[N, 3, 224, 224]`").at(batch.span));
        }
        let mut found = vec![];
        for size in sizes {
            match self.eval_operand(env, size)? {
                Value::Int(value) if (1..=MAX_DIM as i64).contains(&value) => found.push(value),
                other => {
                    let message = format!("a size is an integer from 1 to 2^31, got {}", other.describe());
                    return Err(Problem::new(Code::BadValue, message).at(size.span));
                }
            }
        }
        Ok(found)
    }

    /// Binds a `param` of the spec: its default, or what `--set` gives, which must be of the default's type.
    pub(super) fn bind_param(&mut self, env: &mut Env<'a>, param: &'a tree::Param, set: Option<&str>) -> Result<()> {
        let name = &param.name.value;
        let default = param.default.as_ref().map(|default| self.eval(env, default)).transpose()?;
        let value = match (set, default) {
            (None, Some(default)) => default,
            (None, None) => {
                let problem = Problem::new(Code::MissingArgument, format!("`{name}` has no default and is not given"));
                return Err(problem.hint(format!("--set {name}=..")).at(param.span));
            }
            (Some(text), default) => {
                self.parse_set(env, name, text, default.as_ref()).map_err(|problem| problem.at(param.span))?
            }
        };
        env.bind(name, value, BindingKind::Let);
        Ok(())
    }

    /// The text of a `--set` as a value of the type of `default`.
    fn parse_set(
        &self,
        env: &Env<'a>,
        name: &str,
        text: &str,
        default: Option<&Value<'a>>,
    ) -> std::result::Result<Value<'a>, Problem> {
        let value = match (default, literal(text)) {
            (Some(Value::Str(_)), _) => Value::Str(text.into()),
            (Some(Value::Float(_)), Value::Int(value)) => Value::Float(value as f64),
            (_, Value::Word(word)) => match self.callable(env, &word) {
                Some(callable) => Value::Callable(callable),
                None if default.is_none() => Value::Str(word),
                None => Value::Word(word),
            },
            (_, value) => value,
        };
        if default.is_none_or(|default| std::mem::discriminant(default) == std::mem::discriminant(&value)) {
            return Ok(value);
        }
        let wanted = default.map_or("a value", Value::kind);
        Err(Problem::new(Code::TypeMismatch, format!("`--set {name}=` needs {wanted}, got {text}")))
    }
}

/// A literal of the language: a number, a boolean, none, a list of literals, else a word.
fn literal<'a>(text: &str) -> Value<'a> {
    let text = text.trim();
    let within = |open: char, close: char| text.strip_prefix(open).and_then(|text| text.strip_suffix(close));
    if let Some(list) = within('[', ']').or(within('(', ')')).filter(|list| !list.contains(['[', '('])) {
        return Value::List(list.split(',').filter(|item| !item.trim().is_empty()).map(literal).collect());
    }
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "none" => Value::None,
        _ => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(value), _) => Value::Int(value),
            (_, Ok(value)) if value.is_finite() => Value::Float(value),
            _ => within('"', '"').map_or_else(|| Value::Word(text.into()), |text| Value::Str(text.into())),
        },
    }
}
