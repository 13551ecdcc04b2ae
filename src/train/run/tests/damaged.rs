//! Runs whose folders have lost something, or hold something damaged.

use super::*;

/// A run that was cut off in its third epoch, with an augmentation.
fn cut(dir: &Path) -> (Job, RunFolder) {
    pictures(&dir.join("data"));
    let job = job(&dir.join("data"), vec![Augment::HorizontalFlip { p: 0.5 }]);
    let folder = RunFolder::create(&dir.join("out")).unwrap();
    run(&job, &mut Softmax::new(2), &folder, &mut Watcher::after(2 * job.steps() + 2)).unwrap();
    (job, folder)
}

fn unbroken(job: &Job, dir: &Path) -> Vec<Vec<u8>> {
    let folder = RunFolder::create(&dir.join("unbroken")).unwrap();
    finish(job, &mut Softmax::new(2), &folder, &mut Watcher::default());
    left(folder.path())
}

fn refused(job: &Job, folder: &RunFolder) -> Problem {
    run(job, &mut Softmax::new(2), folder, &mut Watcher::default()).unwrap_err()
}

#[test]
fn a_flipped_bit_anywhere_in_a_checkpoint_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (_, folder) = cut(dir.path());
    let bytes = std::fs::read(folder.checkpoint()).unwrap();
    let path = dir.path().join("flipped");
    Checkpoint::open(&folder.checkpoint()).unwrap();
    let flips = (0..bytes.len()).map(|at| (at, at % 8)).chain((bytes.len() - 8..bytes.len()).map(|at| (at, 7)));
    for (at, bit) in flips {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        std::fs::write(&path, &flipped).unwrap();
        let problem = Checkpoint::open(&path).err().unwrap_or_else(|| panic!("bit {bit} of byte {at} passes"));
        assert!(problem.message.starts_with(&format!("`{}`", path.display())), "{at}: {}", problem.message);
    }
    for len in (0..bytes.len()).step_by(41) {
        std::fs::write(&path, &bytes[..len]).unwrap();
        assert!(Checkpoint::open(&path).is_err(), "{len} bytes pass");
    }
}

#[test]
fn where_a_checkpoint_is_damaged_the_best_one_goes_on_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let (job, folder) = cut(dir.path());
    for damage in ["flipped", "gone"] {
        match damage {
            "flipped" => {
                let mut bytes = std::fs::read(folder.checkpoint()).unwrap();
                *bytes.last_mut().unwrap() ^= 4;
                std::fs::write(folder.checkpoint(), bytes).unwrap();
            }
            _ => std::fs::remove_file(folder.checkpoint()).unwrap(),
        }
        let before = std::fs::read(folder.metrics()).unwrap();
        let problem = refused(&job, &folder);
        let wanted = if damage == "flipped" { "it is damaged" } else { "is gone" };
        assert!(problem.message.contains(wanted), "{}", problem.message);
        assert!(problem.hints[0].contains("the checkpoint of the best epoch is whole: `cp "), "{:?}", problem.hints);
        assert_eq!(std::fs::read(folder.metrics()).unwrap(), before);
    }
    std::fs::copy(folder.best(), folder.checkpoint()).unwrap();
    finish(&job, &mut Softmax::new(2), &folder, &mut Watcher::default());
    assert_eq!(left(folder.path()), unbroken(&job, dir.path()));
    // neither is whole: there is only one way out
    for path in [folder.checkpoint(), folder.best()] {
        std::fs::write(path, b"\x08\0\0\0\0\0\0\0{}      ").unwrap();
    }
    assert!(refused(&job, &folder).hints.iter().all(|hint| hint.contains("`--out`")));
}

#[test]
fn a_checkpoint_of_another_format_is_not_misread() {
    let dir = tempfile::tempdir().unwrap();
    let (job, folder) = cut(dir.path());
    let write = |metadata: &[(&str, &str)]| {
        let metadata = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        checkpoint::write(&folder.checkpoint(), &Softmax::new(2).state().unwrap(), &metadata).unwrap();
    };
    write(&[("archc.checkpoint", "1"), ("archc.position", "{}")]);
    let problem = refused(&job, &folder);
    assert!(problem.message.contains("an older archc wrote it"), "{}", problem.message);
    assert!(problem.hints[0].contains("go on with the archc that began the run"), "{:?}", problem.hints);
    write(&[("archc.checkpoint", "3")]);
    assert!(refused(&job, &folder).message.contains("another version of archc wrote it"));
    write(&[]);
    assert!(refused(&job, &folder).message.contains("it holds weights alone"));
    write(&[("archc.checkpoint", "2"), ("archc.position", "{}"), ("archc.sha256", "")]);
    assert!(refused(&job, &folder).message.contains("it is damaged"));
}

