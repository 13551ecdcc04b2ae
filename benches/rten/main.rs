//! rten as a peer of ../peers.py. `rten-peer MODEL BATCH` loads once and then obeys lines on stdin:
//!
//! - `burst SECONDS WARM_UP` runs for so long and prints milliseconds a run
//! - `output FROM TO` runs on raw floats and writes raw floats
//!
//! `rten-peer MODEL once` runs once on noise and ends. Threads: RTEN_NUM_THREADS.

use std::io::{BufRead, Write};
use std::time::Instant;

use rten::{Model, Value, ValueOrView};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensor, Tensor};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    // SAFETY: nobody changes the file meanwhile.
    let model = unsafe { Model::load_mmap(&args[1]) }.expect("the model can be loaded");
    if args[2] == "once" {
        println!("{:?}", &run(&model, &noise(1))[..4]);
        return;
    }
    let batch: usize = args[2].parse().expect("a batch size");
    let x = noise(batch);
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("text");
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["burst", seconds, warm_up] => {
                let [seconds, warm_up]: [f64; 2] = [seconds, warm_up].map(|text| text.parse().expect("seconds"));
                repeat(warm_up, 2, || drop(run(&model, &x)));
                let mut times = vec![];
                repeat(seconds, 3, || {
                    let start = Instant::now();
                    run(&model, &x);
                    times.push(start.elapsed().as_secs_f64() * 1e3);
                });
                println!("{times:?}");
            }
            ["output", from, to] => {
                let bytes = std::fs::read(from).expect("the input can be read");
                let floats = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")));
                let y = run(&model, &NdTensor::from_data([batch, 3, 224, 224], floats.collect::<Vec<f32>>()));
                let bytes: Vec<u8> = y.iter().flat_map(|v| v.to_le_bytes()).collect();
                std::fs::write(to, bytes).expect("the output can be written");
                println!("done");
            }
            _ => break,
        }
        std::io::stdout().flush().expect("somebody reads");
    }
}

fn repeat(seconds: f64, least: usize, mut once: impl FnMut()) {
    let (start, mut runs) = (Instant::now(), 0);
    while runs < least || start.elapsed().as_secs_f64() < seconds {
        once();
        runs += 1;
    }
}

fn run(model: &Model, x: &NdTensor<f32, 4>) -> Vec<f32> {
    let y: Value = model.run_one(ValueOrView::from(x.view()), None).expect("the model runs");
    let y: Tensor<f32> = y.try_into().expect("floats");
    y.to_vec()
}

fn noise(batch: usize) -> NdTensor<f32, 4> {
    let mut state = 1u32;
    let values = (0..batch * 3 * 224 * 224).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    });
    NdTensor::from_data([batch, 3, 224, 224], values.collect::<Vec<f32>>())
}
