//! Inputs that are tensors already: `.safetensors` with one tensor or one named as the network's input, and `.npy`.
//! Floating-point values are taken as they are; u8 is a picture, [B, C, H, W] or [C, H, W], which is preprocessed as
//! one from a file would be.

use std::path::Path;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::npy;
use super::open::{self, Unreadable};
use super::picture::Rgb;
use super::preprocess::Preprocess;
use crate::diag::{Code, Problem, suggest};
use crate::tensor::Tensor;

/// What the network takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The input's name, `image`.
    pub name: String,
    /// Its shape without the batch, [C, H, W].
    pub shape: Vec<usize>,
    pub preprocess: Preprocess,
}

impl Wanted {
    /// [C, H, W], where the network takes pictures.
    pub(super) fn image(&self) -> Result<[usize; 3], Problem> {
        <[usize; 3]>::try_from(self.shape.as_slice()).map_err(|_| {
            Problem::new(
                Code::Input,
                format!("`{}` takes {}, a picture is [N, C, H, W]", self.name, with_batch(&self.shape)),
            )
            .hint("give the input as a tensor: `--input x.safetensors` or `--input x.npy`")
        })
    }
}

/// What a file of tensors holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Loaded {
    /// Values as the network takes them, batched or not.
    Float(Tensor),
    /// Pictures that want preprocessing.
    Pictures(Vec<Rgb>),
}

/// Reads a `.npy` or `.safetensors` file, told by the content. `input` is the tensor's name where there are several.
pub fn load(path: &Path, input: &str) -> Result<Loaded, Problem> {
    let name = path.display().to_string();
    let bytes = bytes(path).map_err(|error| error.problem(Code::Input, path))?;
    if npy::begins(&bytes) {
        return match npy::read(&bytes, &name)? {
            npy::Array::Float(tensor) => Ok(Loaded::Float(tensor)),
            npy::Array::Bytes { shape, data } => pictures(&name, &shape, &data).map(Loaded::Pictures),
        };
    }
    if path.extension().is_some_and(|extension| extension == "npy") && !safetensors_begins(&bytes) {
        let problem = Problem::new(Code::Input, format!("`{name}` is not an array of NumPy: it does not begin as one"));
        return Err(problem.hint("write it again: `np.save(\"x.npy\", array)`"));
    }
    from_safetensors(&bytes, &name, input)
}

/// The whole file, if it begins as one of the two kinds do; else its beginning, which is no good to either.
fn bytes(path: &Path) -> Result<Vec<u8>, Unreadable> {
    let mut file = open::plain_or_stream(path)?;
    let start = file.start(16)?;
    let begins_well = npy::begins(&start) || safetensors_begins(&start);
    if begins_well { file.rest(start, MAX_FILE) } else { Ok(start) }
}

/// A length that the format allows, then JSON.
fn safetensors_begins(start: &[u8]) -> bool {
    let length = start.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
    length.is_some_and(|length| length <= MAX_HEADER) && start.get(8) == Some(&b'{')
}

/// The tensor as [B, ..] of what the network takes: that shape, or one sample of it.
pub fn batched(tensor: Tensor, file: &str, wanted: &Wanted) -> Result<Tensor, Problem> {
    if tensor.shape() == wanted.shape {
        let mut shape = vec![1];
        shape.extend_from_slice(&wanted.shape);
        return Ok(tensor.reshape(shape));
    }
    match tensor.shape() {
        [0, rest @ ..] if rest == wanted.shape => {
            Err(Problem::new(Code::Input, format!("`{file}` holds an empty batch: {}", list(tensor.shape()))))
        }
        [_, rest @ ..] if rest == wanted.shape => Ok(tensor),
        got => {
            let (needed, got_list) = (with_batch(&wanted.shape), list(got));
            let problem =
                Problem::new(Code::Input, format!("`{}` takes {needed}, `{file}` holds {got_list}", wanted.name));
            Err(match (got, wanted.shape.as_slice()) {
                // [N, H, W, C] as TensorFlow and PIL have it
                ([.., first, _, c], [channels, _, _]) if c == channels && first != channels => {
                    problem.hint("channels come before height and width: `np.moveaxis(a, -1, -3)`")
                }
                ([.., c, h, w], [channels, _, _]) if c == channels && (got.len() == 3 || got.len() == 4) => {
                    problem.hint(format!("build the network for that size: `input [N, {c}, {h}, {w}]`"))
                }
                _ => problem,
            })
        }
    }
}

const MAX_FILE: u64 = 1 << 36;
/// Of a safetensors file, as the format has it.
const MAX_HEADER: u64 = 100_000_000;

