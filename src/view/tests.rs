//! What pictures promise: boxes apart, links from box to box, names that are text and nothing else, and edits where they are.

use super::fold::Fold;
use super::layout::{Inside, Laid, layout};
use super::scene::{End, Scene};
use super::*;
use crate::compile::{Compiled, Outcome, compile};
use crate::diag::{Code, render};
use crate::source::Sources;

fn compiled(text: &str) -> (Sources, Compiled) {
    let mut sources = Sources::new();
    let file = sources.add("spec.arch", text, None);
    match compile(&mut sources, file, &[]) {
        Ok(Outcome::Spec(compiled)) => (sources, *compiled),
        Ok(Outcome::Library) => panic!("it has a base"),
        Err(problems) => panic!("{}", render(&problems, &sources, false)),
    }
}

fn of(text: &str) -> Picture {
    let (sources, compiled) = compiled(text);
    spec("spec.arch", &sources, &compiled, Part(None))
}

fn zoo(name: &str) -> Picture {
    of(&format!("base {name}\n"))
}

fn item<'a>(picture: &'a Picture, place: &str) -> &'a Item {
    let found = picture.items.iter().find(|item| item.place == place && item.form != Form::Range);
    found.unwrap_or_else(|| {
        panic!("{place} is among {:?}", picture.items.iter().map(|one| &one.place).collect::<Vec<_>>())
    })
}

fn written(picture: &Picture, format: &str, depth: Depth) -> String {
    let format = Format::named(format).expect("a format");
    format.write(picture, depth).unwrap_or_else(|problem| panic!("{}", problem.message))
}

const EDITED: &str = "base resnet50\n\ninsert se(reduction = 16) at layer*[-1] expect 4\nset layer4[0].conv2 { dilation = 2, padding = 2 }\n\
                      remove layer1[0].relu\nreplace fc with linear(10)\n";

/// Checks a box and all inside of it, and says how many links there are.
fn check(picture: &Picture, laid: &Laid) -> usize {
    let Some(Inside { boxes, wires, .. }) = &laid.inside else { return 0 };
    let name = |one: &Laid| picture.items[one.item].place.clone();
    for (at, one) in boxes.iter().enumerate() {
        let is_within = one.x >= laid.x - 0.5
            && one.y >= laid.y - 0.5
            && one.x + one.width <= laid.x + laid.width + 0.5
            && one.y + one.height <= laid.y + laid.height + 0.5;
        assert!(is_within, "{} lies in {}: {one:?}", name(one), name(laid));
        for other in &boxes[at + 1..] {
            let apart = one.x + one.width <= other.x + 0.5
                || other.x + other.width <= one.x + 0.5
                || one.y + one.height <= other.y + 0.5
                || other.y + other.height <= one.y + 0.5;
            assert!(apart, "{} and {} overlap", name(one), name(other));
        }
    }
    let find = |end: End| match end {
        End::Box(item) => boxes.iter().find(|one| one.item == item).expect("a link's box is drawn"),
        End::Port => laid,
    };
    let touches = |one: &Laid, (x, y): (f64, f64)| {
        let is_beside = x >= one.x - 1.0 && x <= one.x + one.width + 1.0;
        is_beside && ((y - one.y).abs() < 1.0 || (y - one.y - one.height).abs() < 1.0)
    };
    for wire in wires {
        let (from, to) = (find(wire.key.0), find(wire.key.1));
        assert!(touches(from, wire.points[0]), "{}: {wire:?}\n{from:?}", name(from));
        assert!(touches(to, wire.points[wire.points.len() - 1]), "{}: {wire:?}\n{to:?}", name(to));
        for piece in wire.points.windows(2) {
            for one in boxes.iter().filter(|one| one.item != from.item && one.item != to.item) {
                assert!(!crosses(piece[0], piece[1], one), "a link through {}: {wire:?}\n{one:?}", name(one));
            }
        }
    }
    wires.len() + boxes.iter().map(|one| check(picture, one)).sum::<usize>()
}

/// Whether a straight line goes through the inside of a box.
fn crosses(a: (f64, f64), b: (f64, f64), one: &Laid) -> bool {
    let (left, right, top, bottom) = (one.x + 2.0, one.x + one.width - 2.0, one.y + 2.0, one.y + one.height - 2.0);
    (0..=40).any(|step| {
        let share = f64::from(step) / 40.0;
        let (x, y) = (a.0 + (b.0 - a.0) * share, a.1 + (b.1 - a.1) * share);
        x > left && x < right && y > top && y < bottom
    })
}

