//! The specs of tests/reference/branches and blocks beside PyTorch (branches.py and blocks.py there): every output, with PyTorch's
//! weights.

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
    compare("branches", 6);
}

#[test]
fn blocks_are_pytorchs() {
    compare("blocks", 4);
}

/// The specs of a folder, `least` or more, beside what the file of its name has of them.
fn compare(folder: &str, least: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    let bytes = std::fs::read(root.join(format!("{folder}.safetensors"))).expect("the file is there");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut specs: Vec<_> = std::fs::read_dir(root.join(folder)).expect("a folder").flatten().collect();
    specs.sort_by_key(|entry| entry.path());
    assert!(specs.len() >= least, "the specs are found");
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

/// At the pixels that the coarser map had, the finer one has the same values.
#[test]
fn a_dilated_network_agrees_where_the_coarser_one_has_pixels() {
    let text = "network small {
            input [N, 3, 65, 50]
            conv2d(6, kernel = 7, stride = 2, padding = 3)
            relu
            max_pool2d(3, stride = 2, padding = 1)
            bottleneck(8, stride = 2)
            conv2d(8, kernel = 5, padding = 4, dilation = 2)
            conv2d(8, kernel = (1, 7), padding = (0, 3))
            max_pool2d(3, stride = 2, padding = 1)
            pad(1, 1, 1, 1)
            conv2d(8, kernel = 3)
        }
        base small\n";
    let wave = (0..3 * 65 * 50).map(|at| (at as f32 * 0.7).sin()).collect();
    let x = Tensor::new([1, 3, 65, 50], wave);
    let run = |edit: &str| {
        let model =
            Spec::from_text(format!("{text}{edit}")).compile().unwrap_or_else(|error| panic!("{edit}: {error}"));
        let options = Options { exact: true, ..Options::default() };
        model.load(Device::Cpu, options).expect("random weights").run(&x).expect("it runs").into_one()
    };
    let coarse = run("");
    assert_eq!(coarse.shape(), [1, 8, 5, 4]);
    for (limit, rate, size) in [(1, 16, [65, 50]), (2, 8, [33, 25]), (4, 4, [17, 13]), (8, 2, [9, 7])] {
        let fine = run(&format!("dilate to {limit}"));
        assert_eq!(fine.shape()[2..], size, "to {limit}");
        for (at, wanted) in coarse.data().iter().enumerate() {
            let [c, y, x] = [at / 20, at / 4 % 5, at % 4];
            let found = fine.data()[(c * size[0] + y * rate) * size[1] + x * rate];
            assert!((found - wanted).abs() <= 1e-5, "to {limit}: {found} for {wanted} at {c}, {y}, {x}");
        }
    }
}
