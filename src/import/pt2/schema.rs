//! The part of torch/_export/serde/schema.py that is needed. What is unknown beside it is left out, but in unions, where
//! it has a meaning.

use std::fmt;
use std::marker::PhantomData;

use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// A map in which no key stands twice.
pub struct Map<T>(pub IndexMap<String, T>);

impl<T> Default for Map<T> {
    fn default() -> Map<T> {
        Map(IndexMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Map<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Map<T>, D::Error> {
        struct Entries<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Map<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Map<T>, A::Error> {
                let mut map = IndexMap::new();
                while let Some((key, value)) = entries.next_entry::<String, T>()? {
                    if map.contains_key(&key) {
                        return Err(A::Error::custom(format!("has `{key}` twice")));
                    }
                    map.insert(key, value);
                }
                Ok(Map(map))
            }
        }

        input.deserialize_map(Entries(PhantomData))
    }
}

/// A number, where infinities and NaN are words.
#[derive(Clone, Copy)]
pub struct Float(pub f64);

impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Float, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Float;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Float, E> {
                Ok(Float(number))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Float, E> {
                Ok(Float(number as f64))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Float, E> {
                Ok(Float(number as f64))
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Float, E> {
                match word {
                    "Infinity" | "inf" => Ok(Float(f64::INFINITY)),
                    "-Infinity" | "-inf" => Ok(Float(f64::NEG_INFINITY)),
                    "NaN" | "nan" => Ok(Float(f64::NAN)),
                    other => Err(E::custom(format!("has the number `{other}`"))),
                }
            }
        }

        input.deserialize_any(Number)
    }
}

#[derive(Deserialize)]
pub struct Program {
    pub graph_module: GraphModule,
    pub schema_version: SchemaVersion,
}

#[derive(Deserialize)]
pub struct SchemaVersion {
    pub major: i64,
    pub minor: i64,
}

#[derive(Deserialize)]
pub struct GraphModule {
    pub graph: Graph,
    pub signature: Signature,
    #[serde(default)]
    pub module_call_graph: Vec<ModuleCall>,
}

#[derive(Deserialize)]
pub struct Graph {
    #[serde(default)]
    pub inputs: Vec<Argument>,
    #[serde(default)]
    pub outputs: Vec<Argument>,
    pub nodes: Vec<Node>,
    pub tensor_values: Map<TensorMeta>,
    #[serde(default)]
    pub sym_int_values: Map<SymInt>,
    #[serde(default)]
    pub sym_bool_values: Map<SymBool>,
    #[serde(default)]
    pub sym_float_values: Map<SymFloat>,
}

#[derive(Deserialize)]
pub struct Node {
    pub target: String,
    pub inputs: Vec<NamedArgument>,
    pub outputs: Vec<Argument>,
    pub metadata: Metadata,
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Deserialize)]
pub struct NamedArgument {
    pub name: String,
    pub arg: Argument,
}

#[derive(Deserialize)]
pub struct Metadata {
    #[serde(default)]
    pub nn_module_stack: Option<String>,
}

#[derive(Deserialize)]
pub struct TensorMeta {
    pub dtype: i64,
    pub sizes: Vec<SymInt>,
    pub strides: Vec<SymInt>,
    pub storage_offset: SymInt,
}

#[derive(Deserialize)]
pub enum SymInt {
    #[serde(rename = "as_int")]
    Int(i64),
    #[serde(rename = "as_expr")]
    Expr(SymExpr),
}

#[derive(Deserialize)]
pub enum SymFloat {
    #[serde(rename = "as_float")]
    Float(Float),
    #[serde(rename = "as_expr")]
    Expr(SymExpr),
}

#[derive(Deserialize)]
pub enum SymBool {
    #[serde(rename = "as_bool")]
    Bool(bool),
    #[serde(rename = "as_expr")]
    Expr(SymExpr),
}

#[derive(Deserialize)]
pub struct SymExpr {
    #[serde(default)]
    pub hint: Option<Hint>,
}

/// What a symbol was when the file was written.
#[derive(Deserialize)]
pub enum Hint {
    #[serde(rename = "as_int")]
    Int(i64),
    #[serde(rename = "as_bool")]
    Bool(bool),
    #[serde(rename = "as_float")]
    Float(Float),
}

