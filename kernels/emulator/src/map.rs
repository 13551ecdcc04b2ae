//! Tensor maps of the emulator, under the rules of the driver's.

use archc_cuda::{Boxes, Kind, TensorMap};

const MARK: u64 = 0x70_616d;

/// The map that kernels on the emulator take.
///
/// # Errors
/// What the driver would refuse: alignment, sizes, corners.
pub fn tensor_map(boxes: &Boxes) -> Result<TensorMap, String> {
    let Boxes { at, dtype, rank, dims, strides, kind } = *boxes;
    let refuse = |what: &str| Err(format!("no such tensor map: {what} in {boxes:?}"));
    if dtype.size() != 2 || !(2..=4).contains(&rank) {
        return refuse("elements of another size, or another rank");
    }
    if !at.is_multiple_of(16) || at == 0 {
        return refuse("an address that is not on 16 bytes");
    }
    if dims[..rank].iter().any(|len| !(1..=1 << 32).contains(len)) {
        return refuse("a length");
    }
    if strides[..rank - 1].iter().any(|stride| !stride.is_multiple_of(16) || *stride >= 1 << 40) {
        return refuse("a stride that is not on 16 bytes");
    }
    let (windows, rows, steps, lower, upper) = match kind {
        Kind::Tiled(rows) => {
            if rows.iter().any(|len| !(1..=256).contains(len)) || rank > 3 {
                return refuse("a box");
            }
            (0, rows, [1; 2], [0; 2], [0; 2])
        }
        Kind::Windows { lower, upper, steps, pixels } => {
            let corners = lower.iter().chain(&upper).all(|corner| (-128..128).contains(corner));
            let steps_fit = steps.iter().all(|step| (1..=8).contains(step));
            if rank != 4 || !corners || !steps_fit || !(1..=1024).contains(&pixels) {
                return refuse("corners, pixels or steps of windows");
            }
            (1, [pixels, 1], steps, lower, upper)
        }
    };
    let pair = |[low, high]: [u32; 2]| u64::from(low) | u64::from(high) << 32;
    let signed = |pair: [i32; 2]| pair.map(i32::cast_unsigned);
    // in the order of `Map` in emu.cpp
    let mut words = [0; 16];
    words[..2].copy_from_slice(&[MARK, at]);
    words[2..6].copy_from_slice(&dims);
    words[6..9].copy_from_slice(&strides);
    words[9..14].copy_from_slice(&[[rank as u32, windows], rows, steps, signed(lower), signed(upper)].map(pair));
    Ok(TensorMap(words))
}
