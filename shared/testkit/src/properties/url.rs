//! URLs of stores with a password that has something in the middle that would have needed escaping.

use proptest::prelude::{Strategy, any, prop_oneof};

/// The two halves of the password.
pub const HALVES: [&str; 2] = ["Hunter2Hunter2", "Correct1Horse1"];

/// Schemes of either store, of others, and what is left of one that was mistyped.
pub fn scheme() -> impl Strategy<Value = String> {
    "(redis|rediss|REDIS|redis-sentinel|redis-cluster|postgres|postgresql|jdbc:postgresql|postgresql[+]asyncpg|http|mysql|valkey|)(://|:/|:|//|)"
}

/// Returns one to three characters that mean something in a URL or to its reader.
pub fn middle() -> impl Strategy<Value = String> {
    prop_oneof!["[@:/?#&=%+ ,;\\[\\]\\\\'\"-]{1,3}", "%[0-9a-fA-F]{0,2}", "\\PC"]
}

/// URLs with both halves of the password.
pub fn with_password() -> impl Strategy<Value = String> {
    let rest = prop_oneof!["(:[0-9a-z]{0,6})?(/[a-z0-9]{0,4})?(\\?[a-z_]{1,8}=[a-z0-9]{0,4})?", any::<String>()];
    (scheme(), "[a-z]{0,3}", middle(), "[a-z0-9.:\\[\\]-]{0,8}", rest)
        .prop_map(|(scheme, user, middle, host, rest)| format!("{scheme}{user}:{}{middle}{}@{host}{rest}", HALVES[0], HALVES[1]))
}

/// Texts that are hardly a URL.
pub fn odd() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "(redis|postgres)://\\PC{0,20}", "(host|user|password|port|options|sslmode)=\\PC{0,20}"]
}
