//! Tokens that are none, from the environment and from the file: named, and never shown by the program.

use std::process::Command;

use super::server::{COMMIT, Reply, Server, model, tensor};

#[test]
fn a_token_that_no_header_holds_is_named_and_not_shown() {
    let server = Server::start();
    let good = tensor("fc.weight", &[1, 4], &[1.0; 4]);
    server.put(model("x/open"), Reply::large(&good));
    server.put(model("x/private"), Reply::new("401 Unauthorized", &[], b""));
    let spec = |repo: &str| {
        format!(
            "network tiny {{ input [N, 4]; fc: linear(1, bias = false) }}\nbase tiny {{ weights hf(\"{repo}\") }}\n"
        )
    };
    let run = |repo: &str, token: Option<&[u8]>, file: Option<&[u8]>| {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("spec.arch"), spec(repo)).expect("a file can be written");
        if let Some(bytes) = file {
            std::fs::write(dir.path().join("token"), bytes).expect("a file can be written");
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_archc"));
        command.args(["run", "spec.arch"]).current_dir(dir.path()).env("HF_HOME", dir.path());
        command.env("HF_ENDPOINT", &server.endpoint).env_remove("HF_TOKEN").env_remove("HF_HUB_CACHE");
        #[cfg(unix)]
        if let Some(bytes) = token {
            use std::os::unix::ffi::OsStrExt;
            command.env("HF_TOKEN", std::ffi::OsStr::from_bytes(bytes));
        }
        let output = command.output().expect("archc starts");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(!said.contains("Secret"), "{said}");
        (output.status.code(), said)
    };
    let (status, said) = run("x/open", None, None);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(server.asked(), [model("x/open"), format!("/x/open/resolve/{COMMIT}/config.json")]);
    let bad: &[&[u8]] =
        &[b"hf_Secret\nSecret2", "hf_Secret\u{e9}".as_bytes(), b"hf_Secret two", b"hf_Secret\x7f", b"hf_Secret\xff"];
    for token in bad {
        #[cfg(unix)]
        {
            let (status, said) = run("x/open", Some(token), None);
            assert_eq!(status, Some(1), "{said}");
            assert!(said.contains("error[weights-file]: HF_TOKEN holds no token"), "{said}");
        }
        let (status, said) = run("x/open", None, Some(token));
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("/token` holds no token") && said.contains("hf_"), "{said}");
    }
    assert!(server.asked().is_empty());
    // a good one with a line's end around it is sent, and not shown where it does not help
    let (status, said) = run("x/private", None, Some(b"hf_Secret3\r\n"));
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("the token that is set does not open it"), "{said}");
    assert_eq!(server.asked(), [format!("{} with token", model("x/private"))]);
}
