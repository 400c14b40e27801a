//! What the texts of settings mean. An error says what is wrong, and the setting's name goes before it.

use std::{fmt, net::SocketAddr, ops::RangeInclusive, str::FromStr, time::Duration};

/// No setting means more than this; beyond it, deadlines would overflow the clock.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Parses a text by its type's own rules.
///
/// # Errors
/// The type's own error, and the text.
pub fn from_str<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{error} in {text:?}"))
}

/// Parses a whole number within bounds.
///
/// # Errors
/// When it is none, or out of bounds.
pub fn number(text: &str, range: &RangeInclusive<usize>) -> Result<usize, String> {
    let number = from_str(text)?;
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(format!("must be between {} and {}, not {number}", range.start(), range.end()))
    }
}

/// Parses a length of time in words (`5m`, `24h`, `1s 500ms`), at least `least` long. A bare `0` needs no unit.
///
/// # Errors
/// When it is none, shorter than `least`, or longer than the clock can hold.
pub fn duration(text: &str, least: Duration) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{text:?} is not a length of time such as 5m, 24h or 1s 500ms: {error}"))?;
    if duration < least {
        Err(format!("must be at least {}, not {text}", humantime::format_duration(least)))
    } else if duration > LONGEST {
        Err(format!("must be at most {}, not {text}", humantime::format_duration(LONGEST)))
    } else {
        Ok(duration)
    }
}

/// Parses an address to listen on: an IP address (or `localhost`) and a port.
///
/// # Errors
/// When it is none.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric.parse().map_err(|_| format!("{text:?} is not an address such as 127.0.0.1:3001 or [::]:3001"))
}

/// Parses a yes or no.
///
/// # Errors
/// When it is neither.
pub fn switch(text: &str) -> Result<bool, String> {
    match &*text.to_ascii_lowercase() {
        "false" | "0" | "no" | "off" => Ok(false),
        "true" | "1" | "yes" | "on" => Ok(true),
        other => Err(format!("{other:?} is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_words() {
        let read = |text| duration(text, Duration::ZERO);
        assert_eq!(read("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(read("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(read("1s 500ms"), Ok(Duration::from_millis(1_500)));
        assert_eq!(read("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn a_duration_that_no_clock_can_hold_is_refused() {
        assert!(duration("100000years", Duration::ZERO).unwrap_err().contains("must be at most"));
        assert_eq!(duration("0s", Duration::from_secs(1)).unwrap_err(), "must be at least 1s, not 0s");
    }
}
