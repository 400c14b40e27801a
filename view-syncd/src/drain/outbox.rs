//! One outbox as this process works on it.

use std::sync::Arc;

use super::{deferred::DeferredPosts, shared::Shared};
use crate::{context::Context, owned_session::OwnedSession};

/// One outbox: the session by which it is read and acknowledged, and the posts of which it keeps pairs for later.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) session: OwnedSession,
    pub(crate) deferred: DeferredPosts,
    pub(crate) shared: Shared,
}

impl Outbox {
    pub(crate) fn new(context: &Arc<Context>, shared: &Shared) -> Self {
        Self { session: OwnedSession::new(context), deferred: DeferredPosts::default(), shared: shared.clone() }
    }

    /// What belongs to the process.
    pub(crate) fn context(&self) -> &Context {
        &self.session.context
    }
}
