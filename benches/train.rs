//! Training steps of a spec, for the comparisons of `tests/reference/train.py` and the races of `benches/train_peers.py`.
//!
//!     cargo bench --bench train -- SPEC.arch BATCHES.safetensors BATCH [--steps N] [--out WEIGHTS.safetensors]
//!         [--profile] [--serve] [--cached]
//!
//! BATCHES holds `image` [n, C, H, W] and, unless the target is the image, `label` [n]; steps take them in turn, as a run of
//! `archc train` does: a frozen prefix, then what learns. Prints a line a step: its loss and milliseconds. `--cached` takes
//! what the prefix makes of the batches as known, as it is from a run's second epoch on. `--serve` runs as many steps as each
//! line of the standard input says. `--out` writes every tensor. Without arguments, as under `cargo test`, nothing is done.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use archc::bind::bind;
use archc::compile::{Outcome, compile, open};
use archc::data::Targets;
use archc::exec::cpu::Cpu;
use archc::source::Sources;
use archc::tensor::Tensor;
use archc::train::run::learner::Learner;
use archc::train::run::network::{NetworkLearner, Pace};
use archc::train::stage::stages;
use archc::train::{Config, Schedule, Trainer};
use archc::weights::{Data, TensorOut, write_safetensors};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let [spec, batches, batch] = match &args[..] {
        [spec, batches, batch, ..] if spec.ends_with(".arch") => [spec, batches, batch],
        _ => return Ok(()),
    };
    let batch: usize = batch.parse()?;
    let mut sources = Sources::new();
    let file = open(&mut sources, Path::new(spec)).map_err(|problem| problem.message)?;
    let Ok(Outcome::Spec(compiled)) = compile(&mut sources, file, &[]) else { return Err("the spec is wrong".into()) };
    let block = compiled.train.as_ref().ok_or("the spec has no `train` block")?;
    let bound = bind(&compiled.settings, &compiled.base, &compiled.typed, None).map_err(|_| "weights do not fit")?;
    let config = Config::new(block, None);
    let of_image = config.target_is_image;
    let fail = |problem: archc::diag::Problem| format!("{} {:?}", problem.message, problem.notes);

    let bytes = std::fs::read(batches)?;
    let file = safetensors::SafeTensors::deserialize(&bytes)?;
    let images = file.tensor("image")?;
    let numbers = |name: &str| -> Result<Vec<f32>, Box<dyn Error>> {
        let data = file.tensor(name)?;
        Ok(data.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    };
    let (pixels, each) = (numbers("image")?, images.shape()[1..].iter().product::<usize>());
    let labels = if of_image { vec![] } else { numbers("label")? };
    let count = images.shape()[0] / batch;
    let name = compiled.typed.graph().inputs().keys().next().ok_or("no input")?.clone();
    let mut dims = images.shape().to_vec();
    dims[0] = batch;
    let given = |at: usize| {
        let at = at % count;
        let image = Tensor::new(dims.clone(), pixels[at * batch * each..(at + 1) * batch * each].to_vec());
        let classes = labels.iter().skip(at * batch).take(batch).map(|label| *label as usize).collect();
        let targets = if of_image { Targets::Values(image.clone()) } else { Targets::Classes(classes) };
        (image, targets)
    };
    if flag("--profile") {
        let mut trainer = Trainer::new(&compiled.typed, &bound, Arc::new(Cpu::new()), config, batch).map_err(fail)?;
        let (image, targets) = given(0);
        let targets = match &targets {
            Targets::Classes(classes) => archc::train::Targets::Classes(classes),
            _ => archc::train::Targets::Image,
        };
        trainer.profile(&[(&name, &image)], targets).map_err(fail)?;
        let times = trainer.profile(&[(&name, &image)], targets).map_err(fail)?;
        let mut all = 0.0;
        for (step, time) in trainer.plan().steps().iter().zip(&times) {
            all += time.as_secs_f64() * 1e3;
            println!("{:8.3} ms  {}", time.as_secs_f64() * 1e3, trainer.plan().describe(step, &compiled.typed));
        }
        println!("{all:8.3} ms in {} steps, {:.1} MiB", times.len(), trainer.plan().arena() as f64 / 262_144.0);
        return Ok(());
    }
    let pace = Pace { schedule: Schedule::new(block), lr: config.optimizer.lr, steps_per_epoch: 1 << 20, epochs: 1 };
    let stages = stages(&compiled.typed, block);
    let mut learner = NetworkLearner::new(&stages, &bound, Arc::new(Cpu::new()), config, batch, pace).map_err(fail)?;
    let known: Vec<Vec<Tensor>> = match flag("--cached") {
        true => (0..count).map(|at| learner.run_prefix(&given(at).0)).collect::<Result<_, _>>().map_err(fail)?,
        false => vec![],
    };
    let mut step = |learner: &mut NetworkLearner, at: usize| -> Result<(f64, f64), Box<dyn Error>> {
        let (image, targets) = given(at);
        let start = Instant::now();
        let stepped = match known.get(at % count) {
            Some(values) => learner.step_after(values, &targets),
            None => learner.step(&image, &targets),
        };
        Ok((stepped.map_err(fail)?.loss, start.elapsed().as_secs_f64() * 1e3))
    };
    if flag("--serve") {
        let mut done = 0;
        for line in std::io::stdin().lines() {
            let wanted: usize = line?.trim().parse()?;
            let times: Vec<String> = (done..done + wanted)
                .map(|at| Ok(format!("{:.3}", step(&mut learner, at)?.1)))
                .collect::<Result<_, Box<dyn Error>>>()?;
            done += wanted;
            println!("{}", times.join(" "));
        }
        return Ok(());
    }
    let steps: usize = value("--steps").map_or(Ok(1), |steps| steps.parse())?;
    for at in 0..steps {
        let (loss, time) = step(&mut learner, at)?;
        println!("{at} {loss:.9} {time:.2}");
    }
    if let Some(out) = value("--out") {
        let weights = learner.weights().map_err(fail)?;
        let floats = weights.iter().filter_map(|(key, kept)| Some((key, &kept.shape, kept.floats()?)));
        let all: Vec<TensorOut> =
            floats.map(|(key, shape, data)| TensorOut { key, shape, data: Data::F32(data) }).collect();
        write_safetensors(Path::new(out), &all, &Default::default()).map_err(fail)?;
    }
    Ok(())
}
