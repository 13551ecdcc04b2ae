//! The pages of the codes, `src/diag/codes/NAME.md`: their wrong examples give the code, their right ones nothing.
//!
//! A fence ` ```arch wrong ` or ` ```arch right ` is checked as a spec. A fence ` ```arch spec ` is the file `spec.arch` of
//! the ` ```console wrong ` and ` ```console right ` fences, whose lines `$ archc ..` are run. All find the files that
//! [`files`] makes beside them.

use std::path::Path;
use std::process::Command;

use archc::stages::diag::Code;

use crate::compiled;

/// The fences of a page: their first line and their text.
fn fences(page: &str) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = vec![];
    let mut open = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(kind) => {
                open = true;
                found.push((kind, String::new()));
            }
            None if open => {
                let (_, text) = found.last_mut().expect("a fence is open");
                *text += line;
                *text += "\n";
            }
            None => {}
        }
    }
    found
}

/// The files that the pages speak of.
pub fn files(dir: &Path) {
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).expect("a writable folder");
    write("self.arch", b"use \"self.arch\"\n");
    write("parts.arch", b"block part { relu }\n");
    write("latin1.arch", b"# caf\xe9\nbase resnet18\n");
    write("notes.txt", b"notes\n");
    write("broken.safetensors", b"notes\n");
    write("tiny.safetensors", &safetensors(&[("fc.weight", &[2, 4]), ("fc.bias", &[2])], 1.0));
    write("other.safetensors", &safetensors(&[("head.weight", &[2, 4]), ("head.bias", &[2])], 1.0));
    write("nan.safetensors", &safetensors(&[("fc.weight", &[2, 4]), ("fc.bias", &[2])], f32::NAN));
    write("flax.safetensors", &safetensors(&[("fc.kernel", &[4, 2]), ("fc.bias", &[2])], 1.0));
    let parts: [(&str, &[usize]); 3] = [("q.weight", &[4, 4]), ("k.weight", &[4, 4]), ("v.weight", &[4, 4])];
    write("parts.safetensors", &safetensors(&parts, 1.0));
    let positions: [(&str, &[usize]); 3] = [("conv.weight", &[8, 3, 4, 4]), ("conv.bias", &[8]), ("pos", &[1, 49, 8])];
    write("positions.safetensors", &safetensors(&positions, 1.0));
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pytorch/copies.pth");
    write("run.pth", &std::fs::read(run).expect("a checkpoint"));
    let net = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/import/blocks.pt2");
    write("net.pt2", &std::fs::read(net).expect("an exported network"));
}

/// A file of these tensors, all of one value.
fn safetensors(tensors: &[(&str, &[usize])], value: f32) -> Vec<u8> {
    let len = |shape: &[usize]| 4 * shape.iter().product::<usize>();
    let most = tensors.iter().map(|(_, shape)| len(shape)).max().unwrap_or(0);
    let bytes: Vec<u8> = value.to_le_bytes().into_iter().cycle().take(most).collect();
    let views = tensors.iter().map(|(key, shape)| {
        let bytes = &bytes[..len(shape)];
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), bytes);
        (key.to_string(), view.expect("a tensor"))
    });
    safetensors::serialize(views, None).expect("a file")
}

#[test]
fn pages_tell_the_truth() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    files(dir.path());
    let mut wrongs = vec![];
    for code in Code::ALL {
        let (mut wrong, mut right) = (false, false);
        if !code.page().starts_with(&format!("# {code}\n\n")) {
            wrongs.push(format!("{code}: the page begins with its name"));
        }
        for (kind, text) in fences(code.page()) {
            let is_wrong = kind.ends_with("wrong");
            let came = match kind {
                "arch spec" => {
                    std::fs::write(dir.path().join("spec.arch"), text).expect("a writable folder");
                    continue;
                }
                "arch wrong" | "arch right" => compiled::compile(&text, dir.path(), &[])
                    .lines()
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join("\n"),
                "console wrong" | "console right" => commands(&text, dir.path(), !is_wrong),
                other => panic!("{code}: a fence of another kind: {other}"),
            };
            wrong |= is_wrong;
            right |= !is_wrong;
            let fits = if is_wrong { came.contains(&format!("[{code}]")) } else { came.is_empty() };
            if !fits {
                wrongs.push(format!("{code}: {kind} gave\n{came}"));
            }
        }
        if !wrong || !right {
            wrongs.push(format!("{code}: the page needs a wrong and a right example"));
        }
    }
    assert!(wrongs.is_empty(), "{}", wrongs.join("\n"));
}

/// Runs the lines `$ archc ..`. What they print to stderr; for those that should work, only if one did not.
fn commands(text: &str, dir: &Path, works: bool) -> String {
    let mut came = String::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("$ archc ")) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_archc"));
        let output = command.args(line.split_whitespace()).current_dir(dir).output().expect("archc starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !works || !output.status.success() || stderr.contains("error[") || stderr.contains("warning[") {
            came += &stderr;
        }
    }
    came
}
