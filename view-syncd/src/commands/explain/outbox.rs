//! Looking for a view in the outbox, which may be long: page by page, with progress on a terminal.

use std::time::Duration;

use serde::Serialize;
use views_core::{
    ids::{PostId, ViewerId},
    partition::Partition,
};
use views_redis::{
    RedisError,
    resp::{Commands, List, Replies, Reply},
};

use crate::{
    commands::{look::Look, output, progress_bar::ProgressBar},
    entry_id::EntryId,
    error::refusal,
    reconcile::outboxes,
};

/// Entries in one page, each of which holds up to 128 pairs: a page takes Redis about a millisecond at the most.
const PAGE: i64 = 50;
/// An entry that waits for longer waits for something.
pub(super) const LATE: Duration = Duration::from_secs(3);

/// An entry that has the view.
#[derive(Debug, Serialize)]
pub(super) struct FoundEntry {
    id: String,
    at: String,
    age_seconds: f64,
}

impl FoundEntry {
    /// Returns whether it waits for longer than it should.
    pub(super) fn is_late(&self) -> bool {
        self.age() >= LATE
    }

    pub(super) fn text(&self) -> String {
        format!("entry {}, {} old", self.id, output::age(self.age()))
    }

    pub(super) fn age(&self) -> Duration {
        Duration::from_secs_f64(self.age_seconds)
    }
}

/// Looks for the first entry with the view: behind the one up to which the post is acknowledged and, where it is not
/// there, before it.
pub(super) async fn find(
    look: &mut Look,
    post: &PostId,
    viewer: &ViewerId,
    settled: Option<EntryId>,
) -> Result<Option<FoundEntry>, RedisError> {
    let partitions: Vec<Partition> = outboxes::partitions_of(&look.context.keys, post).collect();
    let lengths = outboxes::lengths(&mut look.session, &partitions).await?;
    let bar = ProgressBar::new("entries", lengths.values().sum::<i64>().unsigned_abs());
    let parts = match settled {
        Some(settled) => vec![(format!("({settled}"), "+".to_owned()), ("-".to_owned(), settled.to_string())],
        None => vec![("-".to_owned(), "+".to_owned())],
    };
    for partition in partitions {
        for (start, end) in &parts {
            let found = find_between(look, partition, [start, end], (post, viewer), &bar).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

/// Looks for the first entry with the view between two entries of an outbox.
async fn find_between(
    look: &mut Look,
    partition: Partition,
    [start, end]: [&String; 2],
    (post, viewer): (&PostId, &ViewerId),
    bar: &ProgressBar,
) -> Result<Option<FoundEntry>, RedisError> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let mut start = start.clone();
    loop {
        commands.clear();
        let outbox = look.context.keys.outbox_of(partition);
        commands.command("XRANGE", 5).text(outbox).text(&start).text(end).text("COUNT").number(PAGE);
        look.session.redis.exchange(&commands, &mut replies).await?;
        let page = match replies.iter().next() {
            Some(Reply::List(page)) => page,
            other => return Err(refusal(other)),
        };
        let mut last = None;
        for entry in page.iter() {
            let Reply::List(entry) = entry else { continue };
            let mut parts = entry.iter();
            let Some(id) = parts.next().and_then(Reply::text).and_then(|id| id.parse::<EntryId>().ok()) else { continue };
            if let Some(Reply::List(fields)) = parts.next()
                && has(fields, post, viewer)
            {
                let at = output::moment(i64::try_from(id.ms).unwrap_or(i64::MAX));
                return Ok(Some(FoundEntry { id: id.to_string(), at, age_seconds: look.age(id).as_secs_f64() }));
            }
            last = Some(id);
        }
        bar.add(page.len() as u64);
        match last {
            Some(last) if page.len() as i64 >= PAGE => start = format!("({last}"),
            _ => return Ok(None),
        }
    }
}

/// Returns whether an entry has the view.
fn has(fields: List<'_>, post: &PostId, viewer: &ViewerId) -> bool {
    let mut fields = fields.iter();
    while let (Some(named), Some(by)) = (fields.next(), fields.next()) {
        let is_viewer = || by.text().and_then(|by| ViewerId::parse(by).ok()).is_some_and(|by| by == *viewer);
        if named.text() == Some(post.as_str()) && is_viewer() {
            return true;
        }
    }
    false
}
