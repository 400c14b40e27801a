//! The entries of a batch, and which posts each of them names: what is needed to acknowledge them when the pairs are
//! forgotten.

use crate::entry_id::EntryId;

/// An entry that is to be acknowledged.
#[derive(Debug, Clone, Copy)]
struct Mark {
    id: EntryId,
    /// Where the list of the posts that it names ends, which begins where that of the entry before it ends.
    end: usize,
}

/// The entries that name a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first of them.
    pub(crate) first: EntryId,
    /// The last of them.
    pub(crate) last: EntryId,
    /// How many pairs of the post they have.
    pub(crate) pairs: u64,
}

/// Entries, and the posts they name.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    marks: Vec<Mark>,
    /// The places of the named posts, as often as each of them is named: as many pairs, dead ones too, will be acknowledged.
    named: Vec<u32>,
}

impl Entries {
    /// Adds an entry. The posts that were named since the last entry was added are those of this one.
    pub(crate) fn push(&mut self, id: EntryId) {
        self.marks.push(Mark { id, end: self.named.len() });
    }

    /// Notes that the next entry names the post at a place once more.
    pub(crate) fn name(&mut self, place: u32) {
        self.named.push(place);
    }

    /// Returns the number of entries.
    pub(crate) fn len(&self) -> usize {
        self.marks.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Returns the ids of all entries.
    pub(crate) fn ids(&self) -> Vec<EntryId> {
        self.marks.iter().map(|mark| mark.id).collect()
    }

    /// Returns how many pairs of the entries behind one name a post, and the first and the last of the entries that do.
    pub(crate) fn span_behind(&self, place: u32, behind: EntryId) -> Option<Span> {
        let mut span: Option<Span> = None;
        for (id, named) in self.iter().filter(|(id, _)| *id > behind) {
            let pairs = named.iter().filter(|named| **named == place).count() as u64;
            if pairs > 0 {
                let span = span.get_or_insert(Span { first: id, last: id, pairs: 0 });
                (span.last, span.pairs) = (id, span.pairs + pairs);
            }
        }
        span
    }

    /// Returns each entry with the places of the posts that it names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (EntryId, &[u32])> {
        self.marks.iter().scan(0, |start, mark| {
            let named = &self.named[*start..mark.end];
            *start = mark.end;
            Some((mark.id, named))
        })
    }

    /// Returns the last entry.
    #[cfg(test)]
    pub(crate) fn last(&self) -> Option<EntryId> {
        self.marks.last().map(|mark| mark.id)
    }

    /// Returns the places of all named posts.
    #[cfg(test)]
    pub(crate) fn named(&self) -> &[u32] {
        &self.named
    }
}
