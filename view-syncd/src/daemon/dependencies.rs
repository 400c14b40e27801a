//! What the daemon depends on, one by one, as `/readyz?verbose` tells it.

use std::sync::Arc;

use views_auth::Verifier;
use views_service::checks::{self, Check, Checks};

use super::{
    leases::{Leases, Role},
    readiness::STALLED,
};
use crate::context::{Context, store_failures::database_state};

/// Returns the checks of everything.
pub(super) fn checks(context: &Arc<Context>, leases: &Leases, verifier: &Arc<Verifier>) -> Checks {
    let stores = Arc::clone(context);
    let redis = move || redis(&stores);
    let (stores, leader) = (Arc::clone(context), leases.clone());
    let postgresql = move || postgresql(&stores, &leader);
    let (outbox, leader) = (Arc::clone(context), leases.clone());
    let drain = move || drain(&outbox, &leader);
    let cycles = Arc::clone(context);
    let cycle = move || cycles.health.check_cycle();
    let leader = leases.clone();
    let role = move || role(&leader);
    let verifier = Arc::clone(verifier);
    let keys = move || {
        let (number, failure) = verifier.key_state();
        checks::keys(number, failure)
    };
    let slots = Arc::clone(context);
    let checks = Checks::default();
    let checks = if context.redis.is_clustered() { checks.with("slots", move || slots.half_moved.check()) } else { checks };
    checks
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

fn postgresql(context: &Context, leases: &Leases) -> Check {
    let seen = context.store_failures.postgresql();
    match leases.failure() {
        Some(error) => Check::because(database_state(&error), error.to_string()),
        // The session that decides who leads asks PostgreSQL every second.
        None if leases.is_connected() && seen.is(Check::AWAY) => Check::new(Check::UP),
        None => seen,
    }
}

fn drain(context: &Context, leases: &Leases) -> Check {
    let stalled = context.progress.age();
    if stalled >= STALLED {
        let reason = format!("a store takes {} s for one step", stalled.as_secs());
        return context.health.with_numbers(Check::because("stuck", reason));
    }
    context.health.check_drain(leases.role() == Role::Standby)
}

fn role(leases: &Leases) -> Check {
    let role = leases.role();
    match leases.of_many() {
        Some(all) if role != Role::Undecided => {
            let held = leases.partitions().len();
            Check::because(role.as_str(), format!("drains {held} of {all} partitions")).with("partitions", held)
        }
        _ => Check::new(role.as_str()),
    }
}
