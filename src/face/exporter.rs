//! The edited network as files: its weights, and modules of other tools that load them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::{Error, Message, Model, Options};
use crate::answers::{loss_of, names, trained};
use crate::bind::{Bound, Ledger, Sum, keys};
use crate::card::{self, Card, Made, OfOnnx, Stamped};
use crate::diag::{Code, Problem};
use crate::io::atomic;
use crate::merge::{Merged, merge};
use crate::onnx;
use crate::ops::ParamDecl;
use crate::settings::classes;
use crate::source::Span;
use crate::syntax;
use crate::syntax::tree::Item;
use crate::train::run::resolved;
use crate::weights::{DType, Format};

/// A network with its weights, to be written.
pub struct Exporter {
    model: Model,
    bound: Bound,
    remark: String,
    /// What is written as one convolution each.
    sums: Vec<Sum>,
    merged: Merged,
    /// The block of the adapters that were merged.
    block: Option<String>,
    options: Options,
}

/// How a network is written as ONNX.
#[derive(Clone, Copy, Debug)]
pub struct Onnx {
    /// The version of ONNX's operators.
    pub opset: i64,
    /// Whether batch norms go into the convolutions and linear maps before them.
    pub fold: bool,
    /// The number format of the weights; what is computed stays float32.
    pub dtype: archc_base::DType,
    /// Whether weights go into a file beside, `NAME.onnx.data`; where none, those above a gigabyte do.
    pub external_data: Option<bool>,
    /// Whether the network takes pictures, uint8 [N, height, width, 3], and prepares them itself.
    pub with_preprocess: bool,
}

impl Default for Onnx {
    fn default() -> Onnx {
        let dtype = archc_base::DType::F32;
        Onnx { opset: 20, fold: false, dtype, external_data: None, with_preprocess: false }
    }
}

impl Exporter {
    pub(super) fn new(model: Model, (bound, remark): (Bound, String), options: &Options) -> Exporter {
        let options = options.clone();
        Exporter { model, bound, remark, sums: vec![], merged: Merged::default(), block: None, options }
    }

    /// What became of every tensor.
    pub fn ledger(&self) -> &Ledger {
        self.bound.ledger()
    }

    /// The ledger in a line.
    pub fn remark(&self) -> &str {
        &self.remark
    }

    /// What is odd about the weights that were read so far.
    pub fn warnings(&self) -> Vec<Message> {
        self.model.messages(&self.bound.warnings())
    }

    /// Has sums of parallel convolutions written as one convolution each: of branches that are a convolution, a batch norm, the
    /// one behind the other, or the value that all of them take. So RepVGG runs, and the file fits the network without branches,
    /// `repvgg_a2(deploy = true)`. Gives the paths of these convolutions, each `reparam_conv` in the scope of its sum.
    ///
    /// # Errors
    /// A network that has no such sums; two of them in one scope.
    pub fn fold(&mut self) -> Result<Vec<String>, Error> {
        self.sums = self.bound.sums()?;
        Ok(self.sums.iter().map(|sum| sum.path.clone()).collect())
    }

    /// Folds the adapters that the block `block` has put beside linear layers, such as `lora`, into these layers: what is
    /// written then is a network without them, of the same outputs. Gives the layers.
    ///
    /// # Errors
    /// Where there are none, or one is no matrix beside a layer that is; weights that cannot be read.
    pub fn merge(&mut self, block: &str) -> Result<&[String], Error> {
        self.merged = merge(self.model.typed(), &self.bound, block)?;
        self.block = Some(block.into());
        Ok(&self.merged.layers)
    }

