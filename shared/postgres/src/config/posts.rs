//! Which of the database's tables and columns hold the posts, their views and their counts.

use clap::Args;
use views_core::settings::{Problems, Setting};

use crate::sql::identifier::{ColumnName, MAX_NAME, TableName};

/// What is put behind the ledger's name for the name of the table of bases.
const BASE_SUFFIX: &str = "_base";

/// The flags of the application's posts table, and of what stands beside it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The application's posts table")]
pub struct PostsArgs {
    /// The table of posts, with its schema if need be; upper case and odd characters are kept: `Post`, `blog.Post`
    ///
    /// Names in double quotes work, too: `"blog"."Post"`. A view will do, see docs/adopt.md.
    #[arg(long, env = "POSTS_TABLE", default_value = "posts", value_name = "TABLE")]
    posts_table: Setting,
    /// The column with a post's id
    #[arg(long, env = "POST_ID_COLUMN", default_value = "id", value_name = "COLUMN")]
    post_id_column: Setting,
    /// The column with a post's author; given and empty: posts have no author
    ///
    /// An empty `--author-column` (`AUTHOR_COLUMN=`) is the one setting that does not stand for its default: then
    /// nobody's views are left out as views of one's own post.
    #[arg(long, env = "AUTHOR_COLUMN", default_value = "author_id", value_name = "COLUMN")]
    author_column: Setting,
    /// The column with a post's count of views
    #[arg(long, env = "COUNT_COLUMN", default_value = "views_count", value_name = "COLUMN")]
    count_column: Setting,
    /// A table of its own for the counts, `(post_id, views)`: with one, the posts table is only read
    ///
    /// `view-syncd migrate` creates it. A name without a schema is one in the schema of the posts. A post without a row
    /// there has no views. `--count-column` is not looked at then.
    #[arg(long, env = "COUNT_TABLE", value_name = "TABLE")]
    count_table: Option<Setting>,
    /// The ledger, the table of who has viewed what; without a schema, in the schema of the posts
    ///
    /// Several kinds of posts in one schema need a ledger each, and a `--redis-prefix` each.
    #[arg(long, env = "LEDGER_TABLE", default_value = "post_views", value_name = "TABLE")]
    ledger_table: Setting,
}

/// The names of the application's posts table and of its columns, and of the tables beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostsSettings {
    /// The table.
    pub table: TableName,
    /// The column with a post's id.
    pub id: ColumnName,
    /// The column with a post's author; none where posts have no author.
    pub author: Option<ColumnName>,
    /// The column with a post's count of views, unless there is a table of counts.
    pub count: ColumnName,
    /// The table of counts, where the posts table is only read.
    pub count_table: Option<TableName>,
    /// The ledger.
    pub ledger: TableName,
}

impl PostsArgs {
    /// Returns the settings and notes what is wrong with them.
    pub fn resolve(&self, problems: &mut Problems) -> PostsSettings {
        let settings = PostsSettings {
            id: problems.resolve(&self.post_id_column, ColumnName::parse),
            author: (!self.author_column.is_given_empty()).then(|| problems.resolve(&self.author_column, ColumnName::parse)),
            count: problems.resolve(&self.count_column, ColumnName::parse),
            count_table: problems.optional(self.count_table.as_ref(), TableName::parse),
            ledger: problems.resolve(&self.ledger_table, ledger),
            table: problems.resolve(&self.posts_table, TableName::parse),
        };
        settings.demand_distinct_tables(problems);
        settings
    }
}

impl Default for PostsSettings {
    /// Returns the settings of whoever gives none.
    fn default() -> Self {
        Self {
            table: TableName::literal("posts"),
            id: ColumnName::literal("id"),
            author: Some(ColumnName::literal("author_id")),
            count: ColumnName::literal("views_count"),
            count_table: None,
            ledger: TableName::literal("post_views"),
        }
    }
}

