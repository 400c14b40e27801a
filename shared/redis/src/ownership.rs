//! The owner's name among the keys: read, taken where nobody has it, taken from somebody else.

use fred::{error::Error, types::Value};
use views_core::{
    keys::Keys,
    owner::{Foreign, Owner},
};

use crate::{Code, Redis};

/// What stands for the owner's name where the key holds no text. No ledger has this name.
pub const NO_TEXT: &str = "(no text)";

/// Reads the owner's name; none where nobody owns the keys.
///
/// # Errors
/// Redis's error.
pub async fn read(redis: &Redis, keys: &Keys) -> Result<Option<String>, Error> {
    match redis.send(&["GET", keys.owner()]).await {
        Ok(Value::Null) => Ok(None),
        Ok(name) => {
            Ok(Some(name.into_bytes().map_or_else(|| NO_TEXT.to_owned(), |name| String::from_utf8_lossy(&name).into_owned())))
        }
        Err(error) if Code::of(error.details()) == Code::WrongType => Ok(Some(NO_TEXT.to_owned())),
        Err(error) => Err(error),
    }
}

/// Makes a ledger the owner of the keys, unless there is one, and tells whether it is now.
///
/// # Errors
/// Redis's error.
pub async fn take(redis: &Redis, keys: &Keys, owner: &Owner) -> Result<Result<(), Foreign>, Error> {
    let mut found = read(redis, keys).await?;
    if found.is_none() {
        match redis.send(&["SET", keys.owner(), owner.as_str(), "NX"]).await {
            Ok(_) => found = read(redis, keys).await?,
            // A full Redis is emptied all the same: that nobody owns the keys is no reason to leave them.
            Err(error) if is_full(error.details()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found.map_or(Ok(()), |found| owner.check(keys, &found)))
}

/// Makes a ledger the owner of the keys, whoever it was before. Returns that one's name.
///
/// # Errors
/// Redis's error.
pub async fn claim(redis: &Redis, keys: &Keys, owner: &Owner) -> Result<Option<String>, Error> {
    let before = read(redis, keys).await?;
    for key in keys.owners() {
        redis.send(&["SET", key, owner.as_str()]).await?;
    }
    Ok(before)
}

/// Returns whether a command was refused for want of memory.
#[must_use]
pub fn is_full(details: &str) -> bool {
    Code::of(details) == Code::OutOfMemory
}

/// Returns whether the account's rights do not cover the owner's key.
#[must_use]
pub fn is_forbidden(error: &Error) -> bool {
    Code::of(error.details()) == Code::NoPermission
}
