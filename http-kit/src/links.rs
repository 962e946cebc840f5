//! Links that stand in mails: ids, and a MAC that only we can make.
//!
//! Every purpose has a key of its own, derived from the master key, so a link for one is of no use for another:
//!
//! | purpose | token | good |
//! |---|---|---|
//! | confirm an address | account, MAC | as long as the account; confirming twice changes nothing |
//! | change the address | account and request, MAC | until it is confirmed, or another change is asked for |
//! | reset the password | account and request, MAC | once, for 2 hours, until password or address change |
//! | manage a guest's appointment | appointment and guest, MAC | until 30 days after its end, or the guest is erased |
//!
//! For example `<account id>.<MAC>`, both base64url, confirms an address; the MAC is HMAC-SHA-256. The mail
//! renderer makes the token when it sends, the route checks it. Whether a request still stands the account
//! knows; of a reset the token's hash is kept besides ([`ResetKey::hash`]). Nothing else is stored, so a crash loses
//! nothing.

use axum::extract::FromRequestParts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::account::ResetKey;
use domain::ids::{AccountId, AppointmentId, ChangeId, GuestId, Id, ResetId};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderName;
use http::request::Parts;
use sha2::Sha256;
use uuid::Uuid;

use crate::{Kind, Problem};

/// The label of the key that confirms addresses.
pub const EMAIL_CONFIRM: &str = "email-confirm";

/// The label of the key that changes addresses.
pub const EMAIL_CHANGE: &str = "email-change";

/// The token that confirms an account's address.
pub fn confirm_token(key: &[u8; 32], account: AccountId) -> String {
    write(&[account.uuid()], &mac(key, &[account.uuid()], EMAIL_CONFIRM).finalize().into_bytes())
}

/// The account whose address a token confirms, if we made the token.
pub fn confirmed_account(key: &[u8; 32], token: &str) -> Option<AccountId> {
    let ([account], tag) = read(token)?;
    // Compared in constant time.
    mac(key, &[account], EMAIL_CONFIRM).verify_slice(&tag).ok()?;
    AccountId::try_from(account).ok()
}

/// The token that confirms the address an account means to change to.
pub fn change_token(key: &[u8; 32], account: AccountId, change: ChangeId) -> String {
    let ids = [account.uuid(), change.uuid()];
    write(&ids, &mac(key, &ids, EMAIL_CHANGE).finalize().into_bytes())
}

/// The change of address a token confirms, if we made the token.
pub fn confirmed_change(key: &[u8; 32], token: &str) -> Option<(AccountId, ChangeId)> {
    let (ids, tag) = read(token)?;
    // Compared in constant time.
    mac(key, &ids, EMAIL_CHANGE).verify_slice(&tag).ok()?;
    let [account, change] = ids;
    Some((AccountId::try_from(account).ok()?, ChangeId::try_from(change).ok()?))
}

/// The token that resets an account's password.
pub fn reset_token(key: &ResetKey, account: AccountId, reset: ResetId) -> String {
    write(&[account.uuid(), reset.uuid()], &key.token(reset))
}

/// What a token to reset a password says. It proves nothing until [`PresentedReset::is`] says so.
#[derive(Clone)]
pub struct PresentedReset {
    /// Whose password.
    pub account: AccountId,
    /// Which request.
    pub reset: ResetId,
    token: [u8; 32],
}

impl PresentedReset {
    /// Reads a token; `None` if it is not of the form.
    pub fn read(token: &str) -> Option<Self> {
        let ([account, reset], token) = read(token)?;
        Some(Self {
            account: AccountId::try_from(account).ok()?,
            reset: ResetId::try_from(reset).ok()?,
            token,
        })
    }

    /// Whether we made it, used or not.
    pub fn is_ours(&self, key: &ResetKey) -> bool {
        self.is(Some(&ResetKey::hash(&key.token(self.reset))))
    }

    /// Whether it is the token of which this is kept. Hashes are compared, so how long it takes tells nothing.
    pub fn is(&self, kept: Option<&[u8]>) -> bool {
        kept.is_some_and(|kept| kept == ResetKey::hash(&self.token))
    }
}

/// The token is not printed.
impl std::fmt::Debug for PresentedReset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PresentedReset").field("account", &self.account).finish_non_exhaustive()
    }
}

/// The label of the key that lets guests in.
pub const GUEST_LINK: &str = "guest-link";

/// The header that carries the token of a guest's link. A link has it behind `#`: no server writes it down.
pub const PONTUAL_GUEST: HeaderName = HeaderName::from_static("pontual-guest");

/// The token that lets a guest manage their one appointment.
pub fn guest_token(key: &[u8; 32], appointment: AppointmentId, guest: GuestId) -> String {
    let ids = [appointment.uuid(), guest.uuid()];
    write(&ids, &mac(key, &ids, GUEST_LINK).finalize().into_bytes())
}

/// The token of a guest's link, as it was sent; not printed. Without one the request is `401 sign-in-required`.
pub struct GuestToken(String);

