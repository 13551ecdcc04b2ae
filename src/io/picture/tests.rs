use std::fs;

use super::*;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures")
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

/// The message of what must not decode.
fn refused(bytes: &[u8]) -> String {
    let problem = decode(bytes, "a.png").unwrap_err();
    assert_eq!(problem.code, Code::Input);
    assert!(!problem.message.contains("Error"), "{}", problem.message);
    problem.message
}

/// PNG files of one colour, of any claimed size.
fn png(width: u32, height: u32, rows: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    let mut encoder = png_header(width, height);
    out.append(&mut encoder);
    let chunk = |name: &[u8; 4], data: &[u8]| {
        let mut body = name.to_vec();
        body.extend_from_slice(data);
        let mut out = (data.len() as u32).to_be_bytes().to_vec();
        out.extend_from_slice(&body);
        out.extend_from_slice(&crc(&body).to_be_bytes());
        out
    };
    // stored blocks of zlib need no compressor
    let mut stream = vec![0x78, 0x01];
    let mut blocks = rows.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend_from_slice(&(block.len() as u16).to_le_bytes());
        stream.extend_from_slice(&(!(block.len() as u16)).to_le_bytes());
        stream.extend_from_slice(block);
    }
    let (mut a, mut b) = (1u32, 0u32);
    for byte in rows {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    stream.extend_from_slice(&(b << 16 | a).to_be_bytes());
    out.extend(chunk(b"IDAT", &stream));
    out.extend(chunk(b"IEND", &[]));
    out
}

fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut body = b"IHDR".to_vec();
    body.extend_from_slice(&width.to_be_bytes());
    body.extend_from_slice(&height.to_be_bytes());
    body.extend_from_slice(&[8, 2, 0, 0, 0]);
    let mut out = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    out.extend_from_slice(&body);
    out.extend_from_slice(&crc(&body).to_be_bytes());
    out
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn pictures_are_what_pillow_makes_of_them() {
    let expected = bytes("pillow.safetensors");
    let expected = safetensors::SafeTensors::deserialize(&expected).unwrap();
    let mut seen = 0;
    for (key, tensor) in expected.iter() {
        let Some(name) = key.strip_prefix("decode/") else { continue };
        let picture = read(&folder().join(name)).unwrap();
        assert_eq!(tensor.shape(), [picture.height(), picture.width(), 3], "{name}");
        let differences = picture.data().iter().zip(tensor.data()).map(|(a, b)| a.abs_diff(*b));
        let largest = differences.clone().max().unwrap();
        let mean = differences.map(f64::from).sum::<f64>() / tensor.data().len() as f64;
        // PNG is exact; JPEG decoders may round the transform, the upsampling and the colours as they like
        let (most, on_average) = if name.ends_with(".png") { (0, 0.0) } else { (6, 0.6) };
        assert!(largest <= most && mean <= on_average, "{name}: largest difference {largest}, mean {mean:.3}");
        seen += 1;
    }
    assert!(seen >= 14);
}

#[test]
fn the_content_tells_the_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("really_a_jpeg.png");
    fs::write(&path, bytes("baseline.jpg")).unwrap();
    assert_eq!(read(&path).unwrap(), read(&super::tests::folder().join("baseline.jpg")).unwrap());
}

#[test]
fn files_that_are_no_pictures_are_refused() {
    for (bytes, found) in [
        (&b""[..], "the file is empty"),
        (b"hello, I am text", "begins as neither does"),
        (b"GIF89a....", "it is a GIF file"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "it is a WebP file"),
        (b"\x93NUMPY\x01\0v\0", "it is a NumPy file"),
        (b"\x89PNG\r\n\x1a\n", "damaged PNG file: it ends early"),
        (&[0xff, 0xd8, 0xff], "damaged JPEG file: it ends early"),
        (&[0xff, 0xd8, 0xff, 0xd9], "damaged JPEG file: it holds no picture"),
        (&[0xff, 0xd8, 0xff, 0xc0, 0, 4, 8, 0, 0xff, 0xd9], "its frame is damaged"),
        (&[0xff, 0xd8, 0xff, 0xc3, 0, 8, 8, 0, 1, 0, 1, 1, 0xff, 0xd9], "not lossless or arithmetic ones"),
    ] {
        let message = refused(bytes);
        assert!(message.contains(found), "{found}: {message}");
    }
}

#[test]
fn damaged_files_are_refused_or_decoded_and_never_panic() {
    for name in ["rgb.png", "palette.png", "rgba16.png", "baseline.jpg", "progressive.jpg", "cmyk.jpg", "grey.jpg"] {
        let whole = bytes(name);
        // cut anywhere before the last chunk (PNG) or marker (JPEG) it is an error
        let ending = if name.ends_with(".png") { 12 + 8 } else { 1 };
        for cut in (0..whole.len() - ending).step_by(7).chain([whole.len() - ending - 1]) {
            assert!(decode(&whole[..cut], name).is_err(), "{name} cut at {cut}");
        }
        let mut state = 12345u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize
        };
        for _ in 0..300 {
            let mut broken = whole.clone();
            for _ in 0..=random() % 4 {
                let at = random() % broken.len();
                broken[at] = random() as u8;
            }
            let _ = decode(&broken, name);
        }
    }
}

