//! A network as a file of another program has it: ops in the order in which they run, on values that each have one name.
//!
//! Readers make a [`Trace`]; everything after them knows nothing of the file. Sizes are numbers: a symbolic batch stands
//! here as the one that the file was written with.

use std::sync::Arc;

use super::array::{Array, Dtype};
use crate::diag::{Code, Problem};

/// A value of a [`Trace`], an index into its values.
pub type ValueId = usize;

/// A network as it was read.
#[derive(Debug, Default)]
pub struct Trace {
    pub nodes: Vec<Node>,
    pub values: Vec<Value>,
    /// What the user feeds, in order.
    pub inputs: Vec<ValueId>,
    /// What the network gives, by name.
    pub outputs: Vec<(String, ValueId)>,
    /// Parameters, buffers and constants that the nodes use.
    pub tensors: Vec<Stored>,
    /// Those of the file that no node has as an operand.
    pub unused: Vec<Stored>,
    /// What was taken as it is, to be told: sizes that were symbols.
    pub remarks: Vec<String>,
    /// By value, whether a node takes it or it is an output.
    used: Vec<bool>,
}

/// What an op makes or takes.
#[derive(Clone, Debug)]
pub struct Value {
    /// As the file calls it.
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// One op.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    /// `aten.conv2d.default`
    pub target: String,
    pub args: Vec<(String, Arg)>,
    pub outputs: Vec<Option<ValueId>>,
    /// The modules around it, the network itself left out, the innermost last.
    pub modules: Vec<Module>,
}

/// A call of a module.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Module {
    /// `layer1.0.conv1`
    pub path: String,
    /// `torch.nn.modules.conv.Conv2d`
    pub class: String,
    /// Which call of the module it is, from 0.
    pub call: usize,
}

impl Module {
    /// The class without its package.
    pub fn kind(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or(&self.class)
    }
}

/// An argument of an op.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    None,
    Value(ValueId),
    Values(Vec<Option<ValueId>>),
    Int(i64),
    Ints(Vec<i64>),
    Float(f64),
    Floats(Vec<f64>),
    Bool(bool),
    Text(String),
    Dtype(Dtype),
    /// Something that no op here needs to know: a device, a layout.
    Other,
}

/// A tensor of the file.
#[derive(Clone, Debug)]
pub struct Stored {
    /// As the module's `state_dict` calls it.
    pub key: String,
    pub kind: Kind,
    /// The value that it is; 0 of one that no node uses.
    pub value: ValueId,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Steps along the axes, in values.
    pub strides: Vec<usize>,
    /// The first value.
    pub offset: usize,
    /// Where the values lie.
    pub bytes: Arc<Bytes>,
}

/// What a tensor of a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Parameter,
    /// In the module's `state_dict`, and not learned.
    Buffer,
    /// In no `state_dict`.
    Constant,
}

/// So many values may share places of a storage.
const MOST_EXPANDED: usize = 1 << 22;

/// Values as a file has them.
#[derive(Debug)]
pub struct Bytes {
    pub dtype: Stype,
    pub bytes: Vec<u8>,
}

/// The number format in which a file stores values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stype {
    U8,
    I8,
    I16,
    I32,
    I64,
    F16,
    F32,
    F64,
    Bool,
    BF16,
}

impl Stype {
    pub fn size(self) -> usize {
        match self {
            Stype::U8 | Stype::I8 | Stype::Bool => 1,
            Stype::I16 | Stype::F16 | Stype::BF16 => 2,
            Stype::I32 | Stype::F32 => 4,
            Stype::I64 | Stype::F64 => 8,
        }
    }

    /// What its values are computed in.
    pub fn dtype(self) -> Dtype {
        match self {
            Stype::Bool => Dtype::Bool,
            Stype::U8 | Stype::I8 | Stype::I16 | Stype::I32 | Stype::I64 => Dtype::Int,
            Stype::F16 | Stype::BF16 | Stype::F32 => Dtype::F32,
            Stype::F64 => Dtype::F64,
        }
    }
}

impl Stored {
    /// Whether the values lie one after another from the first of the storage to its last.
    pub fn is_whole(&self) -> bool {
        self.offset == 0
            && self.strides == contiguous(&self.shape)
            && self.shape.iter().product::<usize>() * self.bytes.dtype.size() == self.bytes.bytes.len()
    }

    /// Whether it is the same values in the same storage as another one.
    pub fn is_same(&self, other: &Stored) -> bool {
        let looks = |stored: &Stored| (stored.shape.clone(), stored.strides.clone(), stored.offset);
        Arc::ptr_eq(&self.bytes, &other.bytes) && looks(self) == looks(other)
    }

