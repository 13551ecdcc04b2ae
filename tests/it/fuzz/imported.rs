//! Networks of other programs, changed at random: entries of the archive, what their JSON says, names that mean something
//! else. What comes of it is a network that is written, or a reason, soon and in little memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use archc::stages::diag::{Code, Problem};
use archc::stages::import::import;
use archc::stages::writer::{About, write};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

use super::config;
use super::readers::{apply, changes, entries, zip};
use super::spec::{number, peak};

/// No small network takes longer, on a machine that does much else.
const SLOWEST: Duration = Duration::from_secs(20);

const NAMES: &[&str] = &["blocks", "dynamic", "ends", "heads", "positions", "shared", "standardised", "windows"];

/// A file with its entries.
struct Sample {
    bytes: Vec<u8>,
    entries: Vec<(String, Vec<u8>)>,
    /// The entries that are JSON, that of the graph first.
    json: Vec<(usize, Value)>,
}

static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/import");
    let sample = |name: &&str| {
        let bytes = fs::read(folder.join(format!("{name}.pt2"))).expect("a sample");
        let entries = entries(&bytes);
        let parsed = |(at, (_, bytes)): (usize, &(String, Vec<u8>))| Some((at, serde_json::from_slice(bytes).ok()?));
        let mut json: Vec<(usize, Value)> =
            entries.iter().enumerate().filter(|(_, (name, _))| name.ends_with(".json")).filter_map(parsed).collect();
        json.sort_by_key(|(at, _)| !entries[*at].0.ends_with("models/model.json"));
        Sample { bytes, entries, json }
    };
    NAMES.iter().map(sample).collect()
});

/// One change of what JSON says.
#[derive(Clone, Debug)]
enum Edit {
    Number {
        at: Index,
        value: i64,
    },
    /// A text becomes another one of the file.
    Text {
        at: Index,
        from: Index,
    },
    Remove {
        at: Index,
    },
    Double {
        at: Index,
    },
    Swap {
        a: Index,
        b: Index,
    },
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    let edge = prop_oneof![
        Just(0),
        Just(-1),
        Just(i64::MAX),
        Just(i64::MIN),
        Just(1 << 31),
        Just(1 << 40),
        Just(1 << 20),
        -8..64i64,
        0..8i64,
    ];
    prop_oneof![
        4 => (at(), edge).prop_map(|(at, value)| Edit::Number { at, value }),
        4 => (at(), at()).prop_map(|(at, from)| Edit::Text { at, from }),
        1 => at().prop_map(|at| Edit::Remove { at }),
        1 => at().prop_map(|at| Edit::Double { at }),
        2 => (at(), at()).prop_map(|(a, b)| Edit::Swap { a, b }),
    ]
}

/// The places of values, those inside others behind them.
fn places(value: &Value, place: &str, all: &mut Vec<String>) {
    all.push(place.to_string());
    match value {
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(at, value)| places(value, &format!("{place}/{at}"), all));
        }
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            places(value, &format!("{place}/{}", key.replace('~', "~0").replace('/', "~1")), all);
        }),
        _ => {}
    }
}

