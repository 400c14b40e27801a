//! The names of tables and columns as settings give them, quoted so that any name is safe inside a statement.

use std::fmt;

/// PostgreSQL cuts longer names.
pub const MAX_NAME: usize = 63;

/// Why a text is no name of a table or column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or nothing between two dots.
    #[error("the name, or a part of it, is empty")]
    Empty,
    /// A quoted name without its closing quote, or with something behind it.
    #[error("{0:?} has quotes that do not match")]
    Quotes(String),
    /// More parts than a name of this kind has.
    #[error("{0:?} has more parts than schema.table")]
    Parts(String),
    /// It is too long, or has a zero byte, which PostgreSQL does not know.
    #[error("{0:?} is no name that PostgreSQL can hold")]
    Unusable(String),
}

/// A table's name, with its schema if one is given. Displays as quoted SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// The schema, where the search path is not to decide.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
}

/// A column's name. Displays as quoted SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnName(String);

impl TableName {
    /// Reads `table`, `schema.table` or their quoted forms. Unquoted names are kept as they are written, upper case too.
    ///
    /// # Errors
    /// [`NameError`] when the text is no name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut parts = parts(text)?;
        match (parts.pop(), parts.pop(), parts.pop()) {
            (Some(table), schema, None) => Ok(Self { schema, table }),
            _ => Err(NameError::Parts(text.to_owned())),
        }
    }

    /// Returns a table of the search path.
    #[must_use]
    pub fn literal(table: &str) -> Self {
        Self { schema: None, table: table.to_owned() }
    }

    /// Returns the name as SQL has it, with quotes only where it needs them: no two tables are spelled alike.
    #[must_use]
    pub fn spelled(&self) -> String {
        let spelled = |name: &str| {
            let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if is_plain { name.to_owned() } else { quote(name) }
        };
        let schema = self.schema.as_deref().map(|schema| format!("{}.", spelled(schema))).unwrap_or_default();
        schema + &spelled(&self.table)
    }
}

impl ColumnName {
    /// Reads a column's name, quoted or not. An unquoted name is kept as it is written, upper case too.
    ///
    /// # Errors
    /// [`NameError`] when the text is no name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut parts = parts(text)?;
        match (parts.pop(), parts.pop()) {
            (Some(column), None) => Ok(Self(column)),
            _ => Err(NameError::Parts(text.to_owned())),
        }
    }

    /// Returns a name that is known to be one.
    #[must_use]
    pub fn literal(column: &str) -> Self {
        Self(column.to_owned())
    }

    /// Returns the name without quotes, as the catalogue has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Quotes a name: everything is allowed between double quotes, a double quote itself when doubled.
#[must_use]
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", quote(schema))?;
        }
        f.write_str(&quote(&self.table))
    }
}

impl fmt::Display for ColumnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(&self.0))
    }
}

/// Splits at the dots outside of quotes and takes the quotes off.
fn parts(text: &str) -> Result<Vec<String>, NameError> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, behind) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted).ok_or_else(|| NameError::Quotes(text.to_owned()))?,
            None => match rest.split_once('.') {
                Some((part, _)) => (part.to_owned(), &rest[part.len()..]),
                None => (rest.to_owned(), ""),
            },
        };
        if part.is_empty() {
            return Err(NameError::Empty);
        }
        if part.len() > MAX_NAME || part.contains('\0') {
            return Err(NameError::Unusable(part));
        }
        parts.push(part);
        match behind.strip_prefix('.') {
            Some(next) => rest = next,
            None if behind.is_empty() => return Ok(parts),
            None => return Err(NameError::Quotes(text.to_owned())),
        }
    }
}

/// Reads up to the closing quote; gives the name and what stands behind the quote.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (before, behind) = rest.split_once('"')?;
        name.push_str(before);
        match behind.strip_prefix('"') {
            Some(next) => {
                name.push('"');
                rest = next;
            }
            None => return Some((name, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<String, NameError> {
        TableName::parse(text).map(|name| name.to_string())
    }

    #[test]
    fn odd_names_are_told_apart_by_their_quotes() {
        let names = [("a.b", "c"), ("a", "b.c"), ("a", "b/public.c"), ("a", "\"b\""), ("a", "b")];
        let spelled = |(schema, table): (&str, &str)| TableName { schema: Some(schema.into()), table: table.into() }.spelled();
        let all: std::collections::HashSet<String> = names.map(spelled).into();
        assert_eq!(all.len(), 5, "{all:?}");
        assert_eq!([spelled(("blog", "Post")), TableName::literal("x").spelled()], ["blog.Post", "x"]);
    }

    #[test]
    fn a_name_keeps_its_case_quoted_or_not() {
        assert_eq!(table("posts").unwrap(), r#""posts""#);
        assert_eq!(table("Post").unwrap(), r#""Post""#);
        assert_eq!(table(r#""Post""#).unwrap(), r#""Post""#);
        assert_eq!(ColumnName::parse("authorId").unwrap().to_string(), r#""authorId""#);
        assert_eq!(ColumnName::parse(r#""authorId""#).unwrap().as_str(), "authorId");
    }

    #[test]
    fn a_schema_may_stand_before_the_table() {
        assert_eq!(table("blog.Post").unwrap(), r#""blog"."Post""#);
        assert_eq!(table(r#""my.blog"."My ""Post""""#).unwrap(), r#""my.blog"."My ""Post""""#);
    }

    #[test]
    fn nothing_breaks_out_of_its_quotes() {
        assert_eq!(table(r#"posts"; drop table posts; --"#).unwrap(), r#""posts""; drop table posts; --""#);
        assert_eq!(table(r#""posts"; drop table x"#), Err(NameError::Quotes(r#""posts"; drop table x"#.into())));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", ".", "a.", ".a", r#""""#, r#""a"#, "a.b.c"] {
            assert!(table(text).is_err(), "{text:?}");
        }
        assert!(table(&"x".repeat(64)).is_err());
        assert!(ColumnName::parse("a.b").is_err());
    }
}
