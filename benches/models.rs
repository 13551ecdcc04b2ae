//! `cargo bench --bench models [-- TEXT]`: networks of the zoo with random weights at batch 1 and 8: latency, images a
//! second and GFLOP/s. Peers are raced by `peers.py`.
//!
//! Without `--bench`, as under `cargo test`, one small network runs once on one thread and once on all, with the same bits.

use std::error::Error;

use archc::stages::exec::cpu::peaks::core_to_core;
use archc::stages::exec::timing::{Budget, sample};
use archc::{Device, Model, Options, Outputs, Session, Spec, Tensor};

const NETWORKS: [&str; 6] = ["resnet18", "resnet50", "vgg16", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0"];

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        return check("squeezenet1_1");
    }
    let filter = args.iter().find(|arg| !arg.starts_with('-')).map_or("", String::as_str);
    let cores = core_to_core().map_or("a single core".into(), |ns| format!("{ns:.0} ns from core to core"));
    println!("{} threads, {cores}", rayon::current_num_threads());
    for name in NETWORKS.into_iter().filter(|name| name.contains(filter)) {
        let model = compile(name)?;
        let typed = &model.compiled().typed;
        let macs: u64 = typed.order().iter().map(|id| typed.macs(*id)).sum();
        for batch in [1, 8] {
            let mut session = load(&model, batch)?;
            let x = image(batch);
            let taken = sample(&Budget::seconds(1.5), || session.executable().run(&[("image", &x)]).map(drop))
                .map_err(|problem| problem.message)?;
            println!(
                "{name:<20} batch {batch} {:>9.2} ms {:>8.1} images/s {:>7.1} GFLOP/s",
                taken.median() * 1e3,
                batch as f64 / taken.median(),
                2.0 * macs as f64 * batch as f64 / taken.median() / 1e9
            );
        }
    }
    Ok(())
}

fn check(name: &str) -> Result<(), Box<dyn Error>> {
    let x = image(1);
    let mut session = load(&compile(name)?, 1)?;
    let all = session.run(&x)?;
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?.install(|| session.run(&x))?;
    let bits = |outputs: Outputs| outputs.into_one().data().iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let (all, one) = (bits(all), bits(one));
    if all != one || !all.iter().all(|bits| f32::from_bits(*bits).is_finite()) {
        return Err(format!("{name} gives other bits on one thread").into());
    }
    println!("{name} gives the same bits on one thread and on all");
    Ok(())
}

fn compile(name: &str) -> Result<Model, archc::Error> {
    Spec::from_text(format!("base {name}\n")).compile()
}

fn load(model: &Model, batch: usize) -> Result<Session, archc::Error> {
    model.load(Device::Cpu, Options { batch: Some(batch), ..Options::default() })
}

/// A wave over the pixels, of another phase for each channel and image.
fn image(batch: usize) -> Tensor {
    let shape = [batch, 3, 224, 224];
    let value = |at: usize| ((at % 224) as f32 * 0.1 + (at / 224 % 224) as f32 * 0.07 + (at / 50_176) as f32).sin();
    Tensor::new(shape, (0..shape.iter().product()).map(value).collect())
}
