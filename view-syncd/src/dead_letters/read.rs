//! Reading dead letters.

use fred::error::Error;
use views_redis::resp::{Commands, List, Replies, Reply};

use super::{DeadLetter, field};
use crate::{
    engine::{Engine, refusal},
    outbox::EntryId,
};

/// Letters in one page.
const PAGE: i64 = 500;

/// A letter as it stands in the stream.
#[derive(Debug, Clone)]
pub(crate) struct StoredDeadLetter {
    pub(crate) id: EntryId,
    pub(crate) dead: DeadLetter,
}

impl Engine {
    /// Returns the letters behind `after`, up to `until`: a page of them, in their order.
    pub(crate) async fn dead_letters(
        &mut self,
        after: Option<EntryId>,
        until: Option<EntryId>,
    ) -> Result<Vec<StoredDeadLetter>, Error> {
        let start = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
        let end = until.map_or_else(|| "+".to_owned(), |id| id.to_string());
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        commands.command("XRANGE", 5).text(self.keys.dead()).text(&start).text(&end).text("COUNT").number(PAGE);
        self.line.exchange(&commands, &mut replies).await?;
        match replies.iter().next() {
            Some(Reply::List(page)) => Ok(page.iter().filter_map(dead_letter).collect()),
            other => Err(refusal(other)),
        }
    }

    /// Deletes letters.
    pub(crate) async fn delete_dead(&mut self, ids: &[EntryId]) -> Result<(), Error> {
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        for chunk in ids.chunks(usize::try_from(PAGE).unwrap_or(1)) {
            commands.clear();
            commands.command("XDEL", 1 + chunk.len()).text(self.keys.dead());
            for id in chunk {
                commands.text(&id.to_string());
            }
            self.line.exchange(&commands, &mut replies).await?;
            let reply = replies.iter().next();
            if !matches!(reply, Some(Reply::Integer(_))) {
                return Err(refusal(reply));
            }
        }
        Ok(())
    }
}

fn dead_letter(entry: Reply<'_>) -> Option<StoredDeadLetter> {
    let Reply::List(entry) = entry else { return None };
    let mut parts = entry.iter();
    let (Some(Reply::Text(id)), Some(Reply::List(fields))) = (parts.next(), parts.next()) else { return None };
    let id: EntryId = id.parse().ok()?;
    // Letters of an earlier version have no time: they were written when the view was drained.
    let at_ms = i64::try_from(id.ms).unwrap_or(i64::MAX);
    let mut dead = DeadLetter::new(&[], &[], "", at_ms);
    read_fields(fields, &mut dead);
    Some(StoredDeadLetter { id, dead })
}

fn read_fields(fields: List<'_>, dead: &mut DeadLetter) {
    let mut fields = fields.iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let bytes = match value {
            Reply::Text(text) => text.as_bytes(),
            Reply::Bytes(bytes) => bytes,
            _ => &[],
        };
        match name {
            Reply::Text(field::POST) => dead.post = bytes.to_vec().into(),
            Reply::Text(field::VIEWER) => dead.viewer = bytes.to_vec().into(),
            Reply::Text(field::REASON) => dead.reason = String::from_utf8_lossy(bytes).into_owned().into(),
            Reply::Text(field::AT) => dead.at_ms = value.number().unwrap_or(dead.at_ms),
            Reply::Text(field::RETRY) => dead.is_retryable = true,
            _ => {}
        }
    }
}
