//! A picture as SVG, for papers and pages: no script, no font but the reader's sans-serif, colours of a light page that turn
//! with a dark one. The edits are listed beside it.

use std::fmt::Write;

use super::fold::Fold;
use super::layout::{HEADER, LABEL, Laid, PAD, Wire, layout, tag_width};
use super::scene::{End, Frame, Link, Scene};
use super::text::{Style, cut, family, header, lines, width};
use super::{Depth, Form, Item, Picture, State, Subject};
use crate::diag::Problem;

/// No more boxes are drawn.
const BOXES: usize = 3000;
/// Around everything.
const MARGIN: f64 = 16.0;
/// Of the list of edits.
const LIST: f64 = 250.0;

/// The colours of edits, which also those tell apart who see fewer.
pub(super) const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#b3589a", "#a87800", "#3a8fc4", "#8c5a2b", "#6b6b6b"];
/// Of what is removed, added, changed.
pub(super) const DIFFERENCE: [&str; 3] = ["#c62828", "#1a7f37", "#a86400"];

pub(super) fn colour(picture: &Picture, mark: usize) -> &'static str {
    match picture.subject {
        Subject::Difference => DIFFERENCE[mark % DIFFERENCE.len()],
        _ => COLOURS[mark % COLOURS.len()],
    }
}

/// The classes of boxes, light and dark.
const STYLE: &str = "\
text{font-family:Helvetica,Arial,'Liberation Sans',sans-serif;fill:#1c2024}\
.h{font-size:12px;font-weight:bold}.p{font-size:11px}.s{font-size:10px;fill:#59636e}\
.t{font-size:15px;font-weight:bold}.g{font-size:9px;font-weight:bold;fill:#fff}.e{font-size:9px;fill:#59636e}\
.bg{fill:#fff}.b{fill:#fff;stroke:#8c959f}.c{fill:#f3f5f7;fill-opacity:.6;stroke:#afb8c1}\
.weights{fill:#e3edf8}.norm{fill:#e5f3ea}.act{fill:#fbf0dd}.pool{fill:#eee8f7}.sum{fill:#f8e7e9}.shape{fill:#eef0f2}\
.io{fill:#59636e;stroke:#59636e}.iot{fill:#fff}.ios{fill:#e3e6ea}\
.l{fill:none;stroke:#6e7781;stroke-width:1.1}.a{fill:#6e7781}.x{stroke-dasharray:4 3}.halo{fill:#fff;fill-opacity:.85}\
.gone text{opacity:.65}.o{paint-order:stroke;stroke:#f7f9fa;stroke-width:4px;stroke-linejoin:round}";
const DARK: &str = "\
@media (prefers-color-scheme:dark){text{fill:#e6e9ec}.s,.e{fill:#9aa4ae}.bg{fill:#15191e}.b{fill:#1d232a;stroke:#626d78}\
.c{fill:#1a1f26;stroke:#4a545f}.weights{fill:#1d3148}.norm{fill:#1c3627}.act{fill:#3b2f18}.pool{fill:#30284a}.sum{fill:#402529}\
.shape{fill:#2a3037}.io{fill:#aab4be;stroke:#aab4be}.iot{fill:#15191e}.ios{fill:#30373f}.l{stroke:#8b96a1}.a{fill:#8b96a1}.g{fill:#fff}\
.halo{fill:#15191e}.o{stroke:#1a1f26}}";

/// # Errors
/// More boxes than can be laid out.
pub fn write(picture: &Picture, depth: Depth) -> Result<String, Problem> {
    let fold = Fold::new(picture, depth, BOXES)?;
    let scene = Scene::new(picture, &fold);
    let laid = layout(picture, &scene);
    Ok(draw(picture, &scene, &laid))
}

