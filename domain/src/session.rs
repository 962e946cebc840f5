//! Session: one signed-in device, from signing in to signing out.
//!
//! For example Ana signs in on her telephone: [`SignIn`] begins a stream in her account's slot and puts the
//! first [`RefreshRecord`] beside the log. Each refresh replaces that record by compare-and-set, without an
//! event. The session is over when it was ended ([`SignOut`], [`EndSession`], [`EndForReuse`]), when its time
//! is up, or when the account's credential generation has moved on: a changed password, a deactivation or an
//! erasure ends all of an account's sessions with one event of the account ([`Session::alive`]).
//!
//! A crash between the two leaves nothing: the event and the record are one append.

use std::fmt;
use std::net::IpAddr;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::account::{Account, Status, signed_in};
use crate::actor::{Actor, Role};
use crate::aggregate::{Aggregate, Context, StreamKind, aggregate};
use crate::command::{Command, SecretKey, SecretKind, Stop, Target, View};
use crate::ids::{AccountId, Id, SessionId};
use crate::personal::Personal;
use crate::text::{IpText, UserAgent};
use crate::{Instant, Refusal};

/// A signed-in device. Where it signed in from stands in its first event alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// `None` until somebody signed in.
    pub started: Option<Started>,
    /// Why it ended, if it did.
    pub ended: Option<EndReason>,
}

/// How a session began.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// Whose it is.
    pub account: AccountId,
    /// The account's credential generation then: a later one ends the session.
    pub generation: u32,
    /// When it ends at the latest.
    pub expires_at: Instant,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Whoever used it signed out.
    SignedOut,
    /// Its owner ended it from elsewhere.
    EndedByOwner,
    /// A refresh token that had been replaced was used again: one of its two holders is a thief.
    RefreshReused,
}

impl EndReason {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::EndedByOwner => "ended_by_owner",
            Self::RefreshReused => "refresh_reused",
        }
    }
}

/// What can be asked of a session.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionCommand {
    /// Begin it.
    Start {
        /// Whose, under what, how long.
        started: Started,
        /// From which address.
        ip: Option<Personal<IpText>>,
        /// With what.
        user_agent: Option<Personal<UserAgent>>,
    },
    /// End it.
    End(EndReason),
}

/// What happened to a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SessionEvent {
    /// Somebody signed in.
    SessionStarted {
        /// Whose it is.
        account: AccountId,
        /// The account's credential generation.
        generation: u32,
        /// When it ends at the latest.
        expires_at: Instant,
        /// From which address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ip: Option<Personal<IpText>>,
        /// With what.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_agent: Option<Personal<UserAgent>>,
    },
    /// It is over.
    SessionEnded {
        /// Whose it was.
        account: AccountId,
        /// Why.
        reason: EndReason,
    },
}

aggregate!(Session(SessionId), SessionCommand => SessionEvent {
    SessionStarted = "1",
    SessionEnded = "1",
});

impl Session {
    /// How it began.
    pub fn begun(&self) -> Result<&Started, Refusal> {
        self.started.as_ref().ok_or(Refusal::NotFound("session"))
    }

    /// How it began, if it still is: not ended, not too old, and begun under the credentials that its
    /// account has now. Both must be at least as new as the log's tail.
    pub fn alive(&self, account: &Account, now: Instant) -> Result<&Started, Refusal> {
        let started = self.begun()?;
        if account.status == Status::Deactivated {
            return Err(Refusal::AccountDeactivated);
        }
        let over = self.ended.is_some()
            || account.status == Status::Erased
            || now >= started.expires_at
            || account.generation != started.generation;
        if over { Err(Refusal::SessionEnded) } else { Ok(started) }
    }
}

impl Aggregate for Session {
    type Id = SessionId;
    const KIND: StreamKind = StreamKind::Session;

    fn decide(&self, command: SessionCommand, _: &Context) -> Result<Vec<SessionEvent>, Refusal> {
        match command {
            SessionCommand::Start { started, ip, user_agent } => {
                if self.started.is_some() {
                    return Ok(Vec::new());
                }
                let Started { account, generation, expires_at } = started;
                Ok(vec![SessionEvent::SessionStarted {
                    account,
                    generation,
                    expires_at,
                    ip,
                    user_agent,
                }])
            }
            SessionCommand::End(reason) => {
                let account = self.begun()?.account;
                Ok(if self.ended.is_some() {
                    vec![]
                } else {
                    vec![SessionEvent::SessionEnded { account, reason }]
                })
            }
        }
    }

