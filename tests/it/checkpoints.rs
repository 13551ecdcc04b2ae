//! Files as the official checkpoints are: other key names, auxiliary heads, no counters.

use std::path::Path;

use archc::stages::weights::{Data, Store, TensorOut, write_safetensors};
use archc::{DType, Device, Exporter, Format, Model, Options, Spec, Tensor};
use indexmap::IndexMap;

fn compiled(dir: &Path, text: &str) -> Model {
    Spec::from_text_in(text, "spec.arch", dir).compile().expect("a spec that is right")
}

/// The spec's network with its weights.
fn bound(dir: &Path, text: &str) -> Exporter {
    compiled(dir, text).exporter(&Options::default()).expect("the weights fit")
}

/// Exports the network with random weights and writes them again, each key as `rename` says; None leaves it out.
fn checkpoint(dir: &Path, network: &str, extra: &[(&str, usize)], rename: impl Fn(&str) -> Option<String>) {
    let plain = dir.join("plain.safetensors");
    let bound = bound(dir, &format!("base {network} {{ weights random(seed = 1) }}\n"));
    bound.write(&plain, Format::SAFETENSORS, DType::F32).expect("the file can be written");
    let store = Store::open_file(&plain).expect("the file can be read");
    let mut values: Vec<(String, Vec<usize>, Vec<f32>)> = vec![];
    for (key, info) in store.tensors() {
        if let Some(name) = rename(key) {
            values.push((name, info.shape.clone(), store.read(key).expect("a float")));
        }
    }
    values.extend(extra.iter().map(|(key, len)| (key.to_string(), vec![*len], vec![0.5; *len])));
    let out: Vec<TensorOut<'_>> =
        values.iter().map(|(key, shape, data)| TensorOut { key, shape, data: Data::F32(data) }).collect();
    write_safetensors(&dir.join("official.safetensors"), &out, &IndexMap::new()).expect("the file can be written");
}

fn no_counter(key: &str) -> Option<String> {
    (!key.ends_with("num_batches_tracked")).then(|| key.to_string())
}

#[test]
fn densenet_with_the_old_names_is_mapped() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    checkpoint(dir.path(), "densenet121", &[], |key| {
        let key = no_counter(key)?;
        let inner = key.contains(".denselayer");
        let old = ["norm1", "norm2", "conv1", "conv2"].iter().find(|name| inner && key.contains(&format!(".{name}.")));
        Some(match old {
            Some(name) => key.replace(&format!(".{name}."), &format!(".{}.{}.", &name[..4], &name[4..])),
            None => key,
        })
    });
    let text = r#"base densenet121 {
        weights "official.safetensors"
        map "(.*\.denselayer\d+)\.(norm|conv)\.([12])\.(.*)" to "$1.$2$3.$4"
    }"#;
    let bound = bound(dir.path(), text);
    // 727 in a state_dict, 121 of them counters that the file lacks
    assert_eq!(bound.ledger().to_string(), "606 kept, 0 dropped, 0 new, 0 reshaped, 0 unused");

    let plain = compiled(dir.path(), "base densenet121 { weights \"official.safetensors\" }\n");
    let error = plain.exporter(&Options::default()).err().expect("the names differ");
    let message = error.messages().remove(0);
    let says = |line: &str| message.notes.iter().any(|note| note == line);
    assert!(says("missing: features.denseblock1.denselayer1.norm1.weight"));
    assert!(says("unexpected: features.denseblock1.denselayer1.norm.1.weight"));
    assert!(message.text.contains("580 missing, 580 unexpected"), "{}", message.text);
}

#[test]
fn a_wrapped_file_is_told_on_one_screen() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    checkpoint(dir.path(), "resnet50", &[], |key| Some(format!("module.{key}")));
    let plain = compiled(dir.path(), "base resnet50 { weights \"official.safetensors\" }\n");
    let told = plain.exporter(&Options::default()).err().expect("the names differ").to_string();
    assert!(told.lines().count() < 40, "{told}");
    assert!(told.contains(r#"`map "module\.(.*)" to "$1"`"#), "{told}");
}

#[test]
fn auxiliary_heads_are_ignored() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let aux = [("aux1.fc2.bias", 1000), ("aux2.fc2.bias", 1000)];
    checkpoint(dir.path(), "googlenet", &aux, no_counter);
    let bound = bound(dir.path(), "base googlenet { weights \"official.safetensors\"\n ignore \"aux\\d\\..*\" }\n");
    assert_eq!(bound.ledger().unused, ["aux1.fc2.bias", "aux2.fc2.bias"]);
    assert!(bound.ledger().dropped.is_empty() && bound.ledger().new.is_empty());
}

