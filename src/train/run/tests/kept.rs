//! What a frozen prefix makes, kept in memory and on the disk.

use std::path::{Path, PathBuf};

use super::*;

#[test]
fn a_kept_prefix_is_computed_once_and_changes_no_bit() {
    let dir = tempfile::tempdir().unwrap();
    pictures(&dir.path().join("data"));
    let run = |name: &str, memory: Option<u64>| {
        let job = Job { prefix_memory: memory, ..job(&dir.path().join("data"), vec![]) };
        let folder = RunFolder::create(&dir.path().join(name)).unwrap();
        let (mut learner, mut watch) = (Softmax::new(2), Watcher::default());
        finish(&job, &mut learner, &folder, &mut watch);
        (left(folder.path()), learner.prefixed.get(), watch.said.join("\n"))
    };
    let (plain, all, _) = run("plain", None);
    assert_eq!(all, 3 * 31);
    for (name, memory, place) in [("memory", 1 << 20, "in memory"), ("disk", 0, "prefix")] {
        let (kept, computed, said) = run(name, Some(memory));
        assert_eq!(kept, plain, "{name}");
        assert_eq!(computed, 31, "{name}");
        assert!(said.contains("frozen prefix: 1 layer up to mask is computed once") && said.contains(place), "{said}");
    }
    // a run that is done needs none
    assert!(!dir.path().join("disk/prefix").exists());
}

/// A run that was cut off after its first epoch with its values on the disk.
fn cut(dir: &Path) -> (Job, RunFolder) {
    pictures(&dir.join("data"));
    let job = Job { prefix_memory: Some(0), ..job(&dir.join("data"), vec![]) };
    let folder = RunFolder::create(&dir.join("out")).unwrap();
    let stopped = run(&job, &mut Softmax::new(2), &folder, &mut Watcher::after(job.steps() + 2)).unwrap();
    assert_eq!(stopped, Ended::Stopped);
    (job, folder)
}

