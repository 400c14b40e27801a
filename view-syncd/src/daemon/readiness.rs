//! Whether the daemon is ready, as `/readyz` tells it: who can work, or could if the leader were gone.

use std::time::Duration;

use views_service::readiness::Readiness;

use super::leases::Leases;
use crate::context::Context;

/// A step that takes longer than this does not get on. Most take milliseconds, and a full batch a second or so.
pub(super) const STALLED: Duration = Duration::from_secs(10);

/// Returns the readiness of the daemon.
pub(super) fn readiness(context: &Context, leases: Leases) -> Readiness {
    let (health, progress, half_moved) = (context.health.clone(), context.progress.clone(), context.half_moved.clone());
    let role = leases.clone();
    let obstacle = move || {
        let stalled = progress.age();
        health.obstacle().or_else(|| (!leases.is_connected()).then(|| health.with_age("PostgreSQL is away"))).or_else(|| {
            let stalled = (stalled >= STALLED).then(|| format!("a store takes {} s for one step", stalled.as_secs()));
            stalled.or_else(|| half_moved.obstacle()).map(|obstacle| health.with_age(&obstacle))
        })
    };
    Readiness::new(obstacle).with_role(move || role.role().as_str())
}
