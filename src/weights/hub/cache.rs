//! The cache's layout, which is that of the hub's own tools: `blobs/ETAG` are the files, `snapshots/COMMIT/FILE` links to
//! them, `refs/BRANCH` the commit that a branch was last seen at.

use std::io;
use std::path::{Path, PathBuf};

use super::proof::{self, Etag};
use super::repo::{Repo, is_plain};
use crate::diag::Problem;
use crate::io::atomic::{self, write_bytes};
use crate::io::open;
use crate::io::stamp::Stamp;

/// The longest name of a commit, and the longest note, in bytes.
const MAX_NAME: u64 = 200;

/// A repository's folder.
pub struct Folder(PathBuf);

/// What the cache has of a file.
pub enum Cached {
    Whole(PathBuf),
    /// With what is wrong.
    Damaged(String),
    Absent,
}

impl Folder {
    pub fn of(cache: &Path, repo: &Repo) -> Folder {
        Folder(cache.join(format!("models--{}", repo.name.replace('/', "--"))))
    }

    pub fn blob(&self, etag: &str) -> PathBuf {
        self.0.join("blobs").join(etag)
    }

    pub fn snapshot(&self, commit: &str, file: &str) -> PathBuf {
        self.0.join("snapshots").join(commit).join(file)
    }

    /// The commit that the revision is, or was last seen at.
    pub fn commit(&self, revision: &str) -> String {
        let commit = open::read_text(&self.0.join("refs").join(revision), MAX_NAME);
        commit.map_or_else(|_| revision.to_string(), |text| text.trim().to_string())
    }

    /// The note, which the hub's own tools make too, that a commit has no such file.
    pub fn missing(&self, commit: &str, file: &str) -> PathBuf {
        self.0.join(".no_exist").join(commit).join(file)
    }

    /// The file of the commit that the revision is, or was last seen at.
    pub fn cached(&self, revision: &str, file: &str) -> Cached {
        let commit = self.commit(revision);
        let path = self.snapshot(&commit, file);
        if !is_plain(&commit) || !path.is_file() {
            return Cached::Absent;
        }
        // a link's target is called as its contents are; where links are not had, the header alone tells
        let etag = path.read_link().ok().and_then(|to| Etag::parse(to.file_name()?.to_str()?));
        let whole = etag.map_or(Ok(()), |etag| self.prove(&etag, &path)).and_then(|()| proof::check(&path, file));
        match whole {
            Ok(()) => Cached::Whole(path),
            Err(why) => Cached::Damaged(format!("`{}` {why}", path.display())),
        }
    }

    /// Compares a file with its hash, and notes that it was so: a large one is read once and not at every start, as long as
    /// nobody touches it. The hub's own tools look only at the folders that they made.
    fn prove(&self, etag: &Etag, path: &Path) -> Result<(), String> {
        let note = self.0.join(".archc").join(etag.name());
        let stamp = path.metadata().ok().and_then(|found| Stamp::of(&found));
        let noted = open::read(&note, MAX_NAME).ok().and_then(|text| serde_json::from_slice::<Stamp>(&text).ok());
        if stamp.is_some() && noted == stamp {
            return Ok(());
        }
        etag.check(path)?;
        if let Some(stamp) = stamp.filter(Stamp::is_settled)
            && let Some(folder) = note.parent()
            && std::fs::create_dir_all(folder).is_ok()
        {
            // without the note it is read again
            let _ = clear(&note).and_then(|()| write_bytes(&note, &serde_json::to_vec(&stamp).unwrap_or_default()));
        }
        Ok(())
    }

    /// Notes which commit a branch is at.
    pub fn remember(&self, revision: &str, commit: &str) -> Result<(), Problem> {
        let path = self.0.join("refs").join(revision);
        if revision == commit || path.parent().is_none_or(|folder| std::fs::create_dir_all(folder).is_err()) {
            return Ok(());
        }
        clear(&path)?;
        write_bytes(&path, commit.as_bytes())
    }
}

/// Makes way for a file where something else lies, a pipe or a device: writing would go through it, and might never end.
pub fn clear(path: &Path) -> Result<(), Problem> {
    match path.metadata() {
        Ok(about) if !about.is_file() && !about.is_dir() => {
            std::fs::remove_file(path).map_err(|error| atomic::problem(path, &error))
        }
        _ => Ok(()),
    }
}

/// Makes `path` be the blob: by a relative link, as the hub's tools do, or where links are not had by moving it.
pub fn link(blob: &Path, path: &Path, file: &str) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(name) = blob.file_name() {
        use std::os::unix::fs::symlink;
        let to = Path::new(&"../".repeat(2 + file.matches('/').count())).join("blobs").join(name);
        let is_made = || path.read_link().is_ok_and(|old| old == to);
        if is_made() || symlink(&to, path).is_ok() {
            return Ok(());
        }
        if path.symlink_metadata().is_ok() {
            // of another blob, which was damaged, or a damaged file itself
            std::fs::remove_file(path)?;
            // another process may have been faster
            if symlink(&to, path).is_ok() || is_made() {
                return Ok(());
            }
        }
    }
    let _ = file;
    std::fs::rename(blob, path)
}
