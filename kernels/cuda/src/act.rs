//! The C++ of activations and their gradients: for each a text in float32, in the form that keeps its digits there. The
//! functions that compute them are made of these texts, so that an activation without one does not compile.

use std::fmt::Write;

use archc_base::Act;

use super::Twin;

/// The value at `x`, with parameters `a` and `b`.
fn value(act: Act) -> &'static str {
    match act {
        Act::None => "x",
        Act::Relu => "x < 0.f ? 0.f : x",
        Act::Clamp { .. } => "clamp(x, a, b)",
        Act::Elu(_) => "x > 0.f ? x : a * expm1f(x)",
        Act::LeakyRelu(_) => "x > 0.f ? x : a * x",
        Act::Gelu => "0.5f * x * erfc_of(-0.707106781f * x)",
        Act::GeluTanh => "0.5f * x * (1.f + tanhf(0.797884561f * (x + 0.044715f * x * x * x)))",
        Act::Silu => "x * sigmoid(x)",
        Act::Sigmoid => "sigmoid(x)",
        Act::Tanh => "tanhf(x)",
        Act::HardSwish => "x * clamp(x + 3.f, 0.f, 6.f) * (1.f / 6.f)",
        Act::HardSigmoid => "clamp(x + 3.f, 0.f, 6.f) * (1.f / 6.f)",
        Act::Softplus => "softplus(x)",
        Act::Mish => "x * tanhf(softplus(x))",
        Act::Exp => "expf(x)",
        Act::Linear { .. } => "a * x + b",
        Act::Square => "x * x",
        Act::Sqrt | Act::Length => "sqrtf(x)",
        Act::Rsqrt => "1.f / sqrtf(x)",
        Act::Pow(_) => "power(x, a)",
        Act::Over(_) => "a / x",
        Act::Abs => "fabsf(x)",
        Act::Log => "logf(x)",
        Act::Sin => "sine(x, 0)",
        Act::Cos => "sine(x, 1)",
        Act::Softsign => "x / (1.f + fabsf(x))",
        Act::LogSigmoid => "(x > 0.f ? 0.f : x) - log1pf(expf(-fabsf(x)))",
        Act::Celu(_) => "x > 0.f ? x : a * expm1f(x / a)",
        Act::Selu => "x > 0.f ? SELU_SCALE * x : SELU_BELOW * expm1f(x)",
    }
}

/// `d` times the gradient at result `y` where [`Act::by_result`], else at operand `x`; where that is 0, so is the product,
/// whatever `d` is. Statements may stand before the last expression.
fn gradient(act: Act) -> &'static str {
    match act {
        Act::None => "d",
        Act::Relu => "y > 0.f ? d : 0.f",
        Act::Clamp { .. } => "y > a && y < b ? d : 0.f",
        // where two operands have the same result, y is x
        Act::Elu(_) => "d * (y > 0.f ? 1.f : a >= 0.f ? y + a : a * expf(y))",
        Act::LeakyRelu(_) => "d * (y > 0.f ? 1.f : a)",
        Act::Gelu => "d * fmaf(x, 0.398942280f * expf(-0.5f * x * x), 0.5f * erfc_of(-0.707106781f * x))",
        Act::GeluTanh => {
            "const float square = x * x, t = tanhf(0.797884561f * fmaf(0.044715f * square, x, x)); \
             const float slope = 0.797884561f * fmaf(3.f * 0.044715f, square, 1.f); \
             d * (fmaf(0.5f, t, 0.5f) + 0.5f * x * (1.f - t * t) * slope)"
        }
        Act::Silu => "const float s = sigmoid(x); d * (s * fmaf(x, 1.f - s, 1.f))",
        Act::Sigmoid => "d * (y * (1.f - y))",
        Act::Tanh => "d * (1.f - y * y)",
        Act::HardSwish => "d * (x <= -3.f ? 0.f : x >= 3.f ? 1.f : fmaf(2.f, x, 3.f) * (1.f / 6.f))",
        Act::HardSigmoid => "d * (y > 0.f && y < 1.f ? 1.f / 6.f : 0.f)",
        Act::Softplus => "d * -expm1f(-y)",
        Act::Mish => "const float t = tanhf(softplus(x)); d * fmaf(x * sigmoid(x), 1.f - t * t, t)",
        Act::Exp => "d * y",
        Act::Linear { .. } => "d * a",
        Act::Square => "d * (x + x)",
        Act::Sqrt => "d * 0.5f / y",
        Act::Length => "y == 0.f ? 0.f : d * 0.5f / y",
        Act::Rsqrt => "d * (-0.5f * y * y * y)",
        Act::Pow(_) => "a == 0.f ? 0.f : d * (a * power(x, a - 1.f))",
        Act::Over(_) => "d * (-a / (x * x))",
        Act::Abs => "d * sign(x)",
        Act::Log => "d / x",
        Act::Sin => "d * sine(x, 1)",
        Act::Cos => "-d * sine(x, 0)",
        Act::Softsign => "const float part = 1.f / (1.f + fabsf(x)); d * part * part",
        Act::LogSigmoid => "d * -expm1f(y)",
        Act::Celu(_) => "d * (y > 0.f ? 1.f : y / a + 1.f)",
        Act::Selu => "d * (y > 0.f ? SELU_SCALE : y + SELU_BELOW)",
    }
}

/// `activate(v, act)`: each of `v` becomes the activation's value. Of those that are not [rare](Act::is_rare).
pub(super) enum Values {}

impl Twin for Values {
    fn declaration() -> String {
        values("activate", |act| !act.is_rare())
    }
}

/// `activate_any(v, act)`: the same of all.
pub(super) enum AllValues {}

impl Twin for AllValues {
    fn declaration() -> String {
        values("activate_any", |_| true)
    }
}

fn values(name: &str, has: impl Fn(Act) -> bool) -> String {
    let case = |act| has(act).then(|| format!("each(v, [=](float x) {{ return {}; }})", value(act)));
    let none = "each(v, [](float) { return NO_NUMBER; })";
    function(&format!("template <int N> DEV void {name}(float (&v)[N], const Act& act)"), case, none)
}

/// `chain(v, seen, act)`: each of `v` is multiplied by the gradient, told by what is `seen` of the activation.
pub(super) enum Gradients {}

impl Twin for Gradients {
    fn declaration() -> String {
        let case = |act: Act| {
            let (statements, product) = gradient(act).rsplit_once("; ").map_or(("", gradient(act)), |(s, p)| (s, p));
            let end = if statements.is_empty() { "" } else { "; " };
            let seen = if act.by_result() { "y" } else { "x" };
            Some(format!("each(v, seen, [=](float d, float {seen}) {{ {statements}{end}return {product}; }})"))
        };
        let none = "each(v, seen, [](float, float) { return NO_NUMBER; })";
        function("DEV void chain(float (&v)[8], const float (&seen)[8], const Act& act)", case, none)
    }
}

/// A function that does what each code with a case asks for, and `none` for any other number.
fn function(head: &str, case: impl Fn(Act) -> Option<String>, none: &str) -> String {
    let mut text = format!("{head} {{\n    const float a = act.a, b = act.b;\n    switch (act.code) {{\n");
    for (name, act) in Act::ALL {
        if let Some(case) = case(act) {
            _ = writeln!(text, "    case ActCode::{name}: {case}; return;");
        }
    }
    text + &format!("    default: break;\n    }}\n    {none};\n}}\n")
}
