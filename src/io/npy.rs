//! NumPy's `.npy` files (versions 1 to 3): one array of numbers, in C or Fortran order, of either byte order. What is
//! written is version 1, little-endian float32, C order. A header is believed only as far as the bytes behind it go.

use half::f16;

use crate::diag::{Code, Problem};
use crate::tensor::Tensor;

/// An array as the file has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Any number type but u8, as float32.
    Float(Tensor),
    /// Bytes, in C order.
    Bytes { shape: Vec<usize>, data: Vec<u8> },
}

/// Whether these bytes begin a `.npy` file.
pub fn begins(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// Reads a whole `.npy` file; `name` is what messages call it.
pub fn read(bytes: &[u8], name: &str) -> Result<Array, Problem> {
    let bad = |what: String| Problem::new(Code::Input, format!("`{name}` is not a .npy file that can be read: {what}"));
    let (header, data) = split(bytes).map_err(|what| bad(what.into()))?;
    let header = Header::parse(header).map_err(|what| {
        bad(what).hint("save the array again: `np.save(path, np.ascontiguousarray(a, dtype=np.float32))`")
    })?;
    let values = header.shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size));
    let needed = values.and_then(|n| n.checked_mul(header.kind.size()));
    if needed != Some(data.len()) {
        let shape: Vec<String> = header.shape.iter().map(usize::to_string).collect();
        let needed = needed.map_or("more bytes than can be".into(), |needed| format!("{needed} bytes"));
        let shape = shape.join(", ");
        return Err(bad(format!("its shape [{shape}] needs {needed}, the file holds {} bytes", data.len())));
    }
    if header.kind == Kind::U8 {
        return Ok(Array::Bytes { data: header.in_c_order(data.to_vec()), shape: header.shape });
    }
    let values = header.in_c_order(header.kind.values(data, header.big_endian));
    Ok(Array::Float(Tensor::new(header.shape, values)))
}

