//! Refresh tokens: opaque, rotating, one family per session (K15).
//!
//! A token is `ptr_` and the base64url of three things: the session's id, a number, and a secret. The n-th
//! secret of a session is HMAC-SHA-256(key, session ‖ n ‖ nonce); the nonce, 32 random bytes, is all that is
//! kept, beside n, so a stolen database holds no token: the key is derived from the master key.
//!
//! For example a session stands at number 4. A client presents the token of number 4 and gets that of number 5;
//! the record moves to 5 by compare-and-set. Ninety-nine others present number 4 within 30 seconds, because an
//! answer was lost or ten tabs woke at once: they get number 5 too. Somebody who presents number 4 a minute later
//! has a copy of a token that was used: nobody can say which of the two is the thief, so the session ends.
//!
//! After a crash between the compare-and-set and the answer the client still has number 4, and is within the
//! 30 seconds if it comes back at once; else it signs in again.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use domain::Instant;
use domain::ids::{Id, SessionId};
use domain::session::RefreshRecord;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

/// The label of the key that refresh tokens are made with.
pub const REFRESH_TOKEN: &str = "refresh-token";

/// How long the predecessor of the current token is still good for the current one.
pub const GRACE: TimeDelta = TimeDelta::seconds(30);

/// What a token begins with, so that scanners for leaked secrets know it.
const PREFIX: &str = "ptr_";

/// Makes and judges refresh tokens.
#[derive(Clone)]
pub struct RefreshKey([u8; 32]);

impl RefreshKey {
    /// With the key derived under [`REFRESH_TOKEN`].
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The `number`-th token of a session.
    pub fn token(&self, session: SessionId, nonce: &[u8; 32], number: u32) -> String {
        let mut bytes = [0; 52];
        bytes[..16].copy_from_slice(session.uuid().as_bytes());
        bytes[16..20].copy_from_slice(&number.to_be_bytes());
        bytes[20..].copy_from_slice(&self.mac(session, nonce, number).finalize().into_bytes());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What to do with a token, given what is kept of its session.
    pub fn judge(&self, presented: &Presented, kept: &RefreshRecord, now: Instant) -> Verdict {
        let Presented { session, number, secret } = presented;
        let RefreshRecord { nonce, number: current, rotated_at, expires_at, ends_at: _ } = kept;
        // Compared in constant time.
        if self.mac(*session, nonce, *number).verify_slice(secret).is_err() || number > current {
            return Verdict::Forged;
        }
        if now >= *expires_at {
            return Verdict::Expired;
        }
        if number == current {
            Verdict::Current
        } else if number + 1 == *current && now - *rotated_at < GRACE {
            Verdict::JustRotated
        } else {
            Verdict::Reused
        }
    }

    fn mac(&self, session: SessionId, nonce: &[u8; 32], number: u32) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(session.uuid().as_bytes());
        mac.update(&number.to_be_bytes());
        mac.update(nonce);
        mac
    }
}

impl fmt::Debug for RefreshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshKey(…)")
    }
}

/// What a token is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the current one: rotate, and answer with the next.
    Current,
    /// It was the current one a moment ago: answer with the one that is current now.
    JustRotated,
    /// It is one of ours that was used before: two people have this session. End it.
    Reused,
    /// The session has lasted its time.
    Expired,
    /// We never issued it.
    Forged,
}

/// A token as a client presents it: of the right form, and nothing more is known.
#[derive(Clone, PartialEq, Eq)]
pub struct Presented {
    /// The session it names.
    pub session: SessionId,
    number: u32,
    secret: [u8; 32],
}

/// A text that is no refresh token. What it was is not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a refresh token")]
pub struct NoRefreshToken;

impl FromStr for Presented {
    type Err = NoRefreshToken;

    fn from_str(text: &str) -> Result<Self, NoRefreshToken> {
        let mut bytes = [0; 52];
        let encoded = text.strip_prefix(PREFIX).ok_or(NoRefreshToken)?;
        match URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes) {
            Ok(52) => {}
            Ok(_) | Err(_) => return Err(NoRefreshToken),
        }
        let (session, rest) = bytes.split_first_chunk::<16>().ok_or(NoRefreshToken)?;
        let (number, secret) = rest.split_first_chunk::<4>().ok_or(NoRefreshToken)?;
        Ok(Self {
            session: SessionId::try_from(Uuid::from_bytes(*session)).map_err(|_| NoRefreshToken)?,
            number: u32::from_be_bytes(*number),
            secret: secret.try_into().map_err(|_| NoRefreshToken)?,
        })
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").field("session", &self.session).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::{Mint, RoutingSlot};
    use domain::session::Lifetime;

