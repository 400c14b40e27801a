//! What is known of a post.

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
