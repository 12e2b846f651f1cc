//! How far something long is: a line on standard error that is redrawn, on a terminal only.
//!
//! Deliberately not here: what is said once it is done.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

const OF_BYTES: &str =
    "{wide_msg}  [{bar:16}] {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
const OF_COUNT: &str = "{wide_msg}  {human_pos} of {human_len}";
const OF_WORDS: &str = "{wide_msg}";

/// Clones show the same line. It is gone once the last of them is.
#[derive(Clone)]
pub(super) struct ProgressLine(ProgressBar);

impl ProgressLine {
    /// `what`: printable, as all that is shown.
    pub(super) fn of_bytes(is_quiet: bool, what: String, size: u64) -> Self {
        Self::new(is_quiet, OF_BYTES, what, Some(size))
    }

    pub(super) fn of_count(is_quiet: bool, what: String, all: u64) -> Self {
        Self::new(is_quiet, OF_COUNT, what, Some(all))
    }

    /// Without numbers.
    pub(super) fn of_words(is_quiet: bool) -> Self {
        Self::new(is_quiet, OF_WORDS, String::new(), None)
    }

    fn new(is_quiet: bool, template: &str, what: String, all: Option<u64>) -> Self {
        // It hides itself where standard error is no terminal.
        let target = if is_quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let style = style.progress_chars("=> ");
        let bar = ProgressBar::with_draw_target(all, target).with_style(style).with_message(what);
        Self(bar.with_finish(ProgressFinish::AndClear))
    }

    pub(super) fn add(&self, more: u64) {
        self.0.inc(more);
    }

    pub(super) fn set(&self, at: u64) {
        self.0.set_position(at);
    }

    pub(super) fn say(&self, what: String) {
        self.0.set_message(what);
    }

    /// A line that stays, above this one; also where nothing is redrawn.
    pub(super) fn note(&self, line: &str) {
        let line = super::printable(line);
        self.0.suspend(|| eprintln!("{line}"));
    }
}
