//! A look through a pickle before it is interpreted: which Python objects it names and how many steps it takes. Nothing is
//! built and nothing is run, so that a small file cannot ask for much memory, and what the interpreter leaves out can be
//! said.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, BufRead, Read};

/// What some pickles name.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// `module.name` of every class and function.
    pub globals: BTreeSet<String>,
    steps: u64,
    at: u64,
}

/// Steps of the largest pickle that is interpreted; each may make an object. Weights of a network take a few dozen a tensor.
const MAX_STEPS: u64 = 1 << 22;
/// Longer strings are no names of modules.
const MAX_NAME: usize = 512;
const MAX_LINE: u64 = 1 << 20;

impl Names {
    /// Walks through one pickle, up to behind its last opcode (CPython's Lib/pickletools.py lists them).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn walk(&mut self, reader: &mut impl BufRead) -> Result<(), String> {
        // the last two strings, the first of them on top, and what the memo holds of strings: opcode STACK_GLOBAL finds two on
        // the stack
        let (mut last, mut on_top): ([Option<String>; 2], bool) = ([None, None], false);
        let (mut memo, mut slots): (HashMap<u64, String>, u64) = (HashMap::new(), 0);
        loop {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err(format!("its pickle has more than {MAX_STEPS} steps, far more than weights need"));
            }
            let start = self.at;
            let [opcode] = self.bytes(reader)?;
            let mut string = None;
            match opcode {
                b'.' => return Ok(()),
                b'('
                | b'0'
                | b'1'
                | b'2'
                | b'N'
                | b'R'
                | b'b'
                | b'd'
                | b'l'
                | b't'
                | b's'
                | b'a'
                | b')'
                | b']'
                | b'}'
                | b'e'
                | b'u'
                | b'Q'
                | b'o'
                | 0x81
                | 0x85..=0x89
                | 0x8f..=0x92
                | 0x97
                | 0x98 => {}
                b'I' | b'L' | b'F' | b'P' => drop(self.line(reader)?),
                b'V' | b'S' => string = Some(self.line(reader)?.trim_matches(['\'', '"']).to_string()),
                b'c' | b'i' => {
                    let (module, name) = (self.line(reader)?, self.line(reader)?);
                    self.globals.insert(format!("{module}.{name}"));
                }
                b'K' | 0x80 => drop(self.number(reader, 1)?),
                b'M' => drop(self.number(reader, 2)?),
                b'J' => drop(self.number(reader, 4)?),
                b'G' | 0x95 => drop(self.number(reader, 8)?),
                0x82..=0x84 => return Err(format!("its pickle needs an extension of Python's, at byte {start}")),
                b'X' | b'T' => string = self.counted(reader, 4)?,
                b'U' | 0x8c => string = self.counted(reader, 1)?,
                0x8d => string = self.counted(reader, 8)?,
                b'C' | 0x8a => drop(self.counted(reader, 1)?),
                b'B' | 0x8b => drop(self.counted(reader, 4)?),
                0x8e | 0x96 => drop(self.counted(reader, 8)?),
                0x93 => {
                    let [name, module] = last.each_ref().map(|part| part.as_deref().unwrap_or("?"));
                    self.globals.insert(format!("{module}.{name}"));
                }
                b'q' | b'r' | b'p' | 0x94 => {
                    let slot = match opcode {
                        b'p' => self.line(reader)?.parse().unwrap_or(u64::MAX),
                        b'q' => self.number(reader, 1)?,
                        b'r' => self.number(reader, 4)?,
                        _ => slots,
                    };
                    slots += 1;
                    if let (true, [Some(string), _]) = (on_top, &last) {
                        memo.insert(slot, string.clone());
                    }
                    continue;
                }
                b'h' | b'j' | b'g' => {
                    let slot = match opcode {
                        b'g' => self.line(reader)?.parse().unwrap_or(u64::MAX),
                        b'h' => self.number(reader, 1)?,
                        _ => self.number(reader, 4)?,
                    };
                    string = memo.get(&slot).cloned();
                }
                other => return Err(format!("its pickle has the unknown opcode 0x{other:02x} at byte {start}")),
            }
            on_top = string.is_some();
            if on_top {
                last.swap(0, 1);
                last[0] = string;
            }
        }
    }

    fn bytes<const N: usize>(&mut self, reader: &mut impl Read) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.fill(reader, &mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, reader: &mut impl Read, into: &mut [u8]) -> Result<(), String> {
        reader.read_exact(into).map_err(|error| self.broken(&error))?;
        self.at += into.len() as u64;
        Ok(())
    }

    /// A little-endian number of `size` bytes, at most 8.
    fn number(&mut self, reader: &mut impl Read, size: usize) -> Result<u64, String> {
        let mut bytes = [0; 8];
        self.fill(reader, &mut bytes[..size])?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Passes over as many bytes as a number of `size` bytes says; those that may be a name are kept.
    fn counted(&mut self, reader: &mut impl Read, size: usize) -> Result<Option<String>, String> {
        let count = self.number(reader, size)?;
        if count <= MAX_NAME as u64 {
            let mut bytes = vec![0; count as usize];
            self.fill(reader, &mut bytes)?;
            return Ok(String::from_utf8(bytes).ok());
        }
        let passed = io::copy(&mut reader.take(count), &mut io::sink()).map_err(|error| self.broken(&error))?;
        self.at += passed;
        if passed < count { Err(self.broken(&io::ErrorKind::UnexpectedEof.into())) } else { Ok(None) }
    }

    fn line(&mut self, reader: &mut impl BufRead) -> Result<String, String> {
        let mut bytes = vec![];
        reader.take(MAX_LINE).read_until(b'\n', &mut bytes).map_err(|error| self.broken(&error))?;
        self.at += bytes.len() as u64;
        match bytes.pop() {
            Some(b'\n') => Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_string()),
            _ => Err(self.broken(&io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn broken(&self, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("its pickle ends early, after {} bytes", self.at),
            _ => format!("its pickle cannot be read: {error}"),
        }
    }

    /// Whether there are NumPy's arrays.
    pub fn has_arrays(&self) -> bool {
        self.globals.iter().any(|name| name.starts_with("numpy") && name.ends_with(".multiarray._reconstruct"))
    }

    /// Whether there are the compiled classes of `torch.jit.save`.
    pub fn is_script(&self) -> bool {
        self.globals.iter().any(|name| name.starts_with("__torch__."))
    }

    /// What is neither a tensor nor a container, and so is left out.
    pub fn others(&self) -> Vec<&str> {
        self.globals.iter().map(String::as_str).filter(|name| !is_plain(name)).collect()
    }
}

/// Whether a global makes tensors, modules of them or plain containers, as `torch.load(.., weights_only=True)` knows them.
fn is_plain(global: &str) -> bool {
    let (module, name) = global.rsplit_once('.').unwrap_or(("", global));
    match module {
        "torch" => {
            name.ends_with("Storage")
                || name.ends_with("Tensor")
                || ["Size", "device", "dtype", "layout", "strided", "bool", "half", "double"].contains(&name)
                || ["float", "bfloat", "int", "uint", "complex"].iter().any(|kind| {
                    name.strip_prefix(kind).is_some_and(|bits| bits.bytes().all(|byte| byte.is_ascii_digit()))
                })
        }
        "torch._utils" => name.starts_with("_rebuild_"),
        "torch._tensor" => name == "_rebuild_from_type_v2",
        "torch.serialization" => name == "_get_layout",
        "torch.storage" | "torch.torch_version" => true,
        "collections" => ["OrderedDict", "defaultdict", "Counter"].contains(&name),
        "builtins" | "__builtin__" => {
            let kinds = "bool bytearray bytes complex dict float frozenset int list object set slice str tuple";
            kinds.split(' ').any(|kind| kind == name)
        }
        "_codecs" => name == "encode",
        "copyreg" | "copy_reg" => name == "_reconstructor",
        _ => module == "torch.nn" || module.starts_with("torch.nn."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Result<Names, String> {
        let mut names = Names::default();
        names.walk(&mut &*bytes).map(|()| names)
    }

    #[test]
    fn names_are_found_however_they_are_written() {
        for bytes in [
            &b"\x80\x02cposix\nsystem\nU\x02lsR."[..],
            b"(S'ls'\niposix\nsystem\n.",
            b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
            // both from the memo, with something else between
            b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94N0]0h\x00h\x01\x93.",
        ] {
            let names = walk(bytes).unwrap();
            assert_eq!(names.others(), ["posix.system"]);
            assert!(!names.has_arrays());
        }
        let names =
            walk(b"\x80\x02ccollections\nOrderedDict\nctorch._utils\n_rebuild_tensor_v2\nctorch\nfloat32\n.").unwrap();
        assert_eq!(names.globals.len(), 3);
        assert!(names.others().is_empty());
        assert_eq!(walk(b"ctorch\nload\n0ctorch.hub\nload\n0cbuiltins\neval\n.").unwrap().others().len(), 3);
        assert!(walk(b"c__torch__.torch.nn\nLinear\n.").unwrap().is_script());
        assert!(walk(b"cnumpy.core.multiarray\n_reconstruct\n.").unwrap().has_arrays());
    }

    #[test]
    fn broken_pickles_are_said() {
        for (bytes, said) in [
            (&b""[..], "ends early, after 0 bytes"),
            (b"\x80", "ends early, after 1 bytes"),
            (b"\x80\x02X\xff\xff\xff\x7fabc", "ends early, after 10 bytes"),
            (b"\x80\x02\xff.", "the unknown opcode 0xff at byte 2"),
            (b"\x82\x01.", "needs an extension of Python's, at byte 0"),
            (b"cabc", "ends early"),
        ] {
            let told = walk(bytes).unwrap_err();
            assert!(told.contains(said), "{told}");
        }
        let told = walk(&vec![b']'; MAX_STEPS as usize + 1]).unwrap_err();
        assert!(told.contains("more than 4194304 steps"), "{told}");
    }
}
