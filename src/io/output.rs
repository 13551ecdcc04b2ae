//! What `--output` writes; the file's extension decides. `.safetensors` holds a tensor per named output, `.npy` the one
//! output, `.png` pictures, `.json` and `.csv` the results that are printed too. All are written whole or not at all.
//!
//! **Pictures** are outputs [N, C, H, W] (or [N, H, W]) of values in 0..1, written as `round(255 * v)` after clamping.
//! C = 3 is red, green, blue; C = 1 is grey; any other C gives C grey tiles a sample. Tiles stand without gaps in rows
//! from the top left: pictures in the fewest columns that make the grid at least as wide as it is high
//! (ceil(sqrt(N))), the channels of several samples in a row a sample, those of one sample as pictures are.
//! Where the network gives each pixel a class, pictures hold the numbers of the classes, in the palette of PASCAL VOC.

use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::atomic::{self, problem, write_bytes};
use super::npy;
use super::png;
use super::results::{Results, pixel_classes};
use crate::diag::{Code, Problem};
use crate::tensor::Tensor;

/// What can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Safetensors,
    Npy,
    Png,
    Json,
    Csv,
}

impl Output {
    const EXTENSIONS: [(&'static str, Output); 5] = [
        ("safetensors", Output::Safetensors),
        ("npy", Output::Npy),
        ("png", Output::Png),
        ("json", Output::Json),
        ("csv", Output::Csv),
    ];

    /// By the extension, and whether its folder is there: what can be known before anything is run.
    pub fn of(path: &Path) -> Result<Output, Problem> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        let known = Output::EXTENSIONS.iter().find(|(known, _)| extension.as_deref() == Some(known));
        let Some((_, output)) = known else {
            let message = match extension {
                Some(extension) => format!("`{}`: nothing is written as `.{extension}`", path.display()),
                None => format!("`{}` has no extension that says what to write", path.display()),
            };
            return Err(Problem::new(Code::Output, message).hint(
                "name it .safetensors (all outputs), .npy (one output), .png (pictures), .json or .csv (the results)",
            ));
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        match folder {
            Some(folder) if !folder.is_dir() => Err(problem(path, &std::io::ErrorKind::NotFound.into())),
            _ => Ok(*output),
        }
    }

    /// Whether it wants the outputs' values, and not only the results.
    pub fn needs_tensors(self) -> bool {
        matches!(self, Output::Safetensors | Output::Npy | Output::Png)
    }
}

/// What the pixels of a picture are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// The channels' values.
    Values,
    /// The number of the channel with the largest value.
    Classes,
}

/// Whether `path` can hold the network's outputs and be written: what need not wait for the run. `outputs` are their names
/// and shapes, with the batch.
///
/// # Errors
/// Several outputs for one array, no picture for a .png, a folder in which nothing can be written.
pub fn check(path: &Path, outputs: &[(String, Vec<usize>)], drawn: Drawn) -> Result<(), Problem> {
    match Output::of(path)? {
        Output::Npy => one(path, outputs).map(|_| ())?,
        Output::Png => Grid::new(path, outputs, drawn).map(|_| ())?,
        Output::Safetensors | Output::Json | Output::Csv => {}
    }
    atomic::check_writable(path)
}

/// Refuses to write over a file that the command reads: nothing of the user's is lost.
///
/// # Errors
/// If `path` is one of `read`, by whatever name.
pub fn refuse_what_is_read<'a>(path: &Path, read: impl IntoIterator<Item = &'a Path>) -> Result<(), Problem> {
    // what is not there yet is read by nobody
    let Ok(target) = path.canonicalize() else { return Ok(()) };
    let is_plain = target.is_file();
    if is_plain && read.into_iter().any(|read| read.canonicalize().is_ok_and(|read| read == target)) {
        let message = format!("`{}` would be written over, and it is read", path.display());
        return Err(Problem::new(Code::Output, message).hint("name another file"));
    }
    Ok(())
}

