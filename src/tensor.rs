//! A dense float32 tensor on the host, row-major in its logical axis order ([N, C, H, W] for images). What goes in and
//! out of a network, and what weights are before a backend packs them.

/// Row-major float32 values and their shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Tensor {
    /// # Panics
    /// If `data` does not have as many values as `shape` says.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Tensor {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "a tensor's values fill its shape");
        Tensor { shape, data }
    }

    pub fn zeros(shape: impl Into<Vec<usize>>) -> Tensor {
        let shape = shape.into();
        let len = shape.iter().product();
        Tensor { shape, data: vec![0.0; len] }
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn data(&self) -> &[f32] {
        &self.data
    }

    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    pub fn len(&self) -> usize {
        self.data.len()
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The same values under another shape of as many.
    ///
    /// # Panics
    /// If the number of values differs.
    pub fn reshape(self, shape: impl Into<Vec<usize>>) -> Tensor {
        Tensor::new(shape, self.data)
    }
}
