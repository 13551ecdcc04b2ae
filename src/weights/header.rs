//! The header of a safetensors file: eight bytes of length, then JSON from keys to dtype, shape and byte range. Everything
//! the file claims is checked here against what it holds, so that nothing later allocates or indexes by a number that a
//! broken file made up. The rules are the format's own: ranges without overlaps and gaps, no key twice, at most 100 MB of
//! header.

use std::fmt;
use std::io;
use std::ops::Range;

use indexmap::IndexMap;
use indexmap::map::Entry;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::dtype::DType;
use crate::io::atomic::reason;
use crate::io::open::Opened;

/// The largest JSON that the format allows.
const MAX_JSON: u64 = 100_000_000;

/// What a safetensors file says of its tensors, in the order of its header.
#[derive(Debug)]
pub(super) struct Header {
    pub tensors: IndexMap<String, Stored>,
    pub metadata: IndexMap<String, String>,
}

/// A tensor in the file: its bytes lie at `range`, counted from the file's start.
#[derive(Debug)]
pub(super) struct Stored {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub range: Range<u64>,
}

/// Reads the header of a file, or says what is wrong with it.
pub(super) fn read(file: &Opened) -> Result<Header, String> {
    parse(file.len(), |into, offset| file.exact_at(into, offset))
}

/// `len`: of the whole file; `fill` reads from it.
fn parse(len: u64, fill: impl Fn(&mut [u8], u64) -> io::Result<()>) -> Result<Header, String> {
    if len < 8 {
        return Err(format!("it has {len} bytes, too few for a safetensors header"));
    }
    let failed = |error: io::Error| format!("its header cannot be read: {}", reason(&error));
    let mut length = [0; 8];
    fill(&mut length, 0).map_err(failed)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_JSON {
        return Err(format!("it claims a header of {length} bytes, more than the {MAX_JSON} of the format"));
    }
    if length > len - 8 {
        return Err(format!("it claims a header of {length} bytes, but only {} follow: it is cut off", len - 8));
    }
    let mut json = vec![0; length as usize];
    fill(&mut json, 8).map_err(failed)?;
    let text = std::str::from_utf8(&json).map_err(|_| "its header is not UTF-8".to_string())?;
    let raw: Raw =
        serde_json::from_str(text).map_err(|error| format!("its header is not what it should be: {error}"))?;

    let (start, end) = (8 + length, len);
    let mut tensors = IndexMap::with_capacity(raw.tensors.len());
    for (key, entry) in raw.tensors {
        let stored = check(entry, start, end).map_err(|reason| format!("`{key}` {reason}"))?;
        tensors.insert(key, stored);
    }
    check_order(&tensors, start, end)?;
    Ok(Header { tensors, metadata: raw.metadata })
}

fn check(entry: RawTensor, start: u64, end: u64) -> Result<Stored, String> {
    let [from, to] = entry.data_offsets;
    let held = end - start;
    if from > to {
        return Err(format!("should lie at bytes {from} to {to}, which is backwards"));
    }
    if to > held {
        return Err(format!("should lie at bytes {from} to {to}, but the file ends at {held}: it is cut off"));
    }
    let range = start + from..start + to;
    let dtype = DType::named(&entry.dtype);
    let mut shape = Vec::with_capacity(entry.shape.len());
    for &size in &entry.shape {
        shape.push(usize::try_from(size).map_err(|_| format!("has an axis of {size} values"))?);
    }
    // Without its zeros too, so that no later product of some axes overflows.
    let values = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size.max(1)));
    let Some(values) = values else {
        return Err(format!("has the shape {shape:?}, more values than can be counted"));
    };
    let values = if shape.contains(&0) { 0 } else { values };
    if let Some(size) = dtype.size()
        && values.checked_mul(size).map(|bytes| bytes as u64) != Some(to - from)
    {
        let bytes = to - from;
        return Err(format!("is {} of shape {shape:?}, which does not fill its {bytes} bytes", dtype.name()));
    }
    Ok(Stored { dtype, shape, range })
}

