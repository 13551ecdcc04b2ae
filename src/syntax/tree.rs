//! The syntax tree: what was written, with its places, before any name has a meaning.
//!
//! It knows neither ops nor blocks: `relu`, `layer3` and `bilinear` are all names here. A statement that could not be
//! parsed is left out of the tree (its error is kept beside it), so that everything else can be looked at.

use crate::source::Span;

/// Something and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

pub type Name = Spanned<String>;

/// A whole `.arch` file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    pub items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// `archc 1`
    Version(Spanned<i64>),
    /// `use "blocks.arch"`
    Use(Spanned<String>),
    Param(Param),
    Let(Let),
    Block(Block),
    Network(Network),
    Base(Base),
    Edit(Edit),
    Train(Train),
}

/// `param classes = 10`, and one parameter of a block or network.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    pub name: Name,
    pub default: Option<Expr>,
    pub span: Span,
}

/// `block bottleneck(width, stride = 1) { .. }`
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub name: Name,
    pub params: Vec<Param>,
    /// Its unlabelled entries are numbered as in `seq`.
    pub seq: bool,
    pub body: Body,
    pub span: Span,
}

/// `network resnet(unit, depths) { .. }` or `network resnet50 = resnet(..)`
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    pub name: Name,
    pub params: Vec<Param>,
    pub definition: NetworkDefinition,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum NetworkDefinition {
    Body(NetworkBody),
    /// Another network with arguments filled in.
    Alias {
        target: Name,
        args: Args,
        /// Its own roles, in place of the other's of the same name.
        roles: Vec<RoleLine>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct NetworkBody {
    pub inputs: Vec<Input>,
    pub preprocess: Vec<Settings>,
    pub labels: Vec<Expr>,
    pub roles: Vec<RoleLine>,
    /// The other statements, in order.
    pub body: Body,
}

/// `input image: [N, 3, 224, 224]`
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub name: Option<Name>,
    pub dims: Vec<Expr>,
    pub span: Span,
}

/// `stages = [layer1, layer2]` of `roles { .. }`
#[derive(Clone, Debug, PartialEq)]
pub struct RoleLine {
    pub name: Name,
    pub places: Vec<Select>,
    /// The places stand in brackets.
    pub is_list: bool,
}

/// `{ resize = 256, crop = 224 }`
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub entries: Vec<(Name, Expr)>,
    pub span: Span,
}

impl Item {
    pub fn as_base(&self) -> Option<&Base> {
        if let Item::Base(base) = self { Some(base) } else { None }
    }
}

/// `base resnet50(classes = 10) { .. }`
#[derive(Clone, Debug, PartialEq)]
pub struct Base {
    pub name: Name,
    pub args: Args,
    pub weights: Vec<Weights>,
    pub maps: Vec<Map>,
    pub ignores: Vec<Ignore>,
    pub joins: Vec<Join>,
    pub resizes: Vec<Resize>,
    pub labels: Vec<Expr>,
    pub inputs: Vec<Input>,
    pub preprocess: Vec<Settings>,
    pub span: Span,
}

/// `weights "file.pth" part "state_dict_ema"`
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// A string, `hf(..)` or `random(..)`.
    pub source: Expr,
    pub part: Option<Spanned<String>>,
}

/// `map "regex" to "text" with permute(3, 2, 0, 1)`
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    pub from: Spanned<String>,
    pub to: Spanned<String>,
    pub changes: Vec<Change>,
    /// `map?`: it may match nothing.
    pub optional: bool,
    pub span: Span,
}

/// What becomes of the tensors of a `map`.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub kind: ChangeKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ChangeKind {
    /// `permute(3, 2, 0, 1)`: which names there are is not known here.
    Call(Name, Args),
    /// `rows 0..10`
    Rows(i64, i64),
}

/// `ignore "regex"`
#[derive(Clone, Debug, PartialEq)]
pub struct Ignore {
    pub regex: Spanned<String>,
    /// `ignore?`: it may match nothing.
    pub optional: bool,
    pub span: Span,
}

/// `join "regex" to "text" order [query, key, value]`
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    pub from: Spanned<String>,
    pub to: Spanned<String>,
    pub order: Expr,
    pub span: Span,
}

/// `resize "regex" by bicubic from (14, 14)`
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    pub regex: Spanned<String>,
    pub by: Name,
    pub from: Option<Expr>,
    pub span: Span,
}

/// Statements in braces.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    pub stmts: Vec<Stmt>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    Let(Let),
    For(For),
    If(If),
    Output(FurtherOutput),
    Chain(Chain),
}

