//! PyTorch checkpoints, of all three containers that `torch.save` has written. The crate pytorch-reader interprets the
//! pickle without running any code; here its tensors get an order, a size limit and messages.

use std::collections::HashMap;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use pytorch_reader::{DType as Stored, PickleValue, PytorchError, PytorchReader, Tensor};

use super::archive;
use super::dtype::DType;
use super::pickle::Names;
use super::store::{Entry, TensorInfo};
use crate::diag::{Code, Problem};
use crate::io::open::Opened;

/// An opened checkpoint.
pub(super) struct Checkpoint {
    /// By key in the order of the names: the pickle's own is not kept by the reader.
    pub tensors: IndexMap<String, (TensorInfo, Tensor)>,
    /// What is left out of it, or damaged where it does no harm.
    pub warnings: Vec<Problem>,
    pub nested: Nested,
}

/// A checkpoint whose dictionaries are looked at when asked for.
pub(super) struct Nested {
    path: PathBuf,
    file: Arc<Opened>,
}

/// What dictionaries there are.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// The dotted paths of the inner dictionaries that hold tensors themselves, those with most of them first.
    pub parts: Vec<String>,
    /// What the outermost one holds, by name.
    pub entries: Vec<Entry>,
}

impl Nested {
    pub fn outline(&self, tensors: &IndexMap<String, TensorInfo>) -> Outline {
        let root = PytorchReader::read_pickle_data(place(&self.path, &self.file), None);
        let Ok(PickleValue::Dict(root)) = &root else { return Outline::default() };
        let mut found: Vec<(usize, String)> = vec![];
        collect(root, "", tensors, &mut found);
        found.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.cmp(other)));
        let entry = |(name, value): (&String, &PickleValue)| {
            let text = if let PickleValue::String(text) = value { Some(text.clone()) } else { None };
            Entry { name: name.clone(), text }
        };
        let mut entries: Vec<Entry> = root.iter().map(entry).collect();
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Outline { parts: found.into_iter().map(|(_, path)| path).collect(), entries }
    }
}

/// The dictionaries in `dict`, whose own path `prefix` ends in a dot, with the number of tensors in each. The reader bounds
/// how deep they lie.
fn collect(
    dict: &HashMap<String, PickleValue>,
    prefix: &str,
    tensors: &IndexMap<String, TensorInfo>,
    found: &mut Vec<(usize, String)>,
) {
    for (name, value) in dict {
        let PickleValue::Dict(inner) = value else { continue };
        let path = format!("{prefix}{name}");
        let inside = format!("{path}.");
        let is_tensor = |name: &String| tensors.contains_key(&format!("{inside}{name}"));
        let count = inner.keys().filter(|name| is_tensor(name)).count();
        if count > 0 {
            found.push((count, path));
        }
        collect(inner, &inside, tensors, found);
    }
}

/// Opens the checkpoint that `file` is, at `path`; `head` is its beginning.
pub(super) fn open(path: &Path, file: Arc<Opened>, head: &[u8]) -> Result<Checkpoint, Problem> {
    let name = path.display();
    let length = usize::try_from(file.len()).unwrap_or(usize::MAX);
    let mut names = Names::default();
    let damage = look(&file, head, &mut names).map_err(|reason| refuse(path, &reason))?;
    let arrays = || {
        Problem::new(Code::WeightsFile, format!("`{name}` holds NumPy arrays, not tensors"))
            .hint(
                "save them as tensors: `torch.save({key: torch.from_numpy(array) for key, array in arrays.items()}, file)`",
            )
            .hint("or as safetensors: `safetensors.numpy.save_file(arrays, \"model.safetensors\")`")
    };
    let reader = PytorchReader::new(place(path, &file)).map_err(|error| {
        if names.is_script() {
            return Problem::new(Code::WeightsFile, format!("`{name}` is a program of TorchScript, not weights")).hint(
                "save its weights alone: `torch.save(torch.jit.load(file, map_location=\"cpu\").state_dict(), \"weights.pth\")`",
            );
        }
        if names.has_arrays() { arrays() } else { refuse(path, &reason(&error)) }
    })?;
    let mut tensors = IndexMap::with_capacity(reader.len());
    for (key, tensor) in reader.into_tensors() {
        // A view may repeat its storage (`expand`), so that a small file could ask for any amount of memory.
        let limit = length.saturating_mul(EXPANSION).saturating_add(1 << 20);
        if tensor.byte_len() > limit {
            let message = format!("`{key}` of `{name}` unfolds to {} bytes, in a file of {length}", tensor.byte_len());
            return Err(Problem::new(Code::WeightsFile, message)
                .hint("save it as a tensor of its own: `tensor.contiguous()` before `torch.save`"));
        }
        let info = TensorInfo { shape: tensor.shape().to_vec(), dtype: dtype(tensor.dtype()) };
        tensors.insert(key, (info, tensor));
    }
    if tensors.is_empty() && names.has_arrays() {
        return Err(arrays());
    }
    if tensors.is_empty() {
        return Err(Problem::new(Code::WeightsFile, format!("`{name}` holds no tensors"))
            .hint("save the weights themselves: `torch.save(model.state_dict(), file)`"));
    }
    tensors.sort_unstable_keys();
    let mut warnings = vec![];
    let others = names.others();
    if !others.is_empty() {
        let shown: Vec<String> = others.iter().take(3).map(|name| format!("`{}`", shortened(name, 80))).collect();
        let more = others.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let message = format!("`{name}` holds objects that are no tensors: {}{more}", shown.join(", "));
        warnings.push(
            Problem::new(Code::WeightsFile, message)
                .note("they are left out, and nothing of them is run; `torch.load(.., weights_only=True)` refuses them")
                .hint("save the weights alone: `torch.save(model.state_dict(), file)`"),
        );
    }
    if let Some(damage) = damage {
        warnings.push(
            Problem::new(Code::WeightsFile, format!("`{name}` is damaged beside its tensors: {damage}"))
                .note("tensors are checked when they are read; `torch.load` may refuse the file")
                .hint("fetch the file again"),
        );
    }
    Ok(Checkpoint { tensors, warnings, nested: Nested { path: path.into(), file } })
}

