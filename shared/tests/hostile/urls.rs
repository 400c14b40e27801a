//! URLs hold passwords. Whatever is wrong with one, the complaint must not repeat what may be a password.

use std::time::Duration;

use clap::Parser;
use proptest::prelude::{Strategy, any, prop_assert, prop_oneof, proptest};
use shared::settings::{PostgresArgs, Problems, RedisArgs};
use testkit::properties::cases;

/// The two halves of a password that has something in the middle that a URL would have needed escaped.
const HALVES: [&str; 2] = ["Hunter2Hunter2", "Correct1Horse1"];

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    redis: RedisArgs,
    #[command(flatten)]
    postgres: PostgresArgs,
}

/// All complaints about a URL of either store, and what the settings show of themselves. (A host is shown where there is one: behind an
/// at sign that should have been escaped, PostgreSQL's library takes the rest of the password for it, as libpq does.)
fn told_about(url: &str) -> Option<String> {
    let redis = format!("--redis-url={url}");
    let postgres = format!("--database-url={url}");
    // What the command line itself does not take never gets as far as the settings.
    let cli = Cli::try_parse_from(["test", &redis, &postgres]).ok()?;
    let mut problems = Problems::default();
    let redis = cli.redis.read(&mut problems);
    cli.postgres.read(Duration::from_secs(1), &mut problems);
    Some(format!("{:?} {redis:?} {} {:?} {:?}", problems.all(), redis.describe(), cli.redis, cli.postgres))
}

fn scheme() -> impl Strategy<Value = String> {
    "(redis|rediss|redis-sentinel|redis-cluster|postgres|postgresql|http|mysql|valkey|)(://|:/|:|//|)"
}

/// One to three characters that mean something in a URL or to its reader.
fn middle() -> impl Strategy<Value = String> {
    prop_oneof!["[@:/?#&=%+ ,;\\[\\]\\\\'\"-]{1,3}", "%[0-9a-fA-F]{0,2}", "\\PC"]
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn a_password_is_never_repeated(
        scheme in scheme(), user in "[a-z]{0,3}", middle in middle(), host in "[a-z0-9.:\\[\\]-]{0,8}",
        rest in prop_oneof!["(:[0-9a-z]{0,6})?(/[a-z0-9]{0,4})?(\\?[a-z_]{1,8}=[a-z0-9]{0,4})?", any::<String>()],
    ) {
        let url = format!("{scheme}{user}:{}{middle}{}@{host}{rest}", HALVES[0], HALVES[1]);
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
            cli.redis.read(&mut problems);
            let told = format!("{:?}", problems.all());
            prop_assert!(!problems.is_empty() && HALVES.iter().all(|half| !told.contains(half)), "{told}");
        }
    }

    #[test]
    fn no_text_is_too_odd_for_a_url(text in prop_oneof![any::<String>(), "(redis|postgres)://\\PC{0,20}", "(host|user|password|port|options|sslmode)=\\PC{0,20}"]) {
        let _ = told_about(&text);
    }
}
