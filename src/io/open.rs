//! The one way to open a file for reading. A path is looked at before it is opened, so that a named pipe without a writer,
//! a device or a socket is a message and never a hang; the handle is looked at once more, so that a swap in between does no
//! harm. Whoever reads says how much at most, whatever the file's length claims to be.
//!
//! Only what the command line names may be a stream, and only one that is open already: `archc check <(..)`.

use std::fmt;
use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read};
use std::path::{Component, Path};
use std::time::{Duration, SystemTime};

use super::atomic::reason;
use crate::diag::{Code, Problem, suggest};

/// A file that is open for reading.
#[derive(Debug)]
pub struct Opened {
    file: File,
    len: u64,
    modified: Option<SystemTime>,
    waits: bool,
}

/// [`plain`] or [`plain_or_stream`].
pub type Open = fn(&Path) -> Result<Opened, Unreadable>;

/// Why a file cannot be read.
#[derive(Debug)]
pub enum Unreadable {
    System(io::Error),
    /// Something else than a plain file, with an article: `a folder`.
    Other(&'static str),
    /// It holds more bytes than are read.
    TooLong {
        limit: u64,
    },
}

/// Opens a plain file.
///
/// # Errors
/// If the system refuses, or it is a folder, a pipe, a device or a socket.
pub fn plain(path: &Path) -> Result<Opened, Unreadable> {
    open(path, false)
}

/// Opens a plain file, or the stream behind a descriptor of this process (`/dev/fd/63`, `/dev/stdin`), which is waited for.
///
/// # Errors
/// As [`plain`].
pub fn plain_or_stream(path: &Path) -> Result<Opened, Unreadable> {
    open(path, is_descriptor(path))
}

/// The whole of a plain file, at most `limit` bytes.
///
/// # Errors
/// As [`plain`]; a longer file.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Unreadable> {
    plain(path)?.rest(vec![], limit)
}

/// The whole of a plain file of text, at most `limit` bytes.
///
/// # Errors
/// As [`read`]; what is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String, Unreadable> {
    let bytes = read(path, limit)?;
    String::from_utf8(bytes).map_err(|_| Unreadable::System(io::Error::other("it is not UTF-8")))
}

fn open(path: &Path, waits: bool) -> Result<Opened, Unreadable> {
    refuse(fs::metadata(path)?.file_type(), waits)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // a pipe that took the file's place meanwhile is not waited for, and no terminal becomes this process' own
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    let file = options.open(path)?;
    let about = file.metadata()?;
    refuse(about.file_type(), waits)?;
    Ok(Opened { file, len: about.len(), modified: about.modified().ok(), waits })
}

/// Whether the path names a descriptor of this process, as a shell's `<(..)` does.
fn is_descriptor(path: &Path) -> bool {
    let parts: Vec<&str> = path.components().filter_map(|part| part.as_os_str().to_str()).collect();
    let is_absolute = path.components().next() == Some(Component::RootDir);
    is_absolute && matches!(parts[1..], ["dev", "stdin"] | ["dev", "fd", _] | ["proc", "self", "fd", _])
}

/// `streams`: whether what is no folder is good.
fn refuse(kind: FileType, streams: bool) -> Result<(), Unreadable> {
    if kind.is_file() || (streams && !kind.is_dir()) {
        return Ok(());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Err(Unreadable::Other("a pipe"));
        }
        if kind.is_socket() {
            return Err(Unreadable::Other("a socket"));
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Err(Unreadable::Other("a device"));
        }
    }
    Err(Unreadable::Other(if kind.is_dir() { "a folder" } else { "something else" }))
}

