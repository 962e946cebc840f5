//! Links that stand in mails: an id and a MAC over it.
//!
//! The token that confirms an address is `<account id>.<MAC>`, both base64url; the MAC is HMAC-SHA-256 with
//! a key derived from the master key (`derive_key("email-confirm")`). Nothing is stored: the mail renderer
//! makes the token when it sends, the confirming route checks it. A link never expires by itself;
//! confirming twice changes nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::ids::{AccountId, Id};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

/// The label of the key that confirms addresses.
pub const EMAIL_CONFIRM: &str = "email-confirm";

/// The token that confirms an account's address.
pub fn confirm_token(key: &[u8; 32], account: AccountId) -> String {
    let id = URL_SAFE_NO_PAD.encode(account.uuid().as_bytes());
    let mac = URL_SAFE_NO_PAD.encode(mac(key, account).finalize().into_bytes());
    format!("{id}.{mac}")
}

/// The account whose address a token confirms, if we made the token.
pub fn confirmed_account(key: &[u8; 32], token: &str) -> Option<AccountId> {
    let (id, tag) = token.split_once('.')?;
    let decode = |text: &str, length| {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == length).then_some(bytes)
    };
    let account = AccountId::try_from(Uuid::from_slice(&decode(id, 16)?).ok()?).ok()?;
    // Compared in constant time.
    mac(key, account).verify_slice(&decode(tag, 32)?).ok()?;
    Some(account)
}

fn mac(key: &[u8; 32], account: AccountId) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(account.uuid().as_bytes());
    mac.update(EMAIL_CONFIRM.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use domain::ids::{Mint, RoutingSlot};

    use super::*;

    #[test]
    fn only_a_token_made_with_the_key_confirms_and_only_its_account() {
        let key = [1; 32];
        let account = |n| Mint::new([n; 32]).id::<AccountId>(RoutingSlot::from_bits(7), 0);
        let (ana, eva) = (account(1), account(2));
        let token = confirm_token(&key, ana);
        assert_eq!(confirmed_account(&key, &token), Some(ana));
        assert_eq!(confirmed_account(&[2; 32], &token), None);
        let (_, tag) = token.split_once('.').unwrap();
        let (evas_id, _) = confirm_token(&key, eva)
            .split_once('.')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        assert_eq!(confirmed_account(&key, &format!("{evas_id}.{tag}")), None);
        for wrong in ["", ".", "x.y", &token[..token.len() - 1], &format!("{token}A"), "é.é"] {
            assert_eq!(confirmed_account(&key, wrong), None, "{wrong}");
        }
    }
}
