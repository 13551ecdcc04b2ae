//! Compiles every variant of every kernel as C++, each in a namespace of its own, with a table of them. Objects are kept by
//! what they are made of, so that a change of one kernel compiles its variants alone.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs};

use archc_cuda::{FILES, Variant, prelude};

fn main() {
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let mut all = archc_cuda::variants();
    all.extend(faulty());
    all.push(Variant { file: MISUSE, defines: vec![("DTYPE", "f32".into())] });
    let emulator = fs::read_dir(here.join("emu")).expect("the folder is there").flatten().map(|entry| entry.path());
    let mut shared: Vec<PathBuf> = emulator.filter(|path| path.extension().is_some_and(|end| end == "h")).collect();
    shared.sort();
    shared.push(here.join("build.rs"));
    let shared: Vec<String> = shared.iter().map(|path| read(path)).collect();
    let (units, kernels) = (out.join("units"), out.join("kernels"));
    for folder in [&units, &kernels] {
        fs::create_dir_all(folder).expect("the output folder can be written");
    }
    let misuse = prelude() + &read(&here.join("emu/misuse.cu"));
    let sources: BTreeMap<&str, String> =
        FILES.iter().map(|file| (file.name, file.text())).chain([(MISUSE, misuse)]).collect();
    for (name, text) in &sources {
        fs::write(kernels.join(name).with_extension("cu"), text).expect("the output folder can be written");
    }
    let (mut declared, mut listed, mut objects) = (String::new(), String::new(), vec![]);
    for variant in &all {
        let space = space(variant);
        let text = unit(&space, variant);
        let mut hasher = DefaultHasher::new();
        (&text, &sources[variant.file], &shared, env::var("TARGET").ok()).hash(&mut hasher);
        let path = units.join(format!("{space}.{:016x}.cpp", hasher.finish()));
        fs::write(&path, text).expect("the output folder can be written");
        objects.push(path.with_extension("o"));
        _ = writeln!(declared, "extern const Entry entries_{space}[];");
        _ = writeln!(listed, "    {{\"{}\", entries_{space}, {}}},", variant.name(), kernels_of(variant).len());
    }
    let missing: Vec<&PathBuf> = objects.iter().filter(|object| !object.exists()).collect();
    // some at a time, so that a build that is stopped has not been for nothing
    for some in missing.chunks(8) {
        let mut build = build(&here, &kernels);
        let made = build.files(some.iter().map(|object| object.with_extension("cpp"))).compile_intermediates();
        made.iter().zip(some).for_each(|(made, object)| fs::rename(made, object).expect("one folder"));
    }
    for old in fs::read_dir(&units).expect("it was made").flatten().map(|entry| entry.path()) {
        if !objects.contains(&old.with_extension("o")) {
            fs::remove_file(old).expect("a file of ours");
        }
    }
    let table = out.join("table.cpp");
    let text = format!(
        "#include \"emu.h\"\nnamespace emu {{\nstruct Variant {{ const char* name; const Entry* entries; unsigned count; }};\n{declared}extern const Variant variants[];\nextern const unsigned n_variants;\nconst Variant variants[] = {{\n{listed}}};\nconst unsigned n_variants = {};\n}}\n",
        all.len()
    );
    fs::write(&table, text).expect("the output folder can be written");
    let mut build = build(&here, &kernels);
    build.file(here.join("emu/emu.cpp")).file(&table).objects(&objects).compile("archc_emu_kernels");
    println!("cargo:rerun-if-changed={}", here.join("emu").display());
    println!("cargo:rerun-if-changed={}", here.join("build.rs").display());
}

/// A file of kernels whose mistakes must be reported.
const MISUSE: &str = "misuse";

fn kernels_of(variant: &Variant) -> Vec<&'static str> {
    match variant.file {
        MISUSE => vec!["unmet_barrier", "divergent", "misaligned", "unwaited", "beyond_shared", "spinning"],
        _ => variant.of().kernels(),
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
        ("conv_weight.bf16.64.64.2.2.8", "COPY_WAIT"),
        ("conv_weight.bf16.64.64.2.2.8", "NO_BARRIER"),
        ("attention.bf16.32", "COPY_WAIT"),
        ("attention.bf16.32", "NO_BARRIER"),
        ("rows.f32", "NO_BARRIER"),
        ("excitation.f32", "NO_BARRIER"),
        ("depthwise.f32", "NO_BARRIER"),
        ("elementwise.f32", "BOUNDS"),
    ];
    let with = |(name, fault): (&str, &str)| {
        let mut variant = archc_cuda::variants().into_iter().find(|variant| variant.name() == name).expect("a variant");
        variant.defines.push(("FAULT", fault.into()));
        variant
    };
    faults.into_iter().map(with).collect()
}

fn build(here: &Path, kernels: &Path) -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).warnings(false).include(here.join("emu")).include(kernels);
    build.flag("-Wno-unknown-pragmas").flag("-Wno-psabi").flag("-fno-strict-aliasing").flag("-ffp-contract=off");
    // the emulated tensor cores are loops over vectors
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        build.flag("-mavx2").flag("-ftree-vectorize");
    }
    build
}

/// The namespace of a variant.
fn space(variant: &Variant) -> String {
    variant.name().replace(|letter: char| !letter.is_ascii_alphanumeric(), "_")
}

fn unit(space: &str, variant: &Variant) -> String {
    let mut text = String::from("#define EMULATOR\n#include \"emu.h\"\n");
    for (name, value) in &variant.defines {
        _ = writeln!(text, "#define {name} {value}");
    }
    let entries: Vec<String> =
        kernels_of(variant).iter().map(|kernel| format!("    EMU_ENTRY({space}, {kernel}),\n")).collect();
    text + &format!(
        "namespace {space} {{\n#include \"{}.cu\"\n}}\nnamespace emu {{\nextern const Entry entries_{space}[];\nconst Entry entries_{space}[] = {{\n{}}};\n}}\n",
        variant.file,
        entries.concat()
    )
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a file of the repository")
}
