//! What the manual says of each verb: `archc explain replace`. The examples are for `base resnet18`, and a test compiles
//! them.

/// A verb in the manual.
#[derive(Clone, Copy, Debug)]
pub struct Verb {
    pub name: &'static str,
    /// The forms it has; S is a selector, T one place or a selector of several, P one place, B new layers.
    pub syntax: &'static [&'static str],
    pub meaning: &'static str,
    pub example: &'static str,
}

/// Every verb, in the order of the manual.
pub static VERBS: &[Verb] = &[
    Verb {
        name: "replace",
        syntax: &["replace T with B [as name]"],
        meaning: "B takes the place and the path of T, which is gone; of a range `a..=b` it takes the path of `b`. \
            With `as name` it is called otherwise. A chain of several layers becomes a `seq` there: `fc.0`, `fc.1`. In B, \
            `in` is what went into T, and every other path of the network is a value.",
        example: "replace fc with dropout(0.5) -> linear(10)",
    },
    Verb {
        name: "insert",
        syntax: &[
            "insert B [as name] before T",
            "insert B [as name] after T",
            "insert B [as name] at T",
            "insert B [as name] beside T",
        ],
        meaning: "`before` and `after` put B on every edge into or out of T. `at` puts it inside T: where T holds one residual, \
            at the end of its main branch, just before the addition; in any other scope at its end; for a layer it is \
            the same as `after`. `beside` makes a parallel branch: B takes T's input, and its result is added to T's \
            output, which B knows as `out`. Several places get a fresh copy each.",
        example: "insert se(reduction = 16) at layer*[-1]",
    },
    Verb {
        name: "remove",
        syntax: &["remove T"],
        meaning: "What used T's output takes T's input instead. What no output needs any more goes too.",
        example: "remove layer4[1]",
    },
    Verb {
        name: "residual",
        syntax: &["residual around T [project auto]"],
        meaning: "Adds T's input to T's output, in a layer `add` of the scope that holds T. Where their shapes differ, `project \
            auto` makes a convolution and a norm, `project`, that fit the input to the output; without it a difference is \
            an error.",
        example: "residual around layer2 project auto",
    },
    Verb {
        name: "connect",
        syntax: &["connect P to P with add", "connect P to P with concat"],
        meaning: "A long skip connection: the first place's output is added to what goes into the second one, or put beside it on \
            axis 1 (the second place's own input first).",
        example: "connect layer1[0] to layer1[1].conv2 with add",
    },
    Verb {
        name: "cut",
        syntax: &["cut after P", "cut before P"],
        meaning: "P's output (or its input) becomes the network's output. What no longer reaches an output goes.",
        example: "cut before avgpool",
    },
    Verb {
        name: "append",
        syntax: &["append B [as name]"],
        meaning: "Puts B after the network's output, in the outermost scope.",
        example: "append softmax",
    },
    Verb {
        name: "prepend",
        syntax: &["prepend B [as name]"],
        meaning: "Puts B after the network's input, in the outermost scope.",
        example: "prepend batch_norm2d as normalise",
    },
    Verb {
        name: "set",
        syntax: &["set T { argument = value, .. }", "set P.argument = value"],
        meaning: "Changes arguments of the ops of layers. It is the one way to change the shape of a base layer's tensors: those \
            get fresh values and count as reshaped.",
        example: "set layer4[0].conv1, layer4[0].downsample[0] { stride = 1 }",
    },
    Verb {
        name: "output",
        syntax: &["output name = P"],
        meaning: "One more named output, taken at P. The network's own is called `output`.",
        example: "output features = avgpool",
    },
    Verb {
        name: "rename",
        syntax: &["rename P to path"],
        meaning: "Changes a path, and so the keys that are written. The base's weight file is still read by the old keys.",
        example: "rename fc to head",
    },
    Verb {
        name: "tie",
        syntax: &["tie P to P"],
        meaning: "The first layer or scope uses the second one's weights and has no keys of its own; gradients add up. Their \
            tensors must have equal shapes.",
        example: "tie layer1[1].conv1 to layer1[0].conv1",
    },
    Verb {
        name: "freeze",
        syntax: &["freeze S"],
        meaning: "No gradient for these layers, and batch norms among them keep their running statistics. What a later edit makes \
            is trainable.",
        example: "freeze all except fc",
    },
    Verb {
        name: "unfreeze",
        syntax: &["unfreeze S"],
        meaning: "Takes a `freeze` back.",
        example: "freeze all\nunfreeze layer4, fc",
    },
    Verb {
        name: "init",
        syntax: &["init S with I"],
        meaning: "Fills the weight (of a norm: the scale) and zeroes the bias; one tensor is named by its key. I is \
            `kaiming_normal`, `kaiming_uniform`, `xavier_uniform`, `zeros`, `ones`, `constant(v)`, `normal(std)`, \
            `trunc_normal(std)`, `identity` or `from(\"other.safetensors\", \"key\")`. Tensors of the base count as new \
            then.",
        example: "init fc.bias with constant(-4.6)",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{self, Outcome};
    use crate::diag::render;
    use crate::source::Sources;

    #[test]
    fn every_example_is_right() {
        for verb in VERBS {
            let mut sources = Sources::new();
            let file = sources.add("example.arch", format!("base resnet18\n{}\n", verb.example), None);
            match compile::compile(&mut sources, file, &[]) {
                Ok(Outcome::Spec(compiled)) => assert!(compiled.warnings.is_empty(), "{}", verb.name),
                Ok(Outcome::Library) => panic!("{}: no base", verb.name),
                Err(problems) => panic!("{}", render(&problems, &sources, false)),
            }
        }
    }

    #[test]
    fn every_verb_of_the_grammar_is_here() {
        let others = ["archc", "use", "param", "let", "block", "network", "base", "train"];
        for word in crate::syntax::VERBS.iter().filter(|word| !others.contains(word)) {
            assert!(VERBS.iter().any(|verb| verb.name == *word), "{word}");
        }
    }
}
