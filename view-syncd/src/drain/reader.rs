//! Reading the outbox: entries in their order, page by page, and how much there is.

use std::sync::Arc;

use fred::{error::Error, interfaces::StreamsInterface, types::Value};
use views_postgres::schema::Schema;
use views_redis::resp::{Commands, Replies, Reply};

use super::batch::Batch;
use crate::{
    context::Context,
    entry_id::EntryId,
    error::{Failure, refusal},
    owned_session::OwnedSession,
};

/// Entries in one page. An entry of view-ingest holds up to 128 pairs: a page takes Redis about a millisecond at the most, and is small
/// beside a full batch.
const PAGE_ENTRIES: usize = 50;

/// Reads on, behind the last entry that was read, until the batch has about `limit` pairs or there is no more to be read for it.
pub(crate) async fn read_on(batch: &mut Batch, session: &mut OwnedSession, limit: usize) -> Result<(), Error> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    while batch.size < limit
        && let Some((start, end)) = batch.next_range()
    {
        commands.clear();
        let outbox = session.context.keys.outbox();
        commands.command("XRANGE", 5).text(outbox).text(&start).text(&end).text("COUNT").number(PAGE_ENTRIES as i64);
        if batch.connection == 0 {
            session.line.exchange(&commands, &mut replies).await?;
            batch.connection = session.line.number();
        } else {
            session.line.exchange_over(batch.connection, &commands, &mut replies).await?;
        }
        let page = match replies.iter().next() {
            Some(Reply::List(page)) => page,
            other => return Err(refusal(other)),
        };
        batch.is_at_end = page.len() < PAGE_ENTRIES;
        batch.take(page);
        if batch.is_at_end {
            break;
        }
    }
    Ok(())
}

/// Returns what the tables look like, looked up anew where an id seems not to fit: the application may have given a column another type.
pub(crate) async fn schema_fitting(context: &Context, batch: &Batch) -> Result<Arc<Schema>, Failure> {
    let schema = context.database.schema().await?;
    if batch.fits(&schema) { Ok(schema) } else { Ok(context.database.schema_to_give_up().await?) }
}

/// Returns the id of the newest entry; none where the outbox is empty.
pub(crate) async fn newest(context: &Context) -> Result<Option<EntryId>, Error> {
    let page: Vec<(String, Value)> = context.redis.xrevrange(context.keys.outbox(), "+", "-", Some(1)).await?;
    Ok(page.first().and_then(|(id, _)| id.parse().ok()))
}

/// Returns the number of entries, and the first of them.
pub(crate) async fn measure(session: &mut OwnedSession) -> Result<(i64, Option<EntryId>), Error> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let outbox = session.context.keys.outbox();
    commands.command("XLEN", 1).text(outbox);
    commands.command("XRANGE", 5).text(outbox).text("-").text("+").text("COUNT").number(1);
    session.line.exchange(&commands, &mut replies).await?;
    let mut all = replies.iter();
    let (length, first) = (all.next(), all.next());
    let (Some(Reply::Integer(length)), Some(Reply::List(page))) = (length, first) else {
        return Err(refusal(length.filter(|reply| matches!(reply, Reply::Error(_))).or(first)));
    };
    let mut first = Batch::default();
    first.take(page);
    Ok((length, first.read_to))
}

/// Returns the number of entries.
pub(crate) async fn length(context: &Context) -> Result<i64, Error> {
    context.redis.xlen(context.keys.outbox()).await
}
