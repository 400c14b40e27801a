//! The warm-up: the daemon that leads loads posts into Redis at its start. It is a task beside the drain, which never
//! waits for it.

use std::sync::Arc;

use views_postgres::DatabaseError;

use super::leases::Leases;
use crate::{
    cli::warm::WarmSettings,
    context::{
        Context,
        backoff::{next_pause, pauses},
    },
    error::Failure,
    owned_session::OwnedSession,
    reconcile::warm::warm,
};

/// Begins the warm-up, if there is to be one, as soon as this daemon leads.
pub(super) fn start(context: &Arc<Context>, leases: &Leases, settings: WarmSettings) {
    if settings.top > 0 {
        tokio::spawn(run(Arc::clone(context), leases.clone(), settings));
    }
}

async fn run(context: Arc<Context>, mut leases: Leases, settings: WarmSettings) {
    while !leases.works() {
        leases.changed().await;
    }
    let (mut session, mut pauses) = (OwnedSession::new(&context), pauses());
    loop {
        match warm(&mut session, &settings, |_| ()).await {
            Ok(warmed) => {
                tracing::info!(loaded = warmed.loaded, known = warmed.known, "the newest posts are in Redis");
                return;
            }
            Err(Failure::Stopped) => return,
            Err(failure @ Failure::Database(DatabaseError::Setup(_))) => {
                tracing::error!("no posts are loaded into Redis: {failure}");
                return;
            }
            Err(failure) => {
                tracing::warn!("posts cannot be loaded into Redis: {failure}");
                tokio::time::sleep(next_pause(&mut pauses)).await;
            }
        }
    }
}
