//! `base hf("timm/resnet50.a1_in1k")`: a base whose network a repository names. It becomes the base that a person would have
//! written: `base resnet50(classes = 1000) { input [N, 3, 224, 224]; weights hf("timm/resnet50.a1_in1k") }`.

use crate::diag::{Code, Problem, Result, short};
use crate::syntax::tree::{self, ExprKind};

/// What a repository says of the network that its weights are of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hosted {
    /// What timm calls the network.
    pub architecture: String,
    pub classes: Option<usize>,
    /// Channels, height and width of its input.
    pub input: Option<[usize; 3]>,
}

/// Whoever knows repositories: what `owner/repo` says, or why it does not.
pub type Ask<'a> = &'a dyn Fn(&str) -> std::result::Result<Hosted, Problem>;

/// The word that stands where a network's name would.
pub(super) const WORD: &str = "hf";

/// What a network of timm's is called here: where torchvision has another one of that name, `timm_` stands before it.
pub(super) fn names(architecture: &str) -> [String; 2] {
    [format!("timm_{architecture}"), architecture.to_string()]
}

/// The repository that a base names.
///
/// # Errors
/// Where it names none, or weights of its own as well.
pub(super) fn repository(base: &tree::Base) -> Result<&str> {
    let [tree::Arg { name: None, value: tree::Expr { kind: ExprKind::Str(repo), .. } }] = base.args.args.as_slice()
    else {
        let problem = Problem::new(Code::Base, "`base hf(..)` takes the name of a repository, and nothing else");
        return Err(problem.hint("`base hf(\"timm/resnet50.a1_in1k\")`").at(base.name.span));
    };
    if let Some(weights) = base.weights.first() {
        let problem = Problem::new(Code::Base, "the weights of `base hf(..)` are the repository's");
        return Err(problem
            .hint("name the network to give it others: `base resnet50 { weights .. }`")
            .at(weights.source.span));
    }
    Ok(repo)
}

/// Makes `base` one of the network `name`, with what the repository says of it.
pub(super) fn spell_out(base: &mut tree::Base, name: &str, hosted: &Hosted, takes_classes: bool) {
    let span = base.name.span;
    let expr = |kind| tree::Expr { kind, span };
    let hf = tree::Spanned { value: WORD.to_string(), span };
    let repository = std::mem::replace(&mut base.args, tree::Args { args: vec![], span });
    let source = tree::Expr { span: repository.span, ..expr(ExprKind::Call(hf, repository)) };
    base.weights.push(tree::Weights { source, part: None });
    base.name.value = name.to_string();
    if let (Some(classes), true) = (hosted.classes, takes_classes) {
        let name = Some(tree::Spanned { value: "classes".to_string(), span });
        base.args.args.push(tree::Arg { name, value: expr(ExprKind::Int(classes as i64)) });
    }
    if let (Some(sizes), true) = (hosted.input, base.inputs.is_empty()) {
        let batch = expr(ExprKind::Name("N".to_string()));
        let dims = std::iter::once(batch).chain(sizes.map(|size| expr(ExprKind::Int(size as i64)))).collect();
        base.inputs.push(tree::Input { name: None, dims, span });
    }
}

/// The error for a network that the zoo does not have.
pub(super) fn unknown(repo: &str, architecture: &str, near: Option<String>) -> Problem {
    let architecture = short(architecture);
    Problem::new(Code::Base, format!("hf(\"{repo}\") is of the network `{architecture}`, which the zoo does not have"))
        .hints(near)
        .hint("`archc zoo` lists the networks that there are; one of your own is `use \"file.arch\"`")
}
