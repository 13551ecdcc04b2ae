//! Pictures: PNG and JPEG files to 8-bit RGB, as PIL's `Image.open(..).convert("RGB")` makes them: grey becomes three
//! equal channels, alpha is dropped (not blended), palettes are looked up, EXIF orientation and colour profiles are not
//! applied. 16-bit samples keep their high byte, also where they are grey (which PIL clips at 255 instead).
//!
//! The format is told by the content, never by the name. A header is believed only after it was checked: what would
//! take more than a gigabyte to decode is refused before anything is allocated, big pictures are held by one thread at a
//! time, and of a PNG file only the chunks that make its pixels are read. A file without its end marker is an error. Where
//! a JPEG file has one but lacks data before it, the decoder fills what is missing, as PIL does, with other values.

use std::borrow::Cow;
use std::io::Cursor;
use std::path::Path;

use png::{BitDepth, ColorType, DecodingError, Limits, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::open::{self, Open, Unreadable};
use super::turn::Turn;
use crate::diag::{Code, Problem};

/// A picture of 8-bit RGB, rows from the top, channels interleaved. One that was read and is big keeps other threads from
/// reading big ones as long as it lives.
#[derive(Debug)]
pub struct Rgb {
    width: usize,
    height: usize,
    data: Vec<u8>,
    _turn: Option<Turn>,
}

impl Rgb {
    /// # Panics
    /// If `data` does not hold three values a pixel.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Rgb {
        assert_eq!(data.len(), width * height * 3, "three values a pixel");
        Rgb { width, height, data, _turn: None }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn height(&self) -> usize {
        self.height
    }

    /// [height, width, 3].
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

impl Clone for Rgb {
    fn clone(&self) -> Rgb {
        Rgb::new(self.width, self.height, self.data.clone())
    }
}

impl PartialEq for Rgb {
    fn eq(&self, other: &Rgb) -> bool {
        (self.width, self.height, &self.data) == (other.width, other.height, &other.data)
    }
}

/// What the first bytes of a file say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Png,
    Jpeg,
}

impl Format {
    /// None where the bytes begin neither a PNG nor a JPEG file.
    pub fn of(start: &[u8]) -> Option<Format> {
        if start.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Format::Png)
        } else if start.starts_with(&[0xff, 0xd8, 0xff]) {
            Some(Format::Jpeg)
        } else {
            None
        }
    }
}

/// Reads the picture in the plain file `path`.
pub fn read(path: &Path) -> Result<Rgb, Problem> {
    read_with(path, open::plain)
}

/// Reads the picture in what `open` opens.
pub fn read_with(path: &Path, open: Open) -> Result<Rgb, Problem> {
    let name = path.display().to_string();
    let unreadable = |error: Unreadable| error.problem(Code::Input, path);
    let mut file = open(path).map_err(unreadable)?;
    let start = file.start(16).map_err(unreadable)?;
    if Format::of(&start).is_none() {
        return Err(not_a_picture(&name, &start));
    }
    let turn = (file.len() >= BIG_BYTES).then(Turn::wait);
    let bytes = file.rest(start, MAX_FILE).map_err(unreadable)?;
    decode_in(turn, &bytes, &name)
}

/// Decodes the bytes of a PNG or JPEG file; `name` is what messages call it.
pub fn decode(bytes: &[u8], name: &str) -> Result<Rgb, Problem> {
    decode_in(None, bytes, name)
}

