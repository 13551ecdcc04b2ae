//! Networks of other programs: from their file to archc's own graph, with the tensors under the module's own keys.
//!
//! ```text
//! file --pt2, onnx--> Trace --lift--> Drafts --tidy--> Drafts --prove--> (the same numbers) --name--> Graph
//! ```
//!
//! A reader makes a [`trace::Trace`] and knows nothing of archc's ops; what follows knows nothing of files. Everything is exact or
//! refused: an op that the language has not is named, never replaced by something near.

mod array;
mod draft;
mod eval;
mod kernels;
mod lift;
mod name;
mod onnx;
mod prove;
mod pt2;
#[cfg(test)]
mod tests;
mod tidy;
mod trace;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use indexmap::IndexMap;

use crate::diag::{Code, Problem};
use crate::exec::Tensors;
use crate::graph::{Graph, NodeId, key};
use crate::typed::{self, Typed};
use crate::weights::{DType, Data, TensorOut, write_safetensors};
use draft::{Content, Place};
pub use prove::Proof;
use trace::{Kind, Stored, Stype, Trace};

/// A network that was imported.
pub struct Imported {
    graph: Graph,
    /// Its tensors by key, in the order of the graph.
    tensors: IndexMap<String, Held>,
    /// Keys of the file that the network has no use for: what is not run.
    pub unused: Vec<String>,
    /// Further keys of tensors that it has: of modules that lie at several paths.
    pub aliases: Vec<String>,
    /// Constants that were folded.
    pub folded: usize,
    pub proof: Proof,
    /// What was taken as it is, to be told.
    pub remarks: Vec<String>,
}

/// A tensor to be written.
enum Held {
    Stored(Stored),
    Folded { shape: Vec<usize>, values: Vec<f32> },
}

/// Imports a file: `.onnx`, or else what `torch.export.save` writes, `.pt2`.
///
/// # Errors
/// A file that cannot be read or is not understood; ops that the language has not; a result that differs from the file's.
pub fn import(path: &Path) -> Result<Imported, Problem> {
    let is_onnx = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
    let trace = if is_onnx { onnx::read(path)? } else { pt2::read(path)? };
    of_trace(trace)
}

fn of_trace(trace: Trace) -> Result<Imported, Problem> {
    let mut lift = lift::lift(&trace)?;
    tidy::tidy(&mut lift);
    let proof = prove::prove(&trace, &lift)?;
    let named = name::name(&lift)?;
    let tensors = tensors(&trace, &lift, &named);
    let folded = tensors.values().filter(|held| matches!(held, Held::Folded { .. })).count();
    let is_state = |stored: &&Stored| stored.kind != Kind::Constant && !tensors.contains_key(&stored.key);
    let is_held =
        |stored: &Stored| tensors.values().any(|held| matches!(held, Held::Stored(other) if other.is_same(stored)));
    let left = trace.tensors.iter().chain(&trace.unused).filter(is_state);
    let (aliases, unused): (Vec<&Stored>, Vec<&Stored>) = left.partition(|stored| is_held(stored));
    let keys = |list: Vec<&Stored>| list.into_iter().map(|stored| stored.key.clone()).collect();
    let (aliases, unused) = (keys(aliases), keys(unused));
    Ok(Imported { graph: named.graph, tensors, unused, aliases, folded, proof, remarks: trace.remarks })
}

/// The tensors of the graph, from the file or folded.
fn tensors(trace: &Trace, lift: &lift::Lift, named: &name::Named) -> IndexMap<String, Held> {
    let by_key: HashMap<&str, &Stored> =
        trace.tensors.iter().chain(&trace.unused).map(|stored| (stored.key.as_str(), stored)).collect();
    let mut tensors = IndexMap::new();
    for (id, draft) in lift.drafts.nodes.iter().enumerate() {
        let Some(node) = named.nodes.get(&id).filter(|_| draft.tied.is_none()) else { continue };
        let path = &named.graph.node(*node).path;
        match (&draft.content, &draft.place) {
            (Some(Content::Stored(at)), _) => {
                tensors.insert(path.clone(), Held::Stored(trace.tensors[*at].clone()));
            }
            (Some(Content::Folded(array)), _) => {
                let held = Held::Folded { shape: array.shape().to_vec(), values: array.to_f32() };
                tensors.insert(path.clone(), held);
            }
            (None, Place::Layer { .. }) => {
                for decl in named.graph.params(*node).unwrap_or_default() {
                    let key = key(path, decl.name);
                    if let Some(stored) = by_key.get(key.as_str()) {
                        tensors.insert(key, Held::Stored((*stored).clone()));
                    }
                }
            }
            _ => {}
        }
    }
    tensors
}

impl Imported {
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Checks the graph as any other.
    ///
    /// # Errors
    /// What does not fit, which is a fault of the importer.
    pub fn typed(&self) -> Result<Typed, Problem> {
        typed::check(self.graph.clone(), &[]).map_err(|problems| {
            let first = problems.iter().next().map_or(String::new(), |one| one.problem.message.clone());
            Problem::new(Code::Import, format!("the imported network does not fit: {first}"))
        })
    }

    /// Keys and shapes of its tensors.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(key, held)| {
            let shape = match held {
                Held::Stored(stored) => stored.shape.as_slice(),
                Held::Folded { shape, .. } => shape.as_slice(),
            };
            (key.as_str(), shape)
        })
    }

    /// Writes its tensors.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_tensors(&self, path: &Path) -> Result<(), Problem> {
        let rows: Vec<(DType, Cow<'_, [u8]>)> = self
            .tensors
            .values()
            .map(|held| match held {
                Held::Stored(stored) => (dtype(stored.bytes.dtype), stored.row_major()),
                Held::Folded { values, .. } => (DType::F32, Cow::Borrowed(bytemuck::cast_slice(values))),
            })
            .collect();
        let out: Vec<TensorOut<'_>> = self
            .keys()
            .zip(&rows)
            .map(|((key, shape), (dtype, bytes))| TensorOut { key, shape, data: Data::Raw(dtype.clone(), bytes) })
            .collect();
        write_safetensors(path, &out, &IndexMap::new())
    }
}

impl Tensors for Imported {
    fn read(&self, node: NodeId, param: usize) -> Result<Vec<f32>, Problem> {
        let decls = self.graph.params(node).unwrap_or_default();
        let key = key(&self.graph.node(node).path, decls[param].name);
        match self.tensors.get(&key) {
            Some(Held::Stored(stored)) => Ok(stored.array().to_f32()),
            Some(Held::Folded { values, .. }) => Ok(values.clone()),
            None => Err(Problem::new(Code::Import, format!("the file has no `{key}`"))),
        }
    }
}

fn dtype(stype: Stype) -> DType {
    match stype {
        Stype::U8 => DType::U8,
        Stype::I8 => DType::I8,
        Stype::I16 => DType::I16,
        Stype::I32 => DType::I32,
        Stype::I64 => DType::I64,
        Stype::F16 => DType::F16,
        Stype::F32 => DType::F32,
        Stype::F64 => DType::F64,
        Stype::Bool => DType::Bool,
        Stype::BF16 => DType::BF16,
    }
}
