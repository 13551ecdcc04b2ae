//! Compiles every variant for every architecture with NVRTC: no warnings, no spills, registers under a cap.
//!
//! NVRTC comes from the folder that `ARCHC_NVRTC` names; where that is not set, from `target/nvrtc`, where .ci/run installs
//! it; where it is in neither, there is nothing to check. Results are kept in target/nvrtc-checked by the content that
//! they are for, so that only what changed is compiled again.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs, ptr};

use archc_cuda::{Variant, variants};
use rayon::prelude::*;

const ARCHITECTURES: [&str; 6] = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120"];

/// Registers that a thread may use: with the threads of a block, they decide how many blocks a multiprocessor holds.
fn cap(kernel: &str) -> u32 {
    match kernel {
        // two blocks of 256 threads, or three of 128
        "conv_igemm" | "conv_weight" => 168,
        // one block of 384 threads; the warps that multiply take more when they have begun
        "conv_tma" => 168,
        // 128 threads; two blocks of float32 heads of 128 channels
        "attention" => 255,
        // two blocks of 256 threads
        _ => 128,
    }
}

type Program = *mut c_void;

type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type LogSize = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Log = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;

/// The functions of NVRTC that are needed.
struct Nvrtc {
    create: Create,
    compile: Compile,
    log_size: LogSize,
    log: Log,
    destroy: Destroy,
}

fn target() -> PathBuf {
    let exe = env::current_exe().expect("a test is a program");
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    exe.ancestors().find(|path| path.ends_with("target")).map_or_else(own, Path::to_path_buf)
}

/// The folder of libnvrtc and its builtins below `root`.
fn find(root: &Path) -> Option<PathBuf> {
    let mut stack = vec![root.to_path_buf()];
    while let Some(folder) = stack.pop() {
        if folder.join("libnvrtc.so.13").exists() {
            return Some(folder);
        }
        let inner = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        stack.extend(inner.filter(|path| path.is_dir() && !path.is_symlink()));
    }
    None
}

fn load(folder: &Path) -> Nvrtc {
    let open = |name: &str| {
        let path = CString::new(folder.join(name).to_str().expect("a path in UTF-8")).expect("no zero in it");
        // SAFETY: a path that ends with zero; the library's initialisers are trusted.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        assert!(!handle.is_null(), "{name} can be loaded");
        handle
    };
    // NVRTC opens its builtins by name, which finds them once they are loaded
    let builtins = fs::read_dir(folder).expect("it was found").flatten().map(|entry| entry.file_name());
    let builtins =
        builtins.filter_map(|name| name.into_string().ok()).find(|name| name.starts_with("libnvrtc-builtins.so"));
    open(&builtins.expect("NVRTC comes with builtins"));
    let library = open("libnvrtc.so.13");
    let symbol = |name: &CStr| {
        // SAFETY: an open library and a name that ends with zero.
        let address = unsafe { libc::dlsym(library, name.as_ptr()) };
        assert!(!address.is_null(), "{name:?} is there");
        address
    };
    // SAFETY: the types are those of nvrtc.h.
    unsafe {
        Nvrtc {
            create: std::mem::transmute::<*mut c_void, Create>(symbol(c"nvrtcCreateProgram")),
            compile: std::mem::transmute::<*mut c_void, Compile>(symbol(c"nvrtcCompileProgram")),
            log_size: std::mem::transmute::<*mut c_void, LogSize>(symbol(c"nvrtcGetProgramLogSize")),
            log: std::mem::transmute::<*mut c_void, Log>(symbol(c"nvrtcGetProgramLog")),
            destroy: std::mem::transmute::<*mut c_void, Destroy>(symbol(c"nvrtcDestroyProgram")),
        }
    }
}

impl Nvrtc {
    /// What the compiler says, and whether it succeeded.
    fn compile(&self, name: &str, source: &str, options: &[String]) -> (bool, String) {
        let strings: Vec<CString> = [name, source]
            .into_iter()
            .chain(options.iter().map(String::as_str))
            .map(|s| CString::new(s).expect("no zero"))
            .collect();
        let options: Vec<*const c_char> = strings[2..].iter().map(|option| option.as_ptr()).collect();
        let mut program = ptr::null_mut();
        // SAFETY: all strings end with zero and live until the end; the log has the size that was asked for.
        unsafe {
            assert_eq!(
                (self.create)(&mut program, strings[1].as_ptr(), strings[0].as_ptr(), 0, ptr::null(), ptr::null()),
                0
            );
            let code = (self.compile)(program, options.len() as c_int, options.as_ptr());
            let mut size = 0;
            (self.log_size)(program, &mut size);
            let mut log = vec![0u8; size.max(1)];
            (self.log)(program, log.as_mut_ptr().cast());
            (self.destroy)(&mut program);
            (code == 0, String::from_utf8_lossy(&log).trim_end_matches('\0').to_string())
        }
    }
}

