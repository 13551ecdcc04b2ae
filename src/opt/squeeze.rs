//! The mean of a convolution's every channel is taken while the convolution stores its result: beside it where something
//! else reads it, in place of it where nothing does.

use archc_base::Reduce as By;

use crate::net::{Id, Kind, Means, Net, Squeeze};

pub(super) fn run(net: &mut Net) {
    for id in net.order() {
        let Some(image) = is_global_mean(net, id) else { continue };
        let below = net.node(image);
        let (_, height, width) = below.shape.as_image().expect("a mean over pixels");
        let fits = below.epilogue.squeeze != Squeeze::Only && height * width > 1;
        if !matches!(below.kind, Kind::Conv(_)) || !net.is_known(image) || !fits {
            continue;
        }
        let node = net.node(id).clone();
        if net.uses(image) == 1 {
            let mut only = below.clone();
            only.epilogue.squeeze = Squeeze::Only;
            only.shape = node.shape;
            only.layers.extend(node.layers);
            net.set(id, only);
        } else {
            net.change(image, |producer| {
                producer.epilogue.squeeze = Squeeze::Also;
                producer.layers.extend(node.layers);
            });
            net.change(id, |node| node.kind = Means.into());
        }
    }
}

/// What `id` is the mean of, over all pixels, if it is one.
pub(super) fn is_global_mean(net: &Net, id: Id) -> Option<Id> {
    let node = net.get(id)?;
    let Kind::Reduce(reduce) = &node.kind else { return None };
    let image = node.operands[0];
    let whole = reduce.reduce == By::Mean && reduce.axes == [2, 3] && net.node(image).shape.as_image().is_some();
    (whole && node.epilogue.is_none()).then_some(image)
}
