//! libpq's other way to name a database: `host=db user=app password='a b'`.

/// Reads settings as libpq does: blanks may stand around the sign, a value in single quotes may hold blanks, and a
/// backslash takes the next character as it is. Returns each name with its value; `None` where it cannot be read.
pub(super) fn read(text: &str) -> Option<Vec<(String, String)>> {
    let mut settings = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, behind) = rest.split_once('=')?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return None;
        }
        let (value, behind) = value(behind.trim_start())?;
        settings.push((name.to_owned(), value));
        rest = behind.trim_start();
    }
    Some(settings)
}

/// Reads a value. Returns what follows it, too.
fn value(text: &str) -> Option<(String, &str)> {
    let (is_quoted, text) = text.strip_prefix('\'').map_or((false, text), |text| (true, text));
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((place, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            '\'' if is_quoted => return Some((value, &text[place + 1..])),
            letter if !is_quoted && letter.is_whitespace() => return Some((value, &text[place..])),
            letter => value.push(letter),
        }
    }
    (!is_quoted).then_some((value, ""))
}

/// Writes settings in a form that leaves nothing to interpretation.
pub(super) fn write(settings: &[(String, String)]) -> String {
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
    let words: Vec<_> = settings.iter().map(|(name, value)| format!("{name}='{}'", quoted(value))).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn settings_are_read_as_libpq_reads_them() {
        for (text, expected) in [
            ("", &[][..]),
            ("host=db user=u", &[("host", "db"), ("user", "u")]),
            (" host = db\tuser\n=\nu ", &[("host", "db"), ("user", "u")]),
            ("password='a  b' host=db", &[("password", "a  b"), ("host", "db")]),
            (r"password='it\'s \\' user=a\ b", &[("password", r"it's \"), ("user", "a b")]),
            ("password=a'b application_name='x://y'", &[("password", "a'b"), ("application_name", "x://y")]),
            ("password='' user=", &[("password", ""), ("user", "")]),
            ("password='a'user=u", &[("password", "a"), ("user", "u")]),
        ] {
            let expected = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(read(text), Some(expected), "{text}");
        }
        for text in ["host", "host db=x", "=db", "password='a", "postgres"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(settings in vec(("[a-z_]{1,8}", ".{0,12}"), 0..6)) {
            prop_assert_eq!(read(&write(&settings)), Some(settings));
        }
    }
}
