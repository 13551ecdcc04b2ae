//! Taps: where a decoder takes the maps of a network, by their strides.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Graph, NodeId, OWN_OUTPUT};

/// A layer whose output is a map of its network's picture.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    pub node: NodeId,
    pub channels: usize,
    /// Height and width of the picture, and of the map.
    pub picture: [usize; 2],
    pub size: [usize; 2],
}

impl Map {
    /// Whether the map is a part of the picture each way, `1 / stride`, rounded down or up.
    pub fn fits(&self, stride: usize) -> bool {
        let fits = |picture: usize, size: usize| (picture / stride..=picture.div_ceil(stride)).contains(&size);
        stride > 0 && (0..2).all(|side| fits(self.picture[side], self.size[side]))
    }

    /// Its stride: a power of two where one fits, else another whole number.
    pub fn stride(&self) -> Option<usize> {
        let ratio = self.picture[0] as f64 / self.size[0] as f64;
        let power = ratio.log2().round().exp2() as usize;
        [power, ratio.round() as usize].into_iter().find(|stride| self.fits(*stride))
    }
}

impl Graph {
    /// The maps that the network's own output depends on, in running order, as far as shapes are known. A single pixel is
    /// no map, and neither is an input. `skips` leaves layers out.
    pub fn maps(&self, skips: &FxHashSet<NodeId>) -> Vec<Map> {
        let picture = self.inputs.values().find_map(|id| self.node(*id).shape.as_ref()?.as_image());
        let (Some((_, height, width)), Some(output)) = (picture, self.outputs.get(OWN_OUTPUT)) else { return vec![] };
        let mut needed = FxHashSet::from_iter([output.node]);
        let mut stack = vec![output.node];
        while let Some(id) = stack.pop() {
            stack.extend(self.operands(id).into_iter().filter(|operand| needed.insert(*operand)));
        }
        let of = |node: NodeId| {
            let (channels, tall, wide) = self.node(node).shape.as_ref()?.as_image()?;
            let is_map = tall * wide > 1 && !self.inputs.values().any(|input| *input == node);
            is_map.then_some(Map { node, channels, picture: [height, width], size: [tall, wide] })
        };
        let order = self.order().into_iter().filter(|id| needed.contains(id) && !skips.contains(id));
        order.filter_map(of).collect()
    }

    /// The last map of each whole stride, the finest first.
    pub fn taps(&self) -> Vec<(usize, Map)> {
        let mut last: FxHashMap<usize, Map> = FxHashMap::default();
        for map in self.maps(&FxHashSet::default()) {
            last.extend(map.stride().map(|stride| (stride, map)));
        }
        let mut taps: Vec<(usize, Map)> = last.into_iter().collect();
        taps.sort_by_key(|(stride, _)| *stride);
        taps
    }
}
