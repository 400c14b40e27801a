//! Whatever stands in the outbox, every pair of it is accounted for exactly once: as a pair or as a dead letter.

use proptest::{
    collection::vec,
    prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest},
};
use testkit::properties::cases;
use views_core::ids::{PostId, ViewerId};
use views_redis::resp::{Replies, Reply};

use super::Batch;

/// Returns a field as Redis keeps it: any bytes, but mostly an id or almost one.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let texts = prop_oneof![
        "[A-Za-z0-9_-]{1,3}",
        "[A-Za-z0-9_-]{1,3}",
        "[A-Za-z0-9_-]{0,66}",
        "[!-~]{0,130}",
        "[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}",
        "[0-9a-f]{32}",
        any::<String>(),
    ];
    prop_oneof![texts.prop_map(String::into_bytes), vec(any::<u8>(), 0..12)]
}

/// Any reply: what Redis may send, and what it never would.
fn reply() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        vec(any::<u8>(), 0..40).prop_map(|bytes| bulk(&bytes)),
        "[0-9]{1,22}(-[0-9]{0,22})?".prop_map(|text| bulk(text.as_bytes())),
        any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
        "[ -~]{0,20}".prop_map(|text| format!("-{text}\r\n").into_bytes()),
        "[ -~]{0,20}".prop_map(|text| format!("+{text}\r\n").into_bytes()),
        vec(any::<u8>(), 0..1).prop_map(|_| b"$-1\r\n".to_vec()),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| vec(inner, 0..6).prop_map(|replies| list(&replies)))
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn list(replies: &[Vec<u8>]) -> Vec<u8> {
    [format!("*{}\r\n", replies.len()).into_bytes(), replies.concat()].concat()
}

/// What is read of a page of entries, each with its fields.
pub(super) fn page(entries: &[(String, Vec<Vec<u8>>)]) -> Batch {
    let entries = entries.iter().map(|(id, fields)| {
        let fields: Vec<Vec<u8>> = fields.iter().map(|field| bulk(field)).collect();
        list(&[bulk(id.as_bytes()), list(&fields)])
    });
    read(list(&entries.collect::<Vec<_>>()))
}

fn read(reply: Vec<u8>) -> Batch {
    let mut batch = Batch::default();
    let replies = Replies::decode(reply, 1).unwrap();
    if let Some(Reply::List(page)) = replies.iter().next() {
        batch.take(page);
    }
    batch
}

/// Returns a post id in the only spelling under which views are counted.
fn post(bytes: &[u8]) -> Option<PostId> {
    let text = std::str::from_utf8(bytes).ok()?;
    PostId::parse(text).ok().filter(|post| post.as_str() == text)
}

proptest! {
    #![proptest_config(cases(1_500))]

    #[test]
    fn no_reply_is_too_odd_to_be_read(reply in reply()) {
        let batch = read(reply);
        prop_assert_eq!(batch.size, batch.pairs.iter().count() + batch.dead.len());
        assert!(batch.entries.named().len() <= batch.size);
    }

    #[test]
    fn every_pair_is_a_pair_or_a_dead_letter(entries in vec((any::<(u64, u64)>(), vec(field(), 0..24)), 0..5)) {
        let sent: Vec<_> = entries.iter().map(|((ms, sequence), fields)| (format!("{ms}-{sequence}"), fields.clone())).collect();
        let batch = page(&sent);
        let (mut pairs, mut dead) = (batch.pairs.iter(), batch.dead.iter());
        prop_assert_eq!(batch.entries.len(), entries.len());
        for ((id, named), ((ms, sequence), fields)) in batch.entries.iter().zip(&entries) {
            prop_assert_eq!((id.ms, id.sequence), (*ms, *sequence));
            let mut expected = 0;
            for pair in fields.chunks(2) {
                let viewer = pair.get(1).and_then(|viewer| ViewerId::parse(std::str::from_utf8(viewer).ok()?).ok());
                let post = post(&pair[0]).filter(|_| pair.len() == 2);
                // As many pairs will be acknowledged as the entry has of posts that are one.
                expected += usize::from(post.is_some());
                match post.zip(viewer) {
                    Some((post, viewer)) => {
                        let found = pairs.next().map(|(post, viewer, _)| (post, viewer));
                        prop_assert_eq!(found, Some((post.as_str(), viewer.as_str())));
                    }
                    None => {
                        let dead_letter = dead.next().map(|(_, dead_letter)| (dead_letter.post.to_vec(), dead_letter.viewer.to_vec()));
                        prop_assert_eq!(dead_letter, Some((pair[0].clone(), pair.get(1).cloned().unwrap_or_default())));
                    }
                }
            }
            prop_assert_eq!(named.len(), expected);
        }
        prop_assert_eq!((pairs.count(), dead.count()), (0, 0));
    }
}
