//! Where a request comes from: its trace, its address, its program, its language.
//!
//! The front works it out once per request. `traceparent: 00-4bf9…-00f0…-01` gives the trace id
//! `4bf9…`; without it one is minted, and it follows the request into log lines, events, jobs and sockets.
//! The address is the peer's, or, where the peer is a trusted proxy, the right-most address of
//! `X-Forwarded-For` that is no trusted proxy: whatever stands left of it the client wrote itself.

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use domain::locale::Locale;
use http::header::{ACCEPT_LANGUAGE, USER_AGENT};
use http::request::Parts;
use http::{Extensions, HeaderMap};

/// The most characters of a user agent that are kept.
pub const USER_AGENT_MAX: usize = 256;

/// A W3C trace id: 16 bytes, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// A new one.
    pub fn mint() -> Self {
        Self(rand::random::<u128>().max(1).to_be_bytes())
    }

    /// From a `traceparent` header.
    fn from_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, parent, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex =
            |s: &str, n| s.len() == n && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let well_formed = hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
        // Version 00 ends here; later ones may go on.
        if !well_formed || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let id = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        Some(Self(id.to_be_bytes()))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestOrigin {
    /// Its trace.
    pub trace: TraceId,
    /// Its address, where it came over a network.
    pub ip: Option<IpAddr>,
    /// Its program, at most [`USER_AGENT_MAX`] characters.
    pub user_agent: Option<String>,
    /// The language its sender reads.
    pub locale: Locale,
}

impl RequestOrigin {
    pub(crate) fn of(
        headers: &HeaderMap,
        extensions: &Extensions,
        trusted: &TrustedProxies,
    ) -> Self {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        Self {
            trace: text(headers, "traceparent")
                .and_then(TraceId::from_traceparent)
                .unwrap_or_else(TraceId::mint),
            ip: peer.map(|peer| trusted.client(peer, headers)),
            user_agent: headers.get(USER_AGENT).map(|agent| {
                let agent = String::from_utf8_lossy(agent.as_bytes());
                agent.chars().filter(|c| !c.is_control()).take(USER_AGENT_MAX).collect()
            }),
            locale: locale(headers),
        }
    }
}

/// The origin the front worked out; behind no front, one worked out without proxies.
impl<S: Send + Sync> FromRequestParts<S> for RequestOrigin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(match parts.extensions.get::<Arc<Self>>() {
            Some(origin) => origin.as_ref().clone(),
            None => Self::of(&parts.headers, &parts.extensions, &TrustedProxies::default()),
        })
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The best of our languages by `Accept-Language` (RFC 9110 §12.5.4).
fn locale(headers: &HeaderMap) -> Locale {
    let mut best = (0.0, Locale::default());
    let ranges = headers
        .get_all(ACCEPT_LANGUAGE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .take(32);
    for range in ranges {
        let (tag, parameters) = range.split_once(';').unwrap_or((range, ""));
        let quality = match parameters.trim().strip_prefix("q=") {
            Some(q) => q.trim().parse::<f32>().unwrap_or_default(),
            None => 1.0,
        };
        let language = tag.trim().split('-').next().unwrap_or_default();
        let locale = if language.eq_ignore_ascii_case("pt") {
            Locale::PtBr
        } else if language.eq_ignore_ascii_case("en") {
            Locale::En
        } else {
            continue;
        };
        if quality > best.0 {
            best = (quality, locale);
        }
    }
    best.1
}

/// An address range such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text that is no address range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a network must be an address such as 10.0.0.1 or a range such as 10.0.0.0/8")]
pub struct InvalidNetwork;

impl Network {
    /// Whether the address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same_prefix =
            |a: u128, b: u128, width: u8| self.prefix == 0 || (a ^ b) >> (width - self.prefix) == 0;
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                same_prefix(a.to_bits().into(), b.to_bits().into(), 32)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => same_prefix(a.to_bits(), b.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;
    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let address = address.parse::<IpAddr>().map_err(|_| InvalidNetwork)?.to_canonical();
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| InvalidNetwork)?,
            None => width,
        };
        if prefix > width { Err(InvalidNetwork) } else { Ok(Self { address, prefix }) }
    }
}

/// The proxies whose `X-Forwarded-For` is believed. None by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(pub Vec<Network>);

impl TrustedProxies {
    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The right-most address that is no trusted proxy's. What is no address ends the search: nothing
    /// left of it can be believed.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if self.0.is_empty() || !self.trusts(client) {
            return client;
        }
        let values: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
        let hops = values
            .into_iter()
            .rev()
            // What is no text is no address either, and ends the search.
            .flat_map(|value| value.to_str().unwrap_or_default().rsplit(','))
            .take(HOPS_MAX);
        for hop in hops {
            let Some(address) = address(hop.trim()) else { break };
            client = address;
            if !self.trusts(client) {
                break;
            }
        }
        client
    }
}

/// The most proxies on the way.
const HOPS_MAX: usize = 32;

