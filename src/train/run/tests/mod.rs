//! Runs of the smallest thing that learns, cut off, resumed, and robbed of what they left.

mod damaged;
mod kept;
mod resumed;

use std::cell::Cell;
use std::path::Path;

use super::learner::{Kept, Prefix, State};
use super::prefix::{PrefixCache, Room};
use super::*;
use crate::data::augment::Augment;
use crate::data::{Targets, Want, folder};
use crate::io::preprocess::Preprocess;
use crate::tensor::Tensor;

/// Softmax regression on pixels with momentum: the smallest thing that learns. Half of the pixels are a frozen prefix.
struct Softmax {
    classes: usize,
    weights: Vec<f32>,
    momentum: Vec<f32>,
    steps: i64,
    /// Pictures whose prefix was computed.
    prefixed: Cell<usize>,
    /// The step whose loss is not finite.
    breaks: Option<i64>,
    /// How many values a sample the prefix claims to make.
    claims: usize,
}

const PIXELS: usize = 48;
const SEEN: usize = 24;

impl Softmax {
    fn new(classes: usize) -> Softmax {
        let weights = (0..SEEN * classes).map(|at| (at as f32 * 0.7).sin() * 0.1).collect();
        let momentum = vec![0.0; SEEN * classes];
        Softmax { classes, weights, momentum, steps: 0, prefixed: Cell::new(0), breaks: None, claims: SEEN }
    }

    fn logits(&self, values: &Tensor) -> Tensor {
        let rows = values.data().chunks_exact(SEEN);
        let logit =
            |row: &[f32], class: usize| (0..SEEN).map(|at| row[at] * self.weights[at * self.classes + class]).sum();
        let data: Vec<f32> =
            rows.flat_map(|row| (0..self.classes).map(|class| logit(row, class)).collect::<Vec<f32>>()).collect();
        Tensor::new([values.shape()[0], self.classes], data)
    }
}

impl Learner for Softmax {
    fn begin_epoch(&mut self, _epoch: usize) -> Result<(), Problem> {
        Ok(())
    }

    fn loss(&self, outputs: &Tensor, targets: &Targets) -> f64 {
        loss(&archc_base::Loss::CrossEntropy { smoothing: 0.0, weights: None }, outputs, targets)
    }

    fn state(&mut self) -> Result<State<'static>, Problem> {
        Ok(State::from([
            ("weight/w".into(), Kept::f32(&[SEEN, self.classes], self.weights.clone())),
            ("moment0/w".into(), Kept::f32(&[SEEN, self.classes], self.momentum.clone())),
            ("counters".into(), Kept::i64(&[1], vec![self.steps])),
        ]))
    }

    fn restore(&mut self, state: State<'_>) -> Result<(), Problem> {
        self.weights = state["weight/w"].floats().unwrap().to_vec();
        self.momentum = state["moment0/w"].floats().unwrap().to_vec();
        self.steps = state["counters"].integers().unwrap()[0];
        Ok(())
    }

    fn weights(&mut self) -> Result<State<'static>, Problem> {
        Ok(State::from([
            ("w".into(), Kept::f32(&[SEEN, self.classes], self.weights.clone())),
            ("mask".into(), Kept::f32(&[2], vec![1.0, 0.0])),
        ]))
    }

    fn frozen(&mut self) -> Vec<String> {
        vec!["mask".into()]
    }

    fn prefix(&self) -> Option<Prefix> {
        Some(Prefix { layers: vec!["mask".into()], len: 1, shapes: vec![vec![self.claims]], key: [1; 32] })
    }

    fn run_prefix(&mut self, input: &Tensor) -> Result<Vec<Tensor>, Problem> {
        self.prefixed.set(self.prefixed.get() + input.shape()[0]);
        let data = input.data().chunks_exact(PIXELS).flat_map(|row| row[..SEEN].iter().copied()).collect();
        Ok(vec![Tensor::new([input.shape()[0], SEEN], data)])
    }

    fn step_after(&mut self, values: &[Tensor], targets: &Targets) -> Result<Stepped, Problem> {
        if self.breaks == Some(self.steps) {
            return Err(Problem::new(Code::NonFinite, "the loss is NaN"));
        }
        let outputs = self.outputs_after(values)?;
        let mean = self.loss(&outputs, targets);
        let Targets::Classes(classes) = targets else { panic!("classes") };
        let mut gradient = vec![0.0; self.weights.len()];
        for ((row, output), class) in
            values[0].data().chunks_exact(SEEN).zip(outputs.data().chunks_exact(self.classes)).zip(classes)
        {
            let shares = crate::io::results::softmax(output);
            for (at, value) in row.iter().enumerate() {
                for other in 0..self.classes {
                    let wanted = f32::from(u8::from(other == *class));
                    gradient[at * self.classes + other] += value * (shares[other] - wanted) / classes.len() as f32;
                }
            }
        }
        for ((weight, momentum), gradient) in self.weights.iter_mut().zip(&mut self.momentum).zip(gradient) {
            *momentum = 0.9 * *momentum + gradient;
            *weight -= 0.5 * *momentum;
        }
        self.steps += 1;
        Ok(Stepped { loss: mean, lr: 0.5 })
    }

    fn outputs_after(&mut self, values: &[Tensor]) -> Result<Tensor, Problem> {
        Ok(self.logits(&values[0]))
    }
}