    fn evolve(&mut self, event: &SessionEvent) {
        match event {
            SessionEvent::SessionStarted {
                account,
                generation,
                expires_at,
                ip: _,
                user_agent: _,
            } => {
                self.started = Some(Started {
                    account: *account,
                    generation: *generation,
                    expires_at: *expires_at,
                });
            }
            SessionEvent::SessionEnded { account: _, reason } => self.ended = Some(*reason),
        }
    }
}

/// How long a session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Without a refresh.
    pub idle: TimeDelta,
    /// In all.
    pub absolute: TimeDelta,
}

impl Default for Lifetime {
    /// 30 days without use, 90 in all.
    fn default() -> Self {
        Self { idle: TimeDelta::days(30), absolute: TimeDelta::days(90) }
    }
}

/// What is kept of a session's refresh token, beside the log: enough to recognise the current one and the one
/// before it, with the key the tokens are derived by, and of no use without that key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshRecord {
    /// Random; the session's tokens derive from it and a key.
    #[serde(with = "hex_32")]
    pub nonce: [u8; 32],
    /// How often it was rotated: the number of the current token.
    pub number: u32,
    /// When the current token was given out.
    pub rotated_at: Instant,
    /// Until when the current token can be used.
    pub expires_at: Instant,
    /// When the session ends at the latest.
    pub ends_at: Instant,
}

/// The nonce is not printed.
impl fmt::Debug for RefreshRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nonce: _, number, rotated_at, expires_at, ends_at } = self;
        f.debug_struct("RefreshRecord")
            .field("number", number)
            .field("rotated_at", rotated_at)
            .field("expires_at", expires_at)
            .field("ends_at", ends_at)
            .finish_non_exhaustive()
    }
}

impl RefreshRecord {
    /// Of a session that begins now.
    pub fn first(nonce: [u8; 32], now: Instant, lifetime: Lifetime) -> Self {
        let ends_at = now + lifetime.absolute;
        let expires_at = ends_at.min(now + lifetime.idle);
        Self { nonce, number: 0, rotated_at: now, expires_at, ends_at }
    }

    /// The record of the token after this one.
    #[must_use]
    pub fn rotated(&self, now: Instant, lifetime: Lifetime) -> Self {
        Self {
            nonce: self.nonce,
            number: self.number.saturating_add(1),
            rotated_at: now,
            expires_at: self.ends_at.min(now + lifetime.idle),
            ends_at: self.ends_at,
        }
    }

    /// As it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record is plain JSON")
    }

    /// As it was kept; `None` if it was not written by us.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Where a session's record is kept.
    pub fn key(session: SessionId) -> SecretKey {
        SecretKey { owner: session.uuid(), kind: SecretKind::Refresh }
    }
}

/// 32 bytes as text.
mod hex_32 {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        to.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(from)?;
        let wrong = || de::Error::custom("not 32 bytes in hexadecimal");
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
        }
        Ok(bytes)
    }
}

/// Begin a session. The password was verified at the edge, under a generation of the account that was loaded
/// *before* the password's hash was: if either has changed since, this is refused.
#[derive(Clone)]
pub struct SignIn {
    /// Who.
    pub account: AccountId,
    /// The account's credential generation that the password was verified under.
    pub generation: u32,
    /// 32 random bytes, of which the session's refresh tokens are made.
    pub nonce: [u8; 32],
    /// How long it may live.
    pub lifetime: Lifetime,
    /// From which address.
    pub ip: Option<IpAddr>,
    /// With what; see [`UserAgent::of`].
    pub user_agent: Option<UserAgent>,
}

/// Who signs in from where is personal, and the nonce is not printed.
impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, generation, nonce: _, lifetime, ip: _, user_agent: _ } = self;
        f.debug_struct("SignIn")
            .field("account", account)
            .field("generation", generation)
            .field("lifetime", lifetime)
            .finish_non_exhaustive()
    }
}

