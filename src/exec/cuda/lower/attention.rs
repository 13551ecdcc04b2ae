//! Attention.

use super::{Lower, OnCuda, Pending, ready};
use crate::diag::{Code, Problem};
use crate::net::Attention;

impl OnCuda for Attention {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let (queries, keys) = (&to.view(0).dims, &to.view(1).dims);
        let (dim, most) = (queries[2] / self.heads, archc_cuda::Attention::MOST_DIM);
        if dim > most {
            let message = format!("the CUDA kernel of attention takes heads of up to {most} features, got {dim}");
            return Err(Problem::new(Code::Resource, message).hint("more heads, or no `--device`, to run on the CPU"));
        }
        let [q, k, v] = to.operands()?;
        let args = archc_cuda::Attention {
            q,
            k,
            v,
            y: to.write(),
            n: queries[0] as i32,
            heads: self.heads as i32,
            dim: dim as i32,
            queries: queries[1] as i32,
            keys: keys[1] as i32,
            q_stride: to.rows(to.view(0)).stride,
            k_stride: to.rows(to.view(1)).stride,
            v_stride: to.rows(to.view(2)).stride,
            y_stride: to.rows(&to.step.write).stride,
            scale: self.scale,
        };
        Ok(vec![ready(args.launch(to.dtype), &args)])
    }
}
