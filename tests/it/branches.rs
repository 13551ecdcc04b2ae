//! The specs of tests/reference/branches beside PyTorch (tests/reference/branches.py): every output, with PyTorch's weights.

use std::collections::BTreeMap;
use std::path::Path;

use archc::{Device, Options, Spec, Tensor};
use safetensors::SafeTensors;

/// What may come of another order of sums.
const TOLERANCE: f64 = 1e-5;

/// The tensors below `prefix`, by the rest of their names.
fn below(file: &SafeTensors<'_>, prefix: &str) -> BTreeMap<String, Tensor> {
    let names = file.names().into_iter().filter_map(|name| Some((name, name.strip_prefix(prefix)?)));
    let read = |name: &str| {
        let view = file.tensor(name).expect("it was listed");
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Tensor::new(view.shape(), values.collect())
    };
    names.map(|(name, rest)| (rest.to_string(), read(name))).collect()
}

/// Writes tensors as a file of weights.
fn write(path: &Path, tensors: &BTreeMap<String, Tensor>) {
    let bytes = |tensor: &Tensor| tensor.data().iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let data: Vec<(&String, Vec<usize>, Vec<u8>)> =
        tensors.iter().map(|(key, tensor)| (key, tensor.shape().to_vec(), bytes(tensor))).collect();
    let views = data.iter().map(|(key, shape, data)| {
        (key, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).expect("it is whole"))
    });
    safetensors::serialize_to_file(views, None, path).expect("a file of weights");
}

#[test]
fn outputs_are_pytorchs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    let bytes = std::fs::read(root.join("branches.safetensors")).expect("the file is there");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut specs: Vec<_> = std::fs::read_dir(root.join("branches")).expect("a folder").flatten().collect();
    specs.sort_by_key(|entry| entry.path());
    assert!(specs.len() >= 4, "the specs are found");
    for spec in specs {
        let name = spec.path().file_stem().expect("a name").to_string_lossy().into_owned();
        let weights = dir.path().join(format!("{name}.safetensors"));
        write(&weights, &below(&file, &format!("{name}/w/")));
        let given = below(&file, &format!("{name}/x/"));
        let given: Vec<(&str, &Tensor)> = given.iter().map(|(input, tensor)| (input.as_str(), tensor)).collect();
        let batch = Some(given[0].1.shape()[0]);
        let options = Options { batch, exact: true, weights: Some(weights), ..Options::default() };
        let model = Spec::open(spec.path()).and_then(Spec::compile).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut session = model.load(Device::Cpu, options).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = session.run(given.as_slice()).expect("it runs");
        let wanted = below(&file, &format!("{name}/y/"));
        assert_eq!(found.iter().count(), wanted.len(), "{name}: every output is compared");
        for (output, wanted) in wanted {
            let found = found.get(&output).unwrap_or_else(|| panic!("{name} has no output {output}"));
            assert_eq!(found.shape(), wanted.shape(), "{name}: {output}");
            let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
            let pairs = found.data().iter().zip(wanted.data());
            let off = square(&mut pairs.map(|(a, b)| f64::from(a - b)));
            let size = square(&mut wanted.data().iter().map(|value| f64::from(*value)));
            assert!(off <= TOLERANCE * size, "{name}: {output} is off by {off:e} of {size:e}");
        }
    }
}
