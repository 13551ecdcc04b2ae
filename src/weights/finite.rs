//! Looks for numbers that are none.

use rayon::prelude::*;

/// How many of `values` are NaN or infinite; None where all are finite.
pub fn non_finite(values: &[f32]) -> Option<usize> {
    const EXPONENT: u32 = 0x7f80_0000;
    // No early end and no branch, so that it runs as fast as memory is read.
    let count = |values: &[f32]| -> usize {
        values.iter().map(|value| u32::from(value.to_bits() & EXPONENT == EXPONENT)).sum::<u32>() as usize
    };
    match values.par_chunks(1 << 16).map(count).sum() {
        0 => None,
        found => Some(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_non_number_is_counted() {
        assert_eq!(non_finite(&[]), None);
        assert_eq!(non_finite(&[0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45]), None);
        let quiet = f32::from_bits(0xffc0_0001);
        assert_eq!(non_finite(&[f32::NAN, 1.0, f32::INFINITY, f32::NEG_INFINITY, quiet]), Some(4));
        let mut many = vec![1.0; 1_000_003];
        many[1_000_002] = f32::NAN;
        many[500_000] = f32::INFINITY;
        assert_eq!(non_finite(&many), Some(2));
    }
}
