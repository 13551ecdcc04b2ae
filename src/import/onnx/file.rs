//! The file: what is read of it, and its tensors.
//!
//! It is hostile until it is read. Memory is bounded by its size: what is small in a file and large in memory, messages of nothing, is
//! bounded before it is decoded; external data lies in the file's own folder, and no tensor is longer than its bytes.

use std::collections::HashMap;
use std::path::{Component, Path};
use std::sync::Arc;

use prost::Message;
use prost::bytes::Bytes as Raw;
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::diag::{Code, Problem};
use crate::import::trace::{Bytes, Kind, Stored, Stype, contiguous};
use crate::io::open::{self, Opened, Unreadable};
use crate::onnx::proto::{Model, Tensor, format};

/// The largest file that is read; protobuf ends at two gigabytes.
const MAX_FILE: u64 = 1 << 31;
/// What a file may hold beside the values of its tensors, in bytes.
const MAX_WORDS: u64 = 32 << 20;
/// Nodes and tensors of a file.
const MAX_MESSAGES: u64 = 1 << 18;
/// Axes of a tensor.
const MAX_AXES: usize = 64;

/// How to write a file that can be read.
pub const SAVE: &str =
    "export it again, in float32: `torch.onnx.export(model.eval(), (x,), \"model.onnx\", dynamo=True)`";

/// A file with the folder of its external data.
pub struct File {
    pub name: String,
    pub model: Model,
    folder: std::path::PathBuf,
    opened: HashMap<String, Opened>,
}

impl File {
    /// Reads what is no value of a tensor.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or is no ONNX.
    pub fn open(path: &Path) -> Result<File, Problem> {
        let name = path.display().to_string();
        let wrong = |what: &str| Problem::new(Code::Import, format!("`{name}` {what}")).hint(SAVE);
        let bytes = open::read(path, MAX_FILE).map_err(|error| match error {
            Unreadable::TooLong { .. } => wrong("is longer than the two gigabytes that a file of ONNX can have")
                .hint("export it with external data: `external_data=True`"),
            other => other.problem(Code::Import, path),
        })?;
        if bytes.is_empty() {
            return Err(wrong("is empty"));
        }
        let bytes = Raw::from(bytes);
        let damaged = || wrong("is damaged, or is no file of ONNX");
        let counts = Counts::of(&bytes).ok_or_else(damaged)?;
        if counts.words > MAX_WORDS || counts.messages > MAX_MESSAGES {
            let message = format!("holds {} bytes of nodes, more than the {MAX_WORDS} that are read", counts.words);
            return Err(wrong(&message));
        }
        let model =
            Model::decode(bytes).map_err(|error| wrong(&format!("is damaged, or is no file of ONNX: {error}")))?;
        if model.graph.is_none() {
            return Err(damaged());
        }
        let folder = path.parent().map_or_else(Default::default, Path::to_path_buf);
        Ok(File { name, model, folder, opened: HashMap::new() })
    }

    /// A tensor, called `key`, its values checked against its shape.
    ///
    /// # Errors
    /// Values that are fewer or more, of a format that is not read, or in a file that may not be read.
    pub fn tensor(&mut self, tensor: &Tensor, key: &str, kind: Kind) -> Result<Stored, Problem> {
        let name = &tensor.name;
        let wrong = |what: String| Problem::new(Code::Import, format!("the tensor `{name}` {what}")).hint(SAVE);
        let dtype = stype(tensor.data_type)
            .ok_or_else(|| wrong(format!("is of ONNX's type {}, which is not read", tensor.data_type)))?;
        if tensor.dims.len() > MAX_AXES {
            return Err(wrong(format!("has {} axes", tensor.dims.len())));
        }
        let shape: Vec<usize> = tensor
            .dims
            .iter()
            .map(|len| usize::try_from(*len).map_err(|_| wrong(format!("has an axis of {len}"))))
            .collect::<Result<_, _>>()?;
        let len = shape.iter().try_fold(1usize, |all, len| all.checked_mul(*len));
        let wanted = len.and_then(|len| len.checked_mul(dtype.size()));
        let Some(wanted) = wanted else { return Err(wrong(format!("is {shape:?}, more than memory can hold"))) };
        let bytes = if tensor.data_location == 1 { self.external(tensor, wanted)? } else { inside(tensor, dtype) };
        if bytes.len() != wanted {
            return Err(wrong(format!("is {shape:?}, {wanted} bytes, and the file holds {} of it", bytes.len())));
        }
        let strides = contiguous(&shape);
        let bytes = Arc::new(Bytes { dtype, bytes });
        Ok(Stored { key: key.into(), kind, value: 0, dtype: dtype.dtype(), shape, strides, offset: 0, bytes })
    }

