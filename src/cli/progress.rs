//! Bars on stderr, where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::diag::one_line;
use crate::io::console;
use crate::weights::Downloads;

/// A bar of things that are run one after another: files, edits.
pub fn steps(count: usize) -> ProgressBar {
    if count < 2 || !console::is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}").expect("the template is well formed");
    let bar = ProgressBar::new(count as u64).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A bar for each file that comes from a hub.
#[derive(Debug)]
pub struct Bars;

impl Downloads for Bars {
    fn begin(&self, file: &str, bytes: Option<u64>) -> Box<dyn FnMut(u64)> {
        let target = if console::is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
            .expect("the template is well formed");
        let bar = ProgressBar::with_draw_target(bytes, target).with_message(one_line(file).into_owned());
        let bar = Cleared(bar.with_style(style));
        Box::new(move |come| bar.0.set_position(come))
    }
}

/// A bar that is gone in the end.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