/// `output aux = layer3 -> aux_classifier: fcn_head(21)` in a network's body
#[derive(Clone, Debug, PartialEq)]
pub struct FurtherOutput {
    pub name: Name,
    pub value: Chain,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Let {
    /// `let wide(c, w) = make_divisible(c * w, 8)`
    Function { name: Name, params: Vec<Name>, value: Expr, span: Span },
    /// `let x = in -> linear(8)`, `let a, b = in -> chunk(2)`
    Values { names: Vec<Name>, value: Chain, span: Span },
}

/// `for i in 0..4 { .. }`
#[derive(Clone, Debug, PartialEq)]
pub struct For {
    pub names: Vec<Name>,
    pub over: Over,
    pub body: Body,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Over {
    Range { from: Expr, to: Expr, inclusive: bool },
    List(Expr),
}

/// `if c { .. } else { .. }`; an `else if` is an `otherwise` of one `if`.
#[derive(Clone, Debug, PartialEq)]
pub struct If {
    pub condition: Expr,
    pub then: Body,
    pub otherwise: Option<Body>,
    pub span: Span,
}

/// `step -> step -> step`, never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    pub steps: Vec<Step>,
    pub span: Span,
}

/// One link of a chain, `label: op(args)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub label: Option<Label>,
    pub kind: StepKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StepKind {
    /// `seq { .. }`
    Seq(Body),
    /// `{ .. }`
    Braces(Body),
    Residual(Residual),
    /// `relu`, `linear(8)`; as the head of a chain any expression. Which names are ops is not known here.
    Expr(Expr),
}

/// A label; a quoted one is a template whose `{expr}` are filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    pub parts: Vec<LabelPart>,
    pub quoted: bool,
    /// Where it is a path, as `blocks[0].norm` is: whose labels stand in `parts` with dots between them. The first of them
    /// may be a name that is seen from then on.
    pub path: Option<PathHead>,
    pub span: Span,
}

/// How a label begins that is a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathHead {
    Name(String),
    Quoted,
}

#[derive(Clone, Debug, PartialEq)]
pub enum LabelPart {
    Text(String),
    Expr(Expr),
}

