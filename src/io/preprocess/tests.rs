use archc_base::Resample;

use super::*;
use crate::io::picture;
use std::path::Path;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures")
}

fn size(text: &str) -> (u32, u32) {
    let (a, b) = text.split_once('x').unwrap();
    (a.parse().unwrap(), b.parse().unwrap())
}

/// [3, H, W] in 0..1 as [H, W, 3] of 8 bits.
fn pixels(tensor: &Tensor) -> Vec<u8> {
    let plane = tensor.len() / 3;
    (0..plane).flat_map(|i| [0, 1, 2].map(|c| (tensor.data()[c * plane + i] * 255.0).round() as u8)).collect()
}

#[test]
fn resizing_and_cropping_are_pillows_bit_for_bit() {
    let picture = picture::read(&folder().join("rgb.png")).unwrap();
    let expected = std::fs::read(folder().join("pillow.safetensors")).unwrap();
    let expected = safetensors::SafeTensors::deserialize(&expected).unwrap();
    let mut seen = 0;
    for (key, tensor) in expected.iter() {
        let parts: Vec<&str> = key.split('/').collect();
        let got = match parts.as_slice() {
            ["resize", name, to] => {
                let (w, h) = size(to);
                let whole = |len: u32| Window { from: 0, len: len as usize };
                let interpolation = Resample::named(name).unwrap();
                let result = resample(&picture, (w.into(), h.into()), interpolation, whole(w), whole(h));
                // height and width as they are given, whatever the picture's shape
                let resize = Some(Resize::Both(h, w));
                let squash = Preprocess { resize, interpolation, ..Preprocess::default() };
                let squashed = squash.apply(&picture, [3, h as usize, w as usize]).unwrap();
                assert!(pixels(&squashed) == tensor.data(), "{key} differs where a spec asks for it");
                result.data().to_vec()
            }
            ["fit", name, short, crop] => {
                let interpolation = Resample::named(name).unwrap();
                let crop = size(crop);
                let resize = Some(Resize::Shorter(short.parse().unwrap()));
                let preprocess = Preprocess { resize, crop: Some(crop), interpolation, ..Preprocess::default() };
                pixels(&preprocess.apply(&picture, [3, crop.0 as usize, crop.1 as usize]).unwrap())
            }
            _ => continue,
        };
        assert!(got == tensor.data(), "{key} differs from Pillow's");
        seen += 1;
    }
    assert_eq!(seen, 3 * 13);
}