fn draw(picture: &Picture, scene: &Scene, laid: &Laid) -> String {
    let top = MARGIN + 44.0;
    let list = list(picture);
    let heads = width(&picture.title, 15.0, true).max(width(&picture.figures, 10.0, false));
    let beside = if list.is_empty() { 0.0 } else { LIST + 28.0 };
    let total = (laid.width + beside).max(heads) + 2.0 * MARGIN;
    let listed = list.iter().map(|entry| entry.height).sum::<f64>();
    let height = top + laid.height.max(listed) + MARGIN;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" role=\"img\">",
        number(total.ceil()),
        number(height.ceil())
    );
    let _ = writeln!(out, "<title>{}</title>", escaped(&picture.title));
    let _ = writeln!(out, "<style>{STYLE}{}{DARK}</style>", paints(picture));
    let _ = writeln!(out, "<rect class=\"bg\" width=\"100%\" height=\"100%\"/>");
    text(&mut out, "t", MARGIN, MARGIN + 13.0, &cut(&picture.title, 120));
    text(&mut out, "s", MARGIN, MARGIN + 30.0, &picture.figures);
    let _ = writeln!(out, "<g transform=\"translate({},{})\">", number(MARGIN), number(top));
    inside(&mut out, picture, scene, laid);
    out.push_str("</g>\n");
    let x = MARGIN + laid.width + 28.0;
    let mut y = top;
    for entry in list {
        let _ = writeln!(
            out,
            "<rect class=\"k{}\" x=\"{}\" y=\"{}\" width=\"4\" height=\"{}\"/>",
            entry.mark,
            number(x),
            number(y),
            number(entry.height - 12.0)
        );
        let mut below = y;
        for (style, line) in &entry.lines {
            below += style.height();
            text(&mut out, style.class(), x + 12.0, below - 4.0, line);
        }
        y += entry.height;
    }
    out.push_str("</svg>\n");
    out
}

/// The classes of the marks: `k` fills, `m` and `v` draw lines.
fn paints(picture: &Picture) -> String {
    let paint = |mark: usize| {
        let colour = colour(picture, mark);
        format!(
            ".k{mark}{{fill:{colour}}}.m{mark}{{stroke:{colour};stroke-width:2}}.v{mark}{{stroke:{colour};stroke-width:1.8}}"
        )
    };
    let heat = ".hot{fill:#d64545;fill-opacity:.55}";
    (0..picture.marks.len()).map(paint).chain(picture.slowest.map(|_| heat.to_string())).collect()
}

/// An edit in the list beside the picture.
struct Entry {
    mark: usize,
    lines: Vec<(Style, String)>,
    height: f64,
}

/// No longer list.
const LISTED: usize = 60;

fn list(picture: &Picture) -> Vec<Entry> {
    let entry = |(mark, said): (usize, &super::Mark)| {
        let mut lines = vec![(Style::Head, said.name.clone())];
        lines.extend(wrapped(&said.text, 6).into_iter().map(|line| (Style::Plain, line)));
        lines.extend(wrapped(&said.result, 2).into_iter().map(|line| (Style::Small, line)));
        let height = lines.iter().map(|(style, _)| style.height()).sum::<f64>() + 12.0;
        Entry { mark, lines, height }
    };
    picture.marks.iter().enumerate().take(LISTED).map(entry).collect()
}

/// A text in lines that fit the list.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let room = LIST - 16.0;
    let mut lines: Vec<String> = vec![];
    let mut line = String::new();
    for word in text.split_whitespace() {
        let word = cut(word, 40);
        let longer = if line.is_empty() { word.clone() } else { format!("{line} {word}") };
        if width(&longer, 11.0, false) > room && !line.is_empty() {
            lines.push(std::mem::replace(&mut line, word));
        } else {
            line = longer;
        }
    }
    lines.extend((!line.is_empty()).then_some(line));
    if lines.len() > most {
        lines.truncate(most);
        lines[most - 1] += " ..";
    }
    lines
}

fn inside(out: &mut String, picture: &Picture, scene: &Scene, laid: &Laid) {
    let Some(inside) = &laid.inside else { return };
    let frame = &scene.frames[&laid.item];
    for one in &inside.boxes {
        draw_box(out, picture, scene, one);
    }
    for wire in &inside.wires {
        draw_wire(out, scene, frame, wire);
    }
    // above the links
    for wire in &inside.wires {
        if let Some((x, y)) = wire.label {
            let shape = &frame.links[&wire.key].shape;
            let wide = width(shape, LABEL, false);
            let _ = writeln!(
                out,
                "<rect class=\"halo\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"11\"/>",
                number(x - wide / 2.0 - 1.0),
                number(y - 6.0),
                number(wide + 2.0)
            );
            let _ = writeln!(
                out,
                "<text class=\"e\" text-anchor=\"middle\" x=\"{}\" y=\"{}\">{}</text>",
                number(x),
                number(y + 3.0),
                escaped(shape)
            );
        }
    }
}