#[test]
fn sizes_are_checked_before_memory_is_taken() {
    let picture = decode(&png(1, 1, &[0, 7, 8, 9]), "one.png").unwrap();
    assert_eq!((picture.width(), picture.height(), picture.data()), (1, 1, &[7, 8, 9][..]));
    let mut rows = vec![200; 1 + 20_000 * 3];
    rows[0] = 0;
    let picture = decode(&png(20_000, 1, &rows), "wide.png").unwrap();
    assert_eq!((picture.width(), picture.height()), (20_000, 1));

    for (width, height) in [(65_535, 65_535), (0x7fff_ffff, 0x7fff_ffff), (1 << 29, 1)] {
        let message = refused(&png(width, height, &[0]));
        assert!(message.contains("too large"), "{message}");
    }
    // a small enough claim without the data behind it
    assert!(refused(&png(4000, 4000, &[0; 100])).contains("damaged PNG file"));
    assert!(refused(&png(0, 4, &[0])).contains("damaged PNG file"));

    let mut huge = bytes("progressive.jpg");
    let at = huge.windows(2).position(|pair| pair == [0xff, 0xc2]).unwrap();
    huge[at + 5..at + 9].fill(0xff);
    assert!(refused(&huge).contains("too large: 65535 x 65535"));
    huge[at + 5..at + 9].fill(0);
    assert!(refused(&huge).contains("no pixels"));
}

#[test]
fn a_missing_file_has_near_names() {
    let problem = read(&folder().join("turnde.jpg")).unwrap_err();
    assert!(problem.message.ends_with("cannot be read: no such file or directory"), "{}", problem.message);
    assert_eq!(problem.hints, ["did you mean `turned.jpg`?"]);
    let problem = read(Path::new("no/such/folder/a.png")).unwrap_err();
    assert_eq!(problem.hints, ["there is no folder `no/such/folder`"]);
    assert!(read(&folder()).unwrap_err().message.contains("is a folder"));
}

#[test]
fn a_png_file_is_its_pixels_alone() {
    for name in ["rgb.png", "palette.png", "rgba16.png", "grey_alpha.png", "bits.png"] {
        let whole = bytes(name);
        let split = 8 + 25;
        let chunk = |kind: &[u8; 4], data: &[u8]| {
            let body = [kind, data].concat();
            [&(data.len() as u32).to_be_bytes(), &*body, &crc(&body).to_be_bytes()].concat()
        };
        // a profile that is no zlib stream, and a frame of an animation
        let extra = [chunk(b"iCCP", b"name\0\0no zlib"), chunk(b"fcTL", &[0; 26])].concat();
        let more = [&whole[..split], &extra, &whole[split..]].concat();
        assert!(matches!(essential(&png(1, 1, &[0, 7, 8, 9])), Cow::Borrowed(_)));
        assert_eq!(decode(&more, name).unwrap(), decode(&whole, name).unwrap(), "{name}");
        assert!(decode(&more[..more.len() - 40], name).is_err(), "{name}");
    }
}

#[test]
fn data_that_is_missing_before_the_end_marker_is_filled() {
    let whole = bytes("full.jpg");
    let cut = [&whole[..whole.len() * 2 / 3], &[0, 0xff, 0xd9]].concat();
    let (whole, cut) = (decode(&whole, "whole").unwrap(), decode(&cut, "cut").unwrap());
    assert_eq!((cut.width(), cut.height()), (whole.width(), whole.height()));
    let row = whole.width() * 3;
    assert_eq!(cut.data()[..row * 8], whole.data()[..row * 8], "the first rows are there");
    assert_ne!(cut.data(), whole.data());
}

#[test]
fn a_second_frame_of_another_size_is_damage() {
    for name in ["baseline.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg"] {
        let whole = bytes(name);
        let at = whole.windows(2).position(|pair| pair[0] == 0xff && (0xc0..=0xc2).contains(&pair[1])).unwrap();
        let length = usize::from(u16::from_be_bytes([whole[at + 2], whole[at + 3]]));
        let mut frame = whole[at..at + 2 + length].to_vec();
        // as high as before, and half as wide, and the other way round
        for (high, low) in [(7, 8), (5, 6)] {
            let size = u16::from_be_bytes([frame[high], frame[low]]) / 2;
            [frame[high], frame[low]] = size.to_be_bytes();
            let behind = [&whole[..at + 2 + length], &frame, &whole[at + 2 + length..]].concat();
            let before = [&whole[..at], &frame, &whole[at..]].concat();
            for two in [behind, before] {
                assert!(refused(&two).contains("damaged JPEG file"), "{name}");
            }
        }
    }
}

#[test]
fn a_palette_holds_whole_colours() {
    let whole = bytes("palette.png");
    let at = whole.windows(4).position(|bytes| bytes == b"PLTE").unwrap();
    let length = u32::from_be_bytes(whole[at - 4..at].try_into().unwrap()) as usize;
    let body = [b"PLTE", &whole[at + 4..at + 4 + length - 1]].concat();
    let cut = [&(length as u32 - 1).to_be_bytes(), &*body, &crc(&body).to_be_bytes()].concat();
    let broken = [&whole[..at - 4], &cut, &whole[at + 8 + length..]].concat();
    assert!(refused(&broken).contains("damaged PNG file"), "{}", refused(&broken));
}
