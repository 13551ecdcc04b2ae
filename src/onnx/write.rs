//! The file: lengths first, then tensor by tensor, each read when it is its turn, so that memory holds one of them.

use std::io::Write;
use std::path::Path;

use archc_base::DType;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::build::{Network, Source, Weight};
use super::proto::{Entry, Graph, Model, OperatorSet, Tensor, format};
use super::{Options, Written};
use crate::diag::{Code, Problem};
use crate::exec::Tensors;
use crate::io::atomic::{AtomicFile, problem};
use crate::ops::Op;
use crate::typed::Typed;

/// The version of the format: the first in which nodes say their modules.
const IR_VERSION: i64 = 10;
/// Tensors of more bytes than these lie in a file beside: protobuf ends at two gigabytes.
const MOST_INSIDE: usize = 1 << 30;
/// Where a tensor in a file beside may begin, so that it can be mapped.
const ALIGNED: usize = 4096;

/// The numbers of the fields that are written by hand.
const GRAPH: u32 = 7;
const INITIALIZER: u32 = 5;
const RAW_DATA: u32 = 9;

/// Writes a network.
pub fn write(
    network: &Network,
    typed: &Typed,
    read: &dyn Tensors,
    path: &Path,
    options: &Options,
) -> Result<Written, Problem> {
    let total: usize = network.weights.iter().map(|weight| len(weight, options.dtype)).sum();
    let is_external = options.external_data.unwrap_or(total > MOST_INSIDE);
    if !is_external && total > MOST_INSIDE {
        let message = format!("{total} bytes of tensors do not fit into the file itself");
        return Err(Problem::new(Code::Usage, message).hint("leave `--external-data false` out"));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = format!("{name}.data");
    let mut beside = is_external.then_some(Beside { location: beside, end: 0 });
    let mut tensors = vec![];
    for weight in &network.weights {
        tensors.push(head(weight, options.dtype, beside.as_mut()));
    }
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "archc".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: None,
        opset_import: vec![OperatorSet { domain: String::new(), version: options.opset }],
        metadata_props: options
            .metadata
            .iter()
            .map(|(key, value)| Entry { key: key.clone(), value: value.clone() })
            .collect(),
        functions: vec![],
    };
    let graph = Graph {
        node: network.nodes.clone(),
        name: network.name.clone(),
        initializer: vec![],
        input: network.inputs.clone(),
        output: network.outputs.clone(),
        value_info: network.values.clone(),
        sparse_initializer: vec![],
    };
    let graph = graph.encode_to_vec();
    let mut length = graph.len();
    for (weight, head) in network.weights.iter().zip(&tensors) {
        let inner = tensor_len(weight, head, options.dtype, is_external);
        length += key_len(INITIALIZER) + encoded_len_varint(inner as u64) + inner;
    }
    let mut file = AtomicFile::create(path)?;
    let failed = |error: std::io::Error| problem(path, &error);
    let mut start = model.encode_to_vec();
    encode_key(GRAPH, WireType::LengthDelimited, &mut start);
    encode_varint(length as u64, &mut start);
    file.write_all(&start).map_err(failed)?;
    file.write_all(&graph).map_err(failed)?;
    let beside_path = beside.as_ref().map(|beside| path.with_file_name(&beside.location));
    let mut data = beside_path.as_deref().map(AtomicFile::create).transpose()?;
    let mut written = 0;
    for (weight, head) in network.weights.iter().zip(&tensors) {
        let inner = tensor_len(weight, head, options.dtype, is_external);
        let mut bytes = vec![];
        encode_key(INITIALIZER, WireType::LengthDelimited, &mut bytes);
        encode_varint(inner as u64, &mut bytes);
        bytes.extend(head);
        let size = len(weight, options.dtype);
        match (&mut data, &beside_path) {
            (Some(data), Some(beside)) => {
                file.write_all(&bytes).map_err(failed)?;
                let start = usize::next_multiple_of(written, ALIGNED);
                let failed = |error: std::io::Error| problem(beside, &error);
                data.write_all(&vec![0; start - written]).map_err(failed)?;
                values(weight, typed, read, options, &mut |bytes| data.write_all(bytes).map_err(failed))?;
                written = start + size;
            }
            _ => {
                encode_key(RAW_DATA, WireType::LengthDelimited, &mut bytes);
                encode_varint(size as u64, &mut bytes);
                file.write_all(&bytes).map_err(failed)?;
                values(weight, typed, read, options, &mut |bytes| file.write_all(bytes).map_err(failed))?;
            }
        }
    }
    if let Some(data) = data {
        data.commit()?;
    }
    file.commit()?;
    Ok(Written { nodes: network.nodes.len(), tensors: network.weights.len(), is_external })
}

/// The file beside, as far as it is planned.
struct Beside {
    location: String,
    end: usize,
}

/// A tensor's message without its values.
fn head(weight: &Weight, dtype: DType, beside: Option<&mut Beside>) -> Vec<u8> {
    let mut tensor = Tensor {
        dims: weight.dims.iter().map(|len| *len as i64).collect(),
        data_type: data_type(weight, dtype),
        name: weight.name.clone(),
        ..Tensor::default()
    };
    if let Some(beside) = beside {
        let offset = beside.end.next_multiple_of(ALIGNED);
        let size = len(weight, dtype);
        let entry = |key: &str, value: String| Entry { key: key.into(), value };
        tensor.external_data = vec![
            entry("location", beside.location.clone()),
            entry("offset", offset.to_string()),
            entry("length", size.to_string()),
        ];
        tensor.data_location = 1;
        beside.end = offset + size;
    }
    tensor.encode_to_vec()
}