impl Watcher {
    fn after(steps: usize) -> Watcher {
        Watcher { left: Some(steps), ..Watcher::default() }
    }

    fn text(&self) -> String {
        self.said.join("\n")
    }
}

/// Stops after so many steps; remembers what was said.
#[derive(Default)]
struct Watcher {
    left: Option<usize>,
    said: Vec<String>,
}

impl Watch for Watcher {
    fn step(&mut self, _stepped: Stepped) {
        self.left = self.left.map(|left| left.saturating_sub(1));
    }
    fn note(&mut self, text: &str) {
        self.said.push(text.into());
    }
    fn warn(&mut self, found: &Diagnostics) {
        for one in found.iter() {
            self.said.push(format!("warning: {}\n{}", one.problem.message, one.problem.notes.join("\n")));
        }
    }
    fn stops(&self) -> bool {
        self.left == Some(0)
    }
}

/// Two classes of noise on a colour each.
fn pictures(dir: &Path) {
    let mut draws = crate::data::Draws::named(9, "pictures");
    for (class, count) in [("dark", 17), ("light", 14)] {
        std::fs::create_dir_all(dir.join(class)).unwrap();
        for at in 0..count {
            let base = if class == "dark" { 60 } else { 140 };
            let bytes: Vec<u8> = (0..PIXELS).map(|_| (base + draws.below(60)) as u8).collect();
            let path = dir.join(class).join(format!("{at:02}.png"));
            std::fs::write(path, crate::io::png::encode(&bytes, 4, 4, 3).unwrap()).unwrap();
        }
    }
}

fn job(dir: &Path, augments: Vec<Augment>) -> Job {
    let data = folder(dir, 0.2, 0).unwrap();
    let recipe = Recipe {
        preprocess: Some(Preprocess { mean: [0.5; 3], std: [0.2; 3], ..Preprocess::default() }),
        input: [3, 4, 4],
        augments,
        want: Want::Classes,
        classes: 2,
        seed: 0,
        skip_corrupt: false,
    };
    Job::new(data, recipe, Order { seed: 0, shuffle: true }, 4, 3)
}

/// What a run leaves that must not depend on where it was cut off.
fn left(folder: &Path) -> Vec<Vec<u8>> {
    ["model.safetensors", "metrics.jsonl", "checkpoint.best"]
        .map(|name| std::fs::read(folder.join(name)).unwrap())
        .into()
}

fn finish(job: &Job, learner: &mut Softmax, folder: &RunFolder, watch: &mut Watcher) -> Ended {
    let ended = run(job, learner, folder, watch).unwrap();
    if matches!(ended, Ended::Done { .. }) {
        write(folder, learner, job).unwrap();
    }
    ended
}

#[test]
fn a_run_that_was_cut_off_leaves_the_bits_of_an_unbroken_one() {
    let dir = tempfile::tempdir().unwrap();
    pictures(&dir.path().join("data"));
    let job =
        job(&dir.path().join("data"), vec![Augment::HorizontalFlip { p: 0.5 }, Augment::RandomCrop { padding: 1 }]);
    let whole = RunFolder::create(&dir.path().join("whole")).unwrap();
    finish(&job, &mut Softmax::new(2), &whole, &mut Watcher::default());
    let lines = metrics::read(&whole.metrics()).unwrap();
    assert_eq!(lines.iter().filter(|line| line.step.is_some()).count(), 3 * job.steps());
    assert!(lines.last().unwrap().val_accuracy.unwrap() > 0.5);
    for stride in 1..=8 {
        let path = dir.path().join(format!("cut{stride}"));
        let mut folder = RunFolder::create(&path).unwrap();
        loop {
            // a process of its own each time: nothing but the folder goes on
            let mut watch = Watcher { left: Some(stride), ..Watcher::default() };
            if finish(&job, &mut Softmax::new(2), &folder, &mut watch) != Ended::Stopped {
                break;
            }
            // what was written after the checkpoint, by a process that was killed there, does not count
            use std::io::Write;
            std::fs::File::options().append(true).open(folder.metrics()).unwrap().write_all(b"{\"step\":9").unwrap();
            drop(folder);
            folder = RunFolder::resume(&path).unwrap();
        }
        assert_eq!(left(&path), left(whole.path()), "cut off every {stride} steps");
    }
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    pictures(&dir.path().join("data"));
    let job = job(&dir.path().join("data"), vec![]);
    let folder = RunFolder::create(&dir.path().join("out")).unwrap();
    let mut learner = Softmax { breaks: Some(10), ..Softmax::new(2) };
    let problem = run(&job, &mut learner, &folder, &mut Watcher::default()).unwrap_err();
    assert_eq!(problem.code, Code::NonFinite);
    assert!(problem.notes[0].contains("the checkpoint after step 7 is kept"), "{:?}", problem.notes);
    // going on would take the very same steps
    assert!(problem.hints.iter().any(|hint| hint.contains("begin a new run in another folder")), "{:?}", problem.hints);
    assert!(!problem.hints.iter().any(|hint| hint.contains("go on from there")), "{:?}", problem.hints);
    assert_eq!(Checkpoint::open(&folder.checkpoint()).unwrap().position.step, 7);
    // weights that are not finite never become a checkpoint
    learner.weights[3] = f32::NAN;
    let problem = checkpoint::save(&folder.checkpoint(), &mut learner, &Position::default(), &Fingerprint::default())
        .unwrap_err();
    assert!(problem.message.contains("`weight/w` is not finite"), "{}", problem.message);
    assert_eq!(Checkpoint::open(&folder.checkpoint()).unwrap().position.step, 7);
}