/// Registers, bytes of static shared memory and of spills, by kernel.
type Report = BTreeMap<String, [u32; 3]>;

/// Reads what `ptxas -v` said; what is no part of its report is an error.
fn read(log: &str) -> Result<Report, String> {
    let mut report = Report::new();
    let mut kernel = String::new();
    let before = |line: &str, what: &str| -> u32 {
        let number = line.split(what).next().unwrap_or("").trim_end().rsplit([' ', ',']).next().unwrap_or("");
        number.parse().unwrap_or(0)
    };
    for line in log.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            kernel = rest.split('\'').next().unwrap_or_default().to_string();
        } else if line.contains("spill stores") {
            report.entry(kernel.clone()).or_default()[2] +=
                before(line, " bytes stack frame") + before(line, " bytes spill stores");
        } else if line.contains("Used ") {
            let entry = report.entry(kernel.clone()).or_default();
            entry[0] = before(line, " registers");
            entry[1] = if line.contains(" bytes smem") { before(line, " bytes smem") } else { 0 };
        } else if !["gmem", "Function properties", "Compile time", "Compiling"].iter().any(|part| line.contains(part)) {
            return Err(line.to_string());
        }
    }
    Ok(report)
}

#[test]
fn every_variant_compiles_for_every_architecture() {
    let given = env::var_os("ARCHC_NVRTC").map(PathBuf::from);
    let Some(folder) = find(given.as_deref().unwrap_or(&target().join("nvrtc"))) else {
        assert!(given.is_none(), "ARCHC_NVRTC names a folder without NVRTC");
        println!("no NVRTC in target/nvrtc: nothing was compiled");
        return;
    };
    let nvrtc = load(&folder);
    let kept = target().join("nvrtc-checked");
    fs::create_dir_all(&kept).expect("target can be written");
    let jobs: Vec<(Variant, &str)> =
        variants().into_iter().flat_map(|variant| ARCHITECTURES.map(|arch| (variant.clone(), arch))).collect();
    let jobs: Vec<(Variant, &str)> =
        jobs.into_iter().filter(|(variant, arch)| !variant.is_hopper() || *arch == "sm_90a").collect();
    let check = |(variant, arch): &(Variant, &'static str)| -> (String, Result<Report, String>) {
        let file = format!("{}.cu", variant.file);
        let source = variant.of().text();
        let mut options =
            vec!["--std=c++17".to_string(), format!("--gpu-architecture={arch}"), "--ptxas-options=-v".into()];
        options.extend(variant.defines.iter().map(|(name, value)| format!("-D{name}={value}")));
        let mut hasher = DefaultHasher::new();
        (&source, &options).hash(&mut hasher);
        let path = kept.join(format!("{:016x}", hasher.finish()));
        let log = fs::read_to_string(&path).map_or_else(
            |_| {
                let (good, log) = nvrtc.compile(&file, &source, &options);
                if good {
                    fs::write(&path, &log).expect("target can be written");
                    Ok(log)
                } else {
                    Err(log)
                }
            },
            Ok,
        );
        (format!("{} {arch}", variant.name()), log.and_then(|log| read(&log)))
    };
    let reports: Vec<_> = jobs.par_iter().map(check).collect();

    let mut wrong = vec![];
    let mut table: BTreeMap<(String, String), BTreeMap<&str, String>> = BTreeMap::new();
    for ((variant, arch), (what, report)) in jobs.iter().zip(&reports) {
        let report = match report {
            Ok(report) => report,
            Err(log) => {
                wrong.push(format!("{what}:\n{log}"));
                continue;
            }
        };
        for kernel in variant.of().kernels() {
            let [registers, shared, spilled] = report.get(kernel).copied().unwrap_or_default();
            if registers == 0 || registers > cap(kernel) || spilled > 0 {
                let cap = cap(kernel);
                wrong.push(format!("{what}: {kernel} takes {registers} registers of {cap}, spills {spilled} bytes"));
            }
            let row = table.entry((variant.name(), kernel.to_string())).or_default();
            row.insert(arch, format!("{registers:>3}/{shared:<5}"));
        }
    }
    println!(
        "registers / bytes of static shared memory\n{:<46}{}",
        "",
        ARCHITECTURES.map(|arch| format!("{arch:>10}")).concat()
    );
    for ((variant, kernel), cells) in table {
        let cell = |arch| format!("{:>10}", cells.get(arch).map_or("", String::as_str));
        println!("{:<46}{}", format!("{variant} {kernel}"), ARCHITECTURES.map(cell).concat());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
