//! What has become of a view, by what both stores say.

use serde::Serialize;
use views_postgres::explain::ViewFacts;

use super::{dead_letter::FoundLetter, outbox::FoundEntry, redis::PostInRedis};
use crate::commands::output;

/// What has become of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// The ledger has it.
    Stored,
    /// It is in the outbox, or in a set that the next cycle brings into the ledger.
    OnItsWay,
    /// The viewer is the author.
    Own,
    /// There is no such post.
    NoSuchPost,
    /// It could not be stored.
    Dead,
    /// The ledger's column can hold no such viewer.
    UnfitViewer,
    /// Only Redis's set has it, and nothing brings it into the ledger.
    OnlyInSet,
    /// Neither store knows of it.
    NotCounted,
    /// The store that would tell is away.
    Unknown,
}

impl Verdict {
    /// Returns the verdict in a few words.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::OnItsWay => "on its way",
            Self::NoSuchPost => "no such post",
            Self::Dead => "could not be stored",
            Self::UnfitViewer => "cannot be counted",
            Self::OnlyInSet => "in Redis only",
            Self::Own | Self::NotCounted => "not counted",
            Self::Unknown => "not known",
        }
    }
}

/// What was found.
pub(super) struct Evidence<'a> {
    /// What PostgreSQL says: that it is away, that there is no such post, or what it knows.
    pub(super) facts: Option<Option<&'a ViewFacts>>,
    pub(super) viewer: &'a str,
    pub(super) viewer_fits: bool,
    pub(super) in_redis: Option<&'a PostInRedis>,
    pub(super) entry: Option<&'a FoundEntry>,
    pub(super) letter: Option<&'a FoundLetter>,
    /// Whether Redis could be asked.
    pub(super) outbox_is_known: bool,
}

/// Decides what has become of a view. Returns also why, in words.
pub(super) fn decide(evidence: &Evidence<'_>) -> (Verdict, String) {
    let Evidence { facts, viewer, viewer_fits, in_redis, entry, letter, outbox_is_known } = *evidence;
    if let Some(Some(ViewFacts { is_stored: true, viewed_at_ms, .. })) = facts {
        let since = viewed_at_ms.map_or_else(String::new, |ms| format!(" since {}", output::moment(ms)));
        return (Verdict::Stored, format!("the ledger has the view{since}, and it counts"));
    }
    let author = match facts {
        Some(facts) => facts.map(|facts| facts.author.as_str()),
        None => in_redis.and_then(|post| post.author.as_deref()),
    };
    if author == Some(viewer) {
        return (Verdict::Own, "the viewer is the post's author, whose own views do not count".to_owned());
    }
    if let Some(None) = facts {
        let mut text = "PostgreSQL has no such post, or the role does not see it".to_owned();
        if let Some(entry) = entry {
            text.push_str(&format!("; its view ({}) becomes a dead letter with the next drain", entry.text()));
        }
        if let Some(letter) = letter {
            text.push_str(&format!("; the view is kept as the dead letter {}", letter.text()));
        }
        return (Verdict::NoSuchPost, text);
    }
    if let Some(entry) = entry {
        return (Verdict::OnItsWay, format!("the outbox has the view for {}, and the ledger not yet", output::age(entry.age())));
    }
    if let Some(letter) = letter {
        let next = if letter.retry {
            "it is offered to PostgreSQL again with each cycle"
        } else {
            "mend that and run `view-syncd dead retry`"
        };
        return (Verdict::Dead, format!("{}: {next}", letter.reason));
    }
    if !viewer_fits {
        let text = "the ledger's column user_id can hold no such viewer: such tokens are answered 401";
        return (Verdict::UnfitViewer, text.to_owned());
    }
    if facts.is_none() || !outbox_is_known {
        return (Verdict::Unknown, "the store that would tell cannot be asked".to_owned());
    }
    match in_redis {
        Some(post) if post.member == Some(true) && post.members != post.recorded => {
            let text = "something else than view-ingest has written the set, which the next cycle brings into the ledger";
            (Verdict::OnItsWay, text.to_owned())
        }
        Some(post) if post.member == Some(true) => {
            let text = "the set has the viewer, and neither the ledger nor the outbox does, as after a row was deleted: the viewer is told \
                        `duplicate`; see `view-syncd reconcile --post`";
            (Verdict::OnlyInSet, text.to_owned())
        }
        _ => {
            let text = "no store knows of such a view: none was acknowledged, or it was lost with Redis's data; it counts when the viewer \
                        comes again";
            (Verdict::NotCounted, text.to_owned())
        }
    }
}
