//! Compiled kernels on the disk, by the hash of everything that they depend on.
//!
//! An entry is written to a file of its own and renamed, so that two processes can fill the folder at once; one whose
//! bytes are not what was written is as good as none. A folder that cannot be written costs time, never the run.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::io::digest::hex;
use crate::io::{atomic, open};

/// In front of every entry, with the hash of what follows.
const MAGIC: &[u8; 8] = b"archcub1";
const HASH: usize = 32;
/// More than any kernel compiles to.
const MAX_BYTES: u64 = 1 << 28;

/// A folder of compiled kernels.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// `$ARCHC_CUBIN_CACHE`, else `archc/cubin` in `$XDG_CACHE_HOME` or `~/.cache`; no folder where none is known.
    pub fn new() -> Cache {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = || var("XDG_CACHE_HOME").or_else(|| Some(var("HOME")?.join(".cache")));
        let folder = var("ARCHC_CUBIN_CACHE").or_else(|| Some(base()?.join("archc").join("cubin")));
        Cache { folder }
    }

    #[cfg(test)]
    pub fn at(folder: &Path) -> Cache {
        Cache { folder: Some(folder.into()) }
    }

    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Why nothing can be written, if so. Makes nothing.
    pub fn problem(&self) -> Option<String> {
        let Some(folder) = &self.folder else { return Some("neither XDG_CACHE_HOME nor HOME is set".into()) };
        // the folder is made with the first entry, in the nearest one that there is
        let there = folder.ancestors().find(|folder| folder.exists())?;
        tempfile::NamedTempFile::new_in(there).err().map(|error| error.to_string())
    }

    /// The entry, if there is one and it is whole.
    pub fn read(&self, key: &str) -> Option<Vec<u8>> {
        let bytes = open::read(&self.path(key)?, MAX_BYTES).ok()?;
        let rest = bytes.strip_prefix(MAGIC)?;
        let (hash, body) = rest.split_at_checked(HASH)?;
        (Sha256::digest(body).as_slice() == hash).then(|| body.to_vec())
    }

    /// # Errors
    /// Why it could not be kept.
    pub fn write(&self, key: &str, body: &[u8]) -> Result<(), String> {
        let Some(path) = self.path(key) else { return Err("there is no cache folder".into()) };
        let folder = path.parent().expect("the path is in a folder");
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let bytes = [MAGIC.as_slice(), &Sha256::digest(body), body].concat();
        atomic::write_bytes(&path, &bytes).map_err(|problem| problem.message)
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{key}.cubin")))
    }
}

/// A name for what follows from `parts`.
pub fn key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_broken_ones_do_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(&folder.path().join("deep"));
        let key = key(&["source", "sm_90a"]);
        assert_eq!(cache.read(&key), None);
        cache.write(&key, b"code").expect("written");
        assert_eq!(cache.read(&key).as_deref(), Some(b"code".as_slice()));
        let path = folder.path().join("deep").join(format!("{key}.cubin"));
        let whole = fs::read(&path).expect("an entry");
        for broken in [&whole[..whole.len() - 1], b"", b"archcub1", b"something else"] {
            fs::write(&path, broken).expect("written");
            assert_eq!(cache.read(&key), None);
        }
        cache.write(&key, b"code").expect("written again");
        assert!(cache.read(&key).is_some());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_said() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let cache = Cache::at(&file.path().join("below"));
        assert!(cache.problem().is_some());
        assert!(cache.write("key", b"code").is_err());
        assert_eq!(cache.read("key"), None);
    }

    #[test]
    fn two_writers_leave_one_whole_entry() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(folder.path());
        let body = vec![7u8; 1 << 16];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..20).for_each(|_| cache.write("key", &body).expect("written")));
            }
        });
        assert_eq!(cache.read("key"), Some(body));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    /// Set in the processes that the next test starts.
    const FOLDER: &str = "ARCHC_TEST_CACHE";

    #[test]
    fn two_processes_fill_one_folder() {
        let body = |key: usize| vec![key as u8; 1 << 18];
        if let Some(folder) = std::env::var_os(FOLDER) {
            let cache = Cache::at(Path::new(&folder));
            for key in (0..200).map(|at| at % 10) {
                // what another one is about to replace is whole or not there
                let read = cache.read(&key.to_string());
                assert!(read.is_none_or(|found| found == body(key)));
                cache.write(&key.to_string(), &body(key)).expect("written");
            }
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let name = "exec::cuda::cache::tests::two_processes_fill_one_folder";
        let program = std::env::current_exe().expect("a test is a program");
        let start = || {
            let mut process = std::process::Command::new(&program);
            process.args(["--exact", name]).env(FOLDER, folder.path()).stdout(std::process::Stdio::null());
            process.spawn().expect("it starts")
        };
        let processes = [start(), start()];
        for mut process in processes {
            assert!(process.wait().expect("it ends").success());
        }
        let cache = Cache::at(folder.path());
        assert!((0..10).all(|key| cache.read(&key.to_string()) == Some(body(key))));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 10);
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_eq!(key(&["ab"]).len(), 64);
    }
}
