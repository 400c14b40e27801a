//! Where a recorder's new views go.

/// The store that new views are written to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Redis takes them.
    #[default]
    Redis,
    /// PostgreSQL takes them.
    Fallback(Cause),
}

/// Why Redis does not take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The circuit breaker was open: it is enough that it is closed again.
    BreakerOpen,
    /// Redis has refused them: it has to take new ones, or what it has missed.
    Refused,
    /// It refuses single posts for what their keys hold, or those of some nodes of a cluster, and takes all others: that
    /// begins no fallback.
    Posts,
}

impl Mode {
    /// Returns whether PostgreSQL takes them.
    pub(super) fn is_fallback(self) -> bool {
        matches!(self, Self::Fallback(_))
    }

    /// Returns whether that is for the circuit breaker's sake.
    pub(super) fn is_for_breaker(self) -> bool {
        self == Self::Fallback(Cause::BreakerOpen)
    }
}
