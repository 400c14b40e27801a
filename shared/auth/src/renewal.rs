//! New keys, taken while tokens are checked with the old ones. Keys that cannot be used must not lock everybody out.

use std::{sync::Arc, thread};

use bytes::Bytes;
use views_core::files::Reading;

use super::{endpoint::Endpoint, key::Loaded, key_error::KeyError, source::KeySource, verifier::Verifier};

impl Verifier {
    /// Has the keys read anew from their file, or fetched from their URL, and says in the log what came of it. Returns at
    /// once: a file may take seconds. Orders that come meanwhile are carried out by one more reading, together.
    pub fn reload_aside(self: &Arc<Self>) {
        if let Some(refresh) = &self.refresh {
            refresh.order();
            return;
        }
        if !self.reloads.begin() {
            return;
        }
        let verifier = Arc::clone(self);
        let spawned = thread::Builder::new().name("keys".to_owned()).spawn(move || {
            loop {
                verifier.reload_and_tell();
                if !verifier.reloads.goes_on() {
                    break;
                }
            }
        });
        if let Err(error) = spawned {
            self.reloads.give_up();
            tracing::error!(%error, "the key of tokens could not be read anew; the old one stays");
        }
    }

    fn reload_and_tell(&self) {
        let Some(file) = self.source.file() else {
            tracing::info!("the secret comes from {} and changes with a restart only", self.source.origin());
            return;
        };
        let file = file.display();
        let reloaded = self.reload();
        self.note_reload(reloaded.is_ok());
        match reloaded {
            Ok(()) => tracing::info!(%file, "the key of tokens was read anew"),
            Err(error) => tracing::error!(%error, "the key of tokens could not be read anew; the old one stays"),
        }
    }

    fn reload(&self) -> Result<(), KeyError> {
        self.take(self.source.load(&self.rules.keys, Reading::Again)?);
        Ok(())
    }

    /// Fetches the keys, where they are at a URL, and fetches them again whenever that is due, for as long as the process
    /// lives. What cannot be used leaves the keys that there are.
    pub async fn follow_keys(self: Arc<Self>) {
        let (KeySource::SetUrl(endpoint), Some(refresh)) = (&self.source, &self.refresh) else { return };
        let mut document = Bytes::new();
        let mut is_ordered = false;
        loop {
            refresh.begin();
            let is_well = match self.fetch(endpoint).await {
                Ok((fetched, loaded)) => {
                    let is_new = fetched != document;
                    if is_new || is_ordered {
                        tracing::info!(url = endpoint.describe(), keys = loaded.keys.len(), "the key of tokens was read anew");
                    }
                    if is_new {
                        document = fetched;
                        self.take(loaded);
                    }
                    true
                }
                Err(error) if document.is_empty() => {
                    let url = endpoint.describe();
                    tracing::error!(url, %error, "there is no key of tokens yet, and nobody is let in: the set could not be fetched");
                    false
                }
                Err(error) => {
                    let url = endpoint.describe();
                    tracing::warn!(url, %error, "the key of tokens could not be read anew; the old one stays");
                    false
                }
            };
            self.note_reload(is_well);
            refresh.finish(is_well);
            is_ordered = refresh.due(is_well).await;
        }
    }

    /// Returns what the issuer answers, and its keys.
    async fn fetch(&self, endpoint: &Endpoint) -> Result<(Bytes, Loaded), String> {
        let document = endpoint.fetch().await.map_err(|error| error.to_string())?;
        let loaded = self.source.set(&document, &self.rules.keys, false).map_err(|error| format!("what it answered {error}"))?;
        Ok((document, loaded))
    }

    /// Waits until the keys have been fetched for the first time, or that has failed, for two seconds at most.
    pub async fn first_keys(&self) {
        if let Some(refresh) = &self.refresh {
            refresh.wait().await;
        }
    }
}
