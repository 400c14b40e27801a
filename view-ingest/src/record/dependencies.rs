//! What this process depends on, one by one, as `/readyz?verbose` tells it.

use std::sync::Arc;

use views_auth::Verifier;
use views_redis::requirements::Notices;
use views_service::checks::{Check, Checks};

use crate::record::health::Health;

/// Returns the checks of everything.
pub(crate) fn checks(health: &Arc<Health>, notices: &Arc<Notices>, has_database: bool, verifier: &Arc<Verifier>) -> Checks {
    let (stores, notices, verifier) = (Arc::clone(health), Arc::clone(notices), Arc::clone(verifier));
    let redis = move || redis(&stores, &notices);
    let stores = Arc::clone(health);
    let postgresql = move || if has_database { stores.database.check() } else { Check::new("not_configured") };
    let stores = Arc::clone(health);
    let writes = move || Check::new(stores.writes_to());
    Checks::default().with("redis", redis).with("postgresql", postgresql).with("writes", writes).with("keys", move || {
        let (keys, failure) = verifier.key_state();
        views_service::checks::keys(keys, failure)
    })
}

fn redis(health: &Health, notices: &Notices) -> Check {
    if let Some(why) = health.why_redis_is_disconnected() {
        return Check::because(Check::AWAY, why);
    }
    if let Some(text) = notices.refusal().or_else(|| notices.foreign()) {
        return Check::because(Check::MISCONFIGURED, text);
    }
    if let Some(why) = notices.pause() {
        return Check::because(Check::REFUSES, why);
    }
    if !health.redis_seems_available() {
        return Check::because(Check::AWAY, health.away_nodes().unwrap_or_else(|| "it does not answer".to_owned()));
    }
    if let Some(nodes) = health.away_nodes() {
        return Check::because(Check::PARTLY_AWAY, nodes);
    }
    health.redis_refusal().map_or_else(|| Check::new(Check::UP), |text| Check::because(Check::REFUSES, text))
}
