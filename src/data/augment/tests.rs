use archc_base::Resample;

use super::super::Draws;
use super::{Augment, augmented, colour, geometry, policy};
use crate::io::picture::Rgb;
use crate::io::preprocess::{Preprocess, Resize};

/// tests/reference/augment.py
fn reference() -> serde_json::Map<String, serde_json::Value> {
    serde_json::from_str(include_str!("../../../tests/reference/augment.json")).unwrap()
}

fn bytes(value: &serde_json::Value) -> Vec<u8> {
    value.as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8).collect()
}

fn noise(width: usize, height: usize) -> Rgb {
    let mut draws = Draws::named(3, "noise");
    Rgb::new(width, height, (0..width * height * 3).map(|_| draws.word() as u8).collect())
}

#[test]
fn pixels_are_pillows() {
    let reference = reference();
    let picture = Rgb::new(13, 9, bytes(&reference["picture"]));
    for (name, wanted) in reference.iter().skip(1) {
        let (op, amount) = name.split_once(' ').unwrap_or((name, "0"));
        let amount: f64 = amount.parse().unwrap();
        let made = match op {
            "brightness" => colour::brightness(&picture, amount),
            "contrast" => colour::contrast(&picture, amount),
            "saturation" => colour::saturation(&picture, amount),
            "sharpness" => colour::sharpness(&picture, amount),
            "hue" => colour::turn_hue(&picture, amount),
            "posterize" => colour::posterize(&picture, amount as u32),
            "solarize" => colour::solarize(&picture, amount),
            "autocontrast" => colour::autocontrast(&picture),
            "equalize" => colour::equalize(&picture),
            "rotate" => geometry::rotate(&picture, amount),
            "shear_x" => geometry::affine(&picture, [1.0, amount, 0.0, 0.0, 1.0, 0.0]),
            "shear_y" => geometry::affine(&picture, [1.0, 0.0, 0.0, amount, 1.0, 0.0]),
            "translate_x" => geometry::affine(&picture, [1.0, 0.0, -amount, 0.0, 1.0, 0.0]),
            "translate_y" => geometry::affine(&picture, [1.0, 0.0, 0.0, 0.0, 1.0, -amount]),
            "mirror" => geometry::mirror(&picture),
            "turn_over" => geometry::turn_over(&picture),
            other => panic!("{other}"),
        };
        let wanted = bytes(wanted);
        let other: Vec<usize> = (0..wanted.len()).filter(|at| made.data()[*at] != wanted[*at]).collect();
        let worst = other.iter().map(|at| made.data()[*at].abs_diff(wanted[*at])).max().unwrap_or(0);
        assert!(other.is_empty(), "{name}: {} of {} bytes differ, by up to {worst}", other.len(), wanted.len());
    }
}

#[test]
fn the_same_draws_make_the_same_sample() {
    let picture = noise(40, 30);
    let augments = [
        Augment::RandomResizedCrop { scale: (0.08, 1.0), ratio: (0.75, 4.0 / 3.0) },
        Augment::HorizontalFlip { p: 0.5 },
        Augment::VerticalFlip { p: 0.5 },
        Augment::Rotation { degrees: 20.0 },
        Augment::ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
        Augment::RandomCrop { padding: 4 },
        Augment::RandAugment { ops: 2, magnitude: 9 },
        Augment::RandomErasing { p: 0.5 },
    ];
    let made = |name: &str| {
        let preprocess = Preprocess::default();
        augmented(&picture, &preprocess, [3, 24, 16], &augments, &mut Draws::named(1, name)).unwrap()
    };
    assert_eq!(made("a").len(), 3 * 24 * 16);
    assert_eq!(made("a"), made("a"));
    assert_ne!(made("a"), made("b"));
}

#[test]
fn every_change_keeps_the_size_and_reaches_both_ends_of_its_range() {
    let picture = noise(17, 11);
    let mut draws = Draws::named(0, "sizes");
    for op in 0..200 {
        let cropped =
            geometry::resized_crop(&picture, (8, 8), (0.08, 1.0), (0.75, 1.33), Resample::Bilinear, &mut draws);
        assert_eq!((cropped.height(), cropped.width()), (8, 8));
        let padded = geometry::padded_crop(&picture, (11, 17), op % 30, &mut draws);
        assert_eq!((padded.height(), padded.width()), (11, 17));
        let changed = policy::rand_augment(picture.clone(), 3, op % 31, &mut draws);
        assert_eq!((changed.height(), changed.width()), (11, 17));
    }
    // what fits no ratio is cut in the middle, a picture of one pixel stays one
    let thin = geometry::resized_crop(&noise(90, 1), (4, 4), (1.0, 1.0), (0.9, 1.1), Resample::Bilinear, &mut draws);
    assert_eq!((thin.height(), thin.width()), (4, 4));
    let one = geometry::resized_crop(&noise(1, 1), (2, 2), (0.0, 0.0), (0.0, 0.0), Resample::Bilinear, &mut draws);
    assert_eq!(one.data(), noise(1, 1).data().repeat(4));
}

#[test]
fn chances_and_ranges_are_kept() {
    let picture = noise(16, 16);
    let mut draws = Draws::named(5, "chances");
    let flips = (0..2000).filter(|_| {
        let flipped =
            Augment::HorizontalFlip { p: 0.3 }.apply(picture.clone(), (16, 16), Resample::Bilinear, &mut draws);
        flipped != picture
    });
    assert!((500..700).contains(&flips.count()));
    let mut erased = vec![];
    for _ in 0..500 {
        let mut values = vec![1.0; 3 * 16 * 16];
        geometry::erase(&mut values, [3, 16, 16], 1.0, &mut draws);
        let cleared = values.iter().filter(|value| **value == 0.0).count();
        assert_eq!(cleared % 3, 0);
        erased.push(cleared as f64 / values.len() as f64);
    }
    assert!(erased.iter().all(|share| *share < 0.4) && erased.iter().any(|share| *share > 0.25));
}

#[test]
fn without_changes_a_sample_is_what_evaluation_sees() {
    let picture = noise(50, 20);
    let preprocess = Preprocess { resize: Some(Resize::Shorter(18)), ..Preprocess::default() };
    for input in [[3, 16, 16], [1, 16, 20], [3, 40, 60]] {
        let seen = preprocess.apply(&picture, input).unwrap();
        let made = augmented(&picture, &preprocess, input, &[], &mut Draws::named(0, "")).unwrap();
        assert_eq!(seen.data(), made);
        let back = preprocess.picture(&made, input);
        assert_eq!(
            back.data(),
            preprocess.sized(&crate::io::preprocess::in_channels(&picture, input[0]), input[1], input[2]).data()
        );
    }
}

#[test]
fn beta_is_symmetric_and_as_wide_as_it_should_be() {
    let mut draws = Draws::named(0, "beta");
    for (alpha, variance) in [(0.2f64, 0.1786), (1.0, 0.0833), (4.0, 0.0278)] {
        let values: Vec<f64> = (0..20_000).map(|_| draws.beta(alpha)).collect();
        assert!(values.iter().all(|value| (0.0..=1.0).contains(value)));
        let mean = values.iter().sum::<f64>() / 20_000.0;
        let spread = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{alpha}: {mean}");
        assert!((spread - variance).abs() < 0.005, "{alpha}: {spread}");
    }
}