/// Writes `path`. `tensors` are the outputs by name over all samples, `output` the network's own; they may be empty
/// where [`Output::needs_tensors`] is false. Returns what there is to say about it, a line each.
pub fn write(path: &Path, tensors: &[(String, Tensor)], results: &Results) -> Result<Vec<String>, Problem> {
    let mut remarks = vec![];
    let bytes = match Output::of(path)? {
        Output::Safetensors => safetensors(path, tensors)?,
        Output::Npy => npy::write(one(path, tensors)?),
        Output::Png if matches!(results, Results::Pixels(_)) => classes(path, tensors, &mut remarks)?,
        Output::Png => png(path, tensors, &mut remarks)?,
        Output::Json => {
            let mut text = serde_json::to_string_pretty(&results.to_json()).expect("values of JSON are JSON");
            text.push('\n');
            text.into_bytes()
        }
        Output::Csv => results.to_csv().into_bytes(),
    };
    write_bytes(path, &bytes)?;
    Ok(remarks)
}

/// The largest side and number of pixels of a grid.
const MAX_SIDE: usize = 1 << 16;
const MAX_PIXELS: usize = 1 << 28;
/// Numbers that a pixel of a palette can have.
const COLOURS: usize = 256;

fn safetensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<Vec<u8>, Problem> {
    let views = tensors.iter().map(|(name, tensor)| {
        let bytes = bytemuck::cast_slice(tensor.data());
        (name, TensorView::new(Dtype::F32, tensor.shape().to_vec(), bytes).expect("a tensor's values fill its shape"))
    });
    safetensors::serialize(views, None)
        .map_err(|error| Problem::new(Code::Output, format!("`{}` cannot be written: {error}", path.display())))
}

/// The one output that a `.npy` file can hold.
fn one<'a, T>(path: &Path, outputs: &'a [(String, T)]) -> Result<&'a T, Problem> {
    match outputs {
        [(_, one)] => Ok(one),
        several => {
            let names: Vec<String> = several.iter().map(|(name, _)| format!("`{name}`")).collect();
            let message =
                format!("`{}` holds one array, the network has the outputs {}", path.display(), names.join(", "));
            let path = path.with_extension("safetensors");
            Err(Problem::new(Code::Output, message).hint(format!("write all of them: `--output {}`", path.display())))
        }
    }
}

/// Pictures side by side.
struct Grid {
    /// The output, by its index.
    of: usize,
    tiles: usize,
    columns: usize,
    rows: usize,
    /// 3 or 1.
    colors: usize,
    /// Of a tile.
    size: (usize, usize),
}

impl Grid {
    /// Of the outputs with these shapes, the batch included.
    fn new(path: &Path, shapes: &[(String, Vec<usize>)], drawn: Drawn) -> Result<Grid, Problem> {
        let name = path.display();
        let images: Vec<(usize, [usize; 4])> =
            shapes.iter().enumerate().filter_map(|(at, (_, shape))| Some((at, image_shape(shape)?))).collect();
        let (of, [n, c, h, w]) = match images.as_slice() {
            [one] => *one,
            several => match several.iter().find(|(at, _)| shapes[*at].0 == "output") {
                Some(own) => *own,
                None => {
                    let problem = Problem::new(Code::Output, format!("`{name}` cannot be written: "));
                    return Err(no_single_image(problem, shapes, several.len()));
                }
            },
        };
        if drawn == Drawn::Classes && c > COLOURS {
            let message = format!("`{name}` holds the numbers of {COLOURS} classes at most, the network has {c}");
            let path = path.with_extension("safetensors");
            return Err(
                Problem::new(Code::Output, message).hint(format!("write the values: `--output {}`", path.display()))
            );
        }
        let c = if drawn == Drawn::Classes { 1 } else { c };
        let colors = if c == 3 { 3 } else { 1 };
        let tiles = n.saturating_mul(c) / colors;
        let columns = if c == colors || n == 1 { columns(tiles) } else { c };
        let grid = Grid { of, tiles, columns, rows: tiles.div_ceil(columns), colors, size: (w, h) };
        let (width, height) = grid.pixels();
        if width > MAX_SIDE || height > MAX_SIDE || width * height > MAX_PIXELS {
            let message = format!("`{name}` would be {width} x {height} pixels with {tiles} tiles, which is too large");
            let path = path.with_extension("safetensors");
            return Err(Problem::new(Code::Output, message)
                .hint(format!("run fewer pictures, or write the values: `--output {}`", path.display())));
        }
        Ok(grid)
    }

