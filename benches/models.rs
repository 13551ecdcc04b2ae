//! `cargo bench --bench models [-- TEXT]`: networks of the zoo with random weights at batch 1 and 8: latency, images a
//! second and GFLOP/s. Peers are raced by `peers.py`.
//!
//! Without `--bench`, as under `cargo test`, one small network runs once on one thread and once on all, with the same bits.

use std::error::Error;

use archc::compile::{self, Compiled, Outcome};
use archc::exec::Executable;
use archc::exec::cpu::Cpu;
use archc::exec::cpu::ceilings::core_to_core;
use archc::exec::timing::{Budget, sample};
use archc::source::Sources;
use archc::tensor::Tensor;

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
        let compiled = compile(name)?;
        let typed = &compiled.typed;
        let macs: u64 = typed.order().iter().map(|id| typed.macs(*id)).sum();
        for batch in [1, 8] {
            let mut executable = load(&compiled, batch)?;
            let x = image(batch);
            let taken = sample(&Budget::seconds(1.5), || executable.run(&[("image", &x)]).map(drop))
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
    let compiled = compile(name)?;
    let x = image(1);
    let mut executable = load(&compiled, 1)?;
    let mut run = || executable.run(&[("image", &x)]).map_err(|problem| problem.message);
    let all = run()?;
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?.install(run)?;
    let bits = |outputs: &[(String, Tensor)]| outputs[0].1.data().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    if bits(&all) != bits(&one) || !all[0].1.data().iter().all(|value| value.is_finite()) {
        return Err(format!("{name} gives other bits on one thread").into());
    }
    println!("{name} gives the same bits on one thread and on all");
    Ok(())
}

fn compile(name: &str) -> Result<Box<Compiled>, Box<dyn Error>> {
    let mut sources = Sources::new();
    let file = sources.add(format!("{name}.arch"), format!("base {name}\n"), None);
    match compile::compile(&mut sources, file, &[]) {
        Ok(Outcome::Spec(compiled)) => Ok(compiled),
        _ => Err(format!("{name} is in the zoo").into()),
    }
}

fn load(compiled: &Compiled, batch: usize) -> Result<Executable, Box<dyn Error>> {
    let bound = archc::bind::bind(&compiled.settings, &compiled.base, &compiled.typed, Some(0))
        .map_err(|_| "random weights cannot fail")?;
    Ok(Executable::new(&compiled.typed, &bound, &Cpu::new(), batch).map_err(|problem| problem.message)?)
}

/// A wave over the pixels, of another phase for each channel and image.
fn image(batch: usize) -> Tensor {
    let shape = [batch, 3, 224, 224];
    let value = |at: usize| ((at % 224) as f32 * 0.1 + (at / 224 % 224) as f32 * 0.07 + (at / 50_176) as f32).sin();
    Tensor::new(shape, (0..shape.iter().product()).map(value).collect())
}
