//! The text of the file: what is around the classes, the classes, and the network's own at the end.

use crate::graph::{Graph, NodeId, path};
use crate::io::preprocess::{Preprocess, Resize};
use archc_base::Resample;

use super::About;
use super::class::{Class, Classes, classes, counted, laid, line, range, sequential};
use super::code::{Doc, camel, is_attribute, literal, quoted, type_of};
use super::unit::{External, Item, Kind, Step, Unit, Units, What, shape_of};
use crate::ops::attr::Attr;

/// What files begin with that are not made of layers; each is there where the text says its name.
const HELPERS: &[(&str, &str)] = &[
    ("Apply", include_str!("helpers/apply.py")),
    ("Parts", include_str!("helpers/parts.py")),
    ("StochasticDepth", include_str!("helpers/stochastic_depth.py")),
    ("AlwaysDropout", include_str!("helpers/always_dropout.py")),
    ("LayerNorm2d", include_str!("helpers/layer_norm2d.py")),
    ("Conv2dSame", include_str!("helpers/conv2d_same.py")),
    ("Conv1dSame", include_str!("helpers/conv1d_same.py")),
    ("pad_same", include_str!("helpers/pad_same.py")),
    ("attention", include_str!("helpers/attention.py")),
    ("lstm_scan", include_str!("helpers/lstm_scan.py")),
    ("window_index", include_str!("helpers/window_index.py")),
    ("window_coords", include_str!("helpers/window_coords.py")),
    ("window_mask", include_str!("helpers/window_mask.py")),
];

/// Names that are no class of a block.
const TAKEN: &[&str] = &["Tensor", "OrderedDict", "F", "Net", "Module"];

struct Writer<'a> {
    graph: &'a Graph,
    about: &'a About<'a>,
    units: &'a Units,
    classes: &'a Classes,
}

/// Names that no class of a network may have.
fn taken() -> impl Iterator<Item = &'static str> {
    HELPERS.iter().map(|(name, _)| *name).chain(TAKEN.iter().copied())
}

/// What the class of a network is called.
pub fn class_name(name: &str) -> String {
    let class = camel(name);
    if class != "Net" && taken().any(|taken| taken == class) { format!("{class}Network") } else { class }
}

/// The whole file.
pub fn text(graph: &Graph, about: &About<'_>, units: &Units) -> String {
    let network = class_name(about.name);
    let taken: Vec<&str> = taken().collect();
    let classes = classes(units, &network, &taken);
    let writer = Writer { graph, about, units, classes: &classes };
    let mut body = String::new();
    for (at, class) in classes.all.iter().enumerate() {
        if !class.is_inline && class.units[0] != units.root {
            writer.class(at, class, &mut body);
            body += "\n\n";
        }
    }
    let root = classes.of[units.root];
    let mut own = String::new();
    writer.class(root, &classes.all[root], &mut own);
    let mut helpers = String::new();
    let mut used: Vec<bool> = vec![false; HELPERS.len()];
    loop {
        let is_said = |name: &str, text: &str| {
            let ends = |at: usize| {
                text[..at]
                    .chars()
                    .next_back()
                    .is_none_or(|before| !(before.is_ascii_alphanumeric() || matches!(before, '_' | '.')))
            };
            text.match_indices(name).any(|(at, _)| ends(at) && text[at + name.len()..].starts_with('('))
        };
        let before = used.clone();
        for (at, (name, _)) in HELPERS.iter().enumerate() {
            let by_helper =
                HELPERS.iter().zip(&before).any(|((other, text), used)| *used && other != name && is_said(name, text));
            used[at] |= is_said(name, &body) || is_said(name, &own) || by_helper;
        }
        if used == before {
            break;
        }
    }
    for ((_, text), _) in HELPERS.iter().zip(&used).filter(|(_, used)| **used) {
        helpers += text.trim_end();
        helpers += "\n\n\n";
    }
    let mut out = writer.head(&network);
    let code = format!("{helpers}{body}{own}");
    out += "import json\n";
    if code.contains("math.") {
        out += "import math\n";
    }
    if code.contains("OrderedDict(") {
        out += "from collections import OrderedDict\n";
    }
    out += "\nimport torch\nimport torch.nn.functional as F\nfrom torch import Tensor, nn\n\n\n";
    out += include_str!("helpers/load_weights.py").trim_end();
    out += "\n\n\n";
    out += &writer.preprocess();
    out += &helpers;
    out += &body;
    out += &own;
    out
}

