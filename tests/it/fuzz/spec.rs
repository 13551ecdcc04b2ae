//! Random programs: whatever the text, compiling it ends, soon, and without a panic.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use archc::stages::zoo;
use archc::{Files, Spec};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{config, growing};

/// No small text takes longer: far above what one takes, for machines that do much else, unless ARCHC_FUZZ_SECONDS says.
fn longest() -> Duration {
    Duration::from_secs(number("ARCHC_FUZZ_SECONDS").unwrap_or(60))
}

pub(super) fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The most memory that the process has held, in MiB; None where the system does not tell.
pub(super) fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib >> 10)
}

/// Words, numbers and signs of the language, and some of others.
const TOKENS: &[&str] = &[
    "base",
    "resnet18",
    "tiny",
    "replace",
    "with",
    "keeping",
    "preserving",
    "rows",
    "channels",
    "center",
    "same",
    "insert",
    "before",
    "after",
    "at",
    "beside",
    "remove",
    "residual",
    "around",
    "project",
    "auto",
    "connect",
    "to",
    "add",
    "concat",
    "cut",
    "append",
    "prepend",
    "set",
    "output",
    "rename",
    "tie",
    "freeze",
    "unfreeze",
    "init",
    "all",
    "except",
    "expect",
    "where",
    "as",
    "block",
    "network",
    "input",
    "param",
    "let",
    "for",
    "in",
    "if",
    "then",
    "else",
    "seq",
    "shortcut",
    "prev",
    "out",
    "true",
    "false",
    "none",
    "and",
    "or",
    "not",
    "use",
    "train",
    "data",
    "loss",
    "lr",
    "by",
    "weights",
    "map",
    "map?",
    "ignore",
    "join",
    "roles",
    "dilate",
    "@head",
    "@stages[-1]",
    "tap(2)",
    "order",
    "resize",
    "part",
    "labels",
    "preprocess",
    "archc",
    "1",
    "a",
    "b",
    "one",
    "fc",
    "conv1",
    "layer1",
    "layer1[0]",
    "layer*",
    "**",
    "*",
    ":conv2d",
    ":relu",
    "linear",
    "(8)",
    "conv2d",
    "(4, kernel = 3)",
    "relu",
    "batch_norm2d",
    "flatten",
    "reshape",
    "(2, -1)",
    "permute",
    "chunk",
    "(2)",
    "tied",
    "(one)",
    "se",
    "lora",
    "cbam",
    "[N, 8]",
    "[N, 3, 8, 8]",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ",",
    ";",
    "\n",
    "=",
    "->",
    "..",
    "..=",
    ":",
    ".",
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "**",
    "==",
    "<",
    "0",
    "3",
    "-1",
    "0.5",
    "1e300",
    "9223372036854775807",
    "\"x\"",
    "\"a{i}\"",
    "\"",
    "#",
    "\\",
    "\u{1F600}",
];

/// Specs that reach far into the compiler, to be mutated.
const SPECS: &[&str] = &[
    "network tiny(c = 4) { input [N, 3, 16, 16]; one: conv2d(c, kernel = 3, stride = 2, padding = 1)\n two: conv2d(c, kernel = 3, \
     stride = 2, padding = 1) -> relu\n avgpool: global_avg_pool2d\n fc: linear(10)\n roles { stem = one; head = fc; \
     stages = [one, two..=relu] } }\nnetwork other = tiny(8) roles { stages = [two] }\nbase other\ninput meta: [N, 5]\n\
     insert { side: linear(3); concat(in, (meta -> linear(4))) } before @head\nreplace @head with same(out = 3)\n\
     output aux = tap(4) -> fcn_head(2)\noutput rest = side\ndilate to 2\nfreeze all except @stages[-1], @head, tap(2)\n",
    "network tiny(c = 4) { input [N, 3, 8, 8]; one: conv2d(c, kernel = 3, padding = 1) -> bn: batch_norm2d\n relu\n \
     body: seq { for i in 0..3 { residual { conv2d(c, kernel = 1) } shortcut if in.channels != c { conv2d(c, kernel = 1) } } }\n \
     global_avg_pool2d\n fc: linear(10) }\nbase tiny { weights random(seed = 1) }\ninsert se(2) at body[1]\n\
     replace fc with dropout(0.5) -> linear(3)\nset one { out = 8 }\nfreeze all except fc\noutput c = body\n\
     tie body[1] to body[0]\nconnect one to body[2].conv2d with add\nrename fc to head.fc\n\
     train { data folder(\"x\"); loss mse(target = image); optimizer adam(betas = (0.9, 0.99)); lr body.** by 0.1 }\n",
    "base resnet18\ninsert cbam at layer*[-1] expect 4\nreplace avgpool..=fc with { a: conv2d(8, kernel = 1) -> relu; flatten \
     -> linear(4) } as head\nresidual around layer1[0].conv2 project auto\ninit **:conv2d where kernel == 3 with zeros\n\
     remove layer4[1]\nunfreeze fc\nappend { let x = in -> relu; concat(x, prev, axis = -1) }\n",
    "base resnet18 { input [N, 4, 32, 32] }\nreplace conv1 with same(kernel = 5) keeping channels [0..3, mean], center\n\
     set fc.out = 3 keeping rows [0, -1, new]\nreplace layer4[1].conv1 with { a: conv2d(512, kernel = 1) } keeping \
     { a = layer4[1].conv1 center }\ninput meta: [N, 4]\noutput side = layer3 -> fcn_head(2)\ndilate to 16\n\
     insert { concat(in, (meta -> linear(2))) } before fc\ninsert dropout before @head preserving\n",
    "param n = 3\nlet wide(c, w) = make_divisible(c * w, 8)\nblock unit(out, act = relu) seq { conv2d(out, kernel = (3, 1)); \
     if out > 4 { act } else { gelu } }\nnetwork net { input [N, n, 16, 16]; for i, j in zip([1, 2], [3, 4]) { \
     \"u{i}\": unit(wide(i * j, 2.0), act = none) }; let a, b = in -> chunk(3)\n permute(0, 2, 3, 1) }\nbase net\n",
];

