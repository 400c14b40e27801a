//! Rows that begin with the place of what they are about.

use tokio_postgres::Row;

use crate::spelling::canonical_author;

/// Returns the places of so many ids, as a statement takes them.
pub(crate) fn places(number: usize) -> Vec<i32> {
    (0..i32::try_from(number).unwrap_or(i32::MAX)).collect()
}

/// Returns the element to which a row belongs that begins with its place.
pub(crate) fn at_place<'t, T>(row: &Row, all: &'t [T]) -> Option<(usize, &'t T)> {
    let place = usize::try_from(row.get::<_, i32>(0)).ok()?;
    Some((place, all.get(place)?))
}

/// Returns the author in a column, in its canonical spelling; empty where there is none.
pub(crate) fn author_of(row: &Row, column: usize) -> String {
    row.get::<_, Option<&str>>(column).map(canonical_author).unwrap_or_default()
}
