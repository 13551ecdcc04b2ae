//! `model.safetensors.index.json`: which of several files holds which tensor.

use std::path::{Component, Path};

use indexmap::{IndexMap, IndexSet};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::file::cannot_read;
use crate::diag::{Code, Problem};
use crate::io::open;

/// More JSON than any network has keys for.
const MAX_JSON: u64 = 100_000_000;

#[derive(Debug)]
pub(super) struct Index {
    /// The keys of every shard, in the order of the index.
    pub shards: IndexMap<String, IndexSet<String>>,
    pub metadata: IndexMap<String, String>,
}

pub(super) fn is_index(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "json")
}

pub(super) fn read(path: &Path) -> Result<Index, Problem> {
    let wrong = |reason: String| {
        Problem::new(Code::WeightsFile, format!("`{}` is not a good index of weights: {reason}", path.display()))
            .hint("fetch the index again; its `weight_map` says in which file each key lies")
    };
    let text = open::read_text(path, MAX_JSON).map_err(|error| cannot_read(path, error))?;
    let raw: RawIndex = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let mut shards: IndexMap<String, IndexSet<String>> = IndexMap::new();
    for (key, shard) in raw.weight_map.0 {
        // A fetched index must not reach for files of its choice.
        if shard.is_empty() || !Path::new(&shard).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(wrong(format!("`{key}` should lie in `{shard}`, outside the index' own folder")));
        }
        shards.entry(shard).or_default().insert(key);
    }
    if shards.is_empty() {
        return Err(wrong("it names no tensors".into()));
    }
    let metadata = raw.metadata.into_iter().map(|(key, value)| match value {
        serde_json::Value::String(text) => (key, text),
        other => (key, other.to_string()),
    });
    Ok(Index { shards, metadata: metadata.collect() })
}

/// The index and the shard must agree about the shard's keys.
pub(super) fn check_shard(
    index: &Path,
    shard: &Path,
    wanted: &IndexSet<String>,
    found: Vec<&str>,
) -> Result<(), Problem> {
    let found: IndexSet<&str> = found.into_iter().collect();
    let missing = wanted.iter().map(String::as_str).filter(|key| !found.contains(key));
    let extra = found.iter().copied().filter(|key| !wanted.contains(*key));
    let (missing, extra): (Vec<&str>, Vec<&str>) = (missing.collect(), extra.collect());
    let (keys, what) = match (missing.is_empty(), extra.is_empty()) {
        (true, true) => return Ok(()),
        (false, _) => (missing, "lacks"),
        (true, false) => (extra, "has, unknown to the index,"),
    };
    let mut list: Vec<String> = keys.iter().take(5).map(|key| format!("`{key}`")).collect();
    if keys.len() > list.len() {
        list.push(format!("{} more", keys.len() - list.len()));
    }
    let message = format!("`{}` {what} {}", shard.display(), list.join(", "));
    Err(Problem::new(Code::WeightsFile, message)
        .note(format!("`{}` says what lies where", index.display()))
        .hint("fetch the index and its files again, all of one version"))
}

#[derive(Deserialize)]
struct RawIndex {
    #[serde(default)]
    metadata: serde_json::Map<String, serde_json::Value>,
    weight_map: WeightMap,
}

/// From keys to files, no key twice.
struct WeightMap(IndexMap<String, String>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WeightMap, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = WeightMap;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object from keys to files")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut files = IndexMap::new();
                while let Some((key, file)) = map.next_entry::<String, String>()? {
                    if files.contains_key(&key) {
                        return Err(de::Error::custom(format!("the key `{key}` comes twice")));
                    }
                    files.insert(key, file);
                }
                Ok(WeightMap(files))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}
