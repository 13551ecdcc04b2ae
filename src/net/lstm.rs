//! The recurrence of an LSTM (Hochreiter and Schmidhuber 1997) over the steps of sequences. What does not depend on the
//! step before is in linear maps around it.

use std::fmt;

use super::{Backward, Epilogue, Id, Layout, Linear, LinearWeight, Need, Net, Node, Order, Pad, Slice, Step};

/// `[gates, weight]`, [.., L, 4 H] and [4 H, H], the parts of gates i, f, g, o: the hidden states [.., L, H]. Of two pairs
/// those of both side by side, the second from the last step to the first.
#[derive(Clone, Debug, PartialEq)]
pub struct LstmScan {
    /// Of a single pair, whether it runs from the last step to the first.
    pub reverse: bool,
}

/// `[dy, sums, weight]`, of one direction: the gradient of the gates. The sums are those of the gates and of what the
/// weight makes of the hidden states before.
#[derive(Clone, Debug, PartialEq)]
pub struct LstmScanData {
    pub reverse: bool,
}

impl LstmScan {
    /// Whether the pair of operands of that number runs from the last step to the first.
    pub fn runs_back(&self, pair: usize) -> bool {
        self.reverse || pair == 1
    }
}

/// Rows of the last axis in the order in which operand `of` lies, which has the steps among them.
fn layout(node: &Node, of: usize, needs: &[Need]) -> Layout {
    Layout::new(Order::As { of, last: Some(node.shape.rank() - 1) }, needs)
}

fn dump(f: &mut fmt::Formatter<'_>, reverse: bool) -> fmt::Result {
    f.write_str(if reverse { " backwards" } else { "" })
}

impl Step for LstmScan {
    fn name(&self) -> &'static str {
        "lstm_scan"
    }

    fn layout(&self, node: &Node, _net: &Net) -> Layout {
        layout(node, 0, &[Need::Matrix, Need::RowMajor, Need::Matrix, Need::RowMajor])
    }

    fn is_weight(&self, at: usize) -> bool {
        at % 2 == 1
    }

    fn reuse(&self, node: &Node, _net: &Net) -> usize {
        node.shape.len() / node.shape.last().unwrap_or(1)
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let (operands, whole) = (back.node(y).operands.clone(), back.shape(y));
        let axis = whole.rank() - 1;
        for (at, pair) in operands.chunks_exact(2).enumerate() {
            let (gates, weight, reverse) = (pair[0], pair[1], self.runs_back(at));
            let hidden = back.shape(weight).dims[1];
            let mut own = |x: Id| match operands.len() {
                2 => x,
                _ => back.add(Slice { axis, from: at * hidden }, vec![x], whole.with_axis(axis, hidden)),
            };
            let [y, dy] = [y, dy].map(&mut own);
            let before = states_before(back, y, reverse);
            let wide = back.shape(gates);
            let sums = match before {
                Some(before) => {
                    let epilogue = Epilogue { residual: Some(gates), ..Epilogue::default() };
                    back.with_epilogue(Linear, vec![before, weight], epilogue, wide.clone())
                }
                None => gates,
            };
            let dx = back.add(LstmScanData { reverse }, vec![dy, sums, weight], wide);
            back.give(gates, dx);
            if back.needs(weight) {
                let dw = match before {
                    Some(before) => back.add(LinearWeight, vec![before, dx], back.shape(weight)),
                    // nothing was multiplied by it
                    None => back.scaled(weight, 0.0),
                };
                back.give(weight, dw);
            }
        }
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dump(f, self.reverse)
    }
}

/// The hidden states that each step started from; None where there is a single step, which starts from 0.
fn states_before(back: &mut Backward, states: Id, reverse: bool) -> Option<Id> {
    let shape = back.shape(states);
    let axis = shape.rank() - 2;
    let steps = shape.axis(axis).expect("steps are no batch");
    if steps == 1 {
        return None;
    }
    let kept = back.add(Slice { axis, from: reverse.into() }, vec![states], shape.with_axis(axis, steps - 1));
    let mut before = vec![0; shape.rank()];
    before[axis] = usize::from(!reverse);
    Some(back.add(Pad { before, value: 0.0 }, vec![kept], shape))
}

impl Step for LstmScanData {
    fn name(&self) -> &'static str {
        "lstm_scan_data"
    }

    fn layout(&self, node: &Node, _net: &Net) -> Layout {
        layout(node, 1, &[Need::Matrix, Need::Matrix, Need::RowMajor])
    }

    fn is_weight(&self, at: usize) -> bool {
        at == 2
    }

    fn reuse(&self, node: &Node, _net: &Net) -> usize {
        node.shape.len() / node.shape.last().unwrap_or(1)
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dump(f, self.reverse)
    }
}