fn draw_wire(out: &mut String, scene: &Scene, frame: &Frame, wire: &Wire) {
    let link: &Link = &frame.links[&wire.key];
    let mut class = "l".to_string();
    if let (Some(mark), State::Added | State::Removed) = (link.mark, link.state) {
        class += &format!(" v{mark}");
    }
    if link.state == State::Removed {
        class += " x";
    }
    let _ = write!(out, "<path class=\"{class}\" d=\"{}\">", path(&wire.points));
    let _ = writeln!(out, "<title>{}</title></path>", escaped(&link.shape));
    // at an unfolded box the line goes on
    if matches!(wire.key.1, End::Box(to) if !scene.frames.contains_key(&to)) {
        let paint = link.mark.map_or_else(|| "a".to_string(), |mark| format!("k{mark}"));
        let _ = writeln!(out, "<path class=\"{paint}\" d=\"{}\"/>", arrow(&wire.points));
    }
}

/// A line with round corners.
fn path(points: &[(f64, f64)]) -> String {
    let at = |(x, y): (f64, f64)| format!("{} {}", number(x), number(y));
    let mut text = format!("M{}", at(points[0]));
    for three in points.windows(3) {
        let (before, corner, behind) = (three[0], three[1], three[2]);
        let toward = |end: (f64, f64)| {
            let (dx, dy) = (end.0 - corner.0, end.1 - corner.1);
            let length = dx.hypot(dy);
            let cut = 10.0_f64.min(length / 2.0);
            if length < 0.01 { corner } else { (corner.0 + dx / length * cut, corner.1 + dy / length * cut) }
        };
        text += &format!("L{}Q{} {}", at(toward(before)), at(corner), at(toward(behind)));
    }
    text + &format!("L{}", at(points[points.len() - 1]))
}

/// The head of an arrow at the end of a line.
fn arrow(points: &[(f64, f64)]) -> String {
    let tip = points[points.len() - 1];
    let from = points.iter().rev().find(|point| (point.0 - tip.0).hypot(point.1 - tip.1) > 0.5).copied();
    let from = from.unwrap_or((tip.0, tip.1 - 1.0));
    let length = (tip.0 - from.0).hypot(tip.1 - from.1);
    let (dx, dy) = ((tip.0 - from.0) / length, (tip.1 - from.1) / length);
    let side = |sign: f64| (tip.0 - dx * 6.0 + sign * dy * 3.0, tip.1 - dy * 6.0 - sign * dx * 3.0);
    let at = |(x, y): (f64, f64)| format!("{} {}", number(x), number(y));
    format!("M{}L{}L{}Z", at(tip), at(side(1.0)), at(side(-1.0)))
}

