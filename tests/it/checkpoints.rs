//! Files as the official checkpoints are: other key names, auxiliary heads, no counters.

use std::path::Path;

use archc::bind::{bind, bind_edited};
use archc::compile::{self, Compiled, Outcome};
use archc::source::Sources;
use archc::weights::{Data, Store, TensorOut, write_safetensors};
use indexmap::IndexMap;

fn compiled(dir: &Path, text: &str) -> Compiled {
    let mut sources = Sources::new();
    let file = sources.add("spec.arch", text, Some(dir));
    match compile::compile(&mut sources, file, &[]) {
        Ok(Outcome::Spec(compiled)) => *compiled,
        Ok(Outcome::Library) => panic!("a library"),
        Err(problems) => panic!("{}", archc::diag::render(&problems, &sources, false)),
    }
}

/// Exports the network with random weights and writes them again, each key as `rename` says; None leaves it out.
fn checkpoint(dir: &Path, network: &str, extra: &[(&str, usize)], rename: impl Fn(&str) -> Option<String>) {
    let spec = compiled(dir, &format!("base {network} {{ weights random(seed = 1) }}\n"));
    let plain = dir.join("plain.safetensors");
    let bound = bind(&spec.settings, &spec.base, &spec.typed, None).expect("random weights bind");
    bound.export(&plain, &archc::weights::DType::F32, &IndexMap::new()).expect("the file can be written");
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
    let spec = compiled(dir.path(), text);
    let bound = bind(&spec.settings, &spec.base, &spec.typed, None).expect("every key is mapped");
    // 727 in a state_dict, 121 of them counters that the file lacks
    assert_eq!(bound.ledger().to_string(), "606 kept, 0 dropped, 0 new, 0 reshaped, 0 unused");

    let plain = compiled(dir.path(), "base densenet121 { weights \"official.safetensors\" }\n");
    let problems = bind(&plain.settings, &plain.base, &plain.typed, None).err().expect("the names differ");
    let problem = &problems.iter().next().expect("one message").problem;
    let lists = |line: &str| problem.lists.iter().any(|list| list.lines.iter().any(|one| one == line));
    assert!(lists("missing: features.denseblock1.denselayer1.norm1.weight"));
    assert!(lists("unexpected: features.denseblock1.denselayer1.norm.1.weight"));
    assert!(problem.message.contains("580 missing, 580 unexpected"), "{}", problem.message);
}

#[test]
fn auxiliary_heads_are_ignored() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let aux = [("aux1.fc2.bias", 1000), ("aux2.fc2.bias", 1000)];
    checkpoint(dir.path(), "googlenet", &aux, no_counter);
    let spec = compiled(dir.path(), "base googlenet { weights \"official.safetensors\"\n ignore \"aux\\d\\..*\" }\n");
    let bound = bind(&spec.settings, &spec.base, &spec.typed, None).expect("the heads are ignored");
    assert_eq!(bound.ledger().unused, ["aux1.fc2.bias", "aux2.fc2.bias"]);
    assert!(bound.ledger().dropped.is_empty() && bound.ledger().new.is_empty());
}

#[test]
fn an_insert_alone_keeps_every_tensor() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = compiled(dir.path(), "base resnet50\ninsert dropout(0.5) before fc\n");
    let bound = bind(&spec.settings, &spec.base, &spec.typed, None).expect("random weights bind");
    assert_eq!(bound.ledger().to_string(), "320 kept, 0 dropped, 0 new, 0 reshaped, 0 unused");
    let file = dir.path().join("edited.safetensors");
    bound.export(&file, &archc::weights::DType::F32, &IndexMap::new()).expect("the file can be written");
    let again = bind_edited(&spec.typed, &file).expect("what export writes can be read back");
    assert_eq!(again.ledger().kept.len(), 320);
}
