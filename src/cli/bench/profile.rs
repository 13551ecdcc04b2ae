//! `archc bench --profile`: where the time of a run goes, and how near each step comes to what the machine can do.

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::{giga, millis, percent};
use crate::diag::Problem;
use crate::exec::cpu::kernels::Isa;
use crate::exec::cpu::peaks::{Arithmetic, Ideal, Peaks, Traffic, weight_size};
use crate::exec::timing::{Budget, Samples, sample};
use crate::exec::{Executable, Peak};
use crate::graph::path;
use crate::plan::{Cost, Segment};
use crate::table::{Align, count, table};
use crate::tensor::Tensor;
use crate::typed::Typed;

/// The steps of a run with their times.
pub struct Profile {
    steps: Vec<Row>,
    batch: usize,
    segments: Vec<Segment>,
    machine: Machine,
}

/// What the steps are held against.
enum Machine {
    Cpu(Peaks),
    Device(Peak),
}

impl Machine {
    fn ideal(&self, flops: f64, arithmetic: Arithmetic, traffic: &[Traffic]) -> Ideal {
        let peak = match self {
            Machine::Cpu(peaks) => return peaks.ideal(flops, arithmetic, traffic),
            Machine::Device(peak) => peak,
        };
        let moved = traffic.iter().map(|one| one.bytes).sum::<f64>() / peak.bytes;
        let sums = flops / peak.flops;
        if sums > moved {
            Ideal { seconds: sums, bound: "arithmetic" }
        } else {
            Ideal { seconds: moved, bound: "memory" }
        }
    }

    fn text(&self) -> String {
        match self {
            Machine::Cpu(peaks) => peaks_text(peaks),
            Machine::Device(peak) => {
                let (copy, flops) = (giga(peak.bytes), giga(peak.flops));
                format!("{}: {copy} GB/s copied (measured), {flops} GFLOP/s (nominal)", peak.device)
            }
        }
    }

    fn json(&self) -> Value {
        match self {
            Machine::Cpu(peaks) => peaks_json(peaks),
            Machine::Device(peak) => json!({
                "device": peak.device,
                "copy_gbytes_per_second": peak.bytes / 1e9,
                "nominal_gflops": peak.flops / 1e9,
            }),
        }
    }
}

/// A step, or several of one kernel.
struct Row {
    layers: Vec<String>,
    kernel: String,
    seconds: f64,
    flops: f64,
    bytes: f64,
    ideal: Ideal,
}

/// Runs with a clock between the steps; each step's time is the median over all runs.
pub fn measure(
    executable: &mut Executable,
    typed: &Typed,
    inputs: &[(&str, &Tensor)],
    budget: &Budget,
    peak: Option<Peak>,
) -> Result<Profile, Problem> {
    let mut times: Vec<Vec<f64>> = vec![vec![]; executable.plan().steps().len()];
    let mut runs = 0;
    let taken = sample(budget, || {
        let (_, durations) = executable.profile(inputs)?;
        times.iter_mut().zip(durations).for_each(|(times, duration)| times.push(duration.as_secs_f64()));
        runs += 1;
        Ok::<(), Problem>(())
    })?;
    let warm = runs - taken.count();
    let element = peak.as_ref().map(|peak| peak.element as f64);
    let machine = peak.map_or_else(|| Machine::Cpu(Peaks::measure(Isa::detect())), Machine::Device);
    let plan = executable.plan();
    let costs: Vec<Cost> = (0..plan.steps().len()).map(|at| plan.cost(at, typed)).collect();
    let kernels = executable.kernels();
    let weights_of = |at: usize| costs[at].weights as f64 * element.unwrap_or(weight_size(&kernels[at]) as f64);
    // weights come round once a run, after all other weights and all values
    let all_weights: f64 = (0..kernels.len()).map(weights_of).sum();
    let round = all_weights + (plan.arena() * size_of::<f32>()) as f64;
    let row = |at: usize| {
        let (step, kernel, cost) = (&plan.steps()[at], &kernels[at], costs[at]);
        let (weights, values) = (weights_of(at), cost.values as f64);
        let reach = values / plan.slices(at) as f64;
        let traffic = [Traffic { bytes: weights, reach: round }, Traffic { bytes: values, reach }];
        Row {
            layers: step.layers.iter().map(|layer| path::display(&typed.graph().node(*layer).path)).collect(),
            kernel: kernel.clone(),
            seconds: Samples::new(times[at][warm..].to_vec()).median(),
            flops: cost.flops as f64,
            bytes: weights + values,
            ideal: machine.ideal(cost.flops as f64, Arithmetic::of(kernel), &traffic),
        }
    };
    let steps = (0..plan.steps().len()).map(row).collect();
    Ok(Profile { steps, batch: plan.batch(), segments: plan.segments().to_vec(), machine })
}

impl Profile {
    /// Steps together by kernel, the longest first. The ideal of a sum is the sum of the ideals.
    fn kernels(&self) -> Vec<(usize, Row)> {
        let mut kernels: IndexMap<&str, (usize, Row)> = IndexMap::new();
        for step in &self.steps {
            let empty = || {
                let ideal = Ideal { seconds: 0.0, bound: step.ideal.bound };
                (0, Row { layers: vec![], kernel: step.kernel.clone(), seconds: 0.0, flops: 0.0, bytes: 0.0, ideal })
            };
            let (count, sum) = kernels.entry(&step.kernel).or_insert_with(empty);
            *count += 1;
            sum.seconds += step.seconds;
            sum.flops += step.flops;
            sum.bytes += step.bytes;
            sum.ideal.seconds += step.ideal.seconds;
            if sum.ideal.bound != step.ideal.bound {
                sum.ideal.bound = "mixed";
            }
        }
        let mut kernels: Vec<(usize, Row)> = kernels.into_values().collect();
        kernels.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
        kernels
    }

