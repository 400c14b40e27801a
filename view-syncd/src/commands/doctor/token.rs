//! The keys of tokens, and a sample token: who it is for, or why it is refused. The token itself is never shown.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use views_auth::{Reason, Verifier};
use views_postgres::schema::Schema;

use super::check::Checks;
use crate::commands::output;

pub(super) async fn check(verifier: Option<Verifier>, token: Option<&[u8]>, schema: Option<&Schema>, checks: &mut Checks) {
    let Some(verifier) = verifier else {
        return checks.warn(
            "token",
            "no key of tokens is given, which the daemon needs: set JWT_SECRET_FILE, or another one of docs/tokens.md",
        );
    };
    let verifier = Arc::new(verifier);
    // Where the keys are at a URL, they are fetched.
    let following = tokio::spawn(Arc::clone(&verifier).follow_keys());
    verifier.first_keys().await;
    following.abort();
    if !verifier.has_keys() {
        let remedy = Reason::NoKeys.remedy();
        return checks.fail("token", format!("{}: no key set could be fetched: {remedy}", verifier.setting()));
    }
    let Some(token) = token else {
        let text = format!("{} can be used; --token-file FILE looks at a sample token", verifier.setting());
        return checks.ok("token", text);
    };
    match verifier.examine(token) {
        Ok((identity, _)) if schema.is_some_and(|schema| !schema.accepts_viewer(&identity.viewer)) => {
            refuse(Reason::UnfitViewer, checks);
        }
        Ok((identity, until)) => {
            let admin = if identity.admin { "an administrator" } else { "no administrator" };
            checks.ok("token", format!("is accepted: viewer {}, {admin}, {}", identity.viewer, expiry(until)));
        }
        Err(reason) => refuse(reason, checks),
    }
}

fn refuse(reason: Reason, checks: &mut Checks) {
    checks.fail("token", format!("is refused ({}): {}: {}", reason.as_str(), reason.explanation(), reason.remedy()));
}

/// Returns until when it holds, in words.
fn expiry(until: f64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match Duration::try_from_secs_f64(until) {
        Ok(until) if i64::try_from(until.as_millis()).is_ok_and(|ms| ms < LAST_MS) => {
            let ms = i64::try_from(until.as_millis()).unwrap_or(LAST_MS);
            format!("until {} (in {})", output::moment(ms), output::age(until.saturating_sub(now)))
        }
        _ => "for ever".to_owned(),
    }
}

/// The last moment that is written in four digits of the year, in milliseconds since 1970.
const LAST_MS: i64 = 253_402_300_799_000;
