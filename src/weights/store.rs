//! An opened file of weights. Opening reads and checks the headers; the tensors follow when asked for, from any thread.

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use indexmap::IndexMap;
use rayon::prelude::*;

use super::dtype::{DType, to_f32};
use super::file::{self, Contents};
use super::hub::{Downloads, Hub};
use super::index;
use super::pytorch::{Checkpoint, Nested, Outline};
use super::source::WeightsSource;
use crate::diag::{Code, Problem, suggest};
use crate::io::atomic::reason;
use crate::io::open::Opened;
use crate::source::below;

/// What a file says of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    pub shape: Vec<usize>,
    pub dtype: DType,
}

/// An entry of the outermost dictionary of a PyTorch checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub name: String,
    /// Its value, where that is a string.
    pub text: Option<String>,
}

/// The tensors of a weights file, or of several that an index holds together.
pub struct Store {
    name: String,
    /// The files that it is made of.
    files: Vec<PathBuf>,
    tensors: IndexMap<String, TensorInfo>,
    places: Vec<Place>,
    metadata: IndexMap<String, String>,
    warnings: Vec<Problem>,
    /// Of a PyTorch checkpoint, whose dictionaries may lie in each other.
    nested: Option<Nested>,
    outline: OnceLock<Outline>,
}

/// How much one thread reads at once, in bytes.
const PIECE: usize = 4 << 20;

/// Where the tensor of the same index lies.
enum Place {
    Plain { file: Arc<Opened>, range: Range<u64> },
    Held(Vec<u8>),
    PyTorch(pytorch_reader::Tensor),
}

impl Store {
    /// Opens what `weights ..` names, files relative to `base`. None for `random(..)`, which has no file.
    pub fn open(source: &WeightsSource, base: &Path, downloads: &dyn Downloads) -> Result<Option<Store>, Problem> {
        match source {
            WeightsSource::File(file) => Store::open_file(&below(base, file)).map(Some),
            WeightsSource::Hub(repo) => Store::open_hub(repo, downloads).map(Some),
            WeightsSource::Random { .. } => Ok(None),
        }
    }

    /// Opens a safetensors file, a sharded `.index.json` or a PyTorch checkpoint; which it is, its content says.
    pub fn open_file(path: &Path) -> Result<Store, Problem> {
        if index::is_index(path) {
            return Store::open_index(path);
        }
        let mut store = Store::empty(path);
        store.add(file::open(path)?, |_| true);
        Ok(store)
    }

    /// Opens a repository of the Hugging Face hub, `owner/repo`, from its cache or over the network.
    pub fn open_hub(repo: &str, downloads: &dyn Downloads) -> Result<Store, Problem> {
        let mut store = Store::open_file(&Hub::from_env()?.fetch(repo, downloads)?)?;
        store.name = format!("hf(\"{repo}\")");
        Ok(store)
    }

    fn open_index(path: &Path) -> Result<Store, Problem> {
        let index = index::read(path)?;
        let mut store = Store::empty(path);
        for (shard, keys) in &index.shards {
            let shard: PathBuf = path.with_file_name(shard);
            let opened =
                file::open(&shard).map_err(|problem| problem.note(format!("`{}` names it", path.display())))?;
            index::check_shard(path, &shard, keys, opened.keys())?;
            store.add(opened, |key| keys.contains(key));
            store.files.push(shard);
        }
        store.metadata = index.metadata;
        Ok(store)
    }

    fn empty(path: &Path) -> Store {
        Store {
            name: path.display().to_string(),
            files: vec![path.to_path_buf()],
            tensors: IndexMap::new(),
            places: vec![],
            metadata: IndexMap::new(),
            warnings: vec![],
            nested: None,
            outline: OnceLock::new(),
        }
    }

    fn add(&mut self, opened: Contents, wanted: impl Fn(&str) -> bool) {
        match opened {
            Contents::Safetensors { file, header } => {
                for (key, stored) in header.tensors {
                    if wanted(&key) {
                        let info = TensorInfo { shape: stored.shape, dtype: stored.dtype };
                        self.tensors.insert(key, info);
                        self.places.push(Place::Plain { file: file.clone(), range: stored.range });
                    }
                }
                self.metadata = header.metadata;
            }
            Contents::PyTorch(Checkpoint { tensors, warnings, nested }) => {
                self.warnings.extend(warnings);
                self.nested = Some(nested);
                for (key, (info, tensor)) in tensors {
                    if wanted(&key) {
                        self.tensors.insert(key, info);
                        self.places.push(Place::PyTorch(tensor));
                    }
                }
            }
        }
    }

