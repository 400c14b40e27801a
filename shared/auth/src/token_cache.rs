//! Tokens that were found good a moment ago. A viewer sends the same one with each request, and to check its signature
//! again costs more than all else that is done with the request's head.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use quick_cache::{Weighter, sync::Cache};

use super::identity::Identity;

/// How much memory the tokens may take, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// What a token takes beside its own text, in bytes.
const OVERHEAD: u64 = 256;
/// How long a token is good without another look, in seconds.
const MAX_AGE: f64 = 60.0;

/// Good tokens, each with whom it speaks for. Never one that is not good: those cost whoever sends them, and nobody
/// else's place.
#[derive(Debug)]
pub(super) struct TokenCache {
    tokens: Cache<Box<[u8]>, CachedToken, ByLength>,
    /// Grows with each change of the key. What an old key let in is worth nothing.
    keys: AtomicU64,
    lookups: Family<Outcome, Counter>,
    hits: Counter,
    misses: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, Copy)]
struct CachedToken {
    identity: Identity,
    /// In seconds since 1970.
    until: f64,
    keys: u64,
}

#[derive(Debug, Clone)]
struct ByLength;

impl Weighter<Box<[u8]>, CachedToken> for ByLength {
    fn weight(&self, token: &Box<[u8]>, _: &CachedToken) -> u64 {
        token.len() as u64 + OVERHEAD
    }
}

impl Default for TokenCache {
    fn default() -> Self {
        let usual = MAX_BYTES / (2 * OVERHEAD);
        let tokens = Cache::with_weighter(usize::try_from(usual).unwrap_or(usize::MAX), MAX_BYTES, ByLength);
        let lookups = Family::<Outcome, Counter>::default();
        let [hits, misses] = ["hit", "miss"].map(|outcome| lookups.get_or_create_owned(&Outcome { outcome }));
        Self { tokens, keys: AtomicU64::new(0), lookups, hits, misses }
    }
}

impl TokenCache {
    /// Adds the numbers to a binary's own.
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Tokens looked up among those that were found good a moment ago, by outcome";
        registry.register("token_cache_lookups", help, self.lookups.clone());
    }

    /// Returns whom a token speaks for, if it was found good a moment ago and has not expired since.
    pub(super) fn get(&self, token: &[u8]) -> Option<Identity> {
        let known = self.tokens.get(token).filter(|known| known.keys == self.keys() && now() < known.until);
        let counter = if known.is_some() { &self.hits } else { &self.misses };
        counter.inc();
        known.map(|known| known.identity)
    }

    /// Which key is in use, by its number.
    pub(super) fn keys(&self) -> u64 {
        self.keys.load(SeqCst)
    }

    /// Keeps a token that the key with this number has let in, until it expires, and for a minute at most.
    pub(super) fn keep(&self, token: &[u8], identity: Identity, exp: f64, keys: u64) {
        let now = now();
        let until = exp.min(now + MAX_AGE);
        if now < until {
            self.tokens.insert(token.into(), CachedToken { identity, until, keys });
        }
    }

    /// Forgets all tokens: there is a new key.
    pub(super) fn forget(&self) {
        self.keys.fetch_add(1, SeqCst);
        self.tokens.clear();
    }
}

/// Returns the seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use views_core::ids::ViewerId;

    use super::*;

    fn identity() -> Identity {
        Identity { viewer: ViewerId::parse("x").unwrap(), admin: false }
    }

    #[test]
    fn a_token_is_known_until_it_expires() {
        let known = TokenCache::default();
        known.keep(b"good", identity(), now() + 1_000.0, 0);
        known.keep(b"over", identity(), now() - 0.001, 0);
        assert_eq!(known.get(b"good"), Some(identity()));
        assert_eq!(known.get(b"over"), None);
        assert_eq!(known.get(b"goo"), None);
        assert_eq!((known.hits.get(), known.misses.get()), (1, 2));
    }

    #[test]
    fn nothing_of_an_old_key_outlives_it() {
        let known = TokenCache::default();
        known.keep(b"a", identity(), now() + 1_000.0, known.keys());
        let keys_before = known.keys();
        known.forget();
        known.keep(b"b", identity(), now() + 1_000.0, keys_before);
        assert_eq!((known.get(b"a"), known.get(b"b")), (None, None));
    }

    #[test]
    fn the_memory_is_bounded() {
        let known = TokenCache::default();
        for number in 0..100_000_u32 {
            known.keep(&[number.to_be_bytes(); 64].concat(), identity(), f64::MAX, 0);
        }
        assert!(known.tokens.weight() <= MAX_BYTES);
        assert!(known.tokens.len() > 10_000, "{}", known.tokens.len());
    }
}
