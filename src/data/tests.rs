use std::path::Path;
use std::sync::Arc;

use super::augment::Augment;
use super::*;
use crate::io::preprocess::Preprocess;
use crate::tensor::Tensor;

/// A PNG file of one colour.
fn png(path: &Path, colour: [u8; 3]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, crate::io::png::encode(&colour.repeat(16), 4, 4, 3).unwrap()).unwrap();
}

/// Classes with so many pictures each.
fn classes(root: &Path, counts: &[(&str, u8)]) {
    for (name, count) in counts {
        std::fs::create_dir_all(root.join(name)).unwrap();
        for at in 0..*count {
            png(&root.join(name).join(format!("{at:02}.png")), [at * 10, name.len() as u8, 200]);
        }
    }
}

fn recipe(want: Want) -> Recipe {
    Recipe {
        preprocess: Some(Preprocess::default()),
        input: [3, 4, 4],
        augments: vec![],
        want,
        classes: 2,
        seed: 7,
        skip_corrupt: false,
    }
}

#[test]
fn folders_are_classes_in_sorted_order() {
    let dir = tempfile::tempdir().unwrap();
    classes(&dir.path().join("train"), &[("dog", 3), ("cat", 2)]);
    classes(&dir.path().join("val"), &[("dog", 1)]);
    std::fs::write(dir.path().join("train/cat/notes.txt"), "").unwrap();
    png(&dir.path().join("train/cat/more/deep.PNG"), [0; 3]);
    let data = folder(dir.path(), 0.2, 0).unwrap();
    assert_eq!(data.classes, ["cat", "dog"]);
    assert_eq!(data.train.counts(2), [3, 3]);
    assert_eq!(data.val.samples[0].label, Label::Class(1));
    let remarks = data.remarks.join("\n");
    assert!(remarks.contains("no pictures of `cat`") && remarks.contains("skipped: 1 other file"), "{remarks}");
    let (found, names) = eval_folder(dir.path(), Some(&["bird".into(), "cat".into(), "dog".into()])).unwrap();
    assert_eq!((found.len(), names.len(), &found.samples[0].label), (1, 3, &Label::Class(2)));
}

#[test]
fn without_a_val_folder_a_share_of_each_class_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &[("a", 10), ("bb", 2), ("ccc", 1)]);
    let data = folder(dir.path(), 0.2, 1).unwrap();
    assert_eq!((data.train.counts(3), data.val.counts(3)), (vec![8, 1, 1], vec![2, 1, 0]));
    assert_eq!(data, folder(dir.path(), 0.2, 1).unwrap());
    assert_ne!(data.val, folder(dir.path(), 0.2, 2).unwrap().val);
    assert!(folder(dir.path(), 0.0, 1).unwrap().val.is_empty());
}

#[test]
fn what_is_wrong_with_a_folder_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    classes(&at("empty"), &[("a", 1), ("b", 0)]);
    classes(&at("val/train"), &[("a", 1), ("b", 1)]);
    classes(&at("val/val"), &[("a", 1), ("c", 1)]);
    std::fs::create_dir_all(at("none")).unwrap();
    std::fs::write(at("file"), "").unwrap();
    for (name, message) in [
        ("nowhere", "is not there"),
        ("file", "is not a folder"),
        ("none", "has no class folders"),
        ("empty", "no pictures in `b` of"),
        ("val", "has `c`, which"),
    ] {
        let problem = folder(&at(name), 0.2, 0).unwrap_err();
        assert!(problem.message.contains(message), "{name}: {}", problem.message);
        assert!(!problem.hints.is_empty(), "{name}");
    }
    let unknown = eval_folder(&at("val/val"), Some(&["a".into()])).unwrap_err();
    assert!(unknown.message.contains("has `c`, which the network does not know"), "{}", unknown.message);
}

