//! Roles: what the parts of a network are for, by name. `@head` is a selector that serves any network.
//!
//! A network says its roles as places of its own (`roles { head = fc }`), which are looked up once, when the network is
//! built. From then on a role goes with its place: it follows a `rename`, and what replaces it.

use rustc_hash::FxHashSet;

use super::select::{Target, index_fits, select_one};
use super::ways::Site;
use crate::build::Builder;
use crate::diag::{At, Code, Problem, Result};
use crate::graph::{Graph, Role, RolePlace, gone, path};
use crate::syntax::tree::{Index, Place, RoleLine, Segment, SelectKind, Spanned};

/// Looks up the places of a network's roles.
///
/// # Errors
/// A role that is said twice, or a place that is none.
pub fn name_roles<'a>(builder: &mut Builder<'a, '_>, lines: &[&'a RoleLine]) -> Result<()> {
    for line in lines {
        if builder.patch.roles().has(&line.name.value) {
            let problem = Problem::new(Code::Duplicate, format!("the role `{}` is said twice", line.name.value));
            return Err(problem.hint("several places are a list: `stages = [layer1, layer2]`").at(line.name.span));
        }
        let mut places = vec![];
        for one in &line.places {
            for target in select_one(builder, one)? {
                places.push(match target {
                    Target::Range { first, last, .. } => RolePlace { first, last: Some(last) },
                    target => RolePlace { first: target.path(builder.patch), last: None },
                });
            }
        }
        let is_one = matches!(&line.places[..], [one] if !line.is_list && is_plain(&one.kind));
        builder.patch.set_role(&line.name.value, Role { places, is_list: !is_one });
    }
    Ok(())
}

/// Whether a place is one by the way it is written.
fn is_plain(kind: &SelectKind) -> bool {
    let is_plain = |place: &Place| {
        place.segments.iter().all(|segment| match &segment.value {
            Segment::Glob(glob) => !glob.contains('*'),
            Segment::Indices(indices) => matches!(indices.as_slice(), [Index::At(_)]),
            Segment::Role(_) | Segment::Tap(_) => false,
        })
    };
    match kind {
        SelectKind::Place(place) => is_plain(place),
        SelectKind::Range(..) => true,
        SelectKind::All => false,
    }
}

/// The ends of roles that lie in a place which goes: what takes its place takes its roles.
pub(super) fn held(graph: &Graph, site: &Site) -> Vec<String> {
    if graph.roles().is_empty() {
        return vec![];
    }
    let mut seen: FxHashSet<&str> = FxHashSet::default();
    let mut found = vec![];
    for id in &site.nodes {
        let mut at = Some(graph.node(*id).path.as_str());
        while let Some(path) = at.filter(|path| seen.insert(path)) {
            let is_held = || graph.find(path).is_some() || graph.layers(path).all(|id| site.holds(id));
            if graph.roles().is_end(path) && is_held() {
                found.push(path.to_string());
            }
            at = path::holder(path);
        }
    }
    found
}

/// A place that begins with a role, without it: a range alone, or the segments of a path.
pub(super) enum Meant {
    Range(Place, Place),
    Path(Place),
}

/// What `@stages[-1].conv1` means: each place of the role that its index picks, with the rest of the path behind it.
pub(super) fn meant(graph: &Graph, place: &Place) -> Result<Vec<Meant>> {
    let Some((Spanned { value: Segment::Role(name), span }, rest)) = place.segments.split_first() else {
        return Ok(vec![Meant::Path(place.clone())]);
    };
    let role = graph.roles().get(name).at(*span)?;
    let (picked, rest) = match rest {
        [Spanned { value: Segment::Indices(indices), span }, rest @ ..] if role.is_list => {
            (pick(role, name, indices).map_err(|problem| problem.at(*span))?, rest)
        }
        _ => (role.places.iter().collect(), rest),
    };
    let plain = |path: &str| Place {
        segments: path.split('.').map(|label| Spanned { value: Segment::Glob(label.into()), span: *span }).collect(),
        span: place.span,
    };
    let mut found = vec![];
    for one in picked {
        if let Some(end) = one.ends().find(|end| !graph.is_taken(end)) {
            return Err(gone(name, end).at(*span));
        }
        found.push(match &one.last {
            None => {
                let mut path = plain(&one.first);
                path.segments.extend(rest.iter().cloned());
                Meant::Path(path)
            }
            Some(last) if rest.is_empty() => Meant::Range(plain(&one.first), plain(last)),
            Some(_) => {
                let message =
                    format!("`@{name}` is `{}` here, and places are named inside of layers and scopes", one.display());
                return Err(Problem::new(Code::NoMatch, message).hint("name the place by its path").at(place.span));
            }
        });
    }
    Ok(found)
}

/// The places of a role that indices pick, in the role's order.
fn pick<'g>(role: &'g Role, name: &str, indices: &[Index]) -> std::result::Result<Vec<&'g RolePlace>, Problem> {
    let highest = role.places.len() as i64 - 1;
    let fits = |at: i64| indices.iter().any(|index| index_fits(index, at, &|| highest));
    let picked: Vec<&RolePlace> = (0..).zip(&role.places).filter(|(at, _)| fits(*at)).map(|(_, place)| place).collect();
    if picked.is_empty() {
        let problem = Problem::new(Code::NoMatch, format!("`@{name}` has no such entry"));
        return Err(problem.hint(format!("its entries are 0 to {highest}")));
    }
    Ok(picked)
}
