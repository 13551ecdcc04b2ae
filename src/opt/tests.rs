//! Every pass on a small network, in the pipeline that a backend really runs: what it makes of it, and a network that it
//! must leave alone.
//!
//! Snapshots hold the network as the pass finds it and as it leaves it.

use super::testing::network;
use super::{Fusions, PASSES, lower, lower_training};
use crate::net::{Net, backward};
use crate::typed::Typed;

/// What the CPU can run, and what a GPU can: [`crate::exec::Backend::fusions`] of both.
const CPU: Fusions = Fusions::GATES.and(Fusions::MEANS).and(Fusions::CHAINS);
const GPU: Fusions = Fusions::GATES.and(Fusions::MEANS).and(Fusions::EXCITATIONS);

/// What becomes of a network before the first pass.
type Lower = fn(&Typed) -> Net;

/// Training: all layers learn, and the backward pass starts at the input `d.output`.
fn learning(typed: &Typed) -> Net {
    let mut net = lower_training(typed, &|_| false);
    let output = net.outputs()[0].1;
    let shape = net.node(output).shape.clone();
    let seed = net.add_input("d.output", shape, vec![]);
    backward(&mut net, &[(output, seed)], &[]);
    net
}

/// The network as the pass `name` finds it after those before it, and as it leaves it.
fn around(typed: &Typed, lower: Lower, name: &str) -> [String; 2] {
    let mut net = lower(typed);
    let own = PASSES.iter().find(|pass| pass.name == name).unwrap_or_else(|| panic!("no pass {name}"));
    let fusions = if CPU.contains(own.needs) { CPU } else { GPU };
    assert!(fusions.contains(own.needs), "{name} runs on a backend");
    for pass in PASSES.iter().filter(|pass| fusions.contains(pass.needs)) {
        let before = net.dump(typed);
        (pass.run)(&mut net);
        net.check(pass.name);
        if pass.name == name {
            return [before, net.dump(typed)];
        }
    }
    unreachable!("its own pass is among them")
}

/// Compares with the snapshot of the pass.
fn fires(name: &str, text: &str) {
    fires_in(lower, name, text);
}

fn fires_in(lower: Lower, name: &str, text: &str) {
    let [before, after] = around(&network(text), lower, name);
    assert_ne!(before, after, "{name} does something");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../tests/expect/opt");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, format!("{before}\n=> {name}\n\n{after}")));
}

fn leaves(name: &str, text: &str) {
    leaves_in(lower, name, text);
}

fn leaves_in(lower: Lower, name: &str, text: &str) {
    let [before, after] = around(&network(text), lower, name);
    assert_eq!(before, after, "{name} must not fire");
}

#[test]
fn identity() {
    fires("identity", "x = input([4])\n d = dropout <- x\n i = identity <- d\n y = relu <- i\n ! i");
    leaves("identity", "x = input([4])\n y = relu <- x");
    // what draws in eval mode too
    leaves("identity", "x = input([4])\n d = dropout(0.3, always = true) <- x\n y = relu <- d");
}

#[test]
fn constant_matmul() {
    fires("constant_matmul", "x = input([4, 6])\n w = parameter([6, 5])\n y = matmul <- x, w");
    // one matrix for each head is no linear map
    leaves("constant_matmul", "x = input([2, 4, 6])\n w = parameter([2, 6, 5])\n y = matmul <- x, w");
    leaves("constant_matmul", "x = input([4, 6])\n w = parameter([5, 4])\n y = matmul <- w, x");
}

#[test]
fn permute() {
    fires(
        "permute",
        "x = input([6, 7, 5])
        p = permute(0, 2, 3, 1) <- x
        f = linear(6) <- p
        q = permute(0, 3, 1, 2) <- f
        scale = parameter([6, 1, 1])
        m = mul <- q, scale
        y = add <- m, x",
    );
    // the permuted value is an output itself
    leaves(
        "permute",
        "x = input([6, 7, 5])
        f = linear(6) <- x
        q = permute(0, 3, 1, 2) <- f
        y = relu <- q
        ! q",
    );
}