/// The tensors must tile the data: no overlap, no gap, nothing left over.
fn check_order(tensors: &IndexMap<String, Stored>, start: u64, end: u64) -> Result<(), String> {
    let mut order: Vec<(&String, &Range<u64>)> = tensors.iter().map(|(key, stored)| (key, &stored.range)).collect();
    order.sort_by_key(|(_, range)| (range.start, range.end));
    let mut at = start;
    let mut before: Option<&String> = None;
    for (key, range) in order {
        if range.start < at {
            return Err(match before {
                Some(before) => format!("`{key}` and `{before}` lie on the same bytes"),
                None => format!("`{key}` lies in the header"),
            });
        }
        if range.start > at {
            return Err(format!("{} bytes before `{key}` belong to no tensor", range.start - at));
        }
        at = range.end;
        before = Some(key);
    }
    if at < end {
        return Err(format!("{} bytes at its end belong to no tensor", end - at));
    }
    Ok(())
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

struct Raw {
    tensors: IndexMap<String, RawTensor>,
    metadata: IndexMap<String, String>,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_map(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object from keys to tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let (mut tensors, mut metadata) = (IndexMap::new(), None);
        while let Some(key) = map.next_key::<String>()? {
            if key == "__metadata__" {
                if metadata.is_some() {
                    return Err(de::Error::custom("`__metadata__` comes twice"));
                }
                metadata = Some(map.next_value::<Option<IndexMap<String, String>>>()?.unwrap_or_default());
                continue;
            }
            match tensors.entry(key) {
                Entry::Occupied(entry) => {
                    return Err(de::Error::custom(format!("the key `{}` comes twice", entry.key())));
                }
                Entry::Vacant(entry) => {
                    let tensor = map
                        .next_value()
                        .map_err(|error: A::Error| de::Error::custom(format!("`{}`: {error}", entry.key())))?;
                    entry.insert(tensor);
                }
            }
        }
        Ok(Raw { tensors, metadata: metadata.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Header, String> {
        super::parse(bytes.len() as u64, |into, offset| {
            let piece = bytes.get(offset as usize..offset as usize + into.len());
            piece.map(|piece| into.copy_from_slice(piece)).ok_or(io::ErrorKind::UnexpectedEof.into())
        })
    }

    fn file(json: &str, data: usize) -> Vec<u8> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    }

    fn f32_at(shape: &str, from: u64, to: u64) -> String {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    }

    #[test]
    fn a_good_header_keeps_the_files_order() {
        let json = format!(
            r#"{{"b":{},"__metadata__":{{"x":"y"}},"a":{},"none":{},"scalar":{}}}   "#,
            f32_at("[2,1]", 4, 12),
            f32_at("[1]", 0, 4),
            f32_at("[0,3]", 12, 12),
            f32_at("[]", 12, 16)
        );
        let header = parse(&file(&json, 16)).unwrap();
        assert_eq!(header.tensors.keys().collect::<Vec<_>>(), ["b", "a", "none", "scalar"]);
        assert_eq!(header.tensors["b"].range, 8 + json.len() as u64 + 4..8 + json.len() as u64 + 12);
        assert!(header.tensors["none"].range.is_empty());
        assert_eq!(header.metadata["x"], "y");
        assert!(parse(&file("{}", 0)).unwrap().tensors.is_empty());
    }

    #[test]
    fn broken_headers_are_said() {
        let one = |tensor: &str| format!(r#"{{"a":{tensor}}}"#);
        let two = |a: &str, b: &str| format!(r#"{{"a":{a},"b":{b}}}"#);
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (vec![], "it has 0 bytes"),
            (vec![1; 7], "it has 7 bytes"),
            ((1u64 << 63).to_le_bytes().to_vec(), "it claims a header of 9223372036854775808 bytes"),
            (u64::MAX.to_le_bytes().to_vec(), "it claims a header of 18446744073709551615 bytes"),
            ([&90u64.to_le_bytes()[..], b"{}"].concat(), "but only 2 follow: it is cut off"),
            (file("{\"a\"", 0), "its header is not what it should be: `a`: EOF"),
            (file("[]", 0), "expected an object from keys to tensors"),
            ([&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat(), "not UTF-8"),
            (file(&"[".repeat(1000), 0), "its header is not what it should be"),
            (file(&one("3"), 0), "`a`: invalid type: integer `3`"),
            (file(&one(r#"{"dtype":"F32"}"#), 0), "`a`: missing field"),
            (file(&one(r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#), 4), "`a`: invalid value: integer `-1`"),
            (file(&one(&f32_at("[1]", 0, 8)), 4), "`a` should lie at bytes 0 to 8, but the file ends at 4"),
            (file(&one(&f32_at("[1]", 0, u64::MAX)), 4), "but the file ends at 4"),
            (file(&one(&f32_at("[1]", 4, 0)), 4), "backwards"),
            (file(&one(&f32_at("[2]", 0, 4)), 4), "`a` is F32 of shape [2], which does not fill its 4 bytes"),
            (file(&one(&f32_at("[4294967296,4294967296]", 0, 4)), 4), "more values than can be counted"),
            (file(&one(&f32_at("[0,4294967296,4294967296]", 0, 0)), 0), "more values than can be counted"),
            (file(&one(&f32_at("[18446744073709551615]", 0, 4)), 4), "does not fill its 4 bytes"),
            (file(&one(&f32_at("[1]", 4, 8)), 8), "4 bytes before `a` belong to no tensor"),
            (file(&one(&f32_at("[1]", 0, 4)), 8), "4 bytes at its end belong to no tensor"),
            (file(&two(&f32_at("[1]", 0, 4), &f32_at("[1]", 0, 4)), 8), "`b` and `a` lie on the same bytes"),
            (file(&two(&f32_at("[2]", 0, 8), &f32_at("[1]", 4, 8)), 8), "`b` and `a` lie on the same bytes"),
            (
                file(&two(&f32_at("[1]", 0, 4), &f32_at("[1]", 4, 8)).replace("\"b\"", "\"a\""), 8),
                "the key `a` comes twice",
            ),
            (file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), "`__metadata__` comes twice"),
            (file(r#"{"__metadata__":{"a":1}}"#, 0), "expected a string"),
        ];
        for (bytes, message) in cases {
            let error = parse(&bytes).unwrap_err();
            assert!(error.contains(message), "{error}\nshould say {message}");
        }
    }

    #[test]
    fn no_prefix_of_a_file_is_taken_for_a_file() {
        let json = format!(r#"{{"a":{},"b":{}}}"#, f32_at("[1]", 0, 4), f32_at("[2,1]", 4, 12));
        let bytes = file(&json, 12);
        assert!(parse(&bytes).is_ok());
        for end in 0..bytes.len() {
            assert!(parse(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn changed_bytes_never_break_a_promise() {
        let json = format!(r#"{{"a":{},"b":{}}}"#, f32_at("[1]", 0, 4), f32_at("[2,1]", 4, 12));
        let good = file(&json, 12);
        for at in 0..8 + json.len() {
            for byte in 0..=255 {
                let mut bad = good.clone();
                bad[at] = byte;
                let Ok(header) = parse(&bad) else { continue };
                for stored in header.tensors.values() {
                    let range = stored.range.start as usize..stored.range.end as usize;
                    assert!(bad.get(range).is_some(), "{at} {byte}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_format_is_no_error_before_it_is_read() {
        let header = parse(&file(r#"{"a":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]}}"#, 3)).unwrap();
        assert_eq!(header.tensors["a"].dtype, DType::Other("F8_E4M3".into()));
    }
}
