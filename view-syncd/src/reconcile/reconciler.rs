//! The state of the reconciler between two of its steps.

use std::sync::Arc;

use crate::{context::Context, drain::shared::Shared, entry_id::EntryId, owned_session::OwnedSession};

/// The state of the reconciler.
#[derive(Debug)]
pub(crate) struct Reconciler {
    /// Its own session: what a drain has read over its own must be acknowledged over the same connection.
    pub(crate) session: OwnedSession,
    pub(crate) shared: Shared,
    /// Up to which dead letter they have been retried.
    pub(crate) retried_to: Option<EntryId>,
}

impl Reconciler {
    /// Returns a reconciler that has done nothing yet.
    pub(crate) fn new(context: &Arc<Context>, shared: &Shared) -> Self {
        Self { session: OwnedSession::new(context), shared: shared.clone(), retried_to: None }
    }

    /// What belongs to the process.
    pub(crate) fn context(&self) -> &Context {
        &self.session.context
    }
}
