//! Building the tree of edits, selectors and places.

use super::items::SHAPE;
use super::parse::{Builder, Pair, Rule, child, unescape};
use super::tree::*;
use crate::diag::{Code, Problem, Result};
use crate::source::Span;

/// The words that may stand for a row.
const ROW: (&str, Pick) = ("new", Pick::New);
/// Those that may stand for a channel.
const CHANNEL: &[(&str, Pick)] = &[("mean", Pick::Mean), ("sum", Pick::Sum), ("zeros", Pick::Zeros), ROW];

impl Builder<'_> {
    /// An edit of any verb: the parts that its rule has in the grammar, in their order.
    pub fn edit(&mut self, pair: Pair) -> Result<Edit> {
        let span = self.span(&pair);
        let mut inner = pair.into_inner();
        let verb = self.name(&inner.next().expect(SHAPE));
        let mut parts = vec![];
        let mut preserving = None;
        for pair in inner {
            match pair.as_rule() {
                Rule::selector => parts.push(Part::Selector(self.selector(pair)?)),
                Rule::place => parts.push(Part::Place(self.place(pair)?)),
                Rule::path => parts.push(Part::Path(self.place(child(&pair, Rule::place).expect(SHAPE))?)),
                Rule::new => parts.push(Part::New(self.new_layers(pair)?)),
                Rule::branch => parts.push(Part::New(self.branch(pair)?)),
                Rule::named_input => parts.push(Part::Input(self.input(pair)?)),
                Rule::name => parts.push(Part::Name(self.name(&pair))),
                Rule::expr => parts.push(Part::Expr(self.expr(pair)?)),
                Rule::settings => parts.push(Part::Entries(self.settings(pair)?.entries)),
                Rule::assignment => {
                    let (target, entry) = self.assignment(&pair)?;
                    parts.extend([Part::Selector(target), Part::Entries(vec![entry])]);
                }
                Rule::keeping => parts.push(Part::Keeping(self.keeping(pair)?)),
                Rule::preserving => preserving = Some(self.span(&pair)),
                Rule::expectation => self.expect_behind(&pair, &mut parts)?,
                _ if pair.as_str().starts_with(|first: char| first.is_ascii_alphabetic()) => {
                    parts.push(Part::Word(self.name(&pair)));
                }
                _ => {}
            }
        }
        Ok(Edit { verb, parts, preserving, span })
    }

    /// Moves an `expect` at the end of a statement to its selector.
    fn expect_behind(&self, expectation: &Pair, parts: &mut [Part]) -> Result<()> {
        let expect = self.expected(expectation)?;
        let target =
            parts.iter_mut().find_map(|part| if let Part::Selector(target) = part { Some(target) } else { None });
        match target.and_then(|target| target.expect.replace(expect.clone())) {
            None => Ok(()),
            Some(first) => Err(Problem::new(Code::Syntax, "a second `expect` in one statement")
                .see(first.span, "the first one")
                .at(expect.span)),
        }
    }

    fn new_layers(&mut self, pair: Pair) -> Result<New> {
        let span = self.span(&pair);
        let chain = self.chain(child(&pair, Rule::chain).expect(SHAPE), self.depth)?;
        let keeping = child(&pair, Rule::keeping).map(|pair| self.keeping(pair)).transpose()?;
        Ok(New { chain, name: child(&pair, Rule::name).map(|name| self.name(&name)), keeping, span })
    }

    fn keeping(&mut self, pair: Pair) -> Result<Keeping> {
        let span = self.span(&pair);
        let kind = match child(&pair, Rule::heirs) {
            Some(heirs) => {
                let heirs = heirs.into_inner().filter(|inner| inner.as_rule() == Rule::heir);
                let heirs: Vec<Heir> = heirs.map(|heir| self.heir(heir)).collect::<Result<_>>()?;
                if heirs.is_empty() {
                    let problem = Problem::new(Code::Syntax, "these braces keep nothing");
                    return Err(problem.hint("a line for each new layer: `keeping { new = old }`").at(span));
                }
                KeepingKind::Each(heirs)
            }
            None => KeepingKind::Alike(self.hows(pair)?),
        };
        Ok(Keeping { kind, span })
    }

    fn heir(&mut self, pair: Pair) -> Result<Heir> {
        let span = self.span(&pair);
        let mut places = pair.clone().into_inner().filter(|inner| inner.as_rule() == Rule::place);
        let new = self.place(places.next().expect(SHAPE))?;
        let old = self.place(places.next().expect(SHAPE))?;
        Ok(Heir { new, old, hows: self.hows(pair)?, span })
    }

    fn hows(&mut self, pair: Pair) -> Result<Vec<How>> {
        let mut hows: Vec<How> = vec![];
        for pair in pair.into_inner().filter(|inner| inner.as_rule() == Rule::how) {
            let how = self.how(pair)?;
            // rows and channels may be picked twice, one after the other
            let is_plain = !matches!(how.value, HowKind::Rows(_) | HowKind::Channels(_));
            if let Some(first) = hows.iter().find(|other| is_plain && other.value == how.value) {
                let problem = Problem::new(Code::Duplicate, format!("`{}` is said twice", how.value));
                return Err(problem.see(first.span, "first said here").at(how.span));
            }
            hows.push(how);
        }
        Ok(hows)
    }

    fn how(&mut self, pair: Pair) -> Result<How> {
        let span = self.span(&pair);
        let mut inner = pair.into_inner();
        let value = match inner.next().expect(SHAPE).as_rule() {
            Rule::kw_rows => HowKind::Rows(self.picks(inner.next().expect(SHAPE), &[ROW])?),
            Rule::kw_channels => match inner.next().expect(SHAPE) {
                repeat if repeat.as_rule() == Rule::kw_repeat => HowKind::Repeat,
                picks => HowKind::Channels(self.picks(picks, CHANNEL)?),
            },
            Rule::kw_center => HowKind::Center,
            Rule::kw_weight => HowKind::Tensor("weight"),
            Rule::kw_bias => HowKind::Tensor("bias"),
            _ => HowKind::Weights,
        };
        Ok(How { value, span })
    }

    /// `[0..10, 17, new]`
    fn picks(&mut self, pair: Pair, words: &[(&str, Pick)]) -> Result<Vec<Spanned<Pick>>> {
        let whole = self.span(&pair);
        let picks: Vec<Pair> = pair.into_inner().filter(|inner| inner.as_rule() == Rule::pick).collect();
        if picks.is_empty() {
            return Err(Problem::new(Code::Syntax, "these brackets pick nothing").at(whole));
        }
        let picks = picks.into_iter().map(|pick| {
            let span = self.span(&pick);
            let inner = pick.into_inner().next().expect(SHAPE);
            let value = match inner.as_rule() {
                Rule::place_index => Pick::Old(self.place_index(inner)?),
                Rule::bounds => self.bounds(inner)?,
                _ => {
                    let name = self.name(&inner).value;
                    let word = words.iter().find(|(word, _)| *word == name);
                    word.map_or(Pick::Named(name), |(_, pick)| pick.clone())
                }
            };
            Ok(Spanned { value, span })
        });
        picks.collect()
    }

    /// `0..classes`
    fn bounds(&mut self, pair: Pair) -> Result<Pick> {
        let (mut from, mut to, mut inclusive, mut behind) = (None, None, false, false);
        for pair in pair.into_inner() {
            let end = match pair.as_rule() {
                Rule::dotdot => {
                    behind = true;
                    continue;
                }
                Rule::dotdot_eq => {
                    (behind, inclusive) = (true, true);
                    continue;
                }
                Rule::name => End::Named(self.name(&pair).value),
                _ => End::Number(self.int(&pair)?.value),
            };
            *(if behind { &mut to } else { &mut from }) = Some(end);
        }
        let number = |end: &Option<End>| match end {
            None => Some(None),
            Some(End::Number(number)) => Some(Some(*number)),
            Some(End::Named(_)) => None,
        };
        Ok(match (number(&from), number(&to)) {
            (Some(from), Some(to)) => Pick::Old(Index::Range { from, to, inclusive }),
            _ => Pick::Between { from, to, inclusive },
        })
    }

    /// `-> chain` behind a place.
    fn branch(&mut self, pair: Pair) -> Result<New> {
        let span = self.span(&pair);
        Ok(New { chain: self.chain(pair, self.depth)?, name: None, keeping: None, span })
    }

    /// `T.attr = v`, where the last segment is the attribute.
    fn assignment(&mut self, pair: &Pair) -> Result<(Selector, (Name, Expr))> {
        let mut place = self.place(child(pair, Rule::place).expect(SHAPE))?;
        let value = self.expr(child(pair, Rule::expr).expect(SHAPE))?;
        let written = place.span;
        let attribute = match (place.segments.pop(), place.segments.last()) {
            (Some(Spanned { value: Segment::Glob(name), span }), Some(last)) if is_name(&name) => {
                place.span = place.span.to(last.span);
                place.span.end = last.span.end;
                Spanned { value: name, span }
            }
            _ => {
                let problem = Problem::new(Code::Syntax, "expected a layer and the argument to change");
                return Err(problem.hint("write `set layer4[0].conv2.stride = 1`").at(written));
            }
        };
        let span = place.span;
        let select = Select { kind: SelectKind::Place(place), of: None, filter: None, span };
        let target = Selector { include: vec![select], except: vec![], expect: None, span };
        Ok((target, (attribute, value)))
    }

    pub fn selector(&mut self, pair: Pair) -> Result<Selector> {
        let span = self.span(&pair);
        let mut lists = pair.clone().into_inner().filter(|inner| inner.as_rule() == Rule::selects);
        let include = self.selects(lists.next().expect(SHAPE))?;
        let except = lists.next().map(|list| self.selects(list)).transpose()?.unwrap_or_default();
        let expect = child(&pair, Rule::expectation).map(|pair| self.expected(&pair)).transpose()?;
        Ok(Selector { include, except, expect, span })
    }

    /// `expect 4`
    fn expected(&self, pair: &Pair) -> Result<Spanned<i64>> {
        self.int(&child(pair, Rule::int).expect(SHAPE))
    }

    fn selects(&mut self, pair: Pair) -> Result<Vec<Select>> {
        pair.into_inner().filter(|inner| inner.as_rule() == Rule::select).map(|one| self.select(one)).collect()
    }

    pub fn select(&mut self, pair: Pair) -> Result<Select> {
        let span = self.span(&pair);
        let of = child(&pair, Rule::name).map(|name| self.name(&name));
        let filter = child(&pair, Rule::expr).map(|expr| self.expr(expr)).transpose()?;
        let mut places = pair.into_inner().filter(|inner| inner.as_rule() == Rule::place);
        let kind = match (places.next(), places.next()) {
            (None, _) => SelectKind::All,
            (Some(place), None) => SelectKind::Place(self.place(place)?),
            (Some(first), Some(last)) => SelectKind::Range(self.place(first)?, self.place(last)?),
        };
        Ok(Select { kind, of, filter, span })
    }

    pub fn place(&mut self, pair: Pair) -> Result<Place> {
        let span = self.span(&pair);
        let mut segments = vec![];
        for pair in pair.into_inner() {
            let span = self.span(&pair);
            let value = match pair.as_rule() {
                Rule::glob => Segment::Glob(glob(pair.as_str().trim_end(), span)?),
                Rule::role => Segment::Role(pair.as_str()[1..].to_string()),
                Rule::tap => Segment::Tap(self.int(&child(&pair, Rule::int).expect(SHAPE))?.value),
                Rule::indices => {
                    let indices = pair.into_inner().filter(|inner| inner.as_rule() == Rule::place_index);
                    Segment::Indices(indices.map(|index| self.place_index(index)).collect::<Result<_>>()?)
                }
                _ => continue,
            };
            segments.push(Spanned { value, span });
        }
        Ok(Place { segments, span })
    }

    fn place_index(&mut self, pair: Pair) -> Result<Index> {
        let (mut from, mut to, mut range, mut inclusive) = (None, None, false, false);
        for pair in pair.into_inner() {
            match pair.as_rule() {
                Rule::star => return Ok(Index::All),
                Rule::dotdot => range = true,
                Rule::dotdot_eq => (range, inclusive) = (true, true),
                _ if range => to = Some(self.int(&pair)?.value),
                _ => from = Some(self.int(&pair)?.value),
            }
        }
        Ok(match from {
            Some(at) if !range => Index::At(at),
            from => Index::Range { from, to, inclusive },
        })
    }
}

