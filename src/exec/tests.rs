//! Executables against the reference, on every kind of small network.

mod reduced;
mod sliced;

use archc_base::DType;

use super::cpu::Cpu;
use super::testing::{SAMPLES, compare_on, moved_samples_keep_their_bits, noise, sample_network};
use crate::opt::testing::network;
use crate::typed::Typed;

/// Runs a network both ways with a batch, twice on the executable, and compares every output. A larger batch is also
/// cut into slices by chance.
fn compare(typed: &Typed, batch: usize, tolerance: f64) {
    compare_cut(Cpu::new(), typed, batch, tolerance);
}

fn compare_cut(cpu: Cpu, typed: &Typed, batch: usize, tolerance: f64) {
    compare_on(&cpu, typed, batch, tolerance);
    if batch > 1 {
        (0..3).for_each(|seed| compare_on(&sliced::Sliced { cpu, seed }, typed, batch, tolerance));
        compare_on(&cpu.batch_invariant(), typed, batch, tolerance);
        moved_samples_keep_their_bits(&cpu.batch_invariant(), typed, batch);
    }
}

/// What bf16 may cost: each value that is kept in it is off by up to 2^-8 of itself, and a few such errors add up,
/// more where values cancel out: the mean of five channels around zero is off by 0.036.
const REDUCED: f64 = 0.06;

/// As [`compare`], with several batches, in float32 and in bf16.
fn check(text: &str) {
    let typed = network(text);
    let reduced = Cpu::new().with_dtype(DType::Bf16).expect("the CPU has kernels for it");
    for batch in [1, 3, 4] {
        compare(&typed, batch, 2e-5);
        compare_cut(reduced, &typed, batch, REDUCED);
    }
}

#[test]
fn convolutions_and_additions() {
    check(
        "x = input([3, 9, 7])
        a = conv2d(5, kernel = 3, padding = 1) <- x
        b = conv2d(5, kernel = 1, bias = false) <- x
        c = add <- a, b
        d = add <- c, a
        e = conv2d(600, kernel = [3, 2], stride = 2) <- d
        f = conv2d(8, kernel = 1) <- e
        g = add(0.5) <- f
        ! c",
    );
}

#[test]
fn a_residual_is_added_before_only_the_means_are_kept() {
    for pool in ["global_avg_pool2d", "adaptive_avg_pool2d(1)"] {
        check(&format!(
            "x = input([8, 6, 5])
            a = conv2d(8, kernel = 3, padding = 1) <- x
            b = add <- a, x
            c = relu <- b
            d = {pool} <- c
            e = flatten <- d
            f = linear(4) <- e"
        ));
    }
}

#[test]
fn the_network_may_be_its_input() {
    check("x = input([3, 4, 5])");
    check("x = input([4])\n y = linear(7) <- x");
    check("x = input([2, 3, 4])\n y = linear(7) <- x");
}

#[test]
fn parameters_are_broadcast() {
    check("x = input([6, 4])\n p = parameter([1, 6, 4]) \n y = add <- x, p");
    check("x = input([6, 4])\n p = parameter([4]) \n y = add <- p, x");
    check("x = input([6, 4, 3])\n p = parameter([6, 1, 1]) \n c = conv2d(6, kernel = 1) <- x\n y = add <- c, p");
    check("x = input([6])\n p = parameter([6]) \n y = add <- x, p\n ! p");
}

#[test]
fn every_op_runs() {
    for entry in crate::ops::MANUAL {
        let sampled = SAMPLES.iter().any(|(call, _)| call.split('(').next() == Some(entry.name));
        assert!(sampled || entry.name == "input", "no sample of {}", entry.name);
    }
    for (call, operands) in SAMPLES {
        sample_network(call, operands).iter().for_each(|text| check(text));
    }
}

