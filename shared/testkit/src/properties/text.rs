//! Texts that are likely to be trouble: anything at all, and what is almost right.

use proptest::prelude::{Just, Strategy, any, prop_oneof};

/// Anything at all, what ids are made of with something else in between, UUIDs in any spelling, and texts around the
/// limits of length.
pub fn of_an_id() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[A-Za-z0-9_-]{0,70}",
        "[!-~]{0,140}",
        "[A-Za-z0-9_-]{0,20}[\\PC\\pC][A-Za-z0-9_-]{0,20}",
        uuid_spelled_somehow(),
        ("(urn:uuid:|\\{|)", uuid_spelled_somehow(), "(\\}|\n|\0|)").prop_map(|(before, uuid, behind)| before + &uuid + &behind),
        (0_usize..200).prop_map(|length| "7".repeat(length)),
    ]
}

/// Returns a UUID: hyphens or none, upper case here and there.
pub fn uuid_spelled_somehow() -> impl Strategy<Value = String> {
    (any::<u128>(), any::<u64>(), prop_oneof![Just(true), Just(false)]).prop_map(|(number, upper, hyphens)| {
        let digits = format!("{number:032x}");
        let mut text = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if hyphens && [8, 12, 16, 20].contains(&place) {
                text.push('-');
            }
            text.push(if upper >> place & 1 == 1 { digit.to_ascii_uppercase() } else { digit });
        }
        text
    })
}
