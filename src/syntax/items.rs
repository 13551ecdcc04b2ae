//! Building the tree of files: definitions, bases and `train` blocks.

use super::parse::{Builder, Context, Pair, Rule, child};
use super::tree::*;
use crate::diag::Result;
use crate::source::Span;

/// The grammar guarantees the children that are asked for here.
pub(super) const SHAPE: &str = "the grammar fixes the children of every rule";

impl Builder<'_> {
    pub fn file(&mut self, file: Pair) -> File {
        let mut items = vec![];
        for pair in file.into_inner() {
            match pair.as_rule() {
                Rule::bad => self.bad(&pair, Context::File),
                Rule::end | Rule::EOI => {}
                _ => {
                    let item = self.item(pair);
                    self.keep(item, &mut items);
                }
            }
        }
        File { items }
    }

    fn item(&mut self, pair: Pair) -> Result<Item> {
        Ok(match pair.as_rule() {
            Rule::version => Item::Version(self.int(&child(&pair, Rule::int).expect(SHAPE))?),
            Rule::import => Item::Use(self.string(&child(&pair, Rule::string).expect(SHAPE))),
            Rule::param_item => {
                let span = self.span(&pair);
                Item::Param(Param { span, ..self.param(child(&pair, Rule::param).expect(SHAPE))? })
            }
            Rule::let_stmt => Item::Let(self.let_stmt(pair)?),
            Rule::block => Item::Block(self.block(pair)?),
            Rule::network => Item::Network(self.network(pair)?),
            Rule::base => Item::Base(self.base(pair)?),
            Rule::train => Item::Train(self.train(pair)),
            _ => Item::Edit(self.edit(pair)?),
        })
    }

    fn params(&mut self, params: Option<Pair>) -> Result<Vec<Param>> {
        let Some(params) = params else { return Ok(vec![]) };
        params.into_inner().filter(|pair| pair.as_rule() == Rule::param).map(|pair| self.param(pair)).collect()
    }

    fn param(&mut self, pair: Pair) -> Result<Param> {
        let span = self.span(&pair);
        let name = self.name(&child(&pair, Rule::name).expect(SHAPE));
        let default = child(&pair, Rule::expr).map(|expr| self.expr(expr)).transpose()?;
        Ok(Param { name, default, span })
    }

    fn block(&mut self, pair: Pair) -> Result<Block> {
        let span = self.span(&pair);
        let name = self.name(&child(&pair, Rule::name).expect(SHAPE));
        let params = self.params(child(&pair, Rule::params));
        let body = self.body(child(&pair, Rule::body).expect(SHAPE), Context::Body);
        Ok(Block { name, params: params?, seq: child(&pair, Rule::kw_seq).is_some(), body, span })
    }

    fn network(&mut self, pair: Pair) -> Result<Network> {
        let span = self.span(&pair);
        let name = self.name(&child(&pair, Rule::name).expect(SHAPE));
        let params = self.params(child(&pair, Rule::params));
        let definition = match child(&pair, Rule::netbody) {
            Some(body) => NetworkDefinition::Body(self.network_body(body)),
            None => {
                let target = pair.clone().into_inner().filter(|inner| inner.as_rule() == Rule::name).last();
                let target = self.name(&target.expect(SHAPE));
                let args = self.args(child(&pair, Rule::args), target.span, self.depth)?;
                let roles = child(&pair, Rule::roles).map(|roles| self.roles(roles)).unwrap_or_default();
                NetworkDefinition::Alias { target, args, roles }
            }
        };
        Ok(Network { name, params: params?, definition, span })
    }

    fn network_body(&mut self, pair: Pair) -> NetworkBody {
        let span = self.span(&pair);
        let (mut inputs, mut preprocess, mut labels, mut stmts) = (vec![], vec![], vec![], vec![]);
        let mut roles = vec![];
        for pair in pair.into_inner() {
            match pair.as_rule() {
                Rule::input => {
                    let input = self.input(pair);
                    self.keep(input, &mut inputs);
                }
                Rule::preprocess => {
                    let settings = self.settings(child(&pair, Rule::settings).expect(SHAPE));
                    self.keep(settings, &mut preprocess);
                }
                Rule::labels => {
                    let label = self.expr(child(&pair, Rule::expr).expect(SHAPE));
                    self.keep(label, &mut labels);
                }
                Rule::roles => roles.extend(self.roles(pair)),
                _ => self.body_part(pair, Context::Network, &mut stmts),
            }
        }
        NetworkBody { inputs, preprocess, labels, roles, body: Body { stmts, span } }
    }

    pub fn input(&mut self, pair: Pair) -> Result<Input> {
        let span = self.span(&pair);
        let name = child(&pair, Rule::name).map(|name| self.name(&name));
        let dims = pair.into_inner().filter(|pair| pair.as_rule() == Rule::expr);
        Ok(Input { name, dims: dims.map(|dim| self.expr(dim)).collect::<Result<_>>()?, span })
    }

    /// `roles { stem = conv1; stages = [layer1, layer2] }`
    fn roles(&mut self, pair: Pair) -> Vec<RoleLine> {
        let mut lines = vec![];
        for line in pair.into_inner().filter(|line| line.as_rule() == Rule::role_line) {
            let line = self.role_line(&line);
            self.keep(line, &mut lines);
        }
        lines
    }

    fn role_line(&mut self, line: &Pair) -> Result<RoleLine> {
        let name = self.name(&child(line, Rule::name).expect(SHAPE));
        let list = child(line, Rule::role_list);
        let is_list = list.is_some();
        let selects = list.unwrap_or_else(|| line.clone()).into_inner().filter(|one| one.as_rule() == Rule::select);
        Ok(RoleLine { name, places: selects.map(|one| self.select(one)).collect::<Result<_>>()?, is_list })
    }

    /// `{ resize = 256, crop = 224 }`
    pub fn settings(&mut self, pair: Pair) -> Result<Settings> {
        let span = self.span(&pair);
        let entries = pair.into_inner().filter(|pair| pair.as_rule() == Rule::setting);
        let entries = entries.map(|entry| {
            let name = self.name(&child(&entry, Rule::name).expect(SHAPE));
            Ok((name, self.expr(child(&entry, Rule::expr).expect(SHAPE))?))
        });
        Ok(Settings { entries: entries.collect::<Result<_>>()?, span })
    }

    fn base(&mut self, pair: Pair) -> Result<Base> {
        let span = self.span(&pair);
        let name = self.name(&child(&pair, Rule::name).expect(SHAPE));
        let args = self.args(child(&pair, Rule::args), name.span, self.depth)?;
        let mut base = Base {
            name,
            args,
            weights: vec![],
            maps: vec![],
            ignores: vec![],
            joins: vec![],
            resizes: vec![],
            labels: vec![],
            inputs: vec![],
            preprocess: vec![],
            span,
        };
        for line in child(&pair, Rule::basebody).into_iter().flat_map(Pair::into_inner) {
            if let Err(problem) = self.base_line(line, &mut base) {
                self.report(problem);
            }
        }
        Ok(base)
    }

    fn base_line(&mut self, line: Pair, base: &mut Base) -> Result<()> {
        match line.as_rule() {
            Rule::weights => {
                let source = self.expr(child(&line, Rule::expr).expect(SHAPE))?;
                let part = child(&line, Rule::string).map(|part| self.string(&part));
                base.weights.push(Weights { source, part });
            }
            Rule::labels => base.labels.push(self.expr(child(&line, Rule::expr).expect(SHAPE))?),
            Rule::ignore => {
                let optional = child(&line, Rule::kw_ignore_may).is_some();
                let regex = self.string(&child(&line, Rule::string).expect(SHAPE));
                base.ignores.push(Ignore { regex, optional, span: self.span(&line) });
            }
            Rule::map => {
                let optional = child(&line, Rule::kw_map_may).is_some();
                let (from, to) = self.two_strings(&line);
                let changes = line.clone().into_inner().filter(|pair| pair.as_rule() == Rule::change);
                let changes = changes.map(|change| self.change(&change)).collect::<Result<_>>()?;
                base.maps.push(Map { from, to, changes, optional, span: self.span(&line) });
            }
            Rule::join => {
                let (from, to) = self.two_strings(&line);
                let order = self.expr(child(&line, Rule::expr).expect(SHAPE))?;
                base.joins.push(Join { from, to, order, span: self.span(&line) });
            }
            Rule::resize => {
                let regex = self.string(&child(&line, Rule::string).expect(SHAPE));
                let by = self.name(&child(&line, Rule::name).expect(SHAPE));
                let from = child(&line, Rule::expr).map(|from| self.expr(from)).transpose()?;
                base.resizes.push(Resize { regex, by, from, span: self.span(&line) });
            }
            Rule::input => base.inputs.push(self.input(line)?),
            Rule::preprocess => base.preprocess.push(self.settings(child(&line, Rule::settings).expect(SHAPE))?),
            Rule::bad => self.bad(&line, Context::Base),
            _ => {}
        }
        Ok(())
    }

    /// The two strings of `"regex" to "text"`.
    fn two_strings(&self, line: &Pair) -> (Spanned<String>, Spanned<String>) {
        let mut strings = line.clone().into_inner().filter(|pair| pair.as_rule() == Rule::string);
        let mut next = || self.string(&strings.next().expect(SHAPE));
        (next(), next())
    }

    fn change(&mut self, change: &Pair) -> Result<Change> {
        let span = self.span(change);
        let kind = match child(change, Rule::call) {
            Some(call) => {
                let name = self.name(&child(&call, Rule::name).expect(SHAPE));
                let args = self.args(child(&call, Rule::args), name.span, self.depth)?;
                ChangeKind::Call(name, args)
            }
            None => {
                let ends = change.clone().into_inner().filter(|pair| pair.as_rule() == Rule::int);
                let ends = ends.map(|end| Ok(self.int(&end)?.value)).collect::<Result<Vec<i64>>>()?;
                ChangeKind::Rows(ends[0], ends[1])
            }
        };
        Ok(Change { kind, span })
    }

    fn train(&mut self, pair: Pair) -> Train {
        let span = self.span(&pair);
        let mut lines = vec![];
        for pair in pair.into_inner() {
            match pair.as_rule() {
                Rule::train_line => {
                    let line = self.train_line(pair);
                    self.keep(line, &mut lines);
                }
                Rule::bad => self.bad(&pair, Context::Train),
                _ => {}
            }
        }
        Train { lines, span }
    }

    fn train_line(&mut self, pair: Pair) -> Result<TrainLine> {
        let span: Span = self.span(&pair);
        let word = self.name(&child(&pair, Rule::name).expect(SHAPE));
        if let Some(unfreeze) = child(&pair, Rule::unfreezing) {
            let target = self.selector(child(&unfreeze, Rule::selector).expect(SHAPE))?;
            let epochs = self.expr(child(&unfreeze, Rule::expr).expect(SHAPE))?;
            return Ok(TrainLine::Unfreeze { word, target, epochs, span });
        }
        if let Some(factor) = child(&pair, Rule::factor) {
            let target = self.selector(child(&factor, Rule::selector).expect(SHAPE))?;
            let by = self.expr(child(&factor, Rule::expr).expect(SHAPE))?;
            return Ok(TrainLine::Factor { word, target, by, span });
        }
        let values = child(&pair, Rule::values).into_iter().flat_map(Pair::into_inner);
        let values = values.filter(|pair| pair.as_rule() == Rule::expr);
        Ok(TrainLine::Values { word, values: values.map(|value| self.expr(value)).collect::<Result<_>>()?, span })
    }
}
