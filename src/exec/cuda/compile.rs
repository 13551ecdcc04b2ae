//! From the kernels' sources, which ship in this program, to machine code of one architecture.

use rayon::prelude::*;

use super::cache::{self, Cache};
use super::nvrtc::Nvrtc;
use crate::diag::{Code, Problem};
use crate::io::console::say;
use archc_cuda::Variant;

/// `sm_90a`: the architecture's own instructions where it has some.
pub fn architecture((major, minor): (u32, u32)) -> String {
    let own = if matches!(major, 9 | 10) { "a" } else { "" };
    format!("sm_{major}{minor}{own}")
}

/// Machine code of each variant, from the cache where it is there.
///
/// # Errors
/// What the compiler says. What the cache says goes to stderr, once.
pub fn compile(
    nvrtc: &Nvrtc,
    cache: &Cache,
    architecture: &str,
    variants: &[Variant],
) -> Result<Vec<Vec<u8>>, Problem> {
    let unkept = std::sync::Once::new();
    let one = |variant: &Variant| {
        let (source, options) = (variant.of().text(), options(variant, architecture));
        let key = key(nvrtc, &source, &options);
        if let Some(code) = cache.read(&key) {
            return Ok(code);
        }
        let (code, _) = nvrtc.cubin(&variant.name(), &source, &options).map_err(|error| {
            Problem::new(Code::Resource, format!("the kernel `{}` does not compile for {architecture}", variant.name()))
                .note(format!("NVRTC {}.{} says: {error}", nvrtc.version.0, nvrtc.version.1))
        })?;
        if let Err(error) = cache.write(&key, &code) {
            unkept.call_once(|| say(format!("warning: compiled kernels are not kept: {error}")));
        }
        Ok(code)
    };
    // the compiler takes a lock only in parts
    variants.par_iter().with_max_len(1).map(one).collect()
}

/// Compiles one variant anew, whatever the cache has.
pub fn again(nvrtc: &Nvrtc, cache: &Cache, architecture: &str, variant: &Variant) -> Result<Vec<u8>, String> {
    let (source, options) = (variant.of().text(), options(variant, architecture));
    let (code, _) = nvrtc.cubin(&variant.name(), &source, &options)?;
    // the entry was broken, and whether it can be mended is not what the caller asked
    let _ = cache.write(&key(nvrtc, &source, &options), &code);
    Ok(code)
}

fn options(variant: &Variant, architecture: &str) -> Vec<String> {
    let fixed = [format!("--gpu-architecture={architecture}"), "--std=c++17".into()];
    let defines = variant.defines.iter().map(|(name, value)| format!("-D{name}={value}"));
    fixed.into_iter().chain(defines).collect()
}

fn key(nvrtc: &Nvrtc, source: &str, options: &[String]) -> String {
    let version = format!("{}.{}", nvrtc.version.0, nvrtc.version.1);
    let options = options.iter().map(String::as_str);
    cache::key(&[version.as_str(), source].into_iter().chain(options).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_have_their_own_names() {
        let names = [(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)].map(architecture);
        assert_eq!(names, ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120"]);
    }

    /// Where the compiler is at hand; what it says of each kernel is the compile check's business.
    #[test]
    fn code_is_kept_and_broken_entries_are_made_again() {
        let Ok(nvrtc) = super::super::nvrtc::nvrtc() else { return };
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(folder.path());
        let fill = archc_cuda::variants().into_iter().find(|one| one.file == "fill").expect("a variant");
        let variants = [fill];
        let first = compile(nvrtc, &cache, "sm_90a", &variants).expect("it compiles");
        assert!(first[0].starts_with(b"\x7fELF"));
        let entry =
            std::fs::read_dir(folder.path()).expect("a folder").next().expect("an entry").expect("a file").path();
        std::fs::write(&entry, b"broken").expect("written");
        assert_eq!(compile(nvrtc, &cache, "sm_90a", &variants).expect("it compiles"), first);
        assert!(std::fs::metadata(&entry).expect("an entry").len() > 1000);
        assert!(compile(nvrtc, &cache, "sm_1", &variants).is_err_and(|problem| problem.message.contains("sm_1")));
        assert!(nvrtc.architectures().contains(&90));
        // without a place to keep it, it is compiled each time
        let file = tempfile::NamedTempFile::new().expect("a file");
        let nowhere = Cache::at(&file.path().join("below"));
        assert_eq!(compile(nvrtc, &nowhere, "sm_90a", &variants).expect("it compiles"), first);
    }
}
