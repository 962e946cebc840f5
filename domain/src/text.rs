//! Bounded texts: parsed at the edge, so that inside an invalid one cannot be built.
//!
//! All of them refuse control characters (`S2-39`), trim surrounding white space, and count characters,
//! not bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidText {
    /// Too short or too long.
    #[error("{what} must have {min} to {max} characters")]
    Length {
        /// What it is, as in `name`.
        what: &'static str,
        /// The least number of characters.
        min: usize,
        /// The most.
        max: usize,
    },
    /// Control characters or bidirectional overrides.
    #[error("{what} must not contain control characters")]
    Control {
        /// What it is.
        what: &'static str,
    },
    /// Not of the form it needs.
    #[error("{what} must be {form}")]
    Form {
        /// What it is.
        what: &'static str,
        /// The form in words.
        form: &'static str,
    },
}

/// Trims, then checks length and characters.
fn bounded(
    text: &str,
    what: &'static str,
    min: usize,
    max: usize,
    lines: bool,
) -> Result<String, InvalidText> {
    let text = text.trim();
    let length = text.chars().take(max + 1).count();
    if length < min || length > max {
        return Err(InvalidText::Length { what, min, max });
    }
    let bad = |c: char| is_control(c) && !(lines && matches!(c, '\n' | '\t'));
    if text.chars().any(bad) {
        return Err(InvalidText::Control { what });
    }
    Ok(text.to_owned())
}

/// Control characters, bidirectional overrides, the byte order mark.
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident($what:literal, $min:literal..=$max:literal $(; lines $lines:literal)? $(, $check:expr)?);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The least and the most characters.
            pub const LENGTH: (usize, usize) = ($min, $max);

            /// The text.
            pub fn as_str(&self) -> &str { &self.0 }
        }

        impl FromStr for $name {
            type Err = InvalidText;
            fn from_str(text: &str) -> Result<Self, InvalidText> {
                let lines = false $(|| $lines)?;
                let text = bounded(text, $what, $min, $max, lines)?;
                $(let text = { let check: fn(String) -> Result<String, InvalidText> = $check; check(text)? };)?
                Ok(Self(text))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidText;
            fn try_from(text: String) -> Result<Self, InvalidText> { text.parse() }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String { text.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    )*};
}

texts! {
    /// A person's name (`S2-40`: required, 2–255).
    PersonName("name", 2..=255);
    /// An email address: one `@`, a dotted domain, no spaces or quotes; lower case (`S2-40`). An internationalised
    /// domain is in its ASCII form (`xn--…`), however it was written: one address is one account.
    /// Deliberately narrower than RFC 5321: quoted local parts are refused.
    EmailAddress("email", 3..=254, |text| check_email(text));
    /// A telephone number (`S3-12`: at most 20): digits, spaces and `+-().`.
    Phone("phone", 3..=20, |text| check_phone(text));
    /// A provider's business name (`S3-13`).
    BusinessName("business_name", 2..=255);
    /// A service's name (`S3-15`).
    ServiceName("name", 1..=255);
    /// A longer description, lines allowed.
    Description("description", 1..=4000; lines true);
    /// A note or a reason, lines allowed.
    Note("note", 1..=2000; lines true);
    /// An IP address, as a person reads it.
    IpText("ip", 2..=45, |text| check_ip(text));
    /// What a client calls itself; see [`UserAgent::of`].
    UserAgent("user_agent", 1..=512);
    /// The name of a page in a URL (`S3-13`, `S3-14`: at most 100): `a-z`, `0-9` and inner hyphens.
    Slug("slug", 3..=100, |text| check_slug(text));
    /// A slug that somebody asks for: none that is reserved. What became reserved since stays whose it is, and reads.
    NewSlug("slug", 3..=100, |text| check_new_slug(text));
    /// Street, number and whatever else leads to a shop's door (`S3-13`).
    Address("address", 1..=500; lines true);
    /// A city (`S3-13`).
    City("city", 1..=100);
    /// A state or province (`S3-13`).
    State("state", 1..=50);
    /// A postal code (`S3-13`).
    PostalCode("postal_code", 1..=20);
    /// A page elsewhere (`S3-13`): an `http` or `https` address without a user in it.
    Website("website", 10..=255, |text| check_website(text));
    /// A name at Instagram (`S3-13`), without its `@`.
    Instagram("instagram", 1..=100, |text| check_handle("instagram", text));
    /// A name at Facebook (`S3-13`), without its `@`.
    Facebook("facebook", 1..=100, |text| check_handle("facebook", text));
    /// Something a provider is good at (`S1-04`).
    Specialization("specializations", 1..=100);
    /// A category's name (`S3-14`).
    CategoryName("name", 1..=100);
    /// The name of an icon (`S3-14`), as a front end knows it.
    Icon("icon", 1..=50);
    /// A colour (`S3-14`): `#rrggbb`, in lower case.
    Color("color", 7..=7, |text| check_color(text));
    /// The name of a plan (`S3-13`): `free`, or whatever an installation sells.
    Plan("plan", 1..=20, |text| check_plan(text));
}