impl Writer<'_> {
    fn head(&self, network: &str) -> String {
        let about = self.about;
        let safe = |text: &str| text.replace('\\', "\\\\").replace("\"\"\"", "\\\"\\\"\\\"");
        let mut text = format!("\"\"\"`{}` as a module of PyTorch, written by archc", safe(about.name));
        text += &about.spec.map_or(String::from(".\n"), |spec| format!(" from {}.\n", safe(spec)));
        if let Some(weights) = about.weights {
            text += "\nIts tensors have the keys of the safetensors file:\n\n";
            text += &format!("    net = {network}()\n");
            text += &format!("    net.load_state_dict(load_weights({}))\n    net.eval()\n", safe(&quoted(weights)));
        }
        text + "\"\"\"\n\n"
    }

    /// What makes of a picture what the network takes.
    fn preprocess(&self) -> String {
        let Some(preprocess) = self.about.preprocess else { return String::new() };
        let inputs: Vec<NodeId> = self.graph.inputs().values().copied().collect();
        let [input] = inputs.as_slice() else { return String::new() };
        let Some((channels @ (1 | 3), height, width)) = shape_of(self.graph, *input).as_image() else {
            return String::new();
        };
        let Preprocess { resize, crop, interpolation, mean, std } = preprocess;
        let mode = match interpolation {
            Resample::Nearest => "NEAREST",
            Resample::Bilinear => "BILINEAR",
            Resample::Bicubic => "BICUBIC",
        };
        let (crop_height, crop_width) = crop.map_or((height, width), |(h, w)| (h as usize, w as usize));
        let mut out = String::from("def preprocess(picture) -> Tensor:\n");
        out +=
            &format!("    \"\"\"A picture of PIL as the network takes it, [1, {channels}, {height}, {width}].\"\"\"\n");
        out += "    from torchvision.transforms import v2\n\n";
        let grey = if channels == 1 { "L" } else { "RGB" };
        out += &format!("    picture = picture.convert(\"{grey}\")\n");
        out += &format!("    if picture.size != ({width}, {height}):\n");
        match resize {
            Some(Resize::Shorter(short)) => {
                out += &format!("        picture = v2.Resize({short}, v2.InterpolationMode.{mode})(picture)\n");
            }
            Some(Resize::Both(h, w)) => {
                out += &format!("        picture = v2.Resize(({h}, {w}), v2.InterpolationMode.{mode})(picture)\n");
            }
            None => {}
        }
        out += &format!("        picture = v2.CenterCrop(({crop_height}, {crop_width}))(picture)\n");
        let list = |values: &[f64; 3]| {
            let values: Vec<String> = values[..channels.min(3)].iter().map(|value| format!("{value:?}")).collect();
            format!("[{}]", values.join(", "))
        };
        out += "    image = v2.ToDtype(torch.float32, scale=True)(v2.ToImage()(picture))\n";
        out += &format!("    return v2.Normalize({}, {})(image)[None]\n\n\n", list(mean), list(std));
        out
    }

    /// The edit that made a layer, as a comment says it.
    fn mark(&self, id: NodeId) -> Option<String> {
        (self.about.mark)(id)
    }

    /// The edit that made all of a module.
    fn mark_of(&self, unit: &Unit) -> Option<String> {
        let spot = self.graph.spot(&unit.path)?;
        let mut layers = self.graph.within(spot).filter_map(|spot| self.graph.layer_at(spot));
        let first = self.mark(layers.next()?)?;
        layers.all(|id| self.mark(id).as_ref() == Some(&first)).then_some(first)
    }

    fn class(&self, at: usize, class: &Class, out: &mut String) {
        let unit = &self.units.all[class.units[0]];
        let is_root = class.units[0] == self.units.root;
        let mut cursor = self.classes.cursor(at);
        let base = if unit.kind == Kind::Sequential { "nn.Sequential" } else { "nn.Module" };
        *out += &format!("class {}({base}):\n", class.name);
        *out += &format!("    \"\"\"{}\"\"\"\n\n", self.about_class(class));
        let frozen = if is_root { self.frozen() } else { vec![] };
        if !frozen.is_empty() {
            let names: Vec<Doc> = frozen.iter().map(|name| Doc::Text(quoted(name))).collect();
            *out += "    # no gradient, and nothing in them changes in training\n    frozen = ";
            Doc::Call { head: "(".into(), args: names, tail: if frozen.len() == 1 { ",)" } else { ")" } }
                .write(4, "", out);
            *out += "\n\n";
        }
        let mut head = vec![Doc::Text("self".into())];
        for (nth, param) in class.params.iter().enumerate() {
            let kind = type_of(class.values(nth));
            head.push(Doc::Text(match &param.default {
                Some(default) => format!("{}: {kind} = {}", param.name, literal(default)),
                None => format!("{}: {kind}", param.name),
            }));
        }
        let is_marked = class.units.iter().all(|unit| self.mark_of(&self.units.all[*unit]).is_some());
        if unit.kind == Kind::Sequential {
            *out += "    ";
            Doc::Call { head: "def __init__(".into(), args: head, tail: ") -> None:" }.write(4, "", out);
            *out += "\n        ";
            let items = unit.items.iter().enumerate().map(|(nth, item)| {
                let doc = laid(&item.code, self.units, self.classes, &mut cursor);
                let note = self.note_of_item(class, nth, is_marked);
                (item.label.clone(), item.what, noted(doc, note))
            });
            sequential("super().__init__(", items.collect()).write(8, "", out);
            *out += "\n";
            return;
        }
        let mut lines: Vec<(String, Doc)> = vec![];
        for (nth, item) in unit.items.iter().enumerate() {
            let doc = laid(&item.code, self.units, self.classes, &mut cursor);
            let note = self.note_of_item(class, nth, is_marked);
            lines.push((item.label.clone(), noted(defined(item, doc), note)));
        }
        let attributes = cursor.attributes();
        if !lines.is_empty() || !class.params.is_empty() || !frozen.is_empty() {
            *out += "    ";
            Doc::Call { head: "def __init__(".into(), args: head, tail: ") -> None:" }.write(4, "", out);
            *out += "\n        super().__init__()\n";
            attributes.iter().for_each(|name| *out += &format!("        self.{name} = {name}\n"));
            define(&unit.items, lines, out);
            if !frozen.is_empty() {
                *out += include_str!("helpers/freeze.py");
            }
            *out += "\n";
            if !frozen.is_empty() {
                *out += include_str!("helpers/train.py").trim_end();
                *out += "\n\n";
            }
        }
        let mut params = vec![Doc::Text("self".into())];
        for (name, external) in unit.params.iter().zip(&unit.takes) {
            let kind = if matches!(external, External::Module(_)) { "nn.Module" } else { "Tensor" };
            params.push(Doc::Text(format!("{name}: {kind}")));
        }
        let result = match (is_root, self.graph.outputs().len(), unit.results.len()) {
            (true, 2.., _) => "dict[str, Tensor]".to_string(),
            (_, _, 1) => "Tensor".to_string(),
            (_, _, count) => format!("tuple[{}]", vec!["Tensor"; count].join(", ")),
        };
        *out += "    ";
        Doc::Call { head: "def forward(".into(), args: params, tail: "" }.write(4, "", out);
        *out += &format!(") -> {result}:\n");
        let mut lines: Vec<(String, Option<String>)> = vec![];
        for (nth, step) in unit.steps.iter().enumerate() {
            let text = line(&step.code, self.units, self.classes, &mut cursor);
            lines.push((format!("{} = {text}", step.targets.join(", ")), self.note_of_step(class, nth, is_marked)));
        }
        run(&lines, out);
        *out += &format!("        return {}\n", unit.results.join(", "));
    }

    /// What a class stands for.
    fn about_class(&self, class: &Class) -> String {
        let units: Vec<&Unit> = class.units.iter().map(|unit| &self.units.all[*unit]).collect();
        let shapes = |unit: &Unit| {
            let shown = |ids: Vec<NodeId>| {
                ids.iter().map(|id| shape_of(self.graph, *id).to_string()).collect::<Vec<_>>().join(", ")
            };
            let values = |one: &External| if let External::Value(id) = one { Some(*id) } else { None };
            let takes = shown(unit.takes.iter().filter_map(values).collect());
            let gives = match unit.path.is_empty() {
                true => shown(self.graph.outputs().values().map(|output| output.node).collect()),
                false => shown(unit.gives.clone()),
            };
            if takes.is_empty() { gives } else { format!("{takes} to {gives}") }
        };
        let first = units[0];
        if first.path.is_empty() {
            return format!("{}: {}.", self.about.name, shapes(first));
        }
        let more = match units.len() {
            1 => String::new(),
            2 => " and another one".to_string(),
            count => format!(" and {} others", count - 1),
        };
        let text = format!("`{}`{more}: {}.", path::display(&first.path).replace(['\\', '"'], "'"), shapes(first));
        let marks: Vec<Option<String>> = units.iter().map(|unit| self.mark_of(unit)).collect();
        match &marks[0] {
            Some(mark) if marks.iter().all(|other| other.as_ref() == Some(mark)) => {
                format!("{text}\n\n    {}\n    ", mark.replace(['\\', '"'], "'"))
            }
            _ => text,
        }
    }

    /// What of the units' marks holds for a line of their class.
    fn shared(&self, marks: Vec<Option<String>>) -> Option<String> {
        let first = marks.iter().flatten().next()?.clone();
        if marks.iter().all(|mark| mark.as_ref() == Some(&first)) {
            return Some(first);
        }
        let count = marks.iter().flatten().count();
        Some(format!("in {count} of {}: {first}", marks.len()))
    }

    fn note_of_item(&self, class: &Class, nth: usize, is_marked: bool) -> Option<String> {
        if is_marked {
            return None;
        }
        let mark = |unit: &usize| {
            let unit = &self.units.all[*unit];
            let item = &unit.items[nth];
            match item.node {
                Some(id) => self.mark(id),
                None => {
                    let inner = self.units.all.iter().find(|inner| inner.path == path::join(&unit.path, &item.label));
                    inner.and_then(|inner| self.mark_of(inner))
                }
            }
        };
        self.shared(class.units.iter().map(mark).collect())
    }

    fn note_of_step(&self, class: &Class, nth: usize, is_marked: bool) -> Option<String> {
        let steps: Vec<&Step> = class.units.iter().map(|unit| &self.units.all[*unit].steps[nth]).collect();
        let shape = |step: &&Step| step.value.map(|id| shape_of(self.graph, id).to_string());
        let shapes: Vec<Option<String>> = steps.iter().map(shape).collect();
        let shape = shapes[0].clone().filter(|shape| shapes.iter().all(|other| other.as_ref() == Some(shape)));
        // a module's mark stands where it is made
        let of_function = |step: &&Step| step.node.filter(|_| !step.is_module).and_then(|id| self.mark(id));
        let mark = if is_marked { None } else { self.shared(steps.iter().map(of_function).collect()) };
        match (shape, mark) {
            (Some(shape), Some(mark)) => Some(format!("{shape}  {mark}")),
            (one, other) => one.or(other),
        }
    }

    /// The modules and tensors that do not learn, the outermost of each.
    fn frozen(&self) -> Vec<String> {
        let graph = self.graph;
        let counts = |spot| {
            let layers = graph.within(spot).filter_map(|spot| graph.layer_at(spot));
            let stateful = layers.filter(|id| {
                let node = graph.node(*id);
                let has_mode = node.op.is_random() || graph.params(*id).is_some_and(|params| !params.is_empty());
                node.tied.is_none() && has_mode
            });
            stateful.fold((0, 0), |(all, frozen), id| (all + 1, frozen + usize::from(graph.node(id).frozen)))
        };
        let mut names: Vec<(usize, String)> = vec![];
        let mut open = vec![graph.root()];
        while let Some(spot) = open.pop() {
            for (_, child) in graph.children(spot) {
                match counts(child) {
                    (_, 0) => {}
                    (all, frozen) if all == frozen => {
                        let first = graph.within(child).filter_map(|spot| graph.layer_at(spot)).next();
                        names.push((first.map_or(0, |id| graph.node(id).rank as usize), graph.path_at(child)));
                    }
                    _ => open.push(child),
                }
            }
        }
        names.sort();
        names.into_iter().map(|(_, name)| name).collect()
    }
}

