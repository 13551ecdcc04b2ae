//! The mean of a convolution's every channel is taken while the convolution stores its result: beside it where something
//! else reads it, in place of it where nothing does.

use archc_base::Reduce;

use super::{Id, Kind, Net, Squeeze};

pub(super) fn run(net: &mut Net) {
    let counts = net.use_counts();
    for id in net.order() {
        let Some(image) = is_global_mean(net, id) else { continue };
        let below = net.node(image);
        let (_, height, width) = below.shape.as_image().expect("a mean over pixels");
        if !matches!(below.kind, Kind::Conv { .. }) || below.epilogue.squeeze == Squeeze::Only || height * width == 1 {
            continue;
        }
        if counts[image.0] == 1 {
            let mut only = below.clone();
            only.epilogue.squeeze = Squeeze::Only;
            let node = net.node(id);
            only.shape = node.shape.clone();
            only.layers.extend(&node.layers);
            *net.node_mut(id) = only;
            net.remove(image);
        } else {
            let layers = net.node(id).layers.clone();
            let producer = net.node_mut(image);
            producer.epilogue.squeeze = Squeeze::Also;
            producer.layers.extend(layers);
            net.node_mut(id).kind = Kind::Means;
        }
    }
}

/// What `id` is the mean of, over all pixels, if it is one.
pub(super) fn is_global_mean(net: &Net, id: Id) -> Option<Id> {
    let node = net.node(id);
    let Kind::Reduce { reduce: Reduce::Mean, axes } = &node.kind else { return None };
    let image = node.operands[0];
    (axes == &[2, 3] && net.node(image).shape.as_image().is_some() && node.epilogue.is_none()).then_some(image)
}