impl PostsSettings {
    /// Notes where two tables are one.
    fn demand_distinct_tables(&self, problems: &mut Problems) {
        let schema = self.table.schema.as_deref().unwrap_or_default();
        let [posts, ledger] = [&self.table, &self.ledger].map(|table| Self::beside(table, schema));
        if ledger == posts {
            problems.add("--ledger-table", "must be another table than the posts (LEDGER_TABLE)");
        }
        let counts = self.count_table.as_ref().map(|counts| Self::beside(counts, schema));
        if counts.is_some_and(|counts| [&posts, &ledger, &Self::base_of(&ledger)].contains(&&counts)) {
            problems.add("--count-table", "must be another table than the posts, the ledger and its bases (COUNT_TABLE)");
        }
    }

    /// Returns a table's name with the schema where it is to be looked for: that of the posts, unless it has its own.
    #[must_use]
    pub(crate) fn beside(table: &TableName, schema: &str) -> TableName {
        let schema = table.schema.clone().unwrap_or_else(|| schema.to_owned());
        TableName { schema: Some(schema), table: table.table.clone() }
    }

    /// Returns the name of the table of bases that belongs to a ledger.
    #[must_use]
    pub(crate) fn base_of(ledger: &TableName) -> TableName {
        TableName { schema: ledger.schema.clone(), table: format!("{}{BASE_SUFFIX}", ledger.table) }
    }
}

/// Reads the ledger's name, behind which there must be room for the name of the table of bases.
fn ledger(text: &str) -> Result<TableName, String> {
    let name = TableName::parse(text).map_err(|error| error.to_string())?;
    let longest = MAX_NAME - BASE_SUFFIX.len();
    if name.table.len() > longest {
        return Err(format!("must be at most {longest} bytes long, so that {BASE_SUFFIX} fits behind it"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        posts: PostsArgs,
    }

    fn resolve(args: &[&str]) -> Result<PostsSettings, Problems> {
        let mut problems = Problems::default();
        let cli = Cli::parse_from(std::iter::once("test").chain(args.iter().copied()));
        let settings = cli.posts.resolve(&mut problems);
        problems.into_result(settings)
    }

    #[test]
    fn the_tables_defaults_are_those_of_the_documentation() {
        assert_eq!(resolve(&[]).unwrap(), PostsSettings::default());
    }

    #[test]
    fn an_author_column_that_is_given_and_empty_is_none() {
        for empty in ["", " "] {
            assert_eq!(resolve(&["--author-column", empty]).unwrap().author, None);
        }
        assert_eq!(resolve(&["--count-column", "", "--count-table", ""]).unwrap(), resolve(&[]).unwrap());
    }

    #[test]
    fn the_ledger_and_its_bases_are_neighbours() {
        let posts = resolve(&["--ledger-table", "stats.Views", "--count-table", "counts"]).unwrap();
        assert_eq!(PostsSettings::base_of(&posts.ledger).to_string(), r#""stats"."Views_base""#);
        assert_eq!(PostsSettings::beside(&posts.ledger, "blog").to_string(), r#""stats"."Views""#);
        assert_eq!(PostsSettings::beside(&posts.count_table.unwrap(), "blog").to_string(), r#""blog"."counts""#);
        assert!(resolve(&["--ledger-table", &"x".repeat(58)]).is_ok());
        let problems = resolve(&["--ledger-table", &"x".repeat(59), "--count-table", "a.b.c"]).unwrap_err();
        assert_eq!(problems.all().len(), 2, "{:?}", problems.all());
    }

    #[test]
    fn each_table_is_one_of_its_own() {
        for args in [
            ["--count-table", "posts"],
            ["--count-table", "post_views"],
            ["--count-table", "post_views_base"],
            ["--ledger-table", "posts"],
        ] {
            assert!(resolve(&args).is_err(), "{args:?}");
        }
        assert!(
            resolve(&["--posts-table", "blog.posts", "--count-table", "stats.posts", "--ledger-table", "stats.views"]).is_ok()
        );
        assert!(resolve(&["--posts-table", "blog.posts", "--count-table", "posts"]).is_err());
    }
}
