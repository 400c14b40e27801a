//! `view-syncd doctor`: whether everything is as it is needed and, where it is not, the one thing to do. All checks run
//! that can: one that fails stops no other. Nothing is changed.

mod check;
mod clocks;
mod database;
mod keys;
mod redis;
mod rights;
mod sessions;
mod slots;
mod token;

use std::process::ExitCode;

use serde::Serialize;
use views_core::settings::EXIT_CONFIG;

use self::check::{Check, Checks, Verdict};
use super::{look::Look, output};
use crate::cli::{SyncSettings, doctor::DoctorSettings};

/// All that was found.
#[derive(Serialize)]
struct Report<'a> {
    /// The gravest verdict.
    verdict: Verdict,
    checks: &'a [Check],
}

/// Checks everything. The exit status is 78 where a store is not as it is needed, 1 where anything else fails, and 0
/// also where there are warnings.
///
/// # Errors
/// When the settings do not fit together.
pub async fn run(settings: SyncSettings, doctor: DoctorSettings) -> anyhow::Result<ExitCode> {
    let mut look = Look::open(&settings).await?;
    let mut checks = Checks::default();
    check_settings(&doctor.warnings, &mut checks);
    redis::check(&look, settings.redis.allow_eviction, &mut checks).await;
    slots::check(&look, &mut checks).await;
    let is_usable = look.is_usable();
    if look.redis.is_ok() && is_usable {
        rights::check(&mut look, &mut checks).await;
        keys::check(&mut look, settings.work.linger, &mut checks).await;
    }
    let schema = database::check(&look, &mut checks).await;
    if look.redis.is_ok() && is_usable && look.database.is_ok() {
        check_owner(&look, &mut checks).await;
    }
    let leeway = doctor.verifier.as_ref().map(views_auth::Verifier::leeway).unwrap_or_default();
    clocks::check(&look, leeway, &mut checks).await;
    token::check(doctor.verifier, doctor.token.as_deref(), schema.as_ref(), &mut checks).await;

    let checks = checks.into_list();
    let verdict = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok);
    output::print(doctor.json, &Report { verdict, checks: &checks }, || text(&checks))?;
    Ok(match verdict {
        Verdict::Fail if checks.iter().any(|check| check.is_unfit) => ExitCode::from(EXIT_CONFIG),
        Verdict::Fail => ExitCode::FAILURE,
        Verdict::Ok | Verdict::Warn => ExitCode::SUCCESS,
    })
}

/// Wrong settings have ended the program already, and were all told together.
fn check_settings(warnings: &[String], checks: &mut Checks) {
    if warnings.is_empty() {
        checks.ok("settings", "can be used");
    }
    for warning in warnings {
        checks.warn("settings", warning);
    }
}

async fn check_owner(look: &Look, checks: &mut Checks) {
    match look.owner().await {
        Ok(Some(Ok(()))) => checks.ok("owner", "the keys in Redis are this database's"),
        Ok(Some(Err(foreign))) => checks.unfit("owner", foreign.to_string()),
        Ok(None) => {
            checks.ok("owner", "the keys in Redis are nobody's: the first start of view-syncd makes them this database's");
        }
        Err(error) => checks.fail("owner", format!("whose the keys in Redis are cannot be told: {error}")),
    }
}

fn text(checks: &[Check]) -> String {
    let rows: Vec<[String; 3]> =
        checks.iter().map(|check| [check.verdict.as_str().to_owned(), check.name.to_owned(), check.text.clone()]).collect();
    let number = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let [ok, warn, fail] = [Verdict::Ok, Verdict::Warn, Verdict::Fail].map(number);
    format!("{}{ok} ok · {warn} warn · {fail} fail", output::table(&rows))
}
