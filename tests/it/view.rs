//! `archc view` from outside: formats and files, and the page in a browser, where there is one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn archc(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archc"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args).env("NO_COLOR", "1").stdin(Stdio::null());
    command.output().expect("archc starts")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const SPEC: &str = "examples/squeeze_and_excitation.arch";

#[test]
fn the_ending_says_the_format() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let begins = [("a.svg", "<svg "), ("a.html", "<!DOCTYPE html>"), ("a.dot", "digraph {"), ("a.md", "# squeeze")];
    for (name, begin) in begins {
        let output = archc(&["view", SPEC, "--output", &file(name)]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.is_empty());
        let text = std::fs::read_to_string(file(name)).expect("it was written");
        assert!(text.starts_with(begin), "{name}: {}", &text[..80]);
        // stdout has the same
        let to = name.rsplit('.').next().expect("an ending");
        assert_eq!(stdout(&archc(&["view", SPEC, "--to", to])), text);
    }
    // where stdout is no terminal it takes the page
    assert!(stdout(&archc(&["view", SPEC])).starts_with("<!DOCTYPE html>"));
    for wrong in [vec!["--output", "a.png"], vec!["--output", "a.svg", "--to", "dot"], vec!["--times", "t.json"]] {
        let output = archc(&[&["view", SPEC], wrong.as_slice()].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // a spec is not written over
    let spec = file("spec.md");
    std::fs::write(&spec, "base resnet18\n").expect("a file can be written");
    assert_eq!(archc(&["view", &spec, "--output", &spec]).status.code(), Some(1));
}

#[test]
fn a_page_needs_no_network() {
    let page = stdout(&archc(&["view", SPEC, "--to", "html"]));
    let addresses: Vec<String> =
        page.match_indices("http").map(|(at, _)| page[at..].chars().take(30).collect()).collect();
    assert!(addresses.iter().all(|one| one.starts_with("http-equiv")), "{addresses:?}");
    assert!(page.contains("Permission is hereby granted"), "the licence of what is embedded");
}

/// A browser of the PATH.
fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    std::env::split_paths(&path).find_map(|dir| names.iter().map(|name| dir.join(name)).find(|file| file.is_file()))
}

