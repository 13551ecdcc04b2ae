//! Python with holes: what a line of a module says before it is known which of its literals are parameters of a class, and
//! how it is laid out.

use crate::ops::attr::Attr;
use crate::writer::relate::Expr;

/// Lines are broken where they would be longer.
pub const WIDTH: usize = 110;

/// A piece of a line.
#[derive(Clone, Debug)]
pub enum Piece {
    Text(String),
    /// The value of an operand.
    In(usize),
    /// The layer's own module, or its own tensor.
    Own,
    /// A literal, under the name that a parameter would have.
    Slot(&'static str, Attr),
    Call(Call),
    /// A module of the unit with this number.
    Unit(usize),
}

/// A line, or a part of one.
pub type Code = Vec<Piece>;

/// A call whose arguments may be left out where they are the defaults.
#[derive(Clone, Debug)]
pub struct Call {
    pub head: String,
    pub args: Vec<CallArg>,
}

#[derive(Clone, Debug)]
pub struct CallArg {
    pub keyword: Option<&'static str>,
    pub code: Code,
    /// What is meant where it is not given.
    pub default: Option<Attr>,
}

impl Call {
    pub fn new(head: &str) -> Call {
        Call { head: head.to_string(), args: vec![] }
    }

    /// An argument by position.
    pub fn arg(self, name: &'static str, value: impl Into<Attr>) -> Call {
        self.push(None, vec![Piece::Slot(name, value.into())], None)
    }

    /// An argument by name, left out where it is `default`.
    pub fn option(self, name: &'static str, value: impl Into<Attr>, default: impl Into<Attr>) -> Call {
        self.push(Some(name), vec![Piece::Slot(name, value.into())], Some(default.into()))
    }

    /// An argument by position that is no literal.
    pub fn code(self, code: Code) -> Call {
        self.push(None, code, None)
    }

    fn push(mut self, keyword: Option<&'static str>, code: Code, default: Option<Attr>) -> Call {
        self.args.push(CallArg { keyword, code, default });
        self
    }
}

impl From<Call> for Code {
    fn from(call: Call) -> Code {
        vec![Piece::Call(call)]
    }
}

impl From<usize> for Attr {
    fn from(value: usize) -> Attr {
        Attr::Int(value as i64)
    }
}

impl From<i64> for Attr {
    fn from(value: i64) -> Attr {
        Attr::Int(value)
    }
}

impl From<f64> for Attr {
    fn from(value: f64) -> Attr {
        Attr::Float(value)
    }
}

impl From<bool> for Attr {
    fn from(value: bool) -> Attr {
        Attr::Bool(value)
    }
}

/// Code of a template: `{0}` is the first operand, `{m}` the layer's own module, `{name}` one of the literals.
///
/// # Panics
/// If the template names a literal that is not given: templates are this program's own.
pub fn code(template: &str, slots: &[(&'static str, Attr)]) -> Code {
    let mut pieces = vec![];
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let close = open + rest[open..].find('}').expect("a hole is closed");
        if open > 0 {
            pieces.push(Piece::Text(rest[..open].to_string()));
        }
        pieces.push(match &rest[open + 1..close] {
            "m" => Piece::Own,
            name => match name.parse() {
                Ok(operand) => Piece::In(operand),
                Err(_) => {
                    let slot = slots.iter().find(|(slot, _)| *slot == name).expect("a hole has its literal");
                    Piece::Slot(slot.0, slot.1.clone())
                }
            },
        });
        rest = &rest[close + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_string()));
    }
    pieces
}

/// Plain text.
pub fn text(text: impl Into<String>) -> Code {
    vec![Piece::Text(text.into())]
}

/// Shows `see` every literal and every unit, in the order in which they are written.
pub fn walk<'a>(code: &'a [Piece], see: &mut dyn FnMut(&'a Piece)) {
    for piece in code {
        match piece {
            Piece::Call(call) => call.args.iter().for_each(|arg| walk(&arg.code, see)),
            piece => see(piece),
        }
    }
}

/// The code with operands and the layer's own module put in.
pub fn fill(code: &[Piece], operands: &[String], own: &str) -> Code {
    let fill_one = |piece: &Piece| match piece {
        Piece::In(at) => Piece::Text(operands[*at].clone()),
        Piece::Own => Piece::Text(own.to_string()),
        Piece::Call(call) => {
            let args = call.args.iter().map(|arg| CallArg { code: fill(&arg.code, operands, own), ..arg.clone() });
            Piece::Call(Call { head: call.head.clone(), args: args.collect() })
        }
        piece => piece.clone(),
    };
    code.iter().map(fill_one).collect()
}

/// What two lines have in common that differ in literals alone. `class` gives the number of a unit's class.
pub fn signature(code: &[Piece], class: &dyn Fn(usize) -> usize, out: &mut String) {
    for piece in code {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::In(at) => *out += &format!("\u{1}{at}"),
            Piece::Own => out.push('\u{2}'),
            Piece::Slot(name, value) => *out += &format!("\u{3}{name}{}", shape_of(value)),
            Piece::Unit(unit) => *out += &format!("\u{4}{}", class(*unit)),
            Piece::Call(call) => {
                *out += &call.head;
                for arg in &call.args {
                    *out += &format!("\u{5}{}", arg.keyword.unwrap_or_default());
                    signature(&arg.code, class, out);
                }
                out.push('\u{6}');
            }
        }
    }
}

