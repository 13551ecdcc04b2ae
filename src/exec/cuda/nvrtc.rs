//! NVIDIA's run-time compiler, found and loaded when it is first needed.
//!
//! The few functions that are used are looked up here: the search knows more places than the loader of the system (a
//! Python environment's packages among them), and takes version 12 as well as 13.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::Library;

type Program = *mut std::ffi::c_void;
type Status = c_int;

/// The loaded compiler.
pub struct Nvrtc {
    pub path: PathBuf,
    /// 13.0 is (13, 0).
    pub version: (u32, u32),
    calls: Calls,
    _library: Library,
}

struct Calls {
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Status,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status,
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    cubin: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    log: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    destroy: unsafe extern "C" fn(*mut Program) -> Status,
    error: unsafe extern "C" fn(Status) -> *const c_char,
    arch_count: unsafe extern "C" fn(*mut c_int) -> Status,
    archs: unsafe extern "C" fn(*mut c_int) -> Status,
}

/// The compiler of this process, or why there is none.
pub fn nvrtc() -> Result<&'static Nvrtc, String> {
    static FOUND: OnceLock<Result<Nvrtc, String>> = OnceLock::new();
    FOUND.get_or_init(find).as_ref().map_err(Clone::clone)
}

fn find() -> Result<Nvrtc, String> {
    let mut failed = None;
    for path in candidates() {
        match load(&path) {
            Ok(found) => return Ok(found),
            Err(error) if path.is_absolute() => failed = failed.or(Some(format!("{}: {error}", path.display()))),
            Err(_) => {}
        }
    }
    Err(failed.unwrap_or_else(|| "libnvrtc, the CUDA compiler, is not found".into()))
}

/// Files that may be it, the most wanted first. Those without a folder are left to the system's loader.
fn candidates() -> Vec<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut found = vec![];
    if let Some(given) = var("ARCHC_NVRTC") {
        // who names one wants no other
        return if given.is_dir() { in_folder(&given) } else { vec![given] };
    }
    for root in ["CUDA_PATH", "CUDA_HOME"].into_iter().filter_map(var).chain([PathBuf::from("/usr/local/cuda")]) {
        found.extend(in_folder(&root.join("lib64")));
    }
    found.extend(["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"].map(PathBuf::from));
    for packages in site_packages() {
        for folder in folders(&packages.join("nvidia")) {
            found.extend(in_folder(&folder.join("lib")));
        }
    }
    found
}

/// `libnvrtc.so.*` of a folder, the newest first.
fn in_folder(folder: &Path) -> Vec<PathBuf> {
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut found: Vec<PathBuf> = entries(folder).filter(|path| name(path).starts_with("libnvrtc.so")).collect();
    // libnvrtc.so.13 after libnvrtc.so.12, libnvrtc.so itself last
    found.sort_by_key(|path| (name(path) != "libnvrtc.so", name(path)));
    found.reverse();
    found
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found.into_iter()
}

fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> {
    entries(folder).filter(|path| path.is_dir())
}

/// The package folders of the Pythons at hand: the active environment's, those of `python3` on the path, the user's.
fn site_packages() -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from).into_iter().collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    for bin in std::env::split_paths(&path).filter(|bin| bin.join("python3").exists()) {
        roots.extend(bin.parent().map(Path::to_path_buf));
        // an environment's python3 may be linked into another folder
        let real = fs::canonicalize(bin.join("python3")).ok();
        roots.extend(real.and_then(|real| Some(real.parent()?.parent()?.to_path_buf())));
    }
    roots.extend(std::env::var_os("HOME").map(|home| Path::new(&home).join(".local")));
    let mut found = vec![];
    for root in roots {
        let library = root.join("lib");
        let pythons = folders(&library)
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3")));
        for python in pythons {
            for packages in ["site-packages", "stride-packages"].map(|name| python.join(name)) {
                if packages.is_dir() && !found.contains(&packages) {
                    found.push(packages);
                }
            }
        }
    }
    found
}