/// The page after a script, which leaves what it saw in the title.
fn title_after(browser: &Path, page: &str, script: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("page.html");
    let at = page.rfind("</body>").expect("a body");
    let text = format!("{}<script>{script}</script>{}", &page[..at], &page[at..]);
    std::fs::write(&file, text).expect("a file can be written");
    let profile = format!("--user-data-dir={}", dir.path().join("profile").display());
    let args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,900", "--dump-dom", &profile];
    let mut started = Command::new(browser)
        .args(args)
        .arg(format!("file://{}", file.display()))
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(dir.path().join("dom")).expect("a file can be written"))
        .stderr(Stdio::null())
        .spawn()
        .expect("the browser starts");
    let begun = Instant::now();
    while started.try_wait().expect("the browser can be waited for").is_none() {
        if begun.elapsed() > Duration::from_secs(120) {
            let _ = started.kill();
            panic!("the browser does not end");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let dom = std::fs::read_to_string(dir.path().join("dom")).expect("the page");
    let title = dom.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>")).expect("a title").0;
    title.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
}

#[test]
fn keys_and_search_in_a_browser() {
    let Some(browser) = chromium() else {
        println!("no chromium in PATH: the page was not opened");
        return;
    };
    let page = stdout(&archc(&["view", SPEC, "--to", "html"]));
    let script = r#"
      const press = (key, target = document.getElementById('picture')) => target.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
      const boxes = () => document.querySelectorAll('#world .box').length;
      const place = () => document.querySelector('#details h2')?.textContent;
      const out = {};
      try {
        out.first = boxes();
        press('0'); out.folded = boxes();
        press(']'); out.level = boxes();
        press('9'); out.all = boxes();
        press('0');
        const search = document.getElementById('search');
        press('/'); out.focused = document.activeElement === search;
        search.value = 'layer3 se.fc1'; search.dispatchEvent(new Event('input', {bubbles: true}));
        out.found = [...document.querySelectorAll('#found li')].map(entry => entry.textContent.trim());
        press('Enter', search); out.place = place();
        const picked = document.querySelector('.box.picked .body')?.getBoundingClientRect();
        const stage = document.getElementById('stage').getBoundingClientRect();
        out.inView = picked.left >= stage.left && picked.right <= stage.right && picked.top >= stage.top && picked.bottom <= stage.bottom;
        search.value = 'no such layer'; search.dispatchEvent(new Event('input', {bubbles: true}));
        out.none = document.getElementById('found').textContent;
        press('Escape', search); out.left = document.activeElement === document.getElementById('picture');
        press('ArrowDown'); out.down = place();
        press('ArrowUp'); out.up = place();
        press('Backspace'); out.around = place();
        const before = boxes(); press('Enter'); out.fold = boxes() < before; press('Enter'); out.unfold = boxes() === before;
        press('Escape'); out.nothing = document.querySelectorAll('.picked').length;
        press('e'); out.edit = document.querySelector('#marks li.now code').textContent;
        out.dimmed = document.querySelectorAll('.dimmed').length > 0;
        press('?'); out.help = document.getElementById('keys').open; document.getElementById('keys').close();
        press('9');
        const run = [...document.querySelectorAll('[data-each]')][0]; out.runs = !!run;
        const alone = boxes(); run?.dispatchEvent(new MouseEvent('click', {bubbles: true})); out.each = boxes() > alone;
      } catch (error) { out.error = String(error.stack); }
      document.title = JSON.stringify(out);
    "#;
    let seen: serde_json::Value = serde_json::from_str(&title_after(&browser, &page, script)).expect("JSON");
    assert_eq!(seen.get("error"), None, "{seen:#}");
    let number = |name: &str| seen[name].as_u64().unwrap_or_else(|| panic!("{name}: {seen:#}"));
    assert!(number("folded") < number("level") && number("level") < number("all"), "{seen:#}");
    assert!(number("folded") < number("first"), "{seen:#}");
    for holds in ["focused", "inView", "left", "fold", "unfold", "dimmed", "help", "runs", "each"] {
        assert_eq!(seen[holds], true, "{holds}: {seen:#}");
    }
    assert_eq!(seen["found"].as_array().map(Vec::len), Some(1), "{seen:#}");
    assert_eq!(seen["place"], "layer3[5].se.fc1");
    assert_eq!(seen["down"], "layer3[5].se.relu");
    assert_eq!(seen["up"], "layer3[5].se.fc1");
    assert_eq!(seen["around"], "layer3[5].se");
    assert_eq!((&seen["none"], &seen["nothing"]), (&"nothing".into(), &0.into()));
    assert_eq!(seen["edit"], "insert se(reduction = 16) at layer*[-1] expect 4");
}

#[test]
fn a_thousand_layers_open_at_once() {
    let Some(browser) = chromium() else {
        println!("no chromium in PATH: the page was not opened");
        return;
    };
    let blocks = 143;
    let text = format!(
        "network deep {{ input [N, 3, 32, 32]; stem: conv2d(8, kernel = 3); for i in 0..{blocks} {{ \"b{{i}}\": residual {{ conv2d(8, kernel = 3, padding = 1); \
         batch_norm2d; relu; conv2d(8, kernel = 3, padding = 1); batch_norm2d; relu }} }}\nglobal_avg_pool2d; fc: linear(4) }}\nbase deep\n"
    );
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = dir.path().join("deep.arch");
    std::fs::write(&spec, text).expect("a file can be written");
    let page = stdout(&archc(&["view", &spec.display().to_string(), "--to", "html"]));
    // from the first line of the script to the picture
    let page =
        page.replacen("'use strict';\nconst data", "'use strict';\nwindow.begun = performance.now();\nconst data", 1);
    let script = "const drawn = document.querySelectorAll('#world .box').length; \
                  document.title = JSON.stringify({ms: performance.now() - window.begun, drawn, layers: document.getElementById('figures').textContent});";
    let seen: serde_json::Value = serde_json::from_str(&title_after(&browser, &page, script)).expect("JSON");
    println!("{seen}");
    let layers: usize = seen["layers"]
        .as_str()
        .and_then(|text| text.split(' ').next())
        .map_or(0, |text| text.replace(',', "").parse().unwrap_or(0));
    assert!(layers > 1000 && seen["drawn"].as_u64().is_some_and(|drawn| drawn > 3), "{seen}");
    // a tenth of a second where nothing else runs; other tests do
    assert!(seen["ms"].as_f64().is_some_and(|ms| ms < 3000.0), "{seen}");
}
