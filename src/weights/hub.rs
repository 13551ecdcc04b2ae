//! Weights of the Hugging Face hub. Files are kept in the cache that the hub's own tools use (`HF_HUB_CACHE`, else
//! `HF_HOME/hub`, else `~/.cache/huggingface/hub`) and in its layout, so that what Python fetched is not fetched again. What
//! is cached is used without asking the network. `HF_ENDPOINT` names a mirror, `HF_TOKEN` opens private repositories,
//! `HF_HUB_OFFLINE=1` forbids the network. A server that falls silent ends the fetch, and only whole files are kept.
//!
//! The protocol is small and spelt out here: of the clients in Rust, the blocking one panics on odd answers and never
//! gives up waiting, the other one brings an asynchronous runtime.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::index;
use crate::diag::{Code, Problem};
use crate::io::atomic::{AtomicFile, reason, write_bytes};
use crate::io::console;
use crate::io::open;

/// The files that are looked for, best first.
const FILES: [&str; 3] = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"];

/// The path of the weights of `owner/repo` or `owner/repo@revision` in the cache, fetched where they are not there yet; of
/// sharded ones the index' path, with all shards beside it.
pub(super) fn fetch(repo: &str) -> Result<PathBuf, Problem> {
    Hub::from_env()?.fetch(repo)
}

/// The longest token or name of a commit, in bytes.
const MAX_NAME: u64 = 1 << 16;

struct Hub {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    offline: bool,
    /// How long a silent server is waited for.
    patience: Duration,
}

enum Failure {
    /// The repository has no such file.
    Missing,
    /// The server wants a token, or there is no such repository: it answers the same.
    Refused,
    Unreachable(String),
    Broken(Problem),
}