    /// The files that it is made of, an index before its shards.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Every key with its shape and number format; in the order of the file (a PyTorch checkpoint: of the names).
    pub fn tensors(&self) -> &IndexMap<String, TensorInfo> {
        &self.tensors
    }

    /// The dictionaries of a PyTorch checkpoint that hold tensors, but for the outermost, by dotted path: those with most
    /// tensors first. None of another file.
    pub fn parts(&self) -> &[String] {
        &self.outline().parts
    }

    /// What lies in the outermost dictionary of a PyTorch checkpoint. None of another file.
    pub fn entries(&self) -> &[Entry] {
        &self.outline().entries
    }

    fn outline(&self) -> &Outline {
        let outline = || self.nested.as_ref().map_or_else(Outline::default, |nested| nested.outline(&self.tensors));
        self.outline.get_or_init(outline)
    }

    /// The strings that a safetensors file or an index carries beside its tensors.
    pub fn metadata(&self) -> &IndexMap<String, String> {
        &self.metadata
    }

    /// What is worth a warning of a file that can be read.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The path, or `hf("..")`, for messages.
    pub fn describe(&self) -> &str {
        &self.name
    }

    /// The values of `key` as float32, row-major.
    pub fn read(&self, key: &str) -> Result<Vec<f32>, Problem> {
        let (info, place) = self.find(key)?;
        if let (DType::F32, Place::Plain { file, range }) = (&info.dtype, place) {
            // straight to where they are wanted: most weights are float32
            let mut values = vec![0f32; (range.end - range.start) as usize / 4];
            self.fill(key, bytemuck::cast_slice_mut(&mut values), file, range.start)?;
            return Ok(values);
        }
        to_f32(&info.dtype, &self.raw(key)?).ok_or_else(|| self.unreadable(key, info))
    }

    /// Some of the values that [`Store::read`] gives.
    ///
    /// # Panics
    /// If the tensor has fewer.
    pub fn read_part(&self, key: &str, values: Range<usize>) -> Result<Vec<f32>, Problem> {
        let (info, place) = self.find(key)?;
        let (Some(size), Place::Plain { file, range }) = (info.dtype.size(), place) else {
            return Ok(self.read(key)?[values].to_vec());
        };
        let from = range.start + (values.start * size) as u64;
        assert!(from + (values.len() * size) as u64 <= range.end, "the tensor has these values");
        let mut bytes = vec![0; values.len() * size];
        self.fill(key, &mut bytes, file, from)?;
        to_f32(&info.dtype, &bytes).ok_or_else(|| self.unreadable(key, info))
    }

    /// Whether `key` is there, in a number format that [`Store::read`] converts.
    pub fn check(&self, key: &str) -> Result<(), Problem> {
        let (info, _) = self.find(key)?;
        if info.dtype.size().is_some() { Ok(()) } else { Err(self.unreadable(key, info)) }
    }