/// Walks through the pickles of a checkpoint, before anything of them is interpreted; what is damaged beside them.
fn look(file: &Opened, head: &[u8], names: &mut Names) -> Result<Option<String>, String> {
    if head.starts_with(b"PK") {
        return archive::look(file, names);
    }
    if head.get(257..262) == Some(b"ustar") {
        // a container of 2017 and before, whose entries the reader bounds by the file itself
        return Ok(None);
    }
    let mut handle = file.file().try_clone().map_err(|error| error.to_string())?;
    handle.seek(SeekFrom::Start(0)).map_err(|error| error.to_string())?;
    let mut stream = BufReader::new(handle);
    names.walk(&mut stream)?;
    // magic number, protocol, system and object, then the keys of the storages; a pickle alone is its object
    let magic = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    if head.windows(magic.len()).take(64).any(|bytes| bytes == magic) {
        (0..4).try_for_each(|_| names.walk(&mut stream))?;
    }
    Ok(None)
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{} ..", &text[..end]),
        None => text.to_string(),
    }
}

/// A path to the very file that is open, so that nothing else can be read under its name.
#[cfg(target_os = "linux")]
fn place(_path: &Path, file: &Opened) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.file().as_raw_fd()).into()
}

#[cfg(not(target_os = "linux"))]
fn place(path: &Path, _file: &Opened) -> PathBuf {
    path.into()
}

/// How much larger than its file a tensor may be: some, for a compressed archive.
const EXPANSION: usize = 16;

fn dtype(stored: Stored) -> DType {
    match stored {
        Stored::F64 => DType::F64,
        Stored::F32 => DType::F32,
        Stored::F16 => DType::F16,
        Stored::BF16 => DType::BF16,
        Stored::I64 => DType::I64,
        Stored::I32 => DType::I32,
        Stored::I16 => DType::I16,
        Stored::I8 => DType::I8,
        Stored::U64 => DType::U64,
        Stored::U32 => DType::U32,
        Stored::U16 => DType::U16,
        Stored::U8 => DType::U8,
        Stored::Bool => DType::Bool,
    }
}

/// The reader's reason, which may quote what the file says at any length.
fn reason(error: &PytorchError) -> String {
    shortened(&error.to_string(), 300)
}