impl Opened {
    /// The length in bytes when it was opened; 0 of a stream.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The next bytes, `count` of them where the file goes on that long.
    ///
    /// # Errors
    /// The system's.
    pub fn start(&mut self, count: usize) -> Result<Vec<u8>, Unreadable> {
        let mut bytes = vec![];
        let waits = self.waits;
        (Patient { file: &mut self.file, waits }).take(count as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// `start` and everything behind it, at most `limit` bytes in all.
    ///
    /// # Errors
    /// A longer file, before more than its first byte too many is read; the system's.
    pub fn rest(mut self, start: Vec<u8>, limit: u64) -> Result<Vec<u8>, Unreadable> {
        if self.len > limit {
            return Err(Unreadable::TooLong { limit });
        }
        let mut bytes = start;
        // the length is only a guess at what will come: files of /proc have none
        let guess = usize::try_from(self.len).unwrap_or(usize::MAX).saturating_sub(bytes.len());
        bytes.try_reserve_exact(guess).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let left = limit.saturating_sub(bytes.len() as u64);
        let waits = self.waits;
        (Patient { file: &mut self.file, waits }).take(left.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(Unreadable::TooLong { limit });
        }
        Ok(bytes)
    }

    /// Fills `into` with the bytes from `offset` on, from any thread.
    ///
    /// # Errors
    /// `UnexpectedEof` where the file ends before; the system's.
    pub fn exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::FileExt;
            self.file.read_exact_at(into, offset)
        }
        #[cfg(windows)]
        {
            use std::os::windows::fs::FileExt;
            let (mut into, mut offset) = (into, offset);
            while !into.is_empty() {
                match self.file.seek_read(into, offset)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => (into, offset) = (&mut into[count..], offset + count as u64),
                }
            }
            Ok(())
        }
    }

    /// Whether nobody has written to the file since it was opened, as far as the system tells: a file that another one
    /// took the place of is the same as ever.
    pub fn is_unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|now| now.len() == self.len && now.modified().ok() == self.modified)
    }

    /// The handle, for what reads a descriptor by its path.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Reads a handle that does not block as if it did.
struct Patient<'a> {
    file: &'a mut File,
    waits: bool,
}

impl Read for Patient<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.waits => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                other => return other,
            }
        }
    }
}