    /// Of outputs.
    fn of(path: &Path, tensors: &[(String, Tensor)], drawn: Drawn) -> Result<Grid, Problem> {
        let shapes: Vec<(String, Vec<usize>)> =
            tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect();
        Grid::new(path, &shapes, drawn)
    }

    /// What there is to say of several tiles.
    fn remark(&self, path: &Path) -> Option<String> {
        let Grid { tiles, columns, rows, size: (w, h), .. } = self;
        (*tiles > 1).then(|| format!("{}: {tiles} tiles of {w} x {h} in {rows} rows of {columns}", path.display()))
    }

    /// Width and height of the whole.
    fn pixels(&self) -> (usize, usize) {
        (self.columns.saturating_mul(self.size.0), self.rows.saturating_mul(self.size.1))
    }
}

fn png(path: &Path, tensors: &[(String, Tensor)], remarks: &mut Vec<String>) -> Result<Vec<u8>, Problem> {
    let name = path.display();
    let grid = Grid::of(path, tensors, Drawn::Values)?;
    let Grid { columns, colors, size: (w, h), .. } = grid;
    let ((width, height), (output, tensor)) = (grid.pixels(), &tensors[grid.of]);
    let mut pixels = vec![0; width * height * colors];
    let plane = h * w;
    for (tile, values) in tensor.data().chunks_exact(plane * colors).enumerate() {
        let corner = (tile / columns * h) * width + tile % columns * w;
        for (i, value) in values.iter().enumerate() {
            let (color, y, x) = (i / plane, i % plane / w, i % w);
            // NaN becomes 0
            pixels[(corner + y * width + x) * colors + color] = (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
        }
    }
    let outside = tensor.data().iter().filter(|value| !(-1e-6..=1.0 + 1e-6).contains(*value)).count();
    if outside > 0 {
        let percent = 100.0 * outside as f64 / tensor.len() as f64;
        remarks.push(format!("{name}: {percent:.1} % of the values of `{output}` lie outside 0..1 and are cut off"));
    }
    remarks.extend(grid.remark(path));
    let channels = tensor.len() / (tensor.shape()[0] * plane).max(1);
    if channels != colors {
        remarks.push(format!(
            "{name}: {channels} channels are grey tiles; they are classes where the network learned by cross entropy, ends with a \
             softmax over them, or has `labels` for them"
        ));
    }
    png::encode(&pixels, width, height, colors)
        .map_err(|error| Problem::new(Code::Output, format!("`{name}` cannot be written: {error}")))
}

/// The class of each pixel.
fn classes(path: &Path, tensors: &[(String, Tensor)], remarks: &mut Vec<String>) -> Result<Vec<u8>, Problem> {
    let grid = Grid::of(path, tensors, Drawn::Classes)?;
    let Grid { tiles, columns, size: (w, h), .. } = grid;
    let ((width, height), (_, tensor)) = (grid.pixels(), &tensors[grid.of]);
    let classes = tensor.len() / (tiles * w * h);
    let mut pixels = vec![0; width * height];
    for (tile, scores) in tensor.data().chunks_exact(classes * w * h).enumerate() {
        let corner = (tile / columns * h) * width + tile % columns * w;
        for (at, class) in pixel_classes(scores, classes).into_iter().enumerate() {
            pixels[corner + at / w * width + at % w] = class as u8;
        }
    }
    remarks.extend(grid.remark(path));
    let palette: Vec<u8> = (0..COLOURS).flat_map(colour).collect();
    png::encode_indexed(&pixels, width, height, &palette)
        .map_err(|error| Problem::new(Code::Output, format!("`{}` cannot be written: {error}", path.display())))
}

/// The colour of a class in the pictures of PASCAL VOC: three bits of its number at a time, one for each of red, green and
/// blue, from the highest down.
fn colour(class: usize) -> [u8; 3] {
    let channel = |at: usize| (0..8).map(|bit| ((class >> (3 * bit + at) & 1) as u8) << (7 - bit)).sum();
    [channel(0), channel(1), channel(2)]
}

/// [N, C, H, W] where an output is pictures.
fn image_shape(shape: &[usize]) -> Option<[usize; 4]> {
    let shape = match *shape {
        [n, c, h, w] => [n, c, h, w],
        [n, h, w] => [n, 1, h, w],
        _ => return None,
    };
    (!shape.contains(&0)).then_some(shape)
}

/// ceil(sqrt(tiles))
fn columns(tiles: usize) -> usize {
    let root = tiles.isqrt();
    if root * root < tiles { root + 1 } else { root.max(1) }
}

fn no_single_image(mut problem: Problem, shapes: &[(String, Vec<usize>)], images: usize) -> Problem {
    let named: Vec<String> = shapes.iter().map(|(name, shape)| format!("`{name}` {shape:?}")).collect();
    if images == 0 {
        problem.message += &format!("no output is a picture [N, C, H, W]: {}", named.join(", "));
        problem.hint("write the values as .safetensors or .npy, the results as .json or .csv")
    } else {
        problem.message += &format!("several outputs are pictures and none is called `output`: {}", named.join(", "));
        problem.hint("write all of them as .safetensors")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::picture;
    use crate::io::tensors::{Loaded, load};
    use std::fs;

    fn none() -> Results {
        Results::Outputs(vec![])
    }

    fn outputs(tensors: &[(&str, Tensor)]) -> Vec<(String, Tensor)> {
        tensors.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect()
    }

    fn counted(shape: &[usize]) -> Tensor {
        let len = shape.iter().product::<usize>();
        Tensor::new(shape, (0..len).map(|i| i as f32 / 255.0).collect())
    }

    #[test]
    fn classes_of_pixels_are_written_in_the_palette_of_voc() {
        // the first colours of the devkit's labelcolormap
        let first = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128]];
        assert_eq!(std::array::from_fn::<_, 7, _>(colour), first);
        assert_eq!((colour(8), colour(20), colour(255)), ([64, 0, 0], [0, 64, 128], [224, 224, 192]));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("y.png");
        // two samples of three classes and 1 x 2 pixels
        let scores = vec![0.0, 9.0, 1.0, 0.0, 2.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 7.0];
        let output = vec![("output".to_string(), Tensor::new(vec![2, 3, 1, 2], scores))];
        let remarks = write(&path, &output, &Results::Pixels(vec![])).unwrap();
        assert!(remarks[0].ends_with("2 tiles of 2 x 1 in 1 rows of 2"), "{remarks:?}");
        let mut reader = ::png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&path).unwrap()));
        reader.set_transformations(::png::Transformations::IDENTITY);
        let mut reader = reader.read_info().unwrap();
        let mut pixels = vec![0; 4];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, [2, 0, 0, 2]);
        assert_eq!(reader.info().palette.as_deref().unwrap()[..6], [0, 0, 0, 128, 0, 0]);
        let many = [("output".to_string(), vec![1, 257, 4, 4])];
        let problem = check(&path, &many, Drawn::Classes).unwrap_err();
        assert!(problem.message.contains("256 classes at most, the network has 257"), "{}", problem.message);
    }

    #[test]
    fn tensors_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let tensors = outputs(&[("output", counted(&[2, 3])), ("image", counted(&[1, 4]))]);
        let path = folder.path().join("y.safetensors");
        write(&path, &tensors, &none()).unwrap();
        assert_eq!(load(&path, "output").unwrap(), Loaded::Float(counted(&[2, 3])));
        assert_eq!(load(&path, "image").unwrap(), Loaded::Float(counted(&[1, 4])));
        let path = folder.path().join("y.npy");
        write(&path, &tensors[..1], &none()).unwrap();
        assert_eq!(load(&path, "any").unwrap(), Loaded::Float(counted(&[2, 3])));
        let problem = write(&path, &tensors, &none()).unwrap_err();
        assert!(problem.message.ends_with("the network has the outputs `output`, `image`"), "{}", problem.message);
    }

    #[test]
    fn pictures_are_tiled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("y.png");
        for (shape, size, remark) in [
            (&[1, 3, 2, 4][..], (4, 2), None),
            (&[1, 1, 2, 4], (4, 2), None),
            (&[1, 2, 4], (4, 2), None),
            (&[2, 3, 2, 4], (8, 2), Some("2 tiles of 4 x 2 in 1 rows of 2")),
            (&[5, 1, 2, 4], (12, 4), Some("5 tiles of 4 x 2 in 2 rows of 3")),
            (&[1, 6, 2, 4], (12, 4), Some("6 tiles of 4 x 2 in 2 rows of 3")),
            (&[2, 6, 2, 4], (24, 4), Some("12 tiles of 4 x 2 in 2 rows of 6")),
        ] {
            let remarks = write(&path, &outputs(&[("output", counted(shape))]), &none()).unwrap();
            let picture = picture::read(&path).unwrap();
            assert_eq!((picture.width(), picture.height()), size, "{shape:?}");
            // several channels may be classes, which is told
            let told = usize::from(remark.is_some()) + usize::from(shape.len() == 4 && shape[1] == 6);
            assert_eq!(remarks.len(), told, "{shape:?}: {remarks:?}");
            assert!(remark.is_none_or(|remark| remarks[0].ends_with(remark)), "{shape:?}: {remarks:?}");
        }
        // the last: tile 7 is channel 1 of sample 1; its first value is 7 * 8
        let picture = picture::read(&path).unwrap();
        assert_eq!(picture.data()[(2 * 24 + 4) * 3], 56);
    }

    #[test]
    fn a_check_finds_what_a_write_would() {
        let folder = tempfile::tempdir().unwrap();
        let shapes = |shapes: &[(&str, &[usize])]| -> Vec<(String, Vec<usize>)> {
            shapes.iter().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect()
        };
        let (flat, image) = (shapes(&[("output", &[2, 3])]), shapes(&[("output", &[2, 3, 4, 4]), ("other", &[2, 7])]));
        for (name, outputs, message) in [
            ("y.npy", &image, "holds one array, the network has the outputs `output`, `other`"),
            ("y.png", &flat, "no output is a picture [N, C, H, W]: `output` [2, 3]"),
            ("y.png", &shapes(&[("output", &[1, 1, 1, MAX_SIDE + 1])]), "which is too large"),
            ("no/y.csv", &flat, "cannot be written: "),
        ] {
            let problem = check(&folder.path().join(name), outputs, Drawn::Values).unwrap_err();
            assert!(problem.message.contains(message), "{message}: {}", problem.message);
        }
        for (name, outputs) in [("y.npy", &flat), ("y.png", &image), ("y.safetensors", &image), ("y.csv", &image)] {
            check(&folder.path().join(name), outputs, Drawn::Values).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn values_are_clamped_and_rounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("y.png");
        let values = vec![-1.0, 0.0, 0.5, 1.0, 2.0, f32::NAN, 0.2, 0.002];
        let remarks = write(&path, &outputs(&[("output", Tensor::new([1, 1, 1, 8], values))]), &none()).unwrap();
        let grey: Vec<u8> = picture::read(&path).unwrap().data().chunks(3).map(|p| p[0]).collect();
        assert_eq!(grey, [0, 0, 128, 255, 255, 0, 51, 1]);
        assert!(
            remarks[0].ends_with("37.5 % of the values of `output` lie outside 0..1 and are cut off"),
            "{remarks:?}"
        );
    }

    #[test]
    fn results_are_text() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("y.json", "[]\n"), ("y.CSV", "output,dtype,shape,min,mean,max\n")] {
            let path = folder.path().join(name);
            write(&path, &[], &none()).unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), text);
        }
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let flat = outputs(&[("output", counted(&[2, 3]))]);
        let huge = outputs(&[("output", Tensor::zeros([1, 1, 1, MAX_SIDE + 1]))]);
        let two = outputs(&[("a", counted(&[1, 1, 2, 2])), ("b", counted(&[1, 1, 2, 2]))]);
        for (name, tensors, message, hint) in [
            ("y.bin", &flat, "nothing is written as `.bin`", ".safetensors (all outputs)"),
            ("y", &flat, "has no extension", ".safetensors (all outputs)"),
            ("no/y.npy", &flat, "cannot be written: ", "make the folder first"),
            ("y.png", &flat, "no output is a picture [N, C, H, W]: `output` [2, 3]", "as .json or .csv"),
            ("y.png", &huge, "which is too large", "y.safetensors"),
            ("y.png", &two, "several outputs are pictures", "as .safetensors"),
        ] {
            let problem = write(&folder.path().join(name), tensors, &none()).unwrap_err();
            assert_eq!(problem.code, Code::Output);
            assert!(problem.message.contains(message), "{message}: {}", problem.message);
            assert!(problem.hints[0].contains(hint), "{hint}: {:?}", problem.hints);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