fn load(path: &Path) -> Result<Nvrtc, String> {
    let text = |error: libloading::Error| error.to_string();
    // libnvrtc looks for its builtins by name alone and knows no folder: with them loaded before, it finds them
    if let Some(folder) = path.parent().filter(|folder| folder.is_absolute()) {
        let builtins = entries(folder).filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libnvrtc-builtins.so"))
        });
        for builtins in builtins {
            // SAFETY: NVIDIA's library, whose initialisers need nothing of this process.
            std::mem::forget(unsafe { Library::new(&builtins) }.map_err(text)?);
        }
    }
    // SAFETY: as above; the names are the compiler's published interface, the same since CUDA 11.2, and the types of `Calls`
    // are those of its header. The library stays loaded as long as the functions are reachable.
    unsafe {
        let library = Library::new(path).map_err(text)?;
        let calls = Calls {
            create: *library.get(b"nvrtcCreateProgram\0").map_err(text)?,
            compile: *library.get(b"nvrtcCompileProgram\0").map_err(text)?,
            cubin_size: *library.get(b"nvrtcGetCUBINSize\0").map_err(text)?,
            cubin: *library.get(b"nvrtcGetCUBIN\0").map_err(text)?,
            log_size: *library.get(b"nvrtcGetProgramLogSize\0").map_err(text)?,
            log: *library.get(b"nvrtcGetProgramLog\0").map_err(text)?,
            destroy: *library.get(b"nvrtcDestroyProgram\0").map_err(text)?,
            error: *library.get(b"nvrtcGetErrorString\0").map_err(text)?,
            arch_count: *library.get(b"nvrtcGetNumSupportedArchs\0").map_err(text)?,
            archs: *library.get(b"nvrtcGetSupportedArchs\0").map_err(text)?,
        };
        let version: libloading::Symbol<unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status> =
            library.get(b"nvrtcVersion\0").map_err(text)?;
        let (mut major, mut minor) = (0, 0);
        if version(&mut major, &mut minor) != 0 {
            return Err("it does not say its version".into());
        }
        Ok(Nvrtc { path: path.into(), version: (major as u32, minor as u32), calls, _library: library })
    }
}

impl Nvrtc {
    /// The compute capabilities it compiles for, as 10 * major + minor.
    pub fn architectures(&self) -> Vec<u32> {
        let mut count = 0;
        // SAFETY: the pointers are to a number, and to as many numbers as the first call said.
        let archs = unsafe {
            if (self.calls.arch_count)(&mut count) != 0 {
                return vec![];
            }
            let mut archs = vec![0; count.max(0) as usize];
            if (self.calls.archs)(archs.as_mut_ptr()) != 0 {
                return vec![];
            }
            archs
        };
        archs.into_iter().map(|arch| arch as u32).collect()
    }

    /// Machine code of `source`, and what the compiler had to say.
    ///
    /// # Errors
    /// What the compiler says where it refuses.
    pub fn cubin(&self, name: &str, source: &str, options: &[String]) -> Result<(Vec<u8>, String), String> {
        let text = |text: &str| CString::new(text).map_err(|_| "a zero byte in a kernel's source".to_string());
        let (name, source) = (text(name)?, text(source)?);
        let options = options.iter().map(|option| text(option)).collect::<Result<Vec<_>, _>>()?;
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let none = std::ptr::null();
        let mut program: Program = std::ptr::null_mut();
        // SAFETY: all strings end with a zero byte and outlive the calls; the buffers are as long as the compiler asks.
        unsafe {
            self.check((self.calls.create)(&mut program, source.as_ptr(), name.as_ptr(), 0, none, none))?;
            let status = (self.calls.compile)(program, options.len() as c_int, pointers.as_ptr());
            let log = self.log(program);
            let cubin = self.check(status).and_then(|()| {
                let mut len = 0;
                self.check((self.calls.cubin_size)(program, &mut len))?;
                let mut cubin = vec![0u8; len];
                self.check((self.calls.cubin)(program, cubin.as_mut_ptr().cast()))?;
                Ok(cubin)
            });
            (self.calls.destroy)(&mut program);
            match cubin {
                Ok(cubin) => Ok((cubin, log)),
                Err(error) => Err(format!("{error}\n{log}").trim_end().to_string()),
            }
        }
    }

    /// # Safety
    /// `program` is one of this compiler that was not destroyed.
    unsafe fn log(&self, program: Program) -> String {
        let mut len = 0;
        // SAFETY: the caller's promise; the buffer is as long as the compiler says.
        unsafe {
            if (self.calls.log_size)(program, &mut len) != 0 {
                return String::new();
            }
            let mut log = vec![0u8; len];
            if (self.calls.log)(program, log.as_mut_ptr().cast()) != 0 {
                return String::new();
            }
            String::from_utf8_lossy(&log).trim_end_matches('\0').trim_end().to_string()
        }
    }

    fn check(&self, status: Status) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the compiler returns a constant string for every number.
        let name = unsafe { CStr::from_ptr((self.calls.error)(status)) };
        Err(name.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_folder_comes_first() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["libnvrtc.so", "libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc-builtins.so.13.0", "other"] {
            fs::write(folder.path().join(name), "").expect("a file");
        }
        let found = in_folder(folder.path());
        let names: Vec<_> = found.iter().map(|path| path.file_name().expect("a name").to_string_lossy()).collect();
        assert_eq!(names, ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]);
        assert!(in_folder(Path::new("/there/is/no/such/folder")).is_empty());
    }

    #[test]
    fn what_is_no_compiler_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("libnvrtc.so.13");
        fs::write(&path, "no library").expect("a file");
        assert!(load(&path).is_err());
    }
}