#[test]
fn metrics_that_are_gone_or_short_are_begun_anew_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let (job, folder) = cut(dir.path());
    let whole = std::fs::read(folder.metrics()).unwrap();
    for (kept, wanted) in
        [(0, "is gone with the lines of the 16 steps done"), (200, "lacks lines of the 16 steps done")]
    {
        match kept {
            0 => std::fs::remove_file(folder.metrics()).unwrap(),
            kept => std::fs::write(folder.metrics(), &whole[..kept]).unwrap(),
        }
        let mut watch = Watcher::after(1);
        run(&job, &mut Softmax::new(2), &folder, &mut watch).unwrap();
        assert!(watch.text().contains(wanted), "{}", watch.text());
        let text = std::fs::read_to_string(folder.metrics()).unwrap();
        assert!(!text.contains('\0') && text.lines().count() == 1, "{text:?}");
        assert!(text.starts_with("{\"step\":"), "{text}");
        if kept > 0 {
            assert_eq!(std::fs::read(folder.path().join("metrics.jsonl.short")).unwrap(), whole[..kept]);
        }
        // the next time nothing is lost
        let mut watch = Watcher::after(1);
        std::fs::copy(folder.checkpoint(), dir.path().join("checkpoint")).unwrap();
        run(&job, &mut Softmax::new(2), &folder, &mut watch).unwrap();
        assert!(!watch.text().contains("warning"), "{}", watch.text());
        std::fs::copy(dir.path().join("checkpoint"), folder.checkpoint()).unwrap();
        std::fs::write(folder.metrics(), &whole).unwrap();
        cut_again(&job, &folder);
    }
}

/// The checkpoint of step 16 once more.
fn cut_again(job: &Job, folder: &RunFolder) {
    for name in [folder.checkpoint(), folder.best(), folder.metrics()] {
        std::fs::remove_file(name).unwrap();
    }
    run(job, &mut Softmax::new(2), folder, &mut Watcher::after(2 * job.steps() + 2)).unwrap();
}

#[test]
fn a_best_epoch_that_is_lost_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (job, folder) = cut(dir.path());
    std::fs::remove_file(folder.best()).unwrap();
    let mut watch = Watcher::default();
    finish(&job, &mut Softmax::new(2), &folder, &mut watch);
    let text = watch.text();
    assert!(text.contains("the best one so far, are lost"), "{text}");
    assert!(Checkpoint::open(&folder.best()).unwrap().position.epoch == 3);

    // all is done, and the best was not the last
    let mut patient = Job { epochs: 40, patience: Some(2), ..job };
    let folder = RunFolder::create(&dir.path().join("done")).unwrap();
    finish(&patient, &mut Softmax::new(2), &folder, &mut Watcher::default());
    let position = Checkpoint::open(&folder.checkpoint()).unwrap().position;
    patient.epochs = position.epoch;
    let best = position.best.clone().unwrap();
    assert_ne!(best.epoch, position.epoch);
    let model = std::fs::read(folder.model()).unwrap();
    let whole = std::fs::read(folder.best()).unwrap();
    for bytes in [&whole[..whole.len() - 1], &std::fs::read(folder.checkpoint()).unwrap()] {
        std::fs::write(folder.best(), bytes).unwrap();
        let problem = refused(&patient, &folder);
        assert!(problem.message.contains("the best one, are lost"), "{}", problem.message);
        assert!(problem.notes[0].contains("is left as it is"), "{:?}", problem.notes);
        assert_eq!(std::fs::read(folder.model()).unwrap(), model);
    }
}

#[test]
fn a_model_takes_its_place_only_when_frozen_is_frozen() {
    let dir = tempfile::tempdir().unwrap();
    let (job, folder) = cut(dir.path());
    let mut learner = Softmax::new(2);
    run(&job, &mut learner, &folder, &mut Watcher::default()).unwrap();
    std::fs::write(folder.model(), "the old one").unwrap();
    let mut changed = Changed(learner);
    let problem = write(&folder, &mut changed, &job).err().unwrap();
    assert!(problem.message.starts_with("frozen tensors have changed"), "{}", problem.message);
    assert_eq!(std::fs::read(folder.model()).unwrap(), b"the old one");
    let names =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.collect::<Vec<_>>().iter().any(|name| name.ends_with(".tmp")));
    write(&folder, &mut changed.0, &job).unwrap();
    assert_ne!(std::fs::read(folder.model()).unwrap(), b"the old one");
}