fn change(json: &mut Value, edits: &[Edit]) {
    for edit in edits {
        let mut all = vec![];
        places(json, "", &mut all);
        let of = |is: fn(&Value) -> bool| -> Vec<&String> {
            all.iter().filter(|place| json.pointer(place).is_some_and(is)).collect()
        };
        let picked = |at: &Index, of: &[&String]| (!of.is_empty()).then(|| of[at.index(of.len())].clone());
        let any: Vec<&String> = all.iter().skip(1).collect();
        match edit {
            Edit::Number { at, value } => {
                let Some(place) = picked(at, &of(Value::is_number)) else { continue };
                *json.pointer_mut(&place).expect("it was found") = (*value).into();
            }
            Edit::Text { at, from } => {
                let texts = of(Value::is_string);
                let (Some(place), Some(from)) = (picked(at, &texts), picked(from, &texts)) else { continue };
                let text = json.pointer(&from).expect("it was found").clone();
                *json.pointer_mut(&place).expect("it was found") = text;
            }
            Edit::Remove { at } => {
                let Some(place) = picked(at, &any) else { continue };
                let (holder, key) = place.rsplit_once('/').expect("it lies in another value");
                match json.pointer_mut(holder) {
                    Some(Value::Array(list)) => drop(list.remove(key.parse().expect("a place"))),
                    Some(Value::Object(map)) => drop(map.remove(&key.replace("~1", "/").replace("~0", "~"))),
                    _ => unreachable!("values lie in lists and maps"),
                }
            }
            Edit::Double { at } => {
                let Some(place) = picked(at, &any) else { continue };
                let value = json.pointer(&place).expect("it was found").clone();
                let (holder, key) = place.rsplit_once('/').expect("it lies in another value");
                if let Some(Value::Array(list)) = json.pointer_mut(holder) {
                    list.insert(key.parse().expect("a place"), value);
                }
            }
            Edit::Swap { a, b } => {
                let (Some(a), Some(b)) = (picked(a, &any), picked(b, &any)) else { continue };
                // a value does not go into itself
                if a.starts_with(&format!("{b}/")) || b.starts_with(&format!("{a}/")) {
                    continue;
                }
                let value = json.pointer(&a).expect("it was found").clone();
                let other = std::mem::replace(json.pointer_mut(&b).expect("it was found"), value);
                *json.pointer_mut(&a).expect("it was found") = other;
            }
        }
    }
}

/// Imports a file of these bytes and writes the network that comes of it.
fn survives(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path: PathBuf = folder.path().join("net.pt2");
    fs::write(&path, bytes).expect("a file");
    let start = Instant::now();
    let check = |problem: Problem| {
        let expected = [Code::Import, Code::Output, Code::Resource, Code::Limit, Code::TooLarge, Code::File];
        assert!(expected.contains(&problem.code), "{problem:?}");
        let text = [&problem.message[..], &problem.hints.concat(), &problem.notes.concat()].concat();
        assert!(!problem.message.is_empty() && text.len() < 20_000, "{} bytes: {:.500}", text.len(), text);
    };
    match import(&path) {
        Ok(imported) => {
            let typed = imported.typed().unwrap_or_else(|problem| panic!("{problem:?}"));
            if let Err(problem) = write(typed.graph(), &About { name: "again", ..About::default() }) {
                check(problem);
            }
        }
        Err(problem) => check(problem),
    }
    assert!(start.elapsed() < SLOWEST, "it took {:?}", start.elapsed());
    if let (Some(most), Some(peak)) = (number("ARCHC_FUZZ_MIB"), peak()) {
        assert!(peak < most, "{peak} MiB were held");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn changed_networks_are_survived(of in any::<Index>(), edits in proptest::collection::vec(edit(), 1..4), graph in 0..8u8) {
        let sample = &SAMPLES[of.index(SAMPLES.len())];
        // mostly the graph
        let (at, json) = &sample.json[if graph > 0 { 0 } else { of.index(sample.json.len()) }];
        let mut json = json.clone();
        change(&mut json, &edits);
        let mut entries = sample.entries.clone();
        entries[*at].1 = serde_json::to_vec(&json).expect("it is JSON");
        survives(&zip(&entries));
    }

    #[test]
    fn changed_archives_of_networks_are_survived(of in any::<Index>(), entry in any::<Index>(), changes in changes(), raw in any::<bool>()) {
        let sample = &SAMPLES[of.index(SAMPLES.len())];
        let mut bytes = sample.bytes.clone();
        if raw {
            apply(&mut bytes, &changes);
        } else {
            let mut entries = sample.entries.clone();
            let at = entry.index(entries.len());
            apply(&mut entries[at].1, &changes);
            bytes = zip(&entries);
        }
        survives(&bytes);
    }
}

#[test]
fn samples_are_imported_as_they_are() {
    for (name, sample) in NAMES.iter().zip(SAMPLES.iter()) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("net.pt2");
        fs::write(&path, zip(&sample.entries)).expect("a file");
        assert!(import(&path).is_ok(), "{name}: the harness must not break files by itself");
    }
}
