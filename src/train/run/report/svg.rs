//! Curves as SVG: axes with round numbers, a line a series, a legend.

use std::fmt::Write;

/// A named line.
pub struct Series {
    pub name: &'static str,
    /// A class of the page's style, which gives the colour.
    pub class: &'static str,
    pub points: Vec<(f64, f64)>,
    /// Whether each point has a dot.
    pub dots: bool,
}

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 34.0;
/// Points that a line has at most; of more, means are drawn.
const POINTS: usize = 400;

/// A chart of lines; `below` names the axis below. Empty where there is nothing to draw.
pub fn chart(title: &str, below: &str, series: &[Series]) -> String {
    let all = || series.iter().flat_map(|one| &one.points).filter(|point| point.1.is_finite());
    let Some(first) = all().next() else { return String::new() };
    let range = |pick: fn(&(f64, f64)) -> f64| {
        all().map(pick).fold((pick(first), pick(first)), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (x, y) = (widened(range(|point| point.0)), widened(range(|point| point.1)));
    let across = |value: f64| LEFT + (value - x.0) / (x.1 - x.0) * (WIDTH - LEFT - RIGHT);
    let up = |value: f64| HEIGHT - BOTTOM - (value - y.0) / (y.1 - y.0) * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">"
    );
    let mut put = |text: String| out.push_str(&text);
    for tick in ticks(y) {
        put(format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            up(tick),
            up(tick),
            LEFT - 6.0,
            up(tick) + 4.0,
            number(tick)
        ));
    }
    for tick in ticks(x) {
        put(format!(
            "<text class=\"tick\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            across(tick),
            HEIGHT - BOTTOM + 16.0,
            number(tick)
        ));
    }
    put(format!(
        "<text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{below}</text>",
        WIDTH - RIGHT,
        HEIGHT - 4.0
    ));
    for one in series {
        let points: Vec<(f64, f64)> = thinned(&one.points).into_iter().filter(|point| point.1.is_finite()).collect();
        if points.is_empty() {
            continue;
        }
        let mut path = String::new();
        for (at, point) in points.iter().enumerate() {
            let letter = if at == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}", across(point.0), up(point.1));
        }
        put(format!("<path class=\"line {}\" d=\"{path}\"/>", one.class));
        if one.dots || points.len() == 1 {
            for point in &points {
                put(format!(
                    "<circle class=\"dot {}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{}: {}</title></circle>",
                    one.class,
                    across(point.0),
                    up(point.1),
                    one.name,
                    number(point.1)
                ));
            }
        }
    }
    let mut left = LEFT + 10.0;
    for one in series.iter().filter(|one| !one.points.is_empty()) {
        put(format!(
            "<line class=\"line {}\" x1=\"{left}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/><text class=\"legend\" x=\"{}\" y=\"{}\">{}</text>",
            one.class,
            left + 18.0,
            left + 23.0,
            TOP + 8.0,
            one.name,
            y = TOP + 4.0
        ));
        left += 40.0 + 7.0 * one.name.len() as f64;
    }
    out + "</svg></figure>"
}

/// Ranges of nothing become ranges of something.
fn widened((low, high): (f64, f64)) -> (f64, f64) {
    if high > low {
        return (low, high);
    }
    let by = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
    (low - by, high + by)
}

/// Three to seven round numbers of a range.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    (first..first + 12).map(|at| at as f64 * step).take_while(|tick| *tick <= high + step * 1e-9).collect()
}

/// Few digits: `0.25`, `1200`, `1e-5`.
pub fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let size = value.abs();
    if !(1e-3..1e6).contains(&size) {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    let digits = if size >= 100.0 {
        0
    } else if size >= 1.0 {
        2
    } else {
        4
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

/// At most [`POINTS`] points: the means of runs of equal length.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let run = points.len().div_ceil(POINTS).max(1);
    let mean = |points: &[(f64, f64)]| {
        let count = points.len() as f64;
        (
            points.iter().map(|point| point.0).sum::<f64>() / count,
            points.iter().map(|point| point.1).sum::<f64>() / count,
        )
    };
    points.chunks(run).map(mean).collect()
}
