//! `view-syncd explain POST VIEWER`: whether a view counts, since when, where it is now, and if it does not count, why.

mod dead_letter;
mod outbox;
mod redis;
mod verdict;

use std::process::ExitCode;

use serde::Serialize;
use views_core::{ids::PostId, settings::EXIT_CONFIG};
use views_postgres::{
    DatabaseError,
    explain::{Base, ViewFacts},
};

use self::{
    dead_letter::FoundLetter,
    outbox::FoundEntry,
    redis::PostInRedis,
    verdict::{Evidence, Verdict},
};
use super::{
    look::{Look, in_time},
    output,
};
use crate::cli::{SyncSettings, explain::ExplainSettings};

/// What has become of a view. What is not known is null.
#[derive(Debug, Serialize)]
struct Explanation {
    post: String,
    viewer: String,
    verdict: Verdict,
    /// The verdict in words.
    text: String,
    /// Whether the view counts, or will.
    counts: bool,
    ledger: Option<Ledger>,
    outbox: Option<FoundEntry>,
    dead: Option<FoundLetter>,
    redis: Option<PostInRedis>,
    /// What could not be looked at, and why.
    unknown: Vec<String>,
    #[serde(skip)]
    is_unfit: bool,
}

/// What PostgreSQL has.
#[derive(Debug, Serialize)]
struct Ledger {
    stored: bool,
    viewed_at: Option<String>,
    author: Option<String>,
    count: i64,
    base: Option<i64>,
    rows: Option<i64>,
    /// Whether the count is what base and rows make.
    agrees: Option<bool>,
}

/// Explains a view. The exit status is 0 where it counts or will, 78 where a store is not as it is needed, and else 1.
///
/// # Errors
/// When the settings do not fit together.
pub async fn run(settings: SyncSettings, command: ExplainSettings) -> anyhow::Result<ExitCode> {
    let mut look = Look::open(&settings).await?;
    let ExplainSettings { post, viewer, json } = command;
    let (mut unknown, mut is_unfit) = (Vec::new(), false);
    let database = &look.context.database;
    let facts = match &look.database {
        Ok(_) => in_time(database.explain(&post, &viewer)).await,
        Err(error) => Err(error.clone()),
    };
    let facts = match facts {
        Ok(facts) => Some(facts),
        Err(error) => {
            is_unfit = matches!(error, DatabaseError::Setup(_));
            unknown.push(error.to_string());
            None
        }
    };
    // A post may have more viewers than can be counted in time.
    let rows = match &facts {
        Some(Some(facts)) => in_time(database.ledger_rows(&facts.id)).await.ok(),
        _ => None,
    };
    let fits = match in_time(database.schema()).await {
        Ok(schema) => schema.accepts_viewer(&viewer),
        Err(_) => true,
    };
    let (mut in_redis, mut entry, mut letter) = (None, None, None);
    if let Err(error) = &look.redis {
        unknown.push(format!("Redis is away ({}): {error}", look.redis_url));
    } else {
        if look.database.is_ok()
            && let Ok(Some(Err(foreign))) = look.owner().await
        {
            is_unfit = true;
            unknown.push(foreign.to_string());
        }
        in_redis = keep(redis::look(&mut look, &post, &viewer).await, "the post's keys cannot be read", &mut unknown);
        let from = in_redis.as_ref().and_then(|post| post.settled);
        entry = keep(outbox::find(&mut look, &post, &viewer, from).await, "the outbox cannot be read", &mut unknown).flatten();
        let found = dead_letter::find(&mut look, &post, &viewer).await;
        letter = keep(found, "the dead letters cannot be read", &mut unknown).flatten();
    }
    let evidence = Evidence {
        facts: facts.as_ref().map(Option::as_ref),
        viewer: viewer.as_str(),
        viewer_fits: fits,
        in_redis: in_redis.as_ref(),
        entry: entry.as_ref(),
        letter: letter.as_ref(),
        outbox_is_known: look.redis.is_ok(),
    };
    let (verdict, mut text) = verdict::decide(&evidence);
    if verdict == Verdict::OnItsWay && entry.as_ref().is_some_and(FoundEntry::is_late) {
        text.push_str(&waits_for(&look, &post).await);
    }
    let explanation = Explanation {
        post: post.to_string(),
        viewer: viewer.to_string(),
        counts: matches!(verdict, Verdict::Stored | Verdict::OnItsWay),
        verdict,
        text,
        ledger: facts.flatten().map(|facts| Ledger::of(&facts, rows)),
        outbox: entry,
        dead: letter,
        redis: in_redis,
        unknown,
        is_unfit,
    };
    output::print(json, &explanation, || explanation.text())?;
    Ok(match explanation {
        Explanation { counts: true, .. } => ExitCode::SUCCESS,
        Explanation { is_unfit: true, .. } => ExitCode::from(EXIT_CONFIG),
        _ => ExitCode::FAILURE,
    })
}