impl Class {
    /// The values that a parameter has.
    fn values(&self, param: usize) -> impl Iterator<Item = &Attr> {
        self.args().iter().map(move |args| &args[param])
    }
}

fn noted(doc: Doc, note: Option<String>) -> Doc {
    match note {
        Some(note) => Doc::Noted(Box::new(doc), note),
        None => doc,
    }
}

fn comment(note: Option<String>) -> String {
    note.map_or(String::new(), |note| format!("  # {note}"))
}

/// The statement that gives a module its item.
fn defined(item: &Item, doc: Doc) -> Doc {
    let label = quoted(&item.label);
    let is_free = is_attribute(&item.label) || path::is_number(&item.label);
    let around =
        |before: String, after: &str| Doc::Joined(vec![Doc::Text(before), doc.clone(), Doc::Text(after.into())]);
    match item.what {
        What::Module | What::Parameter if is_attribute(&item.label) => around(format!("self.{} = ", item.label), ""),
        What::Module if is_free => around(format!("self.add_module({label}, "), ")"),
        What::Module => around(format!("self._modules[{label}] = "), ""),
        What::Parameter if is_free => around(format!("self.register_parameter({label}, "), ")"),
        What::Parameter => around(format!("self._parameters[{label}] = "), ""),
        What::Buffer { is_saved: true } if is_free => around(format!("self.register_buffer({label}, "), ")"),
        What::Buffer { is_saved: false } if is_free => {
            around(format!("self.register_buffer({label}, "), ", persistent=False)")
        }
        What::Buffer { is_saved: true } => around(format!("self._buffers[{label}] = "), ""),
        What::Buffer { is_saved: false } => {
            around(format!("self._non_persistent_buffers_set.add({label})\n        self._buffers[{label}] = "), "")
        }
    }
}

