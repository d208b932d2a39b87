//! Classes of IP addresses, by distance from this machine.
//!
//! Covers all special-purpose addresses (IANA, "Special-Purpose Address Registries"), including IPv6 addresses that
//! contain an IPv4 address. The standard library has no complete and stable equivalent yet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Class of an address. The variants are ordered from the farthest from this machine to the closest. A server must not
/// refer to an address that is closer to this machine than its own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AddressClass {
    Public,
    Private,
    LinkLocal,
    Loopback,
    /// Not a valid server address, although some systems deliver packets for it to this machine.
    Unspecified,
    /// Not a valid server address.
    Multicast,
    /// Not a valid server address.
    Broadcast,
}

/// Writes the class with its indefinite article, such as `an unspecified`.
impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "a public",
            Self::Private => "a private",
            Self::LinkLocal => "a link-local",
            Self::Loopback => "a loopback",
            Self::Unspecified => "an unspecified",
            Self::Multicast => "a multicast",
            Self::Broadcast => "a broadcast",
        })
    }
}

/// Farthest and closest possible class of an address. They differ if a translator or tunnel forwards the packets to
/// another address.
struct AddressClassRange {
    /// The farthest possible class.
    farthest: AddressClass,
    /// The closest possible class.
    closest: AddressClass,
}

impl From<AddressClass> for AddressClassRange {
    fn from(class: AddressClass) -> Self {
        Self {
            farthest: class,
            closest: class,
        }
    }
}

impl AddressClass {
    /// Returns the class of a server that responded from this address. If several classes are possible, returns the
    /// farthest, which gives the server the fewest permissions.
    pub(crate) fn from_server_address(address: IpAddr) -> Self {
        class_range(address).farthest
    }

    /// Returns the class of an address that a server provides. If several classes are possible, returns the closest,
    /// which has the most restrictions.
    fn from_provided_address(address: IpAddr) -> Self {
        class_range(address).closest
    }

    /// Returns the class of the address literal or `localhost` name in a URL. Returns `None` for any other name,
    /// because names are not resolved.
    pub(crate) fn from_url(url: &Url) -> Option<Self> {
        match url.host()? {
            Host::Ipv4(address) => Some(Self::from_provided_address(address.into())),
            Host::Ipv6(address) => Some(Self::from_provided_address(address.into())),
            Host::Domain(name) => {
                let name = name.trim_end_matches('.');
                (name == "localhost" || name.ends_with(".localhost")).then_some(Self::Loopback)
            }
        }
    }
}