    /// The stored bytes of `key`, little-endian and row-major: integers and whatever is only carried along.
    pub fn raw(&self, key: &str) -> Result<Cow<'_, [u8]>, Problem> {
        match self.find(key)?.1 {
            Place::Plain { file, range } => {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                self.fill(key, &mut bytes, file, range.start)?;
                Ok(Cow::Owned(bytes))
            }
            Place::Held(bytes) => Ok(Cow::Borrowed(bytes)),
            Place::PyTorch(tensor) => tensor.read().map(Cow::Owned).map_err(|error| {
                Problem::new(Code::WeightsFile, format!("`{key}` of `{}` cannot be read: {error}", self.name))
                    .hint("the file is damaged; fetch it again")
            }),
        }
    }

    /// Reads the bytes of `key` now, so that the file may change or go afterwards.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn hold(&mut self, key: &str) -> Result<(), Problem> {
        let bytes = self.raw(key)?.into_owned();
        if let Some(place) = self.tensors.get_index_of(key).and_then(|index| self.places.get_mut(index)) {
            *place = Place::Held(bytes);
        }
        Ok(())
    }

    /// Reads on all threads: copying from the system's cache is as fast as memory is.
    fn fill(&self, key: &str, into: &mut [u8], file: &Opened, start: u64) -> Result<(), Problem> {
        let pieces = into.par_chunks_mut(PIECE).enumerate();
        let read = pieces.try_for_each(|(at, piece)| file.exact_at(piece, start + (at * PIECE) as u64));
        let why = match read {
            Ok(()) if file.is_unchanged() => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => format!("cannot be read: {}", reason(&error)),
            _ => "was changed while archc read it".into(),
        };
        Err(Problem::new(Code::WeightsFile, format!("`{}` {why}", self.name))
            .note(format!("the tensor that was to be read is `{key}`"))
            .hint("run it again when nothing writes to the file"))
    }

    fn find(&self, key: &str) -> Result<(&TensorInfo, &Place), Problem> {
        let found = self.tensors.get_full(key).and_then(|(index, _, info)| Some((info, self.places.get(index)?)));
        found.ok_or_else(|| {
            let problem = Problem::new(Code::WeightsFile, format!("`{}` has no tensor `{key}`", self.name));
            match suggest(key, self.tensors.keys().map(String::as_str)) {
                Some(hint) => problem.hint(hint),
                None => problem.hint(self.sample_keys()),
            }
        })
    }

    fn sample_keys(&self) -> String {
        let keys: Vec<String> = self.tensors.keys().take(3).map(|key| format!("`{key}`")).collect();
        match keys.len() {
            0 => "it has no tensors at all".into(),
            _ => format!("its keys look like {}", keys.join(", ")),
        }
    }

    fn unreadable(&self, key: &str, info: &TensorInfo) -> Problem {
        let name = info.dtype.name();
        Problem::new(Code::WeightsFile, format!("`{key}` of `{}` is {name}, which archc does not read", self.name))
            .hint("convert it to float32, float16 or bfloat16, for example with `tensor.float()` in PyTorch")
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("name", &self.name).field("tensors", &self.tensors).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, Sample};
    use super::*;

    fn open(path: &Path) -> Store {
        Store::open_file(path).unwrap_or_else(|problem| panic!("{problem:?}"))
    }

    fn refused(path: &Path) -> String {
        let problem = Store::open_file(path).unwrap_err();
        assert_eq!(problem.code, Code::WeightsFile);
        assert!(!problem.hints.is_empty(), "{}: no way out", problem.message);
        format!("{}\n{}", problem.message, problem.hints.join("\n"))
    }

    #[test]
    fn safetensors_are_read_in_every_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        std::fs::write(
            &path,
            samples::safetensors(&[
                Sample::f32("w", &[2, 2], &[1.0, -2.0, 3.5, 4.0]),
                Sample::f32("empty", &[0, 4], &[]),
                Sample::new("steps", "I64", &[], &1234i64.to_le_bytes()),
                Sample::new("half", "F16", &[1], &half::f16::from_f32(0.5).to_le_bytes()),
                Sample::new("odd", "F8_E4M3", &[2], &[1, 2]),
            ]),
        )
        .unwrap();
        let store = open(&path);
        assert_eq!(store.describe(), path.display().to_string());
        assert_eq!(store.tensors()["w"], TensorInfo { shape: vec![2, 2], dtype: DType::F32 });
        assert_eq!(store.read("w").unwrap(), [1.0, -2.0, 3.5, 4.0]);
        assert_eq!(store.read("empty").unwrap(), [0f32; 0]);
        assert_eq!(store.raw("steps").unwrap().as_ref(), 1234i64.to_le_bytes());
        assert_eq!(store.read("steps").unwrap(), [1234.0]);
        assert_eq!(store.read("half").unwrap(), [0.5]);
        assert_eq!(store.read_part("w", 1..3).unwrap(), [-2.0, 3.5]);
        assert_eq!(store.read_part("half", 0..1).unwrap(), [0.5]);
        assert!(store.parts().is_empty());
        let problem = store.read("odd").unwrap_err();
        assert!(problem.message.starts_with("`odd` of "), "{}", problem.message);
        assert!(problem.message.contains("is F8_E4M3"), "{}", problem.message);
        let problem = store.read("stepz").unwrap_err();
        assert_eq!(problem.hints, ["did you mean `steps`?"]);
    }

    #[test]
    fn tensors_are_read_from_many_threads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let values: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let samples: Vec<Sample> = (0..50).map(|i| Sample::f32(&format!("t{i}"), &[1000], &values)).collect();
        std::fs::write(&path, samples::safetensors(&samples)).unwrap();
        let store = open(&path);
        let keys: Vec<&String> = store.tensors().keys().collect();
        keys.par_iter().for_each(|key| {
            assert_eq!(store.read(key).unwrap(), values);
        });
    }

    #[test]
    fn a_file_that_changes_under_the_reader_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        // of several pages, the last of which go
        let values: Vec<f32> = (0..100_000).map(|i| i as f32).collect();
        let good = samples::safetensors(&[Sample::f32("a", &[1], &[1.0]), Sample::f32("w", &[100_000], &values)]);
        let changes: [&dyn Fn(); 3] = [
            &|| std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(5000).unwrap(),
            &|| std::fs::write(&path, vec![0; good.len()]).unwrap(),
            &|| std::fs::write(&path, b"").unwrap(),
        ];
        for change in changes {
            std::fs::write(&path, &good).unwrap();
            let (store, mut held) = (open(&path), open(&path));
            held.hold("w").unwrap();
            assert_eq!(store.read("w").unwrap(), values);
            // clocks of file systems are coarse
            std::thread::sleep(std::time::Duration::from_millis(20));
            change();
            for problem in [store.read("w").unwrap_err(), store.raw("a").unwrap_err(), held.read("a").unwrap_err()] {
                assert!(problem.message.ends_with("was changed while archc read it"), "{}", problem.message);
                assert_eq!(problem.hints, ["run it again when nothing writes to the file"]);
            }
            assert_eq!(held.read("w").unwrap(), values);
        }
        // what takes the file's place, as archc writes files, changes nothing
        std::fs::write(&path, &good).unwrap();
        let store = open(&path);
        crate::io::atomic::write_bytes(&path, b"other").unwrap();
        assert_eq!(store.read("w").unwrap(), values);
    }

    #[test]
    fn an_index_holds_its_shards_together() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("one.safetensors"), samples::safetensors(&[Sample::f32("a", &[1], &[1.0])])).unwrap();
        std::fs::write(at("two.safetensors"), samples::safetensors(&[Sample::f32("b", &[1], &[2.0])])).unwrap();
        let index = at("model.safetensors.index.json");
        let write =
            |map: &str| std::fs::write(&index, format!("{{\"metadata\":{{\"total_size\":8}},\"weight_map\":{map}}}"));
        write(r#"{"a":"one.safetensors","b":"two.safetensors"}"#).unwrap();
        let store = open(&index);
        assert_eq!(store.read("a").unwrap(), [1.0]);
        assert_eq!(store.read("b").unwrap(), [2.0]);
        assert_eq!(store.metadata()["total_size"], "8");
        for (map, message) in [
            (r#"{"a":"one.safetensors","b":"one.safetensors"}"#, "`b`"),
            (r#"{"a":"one.safetensors","b":"too.safetensors"}"#, "did you mean `two.safetensors`"),
            (r#"{"a":"../one.safetensors"}"#, "outside"),
            (r#"{"a":"/one.safetensors"}"#, "outside"),
            (r#"{"a":3}"#, "invalid type"),
            (r#"{"a":"one.safetensors","a":"two.safetensors"}"#, "comes twice"),
            (r#"{}"#, "names no tensors"),
        ] {
            write(map).unwrap();
            let text = refused(&index);
            assert!(text.contains(message), "{map}: {text}");
        }
        write(r#"{"c":"one.safetensors"}"#).unwrap();
        assert!(refused(&index).contains("`c`"));
        std::fs::write(&index, "{").unwrap();
        assert!(refused(&index).contains("EOF"));
    }

    #[test]
    fn what_is_no_weights_file_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("resnet50.safetensors"), samples::safetensors(&[Sample::f32("a", &[1], &[1.0])])).unwrap();
        let cases: &[(&str, Option<&[u8]>, &str)] = &[
            ("resnet5.safetensors", None, "did you mean `resnet50.safetensors`?"),
            ("nowhere/a.safetensors", None, "there is no folder"),
            ("resnet50.safetensors/x.safetensors", None, "not a folder"),
            ("empty.safetensors", Some(b""), "is empty"),
            ("lfs.pth", Some(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"), "git lfs pull"),
            ("page.safetensors", Some(b"<!DOCTYPE html><html></html>"), "web page"),
            ("short.safetensors", Some(b"\x08\0\0\0\0\0\0\0{}"), "cut off"),
            ("noise.safetensors", Some(&[7; 200]), "header of 506381209866536711 bytes"),
            ("noise.pth", Some(&[7; 200]), "not a PyTorch checkpoint"),
            ("noise.xyz", Some(&[7; 200]), "neither"),
        ];
        for (name, bytes, message) in cases {
            if let Some(bytes) = bytes {
                std::fs::write(at(name), bytes).unwrap();
            }
            let text = refused(&at(name));
            assert!(text.contains(message), "{name}: {text}");
        }
        std::fs::create_dir(at("dir.safetensors")).unwrap();
        assert!(refused(&at("dir.safetensors")).contains("is a folder"));
    }

    #[test]
    fn random_weights_have_no_file() {
        assert!(Store::open(&WeightsSource::Random { seed: 0 }, Path::new("."), &()).unwrap().is_none());
    }
}