/// Writes the statements of `__init__`, runs of equal modules with counted names as loops.
fn define(items: &[Item], lines: Vec<(String, Doc)>, out: &mut String) {
    let mut at = 0;
    while at < lines.len() {
        let (label, doc) = &lines[at];
        let run = counted(label).filter(|(prefix, _)| is_attribute(prefix) && items[at].what == What::Module);
        if let Some((prefix, from)) = run {
            let made = |nth: usize| {
                let (label, doc) = lines.get(nth)?;
                let is_noted = matches!(doc, Doc::Noted(..));
                let is_next = *label == format!("{prefix}{}", from + nth - at) && !is_noted;
                if is_next { doc.flat().strip_prefix(&format!("self.{label} = ")).map(str::to_string) } else { None }
            };
            if let Some(first) = made(at) {
                let count = (at..lines.len()).take_while(|nth| made(*nth).as_ref() == Some(&first)).count();
                if count > 2 {
                    *out += &format!("        for i in {}:\n", range(from, count));
                    *out += &format!("            self.add_module(f\"{prefix}{{i}}\", {first})\n");
                    at += count;
                    continue;
                }
            }
        }
        *out += "        ";
        doc.write(8, "", out);
        *out += "\n";
        at += 1;
    }
}

/// No more lines are one round of a loop.
const MAX_PERIOD: usize = 12;