fn from_safetensors(bytes: &[u8], name: &str, input: &str) -> Result<Loaded, Problem> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| {
        Problem::new(Code::Input, format!("`{name}` is not a safetensors file that can be read: {}", reason(&error)))
    })?;
    let mut keys: Vec<&str> = file.names();
    keys.sort_unstable();
    let key = match keys.as_slice() {
        [] => return Err(Problem::new(Code::Input, format!("`{name}` holds no tensor"))),
        [one] => one,
        several => match several.iter().find(|key| **key == input) {
            Some(key) => key,
            None => {
                let some: Vec<String> = several.iter().take(8).map(|key| format!("`{key}`")).collect();
                let rest = if several.len() > 8 { format!(" and {} more", several.len() - 8) } else { String::new() };
                let message = format!("`{name}` holds {} tensors, none of them called `{input}`", several.len());
                let problem = Problem::new(Code::Input, message)
                    .note(format!("it holds {}{rest}", some.join(", ")))
                    .hints(suggest(input, several.iter().copied()));
                return Err(problem.hint(format!("save one tensor, or call the one that is meant `{input}`")));
            }
        },
    };
    let tensor = file.tensor(key).map_err(|error| {
        Problem::new(Code::Input, format!("`{key}` of `{name}` cannot be read: {}", reason(&error)))
    })?;
    if tensor.dtype() == Dtype::U8 {
        return pictures(name, tensor.shape(), tensor.data()).map(Loaded::Pictures);
    }
    let Some(values) = floats(&tensor) else {
        let message = format!("`{key}` of `{name}` must be f32, f16, bf16 or u8, got {}", tensor.dtype());
        return Err(Problem::new(Code::Input, message.to_lowercase().replace(&name.to_lowercase(), name)));
    };
    Ok(Loaded::Float(Tensor::new(tensor.shape(), values)))
}

fn floats(tensor: &TensorView<'_>) -> Option<Vec<f32>> {
    let data = tensor.data();
    match tensor.dtype() {
        Dtype::F32 => Some(data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Dtype::F64 => Some(data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()),
        Dtype::F16 => {
            let values: Vec<f16> = data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b)).collect();
            Some(values.to_f32_vec())
        }
        Dtype::BF16 => {
            let values: Vec<bf16> = data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b)).collect();
            Some(values.to_f32_vec())
        }
        _ => None,
    }
}

/// [B, C, H, W] or [C, H, W] of bytes, C 1 or 3.
fn pictures(name: &str, shape: &[usize], data: &[u8]) -> Result<Vec<Rgb>, Problem> {
    let (channels, height, width) = match *shape {
        [_, c, h, w] | [c, h, w] if (c == 1 || c == 3) && !data.is_empty() => (c, h, w),
        _ => {
            let message =
                format!("bytes are pictures, [B, C, H, W] or [C, H, W] with 1 or 3 channels; `{name}` holds ");
            let problem = Problem::new(Code::Input, message + &list(shape));
            return Err(match *shape {
                [.., 1 | 3] if shape.len() > 2 => {
                    problem.hint("channels come before height and width: `np.moveaxis(a, -1, -3)`")
                }
                _ => problem.hint("save other values as float32"),
            });
        }
    };
    let plane = height * width;
    let picture = |planes: &[u8]| {
        let channel = |c: usize| if channels == 1 { planes } else { &planes[c * plane..] };
        let (r, g, b) = (channel(0), channel(1), channel(2));
        let pixels = r.iter().zip(g).zip(b).take(plane).flat_map(|((r, g), b)| [*r, *g, *b]).collect();
        Rgb::new(width, height, pixels)
    };
    Ok(data.chunks_exact(channels * plane).map(picture).collect())
}

fn reason(error: &safetensors::SafeTensorError) -> String {
    use safetensors::SafeTensorError as Error;
    match error {
        Error::HeaderTooSmall | Error::InvalidHeaderLength => "it ends early, or is another kind of file".into(),
        Error::HeaderTooLarge => "it is another kind of file, or its header is damaged".into(),
        Error::MetadataIncompleteBuffer => "its header does not fit the number of bytes behind it".into(),
        _ => "its header is damaged".into(),
    }
}

fn list(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    format!("[{}]", sizes.join(", "))
}