#[test]
fn what_networks_are_made_of() {
    // a bottleneck with a projection
    check(
        "x = input([8, 7, 6])
        c1 = conv2d(4, kernel = 1, bias = false) <- x
        b1 = batch_norm2d <- c1
        r1 = relu <- b1
        c2 = conv2d(4, kernel = 3, stride = 2, padding = 1, bias = false) <- r1
        b2 = batch_norm2d <- c2
        r2 = relu <- b2
        c3 = conv2d(16, kernel = 1, bias = false) <- r2
        b3 = batch_norm2d <- c3
        cp = conv2d(16, kernel = 1, stride = 2, bias = false) <- x
        bp = batch_norm2d <- cp
        sum = add <- b3, bp
        y = relu <- sum
        pool = adaptive_avg_pool2d(1) <- y
        flat = flatten <- pool
        drop = dropout <- flat
        fc = linear(10) <- drop",
    );
    // squeeze and excitation on the main branch of a residual
    check(
        "x = input([8, 7, 6])
        c = conv2d(8, kernel = 3, padding = 1) <- x
        s = silu <- c
        m = global_avg_pool2d <- s
        f1 = linear(2) <- m
        r = relu <- f1
        f2 = linear(8) <- r
        g = sigmoid <- f2
        e = mul <- s, g
        a = add <- e, x
        y = relu <- a",
    );
    // the same after a pointwise convolution, whose gate is known before it, with other layers around
    check(
        "x = input([8, 7, 6])
        c = conv2d(4, kernel = 3, padding = 1) <- x
        z = relu <- c
        p = conv2d(40, kernel = 1) <- z
        b = batch_norm2d <- p
        m = global_avg_pool2d <- b
        f1 = linear(2) <- m
        r = relu <- f1
        f2 = linear(40) <- r
        g = sigmoid <- f2
        e = mul <- b, g
        d = conv2d(40, kernel = 1, bias = false) <- x
        a = add <- e, d
        y = relu <- a
        k = concat <- y, x
        q = conv2d(70, kernel = 1) <- k
        last = mean([2, 3], keep = true) <- q",
    );
    // too many channels for that: the gated image is added to another
    check(
        "x = input([50, 3, 3])
        p = conv2d(40, kernel = 1) <- x
        m = global_avg_pool2d <- p
        f = linear(40) <- m
        g = sigmoid <- f
        e = mul <- p, g
        d = conv2d(40, kernel = 1, bias = false) <- x
        a = add <- e, d
        y = silu <- a",
    );
    // images that lie as they came, and means of one convolution for two
    check(
        "x = input([8, 7, 6])
        v = input([8])
        e = mul <- x, v
        c = conv2d(8, kernel = 3, groups = 8) <- e
        m = global_avg_pool2d <- c
        n = mean([2, 3], keep = true) <- c
        s = mul <- c, m
        t = mul <- s, n
        u = conv2d(600, kernel = 1) <- t
        y = adaptive_avg_pool2d(1) <- u
        ! m, t",
    );
    // the same by 1x1 convolutions, and the gate first
    check(
        "x = input([8, 7, 6])
        c = conv2d(8, kernel = 3, padding = 1) <- x
        m = adaptive_avg_pool2d(1) <- c
        f1 = conv2d(2, kernel = 1) <- m
        r = relu <- f1
        f2 = conv2d(8, kernel = 1) <- r
        g = hardsigmoid <- f2
        e = mul <- g, c
        y = conv2d(5, kernel = 1) <- e",
    );
    // a stem whose image is pooled at once
    check(
        "x = input([3, 21, 18])
        c = conv2d(8, kernel = 7, stride = 2, padding = 3, bias = false) <- x
        b = batch_norm2d <- c
        r = silu <- b
        p = max_pool2d(3, stride = 2, padding = 1, ceil_mode = true) <- r
        y = conv2d(5, kernel = 3) <- p",
    );
    // an inverted residual
    check(
        "x = input([6, 9, 8])
        e = conv2d(36, kernel = 1) <- x
        a = relu6 <- e
        c = conv2d(36, kernel = 3, padding = 1, groups = 36, bias = false) <- a
        b = batch_norm2d <- c
        r = hardswish <- b
        d = conv2d(6, kernel = 1, bias = false) <- r
        n = batch_norm2d <- d
        s = add <- n, x
        k = concat <- s, x",
    );
    // a dense block: each layer sees all before it
    check(
        "x = input([6, 5, 4])
        n1 = batch_norm2d <- x
        r1 = relu <- n1
        l1 = conv2d(3, kernel = 3, padding = 1) <- r1
        k1 = concat <- x, l1
        n2 = batch_norm2d <- k1
        r2 = relu <- n2
        l2 = conv2d(3, kernel = 3, padding = 1) <- r2
        k2 = concat <- x, l1, l2
        n3 = batch_norm2d <- k2
        l3 = conv2d(3, kernel = 1) <- n3
        k3 = concat <- x, l1, l2, l3
        y = avg_pool2d(2) <- k3
        ! l2, k2",
    );
    // an inception block, whose branches are written where the concatenation has them
    check(
        "x = input([6, 5, 4])
        a = conv2d(3, kernel = 1) <- x
        ra = relu <- a
        b = conv2d(5, kernel = 3, padding = 1) <- x
        rb = relu <- b
        p = max_pool2d(3, stride = 1, padding = 1) <- x
        c = conv2d(4, kernel = 1) <- p
        inner = concat <- ra, rb
        k = concat <- inner, c, x
        y = conv2d(7, kernel = 1) <- k",
    );
    // ShuffleNet: half of the channels pass by
    check(
        "x = input([8, 5, 4])
        l = chunk(2, part = 0) <- x
        r = chunk(2, part = 1) <- x
        c = conv2d(4, kernel = 3, padding = 1, groups = 4) <- r
        k = concat <- l, c
        s = channel_shuffle(2) <- k
        y = conv2d(4, kernel = 1) <- s",
    );
    // ConvNeXt: linear maps of permuted images, a scale of each channel, a residual
    check(
        "x = input([6, 7, 5])
        stem = conv2d(6, kernel = 2) <- x
        d = conv2d(6, kernel = 7, padding = 3, groups = 6) <- stem
        p = permute(0, 2, 3, 1) <- d
        n = layer_norm(1e-6) <- p
        f1 = linear(24) <- n
        g = gelu <- f1
        f2 = linear(6) <- g
        q = permute(0, 3, 1, 2) <- f2
        ls = parameter([6, 1, 1])
        m = mul <- q, ls
        sd = stochastic_depth(0.1) <- m
        y = add <- sd, stem
        z = layer_norm2d <- y",
    );
    // VGG: a flattened image in a linear map
    check(
        "x = input([6, 5, 4])
        c = conv2d(7, kernel = 3) <- x
        r = relu <- c
        f = flatten <- r
        y = linear(9) <- f
        d = dropout <- y
        z = relu <- d",
    );
}

