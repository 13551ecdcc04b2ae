//! Texts that are too long to be written down: whatever they ask for, an answer comes soon, and says what is wrong.

use std::time::{Duration, Instant};

use archc::{Files, Spec};

/// A text takes a fraction of it; an answer that does not come soon takes for ever.
const SLOWEST: Duration = Duration::from_secs(30);

/// The rendered mistakes of a text, and how many there were.
fn mistakes(text: &str) -> (String, usize) {
    let start = Instant::now();
    let error = Spec::from_text_in(text, "long.arch", std::env::temp_dir()).check(Files::Later).err();
    let text = error.as_ref().map_or(String::new(), ToString::to_string);
    assert!(start.elapsed() < SLOWEST, "took {:?}: {}", start.elapsed(), &text[..text.len().min(200)]);
    (text, error.map_or(0, |error| error.count()))
}

#[test]
fn ten_thousand_mistakes_are_counted_and_a_hundred_are_shown() {
    let lines = " let x = y\n".repeat(10_000);
    let (text, count) = mistakes(&format!("network n {{ input [N, 4]\n{lines} relu }}\nbase n\n"));
    assert_eq!(count, 10_000);
    assert_eq!(text.matches("error[unknown-name]: nothing is called `y` here").count(), 100);
    assert!(text.contains("error[limit]: 9900 more errors are not shown"));
    assert!(text.len() < 20_000, "{} bytes", text.len());
}

#[test]
fn the_rest_of_a_text_with_too_many_mistakes_is_left_alone() {
    let lines = " let x = y\n".repeat(20_000);
    let (text, count) = mistakes(&format!("network n {{ input [N, 4]\n{lines} relu }}\nbase n\n"));
    // the last is the limit itself
    assert_eq!(count, 10_002);
    assert!(text.contains("error[limit]: 9902 more errors are not shown"));
}

#[test]
fn a_message_is_as_quick_in_a_long_text() {
    let text = format!(
        "{}network n {{ input [N, 4]\n{} relu }}\nbase n\n",
        "# c\n".repeat(300_000),
        " let x = y\n".repeat(200)
    );
    let (text, count) = mistakes(&text);
    assert_eq!(count, 200);
    assert!(text.contains("--> long.arch:300002:10") && text.contains("\n300002 |  let x = y\n"), "{text}");
}

#[test]
fn texts_that_are_too_long_are_refused() {
    let network = |body: &str| format!("network n {{ input [N, 4]; {body} }}\nbase n\n");
    let cases = [
        (";\n".repeat(600_000), "this text has more than 1000000 words and signs"),
        ("x".repeat(2_000_000), "this line has more than 100000 bytes"),
        ("x".repeat(2_000), "this word has more than 1000 letters"),
        (network(&"relu\n".repeat(600_000)), "this text has more than 1000000 words and signs"),
        (network(&format!("{}: relu", "a".repeat(1001))), "this word has more than 1000 letters"),
        (format!("base resnet18\nremove \"{}\"\n", "a".repeat(1001)), "a name in a path has at most 1000 bytes"),
        (network(&format!("reshape({}4)", "1, ".repeat(30_000))), "a tensor has at most 64 axes"),
        (
            network(&format!("permute({}4)", "0, ".repeat(30_000))),
            "needs every axis of [N, 4] once, 2 of them, got 30001",
        ),
    ];
    for (text, wanted) in cases {
        let (shown, count) = mistakes(&text);
        assert!(shown.contains(wanted) && count == 1, "{count} mistakes: {}", &shown[..shown.len().min(500)]);
        assert!(shown.len() < 2_000, "{} bytes: {wanted}", shown.len());
    }
}

#[test]
fn files_that_use_files_are_counted_together() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let write = |name: String, text: String| std::fs::write(dir.path().join(name), text).expect("a writable folder");
    let compiled = |text: &str| {
        let found = Spec::from_text_in(text, "spec.arch", dir.path()).compile();
        found.err().map_or(String::new(), |error| error.to_string())
    };
    for at in 0..600 {
        write(format!("{at}.arch"), format!("use \"{}.arch\"\n", at + 1));
    }
    let text = compiled("use \"0.arch\"\nbase resnet18\n");
    assert!(text.contains("error[limit]: the spec uses more than 500 files"), "{text}");

    for at in 0..2 {
        write(format!("long{at}.arch"), ";\n".repeat(300_000));
    }
    let uses: String = (0..2).map(|at| format!("use \"long{at}.arch\"\n")).collect();
    let text = compiled(&format!("{uses}base resnet18\n"));
    assert!(text.contains("the files of this spec have more than 1000000 words and signs in all"), "{text}");
}

#[test]
fn functions_see_only_what_they_name() {
    let functions: String = (0..5_000).map(|at| format!(" let f{at}(n) = n + k\n")).collect();
    let (text, count) = mistakes(&format!(
        "network n {{ input [N, 4]\n let k = 3\n{functions} let k = 5\n linear(f4999(1)); linear(f0(k) / 3) }}\nbase n\n"
    ));
    // 5 + 3 is 8: the function sees the `k` above it
    assert!(text.contains("8 / 3 is not a whole number") && count == 1, "{text}");
}
