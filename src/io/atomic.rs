//! Files that are written whole or not at all: a temporary file in the same folder, renamed over the old one when
//! everything is in it. Whatever goes wrong before that leaves the old file as it was and no debris, [`abandon`] where the
//! process is to die. What is not a plain
//! file (`/dev/stdout`, a pipe) is written directly. Nothing is forced to the disk: this is about broken runs, not about
//! power cuts.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use crate::diag::{Code, Problem};

/// Writes `bytes` as the file `path`.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), Problem> {
    write(path, |out| out.write_all(bytes))
}

/// Writes the file `path` with what `fill` puts out.
pub fn write(path: &Path, fill: impl FnOnce(&mut AtomicFile) -> io::Result<()>) -> Result<(), Problem> {
    let mut file = AtomicFile::create(path)?;
    match fill(&mut file) {
        Ok(()) => file.commit(),
        Err(error) => Err(problem(path, &error)),
    }
}

/// Whether a file can be written there, found out by a temporary one. What is no plain file is not opened: a pipe would
/// wait for its reader.
pub fn check_writable(path: &Path) -> Result<(), Problem> {
    match fs::metadata(path) {
        Ok(old) if !old.is_file() && !old.is_dir() => Ok(()),
        _ => AtomicFile::create(path).map(|_| ()),
    }
}

/// A file that is being written and takes its place at [`AtomicFile::commit`]; dropped before, it was never there.
pub struct AtomicFile {
    path: PathBuf,
    out: Out,
}

enum Out {
    Temporary { target: PathBuf, file: BufWriter<NamedTempFile>, listed: Listed },
    Direct(BufWriter<File>),
}

impl AtomicFile {
    /// Opens the temporary file. Its folder must exist.
    pub fn create(path: &Path) -> Result<AtomicFile, Problem> {
        let failed = |error: io::Error| problem(path, &error);
        let old = match fs::metadata(path) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if let Some(old) = &old {
            if old.is_dir() {
                return Err(Problem::new(Code::Output, format!("`{}` is a folder, not a file", path.display()))
                    .hint("name a file in it"));
            }
            if !old.is_file() {
                let file = open_now(path).map_err(failed)?;
                return Ok(AtomicFile { path: path.into(), out: Out::Direct(BufWriter::with_capacity(BUFFER, file)) });
            }
        }
        // The rename would replace a link by a file; who made the link wants the file behind it written.
        let target = if path.is_symlink() { link_target(path).map_err(failed)? } else { path.to_path_buf() };
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".archc-").suffix(".tmp");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // An ordinary new file's permissions, before the umask, instead of tempfile's private ones.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let (file, listed) = Listed::make(|| builder.tempfile_in(folder)).map_err(failed)?;
        if let Some(old) = old {
            // Best effort: a file system without permissions is no reason to fail.
            let _ = fs::set_permissions(file.path(), old.permissions());
        }
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(AtomicFile { path: path.into(), out: Out::Temporary { target, file, listed } })
    }

    /// The path of what is written so far, to look at it before it takes its place.
    pub fn written(&mut self) -> io::Result<&Path> {
        self.flush()?;
        Ok(match &self.out {
            Out::Temporary { file, .. } => file.get_ref().path(),
            Out::Direct(_) => &self.path,
        })
    }

    /// Puts the written file in its place.
    pub fn commit(self) -> Result<(), Problem> {
        let AtomicFile { path, out } = self;
        let failed = |error: io::Error| problem(&path, &error);
        match out {
            Out::Direct(mut file) => file.flush().map_err(failed),
            Out::Temporary { target, file, listed } => {
                let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
                let moved = {
                    let _unfinished = unfinished();
                    file.persist(&target)
                };
                drop(listed);
                moved.map(drop).map_err(|error| failed(error.error))
            }
        }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Out::Temporary { file, .. } => file.write(bytes),
            Out::Direct(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.out {
            Out::Temporary { file, .. } => file.flush(),
            Out::Direct(file) => file.flush(),
        }
    }
}

/// The temporary files of this process.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all temporary files, for a process that dies now: no more is begun, and none takes its place any more. Threads
/// that try wait for ever.
pub fn abandon() {
    remove(unfinished());
}

