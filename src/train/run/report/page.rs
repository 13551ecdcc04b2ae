//! The page itself. Whatever comes from outside is escaped; nothing is fetched, no script runs.

use std::fmt::Write;

use super::svg::{Series, chart};
use super::{Report, data_url};
use crate::train::run::metrics::Line;
use crate::train::run::scores::Scores;

/// Keys of a fate that are listed.
const KEYS: usize = 200;
/// Classes of a matrix that is drawn; of more, the most frequent confusions are listed.
const CLASSES: usize = 40;

pub fn page(report: &Report) -> String {
    let mut body = format!("<h1>{}</h1>", escaped(&report.name));
    body += "<table class=\"facts\">";
    for (name, value) in &report.facts {
        let _ = write!(body, "<tr><th>{}</th><td>{}</td></tr>", escaped(name), escaped(value));
    }
    body += "</table>";
    body += &curves(&report.lines);
    if let Some(scores) = &report.scores {
        body += &confusion(scores);
        body += &classes(scores);
        body += &mistakes(report, scores);
    }
    body += &pairs(report);
    body += &ledger(report);
    let _ = write!(body, "<h2>The spec</h2><pre>{}</pre>", escaped(&report.spec));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{}</title><style>{STYLE}</style></head>\
         <body>{body}</body></html>\n",
        escaped(&report.name)
    )
}

fn curves(lines: &[Line]) -> String {
    let steps = || lines.iter().filter_map(|line| Some((line.step? as f64, line)));
    // an epoch's values stand at its last step
    let mut ends: Vec<(f64, &Line)> = vec![];
    let mut last = 0.0;
    for line in lines {
        match line.step {
            Some(step) => last = step as f64,
            None => ends.push((last, line)),
        }
    }
    let of = |pick: fn(&Line) -> Option<f64>| -> Vec<(f64, f64)> {
        ends.iter().filter_map(|(at, line)| Some((*at, pick(line)?))).collect()
    };
    let loss = [
        Series {
            name: "a step",
            class: "faint",
            points: steps().map(|(at, line)| (at, line.loss)).collect(),
            dots: false,
        },
        Series { name: "training", class: "first", points: of(|line| Some(line.loss)), dots: true },
        Series { name: "validation", class: "second", points: of(|line| line.val_loss), dots: true },
    ];
    let accuracy = [Series { name: "validation", class: "second", points: of(|line| line.val_accuracy), dots: true }];
    let rates = steps().filter_map(|(at, line)| Some((at, line.lr?))).collect();
    let rate = [Series { name: "rate", class: "first", points: rates, dots: false }];
    format!(
        "<h2>Learning curves</h2><div class=\"row\">{}{}{}</div>",
        chart("Loss", "step", &loss),
        chart("Accuracy", "step", &accuracy),
        chart("Learning rate", "step", &rate)
    )
}

fn confusion(scores: &Scores) -> String {
    let count = scores.classes.len();
    if count > CLASSES {
        return frequent(scores);
    }
    let most = scores.confusion.iter().copied().max().unwrap_or(0).max(1) as f64;
    let mut out = String::from("<h2>Confusion matrix</h2><p>A row a true class, a column an answer.</p>");
    out += "<div class=\"wide\"><table class=\"matrix\"><tr><th></th>";
    for name in &scores.classes {
        let _ = write!(out, "<th class=\"column\"><span>{}</span></th>", escaped(name));
    }
    out += "</tr>";
    for (truth, name) in scores.classes.iter().enumerate() {
        let _ = write!(out, "<tr><th>{}</th>", escaped(name));
        for answer in 0..count {
            let number = scores.confusion[truth * count + answer];
            let share = (number as f64 / most).sqrt();
            let colour = if truth == answer { "47,125,79" } else { "192,70,46" };
            let light = if share > 0.6 { " class=\"light\"" } else { "" };
            let text = if number == 0 { String::new() } else { number.to_string() };
            let _ = write!(
                out,
                "<td{light} style=\"background:rgba({colour},{share:.2})\" title=\"{} taken for {}: {number}\">{text}</td>",
                escaped(name),
                escaped(&scores.classes[answer])
            );
        }
        out += "</tr>";
    }
    out + "</table></div>"
}