#[test]
fn attention_by_hand() {
    // a vision transformer's layer with a class token
    check(
        "x = input([3, 8, 8])
        c = conv2d(12, kernel = 2, stride = 2) <- x
        r = reshape(12, -1) <- c
        p = permute(0, 2, 1) <- r
        token = parameter([1, 1, 12])
        k = concat <- token, p
        pos = parameter([1, 17, 12])
        e = add <- k, pos
        n1 = layer_norm <- e
        w = parameter([36, 12])
        b = parameter([36])
        q = linear_with(rows = [0, 12]) <- n1, w, b
        kk = linear_with(rows = [12, 24]) <- n1, w, b
        v = linear_with(rows = [24, 36]) <- n1, w, b
        att = attention(heads = 3) <- q, kk, v
        a = linear(12) <- att
        s = add <- a, e
        n2 = layer_norm <- s
        m1 = linear(20) <- n2
        g = gelu <- m1
        m2 = linear(12) <- g
        y = add <- m2, s
        t = slice(1, from = 0, to = 1) <- y
        f = flatten <- t
        h = linear(5) <- f",
    );
    // Swin: windows, a shift, a table of positions
    check(
        "x = input([6, 6, 8])
        table = parameter([25, 2])
        index = window_index(3)
        b0 = gather <- table, index
        b1 = reshape(9, 9, 2) <- b0
        b = permute(2, 0, 1) <- b1
        moved = roll([-1, -1], axes = [1, 2]) <- x
        w0 = reshape(2, 3, 2, 3, 8) <- moved
        w1 = permute(0, 1, 3, 2, 4, 5) <- w0
        w = reshape(4, 9, 8) <- w1
        qkv = linear(24) <- w
        q0 = reshape(4, 9, 3, 2, 4) <- qkv
        q1 = permute(0, 3, 1, 4, 2, 5) <- q0
        q2 = chunk(3, axis = 1, part = 0) <- q1
        k2 = chunk(3, axis = 1, part = 1) <- q1
        v2 = chunk(3, axis = 1, part = 2) <- q1
        q = reshape(4, 2, 9, 4) <- q2
        k3 = reshape(4, 2, 9, 4) <- k2
        k = permute(0, 1, 2, 4, 3) <- k3
        v = reshape(4, 2, 9, 4) <- v2
        s0 = matmul <- q, k
        s1 = mul(0.5) <- s0
        s2 = add <- s1, b
        mask = window_mask(6, 6, 3, 1)
        s3 = add <- s2, mask
        s = softmax <- s3
        o0 = matmul <- s, v
        o1 = permute(0, 1, 3, 2, 4) <- o0
        o2 = reshape(4, 9, 8) <- o1
        o = linear(8) <- o2
        u0 = reshape(2, 2, 3, 3, 8) <- o
        u1 = permute(0, 1, 3, 2, 4, 5) <- u0
        u2 = reshape(6, 6, 8) <- u1
        u = roll([1, 1], axes = [1, 2]) <- u2
        y = add <- u, x",
    );
}

