//! A run's folder: what lies where in it, and the lock that keeps a second process out. The lock is the system's: it ends
//! with the process, however that ends.

use std::fs::{self, File, TryLockError};
use std::path::{Component, Path, PathBuf};

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
                let message = format!("the folder `{}` is there already", path.display());
                let problem = Problem::new(Code::Output, message).hint("name another one with `--out`");
                return Err(match (path.join(CHECKPOINT).exists(), is_begun(path)?) {
                    (true, _) => problem.hint("go on with the run in it: `--resume`"),
                    (false, true) => problem.hint("begin the run in it again: `--resume`"),
                    (false, false) => problem,
                });
            }
        } else if path.exists() {
            return Err(Problem::new(Code::Output, format!("`{}` is a file, not a folder", path.display()))
                .hint("name another place with `--out`"));
        }
        fs::create_dir_all(path).map_err(|error| problem(path, &error))?;
        RunFolder::lock(path)
    }

    /// Takes the folder of a run that was begun: one with a checkpoint, wherever it was copied from, or one that was locked
    /// and holds nothing but what runs leave.
    ///
    /// # Errors
    /// If there is none, or another process works in it.
    pub fn resume(path: &Path) -> Result<RunFolder, Problem> {
        if !path.is_dir() {
            return Err(Problem::new(Code::Input, format!("there is no run in `{}` to go on with", path.display()))
                .hint("leave `--resume` out to begin one"));
        }
        if !path.join(CHECKPOINT).exists() && holds_something(path)? && !is_begun(path)? {
            return Err(Problem::new(Code::Input, format!("`{}` is not the folder of a run", path.display()))
                .hint("leave `--resume` out, and name a new folder with `--out`"));
        }
        let folder = RunFolder::lock(path)?;
        // what a process that was killed was writing; nobody else writes here
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if is_temporary(&entry.file_name().to_string_lossy()) {
                // what cannot be removed is in nobody's way
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(folder)
    }

    /// Refuses a run's folder that lies in the data, or around it: what the run leaves would be samples of the next one.
    ///
    /// # Errors
    /// If one lies in the other. Links are followed, and neither need be there.
    pub fn check_apart(path: &Path, data: &Path) -> Result<(), Problem> {
        let (own, other) = (real(path), real(data));
        let data = data.strip_prefix(".").ok().filter(|below| !below.as_os_str().is_empty()).unwrap_or(data);
        let message = match (own.starts_with(&other), other.starts_with(&own)) {
            (true, true) => format!("`{}` is the data folder", path.display()),
            (true, false) => format!("`{}` lies in the data folder `{}`", path.display(), data.display()),
            (false, true) => format!("the data folder `{}` lies in `{}`", data.display(), path.display()),
            (false, false) => return Ok(()),
        };
        Err(Problem::new(Code::Output, message)
            .note("what a run leaves there would be taken for data by the next one")
            .hint("name a folder outside of the data with `--out`"))
    }

    fn lock(path: &Path) -> Result<RunFolder, Problem> {
        check_kinds(path)?;
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
        self.path.join(BEST)
    }

    pub fn metrics(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    /// The trained weights.
    pub fn model(&self) -> PathBuf {
        self.path.join(MODEL)
    }

    /// The trained weights while they are being written and looked at.
    pub fn fresh_model(&self) -> PathBuf {
        self.path.join(".archc-model.tmp")
    }

    pub fn spec(&self) -> PathBuf {
        self.path.join(SPEC)
    }

    /// The samples that the run was begun with.
    pub fn samples(&self) -> PathBuf {
        self.path.join(SAMPLES)
    }

    pub fn report(&self) -> PathBuf {
        self.path.join(REPORT)
    }

    /// The model card.
    pub fn card(&self) -> PathBuf {
        self.path.join(CARD)
    }

    /// What the frozen prefix made, where that is kept on the disk.
    pub fn prefix(&self) -> PathBuf {
        self.path.join(PREFIX)
    }
}

const CHECKPOINT: &str = "checkpoint";
const BEST: &str = "checkpoint.best";
const LOCK: &str = ".lock";
const METRICS: &str = "metrics.jsonl";
const MODEL: &str = "model.safetensors";
const PREFIX: &str = "prefix";
const REPORT: &str = "report.html";
const SAMPLES: &str = "samples.jsonl";
const SPEC: &str = "spec.arch";
const CARD: &str = "README.md";
const ALL: [&str; 10] = [CHECKPOINT, BEST, LOCK, METRICS, MODEL, PREFIX, REPORT, SAMPLES, SPEC, CARD];

fn holds_something(path: &Path) -> Result<bool, Problem> {
    // a run that never began leaves its lock behind
    Ok(names(path)?.iter().any(|name| name != LOCK))
}

/// Whether a run was begun in a folder that holds no checkpoint. Files of others would be in danger there.
fn is_begun(path: &Path) -> Result<bool, Problem> {
    let is_own = |name: &String| ALL.contains(&name.as_str()) || is_temporary(name) || name.starts_with(METRICS);
    let names = names(path)?;
    Ok(names.iter().any(|name| name == LOCK) && names.iter().all(is_own))
}

/// Refuses what is not of the kind that a run writes: a pipe would be waited for.
fn check_kinds(path: &Path) -> Result<(), Problem> {
    for name in ALL {
        let path = path.join(name);
        let Ok(found) = fs::metadata(&path) else { continue };
        let (is_right, kind) = match name {
            PREFIX => (found.is_dir(), "folder"),
            _ => (found.is_file(), "plain file"),
        };
        if !is_right {
            let message = format!("`{}` is no {kind}, which the run needs there", path.display());
            return Err(Problem::new(Code::Output, message).hint("move it away, or name another folder with `--out`"));
        }
    }
    Ok(())
}

fn is_temporary(name: &str) -> bool {
    name.starts_with(".archc-") && name.ends_with(".tmp")
}

fn names(path: &Path) -> Result<Vec<String>, Problem> {
    let entries = fs::read_dir(path).map_err(|error| {
        Problem::new(Code::Output, format!("the folder `{}` cannot be read: {}", path.display(), reason(&error)))
    })?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// A path without links and `..`, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut real = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                real.pop();
            }
            part => real.push(part),
        }
        real = real.canonicalize().unwrap_or(real);
    }
    real
}
