//! A picture for Markdown: a Mermaid diagram, and the edits as a list below it.

use std::fmt::Write;

use super::fold::Fold;
use super::scene::Scene;
use super::svg::colour;
use super::text::{header, lines};
use super::{Depth, Form, Picture, State};
use crate::diag::{Code, Problem};

/// No more links and letters are drawn by Mermaid as it is set on pages of code.
const LINKS: usize = 500;
const LETTERS: usize = 50_000;

/// # Errors
/// More than Mermaid draws.
pub fn write(picture: &Picture, depth: Depth) -> Result<String, Problem> {
    let fold = Fold::new(picture, depth, LINKS)?;
    let scene = Scene::new(picture, &fold);
    let mut out = String::from("flowchart TB\n");
    boxes(&mut out, picture, &scene, 0, 1);
    let ways = scene.ways();
    let mut painted = vec![];
    for (at, ((from, to), link)) in ways.iter().enumerate() {
        let line = if link.state == State::Removed { "-.->" } else { "-->" };
        let label = if link.is_labelled { format!("|{}|", quoted(&link.shape)) } else { String::new() };
        let _ = writeln!(out, "  n{from} {line}{label} n{to}");
        if let (Some(mark), State::Added | State::Removed) = (link.mark, link.state) {
            painted.push((at, mark));
        }
    }
    for (at, mark) in painted {
        let _ = writeln!(out, "  linkStyle {at} stroke:{}", colour(picture, mark));
    }
    if ways.len() > LINKS || out.chars().count() > LETTERS {
        let message = format!(
            "the diagram has {} links and {} letters, and Mermaid draws up to {LINKS} and {LETTERS}",
            ways.len(),
            out.chars().count()
        );
        let hint = "`--depth N` folds what lies deeper than N labels, `--select SELECTOR` draws a part";
        return Err(Problem::new(Code::Limit, message).hint(hint));
    }
    let mut page = format!("# {}\n\n{}\n\n```mermaid\n{out}```\n", plain(&picture.title), plain(&picture.figures));
    for (at, mark) in picture.marks.iter().enumerate() {
        let text = mark.text.replace('`', "'");
        if at == 0 {
            page.push('\n');
        }
        let _ = writeln!(page, "- **{}** `{}` ({})", plain(&mark.name), one_line(&text), plain(&mark.result));
    }
    Ok(page)
}

fn boxes(out: &mut String, picture: &Picture, scene: &Scene, holder: usize, depth: usize) {
    let blanks = "  ".repeat(depth);
    for id in &scene.frames[&holder].boxes {
        let item = &picture.items[*id];
        // an unfolded box shows itself what of it was changed
        let is_painted = picture.tag(item).is_some() && (item.state != State::Same || !scene.frames.contains_key(id));
        let paint = item.marks.last().filter(|_| is_painted).map(|mark| {
            let dashes = if item.state == State::Removed { ",stroke-dasharray:4 3" } else { "" };
            format!("{blanks}style n{id} stroke:{},stroke-width:2px{dashes}", colour(picture, *mark))
        });
        if scene.frames.contains_key(id) {
            let head = [header(item), item.kind.clone(), picture.tag(item).unwrap_or_default()];
            let head: Vec<String> = head.into_iter().filter(|part| !part.is_empty()).collect();
            let _ = writeln!(out, "{blanks}subgraph n{id} [{}]", quoted(&head.join(" ")));
            boxes(out, picture, scene, *id, depth + 1);
            let _ = writeln!(out, "{blanks}end");
        } else {
            let mut said: Vec<String> = lines(picture, item).into_iter().map(|(_, line)| line).collect();
            // a sign at the beginning of a line would begin a list
            said.extend(picture.tag(item).map(|tag| format!("({tag})")));
            let label = quoted(&said.join("\n"));
            match item.form {
                Form::Input | Form::Output | Form::Beside => {
                    let _ = writeln!(out, "{blanks}n{id}([{label}])");
                }
                _ => {
                    let _ = writeln!(out, "{blanks}n{id}[{label}]");
                }
            }
        }
        if let Some(paint) = paint {
            let _ = writeln!(out, "{paint}");
        }
    }
}

/// A text between quotes: everything that Mermaid, Markdown or HTML could take for its own is written by its number.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\n' => out.push_str("<br>"),
            c if c.is_control() => out.push('\u{fffd}'),
            c if c.is_alphanumeric() || " .,=()[]+-*/_:%".contains(c) => out.push(c),
            c => {
                let _ = write!(out, "#{};", u32::from(c));
            }
        }
    }
    out + "\""
}

/// A text of a line that Markdown takes as it is.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in one_line(text).chars() {
        if "\\`*_{}[]<>#|~&!".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