fn refuse(path: &Path, reason: &str) -> Problem {
    let name = path.display();
    Problem::new(Code::WeightsFile, format!("`{name}` is not a PyTorch checkpoint that can be read: {reason}"))
        .hint("fetch the file again, or save it anew with `torch.save(model.state_dict(), file)`")
        .hint("or convert it: `safetensors.torch.save_file(model.state_dict(), \"model.safetensors\")`")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::store::Store;
    use super::*;

    fn sample(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pytorch").join(name)
    }

    fn check(store: &Store, prefix: &str) {
        let read = |key: &str| store.read(&format!("{prefix}{key}")).unwrap();
        let info = |key: &str| &store.tensors()[&format!("{prefix}{key}")];
        assert_eq!(info("conv.weight").shape, [2, 3, 2, 2]);
        assert_eq!(read("conv.weight"), (0..24).map(|i| i as f32 / 4.0).collect::<Vec<f32>>());
        assert_eq!(info("transposed").shape, [3, 2]);
        assert_eq!(read("transposed"), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(read("slice"), [10.0, 11.0, 12.0, 13.0]);
        assert_eq!(info("bn.num_batches_tracked"), &TensorInfo { shape: vec![], dtype: DType::I64 });
        let raw = store.raw(&format!("{prefix}bn.num_batches_tracked")).unwrap();
        assert_eq!(raw.as_ref(), 1234567i64.to_le_bytes());
        assert_eq!(info("half").dtype, DType::F16);
        assert_eq!(read("half"), [0.5, -2.0]);
        assert_eq!(info("brain").dtype, DType::BF16);
        assert_eq!(read("brain"), [0.5, -2.0]);
        assert_eq!(read("double"), [0.1]);
        assert_eq!(read("flags"), [1.0, 0.0]);
        assert_eq!(info("empty").shape, [0, 4]);
        assert_eq!(read("empty"), [0f32; 0]);
        assert_eq!(read("parameter"), [1.0, 1.0]);
        assert_eq!(store.tensors().len(), 10);
    }

    #[test]
    fn both_containers_and_a_wrapped_dictionary_are_read() {
        for (name, prefix) in [("zip.pth", ""), ("legacy.pth", ""), ("wrapped.pth", "state_dict.")] {
            let store = Store::open_file(&sample(name)).unwrap_or_else(|problem| panic!("{name}: {problem:?}"));
            check(&store, prefix);
            let keys: Vec<&String> = store.tensors().keys().collect();
            assert!(keys.is_sorted(), "{keys:?}");
            assert_eq!(store.warnings(), [], "{name}");
            let parts = if prefix.is_empty() { vec![] } else { vec!["state_dict"] };
            assert_eq!(store.parts(), parts, "{name}");
            assert_eq!(store.read_part(&format!("{prefix}slice"), 1..3).unwrap(), [11.0, 12.0], "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_and_nothing_is_run() {
        for (name, message) in
            [("expand.pth", "`a` of "), ("complex.pth", "ComplexFloat"), ("empty.pth", "holds no tensors")]
        {
            let problem = Store::open_file(&sample(name)).unwrap_err();
            assert_eq!(problem.code, Code::WeightsFile);
            assert!(problem.message.contains(message), "{name}: {}", problem.message);
            assert!(!problem.hints.is_empty());
        }
        let store = Store::open_file(&sample("evil.pth")).unwrap();
        assert_eq!(store.read("a").unwrap(), [1.0]);
        let [warning] = store.warnings() else { panic!("{:?}", store.warnings()) };
        assert!(warning.message.ends_with("holds objects that are no tensors: `posix.system`"), "{}", warning.message);
        assert!(!Path::new("archc-was-here").exists());
    }

    #[test]
    fn broken_checkpoints_are_problems_never_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.pth");
        let read = |bytes: &[u8]| -> Result<(), Problem> {
            std::fs::write(&path, bytes).unwrap();
            let store = Store::open_file(&path)?;
            store.parts();
            store.tensors().keys().try_for_each(|key| store.read(key).map(drop))
        };
        for name in ["zip.pth", "legacy.pth"] {
            let good = std::fs::read(sample(name)).unwrap();
            read(&good).unwrap();
            for end in (0..good.len()).step_by(23) {
                let problem = read(&good[..end]).unwrap_err();
                assert_eq!(problem.code, Code::WeightsFile);
                assert!(!problem.hints.is_empty(), "{}", problem.message);
            }
            // A changed byte may go unnoticed in what is not checked; it must not do worse.
            for at in (0..good.len()).step_by(3) {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                let _ = read(&bad);
            }
        }
    }

    /// `pickle.dumps({"a": numpy.arange(2, dtype="f4")}, protocol=2)`
    const ARRAYS: &[u8] = b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01cnumpy._core.multiarray\x0a_reconstruct\x0aq\x02cnumpy\x0andarray\x0aq\x03K\x00\x85q\x04c_codecs\x0aencode\x0aq\x05X\x01\x00\x00\x00bq\x06X\x06\x00\x00\x00latin1q\x07\x86q\x08Rq\x09\x87q\x0aRq\x0b(K\x01K\x02\x85q\x0ccnumpy\x0adtype\x0aq\x0dX\x02\x00\x00\x00f4q\x0e\x89\x88\x87q\x0fRq\x10(K\x03X\x01\x00\x00\x00<q\x11NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x12b\x89h\x05X\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\xc2\x80?q\x13h\x07\x86q\x14Rq\x15tq\x16bs.";

    #[test]
    fn arrays_are_told_from_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arrays.pth");
        let save = |pickle: &[u8]| {
            let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
            let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
            for (name, bytes) in [("archive/data.pkl", pickle), ("archive/version", b"3\n")] {
                archive.start_file(name, stored).unwrap();
                archive.write_all(bytes).unwrap();
            }
            archive.finish().unwrap();
        };
        // as many bytes as no reader copies, in the place of the array's eight
        let at = ARRAYS.windows(4).position(|bytes| bytes == b"X\x09\0\0").unwrap();
        let large =
            [&ARRAYS[..at], b"X", &(65u32 << 20).to_le_bytes(), &vec![b'x'; 65 << 20], &ARRAYS[at + 14..]].concat();
        for pickle in [ARRAYS, &large] {
            save(pickle);
            let problem = Store::open_file(&path).unwrap_err();
            assert!(problem.message.ends_with("holds NumPy arrays, not tensors"), "{}", problem.message);
            assert!(problem.hints[0].contains("torch.from_numpy"), "{:?}", problem.hints);
        }
        // every step may make an object
        save(&vec![b']'; 5 << 20]);
        let problem = Store::open_file(&path).unwrap_err();
        assert!(problem.message.contains("more than 4194304 steps"), "{}", problem.message);
    }

    #[test]
    fn damage_beside_the_tensors_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.pth");
        let good = std::fs::read(sample("zip.pth")).unwrap();
        let warned = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let store = Store::open_file(&path).unwrap_or_else(|problem| panic!("{problem:?}"));
            check(&store, "");
            store.warnings().iter().map(|problem| problem.message.clone()).collect::<Vec<String>>().join(" ")
        };
        assert_eq!(warned(&good), "");
        let find = |what: &[u8]| good.windows(what.len()).position(|bytes| bytes == what).unwrap();
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            bytes
        };
        // what is in an entry that nothing needs, then the name of one in its own header, then the signature before that
        let digit = good.windows(40).position(|bytes| bytes.iter().all(u8::is_ascii_digit)).unwrap();
        assert!(warned(&changed(digit, b'x')).contains("serialization_id` does not have its checksum"));
        let name = find(b"/version") + 1;
        let signature = good[..find(b"serialization_id")].windows(4).rposition(|bytes| bytes == b"PK\x03\x04").unwrap();
        for (at, to) in [(name, b'V'), (signature + 3, 5)] {
            assert!(warned(&changed(at, to)).contains("is not what the archive's list says"));
        }
        assert!(warned(&[b"PK\x03\x04", &good[..]].concat()).contains("4 bytes stand before its archive"));
    }

    /// A zip archive with the records of 64 bits before its end, as PyTorch writes it, large or not.
    fn with_zip64(archive: &[u8]) -> Vec<u8> {
        let end = archive.len() - 22;
        let word = |at: usize| u64::from(u32::from_le_bytes(archive[end + at..end + at + 4].try_into().unwrap()));
        let entries = u64::from(u16::from_le_bytes(archive[end + 10..end + 12].try_into().unwrap()));
        let mut bytes = archive[..end].to_vec();
        bytes.extend(b"PK\x06\x06");
        bytes.extend(44u64.to_le_bytes());
        bytes.extend([45, 0, 45, 0]);
        bytes.extend([0; 8]);
        for number in [entries, entries, word(12), word(16)] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(b"PK\x06\x07");
        bytes.extend(0u32.to_le_bytes());
        bytes.extend((end as u64).to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(&archive[end..]);
        bytes
    }

    #[test]
    fn a_name_may_have_any_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("named.pth");
        let mut good = zip::ZipArchive::new(std::fs::File::open(sample("zip.pth")).unwrap()).unwrap();
        // every entry is called after the file: the records of 64 bits have 76 bytes, and 46 stand before a name
        for length in 1..=80 {
            let mut archive = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
            let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
            for at in 0..good.len() {
                let mut entry = good.by_index(at).unwrap();
                let name = entry.name().unwrap().split_once('/').unwrap().1.to_string();
                archive.start_file(format!("{}/{name}", "x".repeat(length)), stored).unwrap();
                std::io::copy(&mut entry, &mut archive).unwrap();
            }
            let bytes = archive.finish().unwrap().into_inner();
            for bytes in [with_zip64(&bytes), bytes] {
                std::fs::write(&path, bytes).unwrap();
                let store = Store::open_file(&path).unwrap_or_else(|problem| panic!("{length}: {problem:?}"));
                assert!(store.warnings().is_empty(), "{length}: {:?}", store.warnings());
                check(&store, "");
            }
        }
    }
}