#[test]
fn an_insert_alone_keeps_every_tensor() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = compiled(dir.path(), "base resnet50\ninsert dropout(0.5) before fc\n");
    let bound = spec.exporter(&Options::default()).expect("random weights bind");
    assert_eq!(bound.ledger().to_string(), "320 kept, 0 dropped, 0 new, 0 reshaped, 0 unused");
    let file = dir.path().join("edited.safetensors");
    bound.write(&file, Format::SAFETENSORS, DType::F32).expect("the file can be written");
    let again = Options { weights: Some(file), ..Options::default() };
    let again = spec.exporter(&again).expect("what export writes can be read back");
    assert_eq!(again.ledger().kept.len(), 320);
}

/// The values of some tensors of a spec's network.
fn values(dir: &Path, text: &str, keys: &[&str]) -> Vec<Vec<f32>> {
    let (bound, _) = compiled(dir, text).bind(&Options::default()).expect("the weights fit");
    keys.iter().map(|key| bound.read_key(key).expect("a tensor").0).collect()
}

#[test]
fn what_is_kept_of_a_drawn_base_is_what_it_has() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    // tables that can be computed are, as nothing draws them
    let base = "use \"zoo:swin.arch\"\nbase swin_t { input [N, 3, 64, 64] }\n";
    let keys = ["features.1.0.attn.relative_position_index", "features.1.0.attn.qkv.weight"];
    let kept = format!("{base}replace features[1][0].attn with window_attention(3) keeping weights");
    assert!(values(dir, &kept, &keys) == values(dir, base, &keys), "a table or weight is another");
    // a base may be filled from a file, and so may what is new
    let row = |at: f32| [at, at + 1.0, at + 2.0, at + 3.0];
    let tensor =
        |key: &'static str, rows: &'static [f32]| (key, rows.iter().flat_map(|at| row(*at)).collect::<Vec<f32>>());
    let tensors = [tensor("two", &[10.0, 20.0]), tensor("three", &[30.0, 40.0, 50.0])];
    let shapes = tensors.iter().map(|(_, values)| [values.len() / 4, 4]).collect::<Vec<_>>();
    let out: Vec<TensorOut<'_>> = tensors
        .iter()
        .zip(&shapes)
        .map(|((key, values), shape)| TensorOut { key, shape, data: Data::F32(values) })
        .collect();
    write_safetensors(&dir.join("more.safetensors"), &out, &IndexMap::new()).expect("a file can be written");
    let text = "network tiny { input [N, 4]; fc: linear(2, init = from(\"more.safetensors\", \"two\")) }\nbase tiny\n\
        replace fc with linear(3, init = from(\"more.safetensors\", \"three\")) keeping rows [1, 0, new]";
    assert_eq!(values(dir, text, &["fc.weight"]), [[row(20.0), row(10.0), row(50.0)].concat()]);
}

/// With branches, and with `deploy` what they come to: groups, biases, windows of several sizes, a stride, the value itself.
const BRANCHED: &str = "network branched(deploy = false) {
    input [N, 6, 9, 11]
    if deploy {
        same: { reparam_conv: conv2d(6, kernel = 5, padding = 2, groups = 3) -> relu }
        down: { reparam_conv: conv2d(8, kernel = 3, stride = 2, padding = 1) -> relu }
    } else {
        same: {
            let five  = in -> five: conv2d(6, kernel = 5, padding = 2, groups = 3) -> five_norm: batch_norm2d
            let three = in -> three: conv2d(6, kernel = 3, padding = 1, groups = 3, bias = false)
            let norm  = in -> norm: batch_norm2d(eps = 0.01)
            five + three
            prev + norm
            prev + in
            relu
        }
        down: {
            let wide   = in -> wide: conv2d(8, kernel = 3, stride = 2, padding = 1, bias = false)
            let narrow = in -> narrow: conv2d(8, kernel = 1, stride = 2) -> narrow_norm: batch_norm2d
            wide + narrow
            relu
        }
    }
    global_avg_pool2d
    fc: linear(3)
}
";

