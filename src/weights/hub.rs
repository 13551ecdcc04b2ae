//! Weights of the Hugging Face hub. Files are kept in the cache that the hub's own tools use (`HF_HUB_CACHE`, else
//! `HF_HOME/hub`, else `~/.cache/huggingface/hub`) and in its layout, so that what Python fetched is not fetched again. What
//! is cached is used without asking the network. `HF_ENDPOINT` names a mirror, `HF_TOKEN` opens private repositories,
//! `HF_HUB_OFFLINE=1` forbids the network.
//!
//! The cache is shared, so that only what is proved comes into it: the length and the hash that the hub promises, and a
//! header that can be read. What lies there and is damaged is fetched anew.
//!
//! The protocol is small and spelt out here: of the clients in Rust, the blocking one panics on odd answers and never
//! gives up waiting, the other one brings an asynchronous runtime.

mod ask;
mod cache;
mod config;
mod proof;
mod repo;
mod token;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::index;
use crate::diag::{Code, Problem};
use crate::io::atomic::{self, AtomicFile};
use ask::Answer;
use cache::{Cached, Folder};
pub use config::{Architecture, Pretrained, is_permissive, pretrained_cfg};
use proof::Sum;
use repo::Repo;
pub use token::Token;

/// The files that are looked for, best first.
const FILES: [&str; 3] = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"];

/// The most files that an index may spread a network over.
const MAX_SHARDS: usize = 1000;

/// A hub and the cache before it.
#[derive(Clone, Debug)]
pub struct Hub {
    /// An address that begins with `https://`, or `http://` for a server that one trusts.
    pub endpoint: String,
    /// The folder of repositories.
    pub cache: PathBuf,
    /// What opens private repositories, or why it cannot be sent.
    pub token: Result<Option<Token>, Problem>,
    /// Whether the network is forbidden.
    pub offline: bool,
    /// How long a silent server is waited for.
    pub patience: Duration,
}

/// Whoever wants to see how far a download is; `()` does not.
pub trait Downloads: fmt::Debug + Send + Sync {
    /// A file begins to come, of so many bytes where that is known. The result is told how many have come, and dropped when
    /// the file is there, or will not be.
    fn begin(&self, file: &str, bytes: Option<u64>) -> Box<dyn FnMut(u64)>;
}

impl Downloads for () {
    fn begin(&self, _file: &str, _bytes: Option<u64>) -> Box<dyn FnMut(u64)> {
        Box::new(|_| ())
    }
}

/// Why a file does not come.
enum Failure {
    /// The repository has no such file.
    Missing,
    /// The server wants a token, or there is no such repository: it answers the same.
    Refused,
    /// The repository has no such branch, tag or commit.
    NoRevision,
    /// Whoever fetches must first agree to the repository's conditions.
    Gated,
    Unreachable(String),
    Broken(Problem),
}

