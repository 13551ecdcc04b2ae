//! Writing PNG files of 8-bit samples.

use png::{BitDepth, ColorType, Encoder, EncodingError};

/// A picture as the bytes of a PNG file: rows from the top, one sample a pixel (grey) or three (red, green, blue).
///
/// # Errors
/// If it has no pixels.
///
/// # Panics
/// If `pixels` does not hold as many samples, or a pixel has neither one nor three.
pub fn encode(pixels: &[u8], width: usize, height: usize, channels: usize) -> Result<Vec<u8>, EncodingError> {
    let mut bytes = vec![];
    let mut encoder = Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(match channels {
        1 => ColorType::Grayscale,
        3 => ColorType::Rgb,
        other => panic!("a pixel has one or three samples, not {other}"),
    });
    finish(encoder, pixels)?;
    Ok(bytes)
}

/// A picture of class numbers: a byte a pixel, and the colours that viewers show, 3 bytes a number.
///
/// # Errors
/// If it has no pixels.
pub fn encode_indexed(pixels: &[u8], width: usize, height: usize, palette: &[u8]) -> Result<Vec<u8>, EncodingError> {
    let mut bytes = vec![];
    let mut encoder = Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(ColorType::Indexed);
    encoder.set_palette(palette);
    finish(encoder, pixels)?;
    Ok(bytes)
}

fn finish(mut encoder: Encoder<'_, &mut Vec<u8>>, pixels: &[u8]) -> Result<(), EncodingError> {
    encoder.set_depth(BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()
}
