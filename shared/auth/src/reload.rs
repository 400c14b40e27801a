//! Orders to read keys anew, and what operators were told with each.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU8, Ordering::SeqCst},
};

const IDLE: u8 = 0;
const RUNNING: u8 = 1;
/// Running, and asked for once more, as the file may have changed after it was read.
const AGAIN: u8 = 2;

/// What reloads know of each other.
#[derive(Debug)]
pub(super) struct Reloads {
    state: AtomicU8,
    /// What operators were told last. It is not told again for as long as it stays.
    told: Mutex<Vec<String>>,
}

impl Reloads {
    /// None so far, and these warnings are told with the start.
    pub(super) fn new(told: &[String]) -> Self {
        Self { state: AtomicU8::new(IDLE), told: Mutex::new(told.to_vec()) }
    }

    /// Returns whether nobody is at it. Who is will do it once more.
    pub(super) fn begin(&self) -> bool {
        let next = |state| Some(if state == IDLE { RUNNING } else { AGAIN });
        self.state.fetch_update(SeqCst, SeqCst, next) == Ok(IDLE)
    }

    /// Notes that nobody can be at it.
    pub(super) fn give_up(&self) {
        self.state.store(IDLE, SeqCst);
    }

    /// Returns whether it is to be done once more.
    pub(super) fn goes_on(&self) -> bool {
        let next = |state| Some(if state == AGAIN { RUNNING } else { IDLE });
        self.state.fetch_update(SeqCst, SeqCst, next) == Ok(AGAIN)
    }

    /// Returns the warnings that were not among the last ones.
    pub(super) fn news(&self, warnings: Vec<String>) -> Vec<String> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let news = warnings.iter().filter(|warning| !told.contains(warning)).cloned().collect();
        *told = warnings;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_that_come_meanwhile_are_one() {
        let reloads = Reloads::new(&[]);
        assert!(reloads.begin());
        assert!(!reloads.begin() && !reloads.begin());
        assert!(reloads.goes_on());
        assert!(!reloads.goes_on());
        assert!(reloads.begin());
        assert!(!reloads.goes_on());
    }

    #[test]
    fn a_warning_is_told_when_it_is_new() {
        let reloads = Reloads::new(&["a".to_owned()]);
        assert_eq!(reloads.news(vec!["a".to_owned()]), [] as [&str; 0]);
        assert_eq!(reloads.news(vec!["a".to_owned(), "b".to_owned()]), ["b"]);
        assert_eq!(reloads.news(vec![]), [] as [&str; 0]);
        assert_eq!(reloads.news(vec!["a".to_owned()]), ["a"]);
    }
}
