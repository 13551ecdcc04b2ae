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
    /// The largest, NaN where there is one, as `torch.amax`.
    Max,
}

impl Pool {
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

/// A reduction as a pooling in windows that lie inside the image.
impl From<Reduce> for Pool {
    fn from(reduce: Reduce) -> Pool {
        match reduce {
            Reduce::Mean => Pool::Mean { count_padding: false },
            Reduce::Max => Pool::Max,
        }
    }
}

impl Reduce {
    /// One of each, with the name by which CUDA code knows it.
    pub const ALL: [(&str, Reduce); 2] = [("Mean", Reduce::Mean), ("Max", Reduce::Max)];

    /// Its place in [`Reduce::ALL`].
    pub fn code(self) -> i32 {
        crate::place(&Reduce::ALL, |other| *other == self)
    }
}
