//! What is asked of PostgreSQL, in the project's own terms: store pairs once, look posts up.

use std::{collections::HashMap, sync::Arc};

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::{
    ids::{PostId, ViewerId},
    postgres::{
        Database, DatabaseError,
        schema::{IdType, Schema},
    },
};

/// One viewer who saw one post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// The post.
    pub post: PostId,
    /// The viewer.
    pub viewer: ViewerId,
    /// When it was recorded, in milliseconds since 1970. Compared last, so that sorting puts the earliest of equal pairs first.
    pub at_ms: i64,
}

/// A post's count after pairs were stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The count in PostgreSQL.
    pub views: i64,
    /// How many of the pairs were new.
    pub added: i64,
}

/// What PostgreSQL knows of a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPost {
    /// The author in its canonical spelling; empty when the post has none.
    pub author: String,
    /// The count.
    pub views: i64,
    /// The viewers, where they are few enough to be given back to Redis; otherwise none.
    pub viewers: Vec<String>,
}

/// What became of pairs of one post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The count in PostgreSQL.
    pub views: i64,
    /// The author in its canonical spelling; empty when the post has none.
    pub author: String,
    /// The viewers whose pair was new.
    pub new: Vec<ViewerId>,
}

/// A pair as it is sent: the post, the viewer, and when it was recorded, in milliseconds since 1970.
pub type Sent<'a> = (&'a str, &'a str, i64);

/// Stores the pairs that are new and adds them to the posts' counts, in one statement that may be repeated at will.
///
/// The pairs must be sorted and free of repetitions, and acceptable for the columns' types (`IdType::accepts`).
/// Posts that do not exist are missing from the answer.
///
/// # Errors
/// [`DatabaseError`]; nothing has been stored then, or (when the connection broke) all of it.
pub async fn store<'a>(
    database: &Database,
    pairs: impl Iterator<Item = Sent<'a>> + Clone,
) -> Result<HashMap<PostId, Stored>, DatabaseError> {
    let rows = run_drain(database, pairs, false).await?;
    let stored = rows.iter().filter_map(|row| {
        let post = PostId::parse(row.get(0)).ok()?;
        Some((post, Stored { views: row.get(1), added: row.get(2) }))
    });
    let mut stored: HashMap<PostId, Stored> = stored.collect();
    // Where nothing was added, the count is that of the statement's snapshot. If the statement had to wait for another one that was storing
    // the same pairs, that is the count from before them.
    let unchanged: Vec<PostId> = stored.iter().filter(|(_, stored)| stored.added == 0).map(|(post, _)| *post).collect();
    if !unchanged.is_empty() {
        for (post, views) in counts(database, &unchanged).await? {
            stored.insert(post, Stored { views, added: 0 });
        }
    }
    Ok(stored)
}

/// The same as [`store`] (and [`prepare`] makes pairs what they must be), for callers that answer each viewer: tells which pairs were new, and who the authors are.
///
/// # Errors
/// As of [`store`].
pub async fn store_with_verdicts(database: &Database, pairs: &[Pair]) -> Result<HashMap<PostId, Verdict>, DatabaseError> {
    let pairs = pairs.iter().map(|pair| (pair.post.as_str(), pair.viewer.as_str(), pair.at_ms));
    let rows = run_drain(database, pairs, true).await?;
    let verdicts = rows.iter().filter_map(|row| {
        let post = PostId::parse(row.get(0)).ok()?;
        let author = row.get::<_, Option<&str>>(3).map(canonical_author).unwrap_or_default();
        let new = row.get::<_, Vec<&str>>(4).into_iter().filter_map(|viewer| ViewerId::parse(viewer).ok()).collect();
        Some((post, Verdict { views: row.get(1), author, new }))
    });
    Ok(verdicts.collect())
}

async fn run_drain<'a>(
    database: &Database,
    pairs: impl Iterator<Item = Sent<'a>> + Clone,
    name_new: bool,
) -> Result<Vec<tokio_postgres::Row>, DatabaseError> {
    let schema = database.schema().await?;
    let mut last = "";
    // The pairs of a post follow one another.
    let named = pairs.clone().map(|(post, ..)| post).filter(|post| std::mem::replace(&mut last, post) != *post);
    let named = ids(schema.post_type, named)?;
    let posts = ids(schema.post_type, pairs.clone().map(|(post, ..)| post))?;
    let viewers = ids(schema.viewer_type, pairs.clone().map(|(_, viewer, _)| viewer))?;
    let times: Vec<i64> = pairs.map(|(.., at_ms)| at_ms).collect();
    database.query(&schema.statements.drain, &[&*posts, &*viewers, &times, &*named, &name_new]).await
}

/// Ids as the statements of the drain and the scan take them: as texts that they cast, but for UUIDs, which are less than half as long
/// as what they are and cost the server no cast.
///
/// # Errors
/// [`DatabaseError::Rejected`], as of a cast: a column may have become one of UUIDs since its ids were found acceptable.
fn ids<'a>(id_type: IdType, ids: impl Iterator<Item = &'a str>) -> Result<Box<dyn ToSql + Sync + Send + 'a>, DatabaseError> {
    let uuid = |id| Uuid::try_parse(id).map_err(|error| DatabaseError::Rejected(format!("{id:?} is no UUID: {error}")));
    Ok(match id_type {
        IdType::Uuid => Box::new(ids.map(uuid).collect::<Result<Vec<Uuid>, _>>()?),
        _ => Box::new(ids.collect::<Vec<&str>>()),
    })
}