#[test]
fn tables_hold_labels_or_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let read = |text: &str, columns| csv(&write("t.csv", text), None, columns, 0.0, 0);
    let data = read("path,label\n\"a, b.png\",10\r\nc.png,9\n\n/d.png,10\n", Columns::Label).unwrap();
    assert_eq!(data.classes, ["9", "10"]);
    assert_eq!(data.train.samples[0], Sample { path: dir.path().join("a, b.png"), label: Label::Class(1) });
    assert_eq!(data.train.samples[2].path, Path::new("/d.png"));
    let data = read("a.png,1,-2.5\nb.png,3e2,4", Columns::Numbers).unwrap();
    assert_eq!(data.train.samples[1].label, Label::Numbers(vec![300.0, 4.0]));
    for (text, columns, message) in [
        ("", Columns::Label, "has no rows"),
        ("file,label\n", Columns::Label, "has no rows"),
        ("a.png\n", Columns::Label, "line 1 of"),
        ("a.png,\n", Columns::Label, "field 2 of line 1 of"),
        ("a.png,1,2\n", Columns::Label, "has 3 fields"),
        ("a.png,1\n\"b.png,2\n", Columns::Label, "begins on line 2"),
        ("a.png,1\nb.png,x\n", Columns::Numbers, "`x`, which is no number"),
        ("a.png,1\nb.png,nan\n", Columns::Numbers, "`nan`, which is no number"),
        ("a.png,1\nb.png,1,2\n", Columns::Numbers, "has 2 numbers, the first row has 1"),
    ] {
        let problem = read(text, columns).unwrap_err();
        assert!(problem.message.contains(message), "{text:?}: {}", problem.message);
    }
    let (train, val) = (write("a.csv", "a.png,x\nb.png,y\n"), write("b.csv", "c.png,z\n"));
    let problem = csv(&train, Some(&val), Columns::Label, 0.2, 0).unwrap_err();
    assert!(problem.message.contains("the label `z`, which no training sample has"), "{}", problem.message);
    let (train, val) = (write("a.csv", "a.png,1\n"), write("b.csv", "c.png,1,2\n"));
    assert!(csv(&train, Some(&val), Columns::Numbers, 0.2, 0).is_err());
}

#[test]
fn an_epoch_sees_every_sample_once_in_an_order_of_its_own() {
    let order = Order { seed: 3, shuffle: true };
    let (first, second) = (order.of(0, 100), order.of(1, 100));
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    assert_ne!(first, second);
    assert_eq!(first, order.of(0, 100));
    assert_eq!(Order { shuffle: false, ..order }.of(5, 4), [0, 1, 2, 3]);
}

#[test]
fn batches_are_the_same_on_any_number_of_threads_and_from_any_step() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &[("a", 9), ("bb", 8)]);
    let data = Arc::new(folder(dir.path(), 0.0, 0).unwrap().train);
    let augments = vec![
        Augment::RandomCrop { padding: 2 },
        Augment::ColorJitter { brightness: 0.5, contrast: 0.5, saturation: 0.5, hue: 0.2 },
        Augment::RandomErasing { p: 0.5 },
        Augment::Mixup { alpha: 0.4 },
    ];
    let recipe = Arc::new(Recipe { augments, ..recipe(Want::Classes) });
    let order = Order { seed: 1, shuffle: true };
    let batches = |threads: usize, epoch: usize, from: usize| -> Vec<Batch> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let loader =
                Loader::training(Arc::clone(&data), Arc::clone(&recipe), order, 4, (epoch, from), |_| false).unwrap();
            loader.map(|batch| batch.unwrap()).collect()
        })
    };
    let all = batches(1, 0, 0);
    assert_eq!(all.iter().map(|batch| batch.samples.len()).collect::<Vec<_>>(), [4, 4, 4, 4, 1]);
    assert_eq!(all, batches(3, 0, 0));
    assert_eq!(all[2..], batches(2, 0, 2));
    assert_ne!(all, batches(2, 1, 0));
    assert!(matches!(&all[0].targets, Targets::Mixed { first, second, .. } if first[0] == second[1]));
    // what is dropped early stops
    drop(Loader::training(data, recipe, order, 1, (0, 0), |_| false).unwrap());
}

