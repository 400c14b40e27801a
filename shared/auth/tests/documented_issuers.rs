//! The settings that docs/tokens.md names for known issuers are ones that the programs take.

use clap::Parser;
use views_auth::config::KeyArgs;
use views_core::settings::Problems;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    keys: KeyArgs,
}

/// Returns the settings with values in a row of the table.
fn settings(row: &str) -> Vec<String> {
    let quoted = row.split('`').skip(1).step_by(2);
    let settings = quoted.filter_map(|text| text.split_once('=').filter(|(name, _)| name.len() > 3));
    let settings = settings.filter(|(name, _)| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'));
    settings.map(|(name, value)| format!("--{}={value}", name.to_ascii_lowercase().replace('_', "-"))).collect()
}

#[test]
fn the_settings_of_each_issuer_are_taken() {
    let document = include_str!("../../../docs/tokens.md");
    let mut rows = 0;
    for row in document.split("## Issuers").nth(1).unwrap_or_default().lines().filter(|line| line.starts_with("| ")).skip(1) {
        if row.starts_with("| a pair of keys") {
            break;
        }
        let mut flags = vec!["test".to_owned()];
        flags.extend(settings(row));
        if !row.contains("JWT_JWKS_URL") {
            // base64 in either reading.
            flags.push("--jwt-secret=0123456789abcdef0123456789abcdefABCDEFGHIJKLMNOP".to_owned());
        }
        let mut problems = Problems::default();
        let verifier = Cli::try_parse_from(&flags).unwrap_or_else(|error| panic!("{row}: {error}")).keys.resolve(&mut problems);
        assert!(verifier.is_some() && problems.is_empty(), "{row}: {:?}", problems.all());
        assert_eq!(problems.take_warnings(), [] as [&str; 0], "{row}");
        rows += 1;
    }
    assert_eq!(rows, 12);
}
