//! The ways into and out of a place, and what follows when one of them is led elsewhere: uses, scopes, outputs.

use rustc_hash::FxHashSet;

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

    /// The one value that flows in.
    pub fn way_in(&self, graph: &Graph) -> Result<NodeId, Problem> {
        let mut sources: Vec<NodeId> = vec![];
        let mut edges: Vec<String> = vec![];
        for id in &self.nodes {
            for source in graph.operands(*id) {
                if self.holds(source) || self.belongs(graph, source) {
                    continue;
                }
                let (from, to) = (&graph.node(source).path, &graph.node(*id).path);
                edges.push(format!("`{}` -> `{}`", path::display(from), path::display(to)));
                if !sources.contains(&source) {
                    sources.push(source);
                }
            }
        }
        match sources.as_slice() {
            [one] => Ok(*one),
            [] => {
                let problem = Problem::new(Code::SeveralWays, format!("nothing flows into `{}`", self.shown));
                Err(problem.hint("name a layer that takes a value"))
            }
            _ => Err(self.several(graph, "in", edges)),
        }
    }

    /// A value of parameters alone that nothing outside needs.
    fn belongs(&self, graph: &Graph, id: NodeId) -> bool {
        if !graph.is_constant(id) {
            return false;
        }
        graph.uses(id).iter().all(|one| match one {
            Use::Operand { node, .. } => self.holds(*node) || self.belongs(graph, *node),
            Use::Output(_) => false,
        })
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
        let mut values: Vec<NodeId> = vec![];
        let mut edges: Vec<String> = vec![];
        for id in &self.nodes {
            for one in graph.uses(*id) {
                let to = match &one {
                    Use::Operand { node, .. } if self.holds(*node) => continue,
                    Use::Output(name) if name != OWN_OUTPUT && !with_named => continue,
                    Use::Operand { node, .. } => path::display(&graph.node(*node).path),
                    Use::Output(name) => format!("the output {name}"),
                };
                edges.push(format!("`{}` -> `{to}`", path::display(&graph.node(*id).path)));
                if !values.contains(id) {
                    values.push(*id);
                }
            }
        }
        match values.as_slice() {
            [one] => Ok(*one),
            [] if !with_named => self.find_out(graph, true),
            [] => Err(Problem::new(Code::SeveralWays, format!("nothing uses `{}`", self.shown))),
            _ => Err(self.several(graph, "out", edges)),
        }
    }

    fn several(&self, graph: &Graph, side: &str, edges: Vec<String>) -> Problem {
        let message = format!("`{}` has several ways {side}, one is needed", self.shown);
        let more = if edges.len() > 6 { " .." } else { "" };
        let shown = edges.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
        let problem = Problem::new(Code::SeveralWays, message).note(format!("ways {side}: {shown}{more}"));
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
    let is_gone = |value: &Option<NodeId>| value.is_some_and(|id| site.holds(id));
    for (_, scope) in patch.scopes_mut() {
        for end in [&mut scope.input, &mut scope.output] {
            if is_gone(end) {
                *end = Some(input);
            }
        }
    }
}

impl LeadOut<'_> {
    pub fn apply(&self, patch: &mut Patch) {
        for one in patch.uses(self.old) {
            let follows = match &one {
                Use::Operand { node, .. } => *node != self.new && !(self.inside)(*node),
                Use::Output(name) => name == OWN_OUTPUT || self.named_outputs,
            };
            if follows {
                patch.redirect(&one, self.new);
            }
        }
        for (scope, data) in patch.scopes_mut() {
            let holds = path::inside(self.place, scope) || (self.inclusive && scope == self.place);
            if holds && data.output == Some(self.old) {
                data.output = Some(self.new);
            }
            if !holds && !path::within(scope, self.place) && data.input == Some(self.old) {
                data.input = Some(self.new);
            }
        }
    }
}

/// Lets what inside the place takes `old` take `new` instead; scopes inside begin with `new`.
pub fn lead_in(patch: &mut Patch, site: &Site, old: NodeId, new: NodeId) {
    for one in patch.uses(old) {
        if matches!(&one, Use::Operand { node, .. } if *node != new && site.holds(*node)) {
            patch.redirect(&one, new);
        }
    }
    let begins = patch.scopes().iter().filter(|(scope, data)| data.input == Some(old) && is_of(patch, site, scope));
    let within: Vec<String> = begins.map(|(scope, _)| scope.clone()).collect();
    for scope in within {
        if let Some(scope) = patch.scope_mut(&scope) {
            scope.input = Some(new);
        }
    }
}

/// Whether a scope is the site's, or lies inside it.
fn is_of(graph: &Graph, site: &Site, scope: &str) -> bool {
    match &site.target {
        Target::Scope(own) => path::within(scope, own),
        Target::Layer(_) => false,
        Target::Range { .. } if scope.is_empty() => false,
        Target::Range { .. } => {
            let mut inner = graph.ids().filter(|id| path::inside(&graph.node(*id).path, scope)).peekable();
            inner.peek().is_some() && inner.all(|id| site.holds(id))
        }
    }
}
