//! URLs hold passwords. Whatever is wrong with one, the complaint must not repeat what may be a password.

use std::time::Duration;

use clap::Parser;
use proptest::prelude::{prop_assert, proptest};
use testkit::properties::{
    cases,
    url::{HALVES, odd, with_password},
};
use views_core::settings::Problems;
use views_postgres::config::PostgresArgs;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    postgres: PostgresArgs,
}

/// All complaints about a URL, and what the settings show of themselves. (A host is shown where there is one: behind an
/// at sign that should have been escaped, PostgreSQL's library takes the rest of the password for it, as libpq does.)
fn told_about(url: &str) -> Option<String> {
    // What the command line itself does not take never gets as far as the settings.
    let cli = Cli::try_parse_from(["test".to_owned(), format!("--database-url={url}")]).ok()?;
    let mut problems = Problems::default();
    cli.postgres.resolve(Duration::from_secs(1), &mut problems);
    Some(format!("{:?} {:?}", problems.all(), cli.postgres))
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn a_password_is_never_repeated(url in with_password()) {
        if let Some(told) = told_about(&url) {
            for half in HALVES {
                prop_assert!(!told.contains(half), "{url:?}: {told}");
            }
        }
    }

    #[test]
    fn no_text_is_too_odd_for_a_url(text in odd()) {
        let _ = told_about(&text);
    }
}
