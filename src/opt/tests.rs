//! Every pass on a small network: what it makes of it, and a network that it must leave alone.
//!
//! Snapshots hold the network as the pass finds it and as it leaves it.

use super::testing::network;
use super::{Net, PASSES, lower};
use crate::typed::Typed;

/// The network as the pass `name` finds it after those before it, and as it leaves it.
fn around(typed: &Typed, name: &str) -> [String; 2] {
    let mut net: Net = lower(typed);
    for pass in PASSES {
        let before = net.dump(typed);
        (pass.run)(&mut net);
        if pass.name == name {
            return [before, net.dump(typed)];
        }
    }
    panic!("no pass {name}")
}

/// Compares with the snapshot of the pass.
fn fires(name: &str, text: &str) {
    let [before, after] = around(&network(text), name);
    assert_ne!(before, after, "{name} does something");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../tests/expect/opt");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, format!("{before}\n=> {name}\n\n{after}")));
}

fn leaves(name: &str, text: &str) {
    let [before, after] = around(&network(text), name);
    assert_eq!(before, after, "{name} must not fire");
}

#[test]
fn identity() {
    fires("identity", "x = input([4])\n d = dropout <- x\n i = identity <- d\n y = relu <- i\n ! i");
    leaves("identity", "x = input([4])\n y = relu <- x");
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
}

#[test]
fn dead() {
    fires("dead", "x = input([4])\n w = parameter([4, 5])\n y = matmul <- x, w");
    leaves("dead", "x = input([4])\n unused = input([3])\n y = relu <- x");
}
