//! Account: a person, their address, and what they may do.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Refusal;
use crate::actor::{Actor, Role};
use crate::aggregate::{Aggregate, Context, StreamKind, aggregate};
use crate::command::{ClaimKind, Command, SecretKey, SecretKind, Stop, Target, View};
use crate::ids::{AccountId, Id};
use crate::locale::Locale;
use crate::personal::Personal;
use crate::text::{EmailAddress, PersonName, Phone};

/// A person's account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// `None` until registered.
    pub profile: Option<Profile>,
    /// Whether the address was confirmed.
    pub email_confirmed: bool,
    /// What the account may be, in the order it was granted.
    pub roles: Vec<Role>,
}

/// What a person told us of themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Their name.
    pub name: Personal<PersonName>,
    /// Their address.
    pub email: Personal<EmailAddress>,
    /// Their telephone.
    pub phone: Option<Personal<Phone>>,
    /// The language they read.
    pub locale: Locale,
}

/// What can be asked of an account.
#[derive(Debug, Clone, PartialEq)]
pub enum AccountCommand {
    /// Register it.
    Register {
        /// Its id, the subject of its personal data.
        id: AccountId,
        /// Who they are.
        profile: Profile,
        /// `client`, and `provider` if they asked for it.
        roles: Vec<Role>,
    },
    /// Note that somebody tried to register with its address.
    NoteRegistrationAttempt,
    /// Confirm its address.
    ConfirmEmail,
    /// Grant a role.
    GrantRole(Role),
}

/// What happened to an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AccountEvent {
    /// It came to be.
    AccountRegistered {
        /// Their name.
        name: Personal<PersonName>,
        /// Their address.
        email: Personal<EmailAddress>,
        /// Their telephone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phone: Option<Personal<Phone>>,
        /// The language they read.
        locale: Locale,
        /// What it may be.
        roles: Vec<Role>,
    },
    /// Somebody tried to register with its address again; its owner is told by mail.
    RegistrationAttempted {},
    /// Its address was confirmed.
    EmailConfirmed {},
    /// It may be one thing more.
    RoleGranted {
        /// Which.
        role: Role,
    },
}

aggregate!(Account(AccountId), AccountCommand => AccountEvent {
    AccountRegistered = "1",
    RegistrationAttempted = "1",
    EmailConfirmed = "1",
    RoleGranted = "1",
});

impl Account {
    /// Whether it was registered.
    pub fn exists(&self) -> bool {
        self.profile.is_some()
    }

    /// Whether it may act: registered, and its address confirmed.
    pub fn may_act(&self) -> Result<&Profile, Refusal> {
        let profile = self.profile.as_ref().ok_or(Refusal::NotFound("account"))?;
        if self.email_confirmed { Ok(profile) } else { Err(Refusal::EmailNotConfirmed) }
    }
}

impl Aggregate for Account {
    type Id = AccountId;
    const KIND: StreamKind = StreamKind::Account;

    fn decide(&self, command: AccountCommand, _: &Context) -> Result<Vec<AccountEvent>, Refusal> {
        match command {
            AccountCommand::Register {
                id: _,
                profile: Profile { name, email, phone, locale },
                roles,
            } => {
                if self.exists() {
                    return Ok(Vec::new());
                }
                Ok(vec![AccountEvent::AccountRegistered { name, email, phone, locale, roles }])
            }
            AccountCommand::NoteRegistrationAttempt => {
                self.profile.as_ref().ok_or(Refusal::NotFound("account"))?;
                Ok(vec![AccountEvent::RegistrationAttempted {}])
            }
            AccountCommand::ConfirmEmail => {
                self.profile.as_ref().ok_or(Refusal::NotFound("account"))?;
                Ok(if self.email_confirmed {
                    vec![]
                } else {
                    vec![AccountEvent::EmailConfirmed {}]
                })
            }
            AccountCommand::GrantRole(role) => {
                self.profile.as_ref().ok_or(Refusal::NotFound("account"))?;
                Ok(if self.roles.contains(&role) {
                    vec![]
                } else {
                    vec![AccountEvent::RoleGranted { role }]
                })
            }
        }
    }

    fn evolve(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::AccountRegistered { name, email, phone, locale, roles } => {
                self.profile = Some(Profile {
                    name: name.clone(),
                    email: email.clone(),
                    phone: phone.clone(),
                    locale: *locale,
                });
                self.roles.clone_from(roles);
            }
            AccountEvent::RegistrationAttempted {} => {}
            AccountEvent::EmailConfirmed {} => self.email_confirmed = true,
            AccountEvent::RoleGranted { role } => self.roles.push(*role),
        }
    }
}

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
    /// Whether they mean to open a shop.
    pub as_provider: bool,
    /// The password's hash in PHC string form; kept as a secret beside the log.
    pub password_hash: String,
}

/// A password hash is a secret: it is not printed.
impl fmt::Debug for RegisterAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, email, phone, locale, as_provider, password_hash: _ } = self;
        f.debug_struct("RegisterAccount")
            .field("name", name)
            .field("email", email)
            .field("phone", phone)
            .field("locale", locale)
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
        let claim = view.claim_key(ClaimKind::Email, self.email.as_str());
        Target {
            slot: claim.slot(),
            name: format!("email/{}", Uuid::from_slice(&claim.hash[..16]).unwrap_or_default()),
        }
    }

    fn authorize(&self, _: &View<'_>) -> Result<(), Stop> {
        Ok(())
    }

    fn decide(&self, view: &View<'_>) -> Result<RegistrationReceived, Stop> {
        let claim = view.claim_key(ClaimKind::Email, self.email.as_str());
        if let Some(owner) = view.claim_owner(claim)? {
            view.decide::<Account>(
                AccountId::trusted(owner),
                AccountCommand::NoteRegistrationAttempt,
            )?;
            return Ok(RegistrationReceived {});
        }
        let id: AccountId = view.mint().id(claim.slot(), 0);
        let profile = Profile {
            name: Personal::of(id, self.name.clone()),
            email: Personal::of(id, self.email.clone()),
            phone: self.phone.clone().map(|phone| Personal::of(id, phone)),
            locale: self.locale,
        };
        let mut roles = vec![Role::Client];
        if self.as_provider {
            roles.push(Role::Provider);
        }
        view.new_subject(id);
        view.take_claim(claim, id.uuid())?;
        view.put_secret(
            SecretKey { owner: id.uuid(), kind: SecretKind::PasswordHash },
            self.password_hash.clone().into_bytes(),
        );
        view.decide::<Account>(id, AccountCommand::Register { id, profile, roles })?;
        Ok(RegistrationReceived {})
    }
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
        view.decide::<Account>(self.account, AccountCommand::ConfirmEmail)?;
        Ok(EmailIsConfirmed { account: self.account })
    }
}

/// The actor's own account, or a refusal for whoever is not signed in.
pub(crate) fn signed_in(actor: &Actor) -> Result<AccountId, Refusal> {
    actor.account().ok_or(Refusal::SignInRequired)
}
