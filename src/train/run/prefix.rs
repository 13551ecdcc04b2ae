//! What a frozen prefix makes of each sample, computed once. Values are kept in memory up to a limit; beyond it they lie in a
//! file named by the content that it was made of, so that a run that goes on finds them again. Either way a sample's values
//! are the bits that the prefix gave. The file's space is reserved before the first value is written, and it is read and
//! written by calls that say when a disk is full or fails: a file that is mapped would end the process.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::learner::Prefix;
use crate::data::Recipe;
use crate::diag::{Code, Problem};
use crate::io::atomic::{problem, reason};
use crate::io::digest::hex;
use crate::tensor::Tensor;

/// The values of a data set's samples. May be filled and asked from several threads.
pub struct PrefixCache {
    shapes: Vec<Vec<usize>>,
    /// Floats a sample.
    len: usize,
    known: Vec<AtomicBool>,
    values: Mutex<Values>,
    place: Option<PathBuf>,
}

enum Values {
    /// A block a sample, made when its values come.
    Memory(Vec<Box<[f32]>>),
    /// [`MARK`] bytes a sample tell whether its values are there; the values begin behind these.
    Disk { file: File, is_broken: bool, failure: Option<Problem> },
}

/// Where values may lie.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes of memory that all values may take; more lie on the disk.
    pub memory: u64,
    /// Bytes of the disk that are left for checkpoints.
    pub spare: u64,
}

/// Why values cannot be kept.
pub struct NoRoom {
    /// Bytes.
    pub needed: u64,
    /// None where the system does not say.
    pub free: Option<u64>,
    pub reason: String,
}

impl PrefixCache {
    /// A cache for `samples` samples, where `room` has a place for them: in memory, or else in `folder`. `data` is a digest of
    /// the samples' files.
    ///
    /// # Errors
    /// If the file cannot be made or has no room: then none is left.
    pub fn new(
        prefix: &Prefix,
        (samples, data): (usize, &str),
        recipe: &Recipe,
        room: Room,
        folder: &Path,
    ) -> Result<PrefixCache, NoRoom> {
        let shapes = prefix.shapes.clone();
        let floats = |shape: &Vec<usize>| shape.iter().fold(1usize, |all, size| all.saturating_mul(*size));
        let len = shapes.iter().fold(0usize, |all, shape| all.saturating_add(floats(shape)));
        let bytes = (len as u64).saturating_mul(4).saturating_mul(samples as u64);
        let mut known: Vec<AtomicBool> = vec![];
        known.resize_with(samples, AtomicBool::default);
        if bytes <= room.memory {
            let values = Mutex::new(Values::Memory(vec![Box::default(); samples]));
            return Ok(PrefixCache { shapes, len, known, values, place: None });
        }
        let place = folder.join(format!("{}.values", content(prefix, data, recipe)));
        let needed = values_at(samples).saturating_add(bytes);
        let make = || {
            fs::create_dir_all(folder)?;
            let values = Mutex::new(Values::Disk { file: reserved(&place, needed)?, is_broken: false, failure: None });
            let cache = PrefixCache { shapes, len, known, values, place: Some(place.clone()) };
            cache.find()?;
            match free(folder) {
                Some(free) if free < room.spare => Err(io::Error::other("checkpoints need room too")),
                _ => Ok(cache),
            }
        };
        make().map_err(|error: io::Error| {
            // a file without room for its values is in the way of everything else
            let _ = fs::remove_file(&place);
            NoRoom { needed, free: free(folder), reason: reason(&error) }
        })
    }

    /// The file that holds the values; None where memory does.
    pub fn place(&self) -> Option<&Path> {
        self.place.as_deref()
    }

    /// Whether a sample's values are known.
    pub fn knows(&self, sample: usize) -> bool {
        self.known.get(sample).is_some_and(|known| known.load(Ordering::Acquire))
    }

    /// Keeps what the prefix made of `samples`: each of `made` is [B, ..]. Where the disk fails nothing more is kept, which
    /// changes no bit; [`PrefixCache::failure`] says so.
    pub fn keep(&self, samples: &[usize], made: &[Tensor]) {
        let mut values = self.values();
        for (at, sample) in samples.iter().enumerate() {
            if self.knows(*sample) {
                continue;
            }
            let mut row = Vec::with_capacity(self.len);
            for (tensor, shape) in made.iter().zip(&self.shapes) {
                let len: usize = shape.iter().product();
                row.extend_from_slice(&tensor.data()[at * len..][..len]);
            }
            match &mut *values {
                Values::Memory(rows) => rows[*sample] = row.into(),
                Values::Disk { is_broken: true, .. } => return,
                Values::Disk { file, is_broken, failure } => {
                    if let Err(error) = write(file, self.known.len(), *sample, bytemuck::cast_slice(&row)) {
                        *is_broken = true;
                        *failure = Some(problem(self.place.as_deref().unwrap_or(Path::new("")), &error));
                        return;
                    }
                }
            }
            self.known[*sample].store(true, Ordering::Release);
        }
    }

    /// Why nothing more is kept, once.
    pub fn failure(&self) -> Option<Problem> {
        match &mut *self.values() {
            Values::Disk { failure, .. } => failure.take(),
            Values::Memory(_) => None,
        }
    }

