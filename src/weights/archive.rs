//! A look through the zip archive that a checkpoint is. Tensors are checked when they are read; what is damaged beside them
//! keeps PyTorch from opening the file, so it is said.

use std::fs::File;
use std::io::{self, BufReader, Read};

use zip::ZipArchive;

use super::pickle::Names;
use crate::io::open::Opened;

/// The largest pickle that is looked at, as large as the interpreter takes.
const MAX_PICKLE: u64 = pytorch_reader::MAX_PICKLE_SIZE;
/// Larger entries are storages.
const MAX_SMALL: u64 = 1 << 16;
/// Signature to extra field, before the name.
const LOCAL: usize = 30;

type Archive = ZipArchive<BufReader<File>>;

/// Walks through the pickle, and says what else of the archive is damaged.
///
/// # Errors
/// What is wrong with archive or pickle.
pub(super) fn look(file: &Opened, names: &mut Names) -> Result<Option<String>, String> {
    let handle = file.file().try_clone().map_err(|error| error.to_string())?;
    let mut archive =
        ZipArchive::new(BufReader::new(handle)).map_err(|error| format!("its archive is damaged: {error}"))?;
    let root = (0..archive.len())
        .filter_map(|index| Some(archive.name_for_index(index)?.ok()?.strip_suffix("data.pkl")?.to_string()))
        .filter(|root| root.is_empty() || root.ends_with('/'))
        .min_by_key(String::len)
        .ok_or("its archive has no `data.pkl`")?;
    let pickle =
        archive.by_name(&format!("{root}data.pkl")).map_err(|error| format!("its archive is damaged: {error}"))?;
    let mut pickle = BufReader::new(pickle.take(MAX_PICKLE));
    names.walk(&mut pickle)?;
    // the checksum is compared at the end
    let rest = io::copy(&mut pickle, &mut io::sink()).map_err(|error| format!("its pickle cannot be read: {error}"))?;
    drop(pickle);
    if rest > 0 {
        return Ok(Some(format!("{rest} bytes follow its pickle")));
    }
    Ok(damage(file, &mut archive, &root))
}

/// The first thing that PyTorch stumbles over.
fn damage(file: &Opened, archive: &mut Archive, root: &str) -> Option<String> {
    if archive.offset() > 0 {
        return Some(format!("{} bytes stand before its archive", archive.offset()));
    }
    for index in 0..archive.len() {
        let shown = archive.name_for_index(index).and_then(Result::ok).unwrap_or_default().into_owned();
        let differs = Some(format!("the header of `{shown}` is not what the archive's list says"));
        let Ok(entry) = archive.by_index_raw(index) else { return differs };
        let (start, crc, name) = (entry.header_start(), entry.crc32(), entry.name_raw().to_vec());
        let (size, stored) = (entry.size(), entry.compressed_size());
        drop(entry);
        let mut local = vec![0; LOCAL + name.len()];
        if file.exact_at(&mut local, start).is_err() || !agrees(&local, &name, [u64::from(crc), stored, size]) {
            return differs;
        }
        let is_storage = shown.strip_prefix(root).is_some_and(|name| name.starts_with("data/"));
        if size <= MAX_SMALL && !is_storage && crc != 0 {
            let read = archive.by_index(index).map(|mut entry| io::copy(&mut entry, &mut io::sink()));
            if !matches!(read, Ok(Ok(_))) {
                return Some(format!("`{shown}` does not have its checksum"));
            }
        }
    }
    let mut version = String::new();
    let read = archive.by_name(&format!("{root}version")).map(|entry| entry.take(64).read_to_string(&mut version));
    match (read, version.trim().parse::<u64>()) {
        (Ok(Ok(_)), Ok(1..=10)) => None,
        (Ok(_), _) => Some(format!("its version is `{}`", version.trim().escape_debug())),
        (Err(_), _) => Some("its archive has no `version`".into()),
    }
}

/// Whether a local header says of its entry what the central one does: checksum, stored and full size. They may be left to
/// what follows the data, or to an extra field.
fn agrees(local: &[u8], name: &[u8], [crc, stored, size]: [u64; 3]) -> bool {
    let number = |at: usize, size: usize| {
        local[at..at + size].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let follows = number(6, 2) & 8 != 0;
    let says = |at: usize, value: u64| {
        let own = number(at, 4);
        own == value || (follows && own == 0) || (at != 14 && own == 0xffff_ffff)
    };
    number(0, 4) == 0x0403_4b50
        && number(26, 2) == name.len() as u64
        && &local[LOCAL..] == name
        && says(14, crc)
        && says(18, stored)
        && says(22, size)
}
