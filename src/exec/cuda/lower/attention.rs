//! Attention.

use archc_cuda::RANK;

use super::{Lower, OnCuda, Pending, axes, ready};
use crate::diag::{Code, Problem};
use crate::net::Attention;
use crate::plan::geometry::{Heads, Mask};

impl OnCuda for Attention {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let Heads { n, heads, dim, value_dim, queries, keys, mask } = to.step.geometry.heads();
        let (at, before) = if mask.is_some() { to.address_as_stored(3)? } else { (0, None) };
        let none = Mask { before: vec![], head: 0, query: 0, key: 0 };
        let mask = mask.as_ref().unwrap_or(&none);
        if mask.before.len() > RANK {
            let message = format!("the CUDA kernel of attention takes masks over {RANK} axes before the heads at most");
            return Err(Problem::new(Code::Resource, message).hint("fewer axes, or no `--device`, to run on the CPU"));
        }
        let (lens, strides): (Vec<usize>, Vec<usize>) = mask.before.iter().copied().unzip();
        let [q_images, k_images, v_images] = [(0, queries), (1, keys), (2, keys)].map(|(at, each)| {
            let rows = to.rows(to.view(at)).rows;
            rows / *each as i32
        });
        // a constant among them is stored in float32
        let (q, q_before) = to.address_as_stored(0)?;
        let (k, k_before) = to.address_as_stored(1)?;
        let (v, v_before) = to.address_as_stored(2)?;
        let args = archc_cuda::Attention {
            q,
            k,
            v,
            mask: at,
            y: to.write(),
            n: *n as i32,
            heads: *heads as i32,
            dim: *dim as i32,
            value_dim: *value_dim as i32,
            queries: *queries as i32,
            keys: *keys as i32,
            q_stride: to.rows(to.view(0)).stride,
            k_stride: to.rows(to.view(1)).stride,
            v_stride: to.rows(to.view(2)).stride,
            y_stride: to.rows(&to.step.write).stride,
            q_images,
            k_images,
            v_images,
            scale: self.scale,
            mask_head: mask.head as i32,
            mask_query: mask.query as i32,
            mask_key: mask.key as i32,
            before_rank: lens.len() as i32,
            before: axes(&lens),
            mask_before: axes(&strides),
        };
        let before = [before, q_before, k_before, v_before].into_iter().flatten();
        Ok(before.chain([ready(args.launch(to.dtype), &args)]).collect())
    }
}
