//! Small files that claim, or unfold to, more than they should: what archc takes for them is bounded by what it needs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A zlib stream of `count` zeros, a thousandth as long.
pub fn zlib(count: u64) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    stream.extend(deflate(count));
    // Adler-32 of zeros
    stream.extend(((count % 65521) << 16 | 1).to_be_bytes()[4..].iter());
    stream
}

/// `count` zeros as one block of fixed Huffman codes: a zero, then copies of 258 of them (RFC 1951, 3.2.6).
pub fn deflate(count: u64) -> Vec<u8> {
    let (mut bytes, mut held, mut len) = (vec![], 0u32, 0);
    let mut put = |bits: u32, count: u32| {
        held |= bits << len;
        len += count;
        while len >= 8 {
            bytes.push(held as u8);
            held >>= 8;
            len -= 8;
        }
    };
    // last block, fixed codes
    put(0b011, 3);
    // Huffman codes are written from their highest bit on
    let zero = 0b0000_1100;
    let (copy, distance) = (0b1010_0011, 0);
    for _ in 0..1 + (count - 1) % 258 {
        put(zero, 8);
    }
    for _ in 0..(count - 1) / 258 {
        put(copy, 8);
        put(distance, 5);
    }
    put(0, 7);
    put(0, 7);
    bytes
}

/// A chunk of a PNG file.
pub fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [name, data].concat();
    [&(data.len() as u32).to_be_bytes(), &*body, &crc32(&body).to_be_bytes()].concat()
}

/// The checksum of PNG and zip.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// A black picture of 16 x 16 with `more` between header and data.
fn png(more: &[u8], idat: &[u8]) -> Vec<u8> {
    let header = chunk(b"IHDR", &[0, 0, 0, 16, 0, 0, 0, 16, 8, 2, 0, 0, 0]);
    [b"\x89PNG\r\n\x1a\n", &*header, more, &chunk(b"IDAT", idat), &chunk(b"IEND", &[])].concat()
}

/// The exit status, what was said, the most memory in MiB, and the time.
#[cfg(target_os = "linux")]
fn measured(dir: &Path, args: &[&str]) -> (Option<i32>, String, u64, Duration) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archc"));
    command.current_dir(dir).args(args).env("NO_COLOR", "1");
    let start = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("archc starts");
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().expect("a child of ours").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
        most = most.max(line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10);
        assert!(start.elapsed() < Duration::from_secs(120), "{args:?} does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().expect("it ended");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), most, start.elapsed())
}

const SPEC: &str =
    "network tiny { input [N, 3, 16, 16]; flatten; fc: linear(2) }\nbase tiny { weights random(seed = 1) }\n";
/// What `archc` takes for a picture of 16 x 16 is a tenth of this.
const MOST: u64 = 150;
const UNFOLDED: u64 = 1 << 28;

#[test]
#[cfg(target_os = "linux")]
fn pictures_take_what_their_pixels_need() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("s.arch"), SPEC).expect("a file");
    let good = zlib(16 * (1 + 48));
    let profile = [b"name\0\0", &*zlib(UNFOLDED)].concat();
    let text = [b"XML:com.adobe.xmp\0\x01\0\0\0", &*zlib(UNFOLDED)].concat();
    for (name, file) in [
        ("a colour profile", png(&chunk(b"iCCP", &profile), &good)),
        ("a text", png(&chunk(b"zTXt", &profile), &good)),
        ("a UTF-8 text", png(&chunk(b"iTXt", &text), &good)),
        ("frames", png(&chunk(b"acTL", &[0, 0, 0, 9, 0, 0, 0, 0]), &good)),
        ("data behind the pixels", png(&[], &zlib(UNFOLDED))),
    ] {
        std::fs::write(dir.path().join("a.png"), file).expect("a file");
        let (status, told, most, time) = measured(dir.path(), &["run", "s.arch", "--input", "a.png"]);
        assert_eq!(status, Some(0), "{name}: {told}");
        assert!(most < MOST, "{name}: {most} MiB");
        assert!(time < Duration::from_secs(20), "{name}: {time:?}");
    }
}