#[test]
fn boxes_lie_apart_and_links_end_at_them() {
    for network in
        ["resnet50", "efficientnet_b0", "swin_t", "maxvit_t", "googlenet", "densenet121", "deeplabv3_resnet50"]
    {
        let picture = zoo(network);
        for depth in [Depth::Fitting, Depth::Labels(1), Depth::Labels(3), Depth::Labels(9)] {
            let fold = Fold::new(&picture, depth, 3000).unwrap_or_else(|problem| panic!("{}", problem.message));
            let scene = Scene::new(&picture, &fold);
            let links = check(&picture, &layout(&picture, &scene));
            assert!(links + 1 >= fold.inside(&picture, 0).len(), "{network}: everything hangs together");
        }
    }
}

#[test]
fn equal_neighbours_are_one_box() {
    let picture = zoo("resnet50");
    let run = item(&picture, "layer3[1..6]");
    assert_eq!((run.form, run.children.len(), run.kind.as_str()), (Form::Run, 5, "bottleneck"));
    // the first stands for all, and no value goes from one to the next
    let fold = Fold::new(&picture, Depth::Labels(9), 3000).unwrap_or_else(|problem| panic!("{}", problem.message));
    let scene = Scene::new(&picture, &fold);
    let svg = written(&picture, "svg", Depth::Labels(9));
    assert!(svg.contains("layer3[1..6]  × 5"), "{svg}");
    assert!(!svg.contains("layer3[2]"), "{svg}");
    let shown =
        |place: &str| scene.frames.values().any(|frame| frame.boxes.iter().any(|id| picture.items[*id].place == place));
    assert!(shown("layer3[1].conv1") && !shown("layer3[2].conv1"));
    // one by one
    assert!(written(&picture, "svg", Depth::Whole).contains("layer3[2].conv1"));
    // where nothing is folded every value is drawn once
    let whole = Fold::new(&picture, Depth::Whole, 3000).unwrap_or_else(|problem| panic!("{}", problem.message));
    let values: usize = picture.layers.iter().map(|layer| layer.operands.len()).sum();
    assert_eq!(Scene::new(&picture, &whole).ways().len(), values);
}

#[test]
fn edits_are_marked_where_they_worked() {
    let picture = of(EDITED);
    let names: Vec<&str> = picture.marks.iter().map(|mark| mark.name.as_str()).collect();
    assert_eq!(names, ["line 3", "line 4", "line 5", "line 6"]);
    let state = |place: &str| {
        let item = item(&picture, place);
        (item.state, item.marks.iter().copied().collect::<Vec<_>>())
    };
    assert_eq!(state("layer1[2].se"), (State::Added, vec![0]));
    assert_eq!(state("layer1[2].se.fc1"), (State::Added, vec![0]));
    assert_eq!(state("layer1[2].conv1"), (State::Same, vec![]));
    assert_eq!(state("layer1[2]").0, State::Same);
    assert_eq!(state("layer4[0].conv2"), (State::Changed, vec![1]));
    assert_eq!(state("layer1[0].relu"), (State::Removed, vec![2]));
    assert_eq!(state("fc"), (State::Changed, vec![3]));
    assert_eq!(state("layer2"), (State::Same, vec![0]));
    let fc = &picture.layers[item(&picture, "fc").layer.expect("a layer")];
    assert!(fc.was.as_deref().is_some_and(|was| was.contains("1000")), "{:?}", fc.was);
    assert_eq!(fc.keys[0].fate, "fresh");
    let conv = &picture.layers[item(&picture, "conv1").layer.expect("a layer")];
    assert_eq!(conv.keys[0].fate, "from the base");
    // the value that went through what is gone
    let ghost =
        picture.of_layer.iter().position(|own| picture.items[*own].place == "layer1[0].relu").expect("it is drawn");
    assert!(picture.layers.iter().flat_map(|layer| &layer.operands).any(|operand| operand.layer == ghost));
    let svg = written(&picture, "svg", Depth::Labels(9));
    for said in ["+ line 3", "~ line 4", "\u{2212} line 5", "~ line 6", "insert se(reduction = 16)", "class=\"gone\""] {
        assert!(svg.contains(said), "{said}");
    }
    let fold = Fold::new(&picture, Depth::Labels(9), 3000).unwrap_or_else(|problem| panic!("{}", problem.message));
    check(&picture, &layout(&picture, &Scene::new(&picture, &fold)));
}

#[test]
fn what_an_edit_removed_whole_is_there() {
    let picture = of("base resnet18\nremove layer4\nreplace @head with { dropout; linear(5) }\n");
    assert_eq!(item(&picture, "layer4").state, State::Removed);
    let removed = picture.layers.iter().filter(|layer| layer.state == State::Removed).count();
    // the layers of layer4, and `fc`, in whose place a scope stands
    let base = zoo("resnet18");
    assert_eq!(removed, item(&base, "layer4").layers + 1);
    assert!(picture.layers.iter().filter(|layer| layer.state == State::Removed).all(|layer| layer.mark.is_some()));
}