fn class_range(address: IpAddr) -> AddressClassRange {
    match address {
        IpAddr::V4(address) => classify_v4(address).into(),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    match address.octets() {
        [0, ..] => AddressClass::Unspecified,
        [127, ..] => AddressClass::Loopback,
        [224..=239, ..] => AddressClass::Multicast,
        // Cloud providers serve the credentials of a machine in 169.254.0.0/16.
        [169, 254, ..] => AddressClass::LinkLocal,
        [255, 255, 255, 255] => AddressClass::Broadcast,
        // Private ranges, and ranges for carriers (100.64/10), protocols (192.0.0/24), benchmarks (198.18/15) and
        // documentation. Some networks use the reserved range 240/4 as a further private range.
        [10 | 240..=255, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [192, 0, 0 | 2, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => AddressClass::Private,
        _ => AddressClass::Public,
    }
}

fn classify_v6(address: Ipv6Addr) -> AddressClassRange {
    let embedded_v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        classify_v4(Ipv4Addr::new(a, b, c, d))
    };
    let class = match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => AddressClass::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressClass::Loopback,
        // IPv6 addresses that contain an IPv4 address: IPv4-mapped, IPv4-compatible (deprecated), IPv4-translated (RFC
        // 2765), NAT64 with the well-known prefix (RFC 6052), and 6to4.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => embedded_v4(high, low),
        // NAT64 with a local-use prefix (RFC 8215). The position of the IPv4 address depends on the network.
        [0x64, 0xff9b, 1, ..] => {
            return AddressClassRange {
                farthest: AddressClass::Public,
                closest: AddressClass::Loopback,
            };
        }
        // Teredo addresses contain the IPv4 address of the server and, with inverted bits, the IPv4 address of the
        // client.
        [0x2001, 0, high, low, _, _, to_high, to_low] => {
            return AddressClassRange {
                farthest: AddressClass::Public,
                closest: embedded_v4(high, low).max(embedded_v4(!to_high, !to_low)),
            };
        }
        [0xfe80..=0xfebf, ..] => AddressClass::LinkLocal,
        [0xff00..=0xffff, ..] => AddressClass::Multicast,
        // Ranges for protocols (2001::/23) and documentation.
        [0x2001, 0x1..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => AddressClass::Private,
        [0x2000..=0x3fff, ..] => AddressClass::Public,
        // The remaining ranges are not global: unique local, site-local, discard-only, segment routing, unassigned.
        _ => AddressClass::Private,
    };
    class.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provided_class(address: &str) -> AddressClass {
        AddressClass::from_provided_address(address.parse().unwrap())
    }

    fn server_class(address: &str) -> AddressClass {
        AddressClass::from_server_address(address.parse().unwrap())
    }

    const MULTICAST: &str = "\
        224.0.0.0 224.0.0.1 239.1.1.1 239.255.255.255 ::ffff:224.0.0.1 64:ff9b::239.1.1.1 ff00:: ff01::1 ff02::1 ff05::1 \
        ff0e::1 ff12::1 ffff::";
    const BROADCAST: &str = "255.255.255.255 ::ffff:255.255.255.255 64:ff9b::255.255.255.255";
    const UNSPECIFIED: &str = "0.0.0.0 0.255.255.255 :: ::ffff:0.0.0.0 64:ff9b::0.0.0.0 2002::1";
    const LOOPBACK: &str = "\
        127.0.0.1 127.255.255.255 ::1 ::127.0.0.1 ::ffff:127.0.0.1 \
        ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 2002:7f00:1::1";
    const LINK_LOCAL: &str = "\
        169.254.0.0 169.254.169.254 ::169.254.169.254 ::ffff:169.254.169.254 \
        64:ff9b::169.254.169.254 2002:a9fe:a9fe:: fe80::1 febf::1";
    const PRIVATE: &str = "\
        10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.255 \
        192.0.2.1 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.1 203.0.113.1 \
        240.0.0.0 255.255.255.254 ::10.0.0.1 ::ffff:10.0.0.1 ::ffff:0:198.18.0.1 64:ff9b::100.64.0.1 \
        2002:c0a8:1::1 100::1 2001:2::1 2001:20::1 2001:1ff::1 2001:db8::1 3fff::1 3fff:fff::1 5f00::1 \
        fc00:: fdff:ffff::1 fec0::1 feff::1 64:ff9b:2::1 1::1";
    const PUBLIC: &str = "\
        1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 \
        169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 \
        198.20.0.0 223.255.255.255 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1 2001:200::1 \
        2001:4860:4860::8888 2600::1 3fff:1000::1";

    #[test]
    fn address_ranges_are_classified_up_to_their_bounds() {
        for (class, addresses) in [
            (AddressClass::Broadcast, BROADCAST),
            (AddressClass::Multicast, MULTICAST),
            (AddressClass::Unspecified, UNSPECIFIED),
            (AddressClass::Loopback, LOOPBACK),
            (AddressClass::LinkLocal, LINK_LOCAL),
            (AddressClass::Private, PRIVATE),
            (AddressClass::Public, PUBLIC),
        ] {
            for address in addresses.split_whitespace() {
                assert_eq!(provided_class(address), class, "{address}");
                assert_eq!(server_class(address), class, "{address}");
            }
        }
    }

    #[test]
    fn translated_or_tunneled_address_gets_stricter_class() {
        for address in ["64:ff9b:1::8.8.8.8", "64:ff9b:1:a00:0:100::"] {
            assert_eq!(provided_class(address), AddressClass::Loopback, "{address}");
            assert_eq!(server_class(address), AddressClass::Public, "{address}");
        }
        // Teredo addresses: a server at 8.8.8.8 with clients at 10.0.0.1 and 9.9.9.9, and a server at 127.0.0.1.
        for (address, class) in [
            ("2001:0:808:808:0:0:f5ff:fffe", AddressClass::Private),
            ("2001:0:808:808:0:0:f6f6:f6f6", AddressClass::Public),
            ("2001:0:7f00:1:0:0:f6f6:f6f6", AddressClass::Loopback),
        ] {
            assert_eq!(provided_class(address), class, "{address}");
            assert_eq!(server_class(address), AddressClass::Public, "{address}");
        }
    }
}
