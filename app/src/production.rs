//! What production refuses: settings that work on a developer's machine and are a hole anywhere else.
//!
//! With `PONTUAL_ENV=production` a server says all of it at once and does not start; `pontual doctor` says it in
//! development, too, as a remark. For example a master key of `abab…ab`, which a test uses, seals nothing: whoever
//! reads this repository can open the data. Nothing is changed here, so a crash leaves nothing.

use std::fmt;

use base64::Engine as _;
use event_log::{Clock as _, MasterKey, SystemClock};
use http_kit::auth::{Names, Signer};
use secrecy::ExposeSecret as _;

use crate::config::{Config, Environment};

/// Something production refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which setting.
    pub variable: &'static str,
    /// What is wrong with it. Never what it is, where it is secret.
    pub problem: &'static str,
    /// What to do.
    pub next: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.variable, self.problem, self.next)
    }
}

/// All that production refuses of these settings.
#[derive(Debug, thiserror::Error)]
#[error("production refuses to start:\n{}", .0.iter().map(|refused| format!("  - {refused}")).collect::<Vec<_>>().join("\n"))]
pub struct Unfit(pub Vec<Refused>);

const NEW_MASTER: &str = "openssl rand -hex 32";
const NEW_SIGNING: &str = "openssl genpkey -algorithm ed25519";

/// An error in production if there is anything to refuse; `demo` is whether demo data is asked for.
pub fn insist(config: &Config, demo: bool) -> Result<(), Unfit> {
    if config.environment == Environment::Development {
        return Ok(());
    }
    let mut all = refused(config);
    if demo {
        all.push(DEMO);
    }
    if all.is_empty() { Ok(()) } else { Err(Unfit(all)) }
}

/// Demo data in production.
pub const DEMO: Refused = Refused {
    variable: "demo data",
    problem: "has accounts whose password everybody knows",
    next: "use another database for it, with PONTUAL_ENV=development",
};

/// What production would refuse of these settings.
pub fn refused(config: &Config) -> Vec<Refused> {
    let (master, signing) = config.set_keys();
    let master = match master {
        Some(key) => master_key(key.expose_secret()),
        None => Some("is not set, and none is made up"),
    };
    let signing = match signing {
        Some(key) => signing_key(&key.expose_secret().replace("\\n", "\n")),
        None => Some("is not set, and none is made up"),
    };
    let public = (!encrypted_or_local(&config.public_url))
        .then_some("begins with http://: passwords and tokens would travel in clear");
    let limits = (!config.rate_limits).then_some("is off: passwords could be tried without end");
    [
        ("PONTUAL_MASTER_KEY", master, NEW_MASTER),
        ("PONTUAL_SIGNING_KEY", signing, NEW_SIGNING),
        (
            "PONTUAL_PUBLIC_URL",
            public,
            "put a proxy with a certificate in front, and name it https://…",
        ),
        (
            "PONTUAL_RATE_LIMITS",
            limits,
            "remove it; PONTUAL_LIMIT_GENERAL and the others raise a limit",
        ),
    ]
    .into_iter()
    .filter_map(|(variable, problem, next)| Some(Refused { variable, problem: problem?, next }))
    .collect()
}

fn master_key(text: &str) -> Option<&'static str> {
    let Ok(key) = MasterKey::parse(text) else {
        return Some("is not 32 bytes in hexadecimal or base64");
    };
    let mut bytes = [0; 32];
    hex::decode_to_slice(key.to_hex().as_bytes(), &mut bytes).ok()?;
    (!looks_random(&bytes)).then_some("was not drawn at random: it can be guessed")
}

fn signing_key(pem: &str) -> Option<&'static str> {
    let signer = Signer::from_pem(
        pem.as_bytes(),
        Names::of("https://x"),
        std::sync::Arc::new(|| SystemClock.now()),
    );
    if signer.is_err() {
        return Some("is not an Ed25519 key in PEM (PKCS#8)");
    }
    let body: String =
        pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body).unwrap_or_default();
    // Behind the structure that is the same for all of them (RFC 8410, 10.3).
    match der.get(16..48).and_then(|seed| <&[u8; 32]>::try_from(seed).ok()) {
        Some(seed) if looks_random(seed) => None,
        Some(_) => Some("was not drawn at random: it can be guessed"),
        None => Some("is shorter than an Ed25519 key"),
    }
}

/// Whether these might be random bytes. Of 32 such about 30 differ, and fewer than 20 do once in 10¹² keys; the same holds for
/// the steps between them, which finds what counts up; and one in 10¹³ is all letters, which finds a pass phrase.
fn looks_random(bytes: &[u8; 32]) -> bool {
    let distinct = |bytes: &mut dyn Iterator<Item = u8>| {
        bytes.collect::<std::collections::BTreeSet<_>>().len()
    };
    let steps = bytes.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    distinct(&mut bytes.iter().copied()) >= 20
        && distinct(&mut { steps }) >= 18
        && !bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ')
}