    /// The values of `samples`, side by side: [B, ..] each.
    ///
    /// # Errors
    /// If the disk fails.
    ///
    /// # Panics
    /// If the values of one are not known.
    pub fn batch(&self, samples: &[usize]) -> Result<Vec<Tensor>, Problem> {
        assert!(samples.iter().all(|sample| self.knows(*sample)), "only known samples are asked for");
        let mut values = self.values();
        let mut made: Vec<Vec<f32>> = self.shapes.iter().map(|_| vec![]).collect();
        let mut read = vec![0.0; self.len];
        for sample in samples {
            let row = match &mut *values {
                Values::Memory(rows) => &rows[*sample],
                Values::Disk { file, .. } => {
                    let place = self.place.as_deref().unwrap_or(Path::new(""));
                    let from = values_at(self.known.len()) + 4 * (self.len * sample) as u64;
                    read_at(file, from, bytemuck::cast_slice_mut(&mut read))
                        .map_err(|error| unreadable(place, &error))?;
                    read.as_slice()
                }
            };
            let mut from = 0;
            for (data, shape) in made.iter_mut().zip(&self.shapes) {
                let len: usize = shape.iter().product();
                data.extend_from_slice(&row[from..from + len]);
                from += len;
            }
        }
        let shape = |shape: &Vec<usize>| [samples.len()].into_iter().chain(shape.iter().copied()).collect::<Vec<_>>();
        Ok(made.into_iter().zip(&self.shapes).map(|(data, own)| Tensor::new(shape(own), data)).collect())
    }

    /// Finds the values that the file holds already: those whose digest is the one beside them.
    fn find(&self) -> io::Result<()> {
        let Values::Disk { file, .. } = &mut *self.values() else { return Ok(()) };
        let mut marks = vec![0; MARK * self.known.len()];
        read_at(file, 0, &mut marks)?;
        let mut row = vec![0; 4 * self.len];
        for (sample, own) in marks.chunks_exact(MARK).enumerate() {
            if own.iter().any(|byte| *byte != 0) {
                read_at(file, values_at(self.known.len()) + (row.len() * sample) as u64, &mut row)?;
                self.known[sample].store(own == mark(&row), Ordering::Release);
            }
        }
        Ok(())
    }

    /// Lets the disk fail: `file` cannot be written.
    #[cfg(test)]
    pub(super) fn breaks(&self, broken: File) {
        if let Values::Disk { file, .. } = &mut *self.values() {
            *file = broken;
        }
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a sample's digest, which is not zero.
const MARK: usize = 8;

fn mark(row: &[u8]) -> [u8; MARK] {
    let mut mark = [0; MARK];
    mark.copy_from_slice(&Sha256::digest(row)[..MARK]);
    mark[0] |= 1;
    mark
}

/// Where the values begin in a file of so many samples.
fn values_at(samples: usize) -> u64 {
    ((MARK * samples) as u64).next_multiple_of(64)
}

fn write(file: &mut File, samples: usize, sample: usize, row: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(values_at(samples) + (row.len() * sample) as u64))?;
    file.write_all(row)?;
    // after the values, so that a process that is killed between leaves nothing half known
    file.seek(SeekFrom::Start((MARK * sample) as u64))?;
    file.write_all(&mark(row))
}

fn read_at(file: &mut File, from: u64, into: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    file.read_exact(into)
}

/// The file of `len` bytes, all of which have a place on the disk.
fn reserved(path: &Path, len: u64) -> io::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    if file.metadata()?.len() != len {
        // of another size it is not what its name says: an empty one takes its place
        file.set_len(0)?;
    }
    reserve(&file, len)?;
    Ok(file)
}

#[cfg(target_os = "linux")]
fn reserve(file: &File, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => fill(file, len),
        done => Ok(done?),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(file: &File, len: u64) -> io::Result<()> {
    fill(file, len)
}

/// Writes zeros behind what the file holds.
fn fill(mut file: &File, len: u64) -> io::Result<()> {
    let held = file.seek(SeekFrom::End(0))?;
    io::copy(&mut io::repeat(0).take(len.saturating_sub(held)), &mut file).map(|_| ())
}

/// Bytes that the disk has left for `folder`, or for what it will lie in.
pub fn free(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    return folder.ancestors().find_map(|folder| {
        let place = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let found = rustix::fs::statvfs(place).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    });
    #[cfg(not(unix))]
    return None;
}

fn unreadable(place: &Path, error: &io::Error) -> Problem {
    Problem::new(Code::Input, format!("`{}` cannot be read: {}", place.display(), reason(error)))
        .hint("remove it, and go on without it: `--resume --no-prefix-cache`")
}

/// A name for everything that the values depend on: the prefix, the preparation, the pictures.
fn content(prefix: &Prefix, data: &str, recipe: &Recipe) -> String {
    let mut digest = Sha256::new_with_prefix(prefix.key);
    digest.update(format!("{:?} {:?} {:?} {data}", prefix.shapes, recipe.preprocess, recipe.input));
    hex(digest.finalize()).chars().take(32).collect()
}
