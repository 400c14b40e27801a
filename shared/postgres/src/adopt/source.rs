//! Where existing views are, as the command line names it.

use std::{fmt, str::FromStr};

use crate::sql::identifier::{ColumnName, NameError, TableName};

/// Where existing views are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Arrays of viewers in a column of the posts table.
    Array(ColumnName),
    /// A table of pairs.
    Table {
        /// The table.
        table: TableName,
        /// Its column of posts.
        post: ColumnName,
        /// Its column of viewers.
        viewer: ColumnName,
        /// Its column of the time of the view.
        at: Option<ColumnName>,
    },
}

/// Why a text names no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It has not the form.
    #[error("must be NAME(post,viewer) or NAME(post,viewer,time)")]
    Form,
    /// A part of it is no name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Source {
    /// Reads the name of a column of the posts table.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn parse_array(text: &str) -> Result<Self, SourceError> {
        Ok(Self::Array(ColumnName::parse(text.trim())?))
    }

    /// Reads `NAME(post,viewer)` or `NAME(post,viewer,time)`; each name may be quoted.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn parse_table(text: &str) -> Result<Self, SourceError> {
        let mut tokens = Tokens(text.trim());
        let table = TableName::parse(tokens.until("(")?)?;
        let mut columns = Vec::new();
        loop {
            let column = tokens.until(",)")?;
            columns.push(ColumnName::parse(column)?);
            match tokens.0 {
                ")" => break,
                rest if rest.starts_with(',') => {}
                _ => return Err(SourceError::Form),
            }
        }
        let mut columns = columns.into_iter();
        match [columns.next(), columns.next(), columns.next(), columns.next()] {
            [Some(post), Some(viewer), at, None] => Ok(Self::Table { table, post, viewer, at }),
            _ => Err(SourceError::Form),
        }
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        Self::parse_table(text)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Array(column) => write!(f, "the column {column}"),
            Self::Table { table, .. } => write!(f, "the table {table}"),
        }
    }
}

/// What is left of a text. Between two steps it begins with the mark that ended the last.
struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    /// Returns what stands before one of the marks, outside of quotes.
    fn until(&mut self, marks: &str) -> Result<&'a str, SourceError> {
        let text = self.0.strip_prefix(['(', ',']).unwrap_or(self.0);
        let mut is_quoted = false;
        for (place, letter) in text.char_indices() {
            match letter {
                '"' => is_quoted = !is_quoted,
                _ if !is_quoted && marks.contains(letter) => {
                    self.0 = &text[place..];
                    return Ok(text[..place].trim());
                }
                _ => {}
            }
        }
        Err(SourceError::Form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Option<[String; 4]> {
        let Ok(Source::Table { table, post, viewer, at }) = Source::parse_table(text) else { return None };
        Some([table.to_string(), post.to_string(), viewer.to_string(), at.map_or_else(String::new, |at| at.to_string())])
    }

    #[test]
    fn a_table_of_pairs_is_named_with_its_columns() {
        for (text, expected) in [
            ("topic_users(topic_id,user_id)", [r#""topic_users""#, r#""topic_id""#, r#""user_id""#, ""]),
            (" a.b ( x , y , seen at ) ", [r#""a"."b""#, r#""x""#, r#""y""#, r#""seen at""#]),
            (r#""_ViewedPosts"("A","B")"#, [r#""_ViewedPosts""#, r#""A""#, r#""B""#, ""]),
            (r#""a(b"."c,""d"("x)","y,z")"#, [r#""a(b"."c,""d""#, r#""x)""#, r#""y,z""#, ""]),
        ] {
            assert_eq!(table(text).unwrap(), expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn what_names_no_table_of_pairs_is_refused() {
        for text in
            ["", "views", "views()", "views(a)", "views(a,b,c,d)", "views(a,b", "views(a,b) x", "(a,b)", "v(a,,b)", "v(a,\"b)"]
        {
            assert!(Source::parse_table(text).is_err(), "{text:?}");
        }
        assert!(Source::parse_array("a.b").is_err() && Source::parse_array("").is_err());
        assert_eq!(Source::parse_array("views").unwrap(), Source::Array(ColumnName::literal("views")));
    }
}