/// Somebody is signed in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignedIn {
    /// The session.
    pub session: SessionId,
    /// Whose.
    pub account: AccountId,
    /// The credential generation its tokens carry.
    pub generation: u32,
    /// The roles its tokens carry.
    pub roles: Vec<Role>,
    /// When the session ends at the latest.
    pub expires_at: Instant,
    /// When it began: the `rotated_at` of its first record.
    pub started_at: Instant,
}

impl Command for SignIn {
    const NAME: &'static str = "SignIn";
    type Outcome = SignedIn;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Account>(self.account)
    }

    /// Whoever knew the password.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        let account = view.load::<Account>(self.account)?;
        Ok(account.proven(self.generation)?)
    }

    fn decide(&self, view: &View<'_>) -> Result<SignedIn, Stop> {
        let (id, now) = (self.account, view.now());
        let account = view.load::<Account>(id)?;
        account.active()?;
        let session: SessionId = view.mint().id(id.slot(), 0);
        let record = RefreshRecord::first(self.nonce, now, self.lifetime);
        let expires_at = record.ends_at;
        view.sent_by(id);
        view.put_secret(RefreshRecord::key(session), record.to_bytes());
        let started = Started { account: id, generation: account.generation, expires_at };
        let ip = self.ip.map(|ip| Personal::of(id, ip.into()));
        let user_agent = self.user_agent.clone().map(|agent| Personal::of(id, agent));
        view.decide::<Session>(session, SessionCommand::Start { started, ip, user_agent })?;
        Ok(SignedIn {
            session,
            account: id,
            generation: account.generation,
            roles: account.roles.clone(),
            expires_at,
            started_at: now,
        })
    }
}

/// A session is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionIsOver {
    /// Which.
    pub session: SessionId,
    /// Whose it was.
    pub account: AccountId,
}

/// End the session one uses.
#[derive(Debug, Clone)]
pub struct SignOut {
    /// Which.
    pub session: SessionId,
}

/// End one of one's sessions, used elsewhere.
#[derive(Debug, Clone)]
pub struct EndSession {
    /// Which.
    pub session: SessionId,
}

/// End a session whose refresh token was used by two. Pontual itself does this.
#[derive(Debug, Clone)]
pub struct EndForReuse {
    /// Which.
    pub session: SessionId,
}

macro_rules! ends {
    ($($command:ident by $rule:ident because $reason:ident;)*) => {$(
        impl Command for $command {
            const NAME: &'static str = stringify!($command);
            type Outcome = SessionIsOver;

            fn target(&self, _: &View<'_>) -> Target {
                Target::stream::<Session>(self.session)
            }

            fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
                $rule(view, self.session)
            }

            fn decide(&self, view: &View<'_>) -> Result<SessionIsOver, Stop> {
                end(view, self.session, EndReason::$reason)
            }
        }
    )*};
}

ends! {
    SignOut by its_owner because SignedOut;
    EndSession by its_owner because EndedByOwner;
    EndForReuse by pontual because RefreshReused;
}

/// Whoever is not its owner is told that there is no such session.
fn its_owner(view: &View<'_>, session: SessionId) -> Result<(), Stop> {
    let account = signed_in(view.actor())?;
    if view.load::<Session>(session)?.begun()?.account == account {
        Ok(())
    } else {
        Err(Refusal::NotFound("session").into())
    }
}

fn pontual(view: &View<'_>, _: SessionId) -> Result<(), Stop> {
    match view.actor() {
        Actor::System(_) => Ok(()),
        Actor::Anonymous => Err(Refusal::SignInRequired.into()),
        Actor::Account { .. } | Actor::Guest { .. } => Err(Refusal::Forbidden.into()),
    }
}

fn end(view: &View<'_>, session: SessionId, reason: EndReason) -> Result<SessionIsOver, Stop> {
    let account = view.load::<Session>(session)?.begun()?.account;
    let events = view.decide::<Session>(session, SessionCommand::End(reason))?;
    if !events.is_empty() {
        view.drop_secret(RefreshRecord::key(session));
    }
    Ok(SessionIsOver { session, account })
}