    /// Refuses shapes whose values do not lie in the storage.
    pub fn check(&self) -> Result<(), Problem> {
        let held = self.bytes.bytes.len() / self.bytes.dtype.size();
        let wrong = || {
            let message = format!(
                "`{}` of {:?} reaches beyond the {held} values that the file holds of it",
                self.key, self.shape
            );
            Problem::new(Code::Import, message).hint("the file is damaged: export and save the network again")
        };
        let mut count = 1usize;
        let mut last = self.offset;
        for (len, stride) in self.shape.iter().zip(&self.strides) {
            count = count.checked_mul(*len).ok_or_else(wrong)?;
            let reach = len.saturating_sub(1).checked_mul(*stride).ok_or_else(wrong)?;
            last = last.checked_add(reach).ok_or_else(wrong)?;
        }
        // an expanded tensor makes much of little
        if count > 0 && (last >= held || count > held.max(MOST_EXPANDED)) {
            return Err(wrong());
        }
        Ok(())
    }

    /// Its values, which were checked.
    pub fn array(&self) -> Array {
        let all = super::array::decode(&self.bytes);
        Array::strided(all, self.shape.clone(), self.strides.clone(), self.offset)
    }

    /// Its values as a file stores them, one after another.
    pub fn row_major(&self) -> std::borrow::Cow<'_, [u8]> {
        if self.is_whole() {
            return std::borrow::Cow::Borrowed(&self.bytes.bytes);
        }
        let size = self.bytes.dtype.size();
        let mut bytes = vec![];
        super::array::walk(&self.shape, &self.strides, self.offset, |at| {
            bytes.extend_from_slice(&self.bytes.bytes[at * size..][..size]);
        });
        std::borrow::Cow::Owned(bytes)
    }
}

/// The strides of values that lie one after another.
pub fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis].max(1));
    }
    strides
}

impl Trace {
    /// Whether nothing comes of a node: no later one takes what it gives, and it writes into nothing.
    pub fn is_idle(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        !node.is_in_place() && node.outputs.iter().flatten().all(|output| !self.used[*output])
    }

    /// Finds out which values are used, once all nodes are there.
    pub fn find_used(&mut self) {
        self.used = vec![false; self.values.len()];
        for node in &self.nodes {
            for value in node.takes() {
                self.used[value] = true;
            }
        }
        self.outputs.iter().for_each(|(_, value)| self.used[*value] = true);
    }
}

impl Node {
    /// Whether it writes into its first operand.
    pub fn is_in_place(&self) -> bool {
        let op = self.op();
        op.len() > 1 && op.ends_with('_') && !op.starts_with("__")
    }

    pub fn arg(&self, name: &str) -> &Arg {
        self.args.iter().find(|(own, _)| own == name).map_or(&Arg::None, |(_, arg)| arg)
    }

    /// The value that an argument is.
    pub fn value(&self, name: &str) -> Option<ValueId> {
        if let Arg::Value(value) = self.arg(name) { Some(*value) } else { None }
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        match self.arg(name) {
            Arg::Int(value) => Some(*value),
            Arg::Bool(value) => Some(i64::from(*value)),
            _ => None,
        }
    }

    pub fn float(&self, name: &str) -> Option<f64> {
        match self.arg(name) {
            Arg::Float(value) => Some(*value),
            Arg::Int(value) => Some(*value as f64),
            Arg::Bool(value) => Some(f64::from(u8::from(*value))),
            _ => None,
        }
    }

    pub fn bool(&self, name: &str) -> Option<bool> {
        if let Arg::Bool(value) = self.arg(name) { Some(*value) } else { None }
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        if let Arg::Text(text) = self.arg(name) { Some(text) } else { None }
    }

    /// Integers; a single one is a list of one.
    pub fn ints(&self, name: &str) -> Option<Vec<i64>> {
        match self.arg(name) {
            Arg::Ints(list) => Some(list.clone()),
            Arg::Int(one) => Some(vec![*one]),
            // an empty list has no kind of its own
            Arg::Values(list) if list.is_empty() => Some(vec![]),
            Arg::Floats(list) if list.is_empty() => Some(vec![]),
            _ => None,
        }
    }

    pub fn floats(&self, name: &str) -> Option<Vec<f64>> {
        match self.arg(name) {
            Arg::Floats(list) => Some(list.clone()),
            Arg::Ints(list) => Some(list.iter().map(|value| *value as f64).collect()),
            _ => None,
        }
    }

    /// The values that an argument is a list of, holes included.
    pub fn values(&self, name: &str) -> Option<Vec<Option<ValueId>>> {
        match self.arg(name) {
            Arg::Values(list) => Some(list.clone()),
            Arg::Ints(list) if list.is_empty() => Some(vec![]),
            _ => None,
        }
    }

    /// Every value that it takes.
    pub fn takes(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.args.iter().flat_map(|(_, arg)| match arg {
            Arg::Value(value) => vec![*value],
            Arg::Values(list) => list.iter().flatten().copied().collect(),
            _ => vec![],
        })
    }

    /// The op without its overload: `conv2d` of `aten.conv2d.default`.
    pub fn op(&self) -> &str {
        self.target.strip_prefix("aten.").unwrap_or(&self.target).split('.').next().unwrap_or(&self.target)
    }
}
