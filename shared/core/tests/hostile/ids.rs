use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use testkit::properties::{cases, text};
use views_core::{
    ids::{MAX_POST_ID, MAX_VIEWER_ID, PostId, ViewerId},
    keys::Keys,
};

/// The 32 digits of a UUID that is spelled with or without hyphens; nothing for another text.
fn uuid_digits(text: &str) -> Option<String> {
    let hyphens: Vec<usize> = text.match_indices('-').map(|(place, _)| place).collect();
    let spelled = (text.len() == 36 && hyphens == [8, 13, 18, 23]) || (text.len() == 32 && hyphens.is_empty());
    let digits = text.replace('-', "").to_ascii_lowercase();
    (spelled && digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(digits)
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn a_post_id_is_what_the_documentation_says_and_nothing_else(text in text::of_an_id()) {
        let right = (1..=MAX_POST_ID).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        let parsed = PostId::parse(&text);
        prop_assert_eq!(parsed.is_ok(), right);
        if let Ok(post) = parsed {
            prop_assert_eq!(PostId::parse(&post.to_string()), Ok(post));
            match uuid_digits(&text) {
                Some(digits) => prop_assert_eq!(uuid_digits(post.as_str()), Some(digits)),
                None => prop_assert_eq!(post.as_str(), &text),
            }
        }
    }

    #[test]
    fn a_viewer_id_is_what_the_documentation_says_and_nothing_else(text in text::of_an_id()) {
        let right = (1..=MAX_VIEWER_ID).contains(&text.len()) && text.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
        let parsed = ViewerId::parse(&text);
        prop_assert_eq!(parsed.is_ok(), right);
        if let Ok(viewer) = parsed {
            prop_assert_eq!(ViewerId::parse(&viewer.to_string()), Ok(viewer));
            match uuid_digits(&text) {
                Some(digits) => prop_assert_eq!(uuid_digits(viewer.as_str()), Some(digits)),
                None => prop_assert_eq!(viewer.as_str(), &text),
            }
        }
    }

    #[test]
    fn no_id_leaves_its_key_or_its_slot(text in text::of_an_id()) {
        if let Ok(post) = PostId::parse(&text) {
            let keys = Keys::default();
            let (views, meta) = (keys.views(&post), keys.meta(&post));
            prop_assert_eq!(keys.post_of_views(&views), Some(post));
            // Redis takes what is between the first opening brace and the next closing one.
            prop_assert_eq!(views.matches(['{', '}']).count(), 0);
            prop_assert_eq!(views.matches(':').count(), 2);
            let inside = meta.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            prop_assert_eq!(inside, Some((views.as_str(), ":meta")));
            // A key of the scan's pattern must be found by it, so nothing in it may be a pattern itself.
            prop_assert!(!views.contains(['*', '?', '[', ']', '\\', '^']));
        }
    }

    #[test]
    fn a_key_that_gives_a_post_is_that_posts_key(id in text::of_an_id(), key in any::<String>()) {
        let keys = Keys::default();
        for key in [format!("post:{id}:views"), format!("post:{key}:views"), format!("post:{id}"), format!("{id}:views"), key] {
            if let Some(post) = keys.post_of_views(&key) {
                prop_assert_eq!(keys.views(&post), key);
            }
        }
    }

    #[test]
    fn all_spellings_of_a_uuid_are_one_post_and_one_viewer(number in any::<u128>(), spelling in text::uuid_spelled_somehow()) {
        prop_assert_eq!(PostId::parse(&spelling), PostId::parse(&spelling.to_ascii_uppercase()));
        prop_assert_eq!(PostId::parse(&spelling), PostId::parse(&spelling.replace('-', "")));
        prop_assert_eq!(ViewerId::parse(&spelling), ViewerId::parse(&spelling.replace('-', "").to_ascii_uppercase()));
        let other = format!("{number:032X}");
        let same = uuid_digits(&other) == uuid_digits(&spelling);
        prop_assert_eq!(PostId::parse(&other) == PostId::parse(&spelling), same);
    }
}