/// Bytes of a tensor's message.
fn tensor_len(weight: &Weight, head: &[u8], dtype: DType, is_external: bool) -> usize {
    if is_external {
        return head.len();
    }
    let size = len(weight, dtype);
    head.len() + key_len(RAW_DATA) + encoded_len_varint(size as u64) + size
}

/// Whether a tensor is one of the network's, which is written in the format that was asked for.
fn is_learned(weight: &Weight) -> bool {
    matches!(weight.source, Source::Param(..) | Source::Folded { .. })
}

fn data_type(weight: &Weight, dtype: DType) -> i32 {
    match (&weight.source, dtype) {
        (Source::Ints(_), _) => format::INT64,
        (Source::Int32s(_), _) => format::INT32,
        (Source::Bytes(_), _) => format::BOOL,
        (_, DType::F16) if is_learned(weight) => format::FLOAT16,
        (_, DType::Bf16) if is_learned(weight) => format::BFLOAT16,
        _ => format::FLOAT,
    }
}

/// Bytes of a tensor's values.
fn len(weight: &Weight, dtype: DType) -> usize {
    let size = match data_type(weight, dtype) {
        format::INT64 => 8,
        format::BOOL => 1,
        format::FLOAT16 | format::BFLOAT16 => 2,
        _ => 4,
    };
    size * weight.dims.iter().product::<usize>()
}

/// Puts out a tensor's values.
fn values(
    weight: &Weight,
    typed: &Typed,
    tensors: &dyn Tensors,
    options: &Options,
    put: &mut dyn FnMut(&[u8]) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let floats = match &weight.source {
        Source::Ints(values) => return put(bytemuck::cast_slice(values)),
        Source::Int32s(values) => return put(bytemuck::cast_slice(values)),
        Source::Bytes(values) => return put(values),
        Source::Floats(values) => return put(bytemuck::cast_slice(values)),
        Source::Param(node, at) => tensors.read(*node, *at)?,
        Source::Folded { layer, norm, is_bias } => folded(typed, tensors, *layer, *norm, *is_bias)?,
    };
    debug_assert_eq!(floats.len(), weight.dims.iter().product::<usize>(), "the values of {}", weight.name);
    match options.dtype {
        DType::F32 => put(bytemuck::cast_slice(&floats)),
        DType::F16 => {
            let lost = floats.iter().filter(|value| value.is_finite() && f16::from_f32(**value).is_infinite()).count();
            if lost > 0 {
                let message = format!("`{}` has {lost} values beyond float16's 65504", weight.name);
                return Err(Problem::new(Code::Output, message).hint("write it as bfloat16 or float32"));
            }
            let mut piece = vec![f16::ZERO; floats.len().min(1 << 14)];
            for floats in floats.chunks(1 << 14) {
                let piece = &mut piece[..floats.len()];
                piece.convert_from_f32_slice(floats);
                put(bytemuck::cast_slice(piece))?;
            }
            Ok(())
        }
        DType::Bf16 => {
            let mut piece = vec![bf16::ZERO; floats.len().min(1 << 14)];
            for floats in floats.chunks(1 << 14) {
                let piece = &mut piece[..floats.len()];
                piece.convert_from_f32_slice(floats);
                put(bytemuck::cast_slice(piece))?;
            }
            Ok(())
        }
    }
}

/// The weight or the bias of a layer into which the batch norm behind it went.
fn folded(
    typed: &Typed,
    tensors: &dyn Tensors,
    layer: crate::graph::NodeId,
    norm: crate::graph::NodeId,
    is_bias: bool,
) -> Result<Vec<f32>, Problem> {
    let graph = typed.graph();
    let (eps, affine) = match &graph.node(norm).op {
        Op::BatchNorm2d(norm) => (norm.eps, norm.affine),
        Op::BatchNorm1d(norm) => (norm.eps, norm.affine),
        _ => unreachable!("a batch norm went into the layer"),
    };
    let first = if affine { 2 } else { 0 };
    let (mean, variance) = (tensors.read(norm, first)?, tensors.read(norm, first + 1)?);
    let channels = mean.len();
    let gamma = if affine { tensors.read(norm, 0)? } else { vec![1.0; channels] };
    let scale: Vec<f64> = gamma
        .iter()
        .zip(&variance)
        .map(|(gamma, variance)| f64::from(*gamma) / (f64::from(*variance) + eps).sqrt())
        .collect();
    let (has_bias, is_transposed) = match &graph.node(layer).op {
        Op::Conv2d(conv) => (conv.bias, false),
        Op::Linear(linear) => (linear.bias, false),
        Op::ConvTranspose2d(conv) => (conv.bias, true),
        _ => unreachable!("batch norms go into no other layer"),
    };
    if is_bias {
        let beta = if affine { tensors.read(norm, 1)? } else { vec![0.0; channels] };
        let own = if has_bias { tensors.read(layer, 1)? } else { vec![0.0; channels] };
        let bias = |at: usize| f64::from(beta[at]) + scale[at] * (f64::from(own[at]) - f64::from(mean[at]));
        return Ok((0..channels).map(|at| bias(at) as f32).collect());
    }
    let mut weight = tensors.read(layer, 0)?;
    let window = match &graph.node(layer).op {
        Op::ConvTranspose2d(conv) => conv.kernel.h * conv.kernel.w,
        _ => weight.len() / channels,
    };
    // [out, ..], of a transposed convolution [in, out, kernel, kernel]
    for (at, values) in weight.chunks_mut(window).enumerate() {
        let scale = scale[if is_transposed { at % channels } else { at }];
        values.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
    }
    Ok(weight)
}
