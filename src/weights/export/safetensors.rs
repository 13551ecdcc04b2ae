//! safetensors: header first, then the tensors straight from where they lie, converted piece by piece, into a file
//! that takes its place only when it is whole.

use std::io::{self, Write};
use std::path::Path;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use indexmap::{IndexMap, IndexSet};
use serde_json::json;

use super::{Data, Format, TensorOut};
use crate::diag::{Code, Problem};
use crate::io::atomic::{AtomicFile, problem};

impl Format {
    pub const SAFETENSORS: Format = Format { name: "safetensors", write: write_safetensors };
}

/// Writes `tensors`, wider number formats first and else in their order, with `metadata`. An old file at `path` stays as it
/// was where anything goes wrong.
///
/// # Panics
/// If a tensor's values do not fill its shape.
pub fn write_safetensors(
    path: &Path,
    tensors: &[TensorOut<'_>],
    metadata: &IndexMap<String, String>,
) -> Result<(), Problem> {
    let mut order: Vec<&TensorOut> = tensors.iter().collect();
    // Every tensor then starts at a multiple of its values' size, so that it can be read in place.
    order.sort_by_key(|tensor| std::cmp::Reverse(tensor.data.dtype().size()));
    let header = header(path, &order, metadata)?;
    let mut file = AtomicFile::create(path)?;
    let mut put = |bytes: &[u8]| file.write_all(bytes).map_err(|error| problem(path, &error));
    put(&(header.len() as u64).to_le_bytes())?;
    put(&header)?;
    for tensor in order {
        let result = match tensor.data {
            Data::F32(values) => file.write_all(bytemuck::cast_slice(values)),
            Data::I64(values) => file.write_all(bytemuck::cast_slice(values)),
            Data::Raw(_, bytes) => file.write_all(bytes),
            Data::AsBF16(values) => put_half(&mut file, values, |values, out: &mut [bf16]| {
                out.convert_from_f32_slice(values);
            }),
            Data::AsF16(values) => {
                let lost = values.iter().filter(|value| value.is_finite() && f16::from_f32(**value).is_infinite());
                let lost = lost.count();
                if lost > 0 {
                    let message = format!("`{}` has {lost} values beyond float16's 65504", tensor.key);
                    return Err(Problem::new(Code::Output, message).hint("write it as bfloat16 or float32"));
                }
                put_half(&mut file, values, |values, out: &mut [f16]| out.convert_from_f32_slice(values))
            }
        };
        result.map_err(|error| problem(path, &error))?;
    }
    file.commit()
}

fn header(path: &Path, tensors: &[&TensorOut], metadata: &IndexMap<String, String>) -> Result<Vec<u8>, Problem> {
    let mut entries = serde_json::Map::new();
    if !metadata.is_empty() {
        let metadata = metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        entries.insert("__metadata__".into(), serde_json::Value::Object(metadata));
    }
    let mut keys = IndexSet::new();
    let mut at = 0;
    for TensorOut { key, shape, data } in tensors {
        let dtype = data.dtype();
        if let Some(size) = dtype.size() {
            assert_eq!(shape.iter().product::<usize>() * size, data.len(), "the values of `{key}` fill its shape");
        }
        if !keys.insert(*key) || *key == "__metadata__" {
            let message = format!("`{}` cannot hold two tensors called `{key}`", path.display());
            return Err(Problem::new(Code::Output, message).hint("rename one of them: `rename A to B`"));
        }
        let end = at + data.len();
        entries.insert(key.to_string(), json!({"dtype": dtype.name(), "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let mut json = serde_json::Value::Object(entries).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok(json)
}

fn put_half<H: bytemuck::Pod>(out: &mut impl Write, values: &[f32], convert: fn(&[f32], &mut [H])) -> io::Result<()> {
    let mut piece = vec![H::zeroed(); values.len().min(1 << 14)];
    for values in values.chunks(1 << 14) {
        let piece = &mut piece[..values.len()];
        convert(values, piece);
        out.write_all(bytemuck::cast_slice(piece))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{DType, Store};

    fn meta() -> IndexMap<String, String> {
        [("classes".to_string(), "[\"a \\\" quote\"]".to_string())].into_iter().collect()
    }

    #[test]
    fn what_is_written_is_read_back_here_and_by_the_reference_crate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.safetensors");
        let values: Vec<f32> = (0..40_000).map(|i| i as f32 / 8.0 - 100.0).collect();
        let bytes = [1, 2, 3];
        let tensors = [
            TensorOut { key: "half", shape: &[3], data: Data::AsF16(&[1.0, -2.5, f32::INFINITY]) },
            TensorOut { key: "bytes", shape: &[3], data: Data::Raw(DType::U8, &bytes) },
            TensorOut { key: "weight", shape: &[200, 200], data: Data::F32(&values) },
            TensorOut { key: "none", shape: &[0], data: Data::F32(&[]) },
            TensorOut { key: "bn.num_batches_tracked", shape: &[], data: Data::I64(&[77]) },
            TensorOut { key: "brain", shape: &[200, 200], data: Data::AsBF16(&values) },
        ];
        write_safetensors(&path, &tensors, &meta()).unwrap();
        let store = Store::open_file(&path).unwrap();
        assert_eq!(store.metadata(), &meta());
        assert_eq!(store.read("half").unwrap(), [1.0, -2.5, f32::INFINITY]);
        let rounded: Vec<f32> = values.iter().map(|&value| bf16::from_f32(value).to_f32()).collect();
        assert_eq!(store.read("brain").unwrap(), rounded);
        assert_eq!(store.raw("bn.num_batches_tracked").unwrap().as_ref(), 77i64.to_le_bytes());
        assert!(store.tensors()["bn.num_batches_tracked"].shape.is_empty());
        let order: Vec<&str> = store.tensors().keys().map(String::as_str).collect();
        assert_eq!(order, ["bn.num_batches_tracked", "weight", "none", "half", "brain", "bytes"]);

        let file = std::fs::read(&path).unwrap();
        let theirs = ::safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(theirs.len(), tensors.len());
        assert_eq!(theirs.tensor("weight").unwrap().data(), bytemuck::cast_slice::<f32, u8>(&values));
        assert_eq!(theirs.tensor("brain").unwrap().shape(), [200, 200]);
    }

    #[test]
    fn an_empty_file_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.safetensors");
        write_safetensors(&path, &[], &IndexMap::new()).unwrap();
        assert!(Store::open_file(&path).unwrap().tensors().is_empty());
    }

    #[test]
    fn an_error_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.safetensors");
        std::fs::write(&path, "old").unwrap();
        let one = TensorOut { key: "a", shape: &[1], data: Data::F32(&[1.0]) };
        let big = TensorOut { key: "big", shape: &[2], data: Data::AsF16(&[1.0, 1e6]) };
        let problem = write_safetensors(&path, &[one.clone(), big], &IndexMap::new()).unwrap_err();
        assert_eq!(problem.code, Code::Output);
        assert_eq!(problem.message, "`big` has 1 values beyond float16's 65504");
        let problem = write_safetensors(&path, &[one.clone(), one.clone()], &IndexMap::new()).unwrap_err();
        assert!(problem.message.contains("two tensors called `a`"), "{}", problem.message);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

        let nowhere = folder.path().join("no/out.safetensors");
        let problem = write_safetensors(&nowhere, &[one], &IndexMap::new()).unwrap_err();
        assert_eq!(problem.code, Code::Output);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_a_problem() {
        let values = vec![0.0; 1 << 18];
        let tensor = TensorOut { key: "a", shape: &[1 << 18], data: Data::F32(&values) };
        let problem = write_safetensors(Path::new("/dev/full"), &[tensor], &IndexMap::new()).unwrap_err();
        assert_eq!(problem.code, Code::Output);
        assert!(problem.message.contains("no space left"), "{}", problem.message);
    }
}