/// `residual if c { main } shortcut if c { side }`
#[derive(Clone, Debug, PartialEq)]
pub struct Residual {
    pub condition: Option<Expr>,
    pub main: Body,
    pub shortcut: Option<Shortcut>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Shortcut {
    pub condition: Option<Expr>,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    Int(i64),
    Float(f64),
    Bool(bool),
    None,
    /// Escapes already replaced.
    Str(String),
    /// `[a, b]` or `(a, b)`
    List(Vec<Expr>),
    Name(String),
    /// `@head`
    Role(String),
    In,
    Prev,
    /// `linear(8)`, `max(a, b)`, `hf("..")`
    Call(Name, Args),
    /// `x.channels`, `layer3.5`, `x."a-b"`
    Field(Box<Expr>, Name),
    Index(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, Option<Box<Expr>>, Option<Box<Expr>>),
    Unary(Unary, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `( chain )`: always a value, never an op.
    Paren(Box<Chain>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    Neg,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    Or,
    And,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Rem,
    Pow,
}

/// What stands in the parentheses of a call. The span covers the parentheses; it is empty where there are none.
#[derive(Clone, Debug, PartialEq)]
pub struct Args {
    pub args: Vec<Arg>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Arg {
    pub name: Option<Name>,
    pub value: Expr,
}

/// `replace fc with linear(10)`, whatever its verb: what the parts mean is for the verb to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    pub verb: Name,
    /// In the order of the text. Signs are left out.
    pub parts: Vec<Part>,
    /// `preserving`: the outputs are to be as before.
    pub preserving: Option<Span>,
    pub span: Span,
}

/// Something behind the verb of an edit.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Selector(Selector),
    Place(Place),
    /// A place that is to be made.
    Path(Place),
    New(New),
    Input(Input),
    Name(Name),
    Expr(Expr),
    /// `{ attr = v }`; `T.attr = v` is the selector T and one entry.
    Entries(Vec<(Name, Expr)>),
    Keeping(Keeping),
    /// `with`, `before`, `auto`: a word of the grammar.
    Word(Name),
}

/// `chain as name keeping weights`
#[derive(Clone, Debug, PartialEq)]
pub struct New {
    pub chain: Chain,
    pub name: Option<Name>,
    pub keeping: Option<Keeping>,
    pub span: Span,
}

/// What the tensors of new layers are made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Keeping {
    pub kind: KeepingKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum KeepingKind {
    /// `keeping rows [0..10], center`
    Alike(Vec<How>),
    /// `keeping { fc6 = classifier[0]; fc7 = classifier[3] rows [0..10] }`
    Each(Vec<Heir>),
}

/// `fc7 = classifier[3] rows [0..10]`: a new layer, the old one, and how; no `how` is `weights`.
#[derive(Clone, Debug, PartialEq)]
pub struct Heir {
    pub new: Place,
    pub old: Place,
    pub hows: Vec<How>,
    pub span: Span,
}

pub type How = Spanned<HowKind>;

#[derive(Clone, Debug, PartialEq)]
pub enum HowKind {
    Weights,
    Rows(Vec<Spanned<Pick>>),
    Channels(Vec<Spanned<Pick>>),
    /// `channels repeat`
    Repeat,
    Center,
    /// Only the tensors of these names: `weight`, `bias`.
    Tensor(&'static str),
}

/// Where a row or channel comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    Old(Index),
    /// A number of the spec's, or a list of them.
    Named(String),
    /// A range with such a number at an end.
    Between {
        from: Option<End>,
        to: Option<End>,
        inclusive: bool,
    },
    Mean,
    Sum,
    Zeros,
    /// As initialised.
    New,
}

/// An end of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Number(i64),
    Named(String),
}

/// `a, b except c expect 4`
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    pub include: Vec<Select>,
    pub except: Vec<Select>,
    pub expect: Option<Spanned<i64>>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    pub kind: SelectKind,
    /// `:conv2d`
    pub of: Option<Name>,
    /// `where kernel == 3`
    pub filter: Option<Expr>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SelectKind {
    All,
    Place(Place),
    /// `avgpool..=fc`
    Range(Place, Place),
}

/// `layer3[5].conv2`, never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub segments: Vec<Spanned<Segment>>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Segment {
    /// A name, digits, quoted text, `*`, `**`, or text with `*` in it. `**` is only unquoted.
    Glob(String),
    /// `[0, 2..4]`
    Indices(Vec<Index>),
    /// `@head`, the first of a place alone.
    Role(String),
    /// `tap(16)`, the first of a place alone.
    Tap(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    All,
    At(i64),
    Range { from: Option<i64>, to: Option<i64>, inclusive: bool },
}

/// `train { .. }`
#[derive(Clone, Debug, PartialEq)]
pub struct Train {
    pub lines: Vec<TrainLine>,
    pub span: Span,
}

/// One line of a `train` block, by its first word.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainLine {
    /// `lr layer4.** by 0.1`
    Factor { word: Name, target: Selector, by: Expr, span: Span },
    /// `unfreeze layer4.** after 2`
    Unfreeze { word: Name, target: Selector, epochs: Expr, span: Span },
    /// `optimizer sgd(lr = 0.01)`, `augment a, b`, `epochs 5`
    Values { word: Name, values: Vec<Expr>, span: Span },
}

/// No more entries of a list are said in words.
const SAID: usize = 8;

impl std::fmt::Display for HowKind {
    /// As it is written, without brackets: `channels 0, 1, 2, mean`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, picks) = match self {
            HowKind::Weights => return f.write_str("weights"),
            HowKind::Repeat => return f.write_str("channels repeat"),
            HowKind::Center => return f.write_str("center"),
            HowKind::Tensor(name) => return f.write_str(name),
            HowKind::Rows(picks) => ("rows", picks),
            HowKind::Channels(picks) => ("channels", picks),
        };
        let said: Vec<String> = picks.iter().take(SAID).map(|pick| pick.value.to_string()).collect();
        write!(f, "{word} {}", said.join(", "))?;
        match picks.len() - said.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl std::fmt::Display for Pick {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Pick::Old(index) => index.fmt(f),
            Pick::Named(name) => f.write_str(name),
            Pick::Between { from, to, inclusive } => {
                let end = |end: &Option<End>| match end {
                    Some(End::Number(number)) => number.to_string(),
                    Some(End::Named(name)) => name.clone(),
                    None => String::new(),
                };
                write!(f, "{}{}{}", end(from), if *inclusive { "..=" } else { ".." }, end(to))
            }
            Pick::Mean => f.write_str("mean"),
            Pick::Sum => f.write_str("sum"),
            Pick::Zeros => f.write_str("zeros"),
            Pick::New => f.write_str("new"),
        }
    }
}

impl std::fmt::Display for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Index::All => f.write_str("*"),
            Index::At(at) => at.fmt(f),
            Index::Range { from, to, inclusive } => {
                let end = |end: &Option<i64>| end.map_or_else(String::new, |end| end.to_string());
                write!(f, "{}{}{}", end(from), if *inclusive { "..=" } else { ".." }, end(to))
            }
        }
    }
}