impl From<NewSlug> for Slug {
    fn from(slug: NewSlug) -> Self {
        Self(slug.0)
    }
}

/// `free`, which every shop starts with (`S3-13`).
impl Default for Plan {
    fn default() -> Self {
        Self("free".to_owned())
    }
}

impl UserAgent {
    /// What can be kept of a header: cut to length, without control characters. A strange browser must not
    /// keep anybody from signing in.
    pub fn of(header: &str) -> Option<Self> {
        let plain: String =
            header.chars().filter(|c| !is_control(*c)).take(Self::LENGTH.1).collect();
        plain.parse().ok()
    }
}

impl From<std::net::IpAddr> for IpText {
    fn from(ip: std::net::IpAddr) -> Self {
        Self(ip.to_canonical().to_string())
    }
}

/// Path segments that can never be a provider's page (K11): every literal that stands beside
/// `/api/providers/{slug}`, which a test asserts, and some that may.
pub const RESERVED_SLUGS: [&str; 25] = [
    "profile",
    "dashboard",
    "available-times",
    "available-days",
    "available-slots",
    "my-services",
    "hours",
    "policy",
    "overrides",
    "slug",
    "page",
    "standing",
    "search",
    "calendar",
    "holidays",
    "time-off",
    "slots",
    "holds",
    "waitlist",
    "appointments",
    "services",
    "admin",
    "api",
    "me",
    "new",
];

fn check_email(text: String) -> Result<String, InvalidText> {
    let wrong = InvalidText::Form { what: "email", form: "an address such as ana@example.com" };
    let text = text.to_lowercase();
    let (local, domain) = text.rsplit_once('@').ok_or(wrong.clone())?;
    // Letters, with their accents apart or not. What nobody sees would be passed over, and pictures are let through.
    let written = |c: char| {
        c.is_alphanumeric() || matches!(c, '-' | '.' | '\u{3002}' | '\u{300}'..='\u{36f}')
    };
    if !domain.chars().all(written) {
        return Err(wrong);
    }
    let domain = idna::domain_to_ascii_cow(domain.as_bytes(), idna::AsciiDenyList::STD3)
        .map_err(|_| wrong.clone())?;
    let local_ok = !local.is_empty()
        && local.len() <= 64
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c));
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let domain_ok = domain.contains('.') && domain.split('.').all(label_ok);
    if !local_ok || !domain_ok {
        return Err(wrong);
    }
    let address = format!("{local}@{domain}");
    // In ASCII a domain is longer than it was.
    let (min, max) = EmailAddress::LENGTH;
    if address.chars().count() > max {
        return Err(InvalidText::Length { what: "email", min, max });
    }
    Ok(address)
}

