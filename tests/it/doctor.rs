//! What `archc doctor` says of files as programs write them: keys and shapes of tests/reference/doctor.txt, made into files
//! without values. The reports are those of tests/expect/doctor; one with a base is a spec, which must load.
//! `ARCHC_BLESS=1` writes what came instead, `ARCHC_DOCTOR=clip` takes only the files of such a name.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use archc::Spec;
use archc::stages::doctor::{Catalogue, diagnose};

/// An entry of a file.
enum Value {
    Tensor(Vec<usize>),
    Text(String),
}

/// Keys in the file's order; `/` is between a dictionary and what lies in it.
type Entries = Vec<(String, Value)>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn files_are_what_their_reports_say_and_load_by_them() {
    let manifest = std::fs::read_to_string(root().join("tests/reference/doctor.txt")).expect("the manifest");
    let only = std::env::var("ARCHC_DOCTOR").unwrap_or_default();
    let bless = std::env::var_os("ARCHC_BLESS").is_some();
    let catalogue = Catalogue::new(None).expect("the zoo compiles");
    let (mut failures, mut loaded) = (String::new(), 0);
    for (name, entries) in files(&manifest).into_iter().filter(|(name, _)| name.contains(&only)) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join(&name);
        if name.ends_with(".safetensors") {
            write_safetensors(&path, &entries)
        } else {
            write_pytorch(&path, &entries)
        }
        let here = |text: &str| text.replace(&format!("{}/", dir.path().display()), "");
        let came = match diagnose(&path, &catalogue) {
            Ok(found) => found.report(),
            Err(problem) => Err(problem),
        };
        let came = match came {
            Ok(report) => {
                let spec = Spec::from_text(report.as_str()).check(archc::Files::All);
                let model = spec.unwrap_or_else(|error| panic!("{name}: {error}")).expect("a spec");
                let ledger = model.ledger().unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(report.contains(&format!("# {ledger}\n")), "{name}: {ledger}\n{report}");
                assert_eq!(ledger.reshaped.len(), 0, "{name}");
                loaded += 1;
                here(&report)
            }
            Err(problem) => {
                let notes = problem.all_notes().map(|note| format!("note: {note}\n"));
                let hints = problem.hints.iter().map(|hint| format!("help: {hint}\n"));
                here(&format!("{}\n{}", problem.message, notes.chain(hints).collect::<String>()))
            }
        };
        let expected = root().join("tests/expect/doctor").join(format!("{}.txt", name.replace('.', "_")));
        if bless {
            std::fs::write(&expected, &came).expect("a writable folder");
        } else if std::fs::read_to_string(&expected).ok().as_deref() != Some(came.as_str()) {
            let _ = writeln!(failures, "{name}:\n{came}");
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    assert!(loaded >= 40 || !only.is_empty(), "{loaded}");
}

#[test]
fn a_file_in_several_parts_and_one_network_alone() {
    let manifest = std::fs::read_to_string(root().join("tests/reference/doctor.txt")).expect("the manifest");
    let (_, entries) =
        files(&manifest).into_iter().find(|(name, _)| name == "compiled.safetensors").expect("it is there");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (mut halves, mut map) = ([vec![], vec![]], serde_json::Map::new());
    for (at, (key, value)) in entries.into_iter().enumerate() {
        map.insert(key.clone(), format!("{}.safetensors", at % 2).into());
        halves[at % 2].push((key, value));
    }
    for (at, half) in halves.iter().enumerate() {
        write_safetensors(&dir.path().join(format!("{at}.safetensors")), half);
    }
    let index = dir.path().join("model.safetensors.index.json");
    std::fs::write(&index, serde_json::json!({ "weight_map": map }).to_string()).expect("a writable folder");
    let diagnosis = |network| {
        let catalogue = Catalogue::new(Some(network)).expect("a network of the zoo");
        diagnose(&index, &catalogue).expect("the file can be read")
    };
    let found = diagnosis("resnet18");
    assert_eq!(found.network(), Some("resnet18"));
    Spec::from_text(found.spec().expect("it fits")).check(archc::Files::All).expect("it loads");
    // all of its tensors would be there, and others too, which are none of a smaller network's
    let larger = diagnosis("resnet34").report().expect_err("it is another network");
    let notes: Vec<String> = larger.all_notes().map(|note| note.into_owned()).collect();
    assert!(larger.message.ends_with("model.safetensors.index.json` does not fit resnet34"), "{}", larger.message);
    assert_eq!(notes[2], "it has 100 of the network's 182 tensors");
    assert!(notes.contains(&"missing: layer1.2.conv1.weight".to_string()), "{notes:?}");
    assert_eq!(diagnosis("alexnet").network(), None);
}

#[test]
fn a_file_of_many_wrapped_networks_is_read_in_time() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("many.safetensors");
    let keys = ["embeddings.cls_token", "encoder.layer.0.layernorm_before.weight"];
    let wrapped = |at: usize| keys.map(|key| (format!("p{at}.{key}"), Value::Tensor(vec![1])));
    write_safetensors(&path, &(0..10_000).flat_map(wrapped).collect());
    let catalogue = Catalogue::new(Some("resnet18")).expect("a network of the zoo");
    assert_eq!(diagnose(&path, &catalogue).expect("it can be read").network(), None);
    write_safetensors(&path, &(0..20_000).flat_map(wrapped).collect());
    let refused = diagnose(&path, &catalogue).expect_err("more than any network has");
    assert!(refused.message.contains("holds 40000 tensors"), "{}", refused.message);
}

