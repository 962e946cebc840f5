//! The refresh token in a cookie, for front ends that run in a browser (K16), and what keeps other sites from
//! using it.
//!
//! A sign-in with `"cookie": true` sets two cookies: `__Host-pontual-refresh`, which no script can read, and
//! `__Host-pontual-csrf`, which our own pages' scripts can: an HMAC over the session. To refresh or to sign
//! out by cookie, a page repeats the latter in the header `Pontual-Csrf`. For example another site makes a
//! browser post to `/api/auth/refresh`: `SameSite=Strict` leaves the cookies out; had it not, the header would be
//! missing, since that site can neither read the cookie nor guess the HMAC; and the `Origin` would not be ours.
//! Bearer tokens need none of this: browsers do not send them by themselves.
//!
//! Nothing is kept, so nothing is lost in a crash.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use domain::ids::{Id, SessionId};
use hmac::{Hmac, KeyInit, Mac};
use http::header::{COOKIE, HeaderName, HeaderValue, ORIGIN, SET_COOKIE};
use http::{HeaderMap, Uri};
use sha2::Sha256;

use crate::problem::{Kind, Problem};

/// The label of the key that CSRF tokens are made with.
pub const CSRF: &str = "csrf";

/// The cookie that holds the refresh token.
pub const REFRESH_COOKIE: &str = "__Host-pontual-refresh";

/// The cookie that holds what the header [`PONTUAL_CSRF`] must repeat.
pub const CSRF_COOKIE: &str = "__Host-pontual-csrf";

/// The header by which a page shows that it can read our cookies.
pub const PONTUAL_CSRF: HeaderName = HeaderName::from_static("pontual-csrf");

/// Sets, clears and guards the cookies.
#[derive(Clone)]
pub struct Cookies {
    key: [u8; 32],
    origins: Arc<[String]>,
}

impl Cookies {
    /// With the key derived under [`CSRF`], our public URL, and the other origins whose pages may call us.
    pub fn new(key: [u8; 32], public_url: &str, origins: &[HeaderValue]) -> Self {
        let others = origins.iter().filter_map(|origin| origin.to_str().ok());
        let origins =
            origin_of(public_url).into_iter().chain(others.filter_map(origin_of)).collect();
        Self { key, origins }
    }

    /// The headers that set both cookies for so long, and tell the CSRF token to pages of other origins, which
    /// cannot read our cookies.
    pub fn set(&self, session: SessionId, refresh: &str, lasts: TimeDelta) -> [HeaderPair; 3] {
        let age = lasts.num_seconds().max(0);
        let csrf = self.csrf_token(session);
        [
            set_cookie(&format!("{REFRESH_COOKIE}={refresh}; Max-Age={age}; {FLAGS}; HttpOnly")),
            set_cookie(&format!("{CSRF_COOKIE}={csrf}; Max-Age={age}; {FLAGS}")),
            (PONTUAL_CSRF, HeaderValue::try_from(csrf).expect("tokens are base64url")),
        ]
    }

    /// The headers that take both cookies away.
    pub fn clear() -> [HeaderPair; 2] {
        [
            set_cookie(&format!("{REFRESH_COOKIE}=; Max-Age=0; {FLAGS}; HttpOnly")),
            set_cookie(&format!("{CSRF_COOKIE}=; Max-Age=0; {FLAGS}")),
        ]
    }

    /// The refresh token of the request's cookie.
    pub fn refresh_token(headers: &HeaderMap) -> Option<&str> {
        cookie(headers, REFRESH_COOKIE).filter(|token| !token.is_empty())
    }

    /// That a request by cookie was made by one of our own pages.
    pub fn guard(&self, headers: &HeaderMap, session: SessionId) -> Result<(), Problem> {
        let mut sent = headers.get_all(PONTUAL_CSRF).iter();
        let sent = match (sent.next(), sent.next()) {
            (Some(value), None) => value.to_str().ok(),
            (Some(_), Some(_)) | (None, _) => None,
        };
        let repeated = sent.is_some() && sent == cookie(headers, CSRF_COOKIE);
        let ours = repeated && sent.is_some_and(|token| self.is_of(token, session));
        let origin = match headers.get(ORIGIN) {
            None => true,
            Some(origin) => origin
                .to_str()
                .ok()
                .and_then(origin_of)
                .is_some_and(|origin| self.origins.contains(&origin)),
        };
        if ours && origin { Ok(()) } else { Err(Kind::CsrfFailed.into()) }
    }

    fn csrf_token(&self, session: SessionId) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(session).finalize().into_bytes())
    }

    /// Compared in constant time.
    fn is_of(&self, token: &str, session: SessionId) -> bool {
        let tag = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
        self.mac(session).verify_slice(&tag).is_ok()
    }

    fn mac(&self, session: SessionId) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(session.uuid().as_bytes());
        mac
    }
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookies").field("origins", &self.origins).finish_non_exhaustive()
    }
}

