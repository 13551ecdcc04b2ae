//! A spec before it is compiled: its text, where used files come from, and the values of its parameters.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use super::{Error, Model};
use crate::compile::{self, Files, Outcome};
use crate::source::{FileId, Loader, Sources};

/// A text in archc's language, and the values that it is given.
///
/// ```
/// let spec = archc::Spec::from_text(
///     "network tiny(classes = 2) { input [N, 4]; linear(classes) }
///      param classes = 3
///      base tiny(classes = classes)",
/// );
/// let model = spec.set("classes", 10).compile()?;
/// assert_eq!(model.outputs()[0].1, [10]);
/// # Ok::<(), archc::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Spec {
    pub(super) sources: Sources,
    pub(super) file: FileId,
    pub(super) set: Vec<(String, String)>,
}

impl Spec {
    /// Reads a spec; `-` is standard input.
    ///
    /// # Errors
    /// If it cannot be read, is not UTF-8, or is too long.
    pub fn open(path: impl AsRef<Path>) -> Result<Spec, Error> {
        Spec::read(Sources::new(), path.as_ref())
    }

    /// Reads a spec, and what it uses, from elsewhere than the disk.
    ///
    /// ```
    /// let files = [
    ///     ("nets/tiny.arch", "network tiny { input [N, 4]; linear(2) }"),
    ///     ("spec.arch", "use \"nets/tiny.arch\"\nbase tiny"),
    /// ];
    /// let files: std::collections::BTreeMap<std::path::PathBuf, String> =
    ///     files.map(|(path, text)| (path.into(), text.into())).into();
    /// let model = archc::Spec::load("spec.arch", std::sync::Arc::new(files))?.compile()?;
    /// assert_eq!(model.outputs(), [("output".to_string(), vec![2])]);
    /// # Ok::<(), archc::Error>(())
    /// ```
    ///
    /// The same map may add to the zoo: with a file `zoo/nets.arch` in it that defines the network `tiny`, the spec is
    /// `base tiny` alone.
    ///
    /// # Errors
    /// As [`Spec::open`].
    pub fn load(path: impl AsRef<Path>, loader: Arc<dyn Loader>) -> Result<Spec, Error> {
        Spec::read(Sources::with_loader(loader), path.as_ref())
    }

    fn read(mut sources: Sources, path: &Path) -> Result<Spec, Error> {
        let file = compile::open(&mut sources, path)?;
        Ok(Spec { sources, file, set: vec![] })
    }

    /// A spec whose relative paths start where the process does.
    pub fn from_text(text: impl Into<String>) -> Spec {
        Spec::from_text_in(text, "spec.arch", ".")
    }

    /// A spec that messages call `name`, and whose relative paths start in the folder `dir`.
    pub fn from_text_in(text: impl Into<String>, name: &str, dir: impl AsRef<Path>) -> Spec {
        let mut sources = Sources::new();
        let file = sources.add(name, text, Some(dir.as_ref()));
        Spec { sources, file, set: vec![] }
    }

    /// Gives the spec's parameter `name` a value, as `--set name=value` does.
    pub fn set(mut self, name: impl Into<String>, value: impl Display) -> Spec {
        self.set.push((name.into(), value.to_string()));
        self
    }

    /// Makes another network the base, as `--base` does: selectors such as `@head` then name its places. Lines about the weights
    /// of the spec's own base are left out.
    ///
    /// ```
    /// let spec = || archc::Spec::from_text("base resnet18\nreplace @head with same(out = 10)");
    /// for base in ["resnet50", "mobilenet_v2", "vit_b_16"] {
    ///     assert_eq!(spec().on_base(base).compile()?.outputs()[0].1, [10]);
    /// }
    /// # Ok::<(), archc::Error>(())
    /// ```
    pub fn on_base(mut self, network: &str) -> Spec {
        let rebased = compile::rebase(&mut self.sources, self.file, Some(network), None);
        (self.file, _) = rebased.expect("no file is named");
        self
    }

    /// Takes the base's weights from another file, as `--base-weights` does.
    ///
    /// # Errors
    /// A path that no spec can have: one that is not Unicode, or of several lines.
    pub fn with_base_weights(mut self, file: impl AsRef<Path>) -> Result<Spec, Error> {
        (self.file, _) = compile::rebase(&mut self.sources, self.file, None, Some(file.as_ref()))?;
        Ok(self)
    }

    /// Compiles it. No file is read for that but those that it uses, and of `base hf(..)` what the repository says of its network.
    ///
    /// # Errors
    /// Every independent mistake; a text that has no base.
    pub fn compile(self) -> Result<Model, Error> {
        let library = compile::not_a_spec(&self.sources, self.file);
        self.check(Files::Later)?.ok_or_else(|| library.into())
    }

    /// Compiles it, and looks into the files that it names as `archc check` does. None for a library of definitions, which
    /// has no base.
    ///
    /// # Errors
    /// Every independent mistake of the spec, and of those files.
    pub fn check(self, files: Files) -> Result<Option<Model>, Error> {
        let Spec { mut sources, file, set } = self;
        let outcome = compile::check(&mut sources, file, &set, files);
        let sources = Arc::new(sources);
        match outcome {
            Ok(Outcome::Spec(compiled)) => Ok(Some(Model::new(sources, file, set, *compiled))),
            Ok(Outcome::Library) => Ok(None),
            Err(found) => Err(Error::new(found, sources)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;

    fn outputs(files: &[(&str, &str)]) -> Result<Vec<(String, Vec<usize>)>, Error> {
        let files: BTreeMap<PathBuf, String> =
            files.iter().map(|(path, text)| (path.into(), text.to_string())).collect();
        Ok(Spec::load("spec.arch", Arc::new(files))?.compile()?.outputs())
    }

    #[test]
    fn the_zoo_may_have_files_from_memory() {
        let mine =
            ("zoo/mine.arch", "use \"zoo:parts.arch\"\nnetwork tiny(classes = 2) { input [N, 4]; head(classes) }\n");
        let parts = ("zoo/parts.arch", "block head(out) { linear(out) }");
        let spec = |text| [mine, parts, ("spec.arch", text)];
        let of = |text| outputs(&spec(text)).expect("a spec that is right");
        assert_eq!(of("base tiny(classes = 3)"), [("output".to_string(), vec![3])]);
        assert_eq!(of("use \"zoo:parts.arch\"\nbase tiny\nappend head(5)"), [("output".to_string(), vec![5])]);
        // archc's own are there too, and a file of the same name stands before one
        assert_eq!(of("base resnet18"), [("output".to_string(), vec![1000])]);
        let other = ("zoo/resnet.arch", "network resnet18 { input [N, 4]; linear(7) }");
        assert_eq!(outputs(&[other, ("spec.arch", "base resnet18")]).expect("it is right")[0].1, [7]);
        let error = outputs(&spec("use \"zoo:mime.arch\"\nbase tiny")).expect_err("there is no such file").to_string();
        assert!(
            error.contains("the zoo has no file `mime.arch`") && error.contains("did you mean `mine.arch`"),
            "{error}"
        );
    }
}
