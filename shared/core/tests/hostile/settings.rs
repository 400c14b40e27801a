use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use testkit::properties::cases;
use views_core::settings::{Problems, Setting};

/// Ten years: what the settings call the longest.
const LONGEST_MS: u64 = 10 * 365 * 24 * 3600 * 1000;

/// Any text, and what is almost a length of time.
fn length_of_time() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "-?[0-9]{0,25}(\\.[0-9]{1,3})?[ ]?(ns|us|ms|s|m|min|h|d|days|w|M|y|years|µs|)",
        "([0-9]{1,20}[a-z]{1,3} ?){0,4}"
    ]
}

/// Any text, and what is almost an address.
fn address() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "(localhost|127\\.0\\.0\\.1|[0-9.]{0,16}|\\[[0-9a-f:%.]{0,20}\\]|):?-?[0-9]{0,6}"]
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn a_length_of_time_is_read_or_complained_about(text in length_of_time(), default in 1_u64..100, least in 0_u64..100_000) {
        let (default, least) = (Duration::from_secs(default + 100), Duration::from_millis(least));
        let mut problems = Problems::default();
        let read = problems.duration(&Setting::new("--time", text.as_str(), format!("{}s", default.as_secs())), least);
        if text.trim().is_empty() || !problems.is_empty() {
            prop_assert_eq!(read, default);
        } else {
            prop_assert!(read >= least && read <= Duration::from_millis(LONGEST_MS), "{:?}", read);
            // Deadlines are made of it.
            prop_assert!(std::time::Instant::now().checked_add(read).is_some());
        }
        prop_assert!(problems.all().len() <= 1);
    }

    #[test]
    fn every_length_of_time_is_read_as_it_was_written(ms in 0..=LONGEST_MS) {
        let time = Duration::from_millis(ms);
        let mut problems = Problems::default();
        for text in [format!(" {ms}ms "), format!("{}s {}ms", ms / 1_000, ms % 1_000)] {
            prop_assert_eq!(problems.duration(&Setting::new("--time", text, "0s"), Duration::ZERO), time);
        }
        prop_assert!(problems.is_empty(), "{:?}", problems.all());
    }

    #[test]
    fn every_address_is_read_as_it_was_written(ip in any::<IpAddr>(), port in any::<u16>()) {
        let address = SocketAddr::new(ip, port);
        let mut problems = Problems::default();
        prop_assert_eq!(problems.address(&Setting::new("--listen", address.to_string(), "127.0.0.1:1")), address);
        let local = Setting::new("--listen", format!("localhost:{port}"), "127.0.0.1:1");
        prop_assert_eq!(problems.address(&local), SocketAddr::from(([127, 0, 0, 1], port)));
        prop_assert!(problems.is_empty(), "{:?}", problems.all());
    }

    #[test]
    fn what_is_no_address_is_complained_about_and_listens_nowhere_else(text in address()) {
        let mut problems = Problems::default();
        let read = problems.address(&Setting::new("--listen", text.as_str(), "127.0.0.1:3001"));
        if !problems.is_empty() {
            prop_assert_eq!(read, SocketAddr::from(([127, 0, 0, 1], 0)));
        } else if !text.trim().is_empty() {
            let numeric = text.trim().replace("localhost", "127.0.0.1");
            prop_assert_eq!(Some(read), numeric.parse().ok());
        }
    }

    #[test]
    fn numbers_and_switches_are_read_or_complained_about(text in prop_oneof![any::<String>(), "[+-]?[0-9]{0,25}", "(?i)(true|false|yes|no|on|off|0|1|)"]) {
        let mut problems = Problems::default();
        let number = problems.number(&Setting::new("--workers", text.as_str(), "3"), 1..=8);
        prop_assert!(!problems.is_empty() || (1..=8).contains(&number));
        let mut problems = Problems::default();
        if problems.switch(&Setting::new("--flag", text.as_str(), "false")) {
            let word = text.trim().to_ascii_lowercase();
            prop_assert!(problems.is_empty() && ["true", "1", "yes", "on"].contains(&word.as_str()), "{:?}", text);
        }
    }
}
