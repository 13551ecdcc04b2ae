//! PyTorch checkpoints, of all three containers that `torch.save` has written. The crate pytorch-reader interprets the
//! pickle without running any code; here its tensors get an order, a size limit and messages.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use pytorch_reader::{DType as Stored, PytorchError, PytorchReader, Tensor};

use super::dtype::DType;
use super::store::TensorInfo;
use crate::diag::{Code, Problem};
use crate::io::open::Opened;

/// Opens the checkpoint that `file` is, at `path`. The keys come in the order of their names: the pickle's own is not kept
/// by the reader.
pub(super) fn open(path: &Path, file: &Opened) -> Result<IndexMap<String, (TensorInfo, Tensor)>, Problem> {
    let name = path.display();
    let length = usize::try_from(file.len()).unwrap_or(usize::MAX);
    let reader = PytorchReader::new(place(path, file)).map_err(|error| refuse(path, &error))?;
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
    if tensors.is_empty() {
        return Err(Problem::new(Code::WeightsFile, format!("`{name}` holds no tensors"))
            .hint("save the weights themselves: `torch.save(model.state_dict(), file)`"));
    }
    tensors.sort_unstable_keys();
    Ok(tensors)
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

fn refuse(path: &Path, error: &PytorchError) -> Problem {
    let name = path.display();
    let mut reason = error.to_string();
    // The crate's reasons may quote what the file says at any length.
    if let Some((end, _)) = reason.char_indices().nth(300) {
        reason.truncate(end);
        reason.push_str(" ..");
    }
    Problem::new(Code::WeightsFile, format!("`{name}` is not a PyTorch checkpoint that can be read: {reason}"))
        .hint("fetch the file again, or save it anew with `torch.save(model.state_dict(), file)`")
        .hint("or convert it: `safetensors.torch.save_file(model.state_dict(), \"model.safetensors\")`")
}

#[cfg(test)]
mod tests {
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
        assert!(!Path::new("archc-was-here").exists());
    }

    #[test]
    fn broken_checkpoints_are_problems_never_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.pth");
        let read = |bytes: &[u8]| -> Result<(), Problem> {
            std::fs::write(&path, bytes).unwrap();
            let store = Store::open_file(&path)?;
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
}
