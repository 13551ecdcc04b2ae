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
    encoder.set_depth(BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}
