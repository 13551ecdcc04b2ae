//! Which boxes of a picture are unfolded.

use super::{Form, Picture, State};
use crate::diag::{Code, Problem};

/// How far a picture is unfolded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// As far as a page holds, and where something was changed a little farther.
    Fitting,
    /// Down to so many labels.
    Labels(usize),
    /// Everything, and equal neighbours one by one.
    Whole,
}

/// The boxes that a page holds.
const PAGE: usize = 40;
/// The same with what was changed.
const CHANGED: usize = 120;

/// Whether each item is unfolded.
pub struct Fold {
    pub open: Vec<bool>,
    /// Whether equal neighbours are drawn one by one.
    pub each: bool,
}

impl Fold {
    /// # Errors
    /// More boxes than `limit`.
    pub fn new(picture: &Picture, depth: Depth, limit: usize) -> Result<Fold, Problem> {
        let to = |labels: usize| Fold::to(picture, labels, depth == Depth::Whole);
        let fold = match depth {
            Depth::Labels(labels) => to(labels),
            Depth::Whole => to(usize::MAX),
            Depth::Fitting => fitting(picture),
        };
        let boxes = fold.boxes(picture);
        if boxes <= limit {
            return Ok(fold);
        }
        let message = format!("the picture would have {boxes} boxes, and {limit} can be laid out");
        let hint = "`--depth N` folds what lies deeper than N labels, `--select SELECTOR` draws a part, \
                    `--to html` unfolds as you look";
        Err(Problem::new(Code::Limit, message).hint(hint))
    }

    fn to(picture: &Picture, labels: usize, each: bool) -> Fold {
        let mut open = vec![false; picture.items.len()];
        let mut stack = vec![(0, 0)];
        while let Some((id, depth)) = stack.pop() {
            let item = &picture.items[id];
            if item.children.is_empty() {
                continue;
            }
            open[id] = depth < labels || id == 0;
            // of a run its places are as deep as itself, of a range what it holds
            let inner = depth + usize::from(matches!(item.form, Form::Scope | Form::Network));
            stack.extend(item.children.iter().map(|child| (*child, inner)));
        }
        Fold { open, each }
    }

    /// Unfolds an item; a run with its first place.
    fn unfold(&mut self, picture: &Picture, id: usize) {
        self.open[id] = true;
        if picture.items[id].form == Form::Run {
            self.open[picture.items[id].children[0]] = true;
        }
    }

    /// What is drawn directly inside an unfolded item.
    pub fn inside<'a>(&self, picture: &'a Picture, id: usize) -> &'a [usize] {
        let item = &picture.items[id];
        if item.form == Form::Run && !self.each {
            return &picture.items[item.children[0]].children;
        }
        &item.children
    }

    /// How many boxes are seen.
    pub fn boxes(&self, picture: &Picture) -> usize {
        let mut stack = vec![0];
        let mut boxes = 0;
        while let Some(id) = stack.pop() {
            let inside: &[usize] = if self.open[id] { self.inside(picture, id) } else { &[] };
            boxes += inside.len();
            stack.extend(inside);
        }
        boxes
    }
}

fn fitting(picture: &Picture) -> Fold {
    let mut fold = Fold::to(picture, 1, false);
    for labels in 2.. {
        let next = Fold::to(picture, labels, false);
        if next.boxes(picture) > PAGE || next.open == fold.open {
            break;
        }
        fold = next;
    }
    // scopes that were changed in part, level by level; what is all new says so folded
    loop {
        let mut stack = vec![0];
        let mut found = vec![];
        while let Some(id) = stack.pop() {
            for child in fold.inside(picture, id) {
                let item = &picture.items[*child];
                if fold.open[*child] {
                    stack.push(*child);
                } else if !item.children.is_empty() && !item.marks.is_empty() {
                    found.push(*child);
                }
            }
        }
        let partly = found.iter().any(|id| picture.items[*id].state == State::Same);
        found.retain(|id| !partly || picture.items[*id].state == State::Same);
        if found.is_empty() {
            return fold;
        }
        let before = fold.open.clone();
        for id in found {
            fold.unfold(picture, id);
        }
        if fold.boxes(picture) > CHANGED {
            return Fold { open: before, each: fold.each };
        }
    }
}
