//! Texts of others from which the ids of viewers are taken out: code of the application's in the database may put them
//! into its errors, and logs are read by many.

use std::borrow::Cow;

/// What stands in the place of an id.
const MASK: &str = "…";

/// Returns a text without an id, wherever it stands as a word.
#[must_use]
pub fn mask<'t>(text: &'t str, id: &str) -> Cow<'t, str> {
    if id.is_empty() || !text.contains(id) {
        return Cow::Borrowed(text);
    }
    let is_part = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
    let (mut masked, mut done) = (String::with_capacity(text.len()), 0);
    for (start, _) in text.match_indices(id) {
        let end = start + id.len();
        if !is_part(text[..start].chars().next_back()) && !is_part(text[end..].chars().next()) {
            masked.push_str(&text[done..start]);
            masked.push_str(MASK);
            done = end;
        }
    }
    masked.push_str(&text[done..]);
    Cow::Owned(masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_out_where_it_is_a_word() {
        for (text, id, expected) in [
            ("user ann is blocked", "ann", "user … is blocked"),
            ("ann: annual \"ann\" ann", "ann", "…: annual \"…\" …"),
            ("пользователь 7, 77, №7", "7", "пользователь …, 77, №…"),
            ("(a|b)", "a|b", "(…)"),
            ("closed", "ann", "closed"),
            ("closed", "", "closed"),
        ] {
            assert_eq!(mask(text, id), expected);
        }
    }
}