fn unbroken(dir: &Path) -> Vec<Vec<u8>> {
    let folder = RunFolder::create(&dir.join("unbroken")).unwrap();
    finish(&job(&dir.join("data"), vec![]), &mut Softmax::new(2), &folder, &mut Watcher::default());
    left(folder.path())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_run_that_goes_on_finds_its_values_on_the_disk_again() {
    let dir = tempfile::tempdir().unwrap();
    let (job, folder) = cut(dir.path());
    let mut learner = Softmax::new(2);
    finish(&job, &mut learner, &folder, &mut Watcher::default());
    assert_eq!((left(folder.path()), learner.prefixed.get()), (unbroken(dir.path()), 0));
}

#[test]
fn a_file_of_values_that_is_damaged_or_empty_changes_no_bit() {
    for damage in ["a value", "a mark", "sparse", "short", "long", "another"] {
        let dir = tempfile::tempdir().unwrap();
        let (job, folder) = cut(dir.path());
        let file = files(&folder.prefix()).into_iter().max_by_key(|file| file.metadata().unwrap().len()).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        let mut other = bytes.clone();
        match damage {
            "a value" => *other.last_mut().unwrap() ^= 1,
            "a mark" => other[1] ^= 1,
            "sparse" => other.fill(0),
            "short" => other.truncate(100),
            "long" => other.extend([7; 100]),
            _ => std::fs::write(folder.prefix().join("other.values"), [1; 99]).unwrap(),
        }
        std::fs::write(&file, other).unwrap();
        let mut learner = Softmax::new(2);
        finish(&job, &mut learner, &folder, &mut Watcher::default());
        assert_eq!(left(folder.path()), unbroken(dir.path()), "{damage}");
        let anew = learner.prefixed.get();
        assert_eq!(anew > 0, damage != "another", "{damage}: {anew}");
        assert!(!folder.prefix().exists(), "{damage}");
    }
}

#[test]
fn values_that_the_disk_has_no_room_for_are_computed_in_every_step() {
    let dir = tempfile::tempdir().unwrap();
    pictures(&dir.path().join("data"));
    let job = Job { prefix_memory: Some(0), ..job(&dir.path().join("data"), vec![]) };
    let whole = unbroken(dir.path());
    // the first is more than any disk has, the second more than a number can say
    for (at, claims) in [1 << 40, usize::MAX / 4].into_iter().enumerate() {
        let folder = RunFolder::create(&dir.path().join(at.to_string())).unwrap();
        let (mut learner, mut watch) = (Softmax { claims, ..Softmax::new(2) }, Watcher::default());
        finish(&job, &mut learner, &folder, &mut watch);
        assert_eq!(left(folder.path()), whole, "{claims}");
        let text = watch.text();
        assert!(text.contains("1 layer up to mask is computed in every step: "), "{text}");
        assert!(text.contains(" GB are free"), "{text}");
        assert!(!folder.prefix().exists());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (data, small) = (dir.path().join("data"), dir.path().join("small"));
    pictures(&data);
    std::fs::create_dir(&small).unwrap();
    on_a_disk_of("64k", &small, || {
        let recipe = Arc::clone(&job(&data, vec![]).recipe);
        let prefix = |len: usize| Prefix { layers: vec![], len: 1, shapes: vec![vec![len]], key: [1; 32] };
        let folder = small.join("prefix");
        let new = |len: usize, spare: u64| {
            PrefixCache::new(&prefix(len), (4, "data"), &recipe, Room { memory: 0, spare }, &folder)
        };
        // 4 samples of 20 kB do not go in, of 4 kB they do
        let why = new(5000, 0).err().expect("it has no room");
        assert_eq!((why.needed, why.free), (80_064, Some(65_536)));
        assert!(why.reason.contains("no space left"), "{}", why.reason);
        assert!(files(&folder).is_empty());
        // and leave room for checkpoints, or they do not
        let why = new(1000, 60_000).err().expect("there is no room for both");
        assert_eq!((why.free, why.reason.as_str()), (Some(65_536), "checkpoints need room too"));
        let cache = new(1000, 40_000).ok().expect("it has room");
        // the rest of the disk is taken; what was reserved can be written all the same
        fill(&small.join("rest"));
        let made = Tensor::new([4, 1000], (0..4000).map(|at| at as f32).collect::<Vec<_>>());
        cache.keep(&[0, 1, 2, 3], std::slice::from_ref(&made));
        assert!(cache.failure().is_none());
        assert_eq!(cache.batch(&[0, 1, 2, 3]).unwrap(), [made]);
    });
}

/// Runs `inside` with a disk of `size` at the folder `at`, where the system lets one be made.
#[cfg(target_os = "linux")]
fn on_a_disk_of(size: &str, at: &Path, inside: impl FnOnce()) {
    use std::process::Command;
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("not tested on a full disk: it takes the right to mount one");
        return;
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(inside));
    // what a failed test left open is in the way of nothing but the folder
    let unmounted = Command::new("umount").arg("--lazy").arg(at).output();
    assert!(unmounted.is_ok_and(|output| output.status.success()));
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn values_that_cannot_be_written_are_not_kept_and_said_once() {
    let dir = tempfile::tempdir().unwrap();
    pictures(&dir.path().join("data"));
    let recipe = Arc::clone(&job(&dir.path().join("data"), vec![]).recipe);
    let prefix = Prefix { layers: vec![], len: 1, shapes: vec![vec![3]], key: [1; 32] };
    let room = Room { memory: 0, spare: 0 };
    let cache = PrefixCache::new(&prefix, (2, "data"), &recipe, room, &dir.path().join("prefix")).ok().unwrap();
    let made = |from: f32| [Tensor::new([1, 3], vec![from, from + 1.0, from + 2.0])];
    cache.keep(&[0], &made(1.0));
    cache.breaks(std::fs::File::options().read(true).open(cache.place().unwrap()).unwrap());
    cache.keep(&[1], &made(4.0));
    assert!(cache.knows(0) && !cache.knows(1));
    assert!(cache.failure().is_some_and(|problem| problem.message.contains("cannot be written")));
    assert!(cache.failure().is_none());
    assert_eq!(cache.batch(&[0]).unwrap(), made(1.0));
}

#[test]
fn what_varies_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    pictures(dir.path());
    let job = Job { prefix_memory: Some(1 << 20), ..job(dir.path(), vec![Augment::HorizontalFlip { p: 0.5 }]) };
    let out = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(out.path()).unwrap();
    let mut learner = Softmax::new(2);
    finish(&job, &mut learner, &folder, &mut Watcher::default());
    assert_eq!(learner.prefixed.get(), 3 * 31);
}

#[cfg(target_os = "linux")]
#[test]
fn values_go_where_they_keep_a_checkpoint_from_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join("small");
    pictures(&dir.path().join("data"));
    std::fs::create_dir(&small).unwrap();
    on_a_disk_of("3m", &small, || {
        let job = Job { prefix_memory: Some(0), ..job(&dir.path().join("data"), vec![]) };
        let folder = RunFolder::create(&small.join("run")).unwrap();
        let rest = small.join("rest");
        run(&job, &mut Softmax::new(2), &folder, &mut Watcher::after(2)).unwrap();
        assert_eq!(files(&folder.prefix()).len(), 2);
        // the disk is filled while the run is at work
        let before = std::fs::read(folder.checkpoint()).unwrap();
        let problem = run(&job, &mut Softmax::new(2), &folder, &mut Fills(Some(rest.clone()))).unwrap_err();
        assert!(problem.message.contains("cannot be written: no space left"), "{}", problem.message);
        assert!(problem.notes[0].contains("are removed to make room"), "{:?}", problem.notes);
        assert!(!folder.prefix().exists());
        assert_eq!(std::fs::read(folder.checkpoint()).unwrap(), before);
        std::fs::remove_file(&rest).unwrap();
        // and between two processes: what is left over is not in the way of the second
        run(&job, &mut Softmax::new(2), &folder, &mut Watcher::after(2)).unwrap();
        assert_eq!(files(&folder.prefix()).len(), 2);
        fill(&rest);
        let mut watch = Watcher::after(2);
        assert_eq!(run(&job, &mut Softmax::new(2), &folder, &mut watch).unwrap(), Ended::Stopped);
        assert!(watch.text().contains("computed in every step") && !folder.prefix().exists(), "{}", watch.text());
        std::fs::remove_file(&rest).unwrap();
        finish(&job, &mut Softmax::new(2), &folder, &mut Watcher::default());
        assert_eq!(left(folder.path()), unbroken(dir.path()));
    });
}

