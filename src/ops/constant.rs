//! Values that no layer computes from the image: the input itself, learned parameters, constant tables.

use super::init::Init;
use super::shape::Shape;
use super::{Arity, Operand, Operation, ParamDecl, Role, op};
use crate::diag::{Code, Problem};
use crate::tensor::Tensor;

op! {
    /// An input of the network, [N, ..]. Written as `input image: [N, 3, 224, 224]`, never as a layer.
    pub struct Input = "input", First {
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
    pub struct Parameter = "parameter", First {
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
    pub struct Buffer = "buffer", First {
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
