//! What is told of a store's URL without repeating a part of its password.

/// Returns what is wrong with an option that nobody has heard of, in the query behind the rest of a URL. Its name may be
/// a part of a password with a question mark in it, and is told where it can be none.
#[must_use]
pub fn unknown_option(base: &str, query: &str, name: &str) -> String {
    if may_be_password(base, query, name) { "has an unknown option".to_owned() } else { format!("has an unknown option {name}") }
}

/// Demands that nothing in the value of a known option looks like the beginning of further ones, which nobody would
/// read: somebody has added `?sslmode=require` to what had a `?` already.
///
/// # Errors
/// What is wrong with it, which repeats nothing but the option's name.
pub fn one_value(name: &str, value: &str) -> Result<(), String> {
    if value.contains(['?', '#', ';']) {
        return Err(format!("{name}: its value has a ?, # or ; in it: a URL's options are joined by &"));
    }
    Ok(())
}

/// Returns whether this can be the name of a host. What cannot may be a whole list of settings, a password among them.
#[must_use]
pub fn may_be_host(text: &str) -> bool {
    !text.contains(|letter: char| letter.is_whitespace() || letter.is_control() || "/\\?#@,;=&\"'<>".contains(letter))
}

/// What is said of a host that can be none.
pub const NO_HOST: &str = "has a sign in its host that no host has: a URL's options stand behind a ?, and are joined by &";

fn may_be_password(base: &str, query: &str, name: &str) -> bool {
    let authority = base.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    let has_user = authority.contains('@');
    query.contains('@')
        || !has_user && port.bytes().any(|byte| !byte.is_ascii_digit() && byte != b']')
        || name.is_empty()
        || name.len() > 40
        || !name.bytes().all(|byte| byte.is_ascii_alphabetic() || b"_-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_and_a_host_is_one() {
        for bad in ["1?sslmode=require", "1#sslmode=require", "1;sslmode=require"] {
            let error = one_value("pool", bad).unwrap_err();
            assert!(error.starts_with("pool: ") && !error.contains("require"), "{error}");
        }
        assert_eq!(one_value("pool", "a/b c=1"), Ok(()));
        for host in ["db", "db-1.example", "10.0.0.1", "::1", "[::1]", "fe80::1%eth0", "my_db", "база.рф"] {
            assert!(may_be_host(host), "{host}");
        }
        for text in ["db;password=x", "db,password=x", "a b", "u@db", "db/x", "db?x", "db=x"] {
            assert!(!may_be_host(text), "{text}");
        }
    }

    #[test]
    fn a_part_of_a_password_is_no_options_name() {
        for (base, query, name) in [
            ("x://u:hid", "hidden@db/app", "hidden@db/app"),
            ("x://u:hid", "hidden=1@db/app", "hidden"),
            ("x://u:hid", "hidden=1&x=2@db/app?y=1", "hidden"),
            ("x://u:hid", "hidden", "hidden"),
            ("x://u:12x", "hidden=1", "hidden"),
            ("x://u:p@db/app", "hid den=1", "hid den"),
            ("x://u:p@db/app", "hid4en=1", "hid4en"),
            ("hidden", "hidden=1", ""),
        ] {
            assert_eq!(unknown_option(base, query, name), "has an unknown option", "{base}?{query}");
        }
        for base in ["x://u:p@db/app", "x://db:5432/app", "x://[::1]:5432/app", "x://[::1]", "x://db"] {
            assert_eq!(unknown_option(base, "ssl_x=1&y=2", "ssl_x"), "has an unknown option ssl_x", "{base}");
        }
    }
}
