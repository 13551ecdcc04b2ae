use super::svg::{Series, chart, number};
use super::*;
use crate::train::run::scores::Mistake;

#[test]
fn a_page_stands_alone_and_escapes_what_comes_from_outside() {
    let lines = vec![
        Line { step: Some(1), epoch: 1, loss: 2.0, lr: Some(0.1), ..Line::default() },
        Line { step: Some(2), epoch: 1, loss: 1.0, lr: Some(0.05), ..Line::default() },
        Line { epoch: 1, loss: 1.5, val_loss: Some(1.2), val_accuracy: Some(0.5), ..Line::default() },
    ];
    let scores = Scores {
        classes: vec!["<cat>".into(), "dog".into()],
        confusion: vec![3, 1, 0, 4],
        top5: 8,
        samples: 8,
        worst: vec![Mistake { sample: 0, truth: 0, answer: 1, probability: 0.875 }],
    };
    let picture = Rgb::new(2, 1, vec![0, 1, 2, 3, 4, 5]);
    let report = Report {
        name: "a & b".into(),
        facts: vec![("Result".into(), "<ok>".into())],
        lines,
        scores: Some(scores),
        mistakes: vec![picture.clone()],
        pairs: vec![(picture.clone(), picture)],
        ledger: vec![("new".into(), vec!["fc.weight".into()])],
        spec: "base a # <b>".into(),
    };
    let page = page::page(&report);
    for part in [
        "<title>a &amp; b</title>",
        "&lt;ok&gt;",
        "&lt;cat&gt; taken for dog: 1",
        "87.5 %",
        "75.0 %",
        "<summary>1 new</summary>",
        "base a # &lt;b&gt;",
        "data:image/png;base64,iVBOR",
        "Accuracy",
        "Inputs and reconstructions",
    ] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
    assert!(!page.contains("http") && !page.contains("<script") && !page.contains("NaN"));
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

#[test]
fn charts_draw_whatever_there_is() {
    let line = |points: &[(f64, f64)]| {
        chart("t", "step", &[Series { name: "a", class: "first", points: points.to_vec(), dots: false }])
    };
    assert_eq!(line(&[]), "");
    assert_eq!(line(&[(0.0, f64::NAN)]), "");
    assert!(line(&[(1.0, 0.0)]).contains("<circle"));
    let many: Vec<(f64, f64)> = (0..5000).map(|at| (f64::from(at), f64::from(at).sin())).collect();
    let svg = line(&many);
    assert!(svg.len() < 12_000 && !svg.contains("NaN") && !svg.contains("inf"));
    let texts: Vec<String> = [0.0, 0.25, 12.5, 1200.0, 1e-5, 2.5e7].into_iter().map(number).collect();
    assert_eq!(texts, ["0", "0.25", "12.5", "1200", "1e-5", "2.5e7"]);
}
