//! The ways into and out of a place, and what follows when one of them is led elsewhere: uses, scopes, outputs.

use rustc_hash::{FxHashMap, FxHashSet};

use super::select::Target;
use crate::diag::{Code, Problem, list};
use crate::graph::{Graph, NodeId, OWN_OUTPUT, Patch, Use, path};

/// A place with its layers at hand.
pub struct Site {
    pub target: Target,
    pub nodes: Vec<NodeId>,
    inside: FxHashSet<NodeId>,
    /// As messages print it.
    pub shown: String,
}

impl Site {
    pub fn new(graph: &Graph, target: Target) -> Site {
        let nodes = target.nodes(graph);
        let shown = target.display(graph);
        Site { inside: nodes.iter().copied().collect(), nodes, shown, target }
    }

    /// The scope that holds the place.
    pub fn holder(&self, graph: &Graph) -> String {
        path::parent(&self.target.path(graph)).to_string()
    }

    pub fn holds(&self, id: NodeId) -> bool {
        self.inside.contains(&id)
    }

    /// The one value that flows in. What is made of parameters alone is no way in.
    pub fn way_in(&self, graph: &Graph) -> Result<NodeId, Problem> {
        let mut edges: Vec<(NodeId, NodeId)> = vec![];
        for id in &self.nodes {
            for source in graph.operands(*id) {
                if !self.holds(source) && !graph.is_constant(source) {
                    edges.push((source, *id));
                }
            }
        }
        let Some((one, _)) = edges.first() else {
            return Err(self.takes_nothing(graph));
        };
        if edges.iter().all(|(source, _)| source == one) {
            return Ok(*one);
        }
        let shown = |(from, to): &(NodeId, NodeId)| {
            (path::display(&graph.node(*from).path), path::display(&graph.node(*to).path))
        };
        Err(self.several(graph, "in", edges.iter().map(shown)))
    }

    fn takes_nothing(&self, graph: &Graph) -> Problem {
        let problem = Problem::new(Code::SeveralWays, format!("nothing flows into `{}`", self.shown));
        // of a parameter the layers that compute with it
        let readers = self.nodes.iter().flat_map(|id| graph.readers(*id)).filter(|(id, _)| !graph.is_constant(*id));
        let mut names: Vec<String> = readers.map(|(id, _)| path::display(&graph.node(id).path)).collect();
        // the graph has the youngest first
        names.reverse();
        names.truncate(3);
        match names.is_empty() {
            true => problem.hint("name a layer that takes a value"),
            false => problem.hint(format!("name a layer that takes a value, such as {}", list(&names))),
        }
    }

    /// The one value that is used outside, the network's own output included. Named outputs stay with their layers and
    /// are no way out.
    pub fn way_out(&self, graph: &Graph) -> Result<NodeId, Problem> {
        self.find_out(graph, false)
    }

    /// The same for a place that goes: a named output inside it is in the way.
    pub fn way_out_of_all(&self, graph: &Graph) -> Result<NodeId, Problem> {
        self.find_out(graph, true)
    }

    fn find_out(&self, graph: &Graph, with_named: bool) -> Result<NodeId, Problem> {
        let leaves = |one: &Use| match one {
            Use::Operand { node, .. } => !self.holds(*node),
            Use::Output(name) => name == OWN_OUTPUT || with_named,
        };
        let is_out = |id: &NodeId| {
            graph.readers(*id).any(|(node, _)| !self.holds(node))
                || graph.output_names(*id).any(|name| name == OWN_OUTPUT || with_named)
        };
        let values: Vec<NodeId> = self.nodes.iter().copied().filter(is_out).collect();
        match values.as_slice() {
            [one] => Ok(*one),
            [] if !with_named => self.find_out(graph, true),
            // a branch that nothing takes yet ends with its own value
            [] => self.own_output(graph).ok_or_else(|| {
                Problem::new(Code::SeveralWays, format!("nothing uses `{}`, which ends with no value", self.shown))
            }),
            _ => {
                let uses = values.iter().flat_map(|id| graph.uses(*id).into_iter().map(|one| (*id, one)));
                let edges = uses.filter(|(_, one)| leaves(one)).map(|(id, one)| {
                    let to = match one {
                        Use::Operand { node, .. } => path::display(&graph.node(node).path),
                        Use::Output(name) => format!("the output {name}"),
                    };
                    (path::display(&graph.node(id).path), to)
                });
                Err(self.several(graph, "out", edges))
            }
        }
    }

    /// The value that the place ends with, whoever uses it.
    fn own_output(&self, graph: &Graph) -> Option<NodeId> {
        match &self.target {
            Target::Layer(id) => Some(*id),
            Target::Scope(scope) => graph.scope(scope)?.output,
            Target::Range { nodes, .. } => nodes.last().copied(),
        }
    }