/// Sorts pairs by post and viewer, and keeps only the earliest of each.
pub fn prepare(pairs: &mut Vec<Pair>) {
    pairs.sort_unstable();
    pairs.dedup_by(|later, earlier| (later.post, later.viewer) == (earlier.post, earlier.viewer));
}

/// Looks posts up, with the viewers of those that have at most `few` views. Posts that do not exist are missing from the answer.
///
/// # Errors
/// [`DatabaseError`].
pub async fn look_up(database: &Database, posts: &[PostId], few: i64) -> Result<HashMap<PostId, KnownPost>, DatabaseError> {
    let schema = schema_for(database, posts.iter()).await?;
    let ids: Vec<&str> = posts.iter().filter(|post| schema.accepts_post(post)).map(PostId::as_str).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = database.query(&schema.statements.hydrate, &[&ids, &few]).await?;
    let known = rows.iter().filter_map(|row| {
        let post = PostId::parse(row.get(0)).ok()?;
        let author = row.get::<_, Option<&str>>(1).map(canonical_author).unwrap_or_default();
        Some((post, KnownPost { author, views: row.get(2), viewers: row.get(3) }))
    });
    Ok(known.collect())
}

/// The counts of those of the posts that exist.
///
/// # Errors
/// [`DatabaseError`].
pub async fn counts(database: &Database, posts: &[PostId]) -> Result<HashMap<PostId, i64>, DatabaseError> {
    let schema = schema_for(database, posts.iter()).await?;
    let ids: Vec<&str> = posts.iter().filter(|post| schema.accepts_post(post)).map(PostId::as_str).collect();
    let rows = database.query(&schema.statements.counts, &[&ids]).await?;
    let counts = rows.iter().filter_map(|row| Some((PostId::parse(row.get(0)).ok()?, row.get(1))));
    Ok(counts.collect())
}

/// Compares the counts that somebody knows of posts with PostgreSQL's. Gives the posts of which they differ, with PostgreSQL's count, or
/// nothing where there is no such post. What is as it is known to be costs a look at the index, and no row.
///
/// # Errors
/// [`DatabaseError`].
pub async fn compare(
    database: &Database,
    known: &[(PostId, Option<i64>)],
) -> Result<HashMap<PostId, Option<i64>>, DatabaseError> {
    let schema = schema_for(database, known.iter().map(|(post, _)| post)).await?;
    let (possible, impossible): (Vec<_>, Vec<_>) = known.iter().partition(|(post, _)| schema.accepts_post(post));
    let mut differences: HashMap<PostId, Option<i64>> = impossible.into_iter().map(|(post, _)| (post, None)).collect();
    if possible.is_empty() {
        return Ok(differences);
    }
    let ids = ids(schema.post_type, possible.iter().map(|(post, _)| post.as_str()))?;
    let views: Vec<Option<i64>> = possible.iter().map(|(_, views)| *views).collect();
    for row in database.query(&schema.statements.compare, &[&*ids, &views]).await? {
        let place = usize::try_from(row.get::<_, i64>(0) - 1).ok();
        if let Some((post, _)) = place.and_then(|place| possible.get(place)) {
            differences.insert(*post, row.get(1));
        }
    }
    Ok(differences)
}

/// The schema to look posts up with. A post whose id does not fit the column does not exist, unless the column is no longer what it was.
async fn schema_for(database: &Database, mut posts: impl Iterator<Item = &PostId>) -> Result<Arc<Schema>, DatabaseError> {
    database.schema_that(|schema| posts.all(|post| schema.accepts_post(post))).await
}

/// Whether the ledger can hold a viewer, by the type of its column as it was last read. Where that is unknown, nothing speaks against it.
/// This is asked for every view: it costs a look at a pointer, and no memory.
#[must_use]
pub fn seems_to_fit(database: &Database, viewer: &ViewerId) -> bool {
    database.last_known_schema().as_ref().is_none_or(|schema| schema.accepts_viewer(viewer))
}

/// Whether the ledger can never hold a viewer. The type is read anew before the answer is yes, but for once a second at most; where PostgreSQL
/// does not tell, what is known has to do.
pub async fn refuses(database: &Database, viewer: &ViewerId) -> bool {
    if seems_to_fit(database, viewer) {
        return false;
    }
    match database.schema_for_refusal().await {
        Ok(schema) => !schema.accepts_viewer(viewer),
        Err(_) => !seems_to_fit(database, viewer),
    }
}

/// An author whose spelling is no viewer id can never meet one, so it may stay as it is.
fn canonical_author(author: &str) -> String {
    ViewerId::parse(author).map_or_else(|_| author.to_owned(), |author| author.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(post: &str, viewer: &str, at_ms: i64) -> Pair {
        Pair { post: PostId::parse(post).unwrap(), viewer: ViewerId::parse(viewer).unwrap(), at_ms }
    }

    #[test]
    fn a_repeated_pair_is_kept_once_with_its_earliest_time() {
        let mut pairs = vec![pair("b", "x", 5), pair("a", "y", 9), pair("a", "y", 3), pair("a", "x", 7), pair("a", "y", 4)];
        prepare(&mut pairs);
        assert_eq!(pairs, [pair("a", "x", 7), pair("a", "y", 3), pair("b", "x", 5)]);
    }
}