fn soup() -> impl Strategy<Value = String> {
    let token = proptest::sample::select(TOKENS);
    let glue = proptest::sample::select(vec![" ", "", " ", "\n", " "]);
    proptest::collection::vec((token, glue), 0..120)
        .prop_map(|tokens| tokens.into_iter().flat_map(|(token, glue)| [token, glue]).collect())
}

/// A text of ours with tokens replaced, taken out, doubled and put in.
fn mutated() -> impl Strategy<Value = String> {
    let texts: Vec<&'static str> =
        SPECS.iter().copied().chain(zoo::FILES.iter().map(|file| file.text).filter(|text| text.len() < 9000)).collect();
    let change = (any::<prop::sample::Index>(), 0..5u8, proptest::sample::select(TOKENS));
    (proptest::sample::select(texts), proptest::collection::vec(change, 1..8), any::<bool>()).prop_map(
        |(text, changes, with_base)| {
            let mut parts: Vec<&str> = split(text);
            for (at, kind, token) in changes {
                let at = at.index(parts.len());
                match kind {
                    0 => parts[at] = token,
                    1 => parts[at] = "",
                    2 => parts.insert(at, token),
                    3 => parts.insert(at, parts[at]),
                    _ => {
                        let other = text.len() % parts.len();
                        parts.swap(at, other);
                    }
                }
            }
            let text = parts.concat();
            // a file of the zoo is built only where something is the base
            let network = text.rsplit("\nnetwork ").next().and_then(|rest| rest.split(['(', ' ']).next());
            match network {
                Some(name) if with_base && !text.contains("\nbase ") => format!("{text}\nbase {name}\n"),
                _ => text,
            }
        },
    )
}

/// Words, blanks and single signs, in order.
fn split(text: &str) -> Vec<&str> {
    let mut parts = vec![];
    let mut start = 0;
    let class = |c: char| {
        if c.is_alphanumeric() || c == '_' {
            0
        } else if c.is_whitespace() {
            1
        } else {
            2
        }
    };
    let mut last = None;
    for (at, c) in text.char_indices() {
        if last.is_some_and(|last| last != class(c) || class(c) == 2) {
            parts.push(&text[start..at]);
            start = at;
        }
        last = Some(class(c));
    }
    parts.push(&text[start..]);
    parts
}

/// Compiles and renders; says how long it took, that errors came where it failed, and that none was left out.
fn survives(text: &str) -> Duration {
    let start = Instant::now();
    let dir = std::env::temp_dir().join("archc-fuzz-has-no-files");
    match Spec::from_text_in(text, "fuzz.arch", dir).check(Files::Later) {
        Ok(None) => {}
        Ok(Some(model)) => {
            model.warnings();
            let graph = model.compiled().typed.graph();
            assert!(graph.ids().all(|id| graph.node(id).shape.is_some()), "a typed graph has every shape");
        }
        Err(error) => {
            assert!(error.count() > 0, "a failure says why:\n{}", beginning(text));
            let shown = error.to_string();
            assert!(shown.contains("error["), "{shown}");
            assert!(shown.len() < 1 << 20, "{} bytes of messages:\n{}", shown.len(), beginning(text));
        }
    }
    start.elapsed()
}

fn beginning(text: &str) -> String {
    text.chars().take(4000).collect()
}

/// Tries texts of one kind.
fn hunt(kind: &str, cases: u32, texts: impl Strategy<Value = String>) {
    let most = number("ARCHC_FUZZ_MIB");
    let slowest = RefCell::new((Duration::ZERO, String::new()));
    let tried = Cell::new(0);
    let start = Instant::now();
    let found = TestRunner::new(ProptestConfig { cases, ..config() }).run(&texts, |text| {
        let took = survives(&text);
        tried.set(tried.get() + 1);
        if took > slowest.borrow().0 {
            *slowest.borrow_mut() = (took, beginning(&text));
        }
        prop_assert!(took < longest(), "took {took:?}");
        if let (Some(most), Some(peak)) = (most, peak()) {
            prop_assert!(peak < most, "{peak} MiB were held");
        }
        Ok(())
    });
    let (took, text) = &*slowest.borrow();
    println!(
        "{kind}: {} cases in {:?}, {:?} MiB held; slowest {took:?}:\n{text}",
        tried.get(),
        start.elapsed(),
        peak()
    );
    if let Err(error) = found {
        panic!("{}", beginning(&error.to_string()));
    }
}

#[test]
fn token_soup_is_survived() {
    hunt("soup", config().cases, soup());
}

#[test]
fn mutated_specs_are_survived() {
    hunt("mutated", config().cases, mutated());
}

#[test]
fn any_text_is_survived() {
    hunt("any", config().cases, "\\PC{0,200}");
}

#[test]
fn texts_that_ask_for_much_are_survived() {
    // each takes as long as many of the others
    hunt("growing", config().cases.div_ceil(4), growing::specs());
}
