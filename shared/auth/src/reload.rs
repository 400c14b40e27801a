//! Keys that are read anew while tokens are checked with the old ones.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering::SeqCst},
    },
    thread,
};

use views_core::files::Reading;

use super::{KeyError, Keys, Verifier};

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
    fn begin(&self) -> bool {
        let next = |state| Some(if state == IDLE { RUNNING } else { AGAIN });
        self.state.fetch_update(SeqCst, SeqCst, next) == Ok(IDLE)
    }

    /// Returns whether it is to be done once more.
    fn goes_on(&self) -> bool {
        let next = |state| Some(if state == AGAIN { RUNNING } else { IDLE });
        self.state.fetch_update(SeqCst, SeqCst, next) == Ok(AGAIN)
    }

    /// Returns the warnings that were not among the last ones.
    fn news(&self, warnings: Vec<String>) -> Vec<String> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let news = warnings.iter().filter(|warning| !told.contains(warning)).cloned().collect();
        *told = warnings;
        news
    }
}

impl Verifier {
    /// Has the keys read anew from their file, and says in the log what came of it. Returns at once: a file may take
    /// seconds. Orders that come meanwhile are carried out by one more reading, together.
    pub fn reload_aside(self: &Arc<Self>) {
        if !self.reloads.begin() {
            return;
        }
        let verifier = Arc::clone(self);
        let spawned = thread::Builder::new().name("keys".to_owned()).spawn(move || {
            loop {
                verifier.reload_and_tell();
                if !verifier.reloads.goes_on() {
                    break;
                }
            }
        });
        if let Err(error) = spawned {
            self.reloads.state.store(IDLE, SeqCst);
            tracing::error!(%error, "the key of tokens could not be read anew; the old one stays");
        }
    }

    /// Keys that cannot be used must not lock everybody out.
    fn reload_and_tell(&self) {
        let Some(file) = self.source.file() else {
            tracing::info!("the secret comes from {} and changes with a restart only", self.source.origin());
            return;
        };
        let file = file.display();
        match self.reload() {
            Ok(()) => tracing::info!(%file, "the key of tokens was read anew"),
            Err(error) => tracing::error!(%error, "the key of tokens could not be read anew; the old one stays"),
        }
    }

    fn reload(&self) -> Result<(), KeyError> {
        let (keys, warnings) = Keys::load(&self.source, &self.rules, Reading::Again)?;
        self.current.store(Arc::new(keys));
        self.token_cache.forget();
        for warning in self.reloads.news(warnings) {
            tracing::warn!("{warning}");
        }
        Ok(())
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