/// A network of `len` layers drawn from `seed`: convolutions, norms, activations, sums, gates, concatenations, parts.
fn random_network(seed: u64, len: usize) -> String {
    let draws = noise(8 * len, seed);
    let mut draws = draws.into_iter().map(|draw| ((draw as f64 + 1.0) * 0.5 * 999_983.0) as usize);
    let mut draw = |below: usize| draws.next().expect("enough draws") % below;
    let mut text = String::from("v0 = input([4, 5, 3])\n");
    let mut channels = vec![4];
    while channels.len() <= len {
        let at = channels.len();
        let (from, pick) = (draw(at), draw(14));
        let c = channels[from];
        let same: Vec<usize> = (0..at).filter(|other| channels[*other] == c).collect();
        let other = same[draw(same.len())];
        let out = [2, 4, 6][draw(3)];
        let (line, out) = match pick {
            0 => (format!("conv2d({out}, kernel = 3, padding = 1) <- v{from}"), out),
            1 => (format!("conv2d({out}, kernel = 1, bias = false) <- v{from}"), out),
            2 => (format!("conv2d({c}, kernel = 3, padding = 1, groups = {c}) <- v{from}"), c),
            3 => (format!("batch_norm2d <- v{from}"), c),
            4 => (format!("relu <- v{from}"), c),
            5 => (format!("silu <- v{from}"), c),
            6 | 7 => (format!("add <- v{from}, v{other}"), c),
            8 => (format!("max_pool2d(3, stride = 1, padding = 1) <- v{from}"), c),
            9 => (format!("concat <- v{from}, v{other}"), 2 * c),
            10 if c % 2 == 0 => (format!("chunk(2, part = {}) <- v{from}", draw(2)), c / 2),
            11 if c % 2 == 0 => (format!("channel_shuffle(2) <- v{from}"), c),
            12 => {
                text += &format!("g{at} = global_avg_pool2d <- v{other}\nh{at} = sigmoid <- g{at}\n");
                (format!("mul <- v{from}, h{at}"), c)
            }
            13 => {
                text += &format!("p{at} = permute(0, 2, 3, 1) <- v{from}\nl{at} = linear({out}) <- p{at}\n");
                (format!("permute(0, 3, 1, 2) <- l{at}"), out)
            }
            _ => (format!("dropout <- v{from}"), c),
        };
        text += &format!("v{at} = {line}\n");
        channels.push(out.min(64));
        if out > 64 {
            text += &format!("v{at}s = slice(1, from = 0, to = 64) <- v{at}\n");
            text = text
                .replace(&format!("v{at} = "), &format!("v{at}w = "))
                .replace(&format!("<- v{at}\n"), &format!("<- v{at}w\n"));
            text = text.replace(&format!("v{at}s = "), &format!("v{at} = "));
        }
    }
    // some values are outputs besides the last
    format!("{text}! v{}, v{}", draw(len), draw(len))
}

#[test]
fn random_networks() {
    for seed in 0..300 {
        let typed = network(&random_network(seed, 3 + seed as usize % 18));
        compare(&typed, 1 + seed as usize % 2 * 3, 5e-5);
    }
}
