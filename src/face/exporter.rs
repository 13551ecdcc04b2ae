//! The edited network's weights as a file.

use std::collections::BTreeMap;
use std::path::Path;

use indexmap::IndexMap;

use super::{Error, Message, Model};
use crate::answers::{loss_of, trained};
use crate::bind::{Bound, Ledger, Sum, keys};
use crate::merge::{Merged, merge};
use crate::ops::ParamDecl;
use crate::source::Span;
use crate::syntax;
use crate::syntax::tree::Item;
use crate::weights::{DType, Format};

/// A network with its weights, to be written.
pub struct Exporter {
    model: Model,
    bound: Bound,
    remark: String,
    /// What is written as one convolution each.
    sums: Vec<Sum>,
    merged: Merged,
}

impl Exporter {
    pub(super) fn new(model: Model, (bound, remark): (Bound, String)) -> Exporter {
        Exporter { model, bound, remark, sums: vec![], merged: Merged::default() }
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

    pub(crate) fn bound(&self) -> &Bound {
        &self.bound
    }
}
