//! Values that no layer computes from the image: the input itself, learned parameters, constant tables.

use super::attr::{Attr, FromAttr, Wanted};
use super::init::Init;
use super::shape::Shape;
use super::{Arity, Operand, Operation, ParamDecl, Role, op};
use crate::diag::{Code, Problem};
use crate::tensor::Tensor;

op! {
    /// An input of the network, [N, ..]. Written as `input image: [N, 3, 224, 224]`, never as a layer.
    pub struct Input = "input", First, aten [] {
        /// the sizes after the batch
        shape: Vec<i64>,
    }
}

impl Operation for Input {
    fn arity(&self) -> Arity {
        Arity::Exactly(0)
    }

    fn infer(&self, _ins: &[&Shape]) -> Result<Shape, Problem> {
        Ok(Shape::batched(sizes(&self.shape)?))
    }

    fn eval(&self, _ins: &[Operand<'_>], _params: &[&Tensor], _out: &[usize]) -> Tensor {
        unreachable!("the executor feeds inputs")
    }
}

op! {
    /// A learned tensor that belongs to no layer (a class token, a position embedding), as `torch.nn.Parameter`. It has no
    /// batch; its path is its key.
    pub struct Parameter = "parameter", First, aten [] {
        /// every axis
        shape: Vec<i64>,
        /// how it is filled
        init: Init = "zeros",
    }
}

impl Operation for Parameter {
    fn arity(&self) -> Arity {
        Arity::Exactly(0)
    }

    fn infer(&self, _ins: &[&Shape]) -> Result<Shape, Problem> {
        Ok(Shape::fixed(sizes(&self.shape)?))
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        let shape = self.infer(ins).expect("the shape was inferred");
        vec![ParamDecl::weight("", shape.dims, self.init.clone())]
    }

    fn eval(&self, _ins: &[Operand<'_>], params: &[&Tensor], _out: &[usize]) -> Tensor {
        params[0].clone()
    }
}

op! {
    /// A tensor that is carried and not learned (a mask, a table of frequencies), as `register_buffer` of PyTorch's modules.
    /// It has no batch; its path is its key, which a weight file must have. One of a file of its own is
    /// `buffer([49, 49], init = from("masks.safetensors", "mask"))`.
    pub struct Buffer = "buffer", First, aten [] {
        /// every axis
        shape: Vec<i64>,
        /// how it is filled
        init: Init = "zeros",
    }
}

impl Operation for Buffer {
    fn arity(&self) -> Arity {
        Arity::Exactly(0)
    }

    fn infer(&self, _ins: &[&Shape]) -> Result<Shape, Problem> {
        Ok(Shape::fixed(sizes(&self.shape)?))
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        let shape = self.infer(ins).expect("the shape was inferred");
        vec![ParamDecl { role: Role::Statistic, ..ParamDecl::weight("", shape.dims, self.init.clone()) }]
    }

    fn eval(&self, _ins: &[Operand<'_>], params: &[&Tensor], _out: &[usize]) -> Tensor {
        params[0].clone()
    }
}

op! {
    /// A tensor whose values stand in the text: `constant([[1, 0], [0, 1]])` is [2, 2]. Nested lists give the shape, all rows of
    /// one length. It has no batch, is not learned, and no file has it. A larger one comes from a file, as a `buffer`.
    pub struct Constant = "constant", First, aten ["lift_fresh_copy"] {
        /// the numbers, in lists of lists
        values: Values,
    }
}

impl Operation for Constant {
    fn arity(&self) -> Arity {
        Arity::Exactly(0)
    }

    fn infer(&self, _ins: &[&Shape]) -> Result<Shape, Problem> {
        Ok(Shape::fixed(self.values.shape.clone()))
    }