#[test]
fn fold_channels() {
    fires(
        "fold_channels",
        "x = input([3, 8, 8])
        c = conv2d(4, kernel = 3) <- x
        b = batch_norm2d <- c
        r = relu <- b
        d = conv2d(5, kernel = 1, bias = false) <- r
        e = batch_norm2d <- d",
    );
    // another layer, or the user, sees the convolution's own value; an activation comes between
    leaves("fold_channels", "x = input([3, 8, 8])\n c = conv2d(4, kernel = 3) <- x\n b = batch_norm2d <- c\n ! c");
    leaves(
        "fold_channels",
        "x = input([3, 8, 8])\n c = conv2d(3, kernel = 1) <- x\n b = batch_norm2d <- c\n y = add <- b, c",
    );
    leaves(
        "fold_channels",
        "x = input([3, 8, 8])\n c = conv2d(4, kernel = 3) <- x\n r = relu <- c\n b = batch_norm2d <- r",
    );
}

#[test]
fn scale() {
    fires("scale", "a = input([4, 6])\n b = input([6, 4])\n p = matmul <- a, b\n y = mul(0.125) <- p");
    leaves("scale", "a = input([4, 6])\n b = input([6, 4])\n p = matmul <- a, b\n y = add(0.125) <- p");
    leaves("scale", "a = input([4, 6])\n b = input([6, 4])\n p = matmul <- a, b\n y = mul(0.125) <- p\n ! p");
}

#[test]
fn flatten() {
    fires("flatten", "x = input([3, 4, 5])\n f = flatten <- x\n y = linear(7) <- f");
    // one pixel; a reshape that is no flattening; a second reader of the flattened image
    leaves("flatten", "x = input([3, 4, 5])\n p = adaptive_avg_pool2d(1) <- x\n f = flatten <- p\n y = linear(7) <- f");
    leaves("flatten", "x = input([3, 4, 5])\n f = reshape(3, 20) <- x\n y = linear(7) <- f");
    leaves("flatten", "x = input([3, 4, 5])\n f = flatten <- x\n y = linear(60) <- f\n z = add <- y, f");
}

#[test]
fn fuse() {
    fires(
        "fuse",
        "x = input([4, 8, 8])
        c = conv2d(4, kernel = 3, padding = 1) <- x
        r = relu <- c
        d = conv2d(4, kernel = 1) <- r
        s = add <- x, d
        y = gelu <- s",
    );
    // the convolution's own value is an output; both operands of the sum are read twice
    leaves("fuse", "x = input([4, 8, 8])\n c = conv2d(4, kernel = 3) <- x\n y = relu <- c\n ! c");
    leaves("fuse", "x = input([4, 8, 8])\n c = conv2d(4, kernel = 1) <- x\n y = add <- c, c");
    // two activations after one another are not one
    leaves("fuse", "x = input([4, 8, 8])\n s = softmax <- x\n y = relu <- s");
    // a function that is rare is for steps of single values alone
    leaves("fuse", "x = input([4, 8, 8])\n c = conv2d(4, kernel = 3) <- x\n y = sin <- c");
    let apart = network("x = input([4, 8, 8])\n m = global_avg_pool2d <- x\n d = sub <- x, m\n y = sin <- d");
    let [before, after] = around(&apart, lower, "fuse");
    assert_ne!(before, after, "the sine goes into the difference");
}

#[test]
fn gate() {
    fires(
        "gate",
        "x = input([4, 8, 8])
        m = global_avg_pool2d <- x
        s = sigmoid <- m
        y = mul <- s, x",
    );
    // one factor a place, one a row of something else than an image, a single pixel
    leaves("gate", "x = input([4, 8, 8])\n m = mean(1, keep = true) <- x\n y = mul <- x, m");
    leaves("gate", "x = input([4, 8])\n m = mean(2) <- x\n y = mul <- x, m");
    leaves("gate", "x = input([4, 1, 1])\n f = flatten <- x\n y = mul <- x, f");
}

#[test]
fn squeeze_early() {
    let block = |between: &str| {
        format!(
            "x = input([16, 8, 8])
            z = conv2d(4, kernel = 3, padding = 1) <- x
            r = relu <- z
            c = conv2d(16, kernel = 1) <- r
            b = batch_norm2d <- c
            {between}
            m = global_avg_pool2d <- v
            f1 = linear(2) <- m
            a = relu <- f1
            f2 = linear(16) <- a
            g = sigmoid <- f2
            e = mul <- v, g
            s = add <- e, x
            y = relu <- s"
        )
    };
    fires("squeeze_early", &block("v = identity <- b"));
    // something non-linear in between, more channels than pixels, another reader of the convolution
    leaves("squeeze_early", &block("v = relu <- b"));
    leaves("squeeze_early", &block("v = identity <- b").replace("conv2d(4,", "conv2d(132,"));
    leaves("squeeze_early", &(block("v = identity <- b") + "\n! v"));
    // a function that convolutions do without
    leaves("squeeze_early", &block("v = identity <- b").replace("y = relu", "y = sin"));
    // windows of several pixels do not come out the same at the edges
    leaves("squeeze_early", &block("v = conv2d(16, kernel = 3, padding = 1) <- b"));
}

