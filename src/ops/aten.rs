//! The operators of PyTorch (ATen) that graphs of `torch.export` are made of, and what each is in the language: the ops whose
//! declarations name it, or nothing. Whoever reads such a graph asks here; what an op makes of an operator's arguments is not
//! said.
//!
//! Names are those of PyTorch without `aten::`, with an overload (`pow.Tensor_Scalar`) or for all of them (`conv2d`).

use super::{Entry, MANUAL};

/// What an operator of PyTorch is in the language.
#[derive(Clone, Debug)]
pub enum Meaning {
    /// One of these ops, by its arguments; several in a row where it does more than one of them.
    Ops(Vec<&'static Entry>),
    /// Its operand as it is: it changes memory, number format or device alone, or a shape that is broadcast anyway.
    Operand,
    /// A value that depends on no input, which is computed and kept as a `constant` or a `buffer`.
    Constant,
    /// Nothing that the language can say.
    Unknown,
}

/// Operators that give their operand as it is, or to be broadcast.
pub const OPERAND: &[&str] = &[
    "_assert_tensor_metadata",
    "_to_copy",
    "alias",
    "clone",
    "contiguous",
    "detach",
    "expand",
    "expand_as",
    "getitem",
    "to",
    "type_as",
    "wrap_with_autocast",
    "wrap_with_set_grad_enabled",
];

/// Operators that make masks, positions and frequencies, of no input.
pub const CONSTANT: &[&str] = &[
    "arange",
    "bitwise_not",
    "copy",
    "cumsum",
    "div.Tensor_mode",
    "fill",
    "flip",
    "full",
    "meshgrid",
    "one_hot",
    "ones",
    "repeat_interleave",
    "zeros",
];

/// The meaning of `name`: `aten::relu_.default`, `relu_.default` or `relu`.
pub fn meaning(name: &str) -> Meaning {
    let name = name.strip_prefix("aten::").or(name.strip_prefix("aten.")).unwrap_or(name);
    let name = name.strip_suffix(".default").unwrap_or(name);
    // with its overload, without, and as it is where it writes over its operand
    let (plain, overload) = name.split_once('.').map_or((name, None), |(plain, overload)| (plain, Some(overload)));
    let in_place = plain.strip_suffix('_').filter(|plain| !plain.is_empty());
    let plains = [Some(plain), in_place].into_iter().flatten();
    let names: Vec<String> = plains
        .flat_map(|plain| [overload.map(|overload| format!("{plain}.{overload}")), Some(plain.to_string())])
        .flatten()
        .collect();
    for name in &names {
        let is_one = |list: &[&str]| list.contains(&name.as_str());
        let ops: Vec<&Entry> = MANUAL.iter().filter(|entry| is_one(entry.aten)).collect();
        if !ops.is_empty() {
            return Meaning::Ops(ops);
        }
        if is_one(OPERAND) {
            return Meaning::Operand;
        }
        if is_one(CONSTANT) {
            return Meaning::Constant;
        }
    }
    Meaning::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What 98 networks of timm, one of each of its files, and torchvision's are made of, as `torch.export` writes them.
    const EXPORTED: &str = "conv2d.default linear.default flatten.using_ints dropout.default add.Tensor mul.Tensor \
        adaptive_avg_pool2d.default batch_norm.default reshape.default permute.default getitem gelu.default transpose.int \
        mean.dim cat.default layer_norm.default relu_.default view.default unbind.int scaled_dot_product_attention.default \
        max_pool2d.default matmul.default softmax.int unsqueeze.default slice.Tensor relu.default contiguous.default \
        avg_pool2d.default pad.default alias.default expand.default add_.Tensor sigmoid.default index.Tensor select.int \
        split_with_sizes.default stack.default _assert_tensor_metadata.default chunk.default div.Tensor to.dtype sub.Tensor \
        arange.default silu_.default hardsigmoid.default silu.default sum.dim_IntList linalg_vector_norm.default \
        group_norm.default clamp_min.default expand_as.default pow.Tensor_Scalar sin.default cos.default neg.default \
        upsample_bilinear2d.vec zeros.default to.device hardswish.default upsample_nearest2d.vec split.Tensor \
        meshgrid.indexing type_as.default hardswish_.default clamp.default reshape_as.default roll.default conv1d.default \
        repeat.default repeat_interleave.self_int copy_.default upsample_bicubic2d.vec amax.default rms_norm.default \
        div.Tensor_mode pow.Scalar einsum.default hardtanh.default exp.default im2col.default unfold.default squeeze.dim \
        rsub.Scalar div_.Tensor conv2d.padding lift_fresh_copy.default addcmul.default bitwise_not.default cumsum.default \
        hardtanh_.default wrap_with_autocast ones.default flip.default one_hot.default wrap_with_set_grad_enabled \
        clamp.Tensor tile.default conv_transpose2d.input rsqrt.default upsample_linear1d.vec avg_pool1d.default \
        lstm.input dropout_.default leaky_relu_.default _upsample_bicubic2d_aa.vec col2im.default max.dim arange.start";

    #[test]
    fn every_operator_of_an_exported_network_has_a_meaning() {
        for name in EXPORTED.split_whitespace() {
            assert!(!matches!(meaning(name), Meaning::Unknown), "`{name}` is on no page and in no list");
        }
    }

    #[test]
    fn every_op_names_its_operators() {
        // those of a module's own making, and those of tables that PyTorch computes by arithmetic
        let none = [
            "identity",
            "stochastic_depth",
            "softsign",
            "normalize",
            "input",
            "parameter",
            "buffer",
            "window_index",
            "window_coords",
            "window_mask",
        ];
        for entry in MANUAL {
            assert_eq!(entry.aten.is_empty(), none.contains(&entry.name), "`{}`", entry.name);
            for name in entry.aten {
                let is_name =
                    |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                assert!(name.split('.').all(is_name) && name.split('.').count() <= 2, "`{}`: {name}", entry.name);
                let Meaning::Ops(ops) = meaning(name) else { panic!("`{name}` is no op") };
                assert!(ops.iter().any(|op| op.name == entry.name), "`{name}` is not `{}`", entry.name);
            }
        }
    }

    #[test]
    fn overloads_and_operators_in_place_are_told_apart() {
        let ops = |name: &str| match meaning(name) {
            Meaning::Ops(ops) => ops.iter().map(|op| op.name).collect::<Vec<_>>(),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(ops("aten::relu_.default"), ["relu"]);
        assert_eq!(ops("aten.pow.Scalar"), ["exp"]);
        assert_eq!(ops("pow.Tensor_Scalar"), ["pow"]);
        assert_eq!(ops("div.Tensor"), ["div"]);
        assert!(matches!(meaning("div.Tensor_mode"), Meaning::Constant));
        assert_eq!(ops("batch_norm"), ["batch_norm1d", "batch_norm2d"]);
        assert!(matches!(meaning("contiguous"), Meaning::Operand));
        assert!(matches!(meaning("conv3d.default"), Meaning::Unknown));
        assert!(matches!(meaning(""), Meaning::Unknown) && matches!(meaning("_"), Meaning::Unknown));
    }
}