/// Browsers hold what is on the same machine for safe, too.
fn encrypted_or_local(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return true };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_loopback =
        |host: &str| host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    !authority.contains('@')
        && (host == "localhost" || host.ends_with(".localhost") || is_loopback(host))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    const GOOD_MASTER: &str = "64f1d8f5c2a90b7e1133f08a6e27c4bd95d2a17c08e34b6ff19ac5d07743e28b";

    fn pem(seed: [u8; 32]) -> String {
        let der = [&hex::decode("302e020100300506032b657004220420").unwrap()[..], &seed].concat();
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\\n{text}\\n-----END PRIVATE KEY-----\\n")
    }

    fn good_pem() -> String {
        let mut seed = [0; 32];
        hex::decode_to_slice(GOOD_MASTER, &mut seed).unwrap();
        seed.reverse();
        pem(seed)
    }

    /// Settings that production takes, less those named here.
    fn with(changes: &[(&str, &str)]) -> Config {
        let pem = good_pem();
        let mut all = vec![
            ("PONTUAL_ENV", "production"),
            ("PONTUAL_MASTER_KEY", GOOD_MASTER),
            ("PONTUAL_SIGNING_KEY", &pem),
            ("PONTUAL_PUBLIC_URL", "https://pontual.example.com"),
        ];
        for (name, value) in changes {
            all.retain(|(known, _)| known != name);
            all.push((name, value));
        }
        Config::from_parts(None, all.iter().map(|(n, v)| (n.into(), v.into()))).unwrap()
    }

    /// The one thing that is refused.
    fn only(changes: &[(&str, &str)]) -> Refused {
        let error = insist(&with(changes), false).expect_err("production takes it");
        let said = error.to_string();
        let [one] = &error.0[..] else { panic!("{said}") };
        for (name, value) in changes.iter().filter(|(name, _)| name.ends_with("_KEY")) {
            assert!(value.is_empty() || !said.contains(value), "it tells {name}");
        }
        assert_eq!(one.variable, changes[0].0);
        one.clone()
    }

    #[test]
    fn production_takes_good_settings_and_development_any() {
        insist(&with(&[]), false).unwrap();
        let lax = [
            ("PONTUAL_ENV", "development"),
            ("PONTUAL_MASTER_KEY", ""),
            ("PONTUAL_SIGNING_KEY", ""),
            ("PONTUAL_PUBLIC_URL", "http://10.0.0.1"),
            ("PONTUAL_RATE_LIMITS", "off"),
        ];
        insist(&with(&lax), true).unwrap();
        assert_eq!(refused(&with(&lax)).len(), 4, "and production would say all of it at once");
    }

    #[test]
    fn production_refuses_a_master_key_that_can_be_guessed() {
        let counting: String = (0..32).map(|n| format!("{n:02x}")).collect();
        let in_sevens: String = (0..32_u8).map(|n| format!("{:02x}", n.wrapping_mul(7))).collect();
        for key in [
            "",
            &"00".repeat(32),
            &"ab".repeat(32),
            &"07".repeat(32),
            &"2a".repeat(32),
            &"0123456789abcdef".repeat(4),
            &GOOD_MASTER[..32].repeat(2),
            &counting,
            &in_sevens,
            &hex::encode("correct horse battery staple 123"),
            "short",
        ] {
            let refused = only(&[("PONTUAL_MASTER_KEY", key)]);
            assert_eq!(refused.next, "openssl rand -hex 32");
        }
        for _ in 0..10_000 {
            assert!(looks_random(&rand::random()), "a random key is taken");
        }
    }

    #[test]
    fn production_refuses_every_key_that_stands_in_this_repository() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut files: Vec<PathBuf> =
            [".env.example", "docker-compose.yml", "Dockerfile", "README.md"]
                .map(|f| root.join(f))
                .into();
        for folder in ["scripts", "tests/src", "tests/tests/it", "command-api/tests/common"] {
            files.extend(
                fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()),
            );
        }
        for file in files.iter().filter(|file| file.is_file()) {
            let text = fs::read_to_string(file).unwrap();
            for word in text.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 64)
            {
                assert!(master_key(word).is_some(), "{} holds a key", file.display());
            }
        }
        for text in [".env.example", "docker-compose.yml"] {
            let text = fs::read_to_string(root.join(text)).unwrap();
            assert!(!text.contains("BEGIN PRIVATE KEY"), "a signing key everybody has");
        }
        let of_tests = event_log::testing::master_key().to_hex();
        assert!(master_key(&of_tests).is_some());
    }

    #[test]
    fn production_refuses_a_signing_key_that_can_be_guessed_or_is_none_of_ed25519() {
        let of_tests = pem([1; 32]);
        let short = pem([1; 32]).replace("MC4CAQ", "MC4");
        // An EC key (P-256), PKCS#8.
        let ec = "-----BEGIN PRIVATE KEY-----\\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2\\nOF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r\\n1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G\\n-----END PRIVATE KEY-----\\n";
        for key in ["", &of_tests, &short, ec, "secret"] {
            let refused = only(&[("PONTUAL_SIGNING_KEY", key)]);
            assert_eq!(refused.next, "openssl genpkey -algorithm ed25519");
        }
    }

    #[test]
    fn production_refuses_a_public_url_in_clear_that_is_not_this_machine() {
        for url in [
            "http://pontual.example.com",
            "http://10.0.0.1:8080",
            "http://localhost.example.com",
            "http://localhost@evil.example.com",
            "http://evil.example.com/localhost",
        ] {
            only(&[("PONTUAL_PUBLIC_URL", url)]);
        }
        for url in [
            "https://10.0.0.1",
            "http://localhost:8080",
            "http://pontual.localhost",
            "http://127.0.0.1",
            "http://[::1]:80",
        ] {
            insist(&with(&[("PONTUAL_PUBLIC_URL", url)]), false).unwrap();
        }
    }

    #[test]
    fn production_refuses_to_be_without_limits_and_to_hold_demo_data() {
        only(&[("PONTUAL_RATE_LIMITS", "off")]);
        let error = insist(&with(&[]), true).unwrap_err();
        assert_eq!(error.0, [DEMO]);
        assert!(
            error.to_string().contains("demo data has accounts whose password everybody knows")
        );
    }
}
