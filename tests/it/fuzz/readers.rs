//! Files that were changed at random, in ways that reach deep: checksums are made right again, lengths and counts get
//! values from the edges. Whatever comes, reading ends soon, takes memory by what is there, and says what is wrong.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use archc::Tensor;
use archc::stages::data::{Columns, csv};
use archc::stages::diag::{Code, Problem};
use archc::stages::io::{labels, npy, picture, tensors};
use archc::stages::weights::Store;
use proptest::prelude::*;
use proptest::sample::Index;

use super::config;
use crate::bombs::{chunk, crc32, zlib};

/// No small file takes longer, on a machine that does much else.
const SLOWEST: Duration = Duration::from_secs(10);

/// One change of some bytes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Flip {
        at: Index,
        bit: u8,
    },
    Byte {
        at: Index,
        value: u8,
    },
    /// A number of 1, 2, 4 or 8 bytes, of either order.
    Number {
        at: Index,
        size: u8,
        value: u64,
        big: bool,
    },
    Cut {
        at: Index,
    },
    Remove {
        at: Index,
        count: u8,
    },
    Repeat {
        at: Index,
        count: u8,
        times: u8,
    },
    Move {
        from: Index,
        to: Index,
        count: u8,
    },
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let edge = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(i64::MAX as u64),
        Just(1 << 31),
        Just((1 << 31) - 1),
        Just(1 << 32),
        Just(0xffff),
        any::<u64>(),
        0..300u64,
    ];
    prop_oneof![
        (at(), 0..8u8).prop_map(|(at, bit)| Change::Flip { at, bit }),
        (at(), any::<u8>()).prop_map(|(at, value)| Change::Byte { at, value }),
        (at(), 0..4u8, edge, any::<bool>()).prop_map(|(at, size, value, big)| Change::Number { at, size, value, big }),
        at().prop_map(|at| Change::Cut { at }),
        (at(), 1..40u8).prop_map(|(at, count)| Change::Remove { at, count }),
        (at(), 1..40u8, 1..200u8).prop_map(|(at, count, times)| Change::Repeat { at, count, times }),
        (at(), at(), 1..40u8).prop_map(|(from, to, count)| Change::Move { from, to, count }),
    ]
}

pub(super) fn changes() -> impl Strategy<Value = Vec<Change>> {
    proptest::collection::vec(change(), 1..5)
}

pub(super) fn apply(bytes: &mut Vec<u8>, changes: &[Change]) {
    for change in changes {
        if bytes.is_empty() {
            return;
        }
        let len = bytes.len();
        let part = |at: &Index, count: u8| at.index(len)..(at.index(len) + usize::from(count)).min(len);
        match change {
            Change::Flip { at, bit } => bytes[at.index(len)] ^= 1 << bit,
            Change::Byte { at, value } => bytes[at.index(len)] = *value,
            Change::Number { at, size, value, big } => {
                let size = 1 << size;
                let number =
                    if *big { value.to_be_bytes()[8 - size..].to_vec() } else { value.to_le_bytes()[..size].to_vec() };
                for (to, from) in bytes[at.index(len)..].iter_mut().zip(number) {
                    *to = from;
                }
            }
            Change::Cut { at } => bytes.truncate(at.index(len)),
            Change::Remove { at, count } => drop(bytes.drain(part(at, *count))),
            Change::Repeat { at, count, times } => {
                let part = part(at, *count);
                let copies = bytes[part.clone()].repeat(usize::from(*times));
                bytes.splice(part.start..part.start, copies);
            }
            Change::Move { from, to, count } => {
                let part: Vec<u8> = bytes.drain(part(from, *count)).collect();
                let to = to.index(bytes.len() + 1);
                bytes.splice(to..to, part);
            }
        }
    }
}

fn sample(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).expect("a sample")
}