impl Hub {
    fn from_env() -> Result<Hub, Problem> {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
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
        let token = var("HF_TOKEN").or_else(|| open::read_text(&root?.join("token"), MAX_NAME).ok());
        Ok(Hub {
            endpoint: var("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            cache,
            token: token.map(|token| token.trim().to_string()).filter(|token| !token.is_empty()),
            offline: var("HF_HUB_OFFLINE").is_some_and(|value| value != "0"),
            patience: Duration::from_secs(30),
        })
    }

    fn fetch(&self, spec: &str) -> Result<PathBuf, Problem> {
        let repo = Repo::parse(spec)?;
        for file in FILES {
            if let Some(path) = self.cached(&repo, file)
                && self.shards_cached(&repo, &path)?
            {
                return Ok(path);
            }
        }
        if self.offline {
            return Err(self.unreachable(&repo, "HF_HUB_OFFLINE is set"));
        }
        for file in FILES {
            match self.download(&repo, file) {
                Ok(path) => {
                    if index::is_index(&path) {
                        for shard in index::read(&path)?.shards.keys() {
                            if self.cached(&repo, shard).is_none() {
                                self.download(&repo, shard).map_err(|failure| self.explain(&repo, shard, failure))?;
                            }
                        }
                    }
                    return Ok(path);
                }
                Err(Failure::Missing) => {}
                Err(failure) => return Err(self.explain(&repo, file, failure)),
            }
        }
        let list: Vec<String> = FILES.iter().map(|file| format!("`{file}`")).collect();
        Err(Problem::new(Code::WeightsFile, format!("`hf(\"{spec}\")` has none of {}", list.join(", ")))
            .hint("look at its files, fetch the right one and name it: `weights \"file.safetensors\"`"))
    }

    /// The file in the cache, if the branch's last known commit has it.
    fn cached(&self, repo: &Repo, file: &str) -> Option<PathBuf> {
        let folder = self.folder(repo);
        let commit = open::read_text(&folder.join("refs").join(&repo.revision), MAX_NAME);
        let commit = commit.ok().map(|text| text.trim().to_string()).unwrap_or_else(|| repo.revision.clone());
        if !is_plain(&commit) {
            return None;
        }
        let path = folder.join("snapshots").join(commit).join(file);
        path.is_file().then_some(path)
    }

    fn shards_cached(&self, repo: &Repo, path: &Path) -> Result<bool, Problem> {
        if !index::is_index(path) {
            return Ok(true);
        }
        Ok(index::read(path)?.shards.keys().all(|shard| self.cached(repo, shard).is_some()))
    }

    fn folder(&self, repo: &Repo) -> PathBuf {
        self.cache.join(format!("models--{}", repo.name.replace('/', "--")))
    }

    fn download(&self, repo: &Repo, file: &str) -> Result<PathBuf, Failure> {
        let url = format!("{}/{}/resolve/{}/{file}", self.endpoint.trim_end_matches('/'), repo.name, repo.revision);
        let answer = self.get(url)?;
        let folder = self.folder(repo);
        let snapshot = folder.join("snapshots").join(&answer.commit);
        let (blob, path) = (folder.join("blobs").join(&answer.etag), snapshot.join(file));
        let broken = |what: String| {
            Failure::Broken(
                Problem::new(Code::WeightsFile, format!("`{file}` of `hf(\"{}\")` {what}", repo.name))
                    .hint("run it again; or fetch the file by other means and name it: `weights \"file.safetensors\"`"),
            )
        };
        let stored = |problem: Problem| {
            Failure::Broken(
                Problem { code: Code::WeightsFile, ..problem }
                    .hint("name another cache: `HF_HOME=/some/folder archc ..`"),
            )
        };
        for folder in [blob.parent(), path.parent()].into_iter().flatten() {
            std::fs::create_dir_all(folder).map_err(|error| {
                let message = format!("the folder `{}` cannot be made: {}", folder.display(), reason(&error));
                stored(Problem::new(Code::WeightsFile, message))
            })?;
        }
        if !blob.is_file() {
            let mut out = AtomicFile::create(&blob).map_err(stored)?;
            let bar = progress(file, answer.length);
            let (mut body, mut piece, mut total) = (answer.body, vec![0; 1 << 17], 0u64);
            loop {
                let count = body.read(&mut piece).map_err(|error| broken(format!("broke off: {}", reason(&error))))?;
                let Some(bytes) = piece.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
                out.write_all(bytes).map_err(|error| stored(crate::io::atomic::problem(&blob, &error)))?;
                total += count as u64;
                bar.set_position(total);
            }
            bar.finish_and_clear();
            if answer.length.is_some_and(|length| length != total) {
                return Err(broken(format!("broke off after {total} bytes")));
            }
            out.commit().map_err(stored)?;
        }
        if !path.is_file() {
            link(&blob, &path, file).map_err(|error| stored(crate::io::atomic::problem(&path, &error)))?;
        }
        let reference = folder.join("refs").join(&repo.revision);
        if repo.revision != answer.commit {
            let made = reference.parent().map(std::fs::create_dir_all);
            if made.is_some_and(|made| made.is_ok()) {
                write_bytes(&reference, answer.commit.as_bytes()).map_err(stored)?;
            }
        }
        Ok(path)
    }

    /// Follows redirections by hand: the commit and the etag are on the first answer of the hub itself, and the token is
    /// for its host alone.
    fn get(&self, first: String) -> Result<Answer, Failure> {
        let agent = ureq::AgentBuilder::new()
            .redirects(0)
            .timeout_connect(self.patience)
            .timeout_read(self.patience)
            .timeout_write(self.patience)
            .user_agent(concat!("archc/", env!("CARGO_PKG_VERSION")))
            .try_proxy_from_env(true)
            .build();
        let home = origin(&first).to_string();
        let (mut url, mut commit, mut etag) = (first, None, None);
        for _ in 0..10 {
            let mut request = agent.get(&url);
            if let Some(token) = self.token.as_ref().filter(|_| origin(&url) == home) {
                request = request.set("Authorization", &format!("Bearer {token}"));
            }
            let response = match request.call() {
                Ok(response) => response,
                Err(ureq::Error::Status(404, response)) if response.header("x-error-code") != Some("RepoNotFound") => {
                    return Err(Failure::Missing);
                }
                Err(ureq::Error::Status(401 | 403 | 404, _)) => return Err(Failure::Refused),
                Err(ureq::Error::Status(status, _)) => {
                    return Err(Failure::Unreachable(format!("{} answers with status {status}", origin(&url))));
                }
                Err(ureq::Error::Transport(transport)) => return Err(Failure::Unreachable(silence(&transport))),
            };
            let header = |name: &str| response.header(name).map(|value| value.trim_matches('"').to_string());
            commit = commit.or_else(|| header("x-repo-commit"));
            etag = etag.or_else(|| header("x-linked-etag")).or_else(|| header("etag"));
            if (300..400).contains(&response.status()) {
                let Some(location) = response.header("location") else {
                    return Err(Failure::Unreachable(format!("{} redirects to nowhere", origin(&url))));
                };
                url = match location.starts_with('/') && !location.starts_with("//") {
                    true => format!("{}{location}", origin(&url)),
                    false => location.to_string(),
                };
                continue;
            }
            let length = response.header("content-length").and_then(|length| length.parse().ok());
            let etag = etag.map(|etag: String| etag.trim_start_matches("W/").trim_matches('"').to_string());
            // Both become names of files.
            let (Some(commit), Some(etag)) = (commit.filter(|c| is_plain(c)), etag.filter(|e| is_plain(e))) else {
                return Err(Failure::Unreachable(format!("{home} does not answer as the hub does")));
            };
            return Ok(Answer { commit, etag, length, body: response.into_reader() });
        }
        Err(Failure::Unreachable(format!("{home} redirects in a circle")))
    }

    fn explain(&self, repo: &Repo, file: &str, failure: Failure) -> Problem {
        match failure {
            Failure::Broken(problem) => problem,
            Failure::Unreachable(why) => self.unreachable(repo, &why),
            Failure::Missing => Problem::new(Code::WeightsFile, format!("`hf(\"{}\")` has no `{file}`", repo.name))
                .hint("the repository is incomplete; name another one"),
            Failure::Refused => {
                let message = format!("there is no repository `{}` on {}, or it is private", repo.name, self.endpoint);
                let problem = Problem::new(Code::WeightsFile, message);
                match self.token {
                    Some(_) => problem.hint("look for a slip in its name; the token that is set does not open it"),
                    None => problem.hint("look for a slip in its name; for a private one set HF_TOKEN"),
                }
            }
        }
    }

    fn unreachable(&self, repo: &Repo, why: &str) -> Problem {
        let message = format!("`hf(\"{}\")` is not in the cache and cannot be fetched: {why}", repo.name);
        Problem::new(Code::WeightsFile, message)
            .hint("fetch `model.safetensors` of it elsewhere and name the file: `weights \"model.safetensors\"`")
            .hint("or name a mirror that can be reached: `HF_ENDPOINT=https://.. archc ..`")
            .note(format!("the cache is `{}`", self.cache.display()))
    }
}

struct Answer {
    commit: String,
    etag: String,
    length: Option<u64>,
    body: Box<dyn Read + Send + Sync>,
}

struct Repo {
    name: String,
    revision: String,
}

impl Repo {
    fn parse(spec: &str) -> Result<Repo, Problem> {
        let (name, revision) = spec.split_once('@').unwrap_or((spec, "main"));
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() <= 2 && parts.iter().all(|part| is_plain(part)) && is_plain(revision) {
            return Ok(Repo { name: name.into(), revision: revision.into() });
        }
        Err(Problem::new(Code::WeightsFile, format!("`{spec}` is no name of a repository"))
            .hint("it looks like `hf(\"timm/resnet50.a1_in1k\")`, with `@revision` where another than main is wanted"))
    }
}

/// Fit for a file's name and for a part of an address.
fn is_plain(name: &str) -> bool {
    (1..=200).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && !name.contains("..")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// `https://host:port` of an address.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    url[start..].find(['/', '?', '#']).map_or(url, |end| &url[..start + end])
}

/// The transport's reason without the address, which may carry a signature.
fn silence(transport: &ureq::Transport) -> String {
    let host = transport.url().and_then(|url| url.host_str()).unwrap_or("the hub").to_string();
    let detail = std::error::Error::source(transport).map(ToString::to_string);
    let detail = detail.or_else(|| transport.message().map(str::to_string)).unwrap_or_default();
    let why = match transport.kind() {
        ureq::ErrorKind::Dns => "has no address (is there a network?)".to_string(),
        ureq::ErrorKind::ConnectionFailed => format!("cannot be connected to: {detail}"),
        ureq::ErrorKind::InvalidUrl | ureq::ErrorKind::UnknownScheme => "is no address".into(),
        kind if detail.is_empty() => format!("does not answer: {kind}"),
        _ => format!("does not answer: {detail}"),
    };
    format!("{host} {why}")
}

/// Makes `path` be the blob: by a relative link, as the hub's tools do, or where links are not had by moving it.
fn link(blob: &Path, path: &Path, file: &str) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let up = "../".repeat(2 + file.matches('/').count());
        if let Some(name) = blob.file_name()
            && std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(name), path).is_ok()
            && path.is_file()
        {
            return Ok(());
        }
    }
    let _ = std::fs::remove_file(path);
    std::fs::rename(blob, path)
}

fn progress(file: &str, length: Option<u64>) -> ProgressBar {
    let target = if console::is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(length, target).with_message(file.to_string());
    match ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests;
