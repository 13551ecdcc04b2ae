//! Convolutions and their gradients.

use archc_base::{DType, Window};
use half::bf16;

use super::super::bind::{Binder, OnCpu, Packed, is_reduced};
use super::super::kernels::bf16::Unit;
use super::super::kernels::{
    self, Algorithm, ConvIo, ConvShape, Convolved, Element, Epilogue, Input, Isa, Output, PackedConv, Policy, RowsMut,
    Site, choose, grad,
};
use super::super::memory::{Memory, Slot};
use super::super::step::{Float, Io, Kept, Kernel, Opened, Work, either};
use crate::diag::Problem;
use crate::net::{Conv, ConvData, PooledConv, Squeeze};

/// The shape of a convolution from so many channels to so many.
pub(in crate::exec::cpu) fn shape(window: &Window, from: usize, to: usize, groups: usize) -> ConvShape {
    ConvShape { in_channels: from, out_channels: to, window: *window, groups }
}

struct Bound<T> {
    shape: ConvShape,
    algorithm: Algorithm,
    packed: Packed<PackedConv<T>>,
    squeeze: Squeeze,
}

impl OnCpu for Conv {
    fn bind(&self, to: &Binder) -> Result<Work, Problem> {
        let [n, channels, h, w] = to.dims(0)[..] else { unreachable!("images have four axes") };
        let shape = shape(&self.window, channels, to.dims(1)[0], self.groups);
        let (unit, squeeze) = (to.unit, to.node.epilogue.squeeze);
        let site = Site { batch: n, size: [h, w], policy: to.policy(1) };
        let residual = to.step.residual.as_ref().map(|view| to.plan.dtype(view));
        if is_reduced(to.dtype(0)) && residual != Some(DType::F32) {
            let algorithm = choose::<bf16>(unit, &shape, &site);
            let packed = to.pack(1, |weights| PackedConv::<bf16>::pack_for(unit, &shape, algorithm, weights))?;
            return Ok(Work::Kept(Box::new(Bound { shape, algorithm, packed, squeeze })));
        }
        // few channels in any order of axes are multiplied as they are
        let few = kernels::reads_planes(&shape) && residual.is_none() && is_reduced(to.plan.dtype(&to.step.write));
        let algorithm = if few { Algorithm::Direct } else { choose::<f32>(unit, &shape, &site) };
        let packed = to.pack(1, |weights| PackedConv::<f32>::pack_for(unit, &shape, algorithm, weights))?;
        let bound = Box::new(Bound { shape, algorithm, packed, squeeze });
        Ok(if few { Work::Kept(bound) } else { Work::Float(bound) })
    }
}

impl<T: Element> Bound<T> {
    /// Calls `run` with the packed weights, those of operand 1 where they change.
    fn with<R>(&self, unit: Unit, weights: &[f32], run: impl FnOnce(&PackedConv<T>) -> R) -> R {
        self.packed.with(|| PackedConv::pack_for(unit, &self.shape, self.algorithm, weights), run)
    }
}

impl<T: Element> Kernel for Bound<T> {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        match &self.packed {
            Packed::Once(packed) => packed.kernel(),
            Packed::Each => "conv2d".into(),
        }
    }

    fn streamed(&self, io: &Io) -> Option<&[f32]> {
        self.packed.once()?.streamed(io.write.matrix.rows)
    }

    fn room(&self, io: &Io) -> usize {
        match self.squeeze {
            Squeeze::Only => 0,
            _ => self.packed.once().map_or(0, |packed| packed.room(io.write.matrix.rows)),
        }
    }
}

impl Float for Bound<f32> {
    fn run(&self, isa: Isa, io: &Io, opened: Opened) {
        let epilogue = io.epilogue(&opened);
        let Opened { y, means, reads: [x, weights, scale, ..], .. } = opened;
        let (from, scale) = (&io.reads[0], io.reads.get(2).map(|_| scale));
        self.with(isa.into(), weights, |packed| {
            let x = if packed.reads_planes() { from.planes(x) } else { Input::Image(from.image(x)) };
            let y = match (self.squeeze, &io.means) {
                (Squeeze::None, _) => Output::Image(io.write.image_mut(y)),
                (Squeeze::Only, _) => Output::Means(io.write.rows_mut(y)),
                (Squeeze::Also, Some(place)) => {
                    Output::Both(io.write.image_mut(y), RowsMut::new(means, place.dims[0], place.dims[1]))
                }
                (Squeeze::Also, None) => unreachable!("the plan gives the means a place"),
            };
            packed.run_io(ConvIo { x, scale, y }, &epilogue);
        });
    }
}