/// Fills the disk at its first step.
#[cfg(target_os = "linux")]
struct Fills(Option<PathBuf>);

#[cfg(target_os = "linux")]
impl Watch for Fills {
    fn step(&mut self, _stepped: Stepped) {
        self.0.take().iter().for_each(|path| fill(path));
    }
    fn stops(&self) -> bool {
        self.0.is_none()
    }
}

#[cfg(target_os = "linux")]
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    while std::io::Write::write(&mut file, &[1; 4096]).is_ok_and(|count| count > 0) {}
}

#[test]
fn a_run_that_is_cut_off_anywhere_keeps_its_values_and_its_bits() {
    let dir = tempfile::tempdir().unwrap();
    pictures(&dir.path().join("data"));
    let whole = unbroken(dir.path());
    for stride in [1, 3, 8] {
        let path = dir.path().join(stride.to_string());
        drop(RunFolder::create(&path).unwrap());
        let mut computed = 0;
        loop {
            let job = Job { prefix_memory: Some(0), ..job(&dir.path().join("data"), vec![]) };
            let (folder, mut learner) = (RunFolder::resume(&path).unwrap(), Softmax::new(2));
            let ended = finish(&job, &mut learner, &folder, &mut Watcher::after(stride));
            computed += learner.prefixed.get();
            if ended != Ended::Stopped {
                break;
            }
        }
        assert_eq!((left(&path), computed), (whole.clone(), 31), "cut off every {stride} steps");
    }
}
