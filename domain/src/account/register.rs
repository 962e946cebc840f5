//! Coming to be: registering, confirming the address, the first administrator.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Account, AccountCommand, AccountEvent, Profile, claim_of, secret_of};
use crate::Refusal;
use crate::actor::{Actor, Role};
use crate::aggregate::StreamId;
use crate::command::{ClaimKey, Command, SecretKind, Stop, Target, View};
use crate::hours::Zone;
use crate::ids::{AccountId, Id};
use crate::locale::Locale;
use crate::personal::Personal;
use crate::text::{EmailAddress, PersonName, Phone};

/// Register an account. A taken address does the same work and gives the same answer; its owner is told
/// by mail (design.md §3).
#[derive(Clone)]
pub struct RegisterAccount {
    /// Their name.
    pub name: PersonName,
    /// Their address.
    pub email: EmailAddress,
    /// Their telephone.
    pub phone: Option<Phone>,
    /// The language they read.
    pub locale: Locale,
    /// Where they live.
    pub zone: Option<Zone>,
    /// Whether they mean to open a shop.
    pub as_provider: bool,
    /// The password's hash in PHC string form; kept as a secret beside the log.
    pub password_hash: String,
}

/// A password hash is a secret: it is not printed.
impl fmt::Debug for RegisterAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, email, phone, locale, zone, as_provider, password_hash: _ } = self;
        f.debug_struct("RegisterAccount")
            .field("name", name)
            .field("email", email)
            .field("phone", phone)
            .field("locale", locale)
            .field("zone", zone)
            .field("as_provider", as_provider)
            .finish_non_exhaustive()
    }
}

/// The answer to a registration: the same whether the address was free or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegistrationReceived {}

impl Command for RegisterAccount {
    const NAME: &'static str = "RegisterAccount";
    type Outcome = RegistrationReceived;

    fn target(&self, view: &View<'_>) -> Target {
        address(claim_of(view, &self.email))
    }

    /// Those who want the same address go one at a time.
    fn queue(&self) -> Option<StreamId> {
        Some(queue_of(&self.email))
    }

    fn authorize(&self, _: &View<'_>) -> Result<(), Stop> {
        Ok(())
    }

    fn decide(&self, view: &View<'_>) -> Result<RegistrationReceived, Stop> {
        let claim = claim_of(view, &self.email);
        if let Some(owner) = view.claim_owner(claim)? {
            view.decide::<Account>(
                AccountId::trusted(owner),
                AccountCommand::NoteRegistrationAttempt,
            )?;
            return Ok(RegistrationReceived {});
        }
        let mut roles = vec![Role::Client];
        if self.as_provider {
            roles.push(Role::Provider);
        }
        let new = NewAccount {
            name: &self.name,
            email: &self.email,
            phone: self.phone.as_ref(),
            locale: self.locale,
            zone: self.zone,
            roles,
            password_hash: &self.password_hash,
        };
        let (id, command) = new.prepare(view, claim)?;
        view.decide::<Account>(id, command)?;
        Ok(RegistrationReceived {})
    }
}

/// Register the first administrator, or make somebody one: from the command line, by whoever runs the
/// installation. The address counts as confirmed.
#[derive(Clone)]
pub struct RegisterAdmin {
    /// Their name.
    pub name: PersonName,
    /// Their address.
    pub email: EmailAddress,
    /// The language they read.
    pub locale: Locale,
    /// The password's hash in PHC string form. An account that is there keeps its own.
    pub password_hash: String,
}

/// A password hash is a secret: it is not printed.
impl fmt::Debug for RegisterAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, email, locale, password_hash: _ } = self;
        f.debug_struct("RegisterAdmin")
            .field("name", name)
            .field("email", email)
            .field("locale", locale)
            .finish_non_exhaustive()
    }
}

/// There is an administrator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminRegistered {
    /// Which account.
    pub account: AccountId,
    /// Whether the account was there before: then its password is what it was.
    pub existed: bool,
}

impl Command for RegisterAdmin {
    const NAME: &'static str = "RegisterAdmin";
    type Outcome = AdminRegistered;

    fn target(&self, view: &View<'_>) -> Target {
        address(claim_of(view, &self.email))
    }