fn decode_in(turn: Option<Turn>, bytes: &[u8], name: &str) -> Result<Rgb, Problem> {
    let (mut picture, turn) = match Format::of(bytes) {
        Some(Format::Png) => {
            let failed = |error| broken_png(name, &error);
            let bytes = essential(bytes);
            let limits = Limits { bytes: MAX_BYTES as usize };
            let mut decoder = png::Decoder::new_with_limits(Cursor::new(&*bytes), limits);
            // palettes are looked up, and a sample takes a byte at least
            decoder.set_transformations(Transformations::EXPAND);
            let mut reader = decoder.read_info().map_err(failed)?;
            let (width, height) = reader.info().size();
            let (color, depth) = reader.output_color_type();
            let layout = (color.samples(), if depth == BitDepth::Sixteen { 2 } else { 1 });
            let extra = if (color, depth) == (ColorType::Rgb, BitDepth::Eight) { 0 } else { 3 };
            let turn = admit(name, width, height, (layout.0 * layout.1 + extra) as u64, turn)?;
            let mut raw = vec![0; width as usize * height as usize * layout.0 * layout.1];
            reader.next_frame(&mut raw).map_err(failed)?;
            (Rgb::new(width as usize, height as usize, rgb(raw, layout)), turn)
        }
        Some(Format::Jpeg) => {
            let frame = JpegFrame::find(bytes).map_err(|what| damaged(name, "JPEG", what))?;
            let turn = admit(name, frame.width, frame.height, frame.bytes_per_pixel(), turn)?;
            let failed = |error| broken_jpeg(name, &error);
            let options =
                DecoderOptions::default().set_strict_mode(false).set_max_width(1 << 16).set_max_height(1 << 16);
            let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
            decoder.decode_headers().map_err(failed)?;
            let is_grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
            let space = if is_grey { ColorSpace::Luma } else { ColorSpace::RGB };
            decoder.set_options(decoder.options().jpeg_set_out_colorspace(space));
            let raw = decoder.decode().map_err(failed)?;
            let layout = (if is_grey { 1 } else { 3 }, 1);
            let (width, height) = (frame.width as usize, frame.height as usize);
            // of a file with several frames the decoder may take another than the first
            if raw.len() != width * height * layout.0 {
                return Err(damaged(name, "JPEG", "it has more than one frame"));
            }
            (Rgb::new(width, height, rgb(raw, layout)), turn)
        }
        None => return Err(not_a_picture(name, bytes)),
    };
    picture._turn = turn.filter(|_| picture.data.len() as u64 >= BIG_BYTES);
    Ok(picture)
}

/// A PNG file with the chunks alone that pixels are made of: header, palette and data. Others can hold anything at any
/// compressed length (colour profiles, texts), or say what is not looked at (transparency, frames of an animation).
fn essential(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut kept: Vec<&[u8]> = vec![];
    let (signature, mut rest) = bytes.split_at(bytes.len().min(8));
    while let Some(start) = rest.first_chunk::<8>() {
        let length = u32::from_be_bytes([start[0], start[1], start[2], start[3]]) as usize;
        // with length, type and checksum; a chunk that is cut off is left to the decoder
        let (chunk, behind) = rest.split_at(length.saturating_add(12).min(rest.len()));
        let is_critical = start[4].is_ascii_uppercase();
        // the decoder takes a palette for whole colours
        let is_broken = start[4..] == *b"PLTE" && !length.is_multiple_of(3);
        if is_critical && !is_broken {
            kept.push(chunk);
        }
        rest = behind;
    }
    kept.push(rest);
    if kept.iter().map(|chunk| chunk.len()).sum::<usize>() + signature.len() == bytes.len() {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned([&[signature], &kept[..]].concat().concat())
}

/// The most memory that decoding one picture may take, in bytes.
const MAX_BYTES: u64 = 1 << 30;
/// The largest file that is a picture.
pub const MAX_FILE: u64 = 1 << 30;
/// From this many bytes on pictures are read one after another, whatever the number of threads.
const BIG_BYTES: u64 = 1 << 26;

/// Refuses what would not fit, and waits for its turn with what is big.
fn admit(
    name: &str,
    width: u32,
    height: u32,
    bytes_per_pixel: u64,
    turn: Option<Turn>,
) -> Result<Option<Turn>, Problem> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(Problem::new(Code::Input, format!("`{name}` has no pixels: {width} x {height}")));
    }
    match pixels.checked_mul(bytes_per_pixel) {
        Some(bytes) if bytes < BIG_BYTES => Ok(turn),
        Some(bytes) if bytes <= MAX_BYTES => Ok(turn.or_else(|| Some(Turn::wait()))),
        _ => Err(Problem::new(
            Code::Input,
            format!("`{name}` is too large: {width} x {height} pixels would take more than {} GiB", MAX_BYTES >> 30),
        )
        .hint("make it smaller first; the network sees only a few hundred pixels of it")),
    }
}

/// Red, green and blue of pixels of so many samples (grey, grey and alpha, RGB, RGBA), each of so many bytes, the high one
/// first.
fn rgb(raw: Vec<u8>, layout: (usize, usize)) -> Vec<u8> {
    let (samples, size) = layout;
    if layout == (3, 1) {
        return raw;
    }
    let pixels = raw.chunks_exact(samples * size);
    match samples {
        1 | 2 => pixels.flat_map(|pixel| [pixel[0]; 3]).collect(),
        _ => pixels.flat_map(|pixel| [pixel[0], pixel[size], pixel[2 * size]]).collect(),
    }
}

