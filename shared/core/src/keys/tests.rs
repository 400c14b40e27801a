use super::*;
use crate::partition::hashed;

fn prefixed() -> Keys {
    Keys::with_prefix("copy:").unwrap()
}

#[test]
fn the_documented_layout_is_kept() {
    let post = PostId::parse("550e8400-e29b-41d4-a716-446655440000").unwrap();
    let keys = Keys::default();
    assert_eq!(keys.views(&post), "post:550e8400-e29b-41d4-a716-446655440000:views");
    assert_eq!(keys.meta(&post), "{post:550e8400-e29b-41d4-a716-446655440000:views}:meta");
    let others = [keys.outbox(), keys.dead(), keys.updates(), keys.owner()];
    assert_eq!(others, ["views:outbox", "views:dead", "views:updates", "views:owner"]);
}

#[test]
fn all_names_begin_with_the_prefix() {
    let post = PostId::parse("42").unwrap();
    let keys = prefixed();
    assert_eq!(keys.prefix(), "copy:");
    assert_eq!((keys.views(&post), keys.meta(&post)), ("copy:post:42:views".into(), "copy:{post:42:views}:meta".into()));
    let others = [keys.outbox(), keys.dead(), keys.updates(), keys.owner()];
    assert_eq!(others, ["copy:views:outbox", "copy:views:dead", "copy:views:updates", "copy:views:owner"]);
    assert_eq!(keys.scan_pattern(), "copy:*post:*:views*");
}

#[test]
fn a_prefix_is_short_and_of_plain_characters() {
    for prefix in ["", "a", "app-1/stage_2:v.3:", &"x".repeat(64)] {
        assert!(Keys::with_prefix(prefix).is_ok(), "{prefix}");
    }
    for prefix in ["{app}:", "a*", "a?", "[a]", "a\\", "a b", "a\n", "при", "^", &"x".repeat(65)] {
        assert_eq!(Keys::with_prefix(prefix).unwrap_err(), InvalidPrefix, "{prefix}");
    }
}

#[test]
fn the_meta_hash_lives_in_the_slot_of_the_set() {
    let post = PostId::parse("42").unwrap();
    let meta = Keys::default().meta(&post);
    let tag = &meta[meta.find('{').unwrap() + 1..meta.find('}').unwrap()];
    assert_eq!(tag, Keys::default().views(&post));
}

#[test]
fn the_keys_of_a_post_share_a_slot_in_a_cluster_whatever_the_prefix() {
    let longest = Keys::with_prefix(&"x".repeat(64)).unwrap();
    for keys in [Keys::default(), prefixed(), longest].map(Keys::in_cluster) {
        for id in ["7", "550e8400-e29b-41d4-a716-446655440000", &"y".repeat(64)] {
            let post = PostId::parse(id).unwrap();
            assert_eq!(slot(keys.views(&post).as_bytes()), keys.slot(&post));
            assert_eq!(hashed(keys.meta(&post).as_bytes()), keys.views(&post).as_bytes());
            assert!(keys.meta(&post).starts_with(keys.prefix()));
        }
    }
}

#[test]
fn each_partition_of_a_cluster_has_its_outbox_and_its_owner_in_its_first_slot() {
    let (alone, keys) = (Keys::default(), Keys::default().in_cluster());
    assert_eq!((keys.partitions().count(), keys.drained_partitions().count()), (64, 65));
    for (number, partition) in keys.partitions().enumerate() {
        let names = [keys.outbox_of(partition), keys.owner_of(partition)];
        assert_eq!(names.map(|name| usize::from(slot(name.as_bytes()))), [number * 256; 2]);
    }
    assert_eq!(keys.outbox_of(keys.partitions().next().unwrap()), "views:outbox:{1bz}");
    assert_eq!(keys.outbox_of(Partition::LEGACY), "views:outbox");
    assert_eq!(slot(keys.owner_of(Partition::LEGACY).as_bytes()), slot(b"views:outbox"));
    assert_eq!((alone.partitions().count(), alone.drained_partitions().count()), (1, 1));
    assert_eq!((alone.outbox_of(Partition::WHOLE), alone.owner_of(Partition::WHOLE)), ("views:outbox", "views:owner"));
    let of_prefix = prefixed().in_cluster();
    assert_eq!(of_prefix.outbox_of(Partition::of_slot(256)), "copy:views:outbox:{nbd}");
}

#[test]
fn a_scanned_key_gives_its_post_back() {
    let post = PostId::parse("Post_7").unwrap();
    for keys in [Keys::default(), prefixed(), Keys::default().in_cluster(), prefixed().in_cluster()] {
        assert_eq!(keys.post_of_views(&keys.views(&post)), Some(post));
        assert_eq!(keys.post_of_meta(&keys.meta(&post)), Some(post));
    }
}

#[test]
fn a_scanned_key_is_a_set_a_hash_or_neither() {
    let post = PostId::parse("Post_7").unwrap();
    for keys in [Keys::default(), prefixed(), Keys::default().in_cluster()] {
        let scanned = |name: &str| keys.scanned(&format!("{}{name}", keys.prefix()));
        assert_eq!(keys.scanned(&keys.views(&post)), ScannedKey::Views(post));
        assert_eq!(keys.scanned(&keys.meta(&post)), ScannedKey::Meta(post));
        for name in ["post:a b:views", "post::views", "post:a:b:views", "post:550E8400-E29B-41D4-A716-446655440000:views"] {
            assert_eq!(scanned(name), ScannedKey::Misnamed(VIEWS_PATTERN), "{name}");
            assert_eq!(scanned(&format!("{{{name}}}:meta")), ScannedKey::Misnamed(META_PATTERN), "{name}");
        }
        for name in
            ["xpost:a:views", "post:a:viewsx", "post:views", "post:a:views:old", "{post:a:views}", "{post:a:views}:metadata"]
        {
            assert_eq!(scanned(name), ScannedKey::Foreign, "{name}");
        }
    }
}

#[test]
fn keys_behind_another_prefix_are_foreign() {
    let post = PostId::parse("7").unwrap();
    let all = ["", "copy:", "copy", "copy:copy:", "c:"].map(|prefix| Keys::with_prefix(prefix).unwrap());
    for (own, keys) in all.iter().enumerate() {
        for (other, scanner) in all.iter().enumerate() {
            for key in [keys.views(&post), keys.meta(&post)] {
                let is_foreign = scanner.scanned(&key) == ScannedKey::Foreign;
                assert_eq!(is_foreign, own != other, "{key} for {scanner:?}");
            }
        }
    }
}

#[test]
fn keys_of_no_post_are_passed_over() {
    for key in [
        "post::views",
        "post:a b:views",
        "post:a:b:views",
        "xpost:a:views",
        "post:a:viewsx",
        "post:550E8400-E29B-41D4-A716-446655440000:views",
    ] {
        assert_eq!(Keys::default().post_of_views(key), None, "{key}");
    }
}