impl Hub {
    /// The hub that the environment names.
    ///
    /// # Errors
    /// Where there is no place for a cache.
    pub fn from_env() -> Result<Hub, Problem> {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = || std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
        let root = var("HF_HOME").map(PathBuf::from).or_else(|| {
            let base = var("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(home()?.join(".cache")));
            Some(base?.join("huggingface"))
        });
        let cache = var("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(root.as_ref()?.join("hub")));
        let Some(cache) = cache else {
            return Err(Problem::new(Code::WeightsFile, "there is no folder to keep the hub's files in")
                .hint("name one: `HF_HOME=/some/folder archc ..`"));
        };
        Ok(Hub {
            endpoint: var("HF_ENDPOINT")
                .map_or("https://huggingface.co".into(), |address| address.to_string_lossy().into_owned()),
            cache,
            token: token::of_user(root.as_deref()),
            offline: var("HF_HUB_OFFLINE").is_some_and(|value| value != "0"),
            patience: Duration::from_secs(30),
        })
    }

    /// The path of the weights of `owner/repo` or `owner/repo@revision` in the cache, fetched where they are not there yet;
    /// of sharded ones the index' path, with all shards beside it.
    ///
    /// # Errors
    /// Where they are not to be had, or not what the hub promises.
    pub fn fetch(&self, spec: &str, downloads: &dyn Downloads) -> Result<PathBuf, Problem> {
        let found = self.find(spec, downloads);
        match &self.token {
            // a server may send the token back, as the name of a host that it redirects to
            Ok(Some(token)) => found.map_err(|problem| token.hidden(problem)),
            _ => found,
        }
    }

    /// What `owner/repo` or `owner/repo@revision` says of its network, of the version whose weights [`Hub::fetch`] gave; None
    /// where it says nothing.
    ///
    /// # Errors
    /// Where that is not to be had.
    pub fn pretrained(&self, spec: &str, downloads: &dyn Downloads) -> Result<Option<Pretrained>, Problem> {
        let unknown = |why: String| {
            let message = format!("`{}` of `hf(\"{spec}\")` {why}", config::FILE);
            let problem = Problem::new(Code::WeightsFile, message)
                .note("pictures are prepared and classes called as the network has it")
                .hint("say it in the base's braces: `preprocess { .. }`, `labels \"file.txt\"`");
            match &self.token {
                Ok(Some(token)) => token.hidden(problem),
                _ => problem,
            }
        };
        let Some(path) = self.config(&Repo::parse(spec)?, downloads).map_err(unknown)? else { return Ok(None) };
        config::read(&path).map(Some).map_err(unknown)
    }

    /// Which of timm's networks `owner/repo` or `owner/repo@revision` holds.
    ///
    /// # Errors
    /// Where that is not to be had, or it is none of timm's.
    pub fn architecture(&self, spec: &str) -> Result<Architecture, Problem> {
        let unknown = |why: String| {
            let message = format!("`{}` of `hf(\"{spec}\")` {why}", config::FILE);
            let problem = Problem::new(Code::WeightsFile, message)
                .hint(format!("name the network: `base NAME {{ weights hf(\"{spec}\") }}`"));
            match &self.token {
                Ok(Some(token)) => token.hidden(problem),
                _ => problem,
            }
        };
        let found = match self.config(&Repo::parse(spec)?, &()).map_err(unknown)? {
            Some(path) => config::read_architecture(&path).map_err(unknown)?,
            None => return Err(unknown("is missing".into())),
        };
        found.ok_or_else(|| unknown("names no network of timm's".into()))
    }

    /// The path of the repository's configuration, None where it has none; or why it does not come.
    fn config(&self, repo: &Repo, downloads: &dyn Downloads) -> Result<Option<PathBuf>, String> {
        let folder = Folder::of(&self.cache, repo);
        let commit = folder.commit(&repo.revision);
        let missing = folder.missing(&commit, config::FILE);
        match folder.cached(&commit, config::FILE) {
            Cached::Whole(path) => return Ok(Some(path)),
            Cached::Absent if missing.is_file() => return Ok(None),
            Cached::Absent | Cached::Damaged(_) if self.offline => {
                return Err("is not in the cache, and HF_HUB_OFFLINE is set".into());
            }
            Cached::Absent | Cached::Damaged(_) => {}
        }
        let pinned = Repo { revision: commit, ..repo.clone() };
        match self.download(&pinned, &folder, config::FILE, downloads) {
            Ok((path, _)) => Ok(Some(path)),
            Err(Failure::Missing) => {
                // without the note it is asked for again
                if missing.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok()) {
                    let _ = cache::clear(&missing).and_then(|()| atomic::write_bytes(&missing, b""));
                }
                Ok(None)
            }
            Err(Failure::Unreachable(why)) => Err(format!("cannot be fetched: {why}")),
            Err(Failure::Refused | Failure::NoRevision | Failure::Gated) => {
                Err("cannot be fetched: it is refused".into())
            }
            Err(Failure::Broken(problem)) => Err(format!("cannot be fetched: {}", problem.message)),
        }
    }

    fn find(&self, spec: &str, downloads: &dyn Downloads) -> Result<PathBuf, Problem> {
        let repo = Repo::parse(spec)?;
        let folder = Folder::of(&self.cache, &repo);
        let mut damage = None;
        for file in FILES {
            match folder.cached(&repo.revision, file) {
                Cached::Whole(path) => match self.shards(&folder, &repo.revision, &path)? {
                    Cached::Whole(_) => return Ok(path),
                    Cached::Damaged(why) => damage = Some(why),
                    Cached::Absent => {}
                },
                Cached::Damaged(why) => damage = Some(why),
                Cached::Absent => continue,
            }
            break;
        }
        if self.offline {
            return Err(self.unreachable(&repo, "HF_HUB_OFFLINE is set", damage.as_deref()));
        }
        let explain = |file: &str, failure| self.explain(&repo, file, failure, damage.as_deref());
        for file in FILES {
            match self.download(&repo, &folder, file, downloads) {
                Ok((path, commit)) => {
                    // all of one version, whatever becomes of the branch meanwhile
                    let pinned = Repo { revision: commit, ..repo.clone() };
                    for shard in shard_names(&path)? {
                        if !matches!(folder.cached(&pinned.revision, &shard), Cached::Whole(_)) {
                            self.download(&pinned, &folder, &shard, downloads)
                                .map_err(|failure| explain(&shard, failure))?;
                        }
                    }
                    return Ok(path);
                }
                Err(Failure::Missing) => {}
                Err(failure) => return Err(explain(file, failure)),
            }
        }
        let list: Vec<String> = FILES.iter().map(|file| format!("`{file}`")).collect();
        Err(Problem::new(Code::WeightsFile, format!("`hf(\"{spec}\")` has none of {}", list.join(", ")))
            .hint("look at its files, fetch the right one and name it: `weights \"file.safetensors\"`"))
    }

    /// Whether what a cached file names is cached too.
    fn shards(&self, folder: &Folder, revision: &str, path: &Path) -> Result<Cached, Problem> {
        for shard in shard_names(path)? {
            match folder.cached(revision, &shard) {
                Cached::Whole(_) => {}
                other => return Ok(other),
            }
        }
        Ok(Cached::Whole(path.to_path_buf()))
    }

    /// Fetches a file into the cache; its path there, and the commit that it is of.
    fn download(
        &self,
        repo: &Repo,
        folder: &Folder,
        file: &str,
        downloads: &dyn Downloads,
    ) -> Result<(PathBuf, String), Failure> {
        let token = self.token.as_ref().map_err(|problem| Failure::Broken(problem.clone()))?;
        let wrong = |what: String| {
            Failure::Broken(
                Problem::new(Code::WeightsFile, format!("`{file}` of `hf(\"{}\")` {what}", repo.name))
                    .note("nothing of it was kept")
                    .hint("run it again; or fetch the file by other means and name it: `weights \"file.safetensors\"`"),
            )
        };
        let stored = |problem: Problem| {
            Failure::Broken(
                Problem { code: Code::WeightsFile, ..problem }
                    .hint("name another cache: `HF_HOME=/some/folder archc ..`"),
            )
        };
        let answer = ask::get(&repo.address(&self.endpoint, file)?, token.as_ref(), self.patience)?;
        let (blob, path) = (folder.blob(answer.etag.name()), folder.snapshot(&answer.commit, file));
        for folder in [blob.parent(), path.parent()].into_iter().flatten() {
            std::fs::create_dir_all(folder).map_err(|error| stored(atomic::problem(folder, &error)))?;
        }
        let is_there = answer.length.is_none_or(|length| blob.metadata().is_ok_and(|about| about.len() == length))
            && blob.is_file()
            && answer.etag.check(&blob).and_then(|()| proof::check(&blob, file)).is_ok();
        let commit = answer.commit.clone();
        if !is_there {
            cache::clear(&blob).map_err(stored)?;
            let mut out = AtomicFile::create(&blob).map_err(stored)?;
            receive(answer, file, &mut out, downloads).map_err(|failure| match failure {
                Incomplete::Network(why) => wrong(why),
                Incomplete::Disk(error) => stored(atomic::problem(&blob, &error)),
            })?;
            out.commit().map_err(stored)?;
        }
        cache::link(&blob, &path, file).map_err(|error| stored(atomic::problem(&path, &error)))?;
        folder.remember(&repo.revision, &commit).map_err(stored)?;
        Ok((path, commit))
    }

    fn explain(&self, repo: &Repo, file: &str, failure: Failure, damage: Option<&str>) -> Problem {
        let name = &repo.name;
        let problem = |message: String| Problem::new(Code::WeightsFile, message);
        match failure {
            Failure::Broken(problem) => problem,
            Failure::Unreachable(why) => self.unreachable(repo, &why, damage),
            Failure::Missing => problem(format!("`hf(\"{name}\")` has no `{file}`"))
                .hint("the repository is incomplete; name another one"),
            Failure::NoRevision => problem(format!("`hf(\"{name}\")` has no revision `{}`", repo.revision))
                .hint(format!("look for a slip behind the `@`; `hf(\"{name}\")` alone is its branch main")),
            Failure::Gated => problem(format!("`hf(\"{name}\")` is given to those alone who agree to its conditions"))
                .hint("agree to them on its page, and set HF_TOKEN to a token of the same account"),
            Failure::Refused => {
                let home = ask::origin(&self.endpoint);
                let problem = problem(format!("there is no repository `{name}` on {home}, or it is private"));
                match &self.token {
                    Ok(Some(_)) if !ask::is_confidential(&self.endpoint) => problem
                        .note("the token that is set was not sent: http hides nothing")
                        .hint("name the address with https: `HF_ENDPOINT=https://.. archc ..`"),
                    Ok(Some(_)) => problem.hint("look for a slip in its name; the token that is set does not open it"),
                    _ => problem.hint("look for a slip in its name; for a private one set HF_TOKEN"),
                }
            }
        }
    }

    /// `damage`: what is wrong with the file in the cache, where there is one.
    fn unreachable(&self, repo: &Repo, why: &str, damage: Option<&str>) -> Problem {
        let (is, again) = if damage.is_some() { ("damaged", " anew") } else { ("not", "") };
        let message = format!("`hf(\"{}\")` is {is} in the cache and cannot be fetched{again}: {why}", repo.name);
        let mut problem = Problem::new(Code::WeightsFile, message)
            .hint("fetch `model.safetensors` of it elsewhere and name the file: `weights \"model.safetensors\"`")
            .hint("or name a mirror that can be reached: `HF_ENDPOINT=https://.. archc ..`");
        problem.notes.extend(damage.map(str::to_string));
        problem.note(format!("the cache is `{}`", self.cache.display()))
    }
}

/// Why a file does not arrive whole.
enum Incomplete {
    Network(String),
    Disk(std::io::Error),
}

/// Writes an answer's body and proves what was written.
fn receive(answer: Answer, file: &str, out: &mut AtomicFile, downloads: &dyn Downloads) -> Result<(), Incomplete> {
    let Answer { etag, length, limit, mut body, .. } = answer;
    let mut come = downloads.begin(file, length);
    let (mut total, mut sum) = (0, Sum::new(&etag));
    while let Some(piece) = body.next().map_err(|why| Incomplete::Network(format!("broke off: {why}")))? {
        total += piece.len() as u64;
        if total > limit {
            return Err(Incomplete::Network(format!("goes on after {limit} bytes")));
        }
        sum.update(&piece);
        out.write_all(&piece).map_err(Incomplete::Disk)?;
        come(total);
    }
    drop(come);
    if let Some(length) = length.filter(|length| *length != total) {
        return Err(Incomplete::Network(format!("broke off: expected {length} bytes, got {total}")));
    }
    let path = out.written().map_err(Incomplete::Disk)?;
    sum.check(path).and_then(|()| proof::check(path, file)).map_err(Incomplete::Network)
}

/// The files that an index names; none of another file.
fn shard_names(path: &Path) -> Result<Vec<String>, Problem> {
    if !index::is_index(path) {
        return Ok(vec![]);
    }
    let shards = index::read(path)?.shards;
    if shards.len() > MAX_SHARDS {
        let message = format!("`{}` names {} files, at most {MAX_SHARDS} are fetched", path.display(), shards.len());
        return Err(Problem::new(Code::WeightsFile, message)
            .hint("fetch them by other means and name the index: `weights \"model.safetensors.index.json\"`"));
    }
    Ok(shards.into_keys().collect())
}