#[test]
fn a_difference_shows_both_sides() {
    let (_, a) = compiled("base resnet18\n");
    let (_, b) = compiled("base resnet18\nreplace fc with linear(7)\nremove layer1[1].relu\ninsert se at layer2[1]\n");
    let picture = difference(("a.arch", "b.arch"), &a, &b);
    let state = |place: &str| item(&picture, place).state;
    assert_eq!(state("layer1[1].relu"), State::Removed);
    assert_eq!(state("layer2[1].se"), State::Added);
    assert_eq!(state("fc"), State::Changed);
    assert_eq!(state("layer3"), State::Same);
    let fold = Fold::new(&picture, Depth::Fitting, 3000).unwrap_or_else(|problem| panic!("{}", problem.message));
    let is_open =
        |place: &str| picture.items.iter().position(|item| item.place == place).is_some_and(|id| fold.open[id]);
    assert!(is_open("layer2[1]") && !is_open("layer3[0]"), "what is equal stays folded");
    // a network differs from itself in nothing
    let same = difference(("a.arch", "a.arch"), &a, &a);
    assert!(same.layers.iter().all(|layer| layer.state == State::Same));
    assert!(same.marks.iter().all(|mark| mark.result == "0 layers"));
}

#[test]
fn a_part_is_drawn_with_what_lies_beside_it() {
    let (_, compiled) = compiled("base resnet50\n");
    let graph = compiled.typed.graph();
    let nodes = graph.order_of(&graph.layers("layer1.1").collect::<Vec<_>>());
    let picture = network("part", &compiled.typed, Part(Some(&nodes)));
    let beside: Vec<&str> =
        picture.layers.iter().filter(|layer| layer.form == Form::Beside).map(|layer| layer.path.as_str()).collect();
    assert_eq!(beside, ["layer1[0].relu_2", "layer1[2].conv1", "layer1[2].add"]);
    assert_eq!(picture.layers.len(), nodes.len() + 3);
    // with the edits that are in it
    let (sources, compiled) = super::tests::compiled(EDITED);
    let graph = compiled.typed.graph();
    let nodes: Vec<crate::graph::NodeId> = graph.layers("layer4").collect();
    let picture = spec("part", &sources, &compiled, Part(Some(&nodes)));
    let names: Vec<&str> = picture.marks.iter().map(|mark| mark.name.as_str()).collect();
    assert_eq!(names, ["line 3", "line 4"]);
    assert_eq!(item(&picture, "layer4[0].conv2").marks.first(), Some(&1));
}

#[test]
fn steps_and_their_times() {
    let (_, compiled) = compiled("base resnet18\n");
    let cpu = crate::exec::cpu::Cpu::new();
    use crate::exec::Backend;
    let plan = crate::plan::plan(crate::opt::optimise(&compiled.typed, cpu.fusions()), &cpu.options(1));
    let plan = plan.unwrap_or_else(|problem| panic!("{}", problem.message));
    let picture = planned("steps", &compiled.typed, &plan);
    let steps = picture.layers.iter().filter(|layer| layer.form == Form::Layer).count();
    assert_eq!(steps, plan.steps().len());
    // all but constants take something, and the last one's value is the output
    assert!(picture.layers.iter().skip(1).all(|layer| !layer.operands.is_empty()));
    let step = |kernel: &str, layer: &str, ms: f64| serde_json::json!({"kernel": kernel, "layers": [layer], "ms": ms});
    let report = |steps: Vec<serde_json::Value>| serde_json::json!({"profile": {"steps": steps}});
    let times = report(vec![step("stem", "conv1", 2.0), step("linear", "fc", 0.5)]);
    let picture = measured("times", &compiled.typed, &times).unwrap_or_else(|problem| panic!("{}", problem.message));
    assert_eq!((picture.slowest, picture.items[0].ms), (Some(2.0), Some(2.5)));
    assert!(written(&picture, "svg", Depth::Whole).contains("2.000 ms"));
    for wrong in [
        serde_json::json!([1, 2]),
        serde_json::json!({"profile": {"steps": [{"kernel": "k"}]}}),
        report(vec![step("k", "no.such", 1.0)]),
        report(vec![step("k", "fc", -1.0)]),
    ] {
        assert!(measured("times", &compiled.typed, &wrong).is_err(), "{wrong}");
    }
}

fn plain(path: &str, form: Form, operands: &[usize]) -> Layer {
    let takes = |layer: &usize| Operand { layer: *layer, state: State::Same, mark: None };
    Layer {
        path: path.into(),
        form,
        op: "relu".into(),
        text: path.into(),
        was: Some(path.into()),
        shape: path.into(),
        keys: vec![Key { name: path.into(), shape: path.into(), fate: path.into() }],
        parameters: 0,
        macs: 0,
        ms: None,
        state: State::Changed,
        mark: Some(0),
        operands: operands.iter().map(takes).collect(),
    }
}