/// The bytes of a `.npy` file with this tensor.
pub fn write(tensor: &Tensor) -> Vec<u8> {
    let mut shape: Vec<String> = tensor.shape().iter().map(usize::to_string).collect();
    if shape.len() == 1 {
        shape.push(String::new());
    }
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", shape.join(", ").trim_end());
    // the data begins at a multiple of 64, after a newline
    let length = (MAGIC.len() + 4 + header.len() + 1).next_multiple_of(64) - MAGIC.len() - 4;
    header.extend(std::iter::repeat_n(' ', length - 1 - header.len()));
    header.push('\n');
    let mut bytes = Vec::with_capacity(10 + length + tensor.len() * 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&(length as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    tensor.data().iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    bytes
}

const MAGIC: &[u8] = b"\x93NUMPY";
const MAX_HEADER: usize = 1 << 16;
/// NumPy's own limit.
const MAX_RANK: usize = 64;

/// Header text and data.
fn split(bytes: &[u8]) -> Result<(&str, &[u8]), &'static str> {
    const EARLY: &str = "it ends early";
    if !begins(bytes) {
        return Err("it does not begin as one");
    }
    let (length, start) = match bytes.get(6).ok_or(EARLY)? {
        1 => match bytes.get(8..10) {
            Some(b) => (usize::from(u16::from_le_bytes([b[0], b[1]])), 10),
            None => return Err(EARLY),
        },
        2 | 3 => match bytes.get(8..12) {
            Some(b) => (u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize, 12),
            None => return Err(EARLY),
        },
        _ => return Err("its version is not 1, 2 or 3"),
    };
    if length > MAX_HEADER {
        return Err("its header is absurdly long");
    }
    let header = bytes.get(start..start + length).ok_or(EARLY)?;
    let header = std::str::from_utf8(header).map_err(|_| "its header is not text")?;
    Ok((header, &bytes[start + length..]))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    F32,
    F64,
}

impl Kind {
    fn size(self) -> usize {
        match self {
            Kind::Bool | Kind::I8 | Kind::U8 => 1,
            Kind::I16 | Kind::U16 | Kind::F16 => 2,
            Kind::I32 | Kind::U32 | Kind::F32 => 4,
            Kind::I64 | Kind::U64 | Kind::F64 => 8,
        }
    }

    fn values(self, data: &[u8], big_endian: bool) -> Vec<f32> {
        fn each<const N: usize>(data: &[u8], big_endian: bool, value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            let (chunks, _) = data.as_chunks::<N>();
            let turned = |chunk: &[u8; N]| {
                let mut chunk = *chunk;
                chunk.reverse();
                chunk
            };
            chunks.iter().map(|chunk| value(if big_endian { turned(chunk) } else { *chunk })).collect()
        }
        match self {
            Kind::Bool => each(data, big_endian, |[b]| f32::from(u8::from(b != 0))),
            Kind::I8 => each(data, big_endian, |b| f32::from(i8::from_le_bytes(b))),
            Kind::I16 => each(data, big_endian, |b| f32::from(i16::from_le_bytes(b))),
            Kind::I32 => each(data, big_endian, |b| i32::from_le_bytes(b) as f32),
            Kind::I64 => each(data, big_endian, |b| i64::from_le_bytes(b) as f32),
            Kind::U8 => each(data, big_endian, |[b]| f32::from(b)),
            Kind::U16 => each(data, big_endian, |b| f32::from(u16::from_le_bytes(b))),
            Kind::U32 => each(data, big_endian, |b| u32::from_le_bytes(b) as f32),
            Kind::U64 => each(data, big_endian, |b| u64::from_le_bytes(b) as f32),
            Kind::F16 => each(data, big_endian, |b| f16::from_le_bytes(b).to_f32()),
            Kind::F32 => each(data, big_endian, f32::from_le_bytes),
            Kind::F64 => each(data, big_endian, |b| f64::from_le_bytes(b) as f32),
        }
    }
}

struct Header {
    kind: Kind,
    big_endian: bool,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// The Python dictionary with `descr`, `fortran_order` and `shape`, in any order.
    fn parse(text: &str) -> Result<Header, String> {
        let mut words = Words { rest: text };
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        words.expect('{')?;
        while !words.take('}') {
            let key = words.string()?;
            words.expect(':')?;
            match key {
                "descr" => {
                    if words.take('[') {
                        return Err("it holds records, not plain numbers".into());
                    }
                    descr = Some(words.string()?);
                }
                "fortran_order" => fortran = Some(words.boolean()?),
                "shape" => shape = Some(words.tuple()?),
                _ => return Err("its header has an unknown entry".into()),
            }
            if !words.take(',') {
                words.expect('}')?;
                break;
            }
        }
        let (Some(descr), Some(fortran), Some(shape)) = (descr, fortran, shape) else {
            return Err("its header lacks `descr`, `fortran_order` or `shape`".into());
        };
        let unknown = || format!("numbers of the type `{}` are not read", descr.chars().take(40).collect::<String>());
        let big_endian = match descr.as_bytes().first() {
            Some(b'>') => true,
            Some(b'<' | b'|' | b'=') => false,
            _ => return Err(unknown()),
        };
        let kind = match &descr[1..] {
            "b1" => Kind::Bool,
            "i1" => Kind::I8,
            "i2" => Kind::I16,
            "i4" => Kind::I32,
            "i8" => Kind::I64,
            "u1" => Kind::U8,
            "u2" => Kind::U16,
            "u4" => Kind::U32,
            "u8" => Kind::U64,
            "f2" => Kind::F16,
            "f4" => Kind::F32,
            "f8" => Kind::F64,
            _ => return Err(unknown()),
        };
        Ok(Header { kind, big_endian, fortran, shape })
    }

    /// The values with the last axis fastest.
    fn in_c_order<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        if !self.fortran || self.shape.len() < 2 || values.is_empty() {
            return values;
        }
        let rank = self.shape.len();
        let mut strides = vec![1; rank];
        for axis in 1..rank {
            strides[axis] = strides[axis - 1] * self.shape[axis - 1];
        }
        let mut place = vec![0; rank];
        let mut from = 0;
        let mut ordered = Vec::with_capacity(values.len());
        for _ in 0..values.len() {
            ordered.push(values[from]);
            for axis in (0..rank).rev() {
                place[axis] += 1;
                from += strides[axis];
                if place[axis] < self.shape[axis] {
                    break;
                }
                from -= strides[axis] * place[axis];
                place[axis] = 0;
            }
        }
        ordered
    }
}

