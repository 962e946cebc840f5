//! The master key, and every key that is derived from it.
//!
//! One 32-byte key comes from the environment or a file. Everything else is HMAC-SHA256 of a label under
//! it, so that no two uses share a key and a new use needs no new secret. The key itself is never stored;
//! the log keeps a check value, so that a log cannot be opened with another key by mistake.

use std::fmt;

use base64::Engine as _;
use domain::command::{ClaimHasher, ClaimKey, ClaimKind};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;
use uuid::Uuid;
use zeroize::Zeroizing;

/// A MAC with its key already absorbed; cloning it is cheaper than keying anew.
pub(crate) type Keyed = Hmac<Sha256>;

/// The 32 bytes everything sealed depends on. Lose them and personal data is gone; `Debug` hides them.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

/// A text that is not a master key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a master key is 32 bytes, written as 64 hexadecimal digits or in base64")]
pub struct InvalidMasterKey;

impl MasterKey {
    /// Takes the bytes as they are.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads 64 hexadecimal digits, or base64 (standard or URL alphabet, padded or not).
    pub fn parse(text: &str) -> Result<Self, InvalidMasterKey> {
        use base64::engine::general_purpose::{
            STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD,
        };
        let text = text.trim();
        let mut bytes = Zeroizing::new([0; 32]);
        if hex::decode_to_slice(text, bytes.as_mut_slice()).is_ok() {
            return Ok(Self(bytes));
        }
        for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
            let decoded = engine.decode(text).map(Zeroizing::new);
            if let Ok(Ok(found)) = decoded.map(|d| <[u8; 32]>::try_from(d.as_slice())) {
                return Ok(Self::from_bytes(found));
            }
        }
        Err(InvalidMasterKey)
    }

    /// A new random key.
    pub fn generate() -> Self {
        Self::from_bytes(random_bytes())
    }

    /// The key as hexadecimal digits, to be written to a file.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0.as_slice()))
    }

    /// A key for one use, named by its label.
    pub fn derive(&self, label: &str) -> [u8; 32] {
        let mac = keyed(self.0.as_slice());
        finish(mac.chain_update(b"pontual/v1/").chain_update(label.as_bytes()))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// Bytes from the operating system's generator, by way of the thread's.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes);
    bytes
}

/// A MAC under `key`.
pub(crate) fn keyed(key: &[u8]) -> Keyed {
    Keyed::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// The MAC's 32 bytes.
pub(crate) fn finish(mac: Keyed) -> [u8; 32] {
    mac.finalize().into_bytes().into()
}

/// Adds a length-prefixed part, so that no two lists of parts are the same bytes.
pub(crate) fn part(mac: Keyed, part: &[u8]) -> Keyed {
    mac.chain_update((part.len() as u64).to_be_bytes()).chain_update(part)
}

/// The derived keys, ready for use.
pub(crate) struct Keys {
    master: MasterKey,
    claims: Keyed,
    commands: Keyed,
    fingerprints: Keyed,
    mint: Keyed,
}

impl Keys {
    pub(crate) fn new(master: MasterKey) -> Self {
        let under = |label| keyed(&master.derive(label));
        Self {
            claims: under("claims"),
            commands: under("commands"),
            fingerprints: under("fingerprints"),
            mint: under("mint"),
            master,
        }
    }

    pub(crate) fn derive(&self, label: &str) -> [u8; 32] {
        self.master.derive(label)
    }

    /// Stored with the log; the key cannot be had from it.
    pub(crate) fn check_value(&self, log: Uuid) -> [u8; 32] {
        finish(keyed(&self.master.derive("check")).chain_update(log.as_bytes()))
    }

    /// Sixteen bytes that name a command: the same for the same actor, operation, target and key.
    pub(crate) fn command_id(&self, parts: [&str; 4]) -> [u8; 16] {
        let mac = parts.iter().fold(self.commands.clone(), |mac, p| part(mac, p.as_bytes()));
        let mut id = [0; 16];
        id.copy_from_slice(&finish(mac)[..16]);
        id
    }

    pub(crate) fn fingerprint(&self, of: &[u8]) -> [u8; 32] {
        finish(self.fingerprints.clone().chain_update(of))
    }

    pub(crate) fn mint_seed(&self, command: Uuid) -> [u8; 32] {
        finish(self.mint.clone().chain_update(command.as_bytes()))
    }
}

impl ClaimHasher for Keys {
    fn claim_key(&self, kind: ClaimKind, value: &str) -> ClaimKey {
        let mac = part(self.claims.clone(), kind.as_str().as_bytes());
        ClaimKey { kind, hash: finish(part(mac, value.as_bytes())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_hex_and_from_base64_and_nothing_else() {
        let key = MasterKey::from_bytes([0xfb; 32]);
        let same = |text: &str| MasterKey::parse(text).is_ok_and(|k| k.0 == key.0);
        assert!(same(&key.to_hex()));
        assert!(same(&base64::engine::general_purpose::STANDARD.encode([0xfb; 32])));
        assert!(same(&base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([0xfb; 32])));
        for bad in ["", "short", &"zz".repeat(32), &"ab".repeat(31)] {
            assert!(MasterKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_and_kinds_give_different_keys() {
        let keys = Keys::new(MasterKey::from_bytes([1; 32]));
        assert_ne!(keys.derive("a"), keys.derive("b"));
        let email = keys.claim_key(ClaimKind::Email, "x");
        assert_ne!(email.hash, keys.claim_key(ClaimKind::Slug, "x").hash);
        assert_eq!(email, keys.claim_key(ClaimKind::Email, "x"));
        assert_ne!(keys.command_id(["a", "bc", "", ""]), keys.command_id(["ab", "c", "", ""]));
    }

    #[test]
    fn debug_shows_nothing_of_the_key() {
        assert_eq!(format!("{:?}", MasterKey::from_bytes([9; 32])), "MasterKey(…)");
    }
}