#[test]
fn folded_branches_are_one_convolution() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    let spec = |base: &str| format!("{BRANCHED}base {base}\n");
    let drawn = dir.join("drawn.safetensors");
    let written =
        bound(dir, &spec("branched { weights random(seed = 1) }")).write(&drawn, Format::SAFETENSORS, DType::F32);
    written.expect("the file can be written");
    // norms as of a network that has learned
    let store = Store::open_file(&drawn).expect("the file can be read");
    let mut values: Vec<(String, Vec<usize>, Vec<f32>)> = vec![];
    for (key, info) in store.tensors().iter().filter(|(key, _)| no_counter(key).is_some()) {
        let mut data = store.read(key).expect("a float");
        if key.contains("norm") {
            let shift = key.len();
            data.iter_mut().enumerate().for_each(|(at, value)| *value = 0.4 + 0.3 * ((at + shift) % 5) as f32);
        }
        values.push((key.to_string(), info.shape.clone(), data));
    }
    let out: Vec<TensorOut<'_>> =
        values.iter().map(|(key, shape, data)| TensorOut { key, shape, data: Data::F32(data) }).collect();
    write_safetensors(&dir.join("learned.safetensors"), &out, &IndexMap::new()).expect("the file can be written");

    let learned = "branched { weights \"learned.safetensors\" }";
    let mut exporter = bound(dir, &spec(learned));
    assert_eq!(exporter.fold().expect("there are branches"), ["same.reparam_conv", "down.reparam_conv"]);
    let written = exporter.write(dir.join("folded.safetensors"), Format::SAFETENSORS, DType::F32);
    assert_eq!(written.expect("the file can be written"), 6);

    let picture: Vec<f32> = (0..2 * 6 * 9 * 11).map(|at| ((at * 37 % 101) as f32 - 50.0) / 40.0).collect();
    let picture = Tensor::new([2, 6, 9, 11], picture);
    let outputs = [learned, "branched(deploy = true) { weights \"folded.safetensors\" }"].map(|base| {
        let model = compiled(dir, &spec(base));
        model
            .load(Device::Cpu, Options { batch: Some(2), ..Options::default() })
            .expect("the weights fit")
            .run(&picture)
            .expect("it runs")
            .into_one()
    });
    for (branched, folded) in outputs[0].data().iter().zip(outputs[1].data()) {
        assert!(
            (branched - folded).abs() <= 1e-5 * (1.0 + branched.abs()),
            "{branched} with branches, {folded} folded"
        );
    }
    let error =
        bound(dir, "base resnet18 { weights random(seed = 0) }\n").fold().expect_err("its sums are none of these");
    assert!(error.to_string().contains("nothing to fold"), "{error}");
}

#[test]
fn what_is_not_persistent_is_read_and_not_written() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("written.safetensors");
    let network = |persistent: bool| {
        format!(
            "network small {{\n    input [N, 16]\n    biases: parameter([9, 1])\n    \
             index: window_index(2, persistent = {persistent})\n    \
             in + (gather(biases, index) -> reshape(16))\n}}\n"
        )
    };
    let written = |text: &str| {
        bound(dir.path(), text).write(&file, Format::SAFETENSORS, DType::F32).expect("the file can be written");
        Store::open_file(&file).expect("the file can be read").tensors().keys().cloned().collect::<Vec<String>>()
    };
    assert_eq!(written(&format!("{}base small\n", network(true))), ["index", "biases"]);
    let text = format!("{}base small {{ weights \"written.safetensors\" }}\n", network(false));
    assert_eq!(bound(dir.path(), &text).ledger().to_string(), "2 kept, 0 dropped, 0 new, 0 reshaped, 0 unused");
    assert_eq!(written(&format!("{}base small\n", network(false))), ["biases"]);
}