fn check_ip(text: String) -> Result<String, InvalidText> {
    let wrong = InvalidText::Form { what: "ip", form: "an IP address" };
    let ip: std::net::IpAddr = text.parse().map_err(|_| wrong)?;
    Ok(IpText::from(ip).0)
}

fn check_phone(text: String) -> Result<String, InvalidText> {
    let ok = text.chars().all(|c| c.is_ascii_digit() || " +-().".contains(c))
        && text.chars().filter(char::is_ascii_digit).count() >= 3;
    if ok {
        Ok(text)
    } else {
        Err(InvalidText::Form { what: "phone", form: "digits, spaces and +-()." })
    }
}

fn check_slug(text: String) -> Result<String, InvalidText> {
    let ok = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--");
    if !ok {
        return Err(InvalidText::Form {
            what: "slug",
            form: "lower-case letters, digits and single hyphens",
        });
    }
    // A UUID would be taken for an id in a path.
    if uuid::Uuid::try_parse(&text).is_ok() {
        return Err(InvalidText::Form { what: "slug", form: "a name that is not reserved" });
    }
    Ok(text)
}

fn check_new_slug(text: String) -> Result<String, InvalidText> {
    let text = check_slug(text)?;
    if RESERVED_SLUGS.contains(&text.as_str()) {
        return Err(InvalidText::Form { what: "slug", form: "a name that is not reserved" });
    }
    Ok(text)
}

/// What a browser goes to when a page links there, and nothing else: no script, no file, no password.
fn check_website(text: String) -> Result<String, InvalidText> {
    let wrong = InvalidText::Form { what: "website", form: "an http or https address" };
    let (scheme, rest) = text.split_once("://").ok_or(wrong.clone())?;
    let web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let named = host
        .split(':')
        .next()
        .is_some_and(|name| name.contains('.') && name.split('.').all(|label| !label.is_empty()));
    let written = |c: char| !c.is_whitespace() && !"\\\"'<>`{}|^".contains(c);
    if web && named && !host.contains('@') && text.chars().all(written) {
        Ok(text)
    } else {
        Err(wrong)
    }
}

fn check_handle(what: &'static str, text: String) -> Result<String, InvalidText> {
    let name = text.strip_prefix('@').unwrap_or(&text);
    let ok =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if ok {
        Ok(name.to_owned())
    } else {
        Err(InvalidText::Form { what, form: "a name such as @salao.da.ana" })
    }
}

fn check_color(text: String) -> Result<String, InvalidText> {
    let digits =
        text.strip_prefix('#').filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    match digits {
        Some(_) => Ok(text.to_ascii_lowercase()),
        None => Err(InvalidText::Form { what: "color", form: "a colour such as #3366ff" }),
    }
}

