//! Whatever stands in the outbox, every pair of it is accounted for exactly once: as a pair or as a dead letter.

use fred::types::Value;
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest},
};
use shared::ids::{PostId, ViewerId};
use testkit::properties::cases;

use super::entries;

/// A reply of any form: what Redis may send, and what it never would.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(Value::Queued),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_map(Value::Double),
        vec(any::<u8>(), 0..80).prop_map(|bytes| Value::Bytes(bytes.into())),
        any::<String>().prop_map(Value::from),
        "[0-9]{1,22}(-[0-9]{0,22})?".prop_map(Value::from),
        "[A-Za-z0-9_-]{1,66}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| vec(inner, 0..6).prop_map(Value::Array))
}

/// A field as Redis keeps it: any bytes, but mostly an id or almost one.
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

/// The reply as the client gives it: a text where the bytes are one.
fn reply(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => Value::Bytes(bytes.to_vec().into()),
    }
}

/// A post id in the only spelling under which views are counted.
fn post(bytes: &[u8]) -> Option<PostId> {
    let text = std::str::from_utf8(bytes).ok()?;
    PostId::parse(text).ok().filter(|post| post.as_str() == text)
}

proptest! {
    #![proptest_config(cases(1_500))]

    #[test]
    fn no_reply_is_too_odd_to_be_read(page in value()) {
        for entry in entries(page) {
            let counted: usize = entry.posts.values().sum();
            assert!(entry.pairs.len() <= counted && counted <= entry.pairs.len() + entry.dead.len());
        }
    }

    #[test]
    fn every_pair_is_a_pair_or_a_dead_letter(page in vec((any::<(u64, u64)>(), vec(field(), 0..24)), 0..5)) {
        let sent = page.iter().map(|((ms, sequence), fields)| {
            let fields = fields.iter().map(|field| reply(field)).collect();
            Value::Array(vec![format!("{ms}-{sequence}").into(), Value::Array(fields)])
        });
        let read = entries(Value::Array(sent.collect()));
        prop_assert_eq!(read.len(), page.len());
        for (entry, ((ms, sequence), fields)) in read.iter().zip(&page) {
            prop_assert_eq!((entry.id.ms, entry.id.sequence), (*ms, *sequence));
            let (mut pairs, mut dead, mut posts) = (entry.pairs.iter(), entry.dead.iter(), entry.posts.clone());
            for pair in fields.chunks(2) {
                let viewer = pair.get(1).and_then(|viewer| ViewerId::parse(std::str::from_utf8(viewer).ok()?).ok());
                let post = post(&pair[0]).filter(|_| pair.len() == 2);
                if let Some(left) = post.and_then(|post| posts.get_mut(&post)) {
                    *left -= 1;
                }
                match post.zip(viewer) {
                    Some((post, viewer)) => {
                        prop_assert_eq!(pairs.next().map(|pair| (pair.post, pair.viewer)), Some((post, viewer)));
                    }
                    None => {
                        let letter = dead.next().map(|letter| (letter.post.to_vec(), letter.viewer.to_vec()));
                        prop_assert_eq!(letter, Some((pair[0].clone(), pair.get(1).cloned().unwrap_or_default())));
                    }
                }
            }
            prop_assert_eq!((pairs.len(), dead.len()), (0, 0));
            // As many pairs will be acknowledged as the entry has of each post that is one.
            prop_assert_eq!(posts.values().sum::<usize>(), 0);
        }
    }
}
