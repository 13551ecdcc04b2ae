//! Tensors as PyTorch has them, for the values that a trace computes with: strides over a storage that views share, so that
//! ops that write in place do what they do there. Whole numbers are int64, float16 and bfloat16 are float32.

use std::cell::RefCell;
use std::rc::Rc;

use half::{bf16, f16};

use super::trace::{Bytes, Stype, contiguous};

/// What values are computed in, the wider the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Dtype {
    Bool,
    Int,
    #[default]
    F32,
    F64,
}

impl Dtype {
    pub fn is_float(self) -> bool {
        self >= Dtype::F32
    }
}

/// The values of a storage.
#[derive(Clone, Debug)]
pub enum Data {
    Bool(Vec<bool>),
    Int(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Data {
    pub fn dtype(&self) -> Dtype {
        match self {
            Data::Bool(_) => Dtype::Bool,
            Data::Int(_) => Dtype::Int,
            Data::F32(_) => Dtype::F32,
            Data::F64(_) => Dtype::F64,
        }
    }

    /// Floats as values of a type: whole numbers cut off, as PyTorch casts.
    pub fn of(values: Vec<f64>, dtype: Dtype) -> Data {
        match dtype {
            Dtype::Bool => Data::Bool(values.into_iter().map(|value| value != 0.0).collect()),
            Dtype::Int => Data::Int(values.into_iter().map(|value| value as i64).collect()),
            Dtype::F32 => Data::F32(values.into_iter().map(|value| value as f32).collect()),
            Dtype::F64 => Data::F64(values),
        }
    }
}

/// A tensor.
#[derive(Clone, Debug)]
pub struct Array {
    storage: Rc<RefCell<Data>>,
    dtype: Dtype,
    shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
}

impl Array {
    /// Values one after another.
    ///
    /// # Panics
    /// If they do not fill the shape.
    pub fn new(shape: impl Into<Vec<usize>>, data: Data) -> Array {
        let shape = shape.into();
        let len = match &data {
            Data::Bool(values) => values.len(),
            Data::Int(values) => values.len(),
            Data::F32(values) => values.len(),
            Data::F64(values) => values.len(),
        };
        assert_eq!(shape.iter().product::<usize>(), len, "an array's values fill its shape");
        let strides = contiguous(&shape);
        Array { dtype: data.dtype(), storage: Rc::new(RefCell::new(data)), shape, strides, offset: 0 }
    }

    /// A view of a storage, in whose bounds it was found to lie.
    pub fn strided(data: Data, shape: Vec<usize>, strides: Vec<usize>, offset: usize) -> Array {
        Array { dtype: data.dtype(), storage: Rc::new(RefCell::new(data)), shape, strides, offset }
    }

    pub fn f32(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Array {
        Array::new(shape, Data::F32(values))
    }

    pub fn int(shape: impl Into<Vec<usize>>, values: Vec<i64>) -> Array {
        Array::new(shape, Data::Int(values))
    }

    pub fn of(shape: impl Into<Vec<usize>>, values: Vec<f64>, dtype: Dtype) -> Array {
        Array::new(shape, Data::of(values, dtype))
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// What tells storages apart.
    pub fn storage(&self) -> *const () {
        Rc::as_ptr(&self.storage).cast()
    }

    /// Whether the values lie one after another.
    pub fn is_contiguous(&self) -> bool {
        let mut wanted = 1;
        for (len, stride) in self.shape.iter().zip(&self.strides).rev() {
            if *len != 1 && *stride != wanted {
                return false;
            }
            wanted *= len;
        }
        true
    }

    fn gather<T, U>(&self, values: &[T], convert: impl Fn(&T) -> U) -> Vec<U> {
        if self.is_contiguous() {
            return values[self.offset..self.offset + self.len()].iter().map(convert).collect();
        }
        let mut all = Vec::with_capacity(self.len());
        walk(&self.shape, &self.strides, self.offset, |at| all.push(convert(&values[at])));
        all
    }

    pub fn to_f64(&self) -> Vec<f64> {
        match &*self.storage.borrow() {
            Data::Bool(values) => self.gather(values, |value| f64::from(u8::from(*value))),
            Data::Int(values) => self.gather(values, |value| *value as f64),
            Data::F32(values) => self.gather(values, |value| f64::from(*value)),
            Data::F64(values) => self.gather(values, |value| *value),
        }
    }

    pub fn to_f32(&self) -> Vec<f32> {
        match &*self.storage.borrow() {
            Data::Bool(values) => self.gather(values, |value| f32::from(u8::from(*value))),
            Data::Int(values) => self.gather(values, |value| *value as f32),
            Data::F32(values) => self.gather(values, |value| *value),
            Data::F64(values) => self.gather(values, |value| *value as f32),
        }
    }

    /// Whole numbers; floats are cut off.
    pub fn to_int(&self) -> Vec<i64> {
        match &*self.storage.borrow() {
            Data::Bool(values) => self.gather(values, |value| i64::from(*value)),
            Data::Int(values) => self.gather(values, |value| *value),
            Data::F32(values) => self.gather(values, |value| *value as i64),
            Data::F64(values) => self.gather(values, |value| *value as i64),
        }
    }

    /// A copy with a storage of its own.
    pub fn copy(&self) -> Array {
        self.cast(self.dtype)
    }

    /// A copy in another type.
    pub fn cast(&self, dtype: Dtype) -> Array {
        let data = match dtype {
            Dtype::Bool => Data::Bool(self.to_f64().into_iter().map(|value| value != 0.0).collect()),
            Dtype::Int => Data::Int(self.to_int()),
            Dtype::F32 => Data::F32(self.to_f32()),
            Dtype::F64 => Data::F64(self.to_f64()),
        };
        Array::new(self.shape.clone(), data)
    }

    fn viewed(&self, shape: Vec<usize>, strides: Vec<usize>, offset: usize) -> Array {
        Array { storage: self.storage.clone(), dtype: self.dtype, shape, strides, offset }
    }

    /// The same values under a shape of as many: a view where PyTorch makes one.
    pub fn reshape(&self, shape: &[usize]) -> Array {
        debug_assert_eq!(shape.iter().product::<usize>(), self.len(), "the caller compared the numbers");
        match self.strides_of(shape) {
            Some(strides) => self.viewed(shape.to_vec(), strides, self.offset),
            None => {
                let copy = self.copy();
                copy.viewed(shape.to_vec(), contiguous(shape), 0)
            }
        }
    }

    /// The strides of a view of another shape, where there are some.
    fn strides_of(&self, shape: &[usize]) -> Option<Vec<usize>> {
        if self.len() == 0 || self.is_contiguous() {
            return Some(contiguous(shape));
        }
        let mut strides = vec![0; shape.len()];
        let mut to = shape.len();
        let (mut chunk, mut base) = (1, *self.strides.last()?);
        for axis in (0..self.shape.len()).rev() {
            chunk *= self.shape[axis];
            let goes_on = axis > 0 && (self.shape[axis - 1] == 1 || self.strides[axis - 1] == chunk * base);
            if goes_on {
                continue;
            }
            let mut filled = 1;
            while to > 0 && (filled < chunk || shape[to - 1] == 1) {
                to -= 1;
                strides[to] = filled * base;
                filled *= shape[to];
            }
            if filled != chunk {
                return None;
            }
            if axis > 0 {
                (chunk, base) = (1, self.strides[axis - 1]);
            }
        }
        (to == 0).then_some(strides)
    }

    /// The one value without axes; None where there are others.
    pub fn reshape_to_one(&self) -> Option<Array> {
        (self.len() == 1).then(|| self.reshape(&[]))
    }

    pub fn permute(&self, order: &[usize]) -> Array {
        let shape = order.iter().map(|axis| self.shape[*axis]).collect();
        let strides = order.iter().map(|axis| self.strides[*axis]).collect();
        self.viewed(shape, strides, self.offset)
    }

    /// Every `step`th of the places `from..to` of an axis.
    pub fn narrow(&self, axis: usize, from: usize, to: usize, step: usize) -> Array {
        let (mut shape, mut strides) = (self.shape.clone(), self.strides.clone());
        shape[axis] = to.saturating_sub(from).div_ceil(step);
        strides[axis] *= step;
        self.viewed(shape, strides, self.offset + from * self.strides[axis])
    }

    /// One place of an axis, which goes.
    pub fn select(&self, axis: usize, at: usize) -> Array {
        let (mut shape, mut strides) = (self.shape.clone(), self.strides.clone());
        shape.remove(axis);
        let stride = strides.remove(axis);
        self.viewed(shape, strides, self.offset + at * stride)
    }

    pub fn unsqueeze(&self, axis: usize) -> Array {
        let (mut shape, mut strides) = (self.shape.clone(), self.strides.clone());
        let stride = shape.get(axis).map_or(1, |len| len * strides[axis]);
        shape.insert(axis, 1);
        strides.insert(axis, stride);
        self.viewed(shape, strides, self.offset)
    }

    /// The windows of `size` places along an axis, `step` apart; their places are a new last axis.
    pub fn unfold(&self, axis: usize, size: usize, step: usize) -> Array {
        let (mut shape, mut strides) = (self.shape.clone(), self.strides.clone());
        let stride = strides[axis];
        shape[axis] = (shape[axis] - size) / step + 1;
        strides[axis] *= step;
        shape.push(size);
        strides.push(stride);
        self.viewed(shape, strides, self.offset)
    }

    /// A view in which axes of 1 are as long as `shape` says, missing ones put in front. None where it does not fit.
    pub fn expand(&self, shape: &[usize]) -> Option<Array> {
        let missing = shape.len().checked_sub(self.rank())?;
        let mut strides = vec![0; shape.len()];
        for (axis, len) in self.shape.iter().enumerate() {
            if *len == shape[missing + axis] {
                strides[missing + axis] = self.strides[axis];
            } else if *len != 1 {
                return None;
            }
        }
        Some(self.viewed(shape.to_vec(), strides, self.offset))
    }

    /// Writes values, which fill its shape, into the storage.
    pub fn write(&self, values: &Array) {
        // what is written may lie in the storage itself
        let copy = Rc::ptr_eq(&self.storage, &values.storage).then(|| values.copy());
        let values = copy.as_ref().unwrap_or(values);
        let mut at = 0;
        match &mut *self.storage.borrow_mut() {
            Data::Bool(own) => {
                let values = values.to_f64();
                walk(&self.shape, &self.strides, self.offset, |to| {
                    own[to] = values[at] != 0.0;
                    at += 1;
                });
            }
            Data::Int(own) => {
                let values = values.to_int();
                walk(&self.shape, &self.strides, self.offset, |to| {
                    own[to] = values[at];
                    at += 1;
                });
            }
            Data::F32(own) => {
                let values = values.to_f32();
                walk(&self.shape, &self.strides, self.offset, |to| {
                    own[to] = values[at];
                    at += 1;
                });
            }
            Data::F64(own) => {
                let values = values.to_f64();
                walk(&self.shape, &self.strides, self.offset, |to| {
                    own[to] = values[at];
                    at += 1;
                });
            }
        }
    }
}

/// Calls `visit` with the place of every value, row by row.
pub fn walk(shape: &[usize], strides: &[usize], offset: usize, mut visit: impl FnMut(usize)) {
    if shape.contains(&0) {
        return;
    }
    let Some((inner, outer)) = shape.split_last() else {
        visit(offset);
        return;
    };
    let (step, outer_strides) = strides.split_last().expect("a stride an axis");
    let mut index = vec![0; outer.len()];
    let mut at = offset;
    loop {
        for k in 0..*inner {
            visit(at + k * step);
        }
        let mut axis = outer.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            at += outer_strides[axis];
            if index[axis] < outer[axis] {
                break;
            }
            at -= outer_strides[axis] * outer[axis];
            index[axis] = 0;
        }
    }
}

/// The values of a file's storage.
pub fn decode(bytes: &Bytes) -> Data {
    fn each<const N: usize, T>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (whole, _) = bytes.as_chunks::<N>();
        whole.iter().map(|value| convert(*value)).collect()
    }
    let raw = &bytes.bytes;
    match bytes.dtype {
        Stype::Bool => Data::Bool(raw.iter().map(|value| *value != 0).collect()),
        Stype::U8 => Data::Int(raw.iter().map(|value| i64::from(*value)).collect()),
        Stype::I8 => Data::Int(each(raw, |value| i64::from(i8::from_le_bytes(value)))),
        Stype::I16 => Data::Int(each(raw, |value| i64::from(i16::from_le_bytes(value)))),
        Stype::I32 => Data::Int(each(raw, |value| i64::from(i32::from_le_bytes(value)))),
        Stype::I64 => Data::Int(each(raw, i64::from_le_bytes)),
        Stype::F16 => Data::F32(each(raw, |value| f16::from_le_bytes(value).to_f32())),
        Stype::BF16 => Data::F32(each(raw, |value| bf16::from_le_bytes(value).to_f32())),
        Stype::F32 => Data::F32(each(raw, f32::from_le_bytes)),
        Stype::F64 => Data::F64(each(raw, f64::from_le_bytes)),
    }
}

/// The common shape of two; None where they do not fit.
pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let len = |shape: &[usize], at: usize| (at + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    (0..rank)
        .map(|at| match (len(a, at), len(b, at)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(shape: &[usize]) -> Array {
        Array::int(shape, (0..shape.iter().product::<usize>() as i64).collect())
    }

    #[test]
    fn views_share_what_is_written() {
        let base = counted(&[2, 3, 4]);
        let view = base.permute(&[2, 0, 1]).select(0, 1);
        assert_eq!((view.shape(), view.to_int()), (&[2, 3][..], vec![1, 5, 9, 13, 17, 21]));
        view.write(&Array::int([2, 3], vec![-1; 6]));
        assert_eq!(base.to_int()[..6], [0, -1, 2, 3, 4, -1]);
        assert_eq!(base.narrow(2, 1, 4, 2).to_int(), [-1, 3, -1, 7, -1, 11, -1, 15, -1, 19, -1, 23]);
    }

    #[test]
    fn a_reshape_is_a_view_where_strides_allow() {
        let base = counted(&[4, 6]);
        let half = base.narrow(1, 0, 3, 1);
        let split = half.reshape(&[2, 2, 3]);
        assert_eq!(split.storage(), base.storage());
        assert_eq!(split.to_int(), half.to_int());
        let joined = half.reshape(&[12]);
        assert_ne!(joined.storage(), base.storage());
        assert_eq!(joined.to_int(), half.to_int());
        let turned = base.permute(&[1, 0]).reshape(&[2, 3, 1, 4]);
        assert_eq!(turned.storage(), base.storage());
        assert_eq!(turned.to_int(), base.permute(&[1, 0]).to_int());
    }

    #[test]
    fn windows_and_expansion() {
        let row = counted(&[1, 5]);
        assert_eq!(row.unfold(1, 3, 2).to_int(), [0, 1, 2, 2, 3, 4]);
        assert_eq!(row.unsqueeze(0).expand(&[2, 2, 1, 5]).map(|all| all.len()), Some(20));
        assert!(row.expand(&[2, 4]).is_none());
    }
}