/// Reads a file of these bytes, in time; a problem has the code of a reader and says something.
fn survives<T>(bytes: &[u8], name: &str, read: impl FnOnce(&Path) -> Result<T, Problem>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("a file");
    let start = Instant::now();
    let result = read(&path);
    assert!(start.elapsed() < SLOWEST, "{name} took {:?}", start.elapsed());
    if let Err(problem) = result {
        assert!(matches!(problem.code, Code::Input | Code::WeightsFile | Code::File), "{problem:?}");
        let text = [&problem.message[..], &problem.hints.concat(), &problem.notes.concat()].concat();
        assert!(problem.message.contains('`') && text.len() < 20_000, "{} bytes: {:.500}", text.len(), text);
    }
}

/// A PNG file taken apart into its chunks' names and contents, changed, and put together with right checksums.
fn png(bytes: &[u8], of: Index, changes: &[Change]) -> Vec<u8> {
    let mut chunks: Vec<([u8; 4], Vec<u8>)> = vec![];
    let mut rest = &bytes[8..];
    while let Some((head, behind)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        chunks.push(([head[4], head[5], head[6], head[7]], behind[..length].to_vec()));
        rest = &behind[length + 4..];
    }
    let at = of.index(chunks.len());
    apply(&mut chunks[at].1, changes);
    let mut out = bytes[..8].to_vec();
    for (name, data) in &chunks {
        out.extend(chunk(name, data));
    }
    out
}

/// A zip archive of one stored entry each, as `torch.save` writes it.
pub(super) fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut list) = (vec![], vec![]);
    for (name, data) in entries {
        let at = out.len() as u32;
        let size = (data.len() as u32).to_le_bytes();
        let about = [
            &[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &crc32(data).to_le_bytes(),
            &size,
            &size,
            &(name.len() as u16).to_le_bytes(),
            &[0, 0],
        ]
        .concat();
        out.extend([b"PK\x03\x04", &*about, name.as_bytes(), data].concat());
        list.extend([b"PK\x01\x02\x14\0", &*about, &[0; 10], &at.to_le_bytes(), name.as_bytes()].concat());
    }
    let (count, start) = ((entries.len() as u16).to_le_bytes(), out.len() as u32);
    let size = (list.len() as u32).to_le_bytes();
    out.extend(list);
    out.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count, &size, &start.to_le_bytes(), &[0, 0]].concat());
    out
}

/// The stored entries of an archive that has no data descriptors to heed: those of the list at its end.
pub(super) fn entries(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let number = |at: usize, size: usize| {
        bytes[at..at + size].iter().rev().fold(0usize, |number, byte| number << 8 | usize::from(*byte))
    };
    let mut found = vec![];
    let mut at = 0;
    while let Some(step) = bytes[at..].windows(4).position(|bytes| bytes == b"PK\x01\x02") {
        at += step;
        let (size, name, local) = (number(at + 24, 4), number(at + 28, 2), number(at + 42, 4));
        let data = local + 30 + number(local + 26, 2) + number(local + 28, 2);
        let name = String::from_utf8_lossy(&bytes[at + 46..at + 46 + name]).into_owned();
        found.push((name, bytes[data..data + size].to_vec()));
        at += 4;
    }
    found
}

/// Reads every tensor of a file of weights.
fn read_all(path: &Path) -> Result<(), Problem> {
    let store = Store::open_file(path)?;
    for (key, info) in store.tensors() {
        let values = store.read(key);
        if let Ok(values) = values {
            assert_eq!(values.len(), info.shape.iter().product::<usize>());
        }
    }
    Ok(())
}

fn safetensors() -> Vec<u8> {
    let json = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},"c":{"dtype":"I64","shape":[],"data_offsets":[32,40]}}"#;
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &[1; 40]].concat()
}

const TABLE: &str = "path,label\n\"a, b.png\",cat\nb.png,\"dog \"\"x\"\"\"\r\nc.png,cat\n\nd.png,1.5\n";

