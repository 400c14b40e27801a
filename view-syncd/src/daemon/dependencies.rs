//! What the daemon depends on, one by one, as `/readyz?verbose` tells it.

use std::sync::Arc;

use views_auth::Verifier;
use views_service::checks::{self, Check, Checks};

use super::{
    leader::{Leadership, Role},
    readiness::STALLED,
};
use crate::context::{Context, store_failures::database_state};

/// Returns the checks of everything.
pub(super) fn checks(context: &Arc<Context>, leadership: &Leadership, verifier: &Arc<Verifier>) -> Checks {
    let stores = Arc::clone(context);
    let redis = move || redis(&stores);
    let (stores, leader) = (Arc::clone(context), leadership.clone());
    let postgresql = move || postgresql(&stores, &leader);
    let (outbox, leader) = (Arc::clone(context), leadership.clone());
    let drain = move || drain(&outbox, &leader);
    let cycles = Arc::clone(context);
    let cycle = move || cycles.health.check_cycle();
    let leader = leadership.clone();
    let role = move || Check::new(leader.role().as_str());
    let verifier = Arc::clone(verifier);
    let keys = move || {
        let (number, failure) = verifier.key_state();
        checks::keys(number, failure)
    };
    Checks::default()
        .with("redis", redis)
        .with("postgresql", postgresql)
        .with("drain", drain)
        .with("cycle", cycle)
        .with("role", role)
        .with("keys", keys)
}

fn redis(context: &Context) -> Check {
    if !context.redis.is_connected() {
        return Check::because(Check::AWAY, context.redis_watch.why_disconnected());
    }
    let seen = context.store_failures.redis();
    context.redis_watch.check().unwrap_or(seen)
}

fn postgresql(context: &Context, leadership: &Leadership) -> Check {
    let seen = context.store_failures.postgresql();
    match leadership.failure() {
        Some(error) => Check::because(database_state(&error), error.to_string()),
        // The session that decides who leads asks PostgreSQL every second.
        None if leadership.is_connected() && seen.is(Check::AWAY) => Check::new(Check::UP),
        None => seen,
    }
}

fn drain(context: &Context, leadership: &Leadership) -> Check {
    let stalled = context.progress.age();
    if stalled >= STALLED {
        let reason = format!("a store takes {} s for one step", stalled.as_secs());
        return context.health.with_numbers(Check::because("stuck", reason));
    }
    context.health.check_drain(leadership.role() == Role::Standby)
}