#[test]
fn relu_mask() {
    let block =
        |last: &str| format!("x = input([3, 4, 4])\n c = conv2d(3, kernel = 1) <- x\n b = batch_norm2d <- c\n {last}");
    fires_in(learning, "relu_mask", &block("y = relu <- b"));
    // the sign of y is another's where something is added before the relu; another function has another gradient
    leaves_in(learning, "relu_mask", &block("s = add <- b, x\n y = relu <- s"));
    leaves_in(learning, "relu_mask", &block("y = silu <- b"));
    // a relu behind something else has no batch norm to undo it
    leaves_in(learning, "relu_mask", "x = input([3, 4, 4])\n c = conv2d(3, kernel = 1) <- x\n y = relu <- c");
}

#[test]
fn excite() {
    let block = |last: &str| {
        format!(
            "x = input([8, 7, 6])
            c = conv2d(8, kernel = 3, padding = 1, groups = 8) <- x
            r = hardswish <- c
            m = adaptive_avg_pool2d(1) <- r
            f1 = conv2d(2, kernel = 1) <- m
            a = relu <- f1
            f2 = conv2d(8, kernel = 1) <- a
            g = hardsigmoid <- f2
            e = mul <- g, r
            y = {last} <- e"
        )
    };
    fires("excite", &block("conv2d(5, kernel = 1)"));
    // windows would multiply each pixel more than once; another reader of the gated image
    leaves("excite", &block("conv2d(5, kernel = 3)"));
    leaves("excite", &block("conv2d(5, kernel = 1, stride = 2)"));
    leaves("excite", &(block("conv2d(5, kernel = 1)") + "\n! e"));
}

#[test]
fn squeeze() {
    fires(
        "squeeze",
        "x = input([8, 7, 6])
        c = conv2d(8, kernel = 3) <- x
        r = relu <- c
        m = global_avg_pool2d <- r
        d = conv2d(8, kernel = 1) <- r
        y = adaptive_avg_pool2d(1) <- d
        ! m",
    );
    // not a convolution's; other axes; the largest instead of the mean; one pixel
    leaves("squeeze", "x = input([8, 7, 6])\n y = global_avg_pool2d <- x");
    leaves("squeeze", "x = input([8, 7, 6])\n c = conv2d(8, kernel = 1) <- x\n y = mean(3) <- c");
    leaves("squeeze", "x = input([8, 7, 6])\n c = conv2d(8, kernel = 1) <- x\n y = global_max_pool2d <- c");
    leaves("squeeze", "x = input([8, 1, 1])\n c = conv2d(8, kernel = 1) <- x\n y = global_avg_pool2d <- c");
}

#[test]
fn excitation() {
    let block = |maps: &str| {
        format!(
            "x = input([8, 7, 6])
            c = conv2d(8, kernel = 3, padding = 1) <- x
            m = adaptive_avg_pool2d(1) <- c
            {maps}
            g = sigmoid <- f2
            e = mul <- c, g
            y = conv2d(5, kernel = 3) <- e"
        )
    };
    // of pixels, a map without an activation, and of features
    fires(
        "excitation",
        &block(
            "f0 = conv2d(40, kernel = 1) <- m\n v = flatten <- f0\n f1 = linear(2) <- v\n r = silu <- f1\n f2 = linear(8) <- r",
        ),
    );
    // what lies between is read elsewhere; three activations; weights as many as those of an image
    let two = "f1 = conv2d(2, kernel = 1) <- m\n r = relu <- f1\n f2 = conv2d(8, kernel = 1) <- r";
    leaves("excitation", &(block(two).replace("m = adaptive_avg_pool2d(1)", "m = adaptive_max_pool2d(1)")));
    leaves(
        "excitation",
        &block(&format!("f0 = conv2d(3, kernel = 1) <- m\n r0 = relu <- f0\n {}", two.replace("<- m", "<- r0"))),
    );
    leaves("excitation", &block(&two.replace("2, kernel", "40000, kernel")));
    let cut = block("f1 = reshape(2, 2, 2) <- m\n r = conv2d(2, kernel = 1) <- f1\n f2 = reshape(8) <- r");
    leaves("excitation", &cut);
}

