//! A run's folder: what lies where in it, and the lock that keeps a second process out. The lock is the system's: it ends
//! with the process, however that ends.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::diag::{Code, Problem};
use crate::io::atomic::{problem, reason};

/// The folder of a run, locked.
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Makes a new folder, or takes one that holds nothing.
    ///
    /// # Errors
    /// If there is something in it, another process works in it, or it cannot be written.
    pub fn create(path: &Path) -> Result<RunFolder, Problem> {
        if path.is_dir() {
            if holds_something(path)? {
                let again = if path.join(CHECKPOINT).exists() {
                    "go on with the run in it: `--resume`"
                } else {
                    "begin the run in it again: `--resume`"
                };
                let message = format!("the folder `{}` is there already", path.display());
                return Err(Problem::new(Code::Output, message).hint("name another one with `--out`").hint(again));
            }
        } else if path.exists() {
            return Err(Problem::new(Code::Output, format!("`{}` is a file, not a folder", path.display()))
                .hint("name another place with `--out`"));
        }
        fs::create_dir_all(path).map_err(|error| problem(path, &error))?;
        RunFolder::lock(path)
    }

    /// Takes the folder of a run that was begun.
    ///
    /// # Errors
    /// If there is none, or another process works in it.
    pub fn resume(path: &Path) -> Result<RunFolder, Problem> {
        if !path.is_dir() {
            return Err(Problem::new(Code::Input, format!("there is no run in `{}` to go on with", path.display()))
                .hint("leave `--resume` out to begin one"));
        }
        if !path.join(LOCK).exists() && holds_something(path)? {
            return Err(Problem::new(Code::Input, format!("`{}` is not the folder of a run", path.display()))
                .hint("leave `--resume` out, and name a new folder with `--out`"));
        }
        let folder = RunFolder::lock(path)?;
        // what a process that was killed was writing; nobody else writes here
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(".archc-") && name.ends_with(".tmp") {
                // what cannot be removed is in nobody's way
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(folder)
    }

    fn lock(path: &Path) -> Result<RunFolder, Problem> {
        let file = path.join(LOCK);
        let lock = File::options().write(true).create(true).truncate(false).open(&file);
        let lock = lock.map_err(|error| problem(&file, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(RunFolder { path: path.to_path_buf(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let message = format!("another process is at work in `{}`", path.display());
                Err(Problem::new(Code::Output, message).hint("wait until it ends, or name another folder with `--out`"))
            }
            Err(TryLockError::Error(error)) => {
                let message = format!("`{}` cannot be locked: {}", file.display(), reason(&error));
                Err(Problem::new(Code::Output, message).hint("name a folder on another disk with `--out`"))
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINT)
    }

    /// The checkpoint of the best epoch.
    pub fn best(&self) -> PathBuf {
        self.path.join("checkpoint.best")
    }

    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The trained weights.
    pub fn model(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }

    pub fn spec(&self) -> PathBuf {
        self.path.join("spec.arch")
    }

    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// What the frozen prefix made, where that is kept on the disk.
    pub fn prefix(&self) -> PathBuf {
        self.path.join("prefix")
    }
}

const CHECKPOINT: &str = "checkpoint";
const LOCK: &str = ".lock";

fn holds_something(path: &Path) -> Result<bool, Problem> {
    let mut entries = fs::read_dir(path).map_err(|error| {
        Problem::new(Code::Output, format!("the folder `{}` cannot be read: {}", path.display(), reason(&error)))
    })?;
    // a run that never began leaves its lock behind
    Ok(entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != LOCK)))
}