impl Unreadable {
    /// Whether there is nothing of that name.
    pub fn is_missing(&self) -> bool {
        matches!(self, Unreadable::System(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the process lacks something, and the file may be good: descriptors or memory.
    pub fn is_of_process(&self) -> bool {
        let Unreadable::System(error) = self else { return false };
        error.kind() == io::ErrorKind::OutOfMemory || error.raw_os_error().is_some_and(is_too_many)
    }

    /// The message about the file `path`, with the nearest names of its folder where it is missing.
    pub fn problem(self, code: Code, path: &Path) -> Problem {
        let name = path.display();
        let code = if self.is_of_process() { Code::Resource } else { code };
        let problem = match &self {
            Unreadable::Other(_) => Problem::new(code, format!("`{name}` is {self}")),
            Unreadable::System(_) => Problem::new(code, format!("`{name}` cannot be read: {self}")),
            Unreadable::TooLong { .. } => Problem::new(code, format!("`{name}` is too large: {self}")),
        };
        match self {
            Unreadable::Other("a folder") => problem.hint("name a file in it"),
            Unreadable::Other("a pipe") => {
                problem.hint(format!("write what comes out of it to a file first: `cat {name} > file`"))
            }
            Unreadable::Other(_) => problem.hint("name a plain file"),
            Unreadable::System(error) => explain(problem, path, &error),
            Unreadable::TooLong { .. } => problem,
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::System(error) => f.write_str(&reason(error)),
            Unreadable::Other(kind) => write!(f, "{kind}, not a file"),
            Unreadable::TooLong { limit } if *limit >= 1 << 30 => write!(f, "at most {} GiB are read", limit >> 30),
            Unreadable::TooLong { limit } if *limit >= 1 << 20 => write!(f, "at most {} MiB are read", limit >> 20),
            Unreadable::TooLong { limit } => write!(f, "at most {limit} bytes are read"),
        }
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Unreadable {
        Unreadable::System(error)
    }
}

#[cfg(unix)]
fn is_too_many(code: i32) -> bool {
    matches!(code, libc::EMFILE | libc::ENFILE)
}

#[cfg(not(unix))]
fn is_too_many(_code: i32) -> bool {
    false
}

/// A way out of the system's reason: the nearest name, the missing folder, the permission.
fn explain(problem: Problem, path: &Path, error: &io::Error) -> Problem {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match error.kind() {
        io::ErrorKind::NotFound if !folder.exists() => {
            problem.hint(format!("there is no folder `{}`", folder.display()))
        }
        io::ErrorKind::NotFound => {
            let wanted = path.file_name().unwrap_or_default().to_string_lossy();
            let names = neighbours(folder);
            // a link to nowhere is there itself
            problem.hints(suggest(&wanted, names.iter().map(String::as_str).filter(|name| *name != wanted)))
        }
        _ if error.raw_os_error().is_some_and(is_too_many) => problem.hint("let more files be open: `ulimit -n 1024`"),
        io::ErrorKind::NotADirectory => problem.hint(format!("`{}` is a file, not a folder", folder.display())),
        io::ErrorKind::PermissionDenied => problem.hint(format!("make it readable: `chmod +r {}`", path.display())),
        _ => problem,
    }
}

/// The names in a folder in order; a folder of millions of files is not worth reading for a hint.
pub fn neighbours(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return vec![] };
    let mut names: Vec<String> =
        entries.take(10_000).filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> Problem {
        read(path, 1 << 20).unwrap_err().problem(Code::Input, path)
    }

    #[test]
    fn files_are_read_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        fs::write(&path, "hello").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"hello");
        assert_eq!(
            read(&path, 4).unwrap_err().problem(Code::File, &path).message.split_once("` ").unwrap().1,
            "is too large: at most 4 bytes are read"
        );
        let mut opened = plain(&path).unwrap();
        let start = opened.start(2).unwrap();
        assert_eq!(start, b"he");
        assert_eq!(opened.rest(start, 5).unwrap(), b"hello");
        let mut middle = [0; 3];
        let opened = plain(&path).unwrap();
        opened.exact_at(&mut middle, 1).unwrap();
        assert_eq!(&middle, b"ell");
        assert_eq!(opened.exact_at(&mut middle, 3).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(refused(&folder.path().join("pert")).hints, ["did you mean `part`?"]);
        assert_eq!(read_text(&path, 9).unwrap_err().to_string(), "it is not UTF-8");
    }

    #[test]
    #[cfg(unix)]
    fn what_the_process_lacks_is_no_fault_of_the_file() {
        let told =
            |code: i32| Unreadable::from(io::Error::from_raw_os_error(code)).problem(Code::Input, Path::new("a"));
        for code in [libc::EMFILE, libc::ENFILE] {
            let problem = told(code);
            assert_eq!(
                (problem.code, problem.hints),
                (Code::Resource, vec!["let more files be open: `ulimit -n 1024`".into()])
            );
        }
        assert_eq!(told(libc::ENOMEM).code, Code::Resource);
        assert_eq!(told(libc::EIO).code, Code::Input);
    }

    #[test]
    #[cfg(unix)]
    fn what_is_no_file_is_said_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink("fifo", at("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        std::os::unix::fs::symlink("circle", at("circle")).unwrap();
        for (name, found) in [
            ("", "is a folder, not a file"),
            ("fifo", "is a pipe, not a file"),
            ("link", "is a pipe, not a file"),
            ("socket", "is a socket, not a file"),
            ("zero", "is a device, not a file"),
            ("circle", "cannot be read: too many levels of symbolic links"),
            ("fifo/x", "cannot be read: not a directory"),
        ] {
            let message = refused(&at(name)).message;
            assert!(message.ends_with(found), "{name}: {message}");
        }
        // a pipe that a shell opened for us is another matter than one that lies in a folder
        assert!(matches!(plain_or_stream(&at("fifo")), Err(Unreadable::Other("a pipe"))));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn files_without_a_length_are_read() {
        assert!(read_text(Path::new("/proc/self/status"), 1 << 16).unwrap().contains("VmRSS"));
        assert!(matches!(read(Path::new("/proc/self/status"), 9), Err(Unreadable::TooLong { limit: 9 })));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_descriptor_is_waited_for() {
        use std::io::Write;
        use std::os::fd::AsRawFd;
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            writer.write_all(b"late").unwrap();
        });
        assert_eq!(plain_or_stream(Path::new(&path)).unwrap().rest(vec![], 9).unwrap(), b"late");
        thread.join().unwrap();
        assert!(matches!(plain(Path::new(&path)), Err(Unreadable::Other("a pipe"))));
    }
}
