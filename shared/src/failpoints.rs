//! Places at which `deploy/prove` lets a process die, and the mistakes that it must be able to find. Without the feature `failpoints`,
//! which no release has, every function here is empty and its calls are compiled away.
//!
//! * `FAILPOINTS=drain::after_commit=20*off->return` (the language of the crate `fail`) aborts the process at the 21st hit of that point.
//! * `FAILPOINTS_UNTIL=1700000000000` (milliseconds since 1970) ends the danger: later hits do nothing.
//! * `BREAK=ack-before-commit` or `BREAK=set-before-outbox` turns the program into a wrong one.

/// The drain deletes outbox entries before PostgreSQL has committed them.
pub const ACK_BEFORE_COMMIT: &str = "ack-before-commit";
/// A view is written to the set before it is written to the outbox.
pub const SET_BEFORE_OUTBOX: &str = "set-before-outbox";

#[cfg(feature = "failpoints")]
mod armed {
    use std::{
        sync::LazyLock,
        time::{SystemTime, UNIX_EPOCH},
    };

    /// Lives as long as the process, which reads `FAILPOINTS` once, at its first point.
    static SCENARIO: LazyLock<Armed> = LazyLock::new(|| {
        let until_ms = std::env::var("FAILPOINTS_UNTIL").ok().and_then(|text| text.parse().ok());
        // The scenario's destructor would disarm the points again.
        std::mem::forget(fail::FailScenario::setup());
        Armed { until_ms: until_ms.unwrap_or(u128::MAX), broken: std::env::var("BREAK").unwrap_or_default() }
    });

    struct Armed {
        until_ms: u128,
        broken: String,
    }

    /// Dies here, if `FAILPOINTS` says so.
    pub fn at(name: &str) {
        if hit(name) {
            abort(name);
        }
    }

    /// Whether `FAILPOINTS` says that the process dies here; the caller does something before it does.
    #[must_use]
    pub fn hit(name: &str) -> bool {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since_1970.as_millis() < SCENARIO.until_ms && fail::eval(name, |_| ()).is_some()
    }

    /// Dies.
    pub fn abort(name: &str) -> ! {
        // Whoever watches the process tells by this line that the death was wanted.
        eprintln!("failpoint {name}: the process aborts itself");
        std::process::abort()
    }

    /// Whether the process was asked to make a mistake.
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
