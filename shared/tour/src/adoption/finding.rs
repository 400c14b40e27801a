//! What was checked, and whether it holds.

/// A check and its outcome.
pub(super) struct Finding {
    pub(super) what: String,
    pub(super) outcome: Result<(), String>,
}

impl Finding {
    /// Compares.
    pub(super) fn compare<T: PartialEq + std::fmt::Debug>(what: impl Into<String>, expected: &T, found: &T) -> Self {
        let outcome = if expected == found { Ok(()) } else { Err(format!("expected {expected:?}, found {found:?}")) };
        Self { what: what.into(), outcome }
    }
}