/// What decides whether two literals can be values of one parameter.
fn shape_of(value: &Attr) -> &'static str {
    match value {
        Attr::Int(_) | Attr::List(_) => "i",
        Attr::Float(_) => "f",
        Attr::Bool(_) => "b",
        Attr::None => "n",
        Attr::Str(_) | Attr::Word(_) | Attr::Call(..) => "s",
    }
}

/// A literal of Python.
pub fn literal(value: &Attr) -> String {
    let list = |values: &[Attr]| match values {
        [one] => format!("({},)", literal(one)),
        values => format!("({})", values.iter().map(literal).collect::<Vec<_>>().join(", ")),
    };
    match value {
        Attr::Int(value) => value.to_string(),
        Attr::Float(value) if value.is_nan() => "math.nan".to_string(),
        Attr::Float(value) if value.is_infinite() => if *value > 0.0 { "math.inf" } else { "-math.inf" }.to_string(),
        Attr::Float(value) => format!("{value:?}"),
        Attr::Bool(true) => "True".to_string(),
        Attr::Bool(false) => "False".to_string(),
        Attr::None => "None".to_string(),
        Attr::Str(text) | Attr::Word(text) => quoted(text),
        Attr::Call(word, args) => format!("{word}{}", list(args)),
        Attr::List(values) => list(values),
    }
}