    fn seconds(&self) -> f64 {
        self.steps.iter().map(|step| step.seconds).sum()
    }

    pub fn text(&self) -> String {
        let all = self.seconds();
        let (left, right) = (Align::Left, Align::Right);
        let columns = [
            ("ms", right),
            ("of all", right),
            ("GFLOP/s", right),
            ("GB/s", right),
            ("of roofline", right),
            ("bound by", left),
        ];
        let figures = |row: &Row| {
            vec![
                millis(row.seconds),
                percent(row.seconds / all),
                giga(row.flops / row.seconds),
                giga(row.bytes / row.seconds),
                percent(row.ideal.seconds / row.seconds),
                row.ideal.bound.to_string(),
            ]
        };
        let heads = [&[("step", right), ("layers", left), ("kernel", left)], &columns[..]].concat();
        let step = |(at, row): (usize, &Row)| {
            let layers = match &row.layers[..] {
                [] => String::new(),
                [one] => one.clone(),
                [first, rest @ ..] => format!("{first} + {}", rest.len()),
            };
            [vec![(at + 1).to_string(), layers, row.kernel.clone()], figures(row)].concat()
        };
        let mut text = table(&heads, &self.steps.iter().enumerate().map(step).collect::<Vec<_>>());
        let heads = [&[("kernel", left), ("steps", right)], &columns[..]].concat();
        let kernel = |(count, row): &(usize, Row)| [vec![row.kernel.clone(), count.to_string()], figures(row)].concat();
        text += "\n";
        text += &table(&heads, &self.kernels().iter().map(kernel).collect::<Vec<_>>());
        let ideal: f64 = self.steps.iter().map(|step| step.ideal.seconds).sum();
        text += &format!(
            "\n{} take {} ms, at the roofline {} ms\n",
            count(self.steps.len(), "step"),
            millis(all),
            millis(ideal)
        );
        if self.segments.iter().any(|segment| segment.slices > 1) {
            let segment = |Segment { steps, slices }: &Segment| {
                let which = if steps.len() == 1 { "step" } else { "steps" };
                let last = if steps.len() == 1 { String::new() } else { format!(" to {}", steps.end) };
                format!("{which} {}{last}: {}", steps.start + 1, self.batch / slices)
            };
            let all: Vec<String> = self.segments.iter().map(segment).collect();
            text += &format!("samples at a time: {}\n", all.join("; "));
        }
        text += &format!("peaks: {}\n", self.machine.text());
        text += "GFLOP/s counts the multiply-adds of the plain algorithm, so that Winograd may pass the roofline; GB/s what is\n\
                 read and written, weights included. A step is bound by arithmetic or by where its data lies.\n";
        text
    }

    pub fn json(&self) -> Value {
        let figures = |row: &Row| {
            json!({
                "kernel": row.kernel,
                "ms": row.seconds * 1e3,
                "gflops": row.flops / row.seconds / 1e9,
                "gbytes_per_second": row.bytes / row.seconds / 1e9,
                "share_of_roofline": row.ideal.seconds / row.seconds,
                "bound_by": row.ideal.bound,
            })
        };
        let step = |(at, row): (usize, &Row)| {
            let mut json = figures(row);
            json["step"] = json!(at + 1);
            json["layers"] = json!(row.layers);
            json
        };
        let segment = |Segment { steps, slices }: &Segment| json!({"first_step": steps.start + 1, "last_step": steps.end, "samples": self.batch / slices});
        let kernel = |(count, row): &(usize, Row)| {
            let mut json = figures(row);
            json["steps"] = json!(count);
            json
        };
        json!({
            "steps": self.steps.iter().enumerate().map(step).collect::<Vec<_>>(),
            "kernels": self.kernels().iter().map(kernel).collect::<Vec<_>>(),
            "ms": self.seconds() * 1e3,
            "segments": self.segments.iter().map(segment).collect::<Vec<_>>(),
            "peaks": self.machine.json(),
        })
    }
}

/// `1 thread: 200 GFLOP/s float32, 401 bf16, L2 ..`
pub fn peaks_text(peaks: &Peaks) -> String {
    let bf16 = peaks.bf16.map_or(String::new(), |rate| format!(", {} in bf16", giga(rate)));
    let levels: Vec<String> = peaks
        .levels
        .iter()
        .map(|level| format!("{} {} GB/s read, {} copied", level.name, giga(level.read), giga(level.copy)))
        .collect();
    format!(
        "{} on {}: {} GFLOP/s in f32{bf16}; {}",
        peaks.isa.name(),
        count(peaks.threads, "thread"),
        giga(peaks.fma),
        levels.join("; ")
    )
}

pub fn peaks_json(peaks: &Peaks) -> Value {
    let level = |level: &crate::exec::cpu::peaks::Level| {
        json!({
            "level": level.name,
            "read_gbytes_per_second": level.read / 1e9,
            "copy_gbytes_per_second": level.copy / 1e9,
        })
    };
    json!({
        "isa": peaks.isa.name(),
        "threads": peaks.threads,
        "f32_gflops": peaks.fma / 1e9,
        "bf16_gflops": peaks.bf16.map(|rate| rate / 1e9),
        "levels": peaks.levels.iter().map(level).collect::<Vec<_>>(),
    })
}