#[test]
fn files_that_are_damaged_or_no_weights_are_said() {
    let catalogue = Catalogue::new(Some("resnet18")).expect("a network of the zoo");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("w.safetensors");
    let entries = vec![("fc.weight".to_string(), Value::Tensor(vec![1000, 512]))];
    write_safetensors(&path, &entries);
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("the file");
    file.set_len(512).expect("a shorter file");
    let said = |path: &Path| diagnose(path, &catalogue).expect_err("no weights").message;
    assert!(said(&path).contains("it is cut off"), "{}", said(&path));
    let data = root().join("tests/data/pytorch");
    assert!(said(&data.join("complex.pth")).contains("ComplexFloat"));
    assert!(said(&data.join("empty.pth")).contains("holds no tensors"));
    assert!(said(&root().join("Cargo.toml")).contains("is neither safetensors nor a PyTorch checkpoint"));

    // a whole module is read as its weights, and its class is named
    let module = diagnose(&data.join("module.pth"), &catalogue).expect("its tensors");
    assert_eq!(module.spec(), None);
    let warnings: Vec<&str> = module.warnings().iter().map(|one| one.problem.message.as_str()).collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].ends_with("holds objects that are no tensors: `__main__.Net`"), "{warnings:?}");
    let hints = &module.warnings().iter().next().expect("a warning").problem.hints;
    assert_eq!(hints, &["save the weights alone: `torch.save(model.state_dict(), file)`"]);

    let Err(unknown) = Catalogue::new(Some("resnet81")) else { panic!("there is no such network") };
    let hints = &unknown.iter().next().expect("a message").problem.hints;
    assert!(hints[0].contains("resnet18"), "{hints:?}");
}

#[test]
fn what_a_network_runs_wrongly_without_is_no_leftover() {
    let manifest = std::fs::read_to_string(root().join("tests/reference/doctor.txt")).expect("the manifest");
    let name = "vit_base_patch16_384.augreg.safetensors";
    let (_, mut entries) = files(&manifest).into_iter().find(|(file, _)| file == name).expect("it is there");
    let catalogue = Catalogue::new(Some("vit_base_patch16_384")).expect("a network of the zoo");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join(name);
    entries.push(("projector.weight".into(), Value::Tensor(vec![4])));
    write_safetensors(&path, &entries);
    let found = diagnose(&path, &catalogue).expect("it can be read");
    assert_eq!(found.network(), Some("vit_base_patch16_384"));
    entries.push(("reg_token".into(), Value::Tensor(vec![1, 4, 768])));
    write_safetensors(&path, &entries);
    assert_eq!(diagnose(&path, &catalogue).expect("it can be read").network(), None);
    write_safetensors(&path, &vec![]);
    let empty = diagnose(&path, &catalogue).expect_err("nothing is in it");
    assert!(empty.message.ends_with("holds no tensors"), "{}", empty.message);
}