/// The tensors that torchvision makes of the sample pictures, where they are at hand.
#[test]
fn the_sample_pictures_are_what_torchvision_makes_of_them() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = if shared.is_dir() { shared } else { Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared") };
    let Ok(bytes) = std::fs::read(shared.join("models/efficientnet_lite0.reference.safetensors")) else { return };
    let expected = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let interpolation = Resample::Bicubic;
    let preprocess = Preprocess {
        resize: Some(Resize::Shorter(256)),
        crop: Some((224, 224)),
        interpolation,
        mean: [0.5; 3],
        std: [0.5; 3],
    };
    for name in ["astronaut", "chelsea", "coffee", "rocket"] {
        let picture = picture::read(&shared.join(format!("images/{name}.png"))).unwrap();
        let got = preprocess.apply(&picture, [3, 224, 224]).unwrap();
        let tensor = expected.tensor(&format!("{name}.input")).unwrap();
        let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let largest = got.data().iter().zip(values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert_eq!(largest, 0.0, "{name}: the largest difference from torchvision's");
    }
}

/// The middle is cut out of the picture that was resized by both sides.
#[test]
fn a_squashed_picture_is_cropped() {
    let picture = picture::read(&folder().join("rgb.png")).unwrap();
    let of = |resize, crop: [usize; 2]| {
        let preprocess = Preprocess { resize: Some(resize), interpolation: Resample::Bicubic, ..Preprocess::default() };
        pixels(&preprocess.apply(&picture, [3, crop[0], crop[1]]).unwrap())
    };
    // 41 x 27 pixels wide and high are made 60 x 45
    let whole = of(Resize::Both(45, 60), [45, 60]);
    let middle: Vec<u8> = (8..8 + 30).flat_map(|y| whole[(y * 60 + 20) * 3..][..20 * 3].to_vec()).collect();
    assert_eq!(of(Resize::Both(45, 60), [30, 20]), middle);
    assert_ne!(of(Resize::Shorter(45), [30, 20]), middle);
}

#[test]
fn a_picture_of_the_inputs_size_is_left_alone() {
    let picture = Rgb::new(2, 1, vec![0, 51, 102, 153, 204, 255]);
    let interpolation = Resample::Bicubic;
    let preprocess = Preprocess { resize: Some(Resize::Shorter(256)), interpolation, ..Preprocess::default() };
    let tensor = preprocess.apply(&picture, [3, 1, 2]).unwrap();
    assert_eq!(tensor.data(), [0.0, 0.6, 0.2, 0.8, 0.4, 1.0]);
    let preprocess = Preprocess { mean: [0.2, 0.2, 0.4], std: [0.5, 0.25, 2.0], ..preprocess };
    let tensor = preprocess.apply(&picture, [3, 1, 2]).unwrap();
    let expected = [-0.4, 0.8, 0.0, 2.4, 0.0, 0.3];
    assert!(tensor.data().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{:?}", tensor.data());
}

#[test]
fn what_is_missing_is_black_and_comes_before_normalising() {
    let picture = Rgb::new(1, 1, vec![255; 3]);
    let preprocess = Preprocess { mean: [0.5; 3], std: [0.5; 3], ..Preprocess::default() };
    let tensor = preprocess.apply(&picture, [3, 2, 4]).unwrap();
    // torchvision pads (4 - 1) // 2 = 1 on the left, nothing above
    assert_eq!(tensor.data()[..8], [-1.0, 1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]);
}

#[test]
fn one_channel_gets_pils_grey() {
    let picture = Rgb::new(1, 1, vec![200, 100, 50]);
    let tensor = Preprocess::default().apply(&picture, [1, 1, 1]).unwrap();
    assert_eq!(tensor.data(), [124.0 / 255.0]);
}

#[test]
fn extreme_shapes_cost_only_what_is_kept() {
    let wide = Rgb::new(20_000, 1, [10, 20, 30].repeat(20_000));
    for (_, interpolation) in Resample::ALL {
        let preprocess = Preprocess { resize: Some(Resize::Shorter(256)), interpolation, ..Preprocess::default() };
        let tensor = preprocess.apply(&wide, [3, 224, 224]).unwrap();
        assert!(tensor.data()[..224 * 224].iter().all(|value| *value == 10.0 / 255.0), "{interpolation:?}");
        let one = Rgb::new(1, 1, vec![9; 3]);
        let tensor = preprocess.apply(&one, [3, 224, 224]).unwrap();
        assert!(tensor.data().iter().all(|value| *value == 9.0 / 255.0), "{interpolation:?}");
        let small = Preprocess { resize: Some(Resize::Shorter(1)), ..preprocess };
        assert_eq!(small.apply(&wide, [3, 1, 1]).unwrap().data(), [10.0 / 255.0, 20.0 / 255.0, 30.0 / 255.0]);
    }
}

#[test]
fn another_input_size_scales_the_resize() {
    let interpolation = Resample::Bilinear;
    let base = Preprocess {
        resize: Some(Resize::Shorter(256)),
        crop: Some((224, 224)),
        interpolation,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    assert_eq!(base.scaled((224, 224), (224, 224)), base);
    let larger = base.scaled((224, 224), (320, 480));
    assert_eq!((larger.resize, larger.crop), (Some(Resize::Shorter(366)), None));
    let squash = Preprocess { resize: Some(Resize::Both(256, 240)), ..base };
    assert_eq!(squash.scaled((224, 224), (320, 480)).resize, Some(Resize::Both(366, 514)));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let good = Preprocess { crop: Some((224, 224)), ..Preprocess::default() };
    let refused = |preprocess: &Preprocess, input| preprocess.check(input).unwrap_err().message;
    assert!(good.check([3, 224, 224]).is_ok());
    assert_eq!(refused(&good, [3, 256, 256]), "`preprocess` crops to 224 x 224, the network's input is 256 x 256");
    assert_eq!(refused(&good, [4, 224, 224]), "a picture has 1 or 3 channels, the network's input has 4");
    let zero = Preprocess { std: [1.0, 0.0, 1.0], ..good.clone() };
    assert_eq!(refused(&zero, [3, 224, 224]), "`std` must be finite and not 0, got 0");
    let none = Preprocess { resize: Some(Resize::Shorter(0)), ..good.clone() };
    assert_eq!(refused(&none, [3, 224, 224]), "`resize` must be at least 1, got 0");
    let flat = Preprocess { resize: Some(Resize::Both(224, 0)), ..good };
    assert_eq!(refused(&flat, [3, 224, 224]), "`resize` must be at least 1, got (224, 0)");
}

#[test]
fn it_is_described_in_one_line() {
    let interpolation = Resample::Bicubic;
    let preprocess = Preprocess {
        resize: Some(Resize::Shorter(256)),
        crop: Some((224, 224)),
        interpolation,
        mean: [0.5; 3],
        std: [0.229, 0.224, 0.225],
    };
    assert_eq!(
        preprocess.to_string(),
        "preprocess: RGB, shorter side to 256 (bicubic), centre crop 224 x 224, values / 255, mean 0.5, std [0.229, 0.224, 0.225]"
    );
    let squash = Preprocess { resize: Some(Resize::Both(471, 353)), crop: Some((448, 336)), ..Preprocess::default() };
    assert_eq!(
        squash.to_string(),
        "preprocess: RGB, resized to 471 x 353 (bilinear), centre crop 448 x 336, values / 255"
    );
    assert_eq!(Preprocess::default().to_string(), "preprocess: RGB, centre crop to the input's size, values / 255");
}