    fn queue(&self) -> Option<StreamId> {
        Some(queue_of(&self.email))
    }

    /// Pontual itself, which is whoever may start it.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        match view.actor() {
            Actor::System(_) => Ok(()),
            Actor::Anonymous => Err(Refusal::SignInRequired.into()),
            Actor::Account { .. } | Actor::Guest { .. } => Err(Refusal::Forbidden.into()),
        }
    }

    fn decide(&self, view: &View<'_>) -> Result<AdminRegistered, Stop> {
        let claim = claim_of(view, &self.email);
        if let Some(owner) = view.claim_owner(claim)? {
            let account = AccountId::trusted(owner);
            // Anybody can register anybody's address; the one who confirmed it is its owner.
            view.load::<Account>(account)?.may_act()?;
            view.decide::<Account>(account, AccountCommand::GrantRole(Role::Admin))?;
            return Ok(AdminRegistered { account, existed: true });
        }
        let new = NewAccount {
            name: &self.name,
            email: &self.email,
            phone: None,
            locale: self.locale,
            zone: None,
            roles: vec![Role::Client, Role::Admin],
            password_hash: &self.password_hash,
        };
        let (account, command) = new.prepare(view, claim)?;
        view.decide::<Account>(account, command)?;
        view.emit::<Account>(account, vec![AccountEvent::EmailConfirmed {}])?;
        Ok(AdminRegistered { account, existed: false })
    }
}

/// What both ways to register share.
struct NewAccount<'a> {
    name: &'a PersonName,
    email: &'a EmailAddress,
    phone: Option<&'a Phone>,
    locale: Locale,
    zone: Option<Zone>,
    roles: Vec<Role>,
    password_hash: &'a str,
}

impl NewAccount<'_> {
    /// Mints the account in its claim's slot, so that registering touches one partition; takes the claim, and
    /// keeps the password's hash.
    fn prepare(
        self,
        view: &View<'_>,
        claim: ClaimKey,
    ) -> Result<(AccountId, AccountCommand), Stop> {
        let id: AccountId = view.mint().id(claim.slot(), 0);
        let profile = Profile {
            name: Personal::of(id, self.name.clone()),
            email: Personal::of(id, self.email.clone()),
            phone: self.phone.cloned().map(|phone| Personal::of(id, phone)),
            locale: self.locale,
        };
        view.new_subject(id);
        view.take_claim(claim, id.uuid())?;
        view.put_secret(
            secret_of(id, SecretKind::PasswordHash),
            self.password_hash.as_bytes().to_vec(),
        );
        let command = AccountCommand::Register { id, profile, zone: self.zone, roles: self.roles };
        Ok((id, command))
    }
}

/// A command that is aimed at an address, whoever holds it.
pub(super) fn address(claim: ClaimKey) -> Target {
    let name = format!("email/{}", Uuid::from_slice(&claim.hash[..16]).unwrap_or_default());
    Target::named(claim.slot(), name)
}

/// No stream: a name that all who want an address meet at, within the process.
fn queue_of(email: &EmailAddress) -> StreamId {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::new().chain_update(b"register\0").chain_update(email.as_str()).finalize();
    let id = Uuid::from_slice(&digest[..16]).unwrap_or_default();
    StreamId { kind: crate::aggregate::StreamKind::Account, id }
}

/// Confirm an account's address. The link's signature was verified at the edge: whoever holds it may.
#[derive(Debug, Clone)]
pub struct ConfirmEmail {
    /// Whose.
    pub account: AccountId,
}

/// An account's address is confirmed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EmailIsConfirmed {
    /// Whose.
    pub account: AccountId,
}

impl Command for ConfirmEmail {
    const NAME: &'static str = "ConfirmEmail";
    type Outcome = EmailIsConfirmed;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Account>(self.account)
    }

    fn authorize(&self, _: &View<'_>) -> Result<(), Stop> {
        Ok(())
    }

    fn decide(&self, view: &View<'_>) -> Result<EmailIsConfirmed, Stop> {
        view.sent_by(self.account);
        view.decide::<Account>(self.account, AccountCommand::ConfirmEmail)?;
        Ok(EmailIsConfirmed { account: self.account })
    }
}