    use super::*;

    const KEY: RefreshKey = RefreshKey::new([1; 32]);

    fn session(n: u8) -> SessionId {
        Mint::new([n; 32]).id(RoutingSlot::from_bits(7), 0)
    }

    fn now() -> Instant {
        "2026-03-02T12:00:00Z".parse().unwrap()
    }

    fn kept(number: u32) -> RefreshRecord {
        RefreshRecord { number, ..RefreshRecord::first([9; 32], now(), Lifetime::default()) }
    }

    /// What the `number`-th token is worth so long after the rotation to `kept`.
    fn judged(number: u32, kept: &RefreshRecord, after: TimeDelta) -> Verdict {
        let token = KEY.token(session(1), &kept.nonce, number).parse().unwrap();
        KEY.judge(&token, kept, kept.rotated_at + after)
    }

    #[test]
    fn the_current_token_rotates_and_its_predecessor_is_good_for_half_a_minute() {
        let kept = kept(4);
        let seconds = TimeDelta::seconds;
        assert_eq!(judged(4, &kept, seconds(0)), Verdict::Current);
        assert_eq!(judged(4, &kept, seconds(86_400)), Verdict::Current);
        assert_eq!(judged(3, &kept, seconds(29)), Verdict::JustRotated);
        assert_eq!(judged(3, &kept, seconds(30)), Verdict::Reused);
        assert_eq!(judged(2, &kept, seconds(1)), Verdict::Reused);
        assert_eq!(judged(0, &kept, seconds(1)), Verdict::Reused);
    }

    #[test]
    fn a_session_ends_when_it_is_idle_or_old() {
        let mut kept = kept(4);
        assert_eq!(judged(4, &kept, TimeDelta::days(30) - TimeDelta::seconds(1)), Verdict::Current);
        assert_eq!(judged(4, &kept, TimeDelta::days(30)), Verdict::Expired);
        kept.expires_at = now() + TimeDelta::hours(1);
        assert_eq!(judged(4, &kept, TimeDelta::hours(1)), Verdict::Expired);
        assert_eq!(
            judged(3, &kept, TimeDelta::hours(1)),
            Verdict::Expired,
            "and nothing is reused"
        );
    }

    #[test]
    fn what_we_did_not_issue_is_forged_and_ends_nothing() {
        let kept = kept(4);
        let judge = |token: String| KEY.judge(&token.parse().unwrap(), &kept, now());
        assert_eq!(judge(KEY.token(session(1), &[8; 32], 4)), Verdict::Forged, "another nonce");
        let other = RefreshKey::new([2; 32]);
        assert_eq!(judge(other.token(session(1), &kept.nonce, 4)), Verdict::Forged);
        assert_eq!(judge(other.token(session(1), &kept.nonce, 2)), Verdict::Forged);
        assert_eq!(judge(KEY.token(session(1), &kept.nonce, 5)), Verdict::Forged, "of the future");
        assert_eq!(judge(KEY.token(session(1), &kept.nonce, u32::MAX)), Verdict::Forged);
        // The secret of one token under the number, or the session, of another.
        let mut presented: Presented = KEY.token(session(1), &kept.nonce, 3).parse().unwrap();
        presented.number = 4;
        assert_eq!(KEY.judge(&presented, &kept, now()), Verdict::Forged);
        let mut presented: Presented = KEY.token(session(2), &kept.nonce, 4).parse().unwrap();
        presented.session = session(1);
        assert_eq!(KEY.judge(&presented, &kept, now()), Verdict::Forged);
    }

    #[test]
    fn a_token_reads_back_and_nothing_else_does() {
        let token = KEY.token(session(1), &[9; 32], 4);
        assert!(token.starts_with("ptr_") && token.len() == 74);
        let presented: Presented = token.parse().unwrap();
        assert_eq!((presented.session, presented.number), (session(1), 4));
        assert!(!format!("{presented:?} {KEY:?} {:?}", kept(1)).contains("9, 9"));
        let long = "x".repeat(1 << 20);
        for wrong in [
            "",
            "ptr_",
            &token[4..],
            &token[..73],
            &format!("{token}A"),
            &format!("{token}="),
            &format!(" {token}"),
            &token.to_uppercase(),
            &format!("ptr_{}", "A".repeat(70)),
            &format!("ptr_{}", "é".repeat(35)),
            &format!("ptr_{long}"),
        ] {
            assert_eq!(wrong.parse::<Presented>(), Err(NoRefreshToken));
        }
    }
}
