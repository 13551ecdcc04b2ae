//! Names of repositories and revisions, and the addresses of their files.

use url::Url;

use super::Failure;
use crate::diag::{Code, Problem};

/// A repository at a branch, tag or commit.
#[derive(Clone)]
pub struct Repo {
    pub name: String,
    pub revision: String,
}

impl Repo {
    pub fn parse(spec: &str) -> Result<Repo, Problem> {
        let (name, revision) = spec.split_once('@').unwrap_or((spec, "main"));
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() <= 2 && parts.iter().all(|part| is_plain(part)) && revision.split('/').all(is_plain) {
            return Ok(Repo { name: name.into(), revision: revision.into() });
        }
        Err(Problem::new(Code::WeightsFile, format!("`{spec}` is no name of a repository"))
            .hint("it looks like `hf(\"timm/resnet50.a1_in1k\")`, with `@revision` where another than main is wanted"))
    }

    /// The address of a file.
    pub fn address(&self, endpoint: &str, file: &str) -> Result<Url, Failure> {
        let wrong = || {
            Failure::Unreachable("HF_ENDPOINT is no address of a server: expected `https://` and a host".to_string())
        };
        let mut url = Url::parse(endpoint).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "https" | "http") || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong());
        }
        // a revision's slashes are part of its name
        let parts = self.name.split('/').chain(["resolve", &self.revision]).chain(file.split('/'));
        url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(parts);
        Ok(url)
    }
}

/// Fit for a file's name and for a part of an address.
pub fn is_plain(name: &str) -> bool {
    (1..=200).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && !name.contains("..")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