    /// The spec without the edits that made what was merged, and without what it says of training: of that the file that is
    /// written holds the weights, strictly. None where the rest is no spec of these tensors.
    pub fn merged_spec(&self) -> Option<String> {
        let (sources, file) = self.model.text();
        let text = &sources.file(file).text;
        let reports = &self.model.compiled().reports;
        let is_gone = |span: Span| {
            let made = reports.iter().find(|report| report.span == span).map(|report| &report.added);
            made.is_some_and(|made| !made.is_empty() && made.iter().all(|path| self.merged.gone.contains(path)))
        };
        let place = |span: Span| span.start as usize..span.end as usize;
        let goes = |item: Item| match item {
            Item::Edit(edit) if is_gone(edit.span) => Some(place(edit.span)),
            Item::Edit(edit) if matches!(edit.verb.value.as_str(), "freeze" | "unfreeze") => Some(place(edit.span)),
            Item::Train(train) => Some(place(train.span)),
            _ => None,
        };
        let (tree, _) = syntax::parse(file, text);
        let left = syntax::without(text, &tree.items.into_iter().filter_map(goes).collect::<Vec<_>>());
        let left = format!("{}\n", left.trim());
        let model = self.model.with_text(&left).ok()?;
        let shapes = |keys: IndexMap<String, ParamDecl>| -> BTreeMap<String, Vec<usize>> {
            keys.into_iter().map(|(key, decl)| (key, decl.shape)).collect()
        };
        let mut own = shapes(keys(self.model.typed()));
        own.retain(|key, _| !self.merged.without.contains(key));
        (shapes(keys(model.typed())) == own).then_some(left)
    }

    /// Writes every tensor under the key that a user of PyTorch expects, with the names of classes and of the loss. Gives the
    /// number of tensors.
    ///
    /// # Errors
    /// Weights that cannot be read; a file that cannot be written.
    pub fn write(&self, path: impl AsRef<Path>, format: Format, dtype: archc_base::DType) -> Result<usize, Error> {
        // what a trained file says of its outputs travels on, as far as it is still of these
        let mut metadata = IndexMap::new();
        let labels = trained(self.model.compiled(), &self.bound).map_err(|found| self.model.error(found))?;
        if let Some(labels) = labels {
            metadata.insert("classes".to_string(), serde_json::to_string(labels.names()).expect("JSON of strings"));
        }
        metadata.extend(loss_of(self.model.compiled(), &self.bound).map(|loss| ("loss".to_string(), loss)));
        let dtype = match dtype {
            archc_base::DType::F32 => DType::F32,
            archc_base::DType::F16 => DType::F16,
            archc_base::DType::Bf16 => DType::BF16,
        };
        Ok(self.bound.export(path.as_ref(), format, &dtype, &metadata, &self.sums, &self.merged)?)
    }

