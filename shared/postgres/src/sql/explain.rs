//! The statements that ask what has become of one view.

use super::{tables::Tables, types::CastTypes};

/// What is asked of one post and one viewer. Each is a statement of its own, as the role may lack the right for one.
#[derive(Debug, Clone)]
pub struct Explanations {
    /// Finds the post by its spellings `$1`. Gives its id, its author and its count.
    pub post: String,
    /// Gives a row where the ledger has the post `$1` and the viewer `$2`.
    pub pair: String,
    /// Gives when that pair was viewed, in milliseconds since 1970.
    pub viewed_at: String,
    /// Gives how many rows of the post `$1` the ledger has.
    pub rows: String,
    /// Gives the base of the post `$1`.
    pub base: String,
}

impl Explanations {
    pub(super) fn new(tables: &Tables, types: &CastTypes<'_>) -> Self {
        let Tables { posts, id, ledger, base, .. } = tables;
        let CastTypes { post, viewer, .. } = *types;
        let (author, views, join_counts) = (tables.author(), tables.views(), tables.join_counts());
        let exactly = if tables.ids_ignore_case { format!(" AND p.{id}::text = ANY($1::text[])") } else { String::new() };
        let is_pair = format!("v.post_id = $1::text::{post} AND v.user_id = $2::text::{viewer}");
        Self {
            post: format!(
                "-- explain: post\nSELECT p.{id}::text, {author}, {views}\nFROM {posts} p{join_counts}\n\
                 WHERE p.{id} = ANY($1::text[]::{post}[]){exactly} LIMIT 1"
            ),
            pair: format!("-- explain: pair\nSELECT FROM {ledger} v WHERE {is_pair} LIMIT 1"),
            viewed_at: format!(
                "-- explain: viewed at\nSELECT (extract(epoch FROM v.viewed_at::timestamptz) * 1000)::int8 FROM {ledger} v WHERE {is_pair} \
                 LIMIT 1"
            ),
            rows: format!("-- explain: rows\nSELECT count(*) FROM {ledger} v WHERE v.post_id = $1::text::{post}"),
            base: format!("-- explain: base\nSELECT b.base FROM {base} b WHERE b.post_id = $1::text::{post}"),
        }
    }
}