    /// The bytes of a tensor that lie in a file beside.
    fn external(&mut self, tensor: &Tensor, wanted: usize) -> Result<Vec<u8>, Problem> {
        let name = &tensor.name;
        let wrong = |what: String| Problem::new(Code::Import, format!("the tensor `{name}` {what}"));
        let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
        let location = entry("location").ok_or_else(|| wrong("does not say in which file its values lie".into()))?;
        let number = |key: &str, default: u64| match entry(key) {
            None => Ok(default),
            Some(text) => text.parse::<u64>().map_err(|_| wrong(format!("has the {key} `{}`", text.escape_debug()))),
        };
        let (offset, length) = (number("offset", 0)?, number("length", wanted as u64)?);
        let path = Path::new(location);
        let is_inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !is_inside || location.is_empty() {
            let shown: String = location.escape_debug().take(80).collect();
            return Err(wrong(format!("lies in `{shown}`, outside of the file's folder, where nothing is read")));
        }
        let path = self.folder.join(path);
        // a link may lead out of the folder
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        let folder = if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder };
        if let (Some(inner), Some(outer)) = (real(&path), real(folder))
            && !inner.starts_with(&outer)
        {
            return Err(wrong(format!("lies in `{location}`, a link out of the file's folder, where nothing is read")));
        }
        if length != wanted as u64 {
            return Err(wrong(format!("needs {wanted} bytes, `{location}` is said to hold {length} of it")));
        }
        if !self.opened.contains_key(location) {
            let opened = open::plain(&path).map_err(|error| error.problem(Code::Import, &path))?;
            self.opened.insert(location.clone(), opened);
        }
        let opened = &self.opened[location];
        if offset.checked_add(length).is_none_or(|end| end > opened.len()) {
            return Err(wrong(format!("reaches beyond the {} bytes of `{location}`", opened.len())));
        }
        let mut bytes = vec![0; wanted];
        opened.exact_at(&mut bytes, offset).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        Ok(bytes)
    }
}

/// The values that a message has itself, as bytes.
fn inside(tensor: &Tensor, dtype: Stype) -> Vec<u8> {
    if !tensor.raw_data.is_empty() {
        return tensor.raw_data.to_vec();
    }
    let narrow = &tensor.int32_data;
    match dtype {
        Stype::F32 => bytemuck::cast_slice(&tensor.float_data).to_vec(),
        Stype::F64 => bytemuck::cast_slice(&tensor.double_data).to_vec(),
        Stype::I64 => bytemuck::cast_slice(&tensor.int64_data).to_vec(),
        Stype::I32 => bytemuck::cast_slice(narrow).to_vec(),
        Stype::U8 | Stype::I8 | Stype::Bool => narrow.iter().map(|value| *value as u8).collect(),
        Stype::I16 | Stype::F16 | Stype::BF16 => {
            narrow.iter().flat_map(|value| (*value as u16).to_le_bytes()).collect()
        }
    }
}

/// A number format by ONNX's number.
pub fn stype(number: i32) -> Option<Stype> {
    Some(match number {
        format::FLOAT => Stype::F32,
        format::UINT8 => Stype::U8,
        format::INT8 => Stype::I8,
        format::INT16 => Stype::I16,
        format::INT32 => Stype::I32,
        format::INT64 => Stype::I64,
        format::BOOL => Stype::Bool,
        format::FLOAT16 => Stype::F16,
        format::DOUBLE => Stype::F64,
        format::BFLOAT16 => Stype::BF16,
        _ => return None,
    })
}

/// How much a file says, before it is decoded.
#[derive(Default)]
struct Counts {
    /// Bytes of everything but the tensors' own.
    words: u64,
    /// Messages of the graph.
    messages: u64,
}

impl Counts {
    /// None where it is no protobuf.
    fn of(bytes: &Raw) -> Option<Counts> {
        let mut counts = Counts::default();
        each(bytes, |tag, body| {
            if tag != 7 {
                counts.words += body.len() as u64;
                return Some(());
            }
            each(&body, |tag, body| {
                counts.messages += 1;
                if tag != 5 {
                    counts.words += body.len() as u64;
                    return Some(());
                }
                each(&body, |tag, body| {
                    // values are as long in memory, or twice that
                    counts.words += if matches!(tag, 4 | 5 | 7 | 9 | 10) { 0 } else { body.len() as u64 };
                    Some(())
                })
            })
        })?;
        Some(counts)
    }
}

/// Calls `visit` with the number and the bytes of every field of a message.
fn each(bytes: &Raw, mut visit: impl FnMut(u32, Raw) -> Option<()>) -> Option<()> {
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        let (tag, wire) = decode_key(&mut rest).ok()?;
        let len = match wire {
            WireType::Varint => {
                decode_varint(&mut rest).ok()?;
                0
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut rest).ok()?).ok()?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        if len > rest.len() {
            return None;
        }
        visit(tag, rest.split_to(len))?;
    }
    Some(())
}
