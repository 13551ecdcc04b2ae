//! Building the tree of edits, selectors and places.

use super::items::SHAPE;
use super::parse::{Builder, Pair, Rule, child, unescape};
use super::tree::*;
use crate::diag::{Code, Problem, Result, suggest};
use crate::source::Span;

impl Builder<'_> {
    pub fn edit(&mut self, pair: Pair) -> Result<Edit> {
        let span = self.span(&pair);
        let target = |builder: &mut Self| builder.selector(child(&pair, Rule::selector).expect(SHAPE));
        let new = |builder: &mut Self| builder.new_layers(child(&pair, Rule::new).expect(SHAPE));
        let kind = match pair.as_rule() {
            Rule::replace => EditKind::Replace { target: target(self)?, new: new(self)? },
            Rule::insert => {
                let side = child(&pair, Rule::side).expect(SHAPE);
                let side = self.side(side.into_inner().next().expect(SHAPE));
                EditKind::Insert { new: new(self)?, side, target: target(self)? }
            }
            Rule::remove => EditKind::Remove { target: target(self)? },
            Rule::around => {
                EditKind::ResidualAround { target: target(self)?, project: child(&pair, Rule::kw_auto).is_some() }
            }
            Rule::connect => {
                let with = self.name(&child(&pair, Rule::name).expect(SHAPE));
                if !["add", "concat"].contains(&with.value.as_str()) {
                    let message = format!("expected `add` or `concat`, found `{}`", with.value);
                    let hint = suggest(&with.value, ["add", "concat"]);
                    return Err(Problem::new(Code::Syntax, message).hints(hint).at(with.span));
                }
                let (from, to) = self.two_places(&pair)?;
                EditKind::Connect { from, to, with }
            }
            Rule::cut => {
                let word = pair.clone().into_inner();
                let side = word.into_iter().find(|inner| matches!(inner.as_rule(), Rule::kw_before | Rule::kw_after));
                let place = self.place(child(&pair, Rule::place).expect(SHAPE))?;
                EditKind::Cut { side: self.side(side.expect(SHAPE)), place }
            }
            Rule::append => EditKind::Append { new: new(self)? },
            Rule::prepend => EditKind::Prepend { new: new(self)? },
            Rule::set => self.set(&pair)?,
            Rule::output => {
                let name = self.name(&child(&pair, Rule::name).expect(SHAPE));
                EditKind::Output { name, place: self.place(child(&pair, Rule::place).expect(SHAPE))? }
            }
            Rule::rename => {
                let (from, to) = self.two_places(&pair)?;
                EditKind::Rename { from, to }
            }
            Rule::tie => {
                let (from, to) = self.two_places(&pair)?;
                EditKind::Tie { from, to }
            }
            Rule::freeze => EditKind::Freeze { target: target(self)? },
            Rule::unfreeze => EditKind::Unfreeze { target: target(self)? },
            _ => EditKind::Init { target: target(self)?, with: self.expr(child(&pair, Rule::expr).expect(SHAPE))? },
        };
        self.expect_behind(&pair, Edit { kind, span })
    }

    /// Moves an `expect` at the end of a statement to its selector.
    fn expect_behind(&self, pair: &Pair, mut edit: Edit) -> Result<Edit> {
        let Some(expect) = self.expectation(pair)? else { return Ok(edit) };
        if let EditKind::Replace { target, .. } | EditKind::Set { target, .. } | EditKind::Init { target, .. } =
            &mut edit.kind
            && let Some(first) = target.expect.replace(expect)
        {
            let problem = Problem::new(Code::Syntax, "a second `expect` in one statement");
            return Err(problem
                .see(first.span, "the first one")
                .at(target.expect.as_ref().map_or(edit.span, |it| it.span)));
        }
        Ok(edit)
    }

    fn side(&self, pair: Pair) -> Spanned<Side> {
        let value = match pair.as_rule() {
            Rule::kw_before => Side::Before,
            Rule::kw_after => Side::After,
            Rule::kw_at => Side::At,
            _ => Side::Beside,
        };
        Spanned { value, span: self.span(&pair) }
    }

    fn new_layers(&mut self, pair: Pair) -> Result<New> {
        let span = self.span(&pair);
        let chain = self.chain(child(&pair, Rule::chain).expect(SHAPE), self.depth)?;
        Ok(New { chain, name: child(&pair, Rule::name).map(|name| self.name(&name)), span })
    }

    fn two_places(&mut self, pair: &Pair) -> Result<(Place, Place)> {
        let mut places = pair.clone().into_inner().filter(|inner| inner.as_rule() == Rule::place);
        let from = self.place(places.next().expect(SHAPE))?;
        Ok((from, self.place(places.next().expect(SHAPE))?))
    }

    /// `set T { attr = v }`, or `set T.attr = v`, where the last segment is the attribute.
    fn set(&mut self, pair: &Pair) -> Result<EditKind> {
        if let Some(settings) = child(pair, Rule::settings) {
            let target = self.selector(child(pair, Rule::selector).expect(SHAPE))?;
            return Ok(EditKind::Set { target, entries: self.settings(settings)?.entries });
        }
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
        Ok(EditKind::Set { target, entries: vec![(attribute, value)] })
    }

    pub fn selector(&mut self, pair: Pair) -> Result<Selector> {
        let span = self.span(&pair);
        let mut lists = pair.clone().into_inner().filter(|inner| inner.as_rule() == Rule::selects);
        let include = self.selects(lists.next().expect(SHAPE))?;
        let except = lists.next().map(|list| self.selects(list)).transpose()?.unwrap_or_default();
        let expect = self.expectation(&pair)?;
        Ok(Selector { include, except, expect, span })
    }

    /// `expect 4`
    fn expectation(&self, pair: &Pair) -> Result<Option<Spanned<i64>>> {
        let expectation = child(pair, Rule::expectation);
        expectation.map(|expectation| self.int(&child(&expectation, Rule::int).expect(SHAPE))).transpose()
    }

    fn selects(&mut self, pair: Pair) -> Result<Vec<Select>> {
        pair.into_inner().filter(|inner| inner.as_rule() == Rule::select).map(|one| self.select(one)).collect()
    }

    fn select(&mut self, pair: Pair) -> Result<Select> {
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
