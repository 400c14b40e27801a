//! Waiting for a condition instead of sleeping.

use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// A deadline for what normally takes well under a second.
pub const SOON: Duration = Duration::from_secs(20);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// What a condition may return: `bool`, or an `Option` or a `Result` whose value is handed on.
pub trait Outcome {
    /// What [`eventually`] returns.
    type Value;

    /// The value, or a word on why there is none yet.
    fn into_value(self) -> Result<Self::Value, String>;
}

impl Outcome for bool {
    type Value = ();

    fn into_value(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "false".to_owned())
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn into_value(self) -> Result<T, String> {
        self.ok_or_else(|| "None".to_owned())
    }
}

impl<T, E: std::fmt::Debug> Outcome for Result<T, E> {
    type Value = T;

    fn into_value(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:?}"))
    }
}

/// Polls `condition` until it holds, and panics with the description and the last outcome when `limit` has passed first.
/// A condition that hangs is cut off at the deadline too.
#[track_caller]
pub fn eventually<F, R>(description: &str, limit: Duration, condition: F) -> impl Future<Output = <R::Output as Outcome>::Value>
where
    F: FnMut() -> R,
    R: Future<Output: Outcome>,
{
    // An async function would report this file instead of the test.
    let caller = Location::caller();
    async move {
        let last = match within(limit, condition).await {
            Ok(value) => return value,
            Err(last) => last,
        };
        panic!("not within {limit:?} at {caller}: {description} (last outcome: {last})");
    }
}

/// Polls `condition` until it holds, and returns its value.
///
/// # Errors
/// The last outcome, when `limit` has passed first.
pub async fn within<F, R>(limit: Duration, mut condition: F) -> Result<<R::Output as Outcome>::Value, String>
where
    F: FnMut() -> R,
    R: Future<Output: Outcome>,
{
    let deadline = Instant::now() + limit;
    let mut last = "no outcome yet".to_owned();
    while let Ok(outcome) = timeout_at(deadline, condition()).await {
        match outcome.into_value() {
            Ok(value) => return Ok(value),
            Err(why) => last = why,
        }
        if Instant::now() >= deadline {
            break;
        }
        sleep(POLL_INTERVAL).await;
    }
    Err(last)
}
