//! The words of a `train` block, what may follow each, and the arguments of that: one table from which reading, messages
//! and the manual come. Optimizers have PyTorch's arguments and defaults. Knows nothing of how any of it runs.

use std::borrow::Cow;
use std::fmt;

/// One word: `optimizer sgd(lr = 0.01)`, `epochs 5`.
#[derive(Debug)]
pub struct Word {
    pub name: &'static str,
    pub takes: Takes,
    /// One sentence for the manual.
    pub doc: &'static str,
}

/// What follows a word.
#[derive(Debug)]
pub enum Takes {
    /// One of these, called with arguments. Without a default the word must be there.
    One { of: &'static [Call], default: Option<&'static str> },
    /// Any number of these, applied in the order written; none is the default.
    Many(&'static [Call]),
    /// A value.
    Value { kind: Kind, default: Setting },
}

/// `sgd(lr = 0.001, ..)`
#[derive(Debug)]
pub struct Call {
    pub name: &'static str,
    pub args: &'static [Arg],
    /// One sentence for the manual.
    pub doc: &'static str,
}

#[derive(Debug)]
pub struct Arg {
    pub name: &'static str,
    pub kind: Kind,
    /// None where it must be given.
    pub default: Option<Setting>,
}

/// The type and range of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A float from `min` to `max`, both included; a whole number is one too.
    Float {
        min: f64,
        max: f64,
    },
    /// Floats from 0 up to, not including, 1.
    Fraction,
    /// As `Float`, above 0.
    Positive,
    Int {
        min: i64,
        max: i64,
    },
    Bool,
    Text,
    Word(&'static [&'static str]),
    /// Two floats from `min` to `max`, the first no larger than the second.
    Range {
        min: f64,
        max: f64,
    },
    /// Two floats from 0 up to, not including, 1.
    Fractions,
}

