//! What is left of several values: of a window's in pooling, of an axis's in a reduction.

/// What is left of the values of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The largest, NaN where there is one, as `torch.nn.MaxPool2d`; padding counts as -inf.
    Max,
    /// The mean, as `torch.nn.AvgPool2d`: by the window's size clipped to the padded image, or to the image itself where
    /// padding does not count.
    Mean { count_padding: bool },
}

/// What is left of the values along axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// As `torch.mean`.
    Mean,
    /// As `torch.sum`.
    Sum,
    /// The largest, NaN where there is one, as `torch.amax`.
    Max,
}

impl Pool {
    /// The mean of windows that lie inside the image.
    pub const MEAN: Pool = Pool::Mean { count_padding: false };

    /// One of each, with the name by which CUDA code knows it.
    pub const ALL: [(&str, Pool); 3] = [
        ("Max", Pool::Max),
        ("Mean", Pool::Mean { count_padding: true }),
        ("MeanInside", Pool::Mean { count_padding: false }),
    ];

    /// Its place in [`Pool::ALL`].
    pub fn code(self) -> i32 {
        crate::place(&Pool::ALL, |other| *other == self)
    }
}

impl Reduce {
    /// One of each, with the name by which CUDA code knows it.
    pub const ALL: [(&str, Reduce); 3] = [("Mean", Reduce::Mean), ("Sum", Reduce::Sum), ("Max", Reduce::Max)];

    /// Its place in [`Reduce::ALL`].
    pub fn code(self) -> i32 {
        crate::place(&Reduce::ALL, |other| *other == self)
    }
}
