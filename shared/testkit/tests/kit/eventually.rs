//! Waiting for conditions.

use std::cell::Cell;
use std::time::Duration;

use testkit::{SOON, eventually, within};

#[tokio::test]
async fn the_value_of_the_first_success_is_returned() {
    let calls = Cell::new(0);
    let value = eventually("the third call succeeds", SOON, async || {
        calls.set(calls.get() + 1);
        (calls.get() == 3).then_some("value")
    });
    assert_eq!(value.await, "value");
}

#[tokio::test]
async fn a_condition_that_does_not_come_is_an_error_with_the_last_outcome() {
    assert_eq!(within(SOON, async || Some(1)).await, Ok(1));
    let never = within(Duration::from_millis(50), async || Err::<(), _>("pigs do not fly")).await;
    assert_eq!(never, Err("\"pigs do not fly\"".to_owned()));
}

#[tokio::test]
#[should_panic(expected = "kit/eventually.rs")]
async fn a_failure_names_the_test_and_not_the_kit() {
    eventually("pigs fly", Duration::from_millis(50), async || false).await;
}

#[tokio::test]
#[should_panic(expected = "pigs fly")]
async fn a_condition_that_hangs_is_cut_off() {
    eventually("pigs fly", Duration::from_millis(50), std::future::pending::<bool>).await;
}
