//! Softmax and its logarithm.

use archc_cuda::{Rows, RowsData};

use super::norms::{rows, rows_data};
use super::{Lower, OnCuda, Pending};
use crate::diag::Problem;
use crate::net::{Softmax, SoftmaxData};

impl OnCuda for Softmax {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        rows(to, if self.log { "log_softmax" } else { "softmax" }, Rows::default())
    }
}

impl OnCuda for SoftmaxData {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        rows_data(to, if self.log { "log_softmax_data" } else { "softmax_data" }, RowsData::default())
    }
}