/// Writes the lines of `forward`, those that are the same but for the number of the module that they call as loops.
fn run(lines: &[(String, Option<String>)], out: &mut String) {
    let calls: Vec<(String, Option<usize>)> = lines.iter().map(|(line, _)| numbered_call(line)).collect();
    let mut at = 0;
    while at < lines.len() {
        let rounds = |period: usize| {
            let first = calls[at..at + period].iter().find_map(|(_, number)| *number)?;
            let is_round = |nth: usize| {
                let round = calls.get(at + nth * period..at + (nth + 1) * period)?;
                let fits = round.iter().zip(&calls[at..at + period]).all(|((text, number), (wanted, of))| {
                    text == wanted && of.is_none_or(|of| of == first && *number == Some(first + nth))
                });
                fits.then_some(())
            };
            let count = (0..).take_while(|nth| is_round(*nth).is_some()).count();
            (count > 2).then_some((period, first, count))
        };
        let longest = MAX_PERIOD.min(lines.len() - at);
        match (1..=longest).find_map(rounds) {
            Some((period, first, count)) => {
                *out += &format!("        for i in {}:\n", range(first, count));
                for (text, _) in &calls[at..at + period] {
                    *out += &format!("            {text}\n");
                }
                at += period * count;
            }
            None => {
                let (line, note) = &lines[at];
                *out += &format!("        {line}{}\n", comment(note.clone()));
                at += 1;
            }
        }
    }
}

/// A line with `i` in place of the number of the module that it calls, `getattr(self, f"conv{i}")`, and the number. A line
/// that calls none, or several with different numbers, as it is.
fn numbered_call(line: &str) -> (String, Option<usize>) {
    let mut text = String::new();
    let mut number: Option<usize> = None;
    let mut rest = line;
    while let Some(start) = rest.find("self.").filter(|_| !line.contains("get_submodule")) {
        let (before, call) = rest.split_at(start);
        text += before;
        let name = &call["self.".len()..];
        let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(name.len());
        match counted(&name[..end]).filter(|(prefix, _)| !prefix.is_empty() && name[end..].starts_with('(')) {
            Some((prefix, own)) if number.is_none_or(|number| number == own) => {
                number = Some(own);
                text += &format!("getattr(self, f\"{prefix}{{i}}\")");
            }
            Some(_) => return (line.to_string(), None),
            None => text += &call[..end + "self.".len()],
        }
        rest = &name[end..];
    }
    match number {
        Some(_) => (text + rest, number),
        None => (line.to_string(), None),
    }
}
