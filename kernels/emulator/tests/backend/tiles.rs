//! Convolutions whose operands TMA brings, each tile of them, with maps of the driver's own.

use std::sync::Arc;

use super::{MEMORY, device, tolerance};
use crate::emulated::Emulated;
use archc::stages::exec::cuda::driver::{Driver, Memory, Packed, bound};
use archc::stages::exec::cuda::stored;
use archc::stages::exec::testing::{distance, noise};
use archc_cuda::{Conv, Dtype, TmaTile, Window, conv_row};
use archc_emu::pack_conv;

/// Images, height, width, channels in and out, window, stride, padding, dilation.
type Shape = [usize; 9];

const SMALL: [Shape; 3] =
    [[2, 9, 7, 24, 70, 3, 2, 1, 1], [1, 10, 12, 72, 64, 3, 1, 2, 2], [3, 6, 7, 136, 40, 1, 1, 0, 1]];

const LARGE: [Shape; 8] = [
    [3, 56, 56, 64, 64, 3, 1, 1, 1],
    [2, 29, 31, 128, 136, 3, 2, 1, 1],
    [5, 14, 14, 256, 260, 3, 1, 1, 1],
    [9, 7, 7, 512, 512, 3, 1, 1, 1],
    [2, 33, 20, 40, 72, 5, 3, 2, 1],
    [1, 40, 40, 64, 128, 3, 1, 4, 4],
    [7, 28, 28, 200, 512, 1, 1, 0, 1],
    [7, 28, 28, 256, 512, 1, 2, 0, 1],
];

#[test]
fn tiles_of_tma() {
    let driver: Arc<dyn Driver> = Arc::new(Emulated::new(2, MEMORY));
    check(&driver, &SMALL);
}

#[test]
fn on_the_device_tiles_of_tma() {
    let Some(driver) = device().filter(|driver| driver.facts().tma) else { return };
    check(&driver, &SMALL);
    check(&driver, &LARGE);
}

fn check(driver: &Arc<dyn Driver>, shapes: &[Shape]) {
    for (seed, shape) in shapes.iter().enumerate() {
        for dtype in [Dtype::Bf16, Dtype::F16] {
            let want = Product::new(driver, dtype, *shape, seed as u64);
            for tile in TmaTile::ALL {
                let off = want.error(driver, tile);
                assert!(off < tolerance(dtype), "{dtype:?} {tile:?} {shape:?}: off by {off:.1e}");
            }
        }
    }
}

/// A convolution on the device, and what it comes to.
struct Product {
    dtype: Dtype,
    conv: Conv,
    y: Memory,
    want: Vec<f32>,
    _operands: [Memory; 2],
}

impl Product {
    fn new(driver: &Arc<dyn Driver>, dtype: Dtype, shape: Shape, seed: u64) -> Product {
        let [n, h, w, c, k, window, stride, padding, dilation] = shape;
        let out = |len: usize| (len + 2 * padding - (window - 1) * dilation - 1) / stride + 1;
        let (oh, ow, taps) = (out(h), out(w), window * window);
        let (x, weights) = (noise(n * h * w * c, seed), noise(k * c * taps, seed + 100));
        let device = |bytes: &[u8]| {
            let memory = Memory::new(driver, bytes.len()).expect("there is room");
            driver.write(memory.at, bytes).expect("it is written");
            memory
        };
        let packed = pack_conv(dtype, 8, [k, c, taps], |k, c_at, tap| weights[(k * c + c_at) * taps + tap]);
        let operands = [device(&stored(dtype, &x)), device(&stored(dtype, &packed))];
        let y = device(&vec![0xff; n * oh * ow * k * dtype.size()]);
        let number = |number: usize| number as i32;
        let over = archc_base::Window {
            stride: [stride; 2],
            padding: [padding; 4],
            dilation: [dilation; 2],
            ..archc_base::Window::square(window)
        };
        let conv = Conv {
            x: operands[0].at,
            w: operands[1].at,
            y: y.at,
            window: Window::new(n, [h, w], [oh, ow], &over),
            c: number(c),
            k: number(k),
            groups: 1,
            x_image: number(h * w * c),
            x_row: number(w * c),
            x_pixel: number(c),
            y_image: number(oh * ow * k),
            y_row: number(ow * k),
            y_pixel: number(k),
            w_stride: number(conv_row(dtype, 8, c, taps)),
            splits: 1,
            ..Conv::default()
        };
        let mut want = Vec::with_capacity(n * oh * ow * k);
        for pixel in 0..n * oh * ow {
            let (image, i, j) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
            let mut sums = vec![0.0; k];
            for tap in 0..taps {
                let row = (i * stride + tap / window * dilation).wrapping_sub(padding);
                let col = (j * stride + tap % window * dilation).wrapping_sub(padding);
                if row >= h || col >= w {
                    continue;
                }
                let values = &x[((image * h + row) * w + col) * c..][..c];
                for (out, sum) in sums.iter_mut().enumerate() {
                    let own = |c_at: usize| weights[(out * c + c_at) * taps + tap];
                    *sum += values.iter().enumerate().map(|(c_at, x)| x * own(c_at)).sum::<f32>();
                }
            }
            want.extend(sums);
        }
        Product { dtype, conv, y, want, _operands: operands }
    }

    fn error(&self, driver: &Arc<dyn Driver>, tile: TmaTile) -> f64 {
        let tma = self.conv.tma(self.dtype, tile, driver.facts().processors).expect("a map can say it");
        let args = tma.args(|boxes| driver.tensor_map(boxes)).expect("the driver takes the map");
        let wanted = (tma.launch.variant.clone(), tma.launch.kernel, tma.launch.shared);
        let kernel = driver.kernels(&[wanted]).expect("it compiles")[0];
        driver.write(self.y.at, &vec![0xff; self.y.bytes]).expect("it is written");
        driver.launch(&bound(kernel, &tma.launch, Packed::new(&args))).expect("it starts");
        let mut staging = driver.staging(self.y.bytes).expect("there is room");
        driver.start_read(self.y.at, staging.as_mut()).expect("it is read");
        driver.wait().expect("it runs");
        let number = |pair: &[u8]| match self.dtype {
            Dtype::F16 => half::f16::from_le_bytes([pair[0], pair[1]]).to_f32(),
            _ => half::bf16::from_le_bytes([pair[0], pair[1]]).to_f32(),
        };
        let got: Vec<f32> = staging.bytes()[..self.y.bytes].chunks_exact(2).map(number).collect();
        distance(&self.want, &got)
    }
}