#[test]
fn names_that_a_spec_can_have_are_written_into_it_and_others_are_refused() {
    let catalogue = Catalogue::new(Some("squeezenet1_1")).expect("a network of the zoo");
    let model = Spec::from_text("base squeezenet1_1").compile().expect("a network of the zoo");
    let asked = model.compiled().typed.order().iter().flat_map(|id| {
        let typed = &model.compiled().typed;
        let path = typed.graph().node(*id).path.clone();
        typed.params(*id).into_iter().map(move |param| (format!("{path}.{}", param.name), Value::Tensor(param.shape)))
    });
    let entries: Entries = asked.collect();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let names = [r#"a "b" c"#, r"back\slash", r#"both\" and \\"#, "tab\tand\rmore", "ümläut 名", r"ends with \"];
    for name in names {
        let path = dir.path().join(name);
        write_safetensors(&path, &entries);
        let found = diagnose(&path, &catalogue).expect("it can be read");
        let spec = found.spec().unwrap_or_else(|| panic!("{name}: {found}"));
        let model = Spec::from_text(spec).check(archc::Files::All).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(model.expect("a spec").ledger().expect("it loads").kept.len(), 52, "{name}");
    }
    let two = dir.path().join("two\nlines.safetensors");
    write_safetensors(&two, &entries);
    let refused = diagnose(&two, &catalogue).expect_err("no text of a spec has two lines");
    assert!(refused.message.ends_with("its name has several lines"), "{}", refused.message);
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"w\xff.safetensors"));
        write_safetensors(&odd, &entries);
        let refused = diagnose(&odd, &catalogue).expect_err("a spec is UTF-8");
        assert!(refused.message.ends_with("its name is not Unicode"), "{}", refused.message);
        assert!(Spec::from_text("base squeezenet1_1").with_base_weights(&odd).is_err());
    }
    // keys of several lines are told by an escape of the regex
    let wrapped = entries.into_iter().map(|(key, value)| (format!("a\nb.{key}"), value)).collect();
    let path = dir.path().join("wrapped.pth");
    write_pytorch(&path, &wrapped);
    let found = diagnose(&path, &catalogue).expect("it can be read");
    let spec = found.spec().unwrap_or_else(|| panic!("{found}"));
    Spec::from_text(spec).check(archc::Files::All).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn parts_with_quotes_in_their_names_are_read() {
    let manifest = std::fs::read_to_string(root().join("tests/reference/doctor.txt")).expect("the manifest");
    let (_, entries) =
        files(&manifest).into_iter().find(|(name, _)| name == "compiled.safetensors").expect("it is there");
    let entries = entries.into_iter().map(|(key, value)| (format!("my \"net\\/{key}"), value)).collect();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("quoted.pth");
    write_pytorch(&path, &entries);
    let catalogue = Catalogue::new(Some("resnet18")).expect("a network of the zoo");
    let found = diagnose(&path, &catalogue).expect("it can be read");
    let spec = found.spec().unwrap_or_else(|| panic!("{found}"));
    Spec::from_text(spec).check(archc::Files::All).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn what_archc_folded_is_known_and_computes_the_same() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for name in ["repvgg_a0", "repghostnet_050"] {
        let path = dir.path().join(format!("{name}-folded.safetensors"));
        let branched = format!("base {name}(classes = 7) {{ weights random(seed = 3) }}\n");
        let model = Spec::from_text(branched).compile().expect("a network of the zoo");
        let mut exporter = model.exporter(&archc::Options::default()).expect("weights can be drawn");
        exporter.fold().expect("it has branches");
        exporter.write(&path, archc::Format::SAFETENSORS, archc::DType::F32).expect("a writable folder");
        let found =
            diagnose(&path, &Catalogue::new(Some(name)).expect("a network of the zoo")).expect("it can be read");
        assert_eq!(found.network(), Some(name), "{found}");
        let spec = found.spec().expect("it fits").to_string();
        assert!(spec.starts_with(&format!("base {name}(classes = 7, deploy = true) {{")), "{spec}");
        let folded = Spec::from_text(spec).compile().expect("a spec");
        let picture: Vec<f32> = (0..3 * 224 * 224).map(|at| ((at * 37 % 101) as f32 - 50.0) / 40.0).collect();
        let picture = archc::Tensor::new([1, 3, 224, 224], picture);
        let outputs = [&model, &folded].map(|model| {
            let mut session = model.load(archc::Device::Cpu, archc::Options::default()).expect("the weights fit");
            session.run(&picture).expect("it runs").into_one()
        });
        let largest = outputs[0].data().iter().fold(0f32, |most, value| most.max(value.abs()));
        for (branched, folded) in outputs[0].data().iter().zip(outputs[1].data()) {
            assert!((branched - folded).abs() <= 1e-4 * largest, "{name}: {branched} and {folded} of {largest}");
        }
    }
}

/// The files of the manifest, by name.
fn files(manifest: &str) -> Vec<(String, Entries)> {
    let file = |text: &str| {
        let (title, lines) = text.split_once('\n').expect("lines");
        let (name, _) = title.split_once(": ").expect("a name and what it is");
        (name.to_string(), lines.lines().filter(|line| !line.is_empty()).flat_map(entries_of).collect())
    };
    manifest.split("=== ").skip(1).map(file).collect()
}

