//! A compiled spec: a checked network, and what the spec says beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use archc_base::DType;

use super::error::messages;
use super::{Error, Exporter, Message, Session, Spec, Trainer};
use crate::bind::{Bound, Ledger, bind_headers};
use crate::compile::Compiled;
use crate::diag::{Diagnostics, short};
use crate::exec::device::{Device, Precision};
use crate::exec::{Executable, samples};
use crate::export::pytorch;
use crate::graph::NodeId;
use crate::source::{FileId, Sources};
use crate::typed::Typed;
use crate::weights::Downloads;
use crate::writer;

/// A network that passed every check. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Model {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    sources: Arc<Sources>,
    file: FileId,
    set: Vec<(String, String)>,
    compiled: Compiled,
}

/// How a network is loaded: the options of the `archc` program, with its defaults.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The largest batch; 1 where it is not given, and for a network that learns what its `train` block says.
    pub batch: Option<usize>,
    /// The number format of weights and activations; sums, small vectors and outputs are f32 in any case.
    pub dtype: DType,
    /// On a GPU with f32: multiply with 10 bits of the mantissa.
    pub tf32: bool,
    /// Only exact algorithms: no Winograd, no reduced precision.
    pub exact: bool,
    /// A file of the edited network's weights instead of the spec's, as training and export write it.
    pub weights: Option<PathBuf>,
    /// The seed of whatever is random and has none in the spec, draws at inference among it.
    pub seed: Option<u64>,
    /// Who is told how far downloads are.
    pub downloads: Option<Arc<dyn Downloads>>,
}

impl Options {
    pub(super) fn precision(&self) -> Precision {
        Precision { dtype: self.dtype, tf32: self.tf32, exact: self.exact }
    }
}

impl Model {
    pub(crate) fn new(sources: Arc<Sources>, file: FileId, set: Vec<(String, String)>, compiled: Compiled) -> Model {
        Model { inner: Arc::new(Inner { sources, file, set, compiled }) }
    }

    /// What messages call the spec.
    pub fn name(&self) -> &str {
        &self.inner.sources.file(self.inner.file).name
    }

    /// The values that the spec's parameters were given.
    pub fn parameters(&self) -> &[(String, String)] {
        &self.inner.set
    }

    /// What the compiler warns of.
    pub fn warnings(&self) -> Vec<Message> {
        self.messages(&self.inner.compiled.warnings)
    }

    /// The inputs by name, and the shape of a sample of each.
    pub fn inputs(&self) -> Vec<(String, Vec<usize>)> {
        let typed = self.typed();
        typed.graph().inputs().iter().map(|(name, id)| (name.clone(), typed.shape(*id).dims.clone())).collect()
    }

    /// The outputs by name, and the shape of a sample of each.
    pub fn outputs(&self) -> Vec<(String, Vec<usize>)> {
        let typed = self.typed();
        let outputs = typed.graph().outputs().iter();
        outputs.map(|(name, output)| (name.clone(), typed.shape(output.node).dims.clone())).collect()
    }

    /// What becomes of every tensor, as far as it can be told from the headers of files on this machine: what a hub has is
    /// supposed to fit.
    ///
    /// # Errors
    /// A file that cannot be read, or does not fit.
    pub fn ledger(&self) -> Result<Ledger, Error> {
        let Compiled { settings, base, typed, .. } = self.compiled();
        let bound = bind_headers(settings, base, typed).map_err(|found| self.error(found))?;
        Ok(bound.ledger().clone())
    }

    /// The network as its edits left it, as a `network` of the language in a file of its own: one that another spec can
    /// `use`, and a person can go on with. Weights, and what the spec says of them and of learning, are not in it.
    ///
    /// # Errors
    /// A network that the language has no words for.
    pub fn arch(&self) -> Result<String, Error> {
        writer::write_edited(self.compiled()).map_err(|problem| self.error(problem.anywhere().into()))
    }