fn check_plan(text: String) -> Result<String, InvalidText> {
    if text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        Ok(text)
    } else {
        Err(InvalidText::Form { what: "plan", form: "lower-case letters, digits and hyphens" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(" Ana ".parse::<PersonName>().unwrap().as_str(), "Ana");
        assert!("A".parse::<PersonName>().is_err());
        assert!("á".repeat(255).parse::<PersonName>().is_ok());
        assert!("a".repeat(256).parse::<PersonName>().is_err());
        assert!("Ana\u{0}Maria".parse::<PersonName>().is_err());
        assert!("Ana\u{202e}airaM".parse::<PersonName>().is_err());
        assert!("two\nlines".parse::<PersonName>().is_err());
        assert!("two\nlines".parse::<Note>().is_ok());
    }

    #[test]
    fn addresses_are_lower_case_and_well_formed() {
        assert_eq!(
            "Ana.B@Example.COM".parse::<EmailAddress>().unwrap().as_str(),
            "ana.b@example.com"
        );
        for wrong in [
            "a",
            "@b.c",
            "a@b",
            "a b@c.d",
            "a@b..c",
            "a@-b.c",
            "a@b.c\r\nBcc: x@y.z",
            ".a@b.c",
            "\"a\"@b.c",
        ] {
            assert!(wrong.parse::<EmailAddress>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_internationalised_domain_is_one_address_however_it_is_written() {
        let of = |text: &str| text.parse::<EmailAddress>();
        let ascii = of("ana@xn--salo-ioa.example").unwrap();
        for same in
            ["ana@sal\u{e3}o.example", "Ana@SAL\u{c3}O.example", "ana@sala\u{303}o\u{3002}example"]
        {
            assert_eq!(of(same).unwrap(), ascii, "{same}");
        }
        // Local parts are the mail server's own business.
        assert_ne!(of("an\u{e1}@example.com").unwrap(), of("ana@example.com").unwrap());
        for wrong in [
            "a@\u{fdd0}.example",
            "a@b\u{200b}.example",
            "a@b\u{ad}c.example",
            "a@\u{1f600}.example",
        ] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
        let long = format!("a@{}com", "\u{e3}bcdefgh.".repeat(25));
        assert!(long.chars().count() <= 254 && of(&long).is_err());
    }

    #[test]
    fn slugs_cannot_be_reserved_words_or_ids() {
        assert!("salao-da-ana".parse::<Slug>().is_ok());
        for wrong in [
            "profile",
            "my-services",
            "-a-b",
            "a--b",
            "Ana",
            "a_b",
            "01935d2e-7c11-7a3f-9c2b-000000000000",
        ] {
            assert!(wrong.parse::<NewSlug>().is_err(), "{wrong}");
        }
        // Whoever had it before it was reserved still has it.
        assert!("profile".parse::<Slug>().is_ok());
        assert!("01935d2e-7c11-7a3f-9c2b-000000000000".parse::<Slug>().is_err());
    }

    #[test]
    fn a_website_is_a_page_of_the_web() {
        for good in ["https://salao.example", "HTTP://a.b.example:8080/c?d=e#f"] {
            assert_eq!(good.parse::<Website>().unwrap().as_str(), good);
        }
        for wrong in [
            "javascript://a.example/%0aalert(1)",
            "ftp://a.example",
            "https://",
            "https:///path",
            "https://ana:secret@a.example",
            "https://a.example/\"onload=",
            "https://a example.com",
            "https://localhost",
            "https://a..example",
            "//a.example/page",
        ] {
            assert!(wrong.parse::<Website>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn handles_colours_and_plans_have_one_form_each() {
        assert_eq!("@salao.da_ana".parse::<Instagram>().unwrap().as_str(), "salao.da_ana");
        assert!("https://instagram.com/x".parse::<Instagram>().is_err());
        assert!("@".parse::<Facebook>().is_err());
        assert_eq!("#33AAff".parse::<Color>().unwrap().as_str(), "#33aaff");
        for wrong in ["#33aaf", "33aaff0", "#33aafg", "red"] {
            assert!(wrong.parse::<Color>().is_err(), "{wrong}");
        }
        assert_eq!(Plan::default().as_str(), "free");
        assert!("Pro".parse::<Plan>().is_err());
    }

    #[test]
    fn whatever_a_client_calls_itself_can_be_kept() {
        assert_eq!(UserAgent::of("Mozilla/5.0\r\n (X11)").unwrap().as_str(), "Mozilla/5.0 (X11)");
        assert_eq!(UserAgent::of(&"x".repeat(5000)).unwrap().as_str().len(), 512);
        assert_eq!(UserAgent::of(" \u{202e}\0 "), None);
        let mapped: IpText = "::ffff:203.0.113.9".parse().unwrap();
        assert_eq!(mapped.as_str(), "203.0.113.9");
        assert!("203.0.113".parse::<IpText>().is_err());
    }

    #[test]
    fn debug_output_never_shows_the_text() {
        assert_eq!(format!("{:?}", "Ana Maria".parse::<PersonName>().unwrap()), "PersonName(…)");
    }
}