/// Returns what was found, or notes why it could not be looked at.
fn keep<T, E: std::fmt::Display>(result: Result<T, E>, what: &str, unknown: &mut Vec<String>) -> Option<T> {
    result.map_err(|error| unknown.push(format!("{what}: {error}"))).ok()
}

/// Returns what a view that waits for long waits for, as far as that can be seen.
async fn waits_for(look: &Look, post: &PostId) -> String {
    let database = &look.context.database;
    let Ok(schema) = in_time(database.schema()).await else { return String::new() };
    let leads = in_time(database.candidates(&schema, look.context.keys.are_in_cluster())).await;
    let leads = leads.map(|candidates| candidates.drains(look.context.keys.partition(post)));
    if matches!(leads, Ok(false)) {
        return ": no view-syncd leads, which would store it: start it".to_owned();
    }
    let Ok(sessions) = in_time(database.other_sessions(&schema.tables)).await else { return String::new() };
    let is_long = |open: Option<std::time::Duration>| open.is_none_or(|open| open >= outbox::LATE);
    let holders = sessions.iter().filter(|session| !session.locks.is_empty() && is_long(session.transaction));
    let holders: Vec<String> =
        holders.map(|session| format!("backend {} ({}, {})", session.backend, session.role, session.locks.join(", "))).collect();
    if holders.is_empty() {
        return ": `view-syncd doctor`, and /readyz of the view-syncd that leads, say for what".to_owned();
    }
    format!(", held back by a lock, it seems: that of {}", holders.join("; "))
}

impl Ledger {
    fn of(facts: &ViewFacts, rows: Option<i64>) -> Self {
        let base = if let Base::Known(base) = facts.base { Some(base) } else { None };
        let agrees = base.zip(rows).map(|(base, rows)| base.saturating_add(rows) == facts.views);
        Self {
            stored: facts.is_stored,
            viewed_at: facts.viewed_at_ms.map(output::moment),
            author: Some(facts.author.clone()).filter(|author| !author.is_empty()),
            count: facts.views,
            base,
            rows,
            agrees,
        }
    }

    fn count_text(&self) -> String {
        let number = |number: Option<i64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let parts = format!("{} in PostgreSQL, base {} + ledger {}", self.count, number(self.base), number(self.rows));
        match self.agrees {
            Some(true) => format!("{parts}: agrees"),
            Some(false) => format!("{parts}: differs, `view-syncd recount --post` mends that"),
            None if self.base.is_none() => {
                format!("{parts}: the base was not remembered, or the role may not read it (docs/adopt.md)")
            }
            None => format!("{parts}: there are too many viewers to count them in time"),
        }
    }
}

impl Explanation {
    fn text(&self) -> String {
        let mut text = output::wrapped(&format!("{}: {}", self.verdict.as_str(), self.text), 0);
        text.push('\n');
        let mut rows = vec![["post".to_owned(), self.post.clone()], ["viewer".to_owned(), self.viewer.clone()]];
        let mut row = |name: &str, told: String| rows.push([name.to_owned(), told]);
        if let Some(ledger) = &self.ledger {
            let since = ledger.viewed_at.as_ref().map_or_else(String::new, |at| format!(" since {at}"));
            row("author", ledger.author.clone().unwrap_or_else(|| "none".to_owned()));
            row("ledger", if ledger.stored { format!("has the viewer{since}") } else { "does not have the viewer".to_owned() });
        }
        if let Some(redis) = &self.redis {
            row("outbox", self.outbox.as_ref().map_or_else(|| "does not have the view".to_owned(), FoundEntry::text));
            row("dead", self.dead.as_ref().map_or_else(|| "no dead letter".to_owned(), FoundLetter::text));
            row("set", redis.set_text());
            row("live count", redis.count_text(self.ledger.as_ref().map(|ledger| ledger.count)));
        }
        if let Some(ledger) = &self.ledger {
            row("count", ledger.count_text());
        }
        for unknown in &self.unknown {
            row("not known", unknown.clone());
        }
        text.push_str(&output::table(&rows));
        text
    }
}
