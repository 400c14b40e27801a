//! A history that is over: every post viewed once, and every view in PostgreSQL. A million of them through HTTP and the
//! outbox would take minutes, and what is measured is what comes after.

use std::time::Duration;

use anyhow::{Context, ensure};
use views_core::{
    ids::PostId,
    keys::{Keys, field},
};
use views_redis::{
    Epoch, Redis, Session,
    resp::{Commands, Replies, Reply},
};

use crate::{
    population::{Population, Viewer},
    sql,
    stores::{AUTHOR, Stores},
};

/// Posts that are sent at once.
const CHUNK: usize = 1_000;
/// What both programs give a set and a hash of time to live, in seconds.
const TTL: i64 = 86_400;

/// How long Redis may take for a chunk.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Leaves behind what view-ingest and view-syncd leave behind when one viewer has viewed every post: in PostgreSQL a
/// row of the ledger and a count, in Redis a set and a hash with both their times to live, and nothing in the outbox.
pub(crate) async fn fill(stores: &Stores, population: &Population) -> anyhow::Result<()> {
    let viewer = population.viewers.first().context("nobody views")?;
    stores.sql.execute(sql::VIEW_EVERYTHING, &[&viewer.id]).await?;
    stores.sql.batch_execute(sql::COUNT_EVERYTHING_ONCE).await?;
    stores.sql.batch_execute(sql::ANALYZE).await?;
    stores.sql.batch_execute(sql::CHECKPOINT).await?;
    let mut session = Session::new(&Redis::from(stores.redis.clone()), TIMEOUT, Epoch::default());
    let (keys, mut commands, mut replies) = (Keys::default(), Commands::default(), Replies::default());
    for posts in population.posts.chunks(CHUNK) {
        commands.clear();
        for post in posts {
            view(&mut commands, &keys, &PostId::parse(post)?, viewer);
        }
        session.exchange(&commands, &mut replies).await?;
        ensure!(replies.iter().all(|reply| matches!(reply, Reply::Integer(_))), "Redis did not take a post");
    }
    Ok(())
}

fn view(commands: &mut Commands, keys: &Keys, post: &PostId, viewer: &Viewer) {
    let (views, meta) = (keys.views_parts(post), keys.meta_parts(post));
    commands.command("SADD", 2).parts(&views).text(&viewer.id);
    commands.command("EXPIRE", 2).parts(&views).number(TTL);
    commands.command("HSET", 9).parts(&meta).text(field::AUTHOR).text(AUTHOR);
    for counter in [field::PERSISTED, field::RECORDED, field::ACKED] {
        commands.text(counter).number(1);
    }
    commands.command("EXPIRE", 2).parts(&meta).number(TTL);
}
