//! Passwords: changed by whoever knows the old one, reset by whoever reads the account's mail.
//!
//! The token of a reset mail is a keyed function of the reset's id, so that the job which sends the mail makes
//! it without having been told it, and nothing that is stored can be used: beside the log stands its hash.

use std::fmt;

use chrono::TimeDelta;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::register::address;
use super::{Account, AccountCommand, PendingReset, claim_of, own, secret_of};
use crate::command::{Command, SecretKind, Stop, Target, View};
use crate::ids::{AccountId, Id, ResetId};
use crate::text::EmailAddress;

/// The key reset tokens derive by.
#[derive(Clone)]
pub struct ResetKey([u8; 32]);

/// A key is not printed.
impl fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetKey(…)")
    }
}

impl ResetKey {
    /// What the key is derived from the master key with.
    pub const LABEL: &'static str = "password-reset";

    /// A key derived with [`ResetKey::LABEL`].
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The token of one reset.
    pub fn token(&self, reset: ResetId) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(reset.uuid().as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// What is kept of a token: the secret [`SecretKind::PasswordReset`].
    pub fn hash(token: &[u8; 32]) -> [u8; 32] {
        Sha256::digest(token).into()
    }
}

/// Ask for a mail to set a new password (`S0-01`). An unknown address, a deactivated and an erased account give
/// the same answer.
#[derive(Debug, Clone)]
pub struct RequestPasswordReset {
    /// Of whoever has this address.
    pub email: EmailAddress,
    /// What the token derives by.
    pub key: ResetKey,
}

impl RequestPasswordReset {
    /// How long a mail can be used (`S0-07`).
    pub const HOURS: i64 = 2;
}

/// The answer to it: the same whatever there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetRequestReceived {}

impl Command for RequestPasswordReset {
    const NAME: &'static str = "RequestPasswordReset";
    type Outcome = ResetRequestReceived;

    fn target(&self, view: &View<'_>) -> Target {
        address(claim_of(view, &self.email))
    }

    /// Anybody.
    fn authorize(&self, _: &View<'_>) -> Result<(), Stop> {
        Ok(())
    }

    fn decide(&self, view: &View<'_>) -> Result<ResetRequestReceived, Stop> {
        let owner = view.claim_owner(claim_of(view, &self.email))?.map(AccountId::trusted);
        let Some(owner) = owner else { return Ok(ResetRequestReceived {}) };
        if view.load::<Account>(owner)?.active().is_err() {
            return Ok(ResetRequestReceived {});
        }
        let reset: ResetId = view.mint().id(owner.slot(), 0);
        let expires_at = view.now() + TimeDelta::hours(Self::HOURS);
        let hash = ResetKey::hash(&self.key.token(reset));
        view.put_secret(secret_of(owner, SecretKind::PasswordReset), hash.to_vec());
        let pending = PendingReset { reset, expires_at };
        view.decide::<Account>(owner, AccountCommand::RequestPasswordReset(pending))?;
        Ok(ResetRequestReceived {})
    }
}

/// A new password stands, and all sessions of before are over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordIsChanged {
    /// Whose.
    pub account: AccountId,
    /// The account's credential generation now: what a new session begins under.
    pub generation: u32,
}

/// Set a new password by a mail's link (`S3-24`). The token was compared with the secret's hash at the edge.
#[derive(Clone)]
pub struct ResetPassword {
    /// Whose.
    pub account: AccountId,
    /// Which request.
    pub reset: ResetId,
    /// The new password's hash in PHC string form.
    pub new_hash: String,
}

/// Set a new password, knowing the old one (`S0-11`), which was verified at the edge.
#[derive(Clone)]
pub struct ChangePassword {
    /// Whose.
    pub account: AccountId,
    /// The account's credential generation that the old password was verified under.
    pub generation: u32,
    /// The new password's hash in PHC string form.
    pub new_hash: String,
}

/// A password hash is a secret: it is not printed.
impl fmt::Debug for ResetPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, reset, new_hash: _ } = self;
        f.debug_struct("ResetPassword")
            .field("account", account)
            .field("reset", reset)
            .finish_non_exhaustive()
    }
}

/// A password hash is a secret: it is not printed.
impl fmt::Debug for ChangePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, generation, new_hash: _ } = self;
        f.debug_struct("ChangePassword")
            .field("account", account)
            .field("generation", generation)
            .finish_non_exhaustive()
    }
}

impl Command for ResetPassword {
    const NAME: &'static str = "ResetPassword";
    type Outcome = PasswordIsChanged;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Account>(self.account)
    }

    /// Whoever has the link; the aggregate knows which one.
    fn authorize(&self, _: &View<'_>) -> Result<(), Stop> {
        Ok(())
    }

    fn decide(&self, view: &View<'_>) -> Result<PasswordIsChanged, Stop> {
        replace(view, self.account, AccountCommand::ResetPassword(self.reset), &self.new_hash)
    }
}

impl Command for ChangePassword {
    const NAME: &'static str = "ChangePassword";
    type Outcome = PasswordIsChanged;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Account>(self.account)
    }

    /// Everybody their own.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        own(view, self.account)
    }

    fn decide(&self, view: &View<'_>) -> Result<PasswordIsChanged, Stop> {
        let command = AccountCommand::ChangePassword { generation: self.generation };
        replace(view, self.account, command, &self.new_hash)
    }
}

/// Another password, and no reset link any more.
fn replace(
    view: &View<'_>,
    account: AccountId,
    command: AccountCommand,
    new_hash: &str,
) -> Result<PasswordIsChanged, Stop> {
    view.sent_by(account);
    let generation = view.load::<Account>(account)?.generation.saturating_add(1);
    view.decide::<Account>(account, command)?;
    view.drop_secret(secret_of(account, SecretKind::PasswordReset));
    let secret = secret_of(account, SecretKind::PasswordHash);
    view.put_secret(secret, new_hash.as_bytes().to_vec());
    Ok(PasswordIsChanged { account, generation })
}
