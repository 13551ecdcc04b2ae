//! What is made small.

use super::Layout;

/// `[output, target]`: one number.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss(pub archc_base::Loss);

/// `[output, target]`: the gradient of the output.
#[derive(Clone, Debug, PartialEq)]
pub struct LossData(pub archc_base::Loss);

super::step::plain! {
    Loss, "loss", |_own, _node| Layout::row_major(&[]);
    LossData, "loss_data", |_own, _node| Layout::row_major(&[]);
}
