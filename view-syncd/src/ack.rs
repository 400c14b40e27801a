//! Settling in Redis what PostgreSQL has committed: entries are deleted and counts set, in scripts of a bounded size.

use std::collections::HashMap;

use fred::{error::Error, interfaces::KeysInterface, types::Value};
use indexmap::IndexSet;
use shared::{
    failpoints,
    ids::PostId,
    redis::{
        self,
        resp::{Commands, Replies, Reply},
    },
    scripts::{self, AckedEntry},
};

use crate::{
    engine::{Engine, Failure, refusal},
    outbox::{Entries, EntryId},
};

/// Pairs that one script acknowledges, but for the rest of its last entry: it takes Redis about a millisecond.
const SCRIPT_PAIRS: usize = 500;
/// Posts whose keys are removed in one pipeline.
const CHUNK: usize = 500;

impl Engine {
    /// Acknowledges entries, over the link by which they were read. `views` holds the counts of all posts that exist; pairs of other posts end here.
    pub(crate) async fn acknowledge(
        &mut self,
        entries: &Entries,
        posts: &IndexSet<PostId>,
        link: u64,
        views: &HashMap<PostId, i64>,
    ) -> Result<(), Error> {
        let counts: Vec<Option<i64>> = posts.iter().map(|post| views.get(post).copied()).collect();
        let mut script = Script::new(posts, &counts);
        for (id, named) in entries.iter() {
            script.add(id, named);
            if script.pairs >= SCRIPT_PAIRS {
                self.send(&mut script, link).await?;
            }
        }
        self.send(&mut script, link).await
    }

    async fn send(&mut self, script: &mut Script<'_>, link: u64) -> Result<(), Error> {
        if script.entries.is_empty() {
            return Ok(());
        }
        failpoints::at("ack::before");
        script.commands.clear();
        scripts::acknowledge(&mut script.commands, &self.keys, &script.entries, &script.posts);
        self.line.exchange_over(link, &script.commands, &mut script.replies).await?;
        failpoints::at("ack::after");
        self.progress.made();
        let entries = script.entries.len();
        match script.replies.iter().next() {
            Some(Reply::Integer(deleted)) if usize::try_from(deleted) == Ok(entries) => {}
            Some(Reply::Integer(deleted)) => tracing::debug!(deleted, entries, "some entries had been acknowledged before"),
            other => return Err(refusal(other)),
        }
        script.clear();
        Ok(())
    }

    /// Removes the keys of posts that do not exist. Whoever has viewed them is counted nowhere.
    pub(crate) async fn remove_posts(&mut self, posts: &[PostId]) -> Result<(), Failure> {
        if !posts.is_empty() {
            self.check_owner().await?;
        }
        for chunk in posts.chunks(CHUNK) {
            let pipeline = self.redis.pipeline();
            for post in chunk {
                // The set may be large: its memory is freed aside.
                let () = pipeline.unlink(vec![self.keys.views(post), self.keys.meta(post)]).await?;
            }
            redis::send::<Value>(&self.redis, &pipeline).await.into_iter().try_for_each(|reply| reply.map(drop))?;
            for post in chunk {
                tracing::info!(%post, "removed the views of a post that does not exist in PostgreSQL");
            }
        }
        Ok(())
    }
}

/// The next script, and the memory that it leaves to the one after it.
struct Script<'a> {
    all: &'a IndexSet<PostId>,
    /// The counts of all posts, where they exist.
    counts: &'a [Option<i64>],
    entries: Vec<AckedEntry>,
    pairs: usize,
    /// The posts of this script, with their counts.
    posts: Vec<(PostId, i64)>,
    /// For each of all posts, its place in this script; zero where it has none.
    places: Vec<u32>,
    /// Those of all posts that have one.
    placed: Vec<u32>,
    commands: Commands,
    replies: Replies,
}

impl<'a> Script<'a> {
    fn new(all: &'a IndexSet<PostId>, counts: &'a [Option<i64>]) -> Self {
        Self {
            all,
            counts,
            entries: Vec::new(),
            pairs: 0,
            posts: Vec::new(),
            places: vec![0; all.len()],
            placed: Vec::new(),
            commands: Commands::default(),
            replies: Replies::default(),
        }
    }

    fn add(&mut self, id: EntryId, named: &[u32]) {
        self.pairs += named.len().max(1);
        let known = named.iter().filter_map(|post| self.place(*post)).collect();
        self.entries.push((id.to_string(), known));
    }

    /// A post's place in this script, counted from one; none for a post that does not exist.
    fn place(&mut self, post: u32) -> Option<u32> {
        let count = self.counts[post as usize]?;
        let place = &mut self.places[post as usize];
        if *place == 0 {
            self.posts.push((self.all[post as usize], count));
            self.placed.push(post);
            *place = u32::try_from(self.posts.len()).unwrap_or(u32::MAX);
        }
        Some(*place)
    }

    fn clear(&mut self) {
        for post in self.placed.drain(..) {
            self.places[post as usize] = 0;
        }
        self.entries.clear();
        self.posts.clear();
        self.pairs = 0;
    }
}
