//! Ids as the database may spell them, and as statements take them.

use std::borrow::Cow;

use tokio_postgres::types::ToSql;
use uuid::Uuid;
use views_core::ids::{PostId, ViewerId};

use crate::{
    DatabaseError,
    schema::{IdType, Schema},
};

/// In which way the database may spell a post's id. A UUID in a column of texts is found however the application writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// As in [`PostId`]: a UUID in lower case with hyphens.
    Canonical,
    /// A UUID in upper case.
    Upper,
    /// A UUID without hyphens.
    Compact,
    /// A UUID in upper case without hyphens.
    CompactUpper,
}

impl Spelling {
    /// Returns the spelling to be tried after this one.
    pub(crate) fn next(self) -> Option<Self> {
        match self {
            Self::Canonical => Some(Self::Upper),
            Self::Upper => Some(Self::Compact),
            Self::Compact => Some(Self::CompactUpper),
            Self::CompactUpper => None,
        }
    }

    /// Returns whether a post that is not found may be there in another spelling.
    pub(crate) fn may_differ(schema: &Schema, post: &PostId) -> bool {
        schema.post_type.is_text() && post.as_str().len() == 36 && Uuid::try_parse(post.as_str()).is_ok()
    }

    /// Returns the ids of posts in all spellings that the database may have.
    pub(crate) fn all(schema: &Schema, posts: &[PostId]) -> Vec<String> {
        let spellings = |post: &PostId| {
            let next = |spelling: &Self| spelling.next().filter(|_| Self::may_differ(schema, post));
            let all = std::iter::successors(Some(Self::Canonical), next);
            all.map(|spelling| spelling.of(post.as_str()).into_owned()).collect::<Vec<_>>()
        };
        posts.iter().flat_map(spellings).collect()
    }

    /// Returns an id in this spelling.
    pub(crate) fn of(self, id: &str) -> Cow<'_, str> {
        match self {
            Self::Canonical => Cow::Borrowed(id),
            Self::Upper => Cow::Owned(id.to_ascii_uppercase()),
            Self::Compact => Cow::Owned(id.replace('-', "")),
            Self::CompactUpper => Cow::Owned(id.replace('-', "").to_ascii_uppercase()),
        }
    }
}

/// Ids as statements take them: as texts that they cast, but for UUIDs, which are less than half as long as what they
/// are and cost the server no cast.
#[derive(Debug)]
pub(crate) enum SentIds<'a> {
    /// UUIDs.
    Uuids(Vec<Uuid>),
    /// Anything else.
    Texts(Vec<Cow<'a, str>>),
}

impl<'a> SentIds<'a> {
    /// Prepares ids to be sent.
    ///
    /// # Errors
    /// [`DatabaseError::Setup`], as of a cast: a column may have become one of UUIDs since its ids were found acceptable.
    pub(crate) fn new(id_type: IdType, ids: Vec<Cow<'a, str>>) -> Result<Self, DatabaseError> {
        if id_type != IdType::Uuid {
            return Ok(Self::Texts(ids));
        }
        let uuid =
            |id: &Cow<'_, str>| Uuid::try_parse(id).map_err(|error| DatabaseError::Setup(format!("{id:?} is no UUID: {error}")));
        ids.iter().map(uuid).collect::<Result<_, _>>().map(Self::Uuids)
    }

    /// Returns the parameter.
    pub(crate) fn param(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Uuids(ids) => ids,
            Self::Texts(ids) => ids,
        }
    }
}

/// Returns an author whose spelling is no viewer id can never meet one, so it may stay as it is.
pub(crate) fn canonical_author(author: &str) -> String {
    ViewerId::parse(author).map_or_else(|_| author.to_owned(), |author| author.as_str().to_owned())
}
