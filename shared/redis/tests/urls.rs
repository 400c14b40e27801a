//! URLs hold passwords. Whatever is wrong with one, the complaint must not repeat what may be a password.

use clap::Parser;
use proptest::prelude::{prop_assert, proptest};
use testkit::properties::{
    cases,
    url::{HALVES, middle, odd, scheme, with_password},
};
use views_core::settings::Problems;
use views_redis::config::RedisArgs;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    redis: RedisArgs,
}

/// All complaints about a URL, and what the settings show of themselves.
fn told_about(url: &str) -> Option<String> {
    // What the command line itself does not take never gets as far as the settings.
    let cli = Cli::try_parse_from(["test".to_owned(), format!("--redis-url={url}")]).ok()?;
    let mut problems = Problems::default();
    let redis = cli.redis.resolve(&mut problems);
    Some(format!("{:?} {redis:?} {} {:?}", problems.all(), redis.describe(), cli.redis))
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
    fn a_url_in_the_place_of_a_host_is_not_repeated(scheme in scheme(), middle in middle()) {
        let host = format!("{scheme}app:{}{middle}{}@cache:6379/0", HALVES[0], HALVES[1]);
        if let Ok(cli) = Cli::try_parse_from(["test".to_owned(), format!("--redis-host={host}")]) {
            let mut problems = Problems::default();
            cli.redis.resolve(&mut problems);
            let told = format!("{:?}", problems.all());
            prop_assert!(!problems.is_empty() && HALVES.iter().all(|half| !told.contains(half)), "{told}");
        }
    }

    #[test]
    fn no_text_is_too_odd_for_a_url(text in odd()) {
        let _ = told_about(&text);
    }
}