fn draw_box(out: &mut String, picture: &Picture, scene: &Scene, laid: &Laid) {
    let item = &picture.items[laid.item];
    let is_gone = item.state == State::Removed;
    let marks: Vec<usize> = item.marks.iter().copied().collect();
    let paint = match (item.state, marks.as_slice()) {
        (State::Same, _) if item.layer.is_some() || laid.inside.is_some() => String::new(),
        (State::Same, []) => String::new(),
        (_, [.., mark]) => format!(" m{mark}"),
        _ => String::new(),
    };
    let dashes = if is_gone { " x" } else { "" };
    let _ = writeln!(out, "<g{}>", if is_gone { " class=\"gone\"" } else { "" });
    let _ = writeln!(out, "<title>{}</title>", escaped(&tip(picture, item)));
    let rect = |out: &mut String, class: &str, by: f64, round: f64| {
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{}\"/>",
            number(laid.x + by),
            number(laid.y - by),
            number(laid.width),
            number(laid.height),
            number(round)
        );
    };
    if laid.inside.is_some() {
        if item.form == Form::Run {
            rect(out, "c", 3.0, 6.0);
        }
        rect(out, &format!("c{paint}{dashes}"), 0.0, 6.0);
        inside(out, picture, scene, laid);
        let mut x = laid.x + PAD;
        let (head, y) = (header(item), laid.y + HEADER - 7.0);
        text(out, "h o", x, y, &head);
        x += Style::Head.width(&head) + 6.0;
        text(out, "s o", x, y, &item.kind);
        tag(out, picture, item, laid);
        out.push_str("</g>\n");
        return;
    }
    let is_round = matches!(item.form, Form::Input | Form::Output | Form::Beside);
    if matches!(item.form, Form::Run) {
        rect(out, "b", 3.0, 5.0);
    }
    let family = item.layer.map_or("", |layer| family(&picture.layers[layer].op));
    match is_round {
        true => rect(out, &format!("b io{dashes}"), 0.0, laid.height / 2.0),
        false => rect(out, &format!("b {family}{paint}{dashes}"), 0.0, if item.layer.is_some() { 4.0 } else { 5.0 }),
    }
    if let (Some(ms), Some(slowest)) = (item.ms, picture.slowest)
        && slowest > 0.0
    {
        let share = (ms / slowest).min(1.0);
        let _ = writeln!(
            out,
            "<rect class=\"hot\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"4\"/>",
            number(laid.x),
            number(laid.y + laid.height - 4.0),
            number(laid.width * share)
        );
    }
    let mut y = laid.y + 5.0;
    for (style, line) in lines(picture, item) {
        y += style.height();
        if is_round {
            let class = if style == Style::Head { "h iot" } else { "s ios" };
            let middle = laid.x + laid.width / 2.0;
            let _ = writeln!(
                out,
                "<text class=\"{class}\" text-anchor=\"middle\" x=\"{}\" y=\"{}\">{}</text>",
                number(middle),
                number(y - 4.0),
                escaped(&line)
            );
        } else {
            text(out, style.class(), laid.x + PAD, y - 4.0, &line);
        }
    }
    tag(out, picture, item, laid);
    out.push_str("</g>\n");
}

/// Which edit it was, at the right end of the first line.
fn tag(out: &mut String, picture: &Picture, item: &Item, laid: &Laid) {
    let (Some(said), Some(mark)) = (picture.tag(item), item.marks.last()) else { return };
    let wide = tag_width(&said);
    let (x, y) = (laid.x + laid.width - wide - 5.0, laid.y + 5.0);
    let _ = writeln!(
        out,
        "<rect class=\"k{mark}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"13\" rx=\"6.5\"/>",
        number(x),
        number(y),
        number(wide)
    );
    let _ = writeln!(
        out,
        "<text class=\"g\" text-anchor=\"middle\" x=\"{}\" y=\"{}\">{}</text>",
        number(x + wide / 2.0),
        number(y + 9.8),
        escaped(&said)
    );
}

/// What a pointer that rests on a box is told.
fn tip(picture: &Picture, item: &Item) -> String {
    let mut text = if item.place.is_empty() { item.label.clone() } else { item.place.clone() };
    if let Some(layer) = item.layer.map(|id| &picture.layers[id]) {
        text += &format!("\n{}\n{}", layer.text, layer.shape);
        for key in &layer.keys {
            text += &format!("\n{} {} {}", key.name, key.shape, key.fate);
        }
    }
    text
}

fn text(out: &mut String, class: &str, x: f64, y: f64, said: &str) {
    if said.is_empty() {
        return;
    }
    let _ = writeln!(out, "<text class=\"{class}\" x=\"{}\" y=\"{}\">{}</text>", number(x), number(y), escaped(said));
}

/// A length with one digit after the point, where it has some.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_string)
}

/// A text as XML holds it; what XML cannot hold is left out.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            // overrides of the direction turn what stands beside them, too
            c if c.is_control()
                || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}') =>
            {
                out.push('\u{fffd}');
            }
            c => out.push(c),
        }
    }
    out
}
