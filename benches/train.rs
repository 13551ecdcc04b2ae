//! Training steps of a spec, for the comparisons of `tests/reference/train.py` and the races of `benches/train_peers.py`.
//!
//!     cargo bench --bench train -- SPEC.arch BATCHES.safetensors BATCH [--steps N] [--out WEIGHTS.safetensors]
//!         [--profile] [--serve] [--cached] [--device cuda [--dtype bf16|f32|tf32] [--device-times N]]
//!
//! BATCHES is `noise`, or holds `image` [n, C, H, W] and, unless the target is the image, `label` [n]; steps take them in turn, as a run of
//! `archc train` does: a frozen prefix, then what learns. Prints a line a step: its loss and milliseconds. `--cached` takes
//! what the prefix makes of the batches as known, as it is from a run's second epoch on. `--serve` runs as many steps as each
//! line of the standard input says. `--out` writes every tensor. `--device-times` prints the time of
//! as many steps by the GPU's own clock, without what goes in and out, as JSON. Without arguments, as under `cargo test`, nothing is done.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use archc::stages::data::Targets;
use archc::stages::diag::Problem;
use archc::stages::exec::device::Precision;
use archc::stages::train::run::learner::Learner;
use archc::stages::train::run::network::{NetworkLearner, Pace};
use archc::stages::train::stage::stages;
use archc::stages::train::{self, Config};
use archc::stages::weights::{Data, TensorOut, write_safetensors};
use archc::{DType, Device, Options, Spec, Tensor};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let [spec, batches, batch] = match &args[..] {
        [spec, batches, batch, ..] if spec.ends_with(".arch") => [spec, batches, batch],
        _ => return Ok(()),
    };
    let batch: usize = batch.parse()?;
    let model = Spec::open(spec)?.compile()?;
    let compiled = model.compiled();
    let block = compiled.train.as_ref().ok_or("the spec has no `train` block")?;
    let (bound, _) = model.bind(&Options::default())?;
    let config = Config::new(block, None);
    let of_image = config.target_is_image;
    let fail = |problem: Problem| format!("{} {:?}", problem.message, problem.notes);

    let dtype = value("--dtype").map_or("f32", String::as_str);
    let precision = match dtype {
        "tf32" => Precision { tf32: true, ..Precision::default() },
        "bf16" => Precision { dtype: DType::Bf16, ..Precision::default() },
        "f32" => Precision::default(),
        _ => return Err("no such dtype".into()),
    };
    let device: Device = value("--device").map_or("cpu", String::as_str).parse()?;
    let device = device.learns(precision).map_err(fail)?;
    let (name, input) = compiled.typed.graph().inputs().first().ok_or("no input")?;
    let dims = compiled.typed.shape(*input).concrete(batch);
    let each = dims[1..].iter().product::<usize>();
    let (pixels, labels): (Vec<f32>, Vec<f32>) = match batches.as_str() {
        "noise" => {
            let uniform = |at: usize| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 23) as f32 - 1.0;
            ((0..batch * each).map(uniform).collect(), (0..batch).map(|at| (at % 10) as f32).collect())
        }
        path => {
            let bytes = std::fs::read(path)?;
            let file = safetensors::SafeTensors::deserialize(&bytes)?;
            let numbers = |name: &str| -> Result<Vec<f32>, Box<dyn Error>> {
                let data = file.tensor(name)?;
                Ok(data.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
            };
            (numbers("image")?, if of_image { vec![] } else { numbers("label")? })
        }
    };
    let count = pixels.len() / each / batch;
    let given = |at: usize| {
        let at = at % count;
        let image = Tensor::new(dims.clone(), pixels[at * batch * each..(at + 1) * batch * each].to_vec());
        let classes = labels.iter().skip(at * batch).take(batch).map(|label| *label as usize).collect();
        let targets = if of_image { Targets::Values(image.clone()) } else { Targets::Classes(classes) };
        (image, targets)
    };
    if flag("--profile") || value("--device-times").is_some() {
        let lr = config.optimizer.lr();
        let mut trainer = train::Trainer::new(&compiled.typed, &bound, device, config, batch).map_err(fail)?;
        let (image, targets) = given(0);
        let targets = match &targets {
            Targets::Classes(classes) => train::Targets::Classes(classes),
            _ => train::Targets::Image,
        };
        if let Some(wanted) = value("--device-times") {
            (0..2).try_for_each(|_| trainer.step(&[(name, &image)], targets, lr).map(drop)).map_err(fail)?;
            let times = trainer.device_times(lr, wanted.parse()?).ok_or("the CPU keeps no time of its own")?;
            let mut times: Vec<f64> = times.map_err(fail)?.iter().map(|time| time.as_secs_f64() * 1e3).collect();
            times.sort_by(f64::total_cmp);
            let (low, median) = (times[0], times[times.len() / 2]);
            println!("{{\"dtype\": \"{dtype}\", \"batch\": {batch}, \"min\": {low:.4}, \"median\": {median:.4}}}");
            return Ok(());
        }
        trainer.profile(&[(name, &image)], targets).map_err(fail)?;
        let times = trainer.profile(&[(name, &image)], targets).map_err(fail)?;
        let mut all = 0.0;
        for (step, time) in trainer.plan().steps().iter().zip(&times) {
            all += time.as_secs_f64() * 1e3;
            println!("{:8.3} ms  {}", time.as_secs_f64() * 1e3, trainer.plan().describe(step, &compiled.typed));
        }
        println!("{all:8.3} ms in {} steps, {:.1} MiB", times.len(), trainer.plan().arena() as f64 / 262_144.0);
        return Ok(());
    }
    let pace = Pace { schedule: block.schedule.value, lr: config.optimizer.lr(), steps_per_epoch: 1 << 20, epochs: 1 };
    let stages = stages(&compiled.typed, block);
    let mut learner = NetworkLearner::new(&stages, &bound, device, config, batch, pace).map_err(fail)?;
    let known: Vec<Vec<Tensor>> = match flag("--cached") {
        true => (0..count).map(|at| learner.run_prefix(&given(at).0)).collect::<Result<_, _>>().map_err(fail)?,
        false => vec![],
    };
    let step = |learner: &mut NetworkLearner, at: usize| -> Result<(f64, f64), Box<dyn Error>> {
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
