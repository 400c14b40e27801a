//! The progress of work that takes long, on a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that is over sooner shows nothing.
const DELAY: Duration = Duration::from_secs(1);
/// How often it is drawn, in times a second.
const REDRAWS: u8 = 4;

/// A bar on standard error; nothing where that is no terminal.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    started: Instant,
    is_shown: bool,
}

impl Progress {
    /// Returns a bar of about so much of something, such as posts.
    pub(super) fn new(about: Option<u64>, unit: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(about, ProgressDrawTarget::hidden());
        let template = match about {
            Some(_) => "{wide_bar} {human_pos} of about {human_len} {msg}, {elapsed}, {eta} left",
            None => "{spinner} {human_pos} {msg}, {elapsed}",
        };
        // The template is a constant; without it, the bar would have the library's own.
        let bar = ProgressStyle::with_template(template).map(|style| bar.clone().with_style(style)).unwrap_or(bar);
        bar.set_message(unit);
        Self { bar, started: Instant::now(), is_shown: false }
    }

    /// Notes that so much more is done.
    pub(super) fn add(&mut self, done: u64) {
        self.bar.inc(done);
        if let Some(about) = self.bar.length().filter(|about| *about < self.bar.position()) {
            // It was an estimate.
            self.bar.set_length(about.max(self.bar.position()));
        }
        if !self.is_shown && self.started.elapsed() >= DELAY {
            self.is_shown = true;
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS));
        }
    }

    /// Removes the bar.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
