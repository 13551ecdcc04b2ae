//! A run goes on only with what it was begun with, and says what has changed.

use std::fs;

use super::*;

/// A run that was cut off after its first step.
fn begun(dir: &Path, job: &Job) -> RunFolder {
    let folder = RunFolder::create(&dir.join("out")).unwrap();
    fs::create_dir_all(folder.path()).unwrap();
    run(job, &mut Softmax::new(2), &folder, &mut Watcher::after(1)).unwrap();
    folder
}

/// What is said where the run goes on, first the message, then its notes; None where it does.
fn refused(job: &Job, folder: &RunFolder) -> Option<String> {
    let problem = run(job, &mut Softmax::new(2), folder, &mut Watcher::after(0)).err()?;
    assert_eq!(problem.code, Code::Input);
    assert!(problem.hints[0].contains("`--out`"), "{:?}", problem.hints);
    Some(format!("{}\n{}", problem.message, problem.notes.join("\n")))
}

#[test]
fn what_has_changed_in_the_data_is_named() {
    type Change = fn(&Path);
    let changes: [(&str, Change, &[&str]); 7] = [
        (
            "renamed",
            |data| fs::rename(data.join("dark"), data.join("dusk")).unwrap(),
            &["class 0 was `dark`, is `dusk`"],
        ),
        (
            "swapped",
            |data| {
                fs::rename(data.join("dark"), data.join("other")).unwrap();
                fs::rename(data.join("light"), data.join("dark")).unwrap();
                fs::rename(data.join("other"), data.join("light")).unwrap();
            },
            &["else: the picture `dark/01.png` has changed\n", "and 25 more"],
        ),
        (
            "one more class",
            |data| {
                fs::create_dir(data.join("mid")).unwrap();
                fs::copy(data.join("dark/00.png"), data.join("mid/00.png")).unwrap();
            },
            &["the class `mid` is new", "the picture `mid/00.png` is new"],
        ),
        ("gone", |data| fs::remove_file(data.join("light/03.png")).unwrap(), &["the picture `light/03.png` is gone"]),
        (
            "new",
            |data| fs::rename(data.join("light/03.png"), data.join("light/99.png")).map(|_| ()).unwrap(),
            &["the picture `light/99.png` is new"],
        ),
        (
            "replaced",
            |data| fs::copy(data.join("dark/01.png"), data.join("dark/02.png")).map(|_| ()).unwrap(),
            &["else: the picture `dark/02.png` has changed\n"],
        ),
        (
            "another of the same size and time",
            |data| {
                let path = data.join("dark/02.png");
                let time = fs::metadata(&path).unwrap().modified().unwrap();
                let mut bytes = fs::read(&path).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(&path, bytes).unwrap();
                fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
            },
            &["the picture `dark/02.png` has changed"],
        ),
    ];
    for (name, change, wanted) in changes {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        pictures(&data);
        let before = job(&data, vec![]);
        let folder = begun(dir.path(), &before);
        let (checkpoint, metrics) = (fs::read(folder.checkpoint()).unwrap(), fs::read(folder.metrics()).unwrap());
        change(&data);
        for listed in [true, false] {
            if !listed {
                fs::remove_file(folder.samples()).unwrap();
            }
            let said = refused(&job(&data, vec![]), &folder).unwrap_or_else(|| panic!("{name}: it goes on"));
            assert!(!listed || wanted.iter().all(|wanted| said.contains(wanted)), "{name}: {said}");
        }
        // whoever refuses changes nothing
        assert!(fs::read(folder.checkpoint()).unwrap() == checkpoint && fs::read(folder.metrics()).unwrap() == metrics);
    }
}

#[test]
fn a_copy_of_the_data_with_other_times_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    pictures(&data);
    let folder = begun(dir.path(), &job(&data, vec![]));
    let copy = dir.path().join("moved/elsewhere");
    for class in ["dark", "light"] {
        fs::create_dir_all(copy.join(class)).unwrap();
        for entry in fs::read_dir(data.join(class)).unwrap() {
            let from = entry.unwrap().path();
            let to = copy.join(class).join(from.file_name().unwrap());
            fs::copy(&from, &to).unwrap();
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
            fs::File::options().append(true).open(&to).unwrap().set_modified(time).unwrap();
        }
    }
    assert_eq!(refused(&job(&copy, vec![]), &folder), None);
    // a list that is gone, or is not that of the run, is made anew
    for text in ["", "{}\n"] {
        fs::write(folder.samples(), text).unwrap();
        assert_eq!(refused(&job(&data, vec![]), &folder), None);
        assert_eq!(fs::read_to_string(folder.samples()).unwrap().lines().count(), 31);
    }
}

#[test]
fn a_table_whose_rows_have_changed_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    pictures(&data);
    let table = |rows: &[&str]| {
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        fs::write(data.join("table.csv"), text).unwrap();
        let table = crate::data::csv(&data.join("table.csv"), None, crate::data::Columns::Label, 0.0, 0).unwrap();
        let recipe = (*job(&data, vec![]).recipe).clone();
        Job::new(table, recipe, Order { seed: 0, shuffle: true }, 2, 3)
    };
    let rows = ["dark/00.png,a", "dark/01.png,b", "light/00.png,b"];
    let folder = begun(dir.path(), &table(&rows));
    for (rows, wanted) in [
        (["dark/00.png,a", "dark/01.png,a", "light/00.png,b"], "else: the label of `dark/01.png` was `b`, is `a`\n"),
        (["dark/01.png,b", "dark/00.png,a", "light/00.png,b"], "else: the samples come in another order\n"),
        (["dark/00.png,a", "dark/01.png,c", "light/00.png,c"], "else: class 1 was `b`, is `c`\n"),
        (["dark/00.png,a", "dark/01.png,b", "light/01.png,b"], "else: the picture `light/00.png` is gone\n"),
    ] {
        let said = refused(&table(&rows), &folder).unwrap();
        assert!(said.contains(wanted), "{said}");
    }
    assert_eq!(refused(&table(&rows), &folder), None);
}

#[test]
fn options_that_have_changed_are_named_and_the_spec_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    pictures(&data);
    let made = |dtype: &str, batch: usize| {
        let mut job = Job { spec: format!("# {dtype} {batch}"), batch, ..job(&data, vec![]) };
        job.fingerprint.options.insert("dtype".into(), dtype.into());
        job
    };
    let folder = begun(dir.path(), &made("f32", 4));
    for (job, wanted) in
        [(made("bf16", 4), "else: the dtype was f32, is bf16\n"), (made("f32", 5), "else: the batch was 4, is 5\n")]
    {
        let said = refused(&job, &folder).unwrap();
        assert!(said.contains(wanted), "{said}");
        assert_eq!(fs::read_to_string(folder.spec()).unwrap(), "# f32 4");
    }
    assert_eq!(refused(&made("f32", 4), &folder), None);
}