fn with_batch(shape: &[usize]) -> String {
    let sizes: Vec<String> = std::iter::once("N".to_string()).chain(shape.iter().map(usize::to_string)).collect();
    format!("[{}]", sizes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn safetensors(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
        let views = tensors
            .iter()
            .map(|(key, dtype, shape, data)| (key.to_string(), TensorView::new(*dtype, shape.to_vec(), data).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    fn loaded(bytes: &[u8]) -> Result<Loaded, Problem> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, bytes).unwrap();
        load(&path, "image")
    }

    #[test]
    fn what_is_no_array_is_called_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("z.npy");
        for bytes in [&[][..], &[0; 400]] {
            fs::write(&path, bytes).unwrap();
            let problem = load(&path, "image").unwrap_err();
            assert!(
                problem.message.ends_with("z.npy` is not an array of NumPy: it does not begin as one"),
                "{problem:?}"
            );
        }
        // the content tells, whatever the name is
        fs::write(&path, safetensors(&[("any", Dtype::F32, &[1], &1.5f32.to_le_bytes())])).unwrap();
        assert_eq!(load(&path, "image").unwrap(), Loaded::Float(Tensor::new([1], vec![1.5])));
    }

    #[test]
    fn number_formats_become_float32() {
        let values = Loaded::Float(Tensor::new([2], vec![1.5, -2.0]));
        for (dtype, data) in [
            (Dtype::F32, [1.5f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat()),
            (Dtype::F64, [1.5f64.to_le_bytes(), (-2.0f64).to_le_bytes()].concat()),
            (Dtype::F16, vec![0x00, 0x3e, 0x00, 0xc0]),
            (Dtype::BF16, vec![0xc0, 0x3f, 0x00, 0xc0]),
        ] {
            assert_eq!(loaded(&safetensors(&[("any", dtype, &[2], &data)])).unwrap(), values, "{dtype:?}");
        }
        assert_eq!(loaded(&npy::write(&Tensor::new([2], vec![1.5, -2.0]))).unwrap(), values);
        let problem = loaded(&safetensors(&[("any", Dtype::I32, &[1], &[0; 4])])).unwrap_err();
        assert!(problem.message.ends_with("must be f32, f16, bf16 or u8, got i32"), "{}", problem.message);
    }

    #[test]
    fn bytes_are_pictures() {
        let data: Vec<u8> = (0..12).collect();
        let two = [Rgb::new(2, 1, vec![0, 2, 4, 1, 3, 5]), Rgb::new(2, 1, vec![6, 8, 10, 7, 9, 11])];
        let got = loaded(&safetensors(&[("image", Dtype::U8, &[2, 3, 1, 2], &data)])).unwrap();
        assert_eq!(got, Loaded::Pictures(two.to_vec()));
        let got = loaded(&safetensors(&[("image", Dtype::U8, &[1, 1, 2], &[7, 8])])).unwrap();
        assert_eq!(got, Loaded::Pictures(vec![Rgb::new(2, 1, vec![7, 7, 7, 8, 8, 8])]));
        for (shape, hint) in [(&[1, 2, 2, 3][..], "moveaxis"), (&[12], "float32"), (&[0, 3, 2, 2], "float32")] {
            let data = &data[..shape.iter().product()];
            let problem = loaded(&safetensors(&[("image", Dtype::U8, shape, data)])).unwrap_err();
            assert!(problem.hints[0].contains(hint), "{shape:?}: {problem:?}");
        }
    }

    #[test]
    fn the_tensor_is_the_only_one_or_the_one_named_as_the_input() {
        let one = 1f32.to_le_bytes();
        let two = 2f32.to_le_bytes();
        let file = safetensors(&[("image", Dtype::F32, &[1], &two), ("other", Dtype::F32, &[1], &one)]);
        assert_eq!(loaded(&file).unwrap(), Loaded::Float(Tensor::new([1], vec![2.0])));
        let file = safetensors(&[("imag", Dtype::F32, &[1], &two), ("other", Dtype::F32, &[1], &one)]);
        let problem = loaded(&file).unwrap_err();
        assert!(problem.message.ends_with("holds 2 tensors, none of them called `image`"), "{}", problem.message);
        assert_eq!(problem.notes, ["it holds `imag`, `other`"]);
        assert_eq!(problem.hints[0], "did you mean `imag`?");
    }

    #[test]
    fn damaged_files_are_refused() {
        let good = safetensors(&[("a", Dtype::F32, &[2], &[0; 8])]);
        for bytes in [&b""[..], b"short", &[0xff; 64], &good[..good.len() - 1], &good[..20]] {
            let problem = loaded(bytes).unwrap_err();
            assert!(problem.message.contains("is not a safetensors file"), "{}", problem.message);
        }
        assert!(loaded(&safetensors(&[])).unwrap_err().message.contains("holds no tensor"));
    }

    #[test]
    fn shapes_must_be_the_networks() {
        let wanted = Wanted { name: "image".into(), shape: vec![3, 4, 4], preprocess: Preprocess::default() };
        let batch = |shape: &[usize]| batched(Tensor::zeros(shape), "x.npy", &wanted);
        assert_eq!(batch(&[3, 4, 4]).unwrap().shape(), [1, 3, 4, 4]);
        assert_eq!(batch(&[5, 3, 4, 4]).unwrap().shape(), [5, 3, 4, 4]);
        for (shape, message, hint) in [
            (&[1, 3, 8, 6][..], "`image` takes [N, 3, 4, 4], `x.npy` holds [1, 3, 8, 6]", "`input [N, 3, 8, 6]`"),
            (&[1, 8, 8, 3], "`image` takes [N, 3, 4, 4], `x.npy` holds [1, 8, 8, 3]", "np.moveaxis"),
            (&[0, 3, 4, 4], "`x.npy` holds an empty batch: [0, 3, 4, 4]", ""),
            (&[1, 1, 4, 4], "`image` takes [N, 3, 4, 4], `x.npy` holds [1, 1, 4, 4]", ""),
            (&[], "`image` takes [N, 3, 4, 4], `x.npy` holds []", ""),
        ] {
            let problem = batch(shape).unwrap_err();
            assert_eq!(problem.message, message);
            assert!(
                problem.hints.join(" ").contains(hint) && problem.hints.is_empty() == hint.is_empty(),
                "{problem:?}"
            );
        }
    }
}