    fn eval(&self, _ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        Tensor::new(out, self.values.numbers.clone())
    }
}

/// No constant has more numbers.
const MOST: usize = 1 << 14;

/// Numbers in lists of lists.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    shape: Vec<usize>,
    /// Row-major.
    numbers: Vec<f32>,
}

impl Values {
    /// Adds a list at `at`, whose lists are to have the lengths `shape`.
    fn add(&mut self, attr: &Attr, at: &mut Vec<usize>) -> Result<(), Wanted> {
        match (attr, self.shape.get(at.len())) {
            (Attr::List(list), Some(len)) if list.len() == *len => {
                for (index, element) in list.iter().enumerate() {
                    at.push(index);
                    self.add(element, at)?;
                    at.pop();
                }
                Ok(())
            }
            (Attr::List(_), Some(len)) => {
                let things = if at.len() + 1 == self.shape.len() { "numbers" } else { "rows" };
                Err(Wanted::value(format!("rows of one length, {len} {things} as in the first")).at(at))
            }
            (Attr::List(_), None) => Err(Wanted::kind("a number there, as the first is").at(at)),
            (Attr::Int(_) | Attr::Float(_), Some(_)) => Err(Wanted::kind("a list there, as the first is").at(at)),
            (attr, _) => {
                self.numbers.push(number(attr).map_err(|wanted| wanted.at(at))?);
                if self.numbers.len() > MOST {
                    let text = format!(
                        "{MOST} numbers at most (more come from a file: `buffer([..], init = from(\"file\", \"key\"))`)"
                    );
                    return Err(Wanted::value(text));
                }
                Ok(())
            }
        }
    }
}

/// A number that float32 holds.
fn number(attr: &Attr) -> Result<f32, Wanted> {
    match attr {
        Attr::Int(value) if i128::from(*value) == (*value as f32) as i128 => Ok(*value as f32),
        Attr::Int(_) => Err(Wanted::value("whole numbers that float32 holds exactly, as all up to 2^24")),
        Attr::Float(value) if (*value as f32).is_finite() => Ok(*value as f32),
        Attr::Float(_) => Err(Wanted::value("numbers that float32 holds, up to 3.4e38")),
        _ => Err(Wanted::kind("numbers")),
    }
}

impl FromAttr for Values {
    const KIND: &'static str = "lists of numbers";
    fn from_attr(attr: &Attr) -> Result<Values, Wanted> {
        let Attr::List(_) = attr else {
            return Err(Wanted::kind("a list of numbers, or lists of lists (a number alone is no tensor: `x * 0.5`)"));
        };
        let mut values = Values { shape: vec![], numbers: vec![] };
        // the first of each list says how long the others are
        let (mut first, mut at) = (attr, vec![]);
        while let Attr::List(list) = first {
            let Some(next) = list.first() else { return Err(Wanted::value("a number or more in each list").at(&at)) };
            values.shape.push(list.len());
            first = next;
            at.push(0);
        }
        values.add(attr, &mut vec![])?;
        Ok(values)
    }
    fn to_attr(&self) -> Attr {
        let mut attrs: Vec<Attr> = self.numbers.iter().map(|number| written(*number)).collect();
        for len in self.shape.iter().skip(1).rev() {
            attrs = attrs.chunks(*len).map(|row| Attr::List(row.to_vec())).collect();
        }
        Attr::List(attrs)
    }
}

/// A number as one would write it: whole ones as such, others by the fewest digits.
fn written(number: f32) -> Attr {
    let is_whole =
        number.fract() == 0.0 && number.abs() <= 16_777_216.0 && !(number == 0.0 && number.is_sign_negative());
    match number.to_string().parse() {
        Ok(value) if !is_whole => Attr::Float(value),
        _ => Attr::Int(number as i64),
    }
}

/// Written axis lengths as sizes: all 1 or more.
fn sizes(axes: &[i64]) -> Result<Vec<usize>, Problem> {
    let size = |axis: &i64| {
        usize::try_from(*axis)
            .ok()
            .filter(|axis| *axis > 0)
            .ok_or_else(|| Problem::new(Code::BadValue, format!("an axis needs a length of 1 or more, got {axis}")))
    };
    axes.iter().map(size).collect()
}
