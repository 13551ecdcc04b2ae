use super::limits::interval;
use super::*;
use crate::data::Targets;
use crate::tensor::Tensor;

fn card(training: Option<Training>) -> Card {
    Card {
        name: "mine *1*".into(),
        file: "mine *1*.arch".into(),
        base: "resnet18".into(),
        hub: Some("timm/resnet18.a1_in1k@main".into()),
        origin: "`timm/resnet18.a1_in1k@main` of the Hugging Face hub".into(),
        licence: Some("apache-2.0".into()),
        answer: Answer::Classes(crate::io::results::Scores::Logits),
        takes: vec![("image".into(), "[N, 3, 8, 8]".into())],
        gives: vec![("output".into(), "[N, 2]".into())],
        preprocess: None,
        spec: "base resnet18\n# ```\n".into(),
        plan: "It has no edits.\n".into(),
        ledger: vec![("kept".into(), vec!["conv1.weight".into()]), ("new".into(), vec!["fc|.weight".into()])],
        fresh: 1,
        is_random: false,
        inputs: vec![],
        training,
    }
}

fn made() -> Made {
    Made::Export {
        to: "safetensors".into(),
        dtype: "f32".into(),
        fold: false,
        merge: None,
        onnx: None,
        weights: None,
        seed: Some(3),
    }
}

#[test]
fn what_is_recorded_is_read_again() {
    let card = card(None);
    let mut record = card.record(made());
    record.outputs.push(Stamped::of_text("x", "safetensors", "a|b.safetensors".into()));
    let text = card.text(&record);
    let read = Read::of(&text).expect("a card");
    assert_eq!((&read.record, read.spec.as_str()), (&record, "base resnet18\n# ```\n"));
    assert!(!read.is_edited());
    assert!(Read::of(&text.replace("base resnet18\n#", "base resnet34\n#")).expect("a card").is_edited());
    for (broken, why) in [
        (text.replace(MARK, ""), "lacks the line"),
        (text.replace("json archc-card", "json"), "lacks a block that begins with"),
        (text.replace("\"inputs\"", "\"input\""), "unknown field `input`"),
        (text.replace("\"export\"", "\"expert\""), "unknown variant"),
        (text[..text.len() - 5].to_string(), "lacks a block"),
    ] {
        let found = Read::of(&broken).expect_err("no card");
        assert!(found.contains(why), "{found}");
    }
    // cells hold their bars
    assert!(text.contains("| `a\\|b.safetensors` | written: safetensors | 1 |"), "{text}");
    assert!(text.contains("# mine \\*1\\*\n"), "{text}");
    assert!(text.contains("1 tensor is new and holds what"), "{text}");
}

#[test]
fn the_header_is_the_hubs() {
    let classes = ["cat \"x\"", "dog"].map(String::from);
    let mut scores = Scores::new(&classes);
    // ten cats of which six are taken for dogs, ninety dogs
    let rows: Vec<f32> = (0..100).flat_map(|at| if at < 4 { [1.0, 0.0] } else { [0.0, 1.0] }).collect();
    let truth = Targets::Classes((0..100).map(|at| usize::from(at >= 10)).collect());
    scores.add(&(0..100).collect::<Vec<_>>(), &Tensor::new([100, 2], rows), &truth);
    let training = Training {
        dataset: "pets".into(),
        counts: vec![(classes[0].clone(), 12), (classes[1].clone(), 90)],
        validation: 100,
        facts: vec![("Result".into(), "epoch 2: loss 0.1".into())],
        scores: Some(scores),
    };
    let card = card(Some(training));
    let mut record = card.record(made());
    record.results = [("loss".to_string(), 0.125), ("accuracy".to_string(), 0.94)].into_iter().collect();
    let text = card.text(&record);
    let header = text.split("---\n").nth(1).expect("a header");
    let wanted = "library_name: archc\nbase_model: \"timm/resnet18.a1_in1k\"\nbase_model_relation: finetune\n\
        license: \"apache-2.0\"\npipeline_tag: image-classification\ntags:\n- archc\n- \"resnet18\"\nmetrics:\n- \"loss\"\n\
        - \"accuracy\"\nmodel-index:\n- name: \"mine *1*\"\n  results:\n  - task:\n      type: image-classification\n      \
        name: Image Classification\n    dataset:\n      type: \"pets\"\n      name: \"pets\"\n      split: validation\n    \
        metrics:\n    - type: \"loss\"\n      value: 0.125\n    - type: \"accuracy\"\n      value: 0.94\n";
    assert_eq!(header, wanted);
    for limit in [
        "The accuracy was measured on 100 samples. With so many, an accuracy from 87.5 % to 97.2 % fits",
        "Some classes are found less often than the rest: cat \"x\" (40 % of 10).",
        "What it mistakes most often: cat \"x\" for dog (6 times).",
        "Fewer than 20 pictures to learn from have the classes `cat \"x\"`.",
        "The classes are uneven: `dog` has 90 pictures to learn from, `cat \"x\"` 12.",
        "| cat \"x\" | 12 | 100.0 % | 40.0 % |",
    ] {
        assert!(text.contains(limit), "{limit}\n{text}");
    }
}

#[test]
fn an_interval_is_wilsons() {
    // statsmodels.stats.proportion.proportion_confint(.., method = "wilson")
    for ((part, whole), (low, high)) in [
        ((90, 100), (0.825_634_34, 0.944_770_86)),
        ((0, 10), (0.0, 0.277_532_80)),
        ((10, 10), (0.722_467_20, 1.0)),
        ((1, 3), (0.061_491_94, 0.792_340_40)),
    ] {
        let (from, to) = interval(part, whole);
        assert!((from - low).abs() < 1e-6 && (to - high).abs() < 1e-6, "{part}/{whole}: {from} {to}");
    }
}

#[test]
fn nobodys_file_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let (output, readme) = (folder.path().join("net.safetensors"), folder.path().join("README.md"));
    assert_eq!(place(&output), Some(readme.clone()));
    let card = card(None);
    let mut record = card.record(made());
    record.outputs.push(Stamped::of_text("x", "safetensors", "net.safetensors".into()));
    write(&readme, &card.text(&record)).expect("written");
    assert_eq!(place(&output), Some(readme.clone()), "its own card");
    let own = folder.path().join("other.md");
    assert_eq!(place(&folder.path().join("other.onnx")), Some(own.clone()), "the card of another output");
    std::fs::write(&own, "mine").expect("written");
    assert_eq!(place(&folder.path().join("other.onnx")), None);
    std::fs::write(&readme, [0xff, 0xfe]).expect("written");
    assert_eq!(place(&output), Some(folder.path().join("net.md")));
}
