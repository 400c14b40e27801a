//! Which hosts are reached without a network that strangers can listen to.

use std::net::{IpAddr, Ipv6Addr};

/// Returns whether a host is this machine whatever the network says.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    bare.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(is_loopback_address)
}

/// Returns whether an address is this machine's own, whatever the network says.
#[must_use]
pub fn is_loopback_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address == Ipv6Addr::LOCALHOST || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_names() {
        for host in ["localhost", "LocalHost", "localhost.", "127.0.0.1", "127.9.8.7", "::1", "[::1]", "::ffff:127.0.0.1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["db", "10.0.0.1", "localhost.example", "127.example", "::2", "0.0.0.0", "128.0.0.1", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