/// What is left of a header's text.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn take(&mut self, wanted: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) { Ok(()) } else { Err(format!("its header lacks a `{wanted}`")) }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        self.rest = self.rest.trim_start();
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or("its header lacks a string")?;
        let (text, rest) = self.rest[1..].split_once(quote).ok_or("its header lacks a quote")?;
        self.rest = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("its `fortran_order` is not True or False".into())
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        self.expect('(')?;
        let mut sizes = vec![];
        while !self.take(')') {
            self.rest = self.rest.trim_start();
            let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
            let size = self.rest[..end].parse().map_err(|_| "its `shape` is not a tuple of sizes".to_string())?;
            self.rest = &self.rest[end..];
            // Python 2 wrote `3L`
            self.take('L');
            sizes.push(size);
            if sizes.len() > MAX_RANK {
                return Err(format!("its `shape` has more than {MAX_RANK} axes"));
            }
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[version, 0]);
        match version {
            1 => bytes.extend_from_slice(&(header.len() as u16).to_le_bytes()),
            _ => bytes.extend_from_slice(&(header.len() as u32).to_le_bytes()),
        }
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    fn header(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}      \n")
    }

    #[test]
    fn every_number_type_is_read() {
        for (descr, data, values) in [
            ("<f4", [1.5f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat(), [1.5, -2.0]),
            (">f4", [1.5f32.to_be_bytes(), (-2.0f32).to_be_bytes()].concat(), [1.5, -2.0]),
            ("<f8", [1.5f64.to_le_bytes(), (-2.0f64).to_le_bytes()].concat(), [1.5, -2.0]),
            (">f2", vec![0x3e, 0x00, 0xc0, 0x00], [1.5, -2.0]),
            ("|i1", vec![3, 0xfe], [3.0, -2.0]),
            (">i2", vec![1, 0, 0xff, 0xfe], [256.0, -2.0]),
            ("<i8", [3i64.to_le_bytes(), (-2i64).to_le_bytes()].concat(), [3.0, -2.0]),
            ("<u2", vec![0, 1, 0xff, 0xff], [256.0, 65535.0]),
            ("|b1", vec![0, 1], [0.0, 1.0]),
        ] {
            for version in [1, 2, 3] {
                let Array::Float(tensor) = read(&file(version, &header(descr, "False", "(2,)"), &data), "a").unwrap()
                else {
                    panic!("{descr} is no picture");
                };
                assert_eq!((tensor.shape(), tensor.data()), (&[2][..], &values[..]), "{descr}");
            }
        }
        let bytes = read(&file(1, &header("|u1", "False", "(1, 2)"), &[3, 4]), "a").unwrap();
        assert_eq!(bytes, Array::Bytes { shape: vec![1, 2], data: vec![3, 4] });
    }

    #[test]
    fn fortran_order_is_turned() {
        // [[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]] as np.asfortranarray stores it
        let data = [0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11];
        let array = read(&file(1, &header("|u1", "True", "(2, 3, 2)"), &data), "a").unwrap();
        assert_eq!(array, Array::Bytes { shape: vec![2, 3, 2], data: (0..12).collect() });
    }

    #[test]
    fn what_is_written_is_read_again() {
        for shape in [vec![], vec![3], vec![2, 3], vec![1, 2, 3, 4], vec![0, 2]] {
            let len = shape.iter().product();
            let tensor = Tensor::new(shape, (0..len).map(|i| i as f32 / 3.0).collect());
            let bytes = write(&tensor);
            assert_eq!((bytes.len() - tensor.len() * 4) % 64, 0);
            assert_eq!(read(&bytes, "a").unwrap(), Array::Float(tensor));
        }
    }

    #[test]
    fn lies_are_found() {
        let good = header("<f4", "False", "(2,)");
        for (bytes, found) in [
            (b"".to_vec(), "does not begin as one"),
            (MAGIC.to_vec(), "ends early"),
            (file(4, &good, &[0; 8]), "version is not 1, 2 or 3"),
            (file(1, &good, &[0; 7]), "its shape [2] needs 8 bytes, the file holds 7 bytes"),
            (file(1, &good, &[0; 9]), "needs 8 bytes, the file holds 9 bytes"),
            (file(2, &good, &[])[..20].to_vec(), "ends early"),
            ([MAGIC, &[2, 0, 0xff, 0xff, 0xff, 0xff]].concat(), "absurdly long"),
            (file(1, &header("<f4", "False", "(99999999999, 99999999999)"), &[]), "more bytes than can be"),
            (file(1, &header("<f4", "False", "(999999999999999999999999,)"), &[]), "not a tuple of sizes"),
            (file(1, &header("<f4", "False", "(-1,)"), &[]), "not a tuple of sizes"),
            (file(1, &header("<f4", "False", &format!("({})", "1,".repeat(65))), &[]), "more than 64 axes"),
            (file(1, &header("|O", "False", "(1,)"), &[0; 8]), "the type `|O` are not read"),
            (file(1, &header("<c8", "False", "(1,)"), &[0; 8]), "the type `<c8` are not read"),
            (file(1, &header("", "False", "(1,)"), &[]), "are not read"),
            (file(1, &header("é", "False", "(1,)"), &[]), "are not read"),
            (file(1, &header("<f4", "Maybe", "(1,)"), &[]), "not True or False"),
            (file(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", &[]), "holds records"),
            (file(1, "{'descr': '<f4'}", &[]), "lacks `descr`, `fortran_order` or `shape`"),
            (file(1, "{'descr': '<f4", &[]), "lacks a quote"),
            (file(1, "", &[]), "lacks a `{`"),
            (file(1, "{", &[]), "lacks a string"),
            (file(1, "{'shape': (1", &[]), "lacks a `)`"),
        ] {
            let problem = read(&bytes, "a.npy").unwrap_err();
            assert_eq!(problem.code, Code::Input);
            assert!(problem.message.contains(found), "{found}: {}", problem.message);
        }
    }
}