/// The most frequent confusions.
fn frequent(scores: &Scores) -> String {
    let count = scores.classes.len();
    let wrong = scores.confusion.iter().enumerate().filter(|(at, number)| at / count != at % count && **number > 0);
    let mut wrong: Vec<(usize, u64)> = wrong.map(|(at, number)| (at, *number)).collect();
    wrong.sort_by_key(|(at, number)| (std::cmp::Reverse(*number), *at));
    let mut out =
        String::from("<h2>Most frequent confusions</h2><table><tr><th>class</th><th>taken for</th><th>times</th></tr>");
    for (at, number) in wrong.into_iter().take(CLASSES) {
        let (truth, answer) = (&scores.classes[at / count], &scores.classes[at % count]);
        let _ = write!(out, "<tr><td>{}</td><td>{}</td><td>{number}</td></tr>", escaped(truth), escaped(answer));
    }
    out + "</table>"
}

fn classes(scores: &Scores) -> String {
    let percent = |share: Option<f64>| share.map_or("-".into(), |share| format!("{:.1} %", share * 100.0));
    let mut out =
        String::from("<h2>Classes</h2><table><tr><th>class</th><th>precision</th><th>recall</th><th>samples</th></tr>");
    for (class, name) in scores.classes.iter().enumerate() {
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(name),
            percent(scores.precision(class)),
            percent(scores.recall(class)),
            scores.support(class)
        );
    }
    out + "</table>"
}

fn mistakes(report: &Report, scores: &Scores) -> String {
    let mut out = String::from("<h2>Worst mistakes</h2>");
    if report.mistakes.is_empty() {
        return out + "<p>There are none.</p>";
    }
    out += "<p>What the network is most sure of and wrong about.</p><div class=\"row\">";
    for (mistake, picture) in scores.worst.iter().zip(&report.mistakes) {
        let _ = write!(
            out,
            "<figure class=\"small\"><img alt=\"\" src=\"{}\"><figcaption>{}, taken for <b>{}</b> at {:.1} %</figcaption></figure>",
            data_url(picture),
            escaped(&scores.classes[mistake.truth]),
            escaped(&scores.classes[mistake.answer]),
            mistake.probability * 100.0
        );
    }
    out + "</div>"
}

fn pairs(report: &Report) -> String {
    if report.pairs.is_empty() {
        return String::new();
    }
    let mut out = String::from(
        "<h2>Inputs and reconstructions</h2><p>Above the input, below what the network makes of it.</p><div class=\"row\">",
    );
    for (input, output) in &report.pairs {
        let _ = write!(
            out,
            "<figure class=\"small\"><img alt=\"input\" src=\"{}\"><img alt=\"reconstruction\" src=\"{}\"></figure>",
            data_url(input),
            data_url(output)
        );
    }
    out + "</div>"
}

fn ledger(report: &Report) -> String {
    let mut out = String::from("<h2>The ledger of the weights</h2>");
    for (fate, keys) in &report.ledger {
        let _ = write!(out, "<details><summary>{} {}</summary><ul>", keys.len(), escaped(fate));
        for key in keys.iter().take(KEYS) {
            let _ = write!(out, "<li>{}</li>", escaped(key));
        }
        if keys.len() > KEYS {
            let _ = write!(out, "<li>and {} more</li>", keys.len() - KEYS);
        }
        out += "</ul></details>";
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2rem}\
table{border-collapse:collapse}th,td{padding:.2rem .6rem;text-align:left}.facts th{font-weight:500;color:#666}\
.row{display:flex;flex-wrap:wrap;gap:1rem}.wide{overflow-x:auto}\
figure{margin:0;flex:1 1 340px;max-width:560px}figcaption{color:#444;font-size:.9rem}\
figure.small{flex:0 0 112px}figure.small img{width:112px;display:block;image-rendering:pixelated;margin-bottom:2px}\
svg{width:100%;height:auto}.grid{stroke:#e6e6e6}.tick,.legend{font-size:11px;fill:#666}\
.line{fill:none;stroke-width:1.8}.faint{stroke:#c9cdd6}.first{stroke:#2b5fa5}.second{stroke:#c2562e}\
circle.first{fill:#2b5fa5}circle.second{fill:#c2562e}.dot{stroke:none}\
.matrix td,.matrix th{padding:.15rem .4rem;text-align:center;font-size:.85rem;min-width:1.8rem}\
.matrix td{border:1px solid #eee}.light{color:#fff}\
pre{background:#f6f6f4;padding:1rem;overflow-x:auto}details ul{columns:2;font-family:monospace;font-size:.85rem}";