impl SymInt {
    pub fn is_symbol(&self) -> bool {
        matches!(self, SymInt::Expr(_))
    }

    pub fn number(&self) -> Option<i64> {
        match self {
            SymInt::Int(number) | SymInt::Expr(SymExpr { hint: Some(Hint::Int(number)) }) => Some(*number),
            SymInt::Expr(_) => None,
        }
    }
}

impl SymFloat {
    pub fn number(&self) -> Option<f64> {
        match self {
            SymFloat::Float(number) | SymFloat::Expr(SymExpr { hint: Some(Hint::Float(number)) }) => Some(number.0),
            SymFloat::Expr(_) => None,
        }
    }
}

impl SymBool {
    pub fn known(&self) -> Option<bool> {
        match self {
            SymBool::Bool(known) | SymBool::Expr(SymExpr { hint: Some(Hint::Bool(known)) }) => Some(*known),
            SymBool::Expr(_) => None,
        }
    }
}

#[derive(Deserialize)]
pub struct Named {
    pub name: String,
}

#[derive(Deserialize)]
pub enum SymIntArgument {
    #[serde(rename = "as_name")]
    Name(String),
    #[serde(rename = "as_int")]
    Int(i64),
}

#[derive(Deserialize)]
pub enum SymFloatArgument {
    #[serde(rename = "as_name")]
    Name(String),
    #[serde(rename = "as_float")]
    Float(Float),
}

#[derive(Deserialize)]
pub enum OptionalTensor {
    #[serde(rename = "as_tensor")]
    Tensor(Named),
    #[serde(rename = "as_none")]
    None(IgnoredAny),
}

impl OptionalTensor {
    pub fn name(&self) -> Option<&str> {
        match self {
            OptionalTensor::Tensor(tensor) => Some(&tensor.name),
            OptionalTensor::None(_) => None,
        }
    }
}

#[derive(Deserialize)]
pub struct GraphArgument {
    pub graph: Box<Graph>,
}

/// An argument. Kinds that nothing here reads are known by their name alone.
pub enum Argument {
    None(IgnoredAny),
    Tensor(Named),
    Tensors(Vec<Named>),
    OptionalTensor(OptionalTensor),
    OptionalTensors(Vec<OptionalTensor>),
    Int(i64),
    Ints(Vec<i64>),
    Float(Float),
    Floats(Vec<Float>),
    Bool(bool),
    Bools(IgnoredAny),
    String(String),
    Strings(IgnoredAny),
    SymInt(SymIntArgument),
    SymInts(Vec<SymIntArgument>),
    SymFloat(SymFloatArgument),
    SymBool(IgnoredAny),
    ScalarType(i64),
    Device(IgnoredAny),
    Layout(IgnoredAny),
    MemoryFormat(IgnoredAny),
    Operator(IgnoredAny),
    Graph(GraphArgument),
    Else(String),
}

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Argument, D::Error> {
        struct Union;

        impl<'de> Visitor<'de> for Union {
            type Value = Argument;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an argument")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Argument, A::Error> {
                let Some(kind) = entries.next_key::<String>()? else {
                    return Err(A::Error::custom("has an argument of no kind"));
                };
                let argument = match kind.as_str() {
                    "as_none" => Argument::None(entries.next_value()?),
                    "as_tensor" => Argument::Tensor(entries.next_value()?),
                    "as_tensors" => Argument::Tensors(entries.next_value()?),
                    "as_optional_tensor" => Argument::OptionalTensor(entries.next_value()?),
                    "as_optional_tensors" => Argument::OptionalTensors(entries.next_value()?),
                    "as_int" => Argument::Int(entries.next_value()?),
                    "as_ints" => Argument::Ints(entries.next_value()?),
                    "as_float" => Argument::Float(entries.next_value()?),
                    "as_floats" => Argument::Floats(entries.next_value()?),
                    "as_bool" => Argument::Bool(entries.next_value()?),
                    "as_bools" => Argument::Bools(entries.next_value()?),
                    "as_string" => Argument::String(entries.next_value()?),
                    "as_strings" => Argument::Strings(entries.next_value()?),
                    "as_sym_int" => Argument::SymInt(entries.next_value()?),
                    "as_sym_ints" => Argument::SymInts(entries.next_value()?),
                    "as_sym_float" => Argument::SymFloat(entries.next_value()?),
                    "as_sym_bool" => Argument::SymBool(entries.next_value()?),
                    "as_scalar_type" => Argument::ScalarType(entries.next_value()?),
                    "as_device" => Argument::Device(entries.next_value()?),
                    "as_layout" => Argument::Layout(entries.next_value()?),
                    "as_memory_format" => Argument::MemoryFormat(entries.next_value()?),
                    "as_operator" => Argument::Operator(entries.next_value()?),
                    "as_graph" => Argument::Graph(entries.next_value()?),
                    _ => {
                        entries.next_value::<IgnoredAny>()?;
                        Argument::Else(kind)
                    }
                };
                if entries.next_key::<String>()?.is_some() {
                    return Err(A::Error::custom("has an argument of two kinds"));
                }
                Ok(argument)
            }
        }

        input.deserialize_map(Union)
    }
}