impl GuestToken {
    /// The guest and their appointment, if we made the token. Whether it still leads there the appointment knows.
    pub fn guest(&self, key: &[u8; 32]) -> Result<(GuestId, AppointmentId), Problem> {
        let read = || {
            let (ids, tag) = read(&self.0)?;
            // Compared in constant time.
            mac(key, &ids, GUEST_LINK).verify_slice(&tag).ok()?;
            let [appointment, guest] = ids;
            Some((GuestId::try_from(guest).ok()?, AppointmentId::try_from(appointment).ok()?))
        };
        read().ok_or_else(|| Kind::InvalidLink.into())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for GuestToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let token = parts.headers.get(PONTUAL_GUEST).ok_or(Kind::SignInRequired)?;
        let token = token.to_str().map_err(|_| Kind::InvalidLink)?;
        Ok(Self(token.to_owned()))
    }
}

/// `<ids>.<tag>`, both base64url.
fn write(ids: &[Uuid], tag: &[u8]) -> String {
    let ids: Vec<u8> = ids.iter().flat_map(Uuid::as_bytes).copied().collect();
    format!("{}.{}", URL_SAFE_NO_PAD.encode(ids), URL_SAFE_NO_PAD.encode(tag))
}

/// So many ids and a tag of 32 bytes.
fn read<const N: usize>(token: &str) -> Option<([Uuid; N], [u8; 32])> {
    let (ids, tag) = token.split_once('.')?;
    // Nothing of ours is longer.
    if ids.len() > 64 || tag.len() > 64 {
        return None;
    }
    let ids = URL_SAFE_NO_PAD.decode(ids).ok()?;
    let (ids, rest) = ids.as_chunks::<16>();
    if !rest.is_empty() {
        return None;
    }
    let ids: Vec<Uuid> = ids.iter().copied().map(Uuid::from_bytes).collect();
    Some((ids.try_into().ok()?, URL_SAFE_NO_PAD.decode(tag).ok()?.try_into().ok()?))
}

fn mac(key: &[u8; 32], ids: &[Uuid], purpose: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    ids.iter().for_each(|id| mac.update(id.as_bytes()));
    mac.update(purpose.as_bytes());
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

    #[test]
    fn a_link_is_good_for_its_purpose_its_account_and_its_request_alone() {
        let slot = RoutingSlot::from_bits(7);
        let account = |n| Mint::new([n; 32]).id::<AccountId>(slot, 0);
        let change = |n| Mint::new([n; 32]).id::<ChangeId>(slot, 0);
        let reset = |n| Mint::new([n; 32]).id::<ResetId>(slot, 0);
        let key = [1; 32];
        let token = change_token(&key, account(1), change(1));
        assert_eq!(confirmed_change(&key, &token), Some((account(1), change(1))));
        assert_eq!(confirmed_change(&[2; 32], &token), None);
        assert_eq!(confirmed_account(&key, &token), None);
        assert_eq!(confirmed_change(&key, &confirm_token(&key, account(1))), None);
        let tag = token.split_once('.').unwrap().1;
        for (a, c) in [(2, 1), (1, 2)] {
            let other = change_token(&key, account(a), change(c));
            let mixed = format!("{}.{tag}", other.split_once('.').unwrap().0);
            assert_eq!(confirmed_change(&key, &mixed), None);
        }

        let guest = |n| Mint::new([n; 32]).id::<GuestId>(slot, 0);
        let appointment = |n| Mint::new([n; 32]).id::<AppointmentId>(slot, 0);
        let token = guest_token(&key, appointment(1), guest(1));
        let theirs = |token: &str, key| GuestToken(token.to_owned()).guest(key).ok();
        assert_eq!(theirs(&token, &key), Some((guest(1), appointment(1))));
        assert_eq!(theirs(&token, &[2; 32]), None);
        assert_eq!(theirs(&change_token(&key, account(1), change(1)), &key), None);
        let tag = token.split_once('.').unwrap().1;
        for (a, g) in [(2, 1), (1, 2)] {
            let other = guest_token(&key, appointment(a), guest(g));
            let mixed = format!("{}.{tag}", other.split_once('.').unwrap().0);
            assert_eq!(theirs(&mixed, &key), None);
        }

        let resets = ResetKey::new(key);
        let kept = ResetKey::hash(&resets.token(reset(1)));
        let token = reset_token(&resets, account(1), reset(1));
        let read = PresentedReset::read(&token).unwrap();
        assert_eq!((read.account, read.reset), (account(1), reset(1)));
        assert!(read.is_ours(&resets) && !read.is_ours(&ResetKey::new([2; 32])));
        assert!(read.is(Some(&kept)) && !read.is(None) && !read.is(Some(&[])));
        let other = PresentedReset::read(&reset_token(&resets, account(1), reset(2))).unwrap();
        assert!(!other.is(Some(&kept)));
        assert_eq!(confirmed_change(&key, &token), None, "though the key were the same");
        let long = format!("{}.{}", "A".repeat(1 << 20), "A".repeat(1 << 20));
        for wrong in ["", ".", "a.b", &token[1..], &token[..token.len() - 1], &long] {
            assert!(PresentedReset::read(wrong).is_none());
        }
    }
}