/// Of images of few channels in float32 to bf16.
impl Kept for Bound<f32> {
    fn run(&self, unit: Unit, io: &Io, memory: &mut Memory) {
        let nothing = Slot::NOTHING;
        let bias = io.bias.as_ref().map_or(&nothing, |place| &place.slot);
        let (y, [x, weights, bias]) = memory.open_any(&io.write.slot, [&io.reads[0].slot, &io.reads[1].slot, bias]);
        let bias = io.bias.as_ref().map(|_| bias.f32());
        let epilogue = Epilogue { bias, before: io.before, after: io.after, ..Epilogue::default() };
        self.with(unit, weights.f32(), |packed| {
            let x = io.reads[0].planes(x.f32());
            either!(y, |y| image(packed, x, Output::Image(io.write.image_mut(y)), &epilogue));
        });
    }
}

impl Kept for Bound<bf16> {
    fn run(&self, unit: Unit, io: &Io, memory: &mut Memory) {
        let (y, [x, weights], epilogue) = io.open_sums(memory);
        self.with(unit, weights.f32(), |packed| {
            let x = Input::Image(io.reads[0].image(x.bf16()));
            either!(y, |y| image(packed, x, Output::Image(io.write.image_mut(y)), &epilogue));
        });
    }
}

fn image<T: Element, O: Convolved<T>>(packed: &PackedConv<T>, x: Input<T>, y: Output<O>, epilogue: &Epilogue<T>) {
    packed.run_io(ConvIo { x, scale: None, y }, epilogue);
}

impl OnCpu for PooledConv {
    fn bind(&self, to: &Binder) -> Result<Work, Problem> {
        let shape = shape(&self.window, to.dims(0)[1], to.dims(1)[0], 1);
        let pack = |weights: &[f32]| kernels::PackedPooled::pack(to.isa(), &shape, weights, self.act, self.pool);
        let weights = to.known(1)?.expect("the pass asks for known weights");
        Ok(Work::Float(Box::new(Pooled(pack(&weights)))))
    }
}

struct Pooled(kernels::PackedPooled);

impl Kernel for Pooled {
    fn name(&self, isa: Isa, _io: &Io) -> String {
        format!("stem, pooled {}", isa.tile())
    }
}

impl Float for Pooled {
    fn run(&self, _isa: Isa, io: &Io, opened: Opened) {
        self.0.run(io.reads[0].planes(opened.reads[0]), opened.bias, io.write.image_mut(opened.y));
    }
}

impl OnCpu for ConvData {
    fn bind(&self, to: &Binder) -> Result<Work, Problem> {
        Ok(Work::Float(Box::new(Data { own: self.clone(), policy: to.policy_of_run() })))
    }
}

struct Data {
    own: ConvData,
    policy: Policy,
}

impl Kernel for Data {
    fn name(&self, _isa: Isa, _io: &Io) -> String {
        "conv2d_data".into()
    }
}

impl Float for Data {
    fn run(&self, isa: Isa, io: &Io, opened: Opened) {
        let ConvData { window, groups } = &self.own;
        let epilogue = io.epilogue(&opened);
        let Opened { y, reads: [dy, weights, ..], .. } = opened;
        let shape = shape(window, io.write.dims[1], io.reads[0].dims[1], *groups);
        let (dy, dx) = (io.reads[0].image(dy), io.write.image_mut(y));
        grad::conv_data(isa, &shape, self.policy, weights, dy, dx, &epilogue);
    }
}

super::float! {
    ConvWeight, "conv2d_weight", |own, isa, io, Opened { y, reads: [x, dy, ..], .. }| {
        let shape = shape(&own.window, io.reads[0].dims[1], io.reads[1].dims[1], own.groups);
        grad::conv_weight(isa, &shape, io.reads[0].image(x), io.reads[1].image(dy), y);
    };
}
