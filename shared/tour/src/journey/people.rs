//! Who is there, and which posts: those of `deploy/demo/posts.sql`, and one that does not exist.

/// The post that is followed, which has 41 views from the time before there was a ledger.
pub(super) const POST: &str = "550e8400-e29b-41d4-a716-446655440000";
/// Two more posts.
pub(super) const SECOND: &str = "550e8400-e29b-41d4-a716-446655440001";
pub(super) const THIRD: &str = "550e8400-e29b-41d4-a716-446655440002";
/// No post.
pub(super) const NOBODYS: &str = "550e8400-e29b-41d4-a716-44665544ffff";
pub(super) const AUTHOR_ID: &str = "a0000000-0000-4000-8000-000000000001";
pub(super) const VIEWER_ID: &str = "b0000000-0000-4000-8000-000000000001";
pub(super) const FRIEND_ID: &str = "b0000000-0000-4000-8000-000000000002";
pub(super) const ADMIN_ID: &str = "c0000000-0000-4000-8000-000000000001";
