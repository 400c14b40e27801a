//! A sample of the keys in Redis: how many posts there are about, and what else begins like this installation's keys.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use views_core::{ids::PostId, keys::ScannedKey};
use views_redis::{
    NodeId, RedisError,
    resp::{Commands, Replies, Reply},
};

use crate::{error::refusal, owned_session::OwnedSession};

/// Keys that one `SCAN` looks at: a fraction of a millisecond.
const STEP: i64 = 500;
/// Steps of the sample.
const STEPS: usize = 10;

/// What was found among some of the keys, or all of them.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    /// How many keys were looked at.
    keys: u64,
    /// The posts that they are of.
    posts: HashSet<PostId>,
    /// How many of them are hashes of posts.
    hashes: u64,
    /// Whether these were all.
    pub(crate) is_complete: bool,
    /// How many keys look like a post's and are not, by what they look like.
    pub(crate) misnamed: BTreeMap<&'static str, u64>,
    /// The prefixes of other installations.
    pub(crate) others: BTreeSet<String>,
}

impl Sample {
    /// Returns some of the posts that were found.
    pub(crate) fn some_posts(&self, most: usize) -> Vec<PostId> {
        self.posts.iter().take(most).copied().collect()
    }

    /// Returns about how many posts there are, where the database has so many keys.
    pub(crate) fn posts(&self, all_keys: u64) -> u64 {
        if self.is_complete || self.keys == 0 {
            return self.posts.len() as u64;
        }
        // A post has one hash. Its set is hardly ever in the same sample.
        u64::try_from(u128::from(self.hashes) * u128::from(all_keys) / u128::from(self.keys)).unwrap_or(u64::MAX)
    }
}

/// Looks at some of the keys.
pub(crate) async fn sample(session: &mut OwnedSession) -> Result<Sample, RedisError> {
    let keys = session.context.keys.clone();
    // Behind whichever prefix, the owner's name is the one key that every installation has.
    let owner = keys.owner().strip_prefix(keys.prefix()).unwrap_or_default().to_owned();
    let mut sample = Sample { is_complete: true, ..Sample::default() };
    for node in session.context.redis.nodes() {
        sample_node(session, node, &owner, &mut sample).await?;
    }
    Ok(sample)
}

/// Looks at some of the keys of a server.
async fn sample_node(session: &mut OwnedSession, node: NodeId, owner: &str, sample: &mut Sample) -> Result<(), RedisError> {
    let keys = session.context.keys.clone();
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let mut cursor = "0".to_owned();
    for _ in 0..STEPS {
        commands.clear();
        commands.command("SCAN", 3).text(&cursor).text("COUNT").number(STEP);
        session.redis.exchange_at(node, &commands, &mut replies).await?;
        let reply = replies.iter().next();
        let Some(Reply::List(parts)) = reply else { return Err(refusal(reply)) };
        let mut parts = parts.iter();
        let (Some(Reply::Text(next)), Some(Reply::List(found))) = (parts.next(), parts.next()) else {
            return Err(refusal(reply));
        };
        for key in found.iter() {
            sample.keys += 1;
            let Reply::Text(key) = key else { continue };
            match keys.scanned(key) {
                ScannedKey::Views(post) => drop(sample.posts.insert(post)),
                ScannedKey::Meta(post) => {
                    sample.hashes += 1;
                    sample.posts.insert(post);
                }
                ScannedKey::Misnamed(pattern) => *sample.misnamed.entry(pattern).or_default() += 1,
                ScannedKey::Foreign if key != keys.owner() => sample.others.extend(key.strip_suffix(owner).map(str::to_owned)),
                ScannedKey::Foreign => {}
            }
        }
        if next == "0" {
            return Ok(());
        }
        cursor = next.to_owned();
    }
    sample.is_complete = false;
    Ok(())
}