/// A header of an answer.
pub type HeaderPair = (HeaderName, HeaderValue);

/// What every cookie of ours has; the prefix `__Host-` makes browsers insist on it.
const FLAGS: &str = "Path=/; Secure; SameSite=Strict";

fn set_cookie(text: &str) -> HeaderPair {
    let value = HeaderValue::try_from(text).expect("tokens are base64url");
    (SET_COOKIE, value)
}

/// The value of a cookie; `None` without it, and where it stands twice: then somebody has planted one.
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut found = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    match (found.next(), found.next()) {
        (Some(value), None) => Some(value),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

/// Scheme, host and port of a URL, as browsers write them.
fn origin_of(url: &str) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    let scheme = url.scheme_str()?.to_ascii_lowercase();
    let host = url.host()?.to_ascii_lowercase();
    let usual = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    Some(match url.port_u16().filter(|port| *port != usual) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

#[cfg(test)]
mod tests {
    use domain::ids::{Mint, RoutingSlot};

    use super::*;

    fn session(n: u8) -> SessionId {
        Mint::new([n; 32]).id(RoutingSlot::from_bits(7), 0)
    }

    fn cookies() -> Cookies {
        let others = [HeaderValue::from_static("https://app.pontual.test")];
        Cookies::new([1; 32], "https://Pontual.test:443/base", &others)
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_refresh_cookie_is_for_the_browser_alone_and_both_go_away() {
        let [refresh, csrf, told] = cookies().set(session(1), "ptr_x", TimeDelta::days(30));
        assert_eq!(
            refresh.1,
            "__Host-pontual-refresh=ptr_x; Max-Age=2592000; Path=/; Secure; SameSite=Strict; HttpOnly"
        );
        let csrf = csrf.1.to_str().unwrap();
        assert!(csrf.contains(told.1.to_str().unwrap()));
        assert!(csrf.starts_with("__Host-pontual-csrf=") && !csrf.contains("HttpOnly"), "{csrf}");
        assert!(csrf.ends_with("; Path=/; Secure; SameSite=Strict"), "{csrf}");
        for (_, cleared) in Cookies::clear() {
            assert!(cleared.to_str().unwrap().contains("=; Max-Age=0; "));
        }
    }

    #[test]
    fn only_a_page_that_can_read_our_cookies_passes() {
        let cookies = cookies();
        let token = cookies.csrf_token(session(1));
        let jar = format!("a=b; {CSRF_COOKIE}={token}; c=d");
        let passes = |pairs: &[(&str, &str)], of: u8| {
            cookies.guard(&headers(pairs), session(of)).map_err(|problem| problem.kind())
        };
        let good = [("cookie", jar.as_str()), ("pontual-csrf", token.as_str())];
        assert_eq!(passes(&good, 1), Ok(()));
        for ours in ["https://pontual.test", "https://app.pontual.test", "https://pontual.test:443"]
        {
            assert_eq!(passes(&[good[0], good[1], ("origin", ours)], 1), Ok(()), "{ours}");
        }
        let other = cookies.csrf_token(session(2));
        let planted = format!("{CSRF_COOKIE}={other}; {CSRF_COOKIE}={token}");
        let forged = format!("{CSRF_COOKIE}=x");
        for (what, pairs) in [
            ("no header", vec![good[0]]),
            ("no cookie", vec![good[1]]),
            ("an empty header", vec![good[0], ("pontual-csrf", "")]),
            ("another header", vec![good[0], ("pontual-csrf", &other)]),
            ("two headers", vec![good[0], good[1], good[1]]),
            ("a planted cookie", vec![("cookie", &planted), good[1]]),
            ("a forged pair", vec![("cookie", &forged), ("pontual-csrf", "x")]),
            ("another origin", vec![good[0], good[1], ("origin", "https://evil.test")]),
            ("another scheme", vec![good[0], good[1], ("origin", "http://pontual.test")]),
            ("another port", vec![good[0], good[1], ("origin", "https://pontual.test:8443")]),
            ("no origin", vec![good[0], good[1], ("origin", "null")]),
        ] {
            assert_eq!(passes(&pairs, 1), Err(Kind::CsrfFailed), "{what}");
        }
        assert_eq!(passes(&good, 2), Err(Kind::CsrfFailed), "another session's pair");
    }

    #[test]
    fn a_refresh_token_is_read_once_or_not_at_all() {
        let read =
            |jar: &str| Cookies::refresh_token(&headers(&[("cookie", jar)])).map(str::to_owned);
        assert_eq!(read("__Host-pontual-refresh=ptr_x").as_deref(), Some("ptr_x"));
        assert_eq!(read("a=1;__Host-pontual-refresh=ptr_x; b=2").as_deref(), Some("ptr_x"));
        for none in [
            "",
            "pontual-refresh=ptr_x",
            "__Host-pontual-refresh=",
            "__Host-pontual-refresh=a; __Host-pontual-refresh=b",
        ] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