    /// Writes the model card of `written`, the files of one export to `to`, of which the first is the one that was asked for:
    /// README.md beside it. `onnx` is what an export to ONNX was given. Gives its place; None where README.md, and a file of the output's own name that ends in .md, are
    /// somebody else's.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn card(
        &self,
        written: &[PathBuf],
        to: &str,
        dtype: archc_base::DType,
        onnx: Option<&Onnx>,
    ) -> Result<Option<PathBuf>, Error> {
        let Some(place) = written.first().and_then(|first| card::place(first)) else { return Ok(None) };
        let folder = card::folder(&place);
        let weights = self.options.weights.as_deref();
        let (model, bound) = (&self.model, &self.bound);
        let card = Card::begin(model.compiled(), model.text(), model.parameters(), (bound, weights), folder)?;
        let mut record = card.record(Made::Export {
            to: to.into(),
            dtype: dtype.name().into(),
            fold: onnx.map_or(!self.sums.is_empty(), |onnx| onnx.fold),
            merge: self.block.clone(),
            onnx: onnx.map(|&Onnx { opset, external_data, with_preprocess, .. }| OfOnnx {
                opset,
                external_data,
                with_preprocess,
            }),
            weights: weights.map(|path| card::relative(path, folder)),
            seed: self.options.seed,
        });
        let stamped = written.iter().map(|path| Stamped::of(path, to, card::file_name(path)));
        record.outputs = stamped.collect::<Result<_, _>>()?;
        card::write(&place, &card.text(&record))?;
        Ok(Some(place))
    }

    /// Writes the network as a module of PyTorch, a file of Python, and beside it, under the same name, the safetensors file of
    /// its tensors. Gives that file's path and the number of tensors.
    ///
    /// # Errors
    /// A network that PyTorch has no words for; sums or adapters that were folded, as the file of tensors then fits another
    /// network; weights that cannot be read; a file that cannot be written.
    pub fn write_pytorch(&self, path: impl AsRef<Path>, dtype: archc_base::DType) -> Result<(PathBuf, usize), Error> {
        let path = path.as_ref();
        let fail = |problem: Problem| self.model.error(problem.anywhere().into());
        if !self.sums.is_empty() || !self.merged.layers.is_empty() {
            let problem = Problem::new(Code::Usage, "a network with folded layers is not that of the spec");
            return Err(fail(
                problem.hint("write the folded weights as safetensors, and export the spec that they fit"),
            ));
        }
        let weights = path.with_extension("safetensors");
        let name = weights.file_name().unwrap_or_default().to_string_lossy();
        let text = self.model.pytorch(Some(&name))?;
        // the tensors first: a module without them is of no use
        let written = self.write(&weights, Format::SAFETENSORS, dtype)?;
        atomic::write_bytes(path, text.as_bytes()).map_err(fail)?;
        Ok((weights, written))
    }

    /// Writes the network itself, with its weights, as ONNX: a file that ONNX Runtime and others run.
    ///
    /// # Errors
    /// An opset that archc does not write; pictures that the network does not take; weights that cannot be read; a file that
    /// cannot be written.
    pub fn write_onnx(&self, path: impl AsRef<Path>, options: &Onnx) -> Result<onnx::Written, Error> {
        self.write_onnx_of(path.as_ref(), card::folder(path.as_ref()), options)
    }

    /// [`Exporter::write_onnx`] with the spec in it as it means the same in `folder`.
    pub(super) fn write_onnx_of(&self, path: &Path, folder: &Path, options: &Onnx) -> Result<onnx::Written, Error> {
        if !self.merged.gone.is_empty() {
            let problem = Problem::new(Code::Usage, "a merged network is written as weights alone");
            let hint = "write safetensors with `--merge`, and export the spec that is printed with `--weights`";
            return Err(problem.hint(hint).into());
        }
        let preprocess = match (&self.bound.settings().preprocess, options.with_preprocess) {
            (_, false) => None,
            (Some(preprocess), true) if self.model.typed().graph().inputs().len() == 1 => Some(preprocess.clone()),
            (_, true) => {
                let problem = Problem::new(Code::Usage, "the network says no way to prepare pictures for its input");
                return Err(problem.hint("`base NAME { preprocess { .. } }` says one").into());
            }
        };
        let mut metadata = vec![];
        let names = names(self.model.compiled(), &self.bound).map_err(|found| self.model.error(found))?;
        let names = names.filter(|names| classes(self.model.typed()) == Some(names.len()));
        if let Some(names) = names {
            metadata.push(("classes".to_string(), serde_json::to_string(names.names()).expect("JSON of strings")));
        }
        metadata.extend(loss_of(self.model.compiled(), &self.bound).map(|loss| ("loss".to_string(), loss)));
        let (sources, file) = self.model.text();
        let spec = resolved(sources, file, self.model.parameters(), folder);
        metadata.push(("spec".to_string(), spec));
        let Onnx { opset, fold, dtype, external_data, .. } = *options;
        let options = onnx::Options { opset, fold, dtype, external_data, preprocess, metadata };
        Ok(onnx::export(self.model.typed(), &self.bound, path, &options)?)
    }

    pub(crate) fn bound(&self) -> &Bound {
        &self.bound
    }
}
