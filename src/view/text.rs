//! How wide texts are: the widths of Helvetica, which Arial and Liberation Sans share, and what a box says in it.

use super::network::amount;
use super::{Form, Item, Picture, State, Subject};

/// Thousandths of the size, from the blank to the tilde.
const WIDTHS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556,
    556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334,
    260, 334, 584,
];

/// The width of a text, a little more than that of the font, since others stand in for it.
pub fn width(text: &str, size: f64, is_bold: bool) -> f64 {
    let one = |c: char| match u32::from(c) {
        code @ 32..=126 => WIDTHS[code as usize - 32],
        // scripts of the Far East fill a square
        0x1100.. => 1000,
        _ => 600,
    };
    let sum: u32 = text.chars().map(|c| u32::from(one(c))).sum();
    f64::from(sum) / 1000.0 * size * if is_bold { 1.12 } else { 1.05 }
}

/// The longest name or text that a box has, in characters.
const LONGEST: usize = 46;

/// A text that is too long with two dots at its end.
pub fn cut(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_string();
    }
    let kept: String = text.chars().take(longest - 2).collect();
    format!("{}..", kept.trim_end())
}

/// How a line of a box is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Head,
    Plain,
    Small,
}

impl Style {
    pub fn size(self) -> f64 {
        match self {
            Style::Head => 12.0,
            Style::Plain => 11.0,
            Style::Small => 10.0,
        }
    }

    /// The height of the line.
    pub fn height(self) -> f64 {
        match self {
            Style::Head => 16.0,
            Style::Plain => 14.0,
            Style::Small => 13.0,
        }
    }

    pub fn class(self) -> &'static str {
        match self {
            Style::Head => "h",
            Style::Plain => "p",
            Style::Small => "s",
        }
    }

    pub fn width(self, text: &str) -> f64 {
        width(text, self.size(), self == Style::Head)
    }
}

/// What a folded box says, line by line.
pub fn lines(picture: &Picture, item: &Item) -> Vec<(Style, String)> {
    let mut lines = vec![];
    let mut line = |style: Style, text: &str| {
        if !text.is_empty() {
            lines.push((style, cut(text, LONGEST)));
        }
    };
    let mut figures: Vec<String> = vec![];
    if item.parameters > 0 {
        figures.push(format!("{} params", amount(item.parameters)));
    }
    if item.macs > 0 {
        figures.push(format!("{} MACs", amount(item.macs)));
    }
    if let Some(ms) = item.ms {
        figures.push(format!("{ms:.3} ms"));
    }
    let figures = figures.join(", ");
    let layer = item.layer.map(|id| &picture.layers[id]);
    match (item.form, layer) {
        (Form::Layer, Some(layer)) if picture.subject == Subject::Steps => {
            let (op, rest) = layer.text.split_once(' ').unwrap_or((&layer.text, ""));
            let (whose, shapes) = rest.split_once(" : ").unwrap_or((rest, ""));
            line(Style::Head, op);
            line(Style::Plain, whose);
            line(Style::Small, if shapes.is_empty() { &layer.shape } else { shapes });
        }
        (Form::Layer, Some(layer)) => {
            // the label of a layer without one is its op
            let is_named = item.label.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_') != layer.op;
            if is_named {
                line(Style::Head, &item.label);
                line(Style::Plain, &layer.text);
            } else {
                line(Style::Head, &layer.text);
            }
            if let (Some(was), State::Changed) = (&layer.was, layer.state) {
                line(Style::Small, &format!("was {was}"));
            }
            let first = layer.operands.first().map(|operand| picture.layers[operand.layer].shape.as_str());
            if !figures.is_empty() || first != Some(layer.shape.as_str()) {
                line(Style::Small, &layer.shape);
            }
        }
        (Form::Input | Form::Output | Form::Beside, Some(layer)) => {
            line(Style::Head, &item.label);
            line(Style::Small, &layer.shape);
        }
        _ => {
            line(Style::Head, &header(item));
            let layers =
                crate::diag::count(item.layers, if picture.subject == Subject::Steps { "step" } else { "layer" });
            let kind = if item.kind.is_empty() { String::new() } else { format!("{}, ", item.kind) };
            let kind = if item.form == Form::Range { String::new() } else { kind };
            line(Style::Plain, &format!("{kind}{layers}"));
            line(Style::Small, &item.shape);
        }
    }
    line(Style::Small, &figures);
    if lines.is_empty() {
        lines.push((Style::Head, "?".into()));
    }
    lines
}

/// What an unfolded box is headed with, and a folded one that holds others.
pub fn header(item: &Item) -> String {
    let label = cut(&item.label, LONGEST);
    match item.form {
        Form::Run => format!("{label}  \u{d7} {}", item.children.len()),
        _ => label,
    }
}

/// What an op does, for its colour.
pub fn family(op: &str) -> &'static str {
    const FAMILIES: &[(&str, &[&str])] = &[
        ("norm", &["norm", "response_norm"]),
        ("pool", &["pool"]),
        ("weights", &["conv", "linear", "attention", "parameter", "embedding", "lstm", "constant"]),
        (
            "shape",
            &[
                "flatten",
                "reshape",
                "permute",
                "slice",
                "concat",
                "pad",
                "roll",
                "transpose",
                "split",
                "shuffle",
                "upsample",
                "window",
                "unfold",
                "space",
                "depth_to",
            ],
        ),
        ("sum", &["add", "mul", "sub", "div", "matmul", "mean", "sum"]),
        ("act", &["relu", "gelu", "silu", "sigmoid", "tanh", "softmax", "hard", "swish", "mish", "elu", "dropout"]),
    ];
    let has = |(_, parts): &&(&str, &[&str])| parts.iter().any(|part| op.contains(part));
    FAMILIES.iter().find(has).map_or("other", |(family, _)| family)
}