    fn several(&self, graph: &Graph, side: &str, edges: impl Iterator<Item = (String, String)>) -> Problem {
        let message = format!("`{}` has several ways {side}, one is needed", self.shown);
        let edges = edges.map(|(from, to)| format!("`{from}` -> `{to}`")).collect();
        let problem = Problem::new(Code::SeveralWays, message).row(&format!("ways {side}"), edges);
        // a scope around it with one way would do, and so would single layers before it
        let mut would_do = vec![];
        let mut scope = self.holder(graph);
        while !scope.is_empty() && would_do.len() < 2 {
            let site = Site::new(graph, Target::Scope(scope.clone()));
            let fits = if side == "in" { site.way_in(graph).is_ok() } else { site.way_out(graph).is_ok() };
            if fits {
                would_do.push(site.shown);
            }
            scope = path::parent(&scope).to_string();
        }
        if side == "in" && self.nodes.len() == 1 {
            let operands = graph.operands(self.nodes[0]);
            would_do.extend(operands.iter().take(2).map(|id| path::display(&graph.node(*id).path)));
        }
        if would_do.is_empty() { problem } else { problem.hint(format!("{} would do", list(&would_do))) }
    }
}

/// What follows when the value `old`, which leaves a place, is replaced by `new` for everything outside it.
pub struct LeadOut<'a> {
    pub old: NodeId,
    pub new: NodeId,
    /// Nodes whose uses of `old` stay.
    pub inside: &'a dyn Fn(NodeId) -> bool,
    /// The path of the place; scopes that hold it end with `new` where they ended with `old`.
    pub place: &'a str,
    /// The place itself ends with `new` too: what was put in lies inside it.
    pub inclusive: bool,
    /// Named outputs follow (`replace`) or stay (`insert`).
    pub named_outputs: bool,
}

/// Scopes of which a range takes one end away: what is left of them ends, or begins, with what flowed into the range.
pub fn close_gaps(patch: &mut Patch, site: &Site, input: NodeId) {
    for id in &site.nodes {
        patch.bound_scopes(*id, input);
    }
}

impl LeadOut<'_> {
    pub fn apply(&self, patch: &mut Patch) {
        // the youngest edges first: petgraph has those at the head of its lists
        for one in patch.uses(self.old).into_iter().rev() {
            let follows = match &one {
                Use::Operand { node, .. } => *node != self.new && !(self.inside)(*node),
                Use::Output(name) => name == OWN_OUTPUT || self.named_outputs,
            };
            if follows {
                patch.redirect(&one, self.new);
            }
        }
        let mut holder = if self.inclusive { Some(self.place) } else { path::holder(self.place) };
        while let Some(scope) = holder {
            if patch.scope(scope).is_some_and(|scope| scope.output == Some(self.old)) {
                patch.set_scope_output(scope, Some(self.new));
            }
            holder = path::holder(scope);
        }
        patch.begin_scopes(self.old, self.new, |scope, _| {
            !path::inside(self.place, scope) && !path::within(scope, self.place)
        });
    }
}

/// Lets what inside the place takes `old` take `new` instead; scopes inside begin with `new`.
pub fn lead_in(patch: &mut Patch, site: &Site, old: NodeId, new: NodeId) {
    for id in site.nodes.iter().filter(|id| **id != new) {
        for (slot, operand) in patch.operands(*id).into_iter().enumerate() {
            if operand == old {
                patch.redirect(&Use::Operand { node: *id, slot }, new);
            }
        }
    }
    for scope in scopes_of(patch, site) {
        if patch.scope(&scope).is_some_and(|scope| scope.input == Some(old)) {
            patch.set_scope_input(&scope, Some(new));
        }
    }
}

/// The scopes of a site: its own, and those inside it.
fn scopes_of(graph: &Graph, site: &Site) -> Vec<String> {
    match &site.target {
        Target::Scope(own) => graph.scopes(own).map(|(scope, _)| scope).collect(),
        Target::Layer(_) => vec![],
        Target::Range { .. } => {
            // a scope is inside a range where all its layers are
            let mut held: FxHashMap<&str, usize> = FxHashMap::default();
            for id in &site.nodes {
                let mut holder = path::holder(&graph.node(*id).path);
                while let Some(scope) = holder.filter(|scope| !scope.is_empty()) {
                    *held.entry(scope).or_default() += 1;
                    holder = path::holder(scope);
                }
            }
            let whole = held.into_iter().filter(|(scope, held)| graph.layers(scope).count() == *held);
            whole.map(|(scope, _)| scope.to_string()).collect()
        }
    }
}