/// A text in Python's quotes.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            c if c.is_control() || !c.is_ascii() && c as u32 > 0xffff => out += &format!("\\U{:08x}", c as u32),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The type of a parameter that has these values.
pub fn type_of<'a>(values: impl Iterator<Item = &'a Attr>) -> String {
    let mut names: Vec<String> = vec![];
    for value in values {
        let name = match value {
            Attr::Int(_) => "int".to_string(),
            Attr::Float(_) => "float".to_string(),
            Attr::Bool(_) => "bool".to_string(),
            Attr::None => "None".to_string(),
            Attr::Str(_) | Attr::Word(_) | Attr::Call(..) => "str".to_string(),
            Attr::List(list) => {
                let inside: Vec<String> = list.iter().map(|one| type_of(std::iter::once(one))).collect();
                format!("tuple[{}]", inside.join(", "))
            }
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" | ")
}

/// An expression of the parameters with these names.
pub fn expression(expr: &Expr, params: &[String]) -> String {
    inner_expression(expr, params, 0)
}

/// [`expression`] beside an operator of this strength: 1 for `+`, 2 for `*`.
fn inner_expression(expr: &Expr, params: &[String], strength: usize) -> String {
    let (text, own) = match expr {
        Expr::Value(value) => return literal(value),
        Expr::Param(at) => return params[*at].clone(),
        Expr::Times(factor, of) => (format!("{factor} * {}", inner_expression(of, params, 3)), 2),
        Expr::Over(of, divisor) => (format!("{} // {divisor}", inner_expression(of, params, 2)), 2),
        Expr::Plus(of, more) if *more < 0 => {
            (format!("{} - {}", inner_expression(of, params, 1), more.unsigned_abs()), 1)
        }
        Expr::Plus(of, more) => (format!("{} + {more}", inner_expression(of, params, 1)), 1),
        Expr::In(_) | Expr::Var(_) | Expr::Power(..) | Expr::First(..) => {
            unreachable!("parameters of classes follow from each other alone")
        }
    };
    if strength > own { format!("({text})") } else { text }
}

/// An expression as it is laid out: in one line where it fits, else an argument a line.
#[derive(Clone, Debug, PartialEq)]
pub enum Doc {
    Text(String),
    /// `head(`, arguments, `)`; the head with its bracket.
    Call {
        head: String,
        args: Vec<Doc>,
        tail: &'static str,
    },
    Joined(Vec<Doc>),
    /// With a comment behind it, which breaks the lines around it.
    Noted(Box<Doc>, String),
}

impl Doc {
    /// In one line, without comments.
    pub fn flat(&self) -> String {
        match self {
            Doc::Text(text) => text.clone(),
            Doc::Call { head, args, tail } => {
                let args: Vec<String> = args.iter().map(Doc::flat).collect();
                format!("{head}{}{tail}", args.join(", "))
            }
            Doc::Joined(parts) => parts.iter().map(Doc::flat).collect(),
            Doc::Noted(doc, _) => doc.flat(),
        }
    }

    /// Whether a comment stands in it.
    pub fn is_noted(&self) -> bool {
        match self {
            Doc::Text(_) => false,
            Doc::Call { args, .. } => args.iter().any(Doc::is_noted),
            Doc::Joined(parts) => parts.iter().any(Doc::is_noted),
            Doc::Noted(..) => true,
        }
    }

    /// Writes it behind what stands in the line already; `after` follows it.
    pub fn write(&self, indent: usize, after: &str, out: &mut String) {
        let used = out.len() - out.rfind('\n').map_or(0, |at| at + 1);
        let flat = self.flat();
        if !self.is_noted() && used + flat.len() + after.len() <= WIDTH {
            *out += &flat;
            *out += after;
            return;
        }
        match self {
            Doc::Text(text) => {
                *out += text;
                *out += after;
            }
            Doc::Call { head, args, tail } if !args.is_empty() => {
                *out += head;
                out.push('\n');
                let pad = " ".repeat(indent + 4);
                for arg in args {
                    *out += &pad;
                    let (arg, note) = match arg {
                        Doc::Noted(arg, note) => (&**arg, Some(note)),
                        arg => (arg, None),
                    };
                    arg.write(indent + 4, ",", out);
                    if let Some(note) = note {
                        *out += &format!("  # {note}");
                    }
                    out.push('\n');
                }
                *out += &" ".repeat(indent);
                *out += tail;
                *out += after;
            }
            Doc::Call { head, tail, .. } => *out += &format!("{head}{tail}{after}"),
            Doc::Joined(parts) => {
                let last = parts.len().saturating_sub(1);
                for (at, part) in parts.iter().enumerate() {
                    part.write(indent, if at == last { after } else { "" }, out);
                }
                if parts.is_empty() {
                    *out += after;
                }
            }
            Doc::Noted(doc, note) => {
                doc.write(indent, after, out);
                *out += &format!("  # {note}");
            }
        }
    }
}

/// Words that are no names in Python.
const KEYWORDS: &[&str] = &[
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
    "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal",
    "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// What a module has already under its own names.
const OF_MODULE: &[&str] = &[
    "add_module",
    "append",
    "apply",
    "bfloat16",
    "buffers",
    "call_super_init",
    "children",
    "compile",
    "cpu",
    "cuda",
    "double",
    "dump_patches",
    "eval",
    "extend",
    "extra_repr",
    "float",
    "forward",
    "get_buffer",
    "get_extra_state",
    "get_parameter",
    "get_submodule",
    "half",
    "insert",
    "ipu",
    "load_state_dict",
    "modules",
    "mtia",
    "named_buffers",
    "named_children",
    "named_modules",
    "named_parameters",
    "parameters",
    "pop",
    "register_backward_hook",
    "register_buffer",
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
    "register_load_state_dict_post_hook",
    "register_load_state_dict_pre_hook",
    "register_module",
    "register_parameter",
    "register_state_dict_post_hook",
    "register_state_dict_pre_hook",
    "requires_grad_",
    "set_extra_state",
    "set_submodule",
    "share_memory",
    "state_dict",
    "T_destination",
    "to",
    "to_empty",
    "train",
    "training",
    "type",
    "xpu",
    "zero_grad",
];

/// Whether a text is a name of Python.
pub fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !KEYWORDS.contains(&text)
}

/// Whether a module can have an attribute of this name.
pub fn is_attribute(text: &str) -> bool {
    is_identifier(text) && !text.starts_with('_') && !OF_MODULE.contains(&text)
}

/// A name of Python as close to a text as there is.
pub fn identifier(label: &str) -> String {
    let text: String = label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let text = match text.chars().next() {
        Some(first) if first.is_ascii_digit() => format!("n{text}"),
        None => "x".to_string(),
        _ => text,
    };
    if is_identifier(&text) { text } else { format!("{text}_") }
}

/// A name of a class: `basic_block` is `BasicBlock`.
pub fn camel(name: &str) -> String {
    let mut text = String::new();
    let mut begins = true;
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() {
            begins = true;
            continue;
        }
        if begins {
            text.push(c.to_ascii_uppercase())
        } else {
            text.push(c)
        }
        begins = false;
    }
    match text.chars().next() {
        Some(first) if first.is_ascii_digit() => format!("Net{text}"),
        None => "Net".to_string(),
        _ => {
            if is_identifier(&text) {
                text
            } else {
                format!("{text}_")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_python_are_made_of_any_label() {
        let cases = [
            ("conv1", "conv1"),
            ("0", "n0"),
            ("class", "class_"),
            ("block1-0", "block1_0"),
            ("q v", "q_v"),
            ("", "x"),
            ("été", "_t_"),
        ];
        for (label, wanted) in cases {
            assert_eq!(identifier(label), wanted);
            assert!(is_identifier(&identifier(label)), "{label}");
        }
        let no_attributes = ["0", "class", "train", "type", "_modules", "a-b", "training"];
        assert!(no_attributes.iter().all(|label| !is_attribute(label)));
        assert!(["conv1", "norm", "fc", "Conv"].iter().all(|label| is_attribute(label)));
        let classes = [("basic_block", "BasicBlock"), ("resnet50", "Resnet50"), ("7x7", "Net7x7"), ("none", "None_")];
        for (name, wanted) in classes {
            assert_eq!(camel(name), wanted);
        }
    }

    #[test]
    fn literals_are_those_of_python() {
        let list = |values: &[i64]| Attr::List(values.iter().map(|value| Attr::Int(*value)).collect());
        let cases = [
            (list(&[1]), "(1,)"),
            (list(&[3, 5]), "(3, 5)"),
            (Attr::Float(1e-5), "1e-5"),
            (Attr::Float(1.0), "1.0"),
            (Attr::Float(f64::NEG_INFINITY), "-math.inf"),
            (Attr::Bool(true), "True"),
            (Attr::None, "None"),
            (Attr::Str("a\"\\\n".into()), "\"a\\\"\\\\\\n\""),
        ];
        for (value, wanted) in cases {
            assert_eq!(literal(&value), wanted);
        }
    }

    #[test]
    fn long_calls_are_broken_at_their_arguments_and_comments_break_them() {
        let call = |args: Vec<Doc>| Doc::Call { head: "nn.Sequential(".into(), args, tail: ")" };
        let short = Doc::Text("nn.ReLU()".into());
        let mut out = String::from("x = ");
        call(vec![short.clone(), short.clone()]).write(0, "", &mut out);
        assert_eq!(out, "x = nn.Sequential(nn.ReLU(), nn.ReLU())");
        let mut out = String::from("x = ");
        call(vec![short.clone(), Doc::Noted(Box::new(short), "new".into())]).write(0, "", &mut out);
        assert_eq!(out, "x = nn.Sequential(\n    nn.ReLU(),\n    nn.ReLU(),  # new\n)");
    }
}