#[test]
fn names_are_text_and_nothing_else() {
    let evil = "</script><script>alert(1)</script><!-- \"]; x -> y; `end` \\\" &lt; {{script}} \u{1b}[31m \u{202e}\u{2028}\n```\n# h";
    let mark = Mark { name: evil.into(), text: evil.into(), result: evil.into() };
    let layers = vec![plain(evil, Form::Layer, &[]), plain("b", Form::Layer, &[0]), plain(evil, Form::Output, &[1])];
    let braces = |_: &str| Some(Braces { block: evil.into(), shape: evil.into() });
    let layers: Vec<Layer> =
        layers.into_iter().map(|layer| Layer { path: layer.path.replace('.', ""), ..layer }).collect();
    let picture = Picture::new(Subject::Network, evil.into(), evil.into(), vec![mark], layers, braces);
    let svg = written(&picture, "svg", Depth::Whole);
    assert!(
        !svg.contains("<script") && !svg.contains("<!--") && !svg.contains('\u{1b}') && !svg.contains('\u{202e}'),
        "{svg}"
    );
    // as XML, element by element: each that opens closes
    let opened = svg.matches("<g").count();
    assert_eq!(opened, svg.matches("</g>").count());
    let html = written(&picture, "html", Depth::Whole);
    assert_eq!(html.matches("</script>").count(), 3, "only the page's own");
    assert_eq!(html.matches("<script").count(), 3);
    assert!(!html.contains("<!-- "), "no comment begins");
    let data = html.split_once("id=\"data\">").and_then(|(_, rest)| rest.split_once("</script>")).expect("the data").0;
    assert!(!data.contains('\u{2028}'));
    let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["title"], evil);
    let dot = written(&picture, "dot", Depth::Whole);
    assert!(!dot.contains('\u{1b}'));
    // outside of quotes there is nothing of it
    let mut outside = String::new();
    let mut chars = dot.chars();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => drop(chars.next()),
            '"' => quoted = !quoted,
            c if !quoted => outside.push(c),
            _ => {}
        }
    }
    assert!(!quoted && !outside.contains("script") && !outside.contains("alert"), "{outside}");
    let page = written(&picture, "md", Depth::Whole);
    let diagram =
        page.split_once("```mermaid\n").and_then(|(_, rest)| rest.split_once("\n```\n")).expect("a diagram").0;
    assert!(!diagram.contains("<script") && !diagram.contains('`') && !diagram.contains('&'), "{diagram}");
    assert_eq!(page.lines().filter(|line| line.starts_with("```")).count(), 2, "{page}");
    assert_eq!(page.lines().filter(|line| line.starts_with("# ")).count(), 1, "{page}");
}

#[test]
fn ninety_thousand_layers_are_drawn_in_groups() {
    let mut layers = vec![plain("in", Form::Input, &[])];
    for at in 1..90_000 {
        let skip = if at > 3 { vec![at - 1, at - 3] } else { vec![at - 1] };
        layers.push(plain(&format!("layer_{at}"), Form::Layer, &skip));
    }
    layers.iter_mut().for_each(|layer| layer.mark = None);
    let picture = Picture::new(Subject::Network, "long".into(), String::new(), vec![], layers, |_| None);
    assert!(picture.items.iter().all(|item| item.children.len() <= CROWD));
    assert_eq!(picture.items[0].layers, 89_999);
    for format in FORMATS {
        written(&picture, format.name, Depth::Fitting);
        let refused = format.write(&picture, Depth::Whole).map_err(|problem| problem.code);
        assert_eq!(refused.err(), Some(Code::Limit), "{}", format.name);
    }
}

#[test]
fn any_graph_is_laid_out() {
    // as edits and ghosts may leave them: circles, layers without readers, several values between two
    let mut state = 7_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..60 {
        let number = 2 + draw(40);
        let mut layers = vec![];
        for at in 0..number {
            let path = format!("s{}.t{}.layer{at}", draw(4), draw(3));
            let operands: Vec<usize> = (0..draw(4)).map(|_| draw(number)).filter(|from| *from != at).collect();
            layers.push(plain(&path, Form::Layer, &operands));
        }
        layers.iter_mut().for_each(|layer| layer.mark = None);
        let picture = Picture::new(Subject::Network, "any".into(), String::new(), vec![], layers, |_| None);
        for depth in [Depth::Labels(1), Depth::Labels(2), Depth::Whole] {
            let fold = Fold::new(&picture, depth, 3000).unwrap_or_else(|problem| panic!("{}", problem.message));
            let scene = Scene::new(&picture, &fold);
            let laid = layout(&picture, &scene);
            assert!(laid.width.is_finite() && laid.height.is_finite(), "round {round}");
            scene.ways();
        }
    }
}
