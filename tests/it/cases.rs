//! What people do to pretrained networks: each spec of tests/cases comes to what its `#!` lines say, and where
//! tests/reference/cases.py has PyTorch's outputs for it, to those. `ARCHC_BLESS=1` writes what came instead.

use std::collections::BTreeMap;
use std::path::Path;

use archc::{DType, Device, Format, Options, Spec, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::suite;

/// Relative L2 error that outputs may have.
const LIMIT: f64 = 1e-4;
/// Values of an output that the file of references keeps at most.
const KEPT: usize = 512;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of weights by name, f32 all.
type Weights = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The file of weights that a case names: of which base, and what its makers do to the keys.
type Recipe = (&'static str, &'static str, fn(Weights) -> Weights);

const RESNET: &str = "base resnet18 { input [N, 3, 64, 64]; weights random(seed = 1) }";
const VIT: &str = "base vit(16, 64, 2, 4, 128) { weights random(seed = 1) }";

const FILES: &[(&str, Recipe)] = &[
    ("moco", (RESNET, "moco.safetensors", moco)),
    ("wrapped_keys", (RESNET, "wrapped.safetensors", wrapped)),
    ("mm_keys", (RESNET, "mm.safetensors", mm)),
    ("vit_size", (VIT, "vit.safetensors", |state| state)),
    ("split_qkv", (VIT, "split.safetensors", split)),
    (
        "layer_scale",
        (
            "base convnext([1, 1, 1, 1], [16, 32, 64, 128], 0.0, 230) { input [N, 3, 64, 64]; weights random(seed = 1) }",
            "scales.safetensors",
            scales,
        ),
    ),
    ("clip_proj", ("base vit(16, 64, 2, 4, 128, classes = 32) { weights random(seed = 1) }", "clip.safetensors", clip)),
];

/// Two encoders and a queue, the classifier gone.
fn moco(state: Weights) -> Weights {
    let encoder = state.into_iter().filter(|(key, _)| !key.starts_with("fc."));
    let mut out = Weights::new();
    for (key, (shape, values)) in encoder {
        let other = values.iter().map(|value| value + 1.0).collect();
        out.insert(format!("module.encoder_k.{key}"), (shape.clone(), other));
        out.insert(format!("module.encoder_q.{key}"), (shape, values));
    }
    out.insert("module.queue".into(), (vec![128, 16], vec![0.0; 128 * 16]));
    out.insert("module.encoder_q.fc.0.weight".into(), (vec![512, 512], vec![0.0; 512 * 512]));
    out
}

/// The weights and their running mean.
fn wrapped(state: Weights) -> Weights {
    let mut out = Weights::new();
    for (key, (shape, values)) in state {
        let other = values.iter().map(|value| value + 1.0).collect();
        out.insert(format!("state_dict.{key}"), (shape.clone(), other));
        out.insert(format!("state_dict_ema.module.{key}"), (shape, values));
    }
    out
}

/// Prefixes for backbone and head.
fn mm(state: Weights) -> Weights {
    let named = |key: &str| if key.starts_with("fc.") { format!("head.{key}") } else { format!("backbone.{key}") };
    state.into_iter().map(|(key, tensor)| (named(&key), tensor)).collect()
}

/// Query, key and value apart.
fn split(state: Weights) -> Weights {
    let mut out = Weights::new();
    for (key, (mut shape, values)) in state {
        if !key.contains("in_proj_") {
            out.insert(key, (shape, values));
            continue;
        }
        shape[0] /= 3;
        for (name, part) in ["query", "key", "value"].iter().zip(values.chunks_exact(values.len() / 3)) {
            out.insert(key.replace("in_proj_", &format!("{name}.")), (shape.clone(), part.to_vec()));
        }
    }
    out
}

/// Layer scales of one axis.
fn scales(state: Weights) -> Weights {
    let flat = |(key, (shape, values)): (String, (Vec<usize>, Vec<f32>))| match key.strip_suffix(".layer_scale") {
        Some(block) => (format!("{block}.gamma"), (vec![values.len()], values)),
        None => (key, (shape, values)),
    };
    state.into_iter().map(flat).collect()
}

/// The projection is [in, out].
fn clip(mut state: Weights) -> Weights {
    let (shape, values) = state.remove("heads.head.weight").expect("a head");
    let turned = (0..shape[1]).flat_map(|input| (0..shape[0]).map(move |out| (out, input)));
    let turned = turned.map(|(out, input)| values[out * shape[1] + input]).collect();
    state.insert("proj".into(), (vec![shape[1], shape[0]], turned));
    let bias = state.remove("heads.head.bias").expect("a bias");
    state.insert("proj_bias".into(), bias);
    state
}

fn read(bytes: &[u8]) -> Weights {
    let file = SafeTensors::deserialize(bytes).expect("a file of tensors");
    let floats = |(name, view): (String, TensorView<'_>)| {
        let values = view.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes")));
        (view.dtype() == Dtype::F32).then(|| (name, (view.shape().to_vec(), values.collect())))
    };
    file.tensors().into_iter().filter_map(floats).collect()
}

fn write(path: &Path, weights: &Weights) {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = weights
        .iter()
        .map(|(name, (shape, values))| (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        .collect();
    let view =
        |(name, shape, bytes): &'_ (&String, &Vec<usize>, Vec<u8>)| ((*name).clone(), (*shape).clone(), bytes.clone());
    let owned: Vec<(String, Vec<usize>, Vec<u8>)> = bytes.iter().map(view).collect();
    let views = owned
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor")));
    std::fs::write(path, safetensors::serialize(views, None).expect("a file")).expect("a writable folder");
}

/// Writes the file of weights that a case names.
fn make_file(dir: &Path, (base, name, change): &Recipe) {
    let model = Spec::from_text(*base).compile().expect("the base is right");
    let path = dir.join(name);
    let exporter = model.exporter(&Options::default()).expect("random weights");
    let format = Format::SAFETENSORS;
    exporter.write(&path, format, DType::F32).expect("a writable folder");
    write(&path, &change(read(&std::fs::read(&path).expect("it was written"))));
}

/// The input of every case: a hash of the position, between -1 and 1, as cases.py has it.
fn pattern(shape: &[usize]) -> Tensor {
    let hash = |at: usize| (at as u64).wrapping_mul(2_654_435_761) % (1 << 32);
    let values = (0..shape.iter().product()).map(|at| (hash(at) as f64 / 2f64.powi(31) - 1.0) as f32).collect();
    Tensor::new(shape.to_vec(), values)
}

/// At most `KEPT` values, evenly spaced.
fn thinned(values: &[f32]) -> impl Iterator<Item = f32> {
    values.iter().step_by(values.len().div_ceil(KEPT).max(1)).copied()
}

#[test]
fn cases_come_to_what_they_say_and_to_what_pytorch_gives() {
    let references = read(&std::fs::read(root().join("tests/reference/cases.safetensors")).expect("the references"));
    let bless = std::env::var_os("ARCHC_BLESS").is_some();
    let mut failures = String::new();
    let mut compared = 0;
    let mut files: Vec<_> = std::fs::read_dir(root().join("tests/cases"))
        .expect("the cases")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    for file in files {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).expect("a readable file");
        let dir = tempfile::tempdir().expect("a temporary folder");
        if let Some((_, recipe)) = FILES.iter().find(|(case, _)| *case == name) {
            make_file(dir.path(), recipe);
        }
        let came = suite::run(&format!("=== {name}\n{text}"), dir.path());
        let came = came.split_once('\n').expect("a title, then the case").1.to_string();
        if came != text && bless {
            std::fs::write(&file, &came).expect("a writable file");
        } else if came != text {
            failures += &format!("{name} comes to\n{came}\n");
        }
        let outputs: Vec<(&str, &Vec<f32>)> = references
            .iter()
            .filter_map(|(key, (_, values))| Some((key.strip_prefix(&name)?.strip_prefix('.')?, values)))
            .collect();
        if outputs.is_empty() {
            continue;
        }
        compared += 1;
        for (output, error) in errors(&text, dir.path(), &outputs) {
            if error.is_nan() || error > LIMIT {
                failures += &format!("{name}: `{output}` is {error:.1e} from PyTorch's\n");
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    assert_eq!(
        compared,
        references.keys().map(|key| key.split('.').next()).collect::<std::collections::BTreeSet<_>>().len()
    );
}

/// How far each output is from PyTorch's.
fn errors<'a>(text: &str, dir: &Path, outputs: &[(&'a str, &Vec<f32>)]) -> Vec<(&'a str, f64)> {
    let model = Spec::from_text_in(text, "case.arch", dir).compile().expect("the case is right");
    let batch = 2;
    let options = Options { batch: Some(batch), ..Options::default() };
    let mut session = model.load(Device::Cpu, options).expect("it can be loaded");
    let inputs: Vec<(String, Tensor)> =
        model.inputs().into_iter().map(|(name, shape)| (name, pattern(&[&[batch], &shape[..]].concat()))).collect();
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let came = session.run(inputs.as_slice()).expect("it runs");
    let of = |(name, wanted): &(&'a str, &Vec<f32>)| {
        let got = came.get(name).expect("the output is there");
        let (mut apart, mut norm, mut count) = (0f64, 0f64, 0);
        for (got, wanted) in thinned(got.data()).zip(wanted.iter()) {
            apart += f64::from(got - wanted).powi(2);
            norm += f64::from(*wanted).powi(2);
            count += 1;
        }
        assert_eq!(count, wanted.len(), "{name}");
        (*name, (apart / norm).sqrt())
    };
    outputs.iter().map(of).collect()
}
