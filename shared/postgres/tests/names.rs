//! Names of tables and columns go into statements as text, so nothing may get out of its quotes.

use proptest::{
    prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
    strategy::ValueTree,
    test_runner::TestRunner,
};
use testkit::{postgres, properties::cases};
use views_postgres::sql::identifier::{ColumnName, TableName, quote};

/// What PostgreSQL's lexer reads from the front of a text: a quoted name without its quotes, and what stands behind it.
fn lex(sql: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut characters = sql.strip_prefix('"')?.char_indices().peekable();
    while let Some((place, character)) = characters.next() {
        if character != '"' {
            name.push(character);
        } else if characters.next_if(|(_, next)| *next == '"').is_some() {
            name.push('"');
        } else {
            return Some((name, &sql[place + 2..]));
        }
    }
    None
}

/// A name that PostgreSQL can hold, and preferably an unpleasant one.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[\"'.; \\\\$a-]{1,63}", "[a-zA-Z_\"]{1,30}", "\\PC{1,20}"]
        .prop_map(|text| text.replace('\0', ""))
        .prop_filter("1 to 63 bytes", |text| (1..=63).contains(&text.len()))
}

/// Any text, with quotes and dots where they do harm.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[\".a; -]{0,20}", "\"[\".a]{0,10}\"(\\.\"[\".a]{0,10}\")?"]
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn every_name_survives_quoting(schema in name(), table in name()) {
        let both = TableName::parse(&format!("{}.{}", quote(&schema), quote(&table))).unwrap();
        prop_assert_eq!(both.schema.as_deref(), Some(schema.as_str()));
        prop_assert_eq!(&both.table, &table);
        prop_assert_eq!(TableName::parse(&both.to_string()), Ok(both));
        let column = ColumnName::parse(&quote(&table)).unwrap();
        prop_assert_eq!(column.as_str(), &table);
        prop_assert_eq!(ColumnName::parse(&column.to_string()), Ok(column));
    }

    #[test]
    fn whatever_is_taken_for_a_name_stays_within_its_quotes(text in text()) {
        if let Ok(table) = TableName::parse(&text) {
            let sql = table.to_string();
            let (first, rest) = lex(&sql).unwrap();
            match &table.schema {
                None => prop_assert_eq!((&first, rest), (&table.table, "")),
                Some(schema) => {
                    prop_assert_eq!(&first, schema);
                    prop_assert_eq!(lex(rest.strip_prefix('.').unwrap()), Some((table.table.clone(), "")));
                }
            }
            prop_assert!(!sql.contains('\0'));
            prop_assert_eq!(TableName::parse(&sql), Ok(table));
        }
        if let Ok(column) = ColumnName::parse(&text) {
            let sql = column.to_string();
            prop_assert_eq!(lex(&sql), Some((column.as_str().to_owned(), "")));
        }
    }
}

#[tokio::test]
async fn postgresql_itself_reads_the_same_names() {
    let mut runner = TestRunner::new(cases(1));
    let names: Vec<String> = (0..400).map(|_| name().new_tree(&mut runner).unwrap().current()).collect();
    let columns: Vec<String> = names.iter().map(|name| format!("1 as {}", ColumnName::parse(&quote(name)).unwrap())).collect();
    let client = postgres::shared().await.database().await.client().await;
    let statement = client.prepare(&format!("select {}", columns.join(", "))).await.unwrap();
    let read: Vec<&str> = statement.columns().iter().map(tokio_postgres::Column::name).collect();
    assert_eq!(read, names);
}
