//! Pictures of any size, uint8 [N, height, width, 3], prepared inside of the network as archc prepares them: see
//! [`crate::io::preprocess`], whose formulas these are.

use super::build::{BATCH, Build, Source};
use super::proto::{Attribute, Axis, ValueInfo, format};
use crate::diag::{Code, Problem};
use crate::io::preprocess::{Preprocess, Resize};
use crate::ops::shape::Shape;
use archc_base::Resample;

impl Build<'_> {
    /// What an input called `name` is of pictures.
    ///
    /// # Errors
    /// An input that takes no pictures; an operator set that cannot resize as archc does.
    pub(super) fn prepared(&mut self, name: &str, preprocess: &Preprocess, shape: &Shape) -> Result<String, Problem> {
        let Some((channels, height, width)) = shape.as_image() else {
            let message = format!("`{name}` is {shape}, and a picture is prepared for [N, C, H, W]");
            return Err(Problem::new(Code::Usage, message).hint("leave `--with-preprocess` out"));
        };
        preprocess.check([channels, height, width])?;
        if preprocess.resize.is_some() && self.opset() < 18 {
            let message = format!("opset {} cannot resize pictures as archc does, which antialiases", self.opset());
            return Err(Problem::new(Code::Usage, message).hint("`--opset 18` and newer can"));
        }
        let axes = [Axis::Symbol(BATCH), Axis::Symbol("height"), Axis::Symbol("width"), Axis::Len(3)];
        self.network.inputs.push(ValueInfo::tensor(name, format::UINT8, axes));
        let mut x = self.transpose(name, &[0, 3, 1, 2]);
        if channels == 1 {
            x = self.grey(&x);
        }
        let wanted = self.ints(&[height as i64, width as i64]);
        let given = self.plain("Shape", &[&x]);
        let given = self.slice(&given, 0, 2, 4);
        // a picture of the input's size is taken as it is
        let is_other = self.plain("Equal", &[&given, &wanted]);
        let is_other = self.cast(&is_other, format::INT64);
        let is_other = self.with("ReduceMin", &[&is_other], vec![Attribute::int("keepdims", 1)]);
        let is_same = self.cast(&is_other, format::BOOL);
        if let Some(resize) = preprocess.resize {
            let to = match resize {
                Resize::Both(height, width) => self.ints(&[height.into(), width.into()]),
                Resize::Shorter(short) => {
                    let sizes = self.cast(&given, format::DOUBLE);
                    let shorter = self.with("ReduceMin", &[&sizes], vec![Attribute::int("keepdims", 1)]);
                    let short = self.int(short.into());
                    let short = self.cast(&short, format::DOUBLE);
                    let scaled = self.plain("Mul", &[&sizes, &short]);
                    let scaled = self.plain("Div", &[&scaled, &shorter]);
                    let scaled = self.plain("Floor", &[&scaled]);
                    self.cast(&scaled, format::INT64)
                }
            };
            let to = self.plain("Where", &[&is_same, &given, &to]);
            let before = self.plain("Shape", &[&x]);
            let before = self.slice(&before, 0, 0, 2);
            let sizes = self.with("Concat", &[&before, &to], vec![Attribute::int("axis", 0)]);
            let mut attributes = vec![Attribute::text("coordinate_transformation_mode", "half_pixel")];
            match preprocess.interpolation {
                Resample::Nearest => {
                    attributes.push(Attribute::text("mode", "nearest"));
                    attributes.push(Attribute::text("nearest_mode", "round_prefer_ceil"));
                }
                Resample::Bilinear => {
                    attributes.push(Attribute::int("antialias", 1));
                    attributes.push(Attribute::text("mode", "linear"));
                }
                Resample::Bicubic => {
                    attributes.push(Attribute::int("antialias", 1));
                    attributes.push(Attribute::float("cubic_coeff_a", -0.5));
                    attributes.push(Attribute::text("mode", "cubic"));
                }
            }
            x = self.with("Resize", &[&x, "", "", &sizes], attributes);
        }
        let x = self.cropped(&x, &wanted);
        let x = self.cast(&x, format::FLOAT);
        let full = self.float(255.0);
        let x = self.plain("Div", &[&x, &full]);
        let of = |values: [f64; 3]| values[..channels].iter().map(|value| *value as f32).collect();
        let mean = self.floats(&[channels, 1, 1], of(preprocess.mean));
        let deviation = self.floats(&[channels, 1, 1], of(preprocess.std));
        let x = self.plain("Sub", &[&x, &mean]);
        Ok(self.plain("Div", &[&x, &deviation]))
    }

    fn cast(&mut self, x: &str, to: i32) -> String {
        self.with("Cast", &[x], vec![Attribute::int("to", to.into())])
    }

    /// PIL's grey of [N, 3, H, W].
    fn grey(&mut self, x: &str) -> String {
        let wide = self.cast(x, format::INT32);
        let weights = self.constant(vec![3, 1, 1], Source::Int32s(vec![19595, 38470, 7471]));
        let weighted = self.plain("Mul", &[&wide, &weights]);
        let axes = self.ints(&[1]);
        let sum = self.with("ReduceSum", &[&weighted, &axes], vec![Attribute::int("keepdims", 1)]);
        let half = self.constant(vec![], Source::Int32s(vec![0x8000]));
        let full = self.constant(vec![], Source::Int32s(vec![0x1_0000]));
        let sum = self.plain("Add", &[&sum, &half]);
        let grey = self.plain("Div", &[&sum, &full]);
        self.cast(&grey, format::UINT8)
    }

    /// The middle of [N, C, H, W], with black around what is smaller.
    fn cropped(&mut self, x: &str, wanted: &str) -> String {
        let given = self.plain("Shape", &[x]);
        let given = self.slice(&given, 0, 2, 4);
        let (zero, two) = (self.int(0), self.int(2));
        let difference = self.plain("Sub", &[wanted, &given]);
        // what lacks: half of it before, the odd pixel after
        let lacks = self.plain("Max", &[&difference, &zero]);
        let before = self.plain("Div", &[&lacks, &two]);
        let after = self.plain("Sub", &[&lacks, &before]);
        let none = self.ints(&[0, 0]);
        let sizes = self.with("Concat", &[&none, &before, &none, &after], vec![Attribute::int("axis", 0)]);
        let padded = self.with("Pad", &[x, &sizes], vec![Attribute::text("mode", "constant")]);
        // what is too much: half of it before, the odd pixel where that makes an even number
        let negated = self.plain("Neg", &[&difference]);
        let spare = self.plain("Max", &[&negated, &zero]);
        let half = self.plain("Div", &[&spare, &two]);
        let odd = self.plain("Mod", &[&spare, &two]);
        let odd_half = self.plain("Mod", &[&half, &two]);
        let more = self.plain("Mul", &[&odd, &odd_half]);
        let from = self.plain("Add", &[&half, &more]);
        let to = self.plain("Add", &[&from, wanted]);
        let axes = self.ints(&[2, 3]);
        self.plain("Slice", &[&padded, &from, &to, &axes])
    }
}
