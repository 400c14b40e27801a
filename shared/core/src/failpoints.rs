//! Places at which `deploy/prove` lets a process die, and the mistakes that it must be able to find. Without the feature `failpoints`,
//! which no release has, every function here is empty and its calls are compiled away.
//!
//! * `FAILPOINTS=drain::after_commit=20*off->return` (the language of the crate `fail`) aborts the process at the 21st hit of that point.
//! * `FAILPOINTS_FROM=1700000000000` and `FAILPOINTS_UNTIL` (milliseconds since 1970) bound the danger: hits before and after do nothing.
//! * `BREAK=ack-before-commit`, or another one of [`MISTAKES`], turns the program into a wrong one.

/// The drain deletes outbox entries before PostgreSQL has committed them.
pub const ACK_BEFORE_COMMIT: &str = "ack-before-commit";
/// A view is written to the set before it is written to the outbox.
pub const SET_BEFORE_OUTBOX: &str = "set-before-outbox";
/// The count in PostgreSQL comes to Redis a moment before its pairs are acknowledged.
pub const COUNT_BEFORE_ACK: &str = "count-before-ack";
/// Whoever has locked a row is waited for, while other rows are locked.
pub const WAIT_FOR_LOCKS: &str = "wait-for-locks";
/// What PostgreSQL refuses is not kept as a dead letter.
pub const FORGET_THE_DEAD: &str = "forget-the-dead";

/// All mistakes.
pub const MISTAKES: [&str; 5] = [ACK_BEFORE_COMMIT, SET_BEFORE_OUTBOX, COUNT_BEFORE_ACK, WAIT_FOR_LOCKS, FORGET_THE_DEAD];

#[cfg(feature = "failpoints")]
mod armed {
    use std::{
        ops::Range,
        sync::LazyLock,
        time::{SystemTime, UNIX_EPOCH},
    };

    /// Lives as long as the process, which reads `FAILPOINTS` once, at its first point.
    static SCENARIO: LazyLock<Armed> = LazyLock::new(|| {
        let time = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let danger_ms = time("FAILPOINTS_FROM").unwrap_or(0)..time("FAILPOINTS_UNTIL").unwrap_or(u128::MAX);
        // The scenario's destructor would disarm the points again.
        std::mem::forget(fail::FailScenario::setup());
        Armed { danger_ms, broken: std::env::var("BREAK").unwrap_or_default() }
    });

    struct Armed {
        danger_ms: Range<u128>,
        broken: String,
    }

    /// Dies here, if `FAILPOINTS` says so.
    pub fn at(name: &str) {
        if hit(name) {
            abort(name);
        }
    }

    /// Returns whether `FAILPOINTS` says that the process dies here; the caller does something before it does.
    #[must_use]
    pub fn hit(name: &str) -> bool {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        SCENARIO.danger_ms.contains(&since_1970.as_millis()) && fail::eval(name, |_| ()).is_some()
    }

    /// Dies.
    pub fn abort(name: &str) -> ! {
        // Whoever watches the process tells by this line that the death was wanted.
        eprintln!("failpoint {name}: the process aborts itself");
        std::process::abort()
    }

    /// Returns whether the process was asked to make a mistake.
    #[must_use]
    pub fn is_broken(how: &str) -> bool {
        SCENARIO.broken == how
    }
}

#[cfg(feature = "failpoints")]
pub use armed::{abort, at, hit, is_broken};

/// Nothing happens here.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn at(_name: &str) {}

/// The process makes no mistake.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
#[must_use]
pub fn is_broken(_how: &str) -> bool {
    false
}