/// An address as proxies write it: bare, bracketed, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => {
            text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|found| found.ip()))
        }
    };
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    fn client(peer: &str, forwarded: &'static str) -> String {
        let trusted =
            TrustedProxies(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let headers = headers(&[("x-forwarded-for", forwarded)]);
        trusted.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn a_stranger_cannot_choose_its_address() {
        assert_eq!(client("203.0.113.9", "1.2.3.4"), "203.0.113.9");
        assert_eq!(client("10.0.0.2", "1.2.3.4, 203.0.113.9"), "203.0.113.9");
        assert_eq!(client("10.0.0.2", "1.2.3.4, 203.0.113.9, 10.1.1.1"), "203.0.113.9");
        assert_eq!(client("10.0.0.2", "1.2.3.4, evil, 10.1.1.1"), "10.1.1.1");
        assert_eq!(client("fd00::1", "[2001:db8::7]:4711"), "2001:db8::7");
        assert_eq!(client("::ffff:10.0.0.2", "203.0.113.9:80"), "203.0.113.9");
        assert_eq!(client("10.0.0.2", ""), "10.0.0.2");
    }

    #[test]
    fn several_headers_are_one_list_and_what_is_no_address_ends_it() {
        let trusted =
            TrustedProxies(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for (values, client) in [
            // Each proxy may add a header of its own instead of lengthening the one it got.
            (&["1.2.3.4", "203.0.113.9"][..], "203.0.113.9"),
            (&["1.2.3.4, 203.0.113.9", "10.1.1.1"], "203.0.113.9"),
            (&["1.2.3.4", "203.0.113.9, 10.1.1.1, 10.1.1.2"], "203.0.113.9"),
            // Only proxies of ours: the first of them is the client.
            (&["10.3.3.3", "10.1.1.1"], "10.3.3.3"),
            // Garbage, wherever it stands, hides what is left of it.
            (&["1.2.3.4", "evil", "10.1.1.1"], "10.1.1.1"),
            (&["1.2.3.4, , 10.1.1.1"], "10.1.1.1"),
            (&["1.2.3.4", ""], "10.0.0.2"),
            (&["1.2.3.4, unknown"], "10.0.0.2"),
            (&["1.2.3.4, _hidden"], "10.0.0.2"),
            (&["1.2.3.4, 203.0.113.9.1"], "10.0.0.2"),
            (&["1.2.3.4, 0x7f.1"], "10.0.0.2"),
            (&["1.2.3.4, [2001:db8::7]evil"], "10.0.0.2"),
            (&["1.2.3.4, [10.1.1.1]"], "10.0.0.2"),
            (&["1.2.3.4, fe80::1%eth0"], "10.0.0.2"),
            (&["1.2.3.4, 203.0.113.9:99999"], "10.0.0.2"),
            // Ports and brackets.
            (&["1.2.3.4, 203.0.113.9:4711"], "203.0.113.9"),
            (&["1.2.3.4, [2001:db8::7]"], "2001:db8::7"),
            (&["1.2.3.4, [2001:db8::7]:443, fd00::9"], "2001:db8::7"),
            (&["1.2.3.4, 2001:DB8:0::7"], "2001:db8::7"),
            // An IPv4 address in IPv6 clothes, as the client and as a proxy.
            (&["1.2.3.4, ::ffff:203.0.113.9, [::ffff:10.1.1.1]:80"], "203.0.113.9"),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            let found = trusted.client("10.0.0.2".parse().unwrap(), &headers);
            assert_eq!(found.to_string(), client, "{values:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", HeaderValue::from_static("1.2.3.4"));
        headers.append("x-forwarded-for", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        let found = trusted.client("10.0.0.2".parse().unwrap(), &headers);
        assert_eq!(found.to_string(), "10.0.0.2", "what is no text ends it, too");
        let endless = vec!["10.1.1.1"; 10_000].join(",");
        headers.insert("x-forwarded-for", format!("1.2.3.4,{endless}").parse().unwrap());
        let found = trusted.client("10.0.0.2".parse().unwrap(), &headers);
        assert_eq!(found.to_string(), "10.1.1.1", "nor is it read for ever");
    }

    #[test]
    fn other_headers_are_never_believed() {
        let trusted = TrustedProxies(vec!["10.0.0.2".parse().unwrap()]);
        let headers = headers(&[
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("cf-connecting-ip", "1.2.3.4"),
            ("x-client-ip", "1.2.3.4"),
        ]);
        assert_eq!(trusted.client("10.0.0.2".parse().unwrap(), &headers).to_string(), "10.0.0.2");
    }

    #[test]
    fn networks_are_addresses_or_ranges() {
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("8.8.8.8".parse().unwrap()));
        assert!(!all.contains("::1".parse().unwrap()));
        let one: Network = "127.0.0.1".parse().unwrap();
        assert!(one.contains("127.0.0.1".parse().unwrap()));
        assert!(!one.contains("127.0.0.2".parse().unwrap()));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1"] {
            assert_eq!(wrong.parse::<Network>(), Err(InvalidNetwork), "{wrong}");
        }
    }

    #[test]
    fn a_well_formed_traceparent_is_continued_and_another_is_not() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = format!("00-{trace}-00f067aa0ba902b7-01");
        assert_eq!(TraceId::from_traceparent(&parent).unwrap().to_string(), trace);
        for wrong in [
            "",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736",
        ] {
            assert_eq!(TraceId::from_traceparent(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_best_language_of_ours_is_picked() {
        for (accept, expected) in [
            ("en-GB,en;q=0.9,pt;q=0.8", Locale::En),
            ("pt-BR, en;q=0.5", Locale::PtBr),
            ("de, en;q=0.3, pt;q=0.2", Locale::En),
            ("de", Locale::PtBr),
            ("en;q=0", Locale::PtBr),
            ("", Locale::PtBr),
        ] {
            assert_eq!(locale(&headers(&[("accept-language", accept)])), expected, "{accept}");
        }
    }

    #[test]
    fn a_user_agent_is_cut_and_cleaned() {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, "x".repeat(1000).parse().unwrap());
        let origin = RequestOrigin::of(&headers, &Extensions::new(), &TrustedProxies::default());
        assert_eq!(origin.user_agent.unwrap().len(), USER_AGENT_MAX);
        assert_eq!(origin.ip, None);
    }
}
