//! How programs write networks into files: who wrote a file, told by what lies in it, and how a layout's keys become those of
//! the zoo. One table; nothing here looks at a file.
//!
//! A layout leads to the names of timm, or of torchvision where both have the same. Its rules are lines of a base's braces;
//! those that a file gives nothing to do are left out of what is printed. The names of layers are those of the programs'
//! own sources. A layout is listed only where its tensors differ from the zoo's by names, shapes and order along the first axis:
//! MMPretrain's Swin orders the inputs of `reduction` in another way, and a file of it would load and be wrong.

/// Who wrote a file.
#[derive(Debug)]
pub struct Origin {
    pub name: &'static str,
    /// It is one that shows all of these.
    pub signs: &'static [Sign],
    /// Of several networks with the same tensors it learned one whose name begins so.
    pub learned: &'static [&'static str],
    /// Beginnings of names of networks, and a line that makes them what it learned, where the file does not say so.
    pub edits: &'static [(&'static str, &'static str)],
}

impl Origin {
    const fn new(name: &'static str, signs: &'static [Sign]) -> Origin {
        Origin { name, signs, learned: &[], edits: &[] }
    }
}

/// What is to be seen in a file.
#[derive(Debug)]
pub enum Sign {
    /// A key that ends so, at a dot: a regex.
    Key(&'static str),
    /// A name in the outermost dictionary of a PyTorch checkpoint.
    Entry(&'static str),
}

/// How the tensors of a network are called, where the zoo calls them otherwise.
#[derive(Debug)]
pub struct Layout {
    pub name: &'static str,
    /// Regexes, each of which matches a key, all behind the same prefix.
    pub signs: &'static [&'static str],
    /// The lines that make its keys the zoo's.
    pub rules: &'static [Rule],
    /// What a user of such a file ought to know.
    pub note: Option<&'static str>,
}

/// A line of a base's braces.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    Map(&'static str, &'static str),
    /// A `map` of one tensor, with so many axes of one put before its own.
    Lead(&'static str, &'static str, usize),
    /// A `map` that changes the order of the axes.
    Permute(&'static str, &'static str, &'static [usize]),
    Join(&'static str, &'static str, &'static [&'static str]),
    Ignore(&'static str),
}

use Rule::{Ignore, Join, Lead, Map, Permute};
use Sign::{Entry, Key};

/// Names in keys of what a network runs wrongly without: a file that has one is of no network that has not.
pub const TRUNK: &[&str] =
    &["reg_token", "register_tokens", "dist_token", "norm_pre", "ln_pre", "pre_layrnorm", "q_norm", "k_norm", "rope"];

pub const ORIGINS: &[Origin] = &[
    Origin::new("MoCo's pretraining", &[Key(r"encoder_q\..*"), Key("queue")]),
    Origin {
        learned: &["deit_"],
        // its small one has as many heads as its base
        edits: &[("deit_small", MOCO_HEADS), ("vit_small", MOCO_HEADS)],
        ..Origin::new("MoCo v3's pretraining", &[Key(r"base_encoder\..*"), Key(r"momentum_encoder\..*")])
    },
    Origin::new("SimSiam's pretraining", &[Key(r"encoder\.fc\.6\..*"), Key(r"predictor\.3\..*")]),
    Origin::new("SwAV's pretraining", &[Key(r"projection_head\.0\.weight"), Key(r"prototypes\.weight")]),
    Origin::new("Barlow Twins' pretraining", &[Key(r"backbone\.conv1\.weight"), Key(r"projector\.0\.weight")]),
    Origin { learned: &["deit_"], ..Origin::new("DINO's pretraining", &[Entry("student"), Entry("teacher")]) },
    Origin::new("DINOv2's pretraining", &[Key(r"dino_head\.last_layer\..*"), Key(r"blocks\.[\d.]+\.ls1\.gamma")]),
    Origin {
        learned: &["deit_"],
        ..Origin::new("MAE's pretraining", &[Key(r"decoder_blocks\.0\..*"), Key("mask_token")])
    },
    Origin::new("PyTorch Lightning", &[Entry("pytorch-lightning_version"), Entry("state_dict")]),
    Origin::new("MMEngine", &[Entry("meta"), Entry("state_dict")]),
    Origin::new("timm's training", &[Entry("arch"), Entry("state_dict"), Entry("args")]),
    Origin::new("torch.compile", &[Key(r"_orig_mod\..*")]),
];

const MOCO_HEADS: &str = "set **:attention { heads = 12 }";

pub const LAYOUTS: &[Layout] = &[
    Layout {
        name: "a ViT of Hugging Face's transformers",
        signs: &[
            r"(?:vit\.|deit\.)?embeddings\.cls_token",
            r"(?:vit\.|deit\.)?(?:encoder\.layer|layers)\.0\.layernorm_before\.weight",
        ],
        rules: &[
            Map(r"(?:vit|deit)\.(.*)", "$1"),
            Map(r"embeddings\.cls_token", "cls_token"),
            Map(r"embeddings\.distillation_token", "dist_token"),
            Map(r"embeddings\.position_embeddings", "pos_embed"),
            Map(r"embeddings\.patch_embeddings\.projection\.(.*)", "patch_embed.proj.$1"),
            // those of version 4, and of version 5
            Map(r"encoder\.layer\.(.*)", "blocks.$1"),
            Map(r"layers\.(.*)", "blocks.$1"),
            Map(r"(.*)\.layernorm_before\.(.*)", "$1.norm1.$2"),
            Map(r"(.*)\.layernorm_after\.(.*)", "$1.norm2.$2"),
            Map(r"(.*)\.attention\.(?:output\.dense|o_proj)\.(.*)", "$1.attn.proj.$2"),
            Map(r"(.*)\.intermediate\.dense\.(.*)", "$1.mlp.fc1.$2"),
            Map(r"(blocks\.\d+)\.output\.dense\.(.*)", "$1.mlp.fc2.$2"),
            Map(r"layernorm\.(.*)", "norm.$1"),
            Map(r"(?:cls_)?classifier\.(.*)", "head.$1"),
            Map(r"distillation_classifier\.(.*)", "head_dist.$1"),
            Ignore(r"pooler\..*"),
            Ignore(r"decoder\..*"),
            Ignore(r"embeddings\.mask_token"),
            QKV,
            QKV_5,
        ],
        note: Some(NORM_EPS),
    },
    Layout {
        name: "a DINOv2 of Hugging Face's transformers",
        signs: &[
            r"(?:dinov2\.)?embeddings\.position_embeddings",
            r"(?:dinov2\.)?encoder\.layer\.0\.layer_scale1\.lambda1",
        ],
        rules: &[
            Map(r"dinov2\.(.*)", "$1"),
            Map(r"embeddings\.cls_token", "cls_token"),
            Map(r"embeddings\.register_tokens", "register_tokens"),
            Map(r"embeddings\.position_embeddings", "pos_embed"),
            Map(r"embeddings\.patch_embeddings\.projection\.(.*)", "patch_embed.proj.$1"),
            Map(r"encoder\.layer\.(.*)", "blocks.$1"),
            Map(r"(.*)\.layer_scale(\d)\.lambda1", "$1.ls$2.gamma"),
            Map(r"(.*)\.attention\.(?:output\.dense|o_proj)\.(.*)", "$1.attn.proj.$2"),
            Map(r"(.*)\.mlp\.weights_in\.(.*)", "$1.mlp.fc1.$2"),
            Map(r"(.*)\.mlp\.(?:weights_out|down_proj)\.(.*)", "$1.mlp.fc2.$2"),
            Map(r"layernorm\.(.*)", "norm.$1"),
            Ignore(r"embeddings\.mask_token"),
            Ignore(r"classifier\..*"),
            QKV,
            QKV_5,
            Join(r"(.*)\.mlp\.(gate_proj|up_proj)\.(.*)", "$1.mlp.fc1.$3", &["gate_proj", "up_proj"]),
        ],
        note: None,
    },
    Layout {
        name: "a ResNet of Hugging Face's transformers",
        signs: &[
            r"(?:resnet\.)?embedder\.embedder\.convolution\.weight",
            r"(?:resnet\.)?encoder\.stages\.0\.layers\.0\.layer\.0\.convolution\.weight",
        ],
        rules: &[
            Map(r"resnet\.(.*)", "$1"),
            Map(r"embedder\.embedder\.convolution\.(.*)", "conv1.$1"),
            Map(r"embedder\.embedder\.normalization\.(.*)", "bn1.$1"),
            Map(r"encoder\.stages\.0\.layers\.(.*)", "layer1.$1"),
            Map(r"encoder\.stages\.1\.layers\.(.*)", "layer2.$1"),
            Map(r"encoder\.stages\.2\.layers\.(.*)", "layer3.$1"),
            Map(r"encoder\.stages\.3\.layers\.(.*)", "layer4.$1"),
            Map(r"(.*)\.shortcut\.convolution\.(.*)", "$1.downsample.0.$2"),
            Map(r"(.*)\.shortcut\.normalization\.(.*)", "$1.downsample.1.$2"),
            Map(r"(.*)\.layer\.0\.convolution\.(.*)", "$1.conv1.$2"),
            Map(r"(.*)\.layer\.0\.normalization\.(.*)", "$1.bn1.$2"),
            Map(r"(.*)\.layer\.1\.convolution\.(.*)", "$1.conv2.$2"),
            Map(r"(.*)\.layer\.1\.normalization\.(.*)", "$1.bn2.$2"),
            Map(r"(.*)\.layer\.2\.convolution\.(.*)", "$1.conv3.$2"),
            Map(r"(.*)\.layer\.2\.normalization\.(.*)", "$1.bn3.$2"),
            Map(r"classifier\.1\.(.*)", "fc.$1"),
        ],
        note: None,
    },
    Layout {
        name: "a CLIP of Hugging Face's transformers",
        signs: &[r"(?:vision_model\.)?embeddings\.class_embedding", r"(?:vision_model\.)?pre_layrnorm\.weight"],
        rules: &[
            Ignore(r"text_model\..*"),
            Ignore(r"text_projection\..*"),
            Ignore(r"logit_scale"),
            Ignore(r"(?:vision_model\.)?embeddings\.position_ids"),
            Map(r"vision_model\.(.*)", "$1"),
            Lead(r"embeddings\.class_embedding", "cls_token", 2),
            Lead(r"embeddings\.position_embedding\.weight", "pos_embed", 1),
            Map(r"embeddings\.patch_embedding\.(.*)", "patch_embed.proj.$1"),
            Map(r"pre_layrnorm\.(.*)", "norm_pre.$1"),
            Map(r"post_layernorm\.(.*)", "norm.$1"),
            Map(r"encoder\.layers\.(.*)", "blocks.$1"),
            Map(r"(.*)\.layer_norm(\d)\.(.*)", "$1.norm$2.$3"),
            Map(r"(.*)\.self_attn\.out_proj\.(.*)", "$1.attn.proj.$2"),
            Map(r"visual_projection\.(.*)", "head.$1"),
            Join(r"(.*)\.self_attn\.(q_proj|k_proj|v_proj)\.(.*)", "$1.attn.qkv.$3", &["q_proj", "k_proj", "v_proj"]),
        ],
        note: Some(QUICK_GELU),
    },
    Layout {
        name: "a CLIP of OpenAI or open_clip",
        signs: &[r"visual\.class_embedding", r"visual\.transformer\.resblocks\.0\.ln_1\.weight"],
        rules: &[
            Ignore(r"transformer\..*"),
            Ignore(r"token_embedding\..*"),
            Ignore(r"ln_final\..*"),
            Ignore(r"positional_embedding"),
            Ignore(r"text_projection"),
            Ignore(r"logit_scale"),
            Ignore(r"input_resolution|context_length|vocab_size"),
            Lead(r"visual\.class_embedding", "cls_token", 2),
            Lead(r"visual\.positional_embedding", "pos_embed", 1),
            Map(r"visual\.conv1\.(.*)", "patch_embed.proj.$1"),
            Map(r"visual\.ln_pre\.(.*)", "norm_pre.$1"),
            Map(r"visual\.ln_post\.(.*)", "norm.$1"),
            Map(r"visual\.transformer\.resblocks\.(.*)", "blocks.$1"),
            Map(r"(blocks\.\d+)\.ln_(\d)\.(.*)", "$1.norm$2.$3"),
            Map(r"(blocks\.\d+\.attn)\.in_proj_(.*)", "$1.qkv.$2"),
            Map(r"(blocks\.\d+\.attn)\.out_proj\.(.*)", "$1.proj.$2"),
            Map(r"(blocks\.\d+\.mlp)\.c_fc\.(.*)", "$1.fc1.$2"),
            Map(r"(blocks\.\d+\.mlp)\.c_proj\.(.*)", "$1.fc2.$2"),
            Permute(r"visual\.proj", "head.weight", &[1, 0]),
        ],
        note: Some(QUICK_GELU),
    },
    Layout {
        name: "a ResNet of MMPretrain",
        signs: &[r"backbone\.layer1\.0\.conv1\.weight", r"head\.fc\.weight"],
        rules: &[
            Map(r"backbone\.(.*)", "$1"),
            Map(r"stem\.7\.(.*)", "bn1.$1"),
            Map(r"stem\.(.*)", "conv1.$1"),
            Map(r"head\.fc\.(.*)", "fc.$1"),
        ],
        note: None,
    },
    Layout {
        name: "a ResNet of MMSegmentation",
        signs: &[r"backbone\.layer1\.0\.conv1\.weight", r"decode_head\.conv_seg\.weight"],
        rules: &[Map(r"backbone\.(.*)", "$1"), Map(r"stem\.7\.(.*)", "bn1.$1"), Map(r"stem\.(.*)", "conv1.$1")],
        note: Some(DILATED),
    },
    Layout {
        name: "a ViT of MMPretrain or MMSegmentation",
        signs: &[r"backbone\.cls_token", r"backbone\.layers\.0\.ln1\.weight"],
        rules: &[
            Map(r"backbone\.(.*)", "$1"),
            Map(r"patch_embed\.projection\.(.*)", "patch_embed.proj.$1"),
            Map(r"layers\.(.*)", "blocks.$1"),
            Map(r"(.*)\.ln(\d)\.(.*)", "$1.norm$2.$3"),
            Map(r"(.*)\.attn\.attn\.in_proj_(.*)", "$1.attn.qkv.$2"),
            Map(r"(.*)\.attn\.attn\.out_proj\.(.*)", "$1.attn.proj.$2"),
            Map(r"(.*)\.ffn\.layers\.0\.0\.(.*)", "$1.mlp.fc1.$2"),
            Map(r"(.*)\.ffn\.layers\.1\.(.*)", "$1.mlp.fc2.$2"),
            Map(r"ln1\.(.*)", "norm.$1"),
            Map(r"head\.layers\.head\.(.*)", "head.$1"),
        ],
        note: None,
    },
    Layout {
        name: "a DINOv2 whose blocks lie in chunks",
        signs: &[r"blocks\.0\.0\.norm1\.weight", r"blocks\.0\.0\.ls1\.gamma"],
        rules: &[Map(r"blocks\.\d+\.(\d+\..*)", "blocks.$1"), W12, W3, Ignore("mask_token")],
        note: None,
    },
    Layout {
        name: "a DINOv2",
        signs: &["mask_token", r"blocks\.0\.ls1\.gamma"],
        rules: &[W12, W3, Ignore("mask_token")],
        note: None,
    },
    Layout {
        name: "a Swin of timm or its authors, with tables that are computed",
        signs: &[r"layers\.0\.blocks\.0\.attn\.relative_position_index"],
        rules: &[Ignore(r".*\.(?:relative_position_index|attn_mask|relative_coords_table)")],
        note: None,
    },
];

const QKV: Rule =
    Join(r"(.*)\.attention\.attention\.(query|key|value)\.(.*)", "$1.attn.qkv.$3", &["query", "key", "value"]);
const QKV_5: Rule =
    Join(r"(.*)\.attention\.(q_proj|k_proj|v_proj)\.(.*)", "$1.attn.qkv.$3", &["q_proj", "k_proj", "v_proj"]);
/// The layers of the giant's MLP.
const W12: Rule = Map(r"(.*)\.mlp\.w12\.(.*)", "$1.mlp.fc1.$2");
const W3: Rule = Map(r"(.*)\.mlp\.w3\.(.*)", "$1.mlp.fc2.$2");

const DILATED: &str =
    "its configurations called d8 dilate the last stages: `dilate to 8` behind the base makes the maps as fine";
const NORM_EPS: &str =
    "the library's layer norms have eps = 1e-12: `set **:layer_norm { eps = 1e-12 }` behind the base gives its numbers";
const QUICK_GELU: &str = "OpenAI's own CLIP has quick_gelu, x * sigmoid(1.702 x), in its blocks, and most of open_clip gelu; the file does not say which";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{IgnoreLine, Intake, JoinLine, Lines, MapLine, Need};

    #[test]
    fn every_line_is_one_that_a_spec_may_have() {
        for Layout { name, signs, rules, .. } in LAYOUTS {
            for sign in *signs {
                assert!(regex_lite::Regex::new(sign).is_ok(), "{name}: {sign}");
            }
            let mut lines = Lines::default();
            for rule in *rules {
                match *rule {
                    Map(from, to) | Lead(from, to, _) | Permute(from, to, _) => {
                        lines.maps.push(MapLine::renaming(from, to));
                    }
                    Join(from, to, order) => {
                        let order = order.iter().map(|word| word.to_string()).collect();
                        lines.joins.push(JoinLine { from: from.into(), to: to.into(), order });
                    }
                    Ignore(regex) => lines.ignores.push(IgnoreLine { regex: regex.into(), need: Need::Must }),
                }
            }
            assert!(Intake::new(&lines).is_ok(), "{name}: {:?}", Intake::new(&lines));
        }
        let keys = ORIGINS.iter().flat_map(|origin| origin.signs);
        for sign in keys {
            if let Key(regex) = sign {
                assert!(regex_lite::Regex::new(regex).is_ok(), "{regex}");
            }
        }
    }
}
