//! Compiles every variant of every kernel as C++, each in a namespace of its own, with a table of them.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[expect(dead_code, reason = "the launches are not needed here")]
#[path = "../contract.rs"]
mod contract;

use contract::Variant;

fn main() {
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let kernels = here.parent().expect("the crate lies in kernels/").to_path_buf();
    let mut all = contract::variants();
    all.extend(faulty());
    all.push(Variant { file: MISUSE, defines: vec![("DTYPE", "f32".into())] });
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).warnings(false).include(here.join("emu")).include(&kernels);
    build.flag("-Wno-unknown-pragmas").flag("-Wno-psabi").flag("-fno-strict-aliasing").flag("-ffp-contract=off");
    // the emulated tensor cores are loops over vectors
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        build.flag("-mavx2").flag("-ftree-vectorize");
    }
    build.file(here.join("emu/emu.cpp"));
    let (mut declared, mut listed) = (String::new(), String::new());
    for (number, variant) in all.iter().enumerate() {
        let path = out.join(format!("variant_{number}.cpp"));
        write_if_new(&path, &unit(number, variant));
        build.file(&path);
        let count = kernels_of(variant).len();
        _ = writeln!(declared, "extern const Entry entries_{number}[];");
        _ = writeln!(listed, "    {{\"{}\", entries_{number}, {count}}},", variant.name());
    }
    let table = out.join("table.cpp");
    let text = format!(
        "#include \"emu.h\"\nnamespace emu {{\nstruct Variant {{ const char* name; const Entry* entries; unsigned count; }};\n{declared}extern const Variant variants[];\nextern const unsigned n_variants;\nconst Variant variants[] = {{\n{listed}}};\nconst unsigned n_variants = {};\n}}\n",
        all.len()
    );
    write_if_new(&table, &text);
    build.file(&table).compile("archc_emu_kernels");
    println!("cargo:rerun-if-changed={}", here.join("emu").display());
    println!("cargo:rerun-if-changed={}", here.join("build.rs").display());
    println!("cargo:rerun-if-changed={}", kernels.join("contract.rs").display());
    println!("cargo:rerun-if-changed={}", kernels.join("contract").display());
    println!("cargo:rerun-if-changed={}", kernels.join("common.cuh").display());
    for (file, _) in contract::FILES {
        println!("cargo:rerun-if-changed={}", kernels.join(file).with_extension("cu").display());
    }
}

/// A file of kernels whose mistakes must be reported.
const MISUSE: &str = "misuse";

fn kernels_of(variant: &Variant) -> &'static [&'static str] {
    match variant.file {
        MISUSE => &["unmet_barrier", "divergent", "misaligned", "unwaited", "beyond_shared", "spinning"],
        _ => variant.kernels(),
    }
}

/// Variants with faults in them, which tests expect to be caught.
fn faulty() -> Vec<Variant> {
    let faults = [
        ("conv_igemm.bf16.64.64.2.2.8.4.64", "COPY_WAIT"),
        ("conv_igemm.bf16.64.64.2.2.8.4.64", "NO_BARRIER"),
        ("conv_igemm.bf16.128.64.8.1.8.3.128.1", "WGMMA_WAIT"),
        ("conv_tma.bf16.128.64.8.2.1", "FULL_WAIT"),
        ("conv_tma.bf16.128.64.8.2.1", "PARITY"),
        ("conv_tma.bf16.128.64.8.2.1", "FEW_BYTES"),
        ("conv_tma.bf16.128.64.8.2.1", "NO_RELEASE"),
        ("conv_tma.bf16.128.64.8.2.1", "EARLY_COPY"),
        ("conv_tma.bf16.128.64.8.2.1", "NO_FENCE"),
        ("conv_tma.bf16.128.64.8.2.1", "NO_TURNS"),
        ("conv_igemm.bf16.128.64.8.1.8.3.128.1", "NO_FENCE"),
        ("rows.f32", "NO_BARRIER"),
        ("elementwise.f32", "BOUNDS"),
    ];
    let with = |(name, fault): (&str, &str)| {
        let mut variant = contract::variants().into_iter().find(|variant| variant.name() == name).expect("a variant");
        variant.defines.push(("FAULT", fault.into()));
        variant
    };
    faults.into_iter().map(with).collect()
}

fn unit(number: usize, variant: &Variant) -> String {
    let mut text = String::from("#define EMULATOR\n#include \"emu.h\"\n");
    for (name, value) in &variant.defines {
        _ = writeln!(text, "#define {name} {value}");
    }
    let space = format!("variant_{number}");
    let entries: Vec<String> =
        kernels_of(variant).iter().map(|kernel| format!("    EMU_ENTRY({space}, {kernel}),\n")).collect();
    text + &format!(
        "namespace {space} {{\n#include \"{}.cu\"\n}}\nnamespace emu {{\nextern const Entry entries_{number}[];\nconst Entry entries_{number}[] = {{\n{}}};\n}}\n",
        variant.file,
        entries.concat()
    )
}

fn write_if_new(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return;
    }
    fs::write(path, text).expect("the output folder can be written");
}