    /// The network as its edits left it, as a module of PyTorch in a file of Python; `weights` is the file of its tensors,
    /// which its first lines name.
    ///
    /// # Errors
    /// A network that PyTorch has no words for.
    pub fn pytorch(&self, weights: Option<&str>) -> Result<String, Error> {
        let compiled = self.compiled();
        let graph = compiled.typed.graph();
        let sources = &self.inner.sources;
        let file_name = |name: &str| Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
        // by the statement that made a layer, or changed what it is
        let mark = |id: NodeId| {
            let node = graph.node(id);
            let is_changed = node.reshaped || node.base.as_ref().is_some_and(|base| base.path != node.path);
            let span = node.origin.or(node.touched.filter(|_| is_changed))?;
            let (line, _) = sources.line_column(span);
            let statement = sources.text(span).split_whitespace().collect::<Vec<_>>().join(" ");
            Some(format!("{}:{line}: {}", file_name(&sources.file(span.file).name), short(&statement)))
        };
        let spec = file_name(self.name());
        let about = pytorch::About {
            name: compiled.settings.base.rsplit('/').next().unwrap_or_default(),
            spec: Some(&spec),
            weights,
            preprocess: compiled.settings.preprocess.as_ref(),
            mark: &mark,
        };
        pytorch::module(graph, &about).map_err(|problem| self.error(problem.anywhere().into()))
    }

    /// Loads the network with its weights, ready to run.
    ///
    /// # Errors
    /// Weights that cannot be read or do not fit, a device that is missing, too little memory.
    pub fn load(&self, device: Device, options: Options) -> Result<Session, Error> {
        let chosen = device.backend(options.precision(), None)?;
        let (bound, remark) = self.bind(&options)?;
        bound.check_memory()?;
        let batch = options.batch.unwrap_or(1);
        let executable = Executable::new(self.typed(), &bound, chosen.backend.as_ref(), batch)?;
        let mut remarks: Vec<String> =
            chosen.remark.into_iter().chain([remark]).chain(bound.remarks().iter().cloned()).collect();
        remarks.extend(samples::remark(self.typed(), options.seed.unwrap_or(0)));
        let seed = options.seed.unwrap_or(0);
        Ok(Session::new(self.clone(), executable, seed, remarks, self.messages(&bound.warnings())))
    }

    /// The network on a device where it is to learn, as the spec's `train` block says.
    ///
    /// # Errors
    /// A spec without that block; a device that is missing, or on which networks do not learn so.
    pub fn trainer(&self, device: Device, options: Options) -> Result<Trainer, Error> {
        Trainer::new(self.clone(), device, options)
    }

    /// The network with its weights, to be written. Of `options` those of weights count.
    ///
    /// # Errors
    /// Weights that cannot be read or do not fit.
    pub fn exporter(&self, options: &Options) -> Result<Exporter, Error> {
        Ok(Exporter::new(self.clone(), self.bind(options)?, options))
    }

    /// The network's tensors, and a line on what became of each. No part of the face, as [`Model::compiled`].
    ///
    /// # Errors
    /// Weights that cannot be read or do not fit.
    #[doc(hidden)]
    pub fn bind(&self, options: &Options) -> Result<(Bound, String), Error> {
        let downloads: &dyn Downloads = options.downloads.as_deref().unwrap_or(&());
        let bound = self.compiled().bind(options.weights.as_deref(), options.seed, downloads);
        bound.map_err(|found| self.error(found))
    }

    /// Diagnostics of this model as an error.
    pub(crate) fn error(&self, diagnostics: Diagnostics) -> Error {
        Error::new(diagnostics, self.inner.sources.clone())
    }

    /// The spec's text, among those that it uses.
    pub(super) fn text(&self) -> (&Sources, FileId) {
        (&self.inner.sources, self.inner.file)
    }

    /// Diagnostics with their places spelt out, such as those that a [`Watch`](crate::Watch) is given.
    pub fn messages(&self, diagnostics: &Diagnostics) -> Vec<Message> {
        messages(diagnostics, &self.inner.sources)
    }

    /// The same spec with another text.
    pub(super) fn with_text(&self, text: &str) -> Result<Model, Error> {
        let (sources, file) = self.text();
        let (name, dir) = (sources.file(file).name.clone(), sources.file(file).dir.clone());
        let mut sources = sources.clone();
        let file = sources.add(name, text, dir.as_deref());
        Spec { sources, file, set: self.inner.set.clone() }.compile()
    }

    pub(super) fn typed(&self) -> &Typed {
        &self.inner.compiled.typed
    }

    /// The stages' own result. No part of the face: for the program, and this repository's tests and benches.
    #[doc(hidden)]
    pub fn compiled(&self) -> &Compiled {
        &self.inner.compiled
    }
}