fn is_name(text: &str) -> bool {
    let word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    word && !text.starts_with(|first: char| first.is_ascii_digit())
}

/// No name in a path is longer, in bytes.
const MAX_LABEL: usize = 1_000;

/// The text of a glob, checked.
fn glob(written: &str, span: Span) -> Result<String> {
    let quoted = written.starts_with('"');
    let text = if quoted { unescape(written) } else { written.to_string() };
    if quoted {
        if text.is_empty() {
            return Err(Problem::new(Code::Syntax, "a name in a path cannot be empty").at(span));
        }
        if let Some(found) = text.find(['.', '[', ']']) {
            let message = format!("a name in a path cannot hold `{}`", &text[found..found + 1]);
            return Err(Problem::new(Code::Syntax, message).hint("only the names are quoted: `a.\"b-0\".c`").at(span));
        }
        if text.len() > MAX_LABEL {
            let message = format!("a name in a path has at most {MAX_LABEL} bytes, got {}", text.len());
            return Err(Problem::new(Code::Limit, message).at(span));
        }
        if text == "**" {
            return Err(Problem::new(Code::Syntax, "`**` goes without quotes").at(span));
        }
    } else if text.contains("**") && text != "**" {
        let problem = Problem::new(Code::Syntax, format!("`**` stands alone between dots, found `{text}`"));
        return Err(problem.hint("part of a name is a single `*`").at(span));
    }
    Ok(text)
}