#[test]
fn pooled_conv() {
    let stem = |between: &str| {
        format!(
            "x = input([3, 20, 20])
            c = conv2d(8, kernel = 7, stride = 2, padding = 3, bias = false) <- x
            b = batch_norm2d <- c
            r = {between} <- b
            y = max_pool2d(3, stride = 2, padding = 1) <- r"
        )
    };
    fires("pooled_conv", &stem("relu"));
    // another reader; many channels; means instead of maxima
    leaves("pooled_conv", &(stem("relu") + "\n! r"));
    leaves("pooled_conv", &stem("relu").replace("input([3,", "input([16,"));
    leaves("pooled_conv", &stem("relu").replace("max_pool2d", "avg_pool2d"));
}

#[test]
fn separable() {
    let block = |between: &str| {
        format!(
            "x = input([6, 8, 8])
            c = conv2d(6, kernel = 3, padding = 1, groups = 6, bias = false) <- x
            b = batch_norm2d <- c
            r = {between} <- b
            d = conv2d(6, kernel = 1) <- r
            y = add <- d, x"
        )
    };
    fires("separable", &block("relu6"));
    // another reader; the pixels' channels all together; more weights than pixels
    leaves("separable", &(block("relu6") + "\n! r"));
    leaves("separable", &block("relu6").replace("groups = 6", "groups = 3"));
    let wide = block("relu6").replace("[6, 8, 8]", "[512, 3, 3]").replace("(6,", "(512,");
    leaves("separable", &wide.replace("groups = 6", "groups = 512"));
}

/// Maps by rows of one weight are one map, as if they had been written so.
#[test]
fn parts_of_one_map() {
    let text = |parts: [&str; 3]| {
        let lines: String =
            ["q", "k", "v"].iter().zip(parts).map(|(name, part)| format!("{name} = {part}\n")).collect();
        let head = "x = input([5, 6])\n d = relu <- x\n w = parameter([18, 6])\n b = parameter([18])\n";
        format!("{head} {lines} y = attention(heads = 2) <- q, k, v")
    };
    let of = |x: &str, from: usize| format!("linear_with(rows = [{from}, {}]) <- {x}, w, b", from + 6);
    let parts = network(&text([&of("x", 0), &of("x", 6), &of("x", 12)]));
    let slice = |from: usize| format!("slice(2, from = {from}, to = {}) <- all", from + 6);
    let wide = text([&slice(0), &slice(6), &slice(12)]).replace("q =", "all = linear_with <- x, w, b\n q =");
    let wide = network(&wide);
    for lower in [lower, learning] {
        assert_eq!(lower(&parts).dump(&parts), lower(&wide).dump(&wide));
    }
    // another operand, and rows that are taken twice
    for parts in [[of("d", 0), of("x", 6), of("x", 12)], [of("x", 0), of("x", 0), of("x", 12)]] {
        let typed = network(&text([&parts[0], &parts[1], &parts[2]]));
        let dump = lower(&typed).dump(&typed);
        assert_eq!(dump.matches("= linear").count(), 3, "{dump}");
    }
}

/// A table of positions that is resampled and convolved is a constant, unless something of it learns.
#[test]
fn what_nothing_learns_in_is_computed_at_load() {
    let typed = network(
        "x = input([6, 8, 10])
        table = parameter([1, 5, 4, 7])
        wide = upsample(size = [8, 10], mode = bicubic) <- table
        mixed = conv2d(6, kernel = 3, padding = 1) <- wide
        y = add <- x, mixed",
    );
    let has = |net: &Net, name: &str| net.order().iter().any(|id| net.node(*id).kind.name() == name);
    let frozen = lower(&typed);
    assert!(
        !has(&frozen, "upsample") && !has(&frozen, "conv2d") && has(&frozen, "constant"),
        "{}",
        frozen.dump(&typed)
    );
    let path = |id| typed.graph().node(id).path.as_str();
    let by_the_table = lower_training(&typed, &|id| path(id) != "table");
    assert!(has(&by_the_table, "upsample") && has(&by_the_table, "conv2d"), "{}", by_the_table.dump(&typed));
    let by_the_layer = lower_training(&typed, &|id| path(id) != "mixed");
    assert!(!has(&by_the_layer, "upsample") && has(&by_the_layer, "conv2d"), "{}", by_the_layer.dump(&typed));
}
