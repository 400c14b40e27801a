//! What happens again and again, and is told once in a while.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// The least time between two tellings.
const PAUSE: Duration = Duration::from_secs(60);

/// When something was told last.
#[derive(Debug, Default)]
pub(crate) struct Occasional {
    last: Mutex<Option<Instant>>,
}

impl Occasional {
    /// Returns whether it is to be told now.
    pub(crate) fn is_due(&self) -> bool {
        let Ok(mut last) = self.last.lock() else { return true };
        let is_due = last.is_none_or(|last| last.elapsed() >= PAUSE);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}