/// The same for a process that may hold the list itself: then the files stay.
pub fn abandon_what_is_free() {
    if let Ok(unfinished) = UNFINISHED.try_lock() {
        remove(unfinished);
    }
}

fn remove(unfinished: MutexGuard<'static, BTreeSet<PathBuf>>) {
    for path in unfinished.iter() {
        // nobody is left to tell
        let _ = fs::remove_file(path);
    }
    std::mem::forget(unfinished);
}

/// A temporary file's entry in the list.
struct Listed(PathBuf);

impl Listed {
    /// Makes the file and its entry, so that no file is there without one.
    fn make(file: impl FnOnce() -> io::Result<NamedTempFile>) -> io::Result<(NamedTempFile, Listed)> {
        let mut unfinished = unfinished();
        let file = file()?;
        unfinished.insert(file.path().to_path_buf());
        let listed = Listed(file.path().to_path_buf());
        Ok((file, listed))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        unfinished().remove(&self.0);
    }
}

/// The message for an error while writing `path`.
pub fn problem(path: &Path, error: &io::Error) -> Problem {
    let what = format!("`{}` cannot be written", path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.display().to_string(),
        _ => ".".into(),
    };
    let problem = Problem::new(Code::Output, format!("{what}: {}", reason(error)));
    match error.kind() {
        io::ErrorKind::NotFound => problem.hint(format!("make the folder first: `mkdir -p {folder}`")),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            problem.hint(format!("name another place, or make the folder `{folder}` writable"))
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            problem.hint("free some space, or name a place on another disk")
        }
        io::ErrorKind::FileTooLarge => {
            problem.hint("lift the limit on the size of files: `ulimit -f unlimited`; or name a place on another disk")
        }
        _ => problem.hint("name another place"),
    }
}

/// What the system says, without Rust's `(os error 2)`, in lower case.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    // tempfile adds the name of its file, which means nothing to anybody.
    let text = text.split(" at path ").next().unwrap_or_default();
    // an error that tempfile made itself has no words of the system
    let text = if text == "entity not found" { "no such file or directory" } else { text };
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if !letters.clone().next().is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_string(),
    }
}

/// Opens what is no plain file for writing. A pipe that nobody reads is an error instead of a wait without end.
#[cfg(unix)]
fn open_now(path: &Path) -> io::Result<File> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = OpenOptions::new();
    options.write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::NXIO.raw_os_error() => io::Error::other("nobody reads this pipe"),
        _ => error,
    })?;
    // once it is open, writing may wait for the reader
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

#[cfg(not(unix))]
fn open_now(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

const BUFFER: usize = 1 << 18;

fn link_target(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        // A dangling link: write where it points.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let to = fs::read_link(path)?;
            Ok(path.parent().map_or(to.clone(), |folder| folder.join(&to)))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_bytes(&path, b"one").unwrap();
        write_bytes(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn an_error_leaves_the_old_file_and_no_debris() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_bytes(&path, b"old").unwrap();
        let problem = write(&path, |out| {
            out.write_all(&vec![1; 3 * BUFFER])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert_eq!(problem.code, Code::Output);
        assert!(problem.message.contains("cannot be written"), "{}", problem.message);
        assert!(problem.hints[0].contains("another disk"), "{:?}", problem.hints);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_missing_folder_and_a_folder_in_the_way_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let problem = write_bytes(&folder.path().join("no/a.txt"), b"").unwrap_err();
        assert!(problem.message.ends_with("no such file or directory"), "{}", problem.message);
        assert!(problem.hints[0].starts_with("make the folder first"), "{:?}", problem.hints);
        let problem = write_bytes(folder.path(), b"").unwrap_err();
        assert!(problem.message.contains("is a folder"), "{}", problem.message);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_a_problem() {
        let problem = write_bytes(Path::new("/dev/full"), b"text").unwrap_err();
        assert_eq!(problem.message, "`/dev/full` cannot be written: no space left on device");
    }

    #[cfg(unix)]
    #[test]
    fn permissions_and_links_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        write_bytes(&file, b"one").unwrap();
        // A new file is readable as any other is, not private as temporary ones are.
        fs::write(folder.path().join("plain"), b"").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), mode(&folder.path().join("plain")));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("file", &link).unwrap();
        write_bytes(&link, b"two").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(mode(&file), 0o640);
    }
}