/// A checked value.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    Float(f64),
    Int(i64),
    Bool(bool),
    Text(String),
    Word(&'static str),
    Floats(Cow<'static, [f64]>),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Float(value) => write!(f, "{value}"),
            Setting::Int(value) => write!(f, "{value}"),
            Setting::Bool(value) => write!(f, "{value}"),
            Setting::Text(text) => write!(f, "\"{text}\""),
            Setting::Word(word) => f.write_str(word),
            Setting::Floats(values) => {
                let values: Vec<String> = values.iter().map(|value| format!("{value:.4}")).collect();
                let values = values.iter().map(|value| value.trim_end_matches('0').trim_end_matches('.'));
                write!(f, "[{}]", values.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl Kind {
    /// As messages name it: `a float from 0 to 1`.
    pub fn describe(self) -> String {
        match self {
            Kind::Float { min, max } if max == f64::MAX => format!("a float of {min} or more"),
            Kind::Float { min, max } => format!("a float from {min} to {max}"),
            Kind::Fraction => "a float of 0 or more and less than 1".into(),
            Kind::Positive => "a float above 0".into(),
            Kind::Int { min, max } if max == i64::MAX => format!("an integer of {min} or more"),
            Kind::Int { min, max } => format!("an integer from {min} to {max}"),
            Kind::Bool => "`true` or `false`".into(),
            Kind::Text => "a text".into(),
            Kind::Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or "),
            Kind::Range { min, max } if max == f64::MAX => format!("two floats of {min} or more, the smaller first"),
            Kind::Range { min, max } => format!("two floats from {min} to {max}, the smaller first"),
            Kind::Fractions => "two floats of 0 or more and less than 1".into(),
        }
    }
}

const ANY: Kind = Kind::Float { min: 0.0, max: f64::MAX };
const CHANCE: Kind = Kind::Float { min: 0.0, max: 1.0 };
const COUNT: Kind = Kind::Int { min: 1, max: i64::MAX };

const fn arg(name: &'static str, kind: Kind, default: Setting) -> Arg {
    Arg { name, kind, default: Some(default) }
}

const fn needed(name: &'static str, kind: Kind) -> Arg {
    Arg { name, kind, default: None }
}

const SHUFFLE: Arg = arg("shuffle", Kind::Bool, Setting::Bool(true));
const SPLIT: Arg = arg("split", Kind::Fraction, Setting::Float(0.2));
const SKIP: Arg = arg("skip_corrupt", Kind::Bool, Setting::Bool(false));
const TARGET: Arg = arg("target", Kind::Word(&["label", "image"]), Setting::Word("label"));
const WARMUP: Arg = arg("warmup", ANY, Setting::Float(0.0));
const EPS: Arg = arg("eps", ANY, Setting::Float(1e-8));
const P: Arg = arg("p", CHANCE, Setting::Float(0.5));

const fn lr(default: f64) -> Arg {
    arg("lr", ANY, Setting::Float(default))
}

const fn decay(default: f64) -> Arg {
    arg("weight_decay", ANY, Setting::Float(default))
}

const fn betas() -> Arg {
    arg("betas", Kind::Fractions, Setting::Floats(Cow::Borrowed(&[0.9, 0.999])))
}

/// Every word but `lr`, which takes a selector.
pub static WORDS: &[Word] = &[
    Word {
        name: "data",
        takes: Takes::One {
            of: &[
                Call {
                    name: "folder",
                    args: &[needed("path", Kind::Text), SHUFFLE, SPLIT, SKIP],
                    doc: "train/CLASS/ and val/CLASS/ of pictures, as torchvision's ImageFolder, or CLASS/ alone; without a \
                          val folder the share `split` of each class is kept for validation; with `skip_corrupt` pictures that \
                          cannot be read are left out",
                },
                Call {
                    name: "csv",
                    args: &[
                        needed("path", Kind::Text),
                        SHUFFLE,
                        arg("val", Kind::Text, Setting::Text(String::new())),
                        SPLIT,
                        SKIP,
                    ],
                    doc: "a row a sample: the picture's file, then its label or numbers; `val` is such a table for validation",
                },
            ],
            default: None,
        },
        doc: "what is learned from",
    },
    Word {
        name: "loss",
        takes: Takes::One {
            of: &[
                Call {
                    name: "cross_entropy",
                    args: &[
                        arg("label_smoothing", CHANCE, Setting::Float(0.0)),
                        arg("class_weights", Kind::Word(&["none", "balanced"]), Setting::Word("none")),
                    ],
                    doc: "softmax and the negative logarithm of the class's share; `balanced` weighs a class by the inverse of \
                          how often it comes",
                },
                Call { name: "bce_with_logits", args: &[TARGET], doc: "a sigmoid and binary cross entropy a value" },
                Call { name: "mse", args: &[TARGET], doc: "the mean of squared differences" },
                Call { name: "l1", args: &[TARGET], doc: "the mean of absolute differences" },
                Call {
                    name: "huber",
                    args: &[arg("delta", Kind::Positive, Setting::Float(1.0)), TARGET],
                    doc: "squared below `delta`, straight above it",
                },
            ],
            default: None,
        },
        doc: "what is made small",
    },
    Word {
        name: "optimizer",
        takes: Takes::One {
            of: &[
                Call {
                    name: "sgd",
                    args: &[
                        lr(1e-3),
                        arg("momentum", ANY, Setting::Float(0.0)),
                        arg("dampening", ANY, Setting::Float(0.0)),
                        decay(0.0),
                        arg("nesterov", Kind::Bool, Setting::Bool(false)),
                    ],
                    doc: "torch.optim.SGD",
                },
                Call {
                    name: "adam",
                    args: &[lr(1e-3), betas(), EPS, decay(0.0), arg("amsgrad", Kind::Bool, Setting::Bool(false))],
                    doc: "torch.optim.Adam",
                },
                Call {
                    name: "adamw",
                    args: &[lr(1e-3), betas(), EPS, decay(1e-2), arg("amsgrad", Kind::Bool, Setting::Bool(false))],
                    doc: "torch.optim.AdamW",
                },
                Call {
                    name: "rmsprop",
                    args: &[
                        lr(1e-2),
                        arg("alpha", ANY, Setting::Float(0.99)),
                        EPS,
                        decay(0.0),
                        arg("momentum", ANY, Setting::Float(0.0)),
                        arg("centered", Kind::Bool, Setting::Bool(false)),
                    ],
                    doc: "torch.optim.RMSprop",
                },
            ],
            default: Some("sgd"),
        },
        doc: "how a gradient changes a tensor",
    },
    Word {
        name: "schedule",
        takes: Takes::One {
            of: &[
                Call { name: "constant", args: &[WARMUP], doc: "always the optimizer's rate" },
                Call {
                    name: "step",
                    args: &[needed("step_size", Kind::Positive), arg("gamma", ANY, Setting::Float(0.1)), WARMUP],
                    doc: "times `gamma` after every `step_size` epochs",
                },
                Call {
                    name: "cosine",
                    args: &[arg("eta_min", ANY, Setting::Float(0.0)), WARMUP],
                    doc: "half a cosine from the optimizer's rate down to `eta_min`",
                },
                Call {
                    name: "one_cycle",
                    args: &[
                        arg("pct_start", CHANCE, Setting::Float(0.3)),
                        arg("div_factor", Kind::Positive, Setting::Float(25.0)),
                        arg("final_div_factor", Kind::Positive, Setting::Float(1e4)),
                    ],
                    doc: "up to the optimizer's rate and down again, as torch.optim.lr_scheduler.OneCycleLR",
                },
                Call {
                    name: "polynomial",
                    args: &[arg("power", Kind::Positive, Setting::Float(1.0)), WARMUP],
                    doc: "(1 - progress) to the power, down to 0",
                },
            ],
            default: Some("constant"),
        },
        doc: "how the rate changes over the epochs; `warmup` epochs lead linearly up to it",
    },
    Word {
        name: "epochs",
        takes: Takes::Value { kind: Kind::Int { min: 1, max: 1_000_000 }, default: Setting::Int(1) },
        doc: "how often all data is seen",
    },
    Word {
        name: "batch",
        takes: Takes::Value { kind: Kind::Int { min: 1, max: 65_536 }, default: Setting::Int(32) },
        doc: "samples a step",
    },
    Word {
        name: "augment",
        takes: Takes::Many(&[
            Call {
                name: "random_resized_crop",
                args: &[
                    arg("scale", Kind::Range { min: 0.0, max: 1.0 }, Setting::Floats(Cow::Borrowed(&[0.08, 1.0]))),
                    arg(
                        "ratio",
                        Kind::Range { min: 0.0, max: f64::MAX },
                        Setting::Floats(Cow::Borrowed(&[0.75, 4.0 / 3.0])),
                    ),
                ],
                doc: "a random part of the picture at the input's size",
            },
            Call { name: "random_crop", args: &[arg("padding", COUNT, Setting::Int(4))], doc: "pad with 0, then crop" },
            Call { name: "horizontal_flip", args: &[P], doc: "left and right change places" },
            Call { name: "vertical_flip", args: &[P], doc: "top and bottom change places" },
            Call {
                name: "rotation",
                args: &[needed("degrees", Kind::Float { min: 0.0, max: 180.0 })],
                doc: "about the centre, by up to so many degrees either way",
            },
            Call {
                name: "color_jitter",
                args: &[
                    arg("brightness", ANY, Setting::Float(0.0)),
                    arg("contrast", ANY, Setting::Float(0.0)),
                    arg("saturation", ANY, Setting::Float(0.0)),
                    arg("hue", Kind::Float { min: 0.0, max: 0.5 }, Setting::Float(0.0)),
                ],
                doc: "colours vary by up to so much",
            },
            Call { name: "random_erasing", args: &[P], doc: "a random rectangle is cleared" },
            Call {
                name: "rand_augment",
                args: &[
                    arg("ops", Kind::Int { min: 1, max: 14 }, Setting::Int(2)),
                    arg("magnitude", Kind::Int { min: 0, max: 30 }, Setting::Int(9)),
                ],
                doc: "so many of fourteen changes of shape and colour, as torchvision's RandAugment",
            },
            Call {
                name: "mixup",
                args: &[arg("alpha", Kind::Positive, Setting::Float(0.2))],
                doc: "each sample is mixed with the one before it, target too, by a share of Beta(alpha, alpha) a batch",
            },
        ]),
        doc: "random changes of the training pictures, in the order written",
    },
    Word {
        name: "early_stopping",
        takes: Takes::One {
            of: &[
                Call { name: "off", args: &[], doc: "all epochs are run" },
                Call {
                    name: "patience",
                    args: &[needed("epochs", COUNT)],
                    doc: "ends after so many epochs without a better one",
                },
            ],
            default: Some("off"),
        },
        doc: "whether the run ends early; an epoch is better with more right answers, or as many and a smaller loss",
    },
    Word {
        name: "accumulate",
        takes: Takes::Value { kind: Kind::Int { min: 1, max: 65_536 }, default: Setting::Int(1) },
        doc: "steps whose gradients are averaged for an update",
    },
    Word {
        name: "clip",
        takes: Takes::Value { kind: ANY, default: Setting::Float(0.0) },
        doc: "the most that the norm of all gradients may be; 0 for no limit",
    },
    Word {
        name: "average",
        takes: Takes::Value { kind: Kind::Fraction, default: Setting::Float(0.0) },
        doc: "how much of the exponential moving average of the weights an update keeps; what is evaluated and written is \
              the average; 0 for none",
    },
    Word {
        name: "seed",
        takes: Takes::Value { kind: Kind::Int { min: 0, max: i64::MAX }, default: Setting::Int(0) },
        doc: "what every draw is keyed by",
    },
];