impl Argument {
    /// Whether it is a symbol, not a tensor.
    pub fn is_symbol(&self) -> bool {
        matches!(
            self,
            Argument::SymInt(_)
                | Argument::SymInts(_)
                | Argument::SymFloat(_)
                | Argument::SymBool(_)
                | Argument::None(_)
        )
    }

    /// The names of the tensors that it is.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Argument::Tensor(tensor) => vec![&tensor.name],
            Argument::Tensors(list) => list.iter().map(|tensor| tensor.name.as_str()).collect(),
            _ => vec![],
        }
    }
}

#[derive(Deserialize)]
pub struct Signature {
    pub input_specs: Vec<InputSpec>,
    pub output_specs: Vec<OutputSpec>,
}

#[derive(Deserialize)]
pub enum InputSpec {
    #[serde(rename = "user_input")]
    User(UserSpec),
    #[serde(rename = "parameter")]
    Parameter(ParameterSpec),
    #[serde(rename = "buffer")]
    Buffer(BufferSpec),
    #[serde(rename = "tensor_constant")]
    TensorConstant(ConstantSpec),
    #[serde(rename = "constant_input")]
    ConstantInput(Named),
    #[serde(rename = "custom_obj")]
    CustomObj(IgnoredAny),
    #[serde(rename = "token")]
    Token(IgnoredAny),
}

#[derive(Deserialize)]
pub enum OutputSpec {
    #[serde(rename = "user_output")]
    User(UserSpec),
    #[serde(rename = "loss_output")]
    Loss(IgnoredAny),
    #[serde(rename = "buffer_mutation")]
    Buffer(IgnoredAny),
    #[serde(rename = "parameter_mutation")]
    Parameter(IgnoredAny),
    #[serde(rename = "gradient_to_parameter")]
    Gradient(IgnoredAny),
    #[serde(rename = "gradient_to_user_input")]
    InputGradient(IgnoredAny),
    #[serde(rename = "user_input_mutation")]
    Input(IgnoredAny),
    #[serde(rename = "token")]
    Token(IgnoredAny),
}

#[derive(Deserialize)]
pub struct UserSpec {
    pub arg: Argument,
}

#[derive(Deserialize)]
pub struct ParameterSpec {
    pub arg: Named,
    pub parameter_name: String,
}

#[derive(Deserialize)]
pub struct BufferSpec {
    pub arg: Named,
    pub buffer_name: String,
    #[serde(default = "persistent")]
    pub persistent: bool,
}

fn persistent() -> bool {
    true
}

#[derive(Deserialize)]
pub struct ConstantSpec {
    pub arg: Named,
    pub tensor_constant_name: String,
}

#[derive(Deserialize)]
pub struct ModuleCall {
    pub fqn: String,
    #[serde(default)]
    pub signature: Option<CallSignature>,
}

#[derive(Deserialize)]
pub struct CallSignature {
    pub out_spec: String,
}

/// What the archive says of its tensors.
#[derive(Deserialize)]
pub struct Payloads {
    pub config: Map<Payload>,
}

#[derive(Deserialize)]
pub struct Payload {
    pub path_name: String,
    pub is_param: bool,
    pub use_pickle: bool,
    pub tensor_meta: Option<TensorMeta>,
}