/// What the markers of a JPEG file say before any of it is decoded.
#[derive(Debug, PartialEq)]
struct JpegFrame {
    width: u32,
    height: u32,
    components: u8,
    progressive: bool,
}

impl JpegFrame {
    /// Walks the markers to the end of the picture (ITU T.81, annex B). The decoder would fill what is missing with
    /// grey and say nothing.
    fn find(bytes: &[u8]) -> Result<JpegFrame, &'static str> {
        const EARLY: &str = "it ends early";
        let mut frame = None;
        let mut at = 2;
        loop {
            if *bytes.get(at).ok_or(EARLY)? != 0xff {
                return Err("a marker is missing");
            }
            while *bytes.get(at).ok_or(EARLY)? == 0xff {
                at += 1;
            }
            let marker = bytes[at];
            at += 1;
            match marker {
                0xd9 => return frame.ok_or("it holds no picture"),
                0x01 | 0xd0..=0xd8 => continue,
                _ => {}
            }
            let length = match bytes.get(at..at + 2) {
                Some(length) => usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => return Err(EARLY),
            };
            let segment = bytes.get(at + 2..at + length.max(2)).ok_or(EARLY)?;
            at += length.max(2);
            match (marker, segment) {
                (0xc0..=0xc2, [8, h1, h0, w1, w0, components, ..]) if frame.is_none() => {
                    frame = Some(JpegFrame {
                        width: u32::from(u16::from_be_bytes([*w1, *w0])),
                        height: u32::from(u16::from_be_bytes([*h1, *h0])),
                        components: *components,
                        progressive: marker == 0xc2,
                    });
                }
                (0xc0..=0xc2, [8, ..]) => return Err("its frame is damaged"),
                (0xc0..=0xc2, _) => return Err("only 8-bit samples are read"),
                (0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf, _) => {
                    return Err("only baseline and progressive pictures are read, not lossless or arithmetic ones");
                }
                (0xda, _) => at = entropy_end(bytes, at).ok_or(EARLY)?,
                _ => {}
            }
        }
    }

    /// What the decoder takes: the pixels, and for progressive pictures 16-bit coefficients.
    fn bytes_per_pixel(&self) -> u64 {
        let components = u64::from(self.components);
        3 + if self.progressive { 2 * components } else { 0 } + if self.components == 1 { 1 } else { 0 }
    }
}

/// Where the marker after a scan's data stands.
fn entropy_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == 0xff)?;
        match bytes.get(at + 1)? {
            0x00 | 0xd0..=0xd7 => at += 2,
            0xff => at += 1,
            _ => return Some(at),
        }
    }
}

fn broken_png(name: &str, error: &DecodingError) -> Problem {
    match error {
        DecodingError::LimitsExceeded => Problem::new(Code::Input, format!("`{name}` is too large to decode")),
        DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            damaged(name, "PNG", "it ends early")
        }
        other => damaged(name, "PNG", &in_a_sentence(&other.to_string())),
    }
}

fn broken_jpeg(name: &str, error: &DecodeErrors) -> Problem {
    damaged(name, "JPEG", &in_a_sentence(&error.to_string()))
}

/// A decoder's message as a part of one of ours.
fn in_a_sentence(text: &str) -> String {
    let text = text.trim_matches('"');
    let text: String = text.trim_end_matches(['.', '\n']).chars().take(200).collect();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if !letters.clone().next().is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text,
    }
}

fn damaged(name: &str, format: &str, what: &str) -> Problem {
    Problem::new(Code::Input, format!("`{name}` is a damaged {format} file: {what}"))
        .hint("open it in a picture viewer and save it again, or leave it out")
}

fn not_a_picture(name: &str, start: &[u8]) -> Problem {
    let found = match start {
        [] => "the file is empty",
        [b'G', b'I', b'F', b'8', ..] => "it is a GIF file",
        [b'B', b'M', ..] => "it is a BMP file",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "it is a WebP file",
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => "it is a TIFF file",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "it is an AVIF, HEIC or video file",
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "it is a NumPy file; its name must end in `.npy`",
        _ => "it begins as neither does",
    };
    Problem::new(Code::Input, format!("`{name}` is not a PNG or JPEG picture: {found}"))
        .hint("convert it to .png or .jpg; tensors are read from .npy and .safetensors")
}

#[cfg(test)]
mod tests;
