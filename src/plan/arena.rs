//! Gives every buffer its part of one allocation, so that buffers that live at the same time never overlap.
//!
//! First, steps that can write over what they read do so. Then buffers are placed from the largest to the smallest, each
//! at the lowest place that is free while it lives.

use super::{Buffer, Place, Segment, Step, View};

/// Floats between the starts of buffers: a cache line.
const ALIGN: usize = 16;

/// Fills in lives and offsets, and returns the floats of the whole; None where they cannot be counted. The first `kept`
/// buffers are never used for anything else.
pub(super) fn assign(
    steps: &mut [Step],
    segments: &[Segment],
    buffers: &mut [Buffer],
    outputs: &mut [(String, View)],
    kept: usize,
) -> Option<usize> {
    find_lives(steps, segments, buffers, outputs);
    buffers.iter_mut().take(kept).for_each(|buffer| buffer.life = (0, steps.len()));
    merge_in_place(steps, buffers, outputs);
    let mut by_size: Vec<usize> = (0..buffers.len()).filter(|at| buffers[*at].len > 0).collect();
    // what is kept lies before everything else
    by_size.sort_by_key(|at| (*at >= kept, std::cmp::Reverse(buffers[*at].len), *at));
    let mut placed: Vec<usize> = vec![];
    let mut total = 0usize;
    for at in by_size {
        let (life, len) = (buffers[at].life, floats(&buffers[at]).checked_next_multiple_of(ALIGN)?);
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .map(|other| &buffers[*other])
            .filter(|other| other.life.0 <= life.1 && life.0 <= other.life.1)
            .map(|other| (other.offset, other.offset + floats(other)))
            .collect();
        taken.sort_unstable();
        let mut offset = 0usize;
        for (from, to) in taken {
            if offset.checked_add(len)? <= from {
                break;
            }
            offset = offset.max(to.checked_next_multiple_of(ALIGN)?);
        }
        buffers[at].offset = offset;
        total = total.max(offset.checked_add(len)?);
        placed.push(at);
    }
    Some(total)
}

/// Floats whose memory holds the buffer.
fn floats(buffer: &Buffer) -> usize {
    (buffer.len * buffer.dtype.size()).div_ceil(4)
}

fn same(a: &Buffer, b: &Buffer) -> bool {
    (a.len, a.dtype) == (b.len, b.dtype)
}

/// When each buffer holds something. What a slice of the batch leaves for another segment, or finds from one, is there
/// as long as the segment runs.
pub(super) fn find_lives(steps: &[Step], segments: &[Segment], buffers: &mut [Buffer], outputs: &[(String, View)]) {
    for buffer in buffers.iter_mut() {
        buffer.life = (usize::MAX, 0);
    }
    for segment in segments {
        let all = (segment.steps.start, segment.steps.end.saturating_sub(1));
        for at in segment.steps.clone() {
            for view in steps[at].views() {
                let Place::Buffer(buffer) = view.place else { continue };
                let Buffer { life, sample, .. } = &mut buffers[buffer];
                // a view of a slice that has the buffer to itself stays where it is
                let stays = segment.slices == 1 || (sample.is_some() && view.slice == 0);
                let (from, to) = if stays { (at, at) } else { all };
                *life = (life.0.min(from), life.1.max(to));
            }
        }
    }
    for (_, view) in outputs {
        if let Place::Buffer(buffer) = view.place {
            let life = &mut buffers[buffer].life;
            *life = (life.0.min(steps.len()), steps.len());
        }
    }
}

/// Lets a step that allows it write into the buffer of its first read, where nothing else needs what is there.
fn merge_in_place(steps: &mut [Step], buffers: &mut [Buffer], outputs: &mut [(String, View)]) {
    // where a buffer's numbers went
    let mut moved: Vec<usize> = (0..buffers.len()).collect();
    for (at, step) in steps.iter_mut().enumerate() {
        for view in step.views_mut() {
            if let Place::Buffer(buffer) = &mut view.place {
                *buffer = moved[*buffer];
            }
        }
        let allowed = std::mem::take(&mut step.in_place);
        let first = step.reads.first().map(|view| view.place);
        let (true, Some(Place::Buffer(from)), Place::Buffer(to)) = (allowed, first, step.write.place) else { continue };
        let alone = step.further().all(|view| view.place != Place::Buffer(from));
        let fits = step.reads[0].same_layout(&step.write) && step.reads[0].offset == step.write.offset;
        let free = buffers[from].life.1 == at && buffers[to].life.0 == at && same(&buffers[from], &buffers[to]);
        if alone && fits && free && from != to {
            step.write.place = Place::Buffer(from);
            buffers[from].life.1 = buffers[to].life.1;
            buffers[to].len = 0;
            moved[to] = from;
            step.in_place = true;
        }
    }
    for (_, view) in outputs {
        if let Place::Buffer(buffer) = &mut view.place {
            *buffer = moved[*buffer];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::slices::whole;
    use archc_base::DType;

    use super::super::Work;
    use super::*;

    fn step(from: usize, to: usize, in_place: bool) -> Step {
        let view = |buffer| View::plain(Place::Buffer(buffer), &[100]);
        Step { reads: vec![view(from)], in_place, ..Step::new(Work::Copy, view(to), &[]) }
    }

    fn buffers(n: usize) -> Vec<Buffer> {
        vec![Buffer { dtype: DType::F32, offset: 0, len: 100, sample: None, life: (0, 0) }; n]
    }

    #[test]
    fn memory_is_used_again_when_its_value_is_dead() {
        let mut steps = [step(0, 1, false), step(1, 2, false), step(2, 3, false)];
        let mut buffers = buffers(4);
        let mut outputs = [("output".to_string(), View::plain(Place::Buffer(3), &[100]))];
        let segments = whole(&steps);
        assert_eq!(assign(&mut steps, &segments, &mut buffers, &mut outputs, 0), Some(2 * 112));
        for (at, a) in buffers.iter().enumerate() {
            for b in &buffers[at + 1..] {
                let apart = a.life.1 < b.life.0 || b.life.1 < a.life.0;
                assert!(apart || a.offset + a.len <= b.offset || b.offset + b.len <= a.offset);
            }
        }
    }

    #[test]
    fn steps_in_place_share_a_buffer_unless_it_is_read_later() {
        let mut steps = [step(0, 1, true), step(1, 2, true), step(1, 3, false)];
        let mut buffers = buffers(4);
        let mut outputs = [("output".to_string(), View::plain(Place::Buffer(2), &[100]))];
        let segments = whole(&steps);
        assign(&mut steps, &segments, &mut buffers, &mut outputs, 0);
        assert!(steps[0].in_place && !steps[1].in_place);
        assert_eq!(steps[1].reads[0].place, steps[0].write.place);
    }
}
