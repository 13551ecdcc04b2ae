//! The edited network's weights as a file.

use std::path::Path;

use indexmap::IndexMap;

use super::{Error, Message, Model};
use crate::answers::{loss_of, trained};
use crate::bind::{Bound, Ledger, Sum};
use crate::weights::{DType, Format};

/// A network with its weights, to be written.
pub struct Exporter {
    model: Model,
    bound: Bound,
    remark: String,
    /// What is written as one convolution each.
    sums: Vec<Sum>,
}

impl Exporter {
    pub(super) fn new(model: Model, (bound, remark): (Bound, String)) -> Exporter {
        Exporter { model, bound, remark, sums: vec![] }
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
        Ok(self.bound.export(path.as_ref(), format, &dtype, &metadata, &self.sums)?)
    }

    pub(crate) fn bound(&self) -> &Bound {
        &self.bound
    }
}