#[test]
fn targets_are_what_the_loss_wants() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &[("a", 1), ("bb", 1)]);
    let data = folder(dir.path(), 0.0, 0).unwrap().train;
    let batch = |want| recipe(want).evaluation(&data, &[1, 0]).unwrap();
    assert_eq!(batch(Want::Classes).targets, Targets::Classes(vec![1, 0]));
    assert_eq!(batch(Want::OneHot).targets, Targets::Values(Tensor::new([2, 2], vec![0.0, 1.0, 1.0, 0.0])));
    let image = batch(Want::Image);
    assert_eq!(image.targets, Targets::Values(image.input));
}

#[test]
fn pictures_that_cannot_be_read_end_the_run_or_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &[("a", 2), ("bb", 1)]);
    std::fs::write(dir.path().join("a/01.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    let data = folder(dir.path(), 0.0, 0).unwrap().train;
    let problem = recipe(Want::Classes).evaluation(&data, &[0, 1, 2]).unwrap_err();
    assert!(problem.message.contains("01.png") && problem.hints.last().unwrap().contains("skip_corrupt = true"));
    let skipping = Recipe { skip_corrupt: true, ..recipe(Want::Classes) };
    let batch = skipping.evaluation(&data, &[0, 1, 2]).unwrap();
    assert_eq!((batch.samples, batch.problems.len(), batch.targets), (vec![0, 2], 1, Targets::Classes(vec![0, 1])));
}

#[test]
fn a_picture_of_another_size_needs_a_preparation() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &[("a", 1), ("bb", 1)]);
    let data = folder(dir.path(), 0.0, 0).unwrap().train;
    let recipe = Recipe { preprocess: None, input: [3, 6, 5], ..recipe(Want::Classes) };
    let problem = recipe.evaluation(&data, &[0]).unwrap_err();
    assert!(problem.message.contains("is 4 x 4, the network's input is 6 x 5"), "{}", problem.message);
    assert!(problem.hints.iter().any(|hint| hint.contains("preprocess { resize = 5, crop = (6, 5) }")));
    assert!(Recipe { input: [1, 4, 4], ..recipe }.evaluation(&data, &[0]).is_ok());
}

#[cfg(unix)]
#[test]
fn links_to_folders_are_followed_and_every_folder_is_read_once() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &[("a", 2), ("bb", 3)]);
    let (class, other) = (dir.path().join("a"), tempfile::tempdir().unwrap());
    png(&class.join("z/deep.png"), [1; 3]);
    classes(other.path(), &[("more", 4)]);
    // 2**40 paths, if links were all followed
    for (link, to) in [("x", "."), ("y", "."), ("z/up", ".."), ("w", "z"), ("v", "../.."), ("top", "..")] {
        symlink(to, class.join(link)).unwrap();
    }
    symlink(other.path(), class.join("linked")).unwrap();
    symlink(other.path(), class.join("again")).unwrap();
    symlink("a", dir.path().join("ccc")).unwrap();
    symlink(".", dir.path().join("dddd")).unwrap();
    let data = folder(dir.path(), 0.0, 0).unwrap();
    assert_eq!(data.classes, ["a", "bb", "ccc"]);
    assert_eq!(data.train.counts(3), [2 + 1 + 4, 3, 2 + 1 + 4]);
    // pictures have the names that they have without links where there are such, and else those of the first link
    let names: Vec<String> =
        data.train.samples[..7].iter().map(|sample| data.train.name(sample).display().to_string()).collect();
    assert_eq!(names[2], "a/again/more/00.png");
    assert!(names.contains(&"a/z/deep.png".to_string()), "{names:?}");
    assert!(
        data.remarks.join("\n").contains("links that lead to a folder which is read already"),
        "{:?}",
        data.remarks
    );
}