#[test]
fn patience_ends_a_run_and_the_best_epoch_is_written() {
    let dir = tempfile::tempdir().unwrap();
    pictures(&dir.path().join("data"));
    let job = Job { patience: Some(2), epochs: 40, ..job(&dir.path().join("data"), vec![]) };
    let folder = RunFolder::create(&dir.path().join("out")).unwrap();
    let mut learner = Softmax::new(2);
    // a rate of 0.5 with this momentum learns two colours at once, and then gets no better for long
    let Ended::Done { best: Some(best), early } = finish(&job, &mut learner, &folder, &mut Watcher::default()) else {
        panic!("the run is done")
    };
    let lines = metrics::read(&folder.metrics()).unwrap();
    let epochs = lines.iter().filter(|line| line.step.is_none()).count();
    if early {
        assert_eq!(epochs, best.epoch + 2);
    } else {
        assert_eq!(epochs, 40);
    }
    let state = learner.state().unwrap();
    let mut kept = Softmax::new(2);
    Checkpoint::open(&folder.best()).unwrap().restore(&mut kept).unwrap();
    if best.epoch != epochs {
        assert_eq!(state, kept.state().unwrap());
    }
}

#[test]
fn a_folder_is_one_process_and_one_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    assert!(RunFolder::resume(&path).is_err_and(|problem| problem.message.contains("there is no run")));
    let folder = RunFolder::create(&path).unwrap();
    let said = |result: Result<RunFolder, Problem>| result.err().map(|problem| problem.message).unwrap_or_default();
    assert!(said(RunFolder::resume(&path)).contains("another process is at work"));
    drop(folder);
    // a run that never began leaves nothing in the way
    drop(RunFolder::create(&path).unwrap());
    std::fs::write(path.join("metrics.jsonl"), "").unwrap();
    assert!(said(RunFolder::create(&path)).contains("is there already"));
    RunFolder::resume(&path).unwrap();
    // a lock alone makes no run's folder of one that holds somebody's files
    std::fs::write(path.join("notes.txt"), "").unwrap();
    assert!(said(RunFolder::resume(&path)).contains("is not the folder of a run"));
    std::fs::write(path.join("checkpoint"), "").unwrap();
    RunFolder::resume(&path).unwrap();
    // a copy comes without its lock
    std::fs::remove_file(path.join(".lock")).unwrap();
    RunFolder::resume(&path).unwrap();
    for name in ["metrics.jsonl", "checkpoint", ".lock"] {
        std::fs::remove_file(path.join(name)).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path.join(name)).status().unwrap().success());
        assert!(said(RunFolder::resume(&path)).contains(&format!("{name}` is no plain file")));
        std::fs::remove_file(path.join(name)).unwrap();
        std::fs::write(path.join(name), "").unwrap();
    }
    std::fs::write(path.join("prefix"), "").unwrap();
    assert!(said(RunFolder::resume(&path)).contains("prefix` is no folder"));
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert!(said(RunFolder::create(&dir.path().join("file"))).contains("is a file"));
    std::fs::create_dir(dir.path().join("other")).unwrap();
    std::fs::write(dir.path().join("other/photo.png"), "").unwrap();
    assert!(said(RunFolder::resume(&dir.path().join("other"))).contains("is not the folder of a run"));
}

#[test]
fn a_runs_folder_lies_apart_from_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("data/train")).unwrap();
    std::fs::create_dir_all(at("runs/one")).unwrap();
    let check =
        |own: &str, data: &str| RunFolder::check_apart(&at(own), &at(data)).err().map(|problem| problem.message);
    for (own, wanted) in [
        ("data", "is the data folder"),
        ("data/", "is the data folder"),
        ("data/new/run", "lies in the data folder"),
        ("runs/../data/train/x", "lies in the data folder"),
        ("nowhere/../data/x", "lies in the data folder"),
        (".", "the data folder"),
    ] {
        assert!(check(own, "data").is_some_and(|said| said.contains(wanted)), "{own}: {:?}", check(own, "data"));
    }
    for own in ["database", "runs", "data/../runs/two"] {
        assert_eq!(check(own, "data"), None, "{own}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("data", at("link")).unwrap();
        assert!(check("link/run", "data").is_some());
        assert!(check("data/run", "link").is_some());
        assert_eq!(check("runs/run", "link"), None);
    }
}
