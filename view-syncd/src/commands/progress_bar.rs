//! How far a walk through all posts has come, for whoever watches it: shown on a terminal, once it takes longer than a
//! second.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar as Bar, ProgressDrawTarget, ProgressStyle};

/// What is done by then is not shown.
const PATIENCE: Duration = Duration::from_secs(1);
const WITH_TOTAL: &str = "{msg} {wide_bar} {human_pos}/{human_len} · {eta} left";
const WITHOUT_TOTAL: &str = "{spinner} {msg} {human_pos} · {elapsed}";

/// A progress bar on standard error. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct ProgressBar {
    bar: Bar,
    since: Instant,
}

impl ProgressBar {
    /// Returns a bar for about `total` posts; zero where nobody knows how many.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        let (total, template) = if total == 0 { (None, WITHOUT_TOTAL) } else { (Some(total), WITH_TOTAL) };
        let bar = Bar::with_draw_target(total, ProgressDrawTarget::hidden()).with_message(what);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, since: Instant::now() }
    }

    /// Notes that so many more are done.
    pub(crate) fn add(&self, number: u64) {
        self.show();
        self.bar.inc(number);
    }

    /// Notes what is being done, how much of it is, and how much there is; zero where nobody knows.
    pub(crate) fn set(&self, what: &str, done: u64, total: u64) {
        self.show();
        self.bar.set_message(what.to_owned());
        self.bar.set_length(total.max(done));
        self.bar.set_position(done);
    }

    fn show(&self) {
        if self.bar.is_hidden() && self.since.elapsed() >= PATIENCE {
            // Where that is no terminal, it stays hidden.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
