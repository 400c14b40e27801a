//! Checks tokens, and takes new keys while it does.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use views_core::{files::Reading, log_names};

use super::{
    identity::{AuthError, Identity},
    key::Loaded,
    key_error::KeyError,
    keys::Keys,
    refresh::{Refresh, Waited},
    refusals::{Reason, Refusals},
    reload::Reloads,
    rules::TokenRules,
    source::KeySource,
    token_cache::{TokenCache, now},
};

/// Checks tokens, and takes new keys when they have changed.
#[derive(Debug)]
pub struct Verifier {
    pub(super) source: KeySource,
    pub(super) rules: TokenRules,
    pub(super) current: ArcSwap<Keys>,
    pub(super) token_cache: TokenCache,
    pub(super) reloads: Reloads,
    /// Where the keys are fetched from a URL.
    pub(super) refresh: Option<Refresh>,
    /// Whether the keys in use are those that were to be read last.
    is_current: Gauge,
    refusals: Refusals,
    warnings: Vec<String>,
    /// Why the keys could not be read or fetched anew, where the last try has failed.
    pub(super) failure: Mutex<Option<String>>,
}

impl Verifier {
    /// Loads the keys. Those that are fetched from a URL come later: see [`Self::follow_keys`].
    ///
    /// # Errors
    /// [`KeyError`] when the source has no key, or one that cannot be used.
    pub fn new(source: KeySource, rules: TokenRules) -> Result<Self, KeyError> {
        let loaded = source.load(&rules.keys, Reading::First)?;
        let warnings = loaded.warnings.clone();
        let current = ArcSwap::from_pointee(keys(loaded, &source, &rules));
        let (token_cache, refusals, reloads) = (TokenCache::default(), Refusals::default(), Reloads::new(&warnings));
        let refresh = matches!(source, KeySource::SetUrl(_)).then(Refresh::default);
        let is_current = Gauge::default();
        is_current.set(i64::from(refresh.is_none()));
        let failure = Mutex::default();
        Ok(Self { source, rules, current, token_cache, reloads, refresh, is_current, refusals, warnings, failure })
    }

    /// Returns what an operator should know about the keys that were loaded at first.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns how many keys are in use, and why they could not be read or fetched anew, where the last try has failed.
    #[must_use]
    pub fn key_state(&self) -> (usize, Option<String>) {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.current.load().len(), failure)
    }

    /// Notes what came of a try to read or fetch the keys. Returns what had come of the one before.
    pub(super) fn note_failure(&self, failure: Option<String>) -> Option<String> {
        self.is_current.set(i64::from(failure.is_none()));
        std::mem::replace(&mut *self.failure.lock().unwrap_or_else(PoisonError::into_inner), failure)
    }

    /// Adds the numbers of refused and of known tokens, and of keys, to a binary's own.
    pub fn register(&self, registry: &mut Registry) {
        self.refusals.register(registry);
        self.token_cache.register(registry);
        let help = "1 where the keys of tokens could be read or fetched when that was last tried, else 0: older ones are in use, or none";
        registry.register("keys_last_reload_successful", help, self.is_current.clone());
        if let Some(refresh) = &self.refresh {
            refresh.register(registry);
        }
    }

    /// Checks the value of an `Authorization` header, without waiting for anything.
    ///
    /// # Errors
    /// [`AuthError`] when there is no header, another scheme, or a token that does not hold. [`AuthError::Pending`]
    /// where keys that are yet to come may let it in.
    pub fn identify(&self, authorization: Option<&[u8]>) -> Result<Identity, AuthError> {
        self.identify_token(authorization.and_then(bearer))
    }

    /// Checks a token, wherever it was found, without waiting for anything.
    ///
    /// # Errors
    /// [`AuthError`], as [`Self::identify`].
    pub fn identify_token(&self, token: Option<&[u8]>) -> Result<Identity, AuthError> {
        match self.check(token) {
            Ok(identity) => Ok(identity),
            Err(reason) if self.may_be_fetched(reason) => Err(AuthError::Pending),
            Err(reason) => Err(self.refuse(reason)),
        }
    }

    /// Checks a token whose key is not known: has the keys fetched anew, and waits for them, two seconds at most. Only a
    /// bounded number waits.
    ///
    /// # Errors
    /// [`AuthError`], but never [`AuthError::Pending`].
    pub async fn identify_later(&self, token: Option<&[u8]>) -> Result<Identity, AuthError> {
        if let Some(refresh) = &self.refresh
            && refresh.wait().await == Waited::TooMany
        {
            self.refuse(Reason::UnknownKey);
            return Err(AuthError::Unavailable);
        }
        self.check(token).map_err(|reason| self.refuse(reason))
    }

    /// Checks a token for whoever looks into why it is refused, with the keys that there are, and counts nothing. Returns
    /// also until when it holds, in seconds since 1970.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn examine(&self, token: &[u8]) -> Result<(Identity, f64), Reason> {
        self.current.load().check(token, &self.rules, now())
    }

    /// Returns whether there is any key.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        !self.current.load().is_empty()
    }

    /// Returns by how much clocks may differ.
    #[must_use]
    pub fn leeway(&self) -> Duration {
        self.rules.leeway
    }

    /// Returns the flag that says where the keys come from.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        self.source.setting()
    }

    fn check(&self, token: Option<&[u8]>) -> Result<Identity, Reason> {
        let token = token.ok_or(Reason::Missing)?;
        if let Some(identity) = self.token_cache.get(token) {
            return Ok(identity);
        }
        // The number is taken before the keys, so that a token that an old key let in is never kept behind new ones.
        let number = self.token_cache.keys();
        let (identity, until) = self.current.load().check(token, &self.rules, now())?;
        self.token_cache.keep(token, identity, until, number);
        Ok(identity)
    }

    /// Returns whether keys that are yet to come may let in what was refused for this reason.
    fn may_be_fetched(&self, reason: Reason) -> bool {
        matches!(reason, Reason::UnknownKey | Reason::NoKeys) && self.refresh.as_ref().is_some_and(Refresh::may_bring_more)
    }

    /// Notes that a token is refused, and returns what the client may know of it.
    pub fn refuse(&self, reason: Reason) -> AuthError {
        self.refusals.note(reason);
        reason.error()
    }

    /// Takes keys into use in place of the others, and tells what is new about them.
    pub(super) fn take(&self, loaded: Loaded) {
        let warnings = loaded.warnings.clone();
        self.current.store(Arc::new(keys(loaded, &self.source, &self.rules)));
        self.token_cache.forget();
        for warning in self.reloads.news(warnings) {
            tracing::warn!(name: log_names::STATE, "{warning}");
        }
    }
}

fn keys(loaded: Loaded, source: &KeySource, rules: &TokenRules) -> Keys {
    Keys::new(loaded, source.accepted(&rules.keys.algorithms), source.is_set())
}

/// Returns the token behind the scheme `Bearer`, which is written in any case (RFC 9110, section 11.1).
#[must_use]
pub fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii()).filter(|token| !token.is_empty())
}