proptest! {
    #![proptest_config(config())]

    #[test]
    fn changed_png_files_are_survived(
        name in prop::sample::select(vec!["rgb.png", "palette.png", "rgba16.png", "grey16.png", "bits.png", "grey_alpha.png"]),
        of in any::<Index>(), changes in changes(), raw in any::<bool>(),
    ) {
        let mut bytes = sample(&format!("pictures/{name}"));
        if raw {
            apply(&mut bytes, &changes);
        } else {
            bytes = png(&bytes, of, &changes);
        }
        survives(&bytes, name, picture::read);
    }

    #[test]
    fn any_size_of_a_png_file_is_survived(
        width in any::<u32>(), height in any::<u32>(), depth in prop::sample::select(vec![0u8, 1, 2, 4, 8, 16, 32]),
        kind in 0..8u8, interlaced in 0..2u8, count in 1..100_000u64, small in any::<bool>(),
    ) {
        let cut = |size: u32| if small { size % 300 } else { size >> (size % 20) };
        let (width, height) = (cut(width), cut(height));
        let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, kind, 0, 0, interlaced]].concat();
        let palette = chunk(b"PLTE", &[7; 48]);
        let bytes = [b"\x89PNG\r\n\x1a\n", &*chunk(b"IHDR", &header), &palette, &chunk(b"IDAT", &zlib(count)), &chunk(b"IEND", &[])];
        survives(&bytes.concat(), "a.png", picture::read);
    }

    #[test]
    fn changed_jpeg_files_are_survived(
        name in prop::sample::select(vec!["baseline.jpg", "progressive.jpg", "cmyk.jpg", "grey.jpg", "full.jpg"]), changes in changes(),
    ) {
        let mut bytes = sample(&format!("pictures/{name}"));
        apply(&mut bytes, &changes);
        survives(&bytes, name, picture::read);
    }

    #[test]
    fn changed_safetensors_are_survived(changes in changes(), keeps_length in any::<bool>()) {
        let mut bytes = safetensors();
        if keeps_length {
            let mut json = bytes.split_off(8);
            apply(&mut json, &changes);
            let length = json.len().saturating_sub(40) as u64;
            bytes = [&length.to_le_bytes()[..], &json].concat();
        } else {
            apply(&mut bytes, &changes);
        }
        survives(&bytes, "a.safetensors", read_all);
        survives(&bytes, "a.safetensors", |path| tensors::load(path, "a"));
        survives(&bytes, "a.safetensors.index.json", read_all);
    }

    #[test]
    fn changed_checkpoints_are_survived(
        name in prop::sample::select(vec!["zip.pth", "legacy.pth", "wrapped.pth", "evil.pth"]),
        of in any::<Index>(), changes in changes(), raw in any::<bool>(),
    ) {
        let mut bytes = sample(&format!("pytorch/{name}"));
        if raw || !bytes.starts_with(b"PK") {
            apply(&mut bytes, &changes);
        } else {
            let mut entries = entries(&bytes);
            // the pickle half the time
            let pickle = entries.iter().position(|(name, _)| name.ends_with("data.pkl")).expect("a pickle");
            let at = of.index(2 * entries.len());
            let at = if at < entries.len() { at } else { pickle };
            apply(&mut entries[at].1, &changes);
            bytes = zip(&entries);
        }
        survives(&bytes, name, read_all);
    }

    #[test]
    fn changed_arrays_are_survived(shape in proptest::collection::vec(0..5usize, 0..4), changes in changes()) {
        let len = shape.iter().product();
        let mut bytes = npy::write(&Tensor::new(shape, vec![1.5; len]));
        apply(&mut bytes, &changes);
        survives(&bytes, "a.npy", |path| tensors::load(path, "a"));
    }

    #[test]
    fn changed_tables_and_labels_are_survived(changes in changes()) {
        let mut bytes = TABLE.as_bytes().to_vec();
        apply(&mut bytes, &changes);
        survives(&bytes, "a.csv", |path| csv(path, None, Columns::Label, 0.5, 1));
        survives(&bytes, "a.csv", |path| csv(path, None, Columns::Numbers, 0.0, 1));
        survives(&bytes, "a.txt", labels::Labels::load);
    }
}