#[test]
fn a_set_of_which_nothing_can_be_read_is_an_error_and_a_part_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for part in ["train", "val"] {
        pictures(&data.join(part));
    }
    let files = |part: &str| -> Vec<std::path::PathBuf> {
        let classes = ["dark", "light"].map(|class| std::fs::read_dir(data.join(part).join(class)).unwrap());
        classes.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    };
    let skipping = || {
        let mut job = job(&data, vec![]);
        let recipe = Recipe { skip_corrupt: true, ..(*job.recipe).clone() };
        job.recipe = Arc::new(recipe);
        job
    };
    let new = |name: &str| RunFolder::create(&dir.path().join(name)).unwrap();
    // three of each
    for part in ["train", "val"] {
        files(part).iter().take(3).for_each(|file| std::fs::write(file, b"\x89PNG\r\n\x1a\n").unwrap());
    }
    let mut watch = Watcher::default();
    finish(&skipping(), &mut Softmax::new(2), &new("some"), &mut watch);
    let text = watch.text();
    assert_eq!(text.matches("warning").count(), 6, "{text}");
    for wanted in ["left out: 3 of 31 training pictures", "left out: 3 of 31 validation pictures"] {
        assert_eq!(text.matches(wanted).count(), 1, "{text}");
    }
    // none of one
    for part in ["val", "train"] {
        files(part).iter().for_each(|file| std::fs::write(file, b"\x89PNG\r\n\x1a\n").unwrap());
        let folder = new(part);
        let problem = refused(&skipping(), &folder);
        let name = if part == "val" { "validation" } else { "training" };
        assert_eq!(problem.message, format!("none of the 31 {name} pictures can be read"));
        assert!(problem.notes[0].contains("damaged PNG") && !problem.hints.is_empty(), "{problem:?}");
        assert!(!folder.checkpoint().exists());
        if part == "val" {
            pictures(&data.join("val"));
        }
    }
}

#[test]
fn pictures_that_go_bad_during_a_run_end_it() {
    for part in ["val", "train"] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        ["train", "val"].iter().for_each(|part| pictures(&data.join(part)));
        let mut job = job(&data, vec![]);
        job.recipe = Arc::new(Recipe { skip_corrupt: true, ..(*job.recipe).clone() });
        let folder = RunFolder::create(&dir.path().join("out")).unwrap();
        let mut watch = Spoils { files: data.join(part), steps: job.steps(), of_train: part == "train" };
        let problem = run(&job, &mut Softmax::new(2), &folder, &mut watch).unwrap_err();
        assert!(problem.message.starts_with("none of the 31"), "{}", problem.message);
        assert!(problem.notes.iter().any(|note| note.contains("is kept")), "{:?}", problem.notes);
        assert!(Checkpoint::open(&folder.checkpoint()).unwrap().position.best.is_some() == (part == "train"));
    }
}

/// Damages all pictures of a folder while the run is at work.
struct Spoils {
    files: std::path::PathBuf,
    steps: usize,
    of_train: bool,
}

impl Watch for Spoils {
    fn step(&mut self, _stepped: Stepped) {
        self.steps -= 1;
        if self.steps == 0 && !self.of_train {
            self.spoil();
        }
    }
    fn epoch_done(&mut self, _line: &Line) {
        if self.of_train {
            self.spoil();
        }
        self.steps = usize::MAX;
    }
}

impl Spoils {
    fn spoil(&self) {
        for class in ["dark", "light"] {
            for entry in std::fs::read_dir(self.files.join(class)).unwrap() {
                std::fs::write(entry.unwrap().path(), b"\x89PNG\r\n\x1a\n").unwrap();
            }
        }
    }
}

/// A learner whose frozen tensor has changed.
struct Changed(Softmax);

impl Learner for Changed {
    fn begin_epoch(&mut self, epoch: usize) -> Result<(), Problem> {
        self.0.begin_epoch(epoch)
    }
    fn loss(&self, outputs: &Tensor, targets: &Targets) -> f64 {
        self.0.loss(outputs, targets)
    }
    fn state(&mut self) -> Result<State<'static>, Problem> {
        self.0.state()
    }
    fn restore(&mut self, state: State<'_>) -> Result<(), Problem> {
        self.0.restore(state)
    }
    fn weights(&mut self) -> Result<State<'static>, Problem> {
        let mut weights = self.0.weights()?;
        weights.insert("mask".into(), Kept::f32(&[2], vec![1.0, 1e-30]));
        Ok(weights)
    }
    fn frozen(&mut self) -> Vec<String> {
        self.0.frozen()
    }
    fn prefix(&self) -> Option<Prefix> {
        self.0.prefix()
    }
    fn run_prefix(&mut self, input: &Tensor) -> Result<Vec<Tensor>, Problem> {
        self.0.run_prefix(input)
    }
    fn step_after(&mut self, values: &[Tensor], targets: &Targets) -> Result<Stepped, Problem> {
        self.0.step_after(values, targets)
    }
    fn outputs_after(&mut self, values: &[Tensor]) -> Result<Tensor, Problem> {
        self.0.outputs_after(values)
    }
}
