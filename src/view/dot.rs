//! A picture for Graphviz: unfolded boxes are clusters.

use std::fmt::Write;

use super::fold::Fold;
use super::scene::Scene;
use super::svg::colour;
use super::text::{header, lines};
use super::{Depth, Form, Picture, State};
use crate::diag::Problem;

/// Graphviz takes minutes for so many.
const BOXES: usize = 20_000;

/// # Errors
/// More boxes than Graphviz lays out.
pub fn write(picture: &Picture, depth: Depth) -> Result<String, Problem> {
    let fold = Fold::new(picture, depth, BOXES)?;
    let scene = Scene::new(picture, &fold);
    let mut out = String::from("digraph {\n");
    let _ = writeln!(out, "  label = {}; labelloc = t;", quoted(&format!("{}\n{}", picture.title, picture.figures)));
    out.push_str(
        "  node [shape = box, style = \"filled,rounded\", fillcolor = white, fontname = Helvetica, fontsize = 10];\n",
    );
    out.push_str("  edge [fontname = Helvetica, fontsize = 8, arrowsize = 0.6];\n");
    boxes(&mut out, picture, &scene, 0, 1);
    for ((from, to), link) in scene.ways() {
        let mut said = vec![];
        if link.is_labelled {
            said.push(format!("label = {}", quoted(&link.shape)));
        }
        if let (Some(mark), State::Added | State::Removed) = (link.mark, link.state) {
            said.push(format!("color = \"{}\"", colour(picture, mark)));
        }
        if link.state == State::Removed {
            said.push("style = dashed".into());
        }
        let said = if said.is_empty() { String::new() } else { format!(" [{}]", said.join(", ")) };
        let _ = writeln!(out, "  n{from} -> n{to}{said};");
    }
    out.push_str("}\n");
    Ok(out)
}

fn boxes(out: &mut String, picture: &Picture, scene: &Scene, holder: usize, depth: usize) {
    let blanks = "  ".repeat(depth);
    for id in &scene.frames[&holder].boxes {
        let item = &picture.items[*id];
        // an unfolded box shows itself what of it was changed
        let is_painted = picture.tag(item).is_some() && (item.state != State::Same || !scene.frames.contains_key(id));
        let paint = item.marks.last().filter(|_| is_painted);
        let line = paint.map(|mark| format!("color = \"{}\", penwidth = 2", colour(picture, *mark)));
        if scene.frames.contains_key(id) {
            let _ = writeln!(out, "{blanks}subgraph cluster_{id} {{");
            let head = [header(item), item.kind.clone(), picture.tag(item).unwrap_or_default()];
            let head: Vec<String> = head.into_iter().filter(|part| !part.is_empty()).collect();
            let _ = writeln!(out, "{blanks}  label = {}; style = rounded;", quoted(&head.join("  ")));
            if let Some(line) = line {
                let _ = writeln!(out, "{blanks}  graph [{line}];");
            }
            boxes(out, picture, scene, *id, depth + 1);
            let _ = writeln!(out, "{blanks}}}");
            continue;
        }
        let mut said: Vec<String> = lines(picture, item).into_iter().map(|(_, line)| line).collect();
        said.extend(picture.tag(item));
        let mut attributes = vec![format!("label = {}", quoted(&said.join("\n")))];
        attributes.extend(line);
        if item.state == State::Removed {
            attributes.push("style = \"rounded,dashed\"".into());
        }
        if matches!(item.form, Form::Input | Form::Output | Form::Beside) {
            attributes.push("shape = oval".into());
        }
        let _ = writeln!(out, "{blanks}n{id} [{}];", attributes.join(", "));
    }
}

/// A text between quotes. A backslash is one, not the beginning of an escape.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push('\u{fffd}'),
            // Graphviz reads entities of HTML in every text
            '&' => out.push_str("&amp;"),
            c => out.push(c),
        }
    }
    out + "\""
}