/// `blocks.{0-11}.norm.weight [384]`, or `arch = resnet50`
fn entries_of(line: &str) -> Entries {
    if let Some((name, text)) = line.split_once(" = ") {
        return vec![(name.into(), Value::Text(text.into()))];
    }
    let (key, shape) = line.split_once(" [").expect("a key and a shape");
    let dims = shape.trim_end_matches(']').split(", ").filter(|dim| !dim.is_empty());
    let shape: Vec<usize> = dims.map(|dim| dim.parse().expect("a size")).collect();
    let mut keys = vec![key.to_string()];
    while let Some((before, rest)) = keys[0].split_once('{') {
        let (range, _) = rest.split_once('}').expect("a closed range");
        let (from, to) = range.split_once('-').expect("two numbers");
        let (mark, before) = (format!("{{{range}}}"), before.len());
        let range = from.parse::<usize>().expect("a number")..=to.parse().expect("a number");
        let all = |key: &String| -> Vec<String> {
            let number = |number: usize| format!("{}{number}{}", &key[..before], &key[before + mark.len()..]);
            range.clone().map(number).collect()
        };
        keys = keys.iter().flat_map(all).collect();
    }
    keys.into_iter().map(|key| (key, Value::Tensor(shape.clone()))).collect()
}

/// A file whose values are a hole.
fn write_safetensors(path: &Path, entries: &Entries) {
    let (mut header, mut end) = (vec![], 0);
    for (key, value) in entries {
        let Value::Tensor(shape) = value else { continue };
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        header.push(format!(r#""{key}":{{"dtype":"F16","shape":{shape:?},"data_offsets":[{start},{end}]}}"#));
    }
    let json = format!("{{{}}}", header.join(","));
    let bytes = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
    std::fs::write(path, &bytes).expect("a writable folder");
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("the file");
    file.set_len((bytes.len() + end) as u64).expect("a hole");
}

/// A dictionary of a pickle.
#[derive(Default)]
struct Dict<'a> {
    values: Vec<(&'a str, &'a Value)>,
    dicts: BTreeMap<&'a str, Dict<'a>>,
}

/// A checkpoint whose tensors are all of one storage.
fn write_pytorch(path: &Path, entries: &Entries) {
    let (mut root, mut most) = (Dict::default(), 1);
    for (key, value) in entries {
        let mut names: Vec<&str> = key.split('/').collect();
        let name = names.pop().expect("a key has a name");
        let dict = names.into_iter().fold(&mut root, |dict, name| dict.dicts.entry(name).or_default());
        dict.values.push((name, value));
        if let Value::Tensor(shape) = value {
            most = most.max(shape.iter().product());
        }
    }
    let mut pickle = b"\x80\x02".to_vec();
    root.pickle(most, &mut pickle);
    pickle.push(b'.');
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).expect("a writable folder"));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("a/data.pkl", &pickle), ("a/data/0", &vec![0; 2 * most]), ("a/version", &b"3\n".to_vec())] {
        archive.start_file(name, stored).expect("an entry");
        archive.write_all(bytes).expect("an entry");
    }
    archive.finish().expect("a file");
}

impl Dict<'_> {
    fn pickle(&self, most: usize, out: &mut Vec<u8>) {
        out.extend(b"}(");
        for (name, value) in &self.values {
            string(name, out);
            match value {
                Value::Text(text) => string(text, out),
                Value::Tensor(shape) => tensor(shape, most, out),
            }
        }
        for (name, dict) in &self.dicts {
            string(name, out);
            dict.pickle(most, out);
        }
        out.push(b'u');
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn tensor(shape: &[usize], most: usize, out: &mut Vec<u8>) {
    let number = |number: usize, out: &mut Vec<u8>| {
        out.push(b'J');
        out.extend((number as u32).to_le_bytes());
    };
    let tuple = |numbers: &[usize], out: &mut Vec<u8>| {
        out.push(b'(');
        numbers.iter().for_each(|size| number(*size, out));
        out.push(b't');
    };
    let stride = |axis: usize| shape[axis + 1..].iter().product();
    let strides: Vec<usize> = (0..shape.len()).map(stride).collect();
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    string("storage", out);
    out.extend(b"ctorch\nHalfStorage\n");
    string("0", out);
    string("cpu", out);
    number(most, out);
    out.extend(b"tQK\0");
    tuple(shape, out);
    tuple(&strides, out);
    out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
}
