//! Means and maxima of windows, as `torch.nn.MaxPool2d`, `AvgPool2d` and their adaptive forms.

use archc_base::Window;

use super::{Backward, Id, Layout, Net, Node, Step};

/// `[x]`
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub pool: archc_base::Pool,
    pub window: Window,
}

/// `[dy, x]`
#[derive(Clone, Debug, PartialEq)]
pub struct PoolData {
    pub pool: archc_base::Pool,
    pub window: Window,
}

/// `[x]`: output pixel (i, j) of [out_h, out_w] reads rows floor(i H / out_h) to ceil((i + 1) H / out_h), columns alike.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptivePool {
    pub pool: archc_base::Pool,
}

/// `[dy, x]`
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptivePoolData {
    pub pool: archc_base::Pool,
}

impl Step for Pool {
    fn name(&self) -> &'static str {
        match self.pool {
            archc_base::Pool::Max => "max_pool2d",
            archc_base::Pool::Mean { .. } => "avg_pool2d",
        }
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::images(1)
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let x = back.node(y).operands[0];
        let Pool { pool, window } = *self;
        let dx = back.add(PoolData { pool, window }, vec![dy, x], back.shape(x));
        back.give(x, dx);
    }
}

impl Step for AdaptivePool {
    fn name(&self) -> &'static str {
        match self.pool {
            archc_base::Pool::Max => "adaptive_max_pool2d",
            archc_base::Pool::Mean { .. } => "adaptive_avg_pool2d",
        }
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::images(1)
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let x = back.node(y).operands[0];
        let dx = back.add(AdaptivePoolData { pool: self.pool }, vec![dy, x], back.shape(x));
        back.give(x, dx);
    }
}

super::step::plain! {
    PoolData, "pool_data", |_own, _node| Layout::images(2);
    AdaptivePoolData, "adaptive_pool_data", |_own, _node| Layout::images(2);
}
