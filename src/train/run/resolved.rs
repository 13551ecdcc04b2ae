//! The spec as a run's folder keeps it: parameters with the values that the run was given, and files as they are found from
//! that folder, so that it means the same there.

use std::path::{Component, Path, PathBuf};

use crate::source::{FileId, Sources, Span, below};
use crate::syntax;
use crate::syntax::tree::{self, Expr, ExprKind, Item, TrainLine};
use crate::train::spec;
use crate::words::{Arg, Kind};

/// The text of the spec `file` as it is to lie in `folder`. `set` holds the values of `--set` options.
pub fn resolved(sources: &Sources, file: FileId, set: &[(String, String)], folder: &Path) -> String {
    let source = sources.file(file);
    let text = source.text.as_str();
    let dir = source.dir.clone().unwrap_or_default();
    let (tree, _) = syntax::parse(file, text);
    let mut changes: Vec<(Span, String)> = vec![];
    let mut path = |expr_span: Span, path: &str| {
        changes.push((expr_span, format!("\"{}\"", quoted(&relative(&below(&dir, path), folder)))));
    };
    for item in &tree.items {
        match item {
            Item::Use(name) if !name.value.starts_with("zoo:") => path(name.span, &name.value),
            Item::Base(base) => {
                let sources = base.weights.iter().map(|weights| &weights.source);
                for expr in sources.chain(&base.labels) {
                    if let ExprKind::Str(text) = &expr.kind {
                        path(expr.span, text);
                    }
                }
            }
            Item::Edit(edit) => {
                for part in &edit.parts {
                    let tree::Part::Expr(with) = part else { continue };
                    if let Some((file, span)) = call(with, "from").and_then(|args| first(args)) {
                        path(span, file);
                    }
                }
            }
            Item::Train(train) => {
                for line in &train.lines {
                    let TrainLine::Values { word, values, .. } = line else { continue };
                    for value in values {
                        let ExprKind::Call(name, args) = &value.kind else { continue };
                        let Some(call) = spec::call(&word.value, &name.value) else { continue };
                        for arg in &args.args {
                            let declared = match &arg.name {
                                Some(name) => call.args.iter().find(|one| one.name == name.value),
                                None => call.args.first(),
                            };
                            if let (Some(Arg { kind: Kind::Path, .. }), ExprKind::Str(text)) =
                                (declared, &arg.value.kind)
                            {
                                path(arg.value.span, text);
                            }
                        }
                    }
                }
            }
            _ => {}
        }
    }
    for item in &tree.items {
        let Item::Param(param) = item else { continue };
        let Some((_, value)) = set.iter().rev().find(|(name, _)| *name == param.name.value) else { continue };
        match &param.default {
            Some(default) => changes.push((default.span, value.clone())),
            None => changes.push((Span { start: param.span.end, ..param.span }, format!(" = {value}"))),
        }
    }
    changes.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = text.to_string();
    for (span, new) in changes {
        let range = span.start as usize..span.end as usize;
        if text.is_char_boundary(range.start) && text.is_char_boundary(range.end) {
            text.replace_range(range, &new);
        }
    }
    text
}

/// Whether the `train` block says this word.
pub fn says(sources: &Sources, file: FileId, word: &str) -> bool {
    let (tree, _) = syntax::parse(file, sources.file(file).text.as_str());
    tree.items.iter().any(|item| match item {
        Item::Train(train) => {
            train.lines.iter().any(|line| matches!(line, TrainLine::Values { word: name, .. } if name.value == word))
        }
        _ => false,
    })
}

fn call<'a>(expr: &'a Expr, name: &str) -> Option<&'a tree::Args> {
    match &expr.kind {
        ExprKind::Call(own, args) if own.value == name => Some(args),
        _ => None,
    }
}

fn first(args: &tree::Args) -> Option<(&str, Span)> {
    match args.args.first().map(|arg| &arg.value) {
        Some(Expr { kind: ExprKind::Str(text), span }) => Some((text, *span)),
        _ => None,
    }
}

/// `path` as it is written in `folder`; both may be relative to where archc was started.
pub fn relative(path: &Path, folder: &Path) -> String {
    let full = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or(path.to_path_buf());
    let (path, folder) = (full(path), full(folder));
    let shared = path.components().zip(folder.components()).take_while(|(a, b)| a == b).count();
    // nothing in common but the root: a path that climbs all the way says less than one from there
    if shared <= 1 {
        return path.display().to_string();
    }
    let up = folder.components().skip(shared).map(|_| Component::ParentDir);
    let down = path.components().skip(shared);
    let relative: PathBuf = up.chain(down).collect();
    if relative.as_os_str().is_empty() { ".".into() } else { relative.display().to_string() }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
