//! What is done to a result before it is stored.

use archc_base::Act;

use super::Id;

/// `after(before(result + bias) * gate + residual)`
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Epilogue {
    /// One number a channel. Only of convolutions and linear maps.
    pub bias: Option<Id>,
    pub before: Act,
    /// A factor for each channel of each image: [N, C] or [N, C, 1, 1].
    pub gate: Option<Id>,
    /// A value of the same shape that is added.
    pub residual: Option<Id>,
    pub after: Act,
    pub squeeze: Squeeze,
}

/// Whether the mean of every channel over its pixels is taken while an image is stored. Only of convolutions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Squeeze {
    #[default]
    None,
    /// [`Means`](super::Means) of the node are there besides its value.
    Also,
    /// The means are the node's value; the image itself is not kept.
    Only,
}

impl Epilogue {
    /// An activation alone.
    pub fn act(after: Act) -> Epilogue {
        Epilogue { after, ..Epilogue::default() }
    }

    /// A bias alone.
    pub fn bias(bias: Option<Id>) -> Epilogue {
        Epilogue { bias, ..Epilogue::default() }
    }

    /// Whether one of its functions is [rare](Act::is_rare).
    pub fn is_rare(&self) -> bool {
        self.before.is_rare() || self.after.is_rare()
    }

    /// Whether nothing follows the sum with its bias.
    pub fn is_none(&self) -> bool {
        Epilogue { bias: None, ..*self } == Epilogue::default()
    }

    /// Whether at most an activation follows.
    pub fn is_act(&self) -> bool {
        Epilogue { bias: None, ..*self } == Epilogue::act(self.after)
    }

    /// One epilogue that does what `self` and then `next` do; None where it takes two.
    pub fn then(&self, next: &Epilogue) -> Option<Epilogue> {
        let join = |first: Act, second: Act| match (first, second) {
            (Act::None, act) | (act, Act::None) => Some(act),
            _ => None,
        };
        let maps = |epilogue: &Epilogue| epilogue.gate.is_none() && epilogue.residual.is_none();
        if self.squeeze != Squeeze::None || next.bias.is_some() {
            return None;
        }
        let (own, bias) = (join(self.before, self.after), self.bias);
        match (maps(self), maps(next)) {
            (true, true) => {
                let after = join(own?, join(next.before, next.after)?)?;
                Some(Epilogue { bias, ..Epilogue::act(after) })
            }
            (true, false) => Some(Epilogue { bias, before: join(own?, next.before)?, ..*next }),
            (false, true) => Some(Epilogue { after: join(self.after, join(next.before, next.after)?)?, ..*self }),
            (false, false) => {
                let gated = self.residual.is_none() && self.after == Act::None;
                let added = next.gate.is_none() && next.before == Act::None;
                (gated && added).then_some(Epilogue { bias, before: self.before, gate: self.gate, ..*next })
            }
        }
    }
}
