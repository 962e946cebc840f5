//! Account: a person, their address, what they may do, and whether they still may.
//!
//! For example Ana forgot her password: [`RequestPasswordReset`] notes a [`ResetId`] on her account and keeps
//! the hash of a token beside the log; the mail that `PasswordResetRequested` orders derives the same token
//! again. [`ResetPassword`] is decided on that note: used once, replaced by a later one, or too old, it is
//! refused. It raises the account's **credential generation**, and with that every session that began under
//! an older one is over (`crate::session`).
//!
//! The commands stand beside this file: `register`, `profile`, `password`, `standing`. A crash leaves either
//! nothing or all of a command: events, claims, secrets and the erasure of a data key are one append.

mod password;
mod profile;
mod register;
mod standing;

use serde::{Deserialize, Serialize};

pub use self::password::{
    ChangePassword, PasswordIsChanged, RequestPasswordReset, ResetKey, ResetPassword,
    ResetRequestReceived,
};
pub use self::profile::{
    ChangePhoto, ConfirmEmailChange, EmailChangeReceived, EmailIsChanged, PhotoIs, ProfileIsSet,
    RemovePhoto, RequestEmailChange, UpdateProfile,
};
pub use self::register::{
    AdminRegistered, ConfirmEmail, EmailIsConfirmed, RegisterAccount, RegisterAdmin,
    RegistrationReceived,
};
pub use self::standing::{
    AccountIs, DeactivateAccount, EndAllSessions, EraseAccount, GrantRole, ReactivateAccount,
    RevokeRole,
};
use crate::actor::{Actor, Role};
use crate::aggregate::{Aggregate, Context, StreamKind, aggregate};
use crate::command::{ClaimKey, ClaimKind, SecretKey, SecretKind, Stop, View};
use crate::hours::Zone;
use crate::ids::{AccountId, ChangeId, Id, PhotoId, ResetId};
use crate::locale::Locale;
use crate::personal::Personal;
use crate::text::{EmailAddress, PersonName, Phone};
use crate::{Instant, Refusal};

/// A person's account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// `None` until registered.
    pub profile: Option<Profile>,
    /// Whether the address was confirmed.
    pub email_confirmed: bool,
    /// What the account may be, in the order it was granted.
    pub roles: Vec<Role>,
    /// Whether it can be used.
    pub status: Status,
    /// Who deactivated it, while it is.
    pub deactivated_by: Option<DeactivatedBy>,
    /// The credential generation: every session that began under an older one is over.
    pub generation: u32,
    /// The time zone they live in, if they said so.
    pub zone: Option<Zone>,
    /// The address they mean to change to.
    pub pending_email: Option<PendingEmail>,
    /// The last change of address that was confirmed.
    pub confirmed_change: Option<ChangeId>,
    /// The password reset that was asked for.
    pub pending_reset: Option<PendingReset>,
    /// Their photo.
    pub photo: Option<PhotoId>,
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

/// Whether an account can be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As any.
    #[default]
    Active,
    /// Closed, and can be opened again (`S3-28`, K12).
    Deactivated,
    /// Nobody's any more (K12).
    Erased,
}

impl Status {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Erased => "erased",
        }
    }
}

/// Who deactivated an account. What an administrator closed its owner cannot open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeactivatedBy {
    /// Its owner.
    #[default]
    Owner,
    /// An administrator, or Pontual itself.
    Admin,
}

/// An address that waits to be confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingEmail {
    /// Which request.
    pub change: ChangeId,
    /// The new address.
    pub email: Personal<EmailAddress>,
}

/// A password reset that can still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingReset {
    /// Which request.
    pub reset: ResetId,
    /// Until when.
    pub expires_at: Instant,
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
        /// Where they live.
        zone: Option<Zone>,
        /// `client`, and `provider` if they asked for it.
        roles: Vec<Role>,
    },
    /// Note that somebody tried to register with its address.
    NoteRegistrationAttempt,
    /// Confirm its address.
    ConfirmEmail,
    /// Change what is said of the person.
    ChangeProfile {
        /// Their name.
        name: Personal<PersonName>,
        /// Their telephone.
        phone: Option<Personal<Phone>>,
        /// The language they read.
        locale: Locale,
        /// Where they live.
        zone: Option<Zone>,
    },
    /// Note the address they mean to change to.
    RequestEmailChange {
        /// Which request.
        change: ChangeId,
        /// The new address.
        email: Personal<EmailAddress>,
        /// The generation the password was verified under.
        generation: u32,
    },
    /// Change to the address that waits.
    ConfirmEmailChange(ChangeId),
    /// Note that a new password may be set by mail.
    RequestPasswordReset(PendingReset),
    /// A new password was set by that mail.
    ResetPassword(ResetId),
    /// A new password was set by whoever knew the old one.
    ChangePassword {
        /// The generation the old one was verified under.
        generation: u32,
    },
    /// Show this photo.
    ChangePhoto(PhotoId),
    /// Show no photo.
    RemovePhoto,
    /// Grant a role.
    GrantRole(Role),
    /// Take a role back.
    RevokeRole(Role),
    /// End all sessions.
    EndSessions,
    /// Close it.
    Deactivate(DeactivatedBy),
    /// Open it again.
    Reactivate,
    /// Erase the person.
    Erase,
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
        /// Where they live.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<Zone>,
        /// What it may be.
        roles: Vec<Role>,
    },
    /// Somebody tried to register with its address again; its owner is told by mail.
    RegistrationAttempted {},
    /// Its address was confirmed.
    EmailConfirmed {},
    /// What is said of the person changed: full values.
    ProfileChanged {
        /// Their name.
        name: Personal<PersonName>,
        /// Their telephone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phone: Option<Personal<Phone>>,
        /// The language they read.
        locale: Locale,
        /// Where they live.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<Zone>,
    },
    /// They mean to change their address; the new one is asked to confirm.
    EmailChangeRequested {
        /// Which request.
        change: ChangeId,
        /// The new address.
        email: Personal<EmailAddress>,
    },
    /// The new address was confirmed; the old one is told.
    EmailChanged {
        /// Which request.
        change: ChangeId,
        /// The new address.
        email: Personal<EmailAddress>,
        /// The old one.
        previous: Personal<EmailAddress>,
    },
    /// A mail to set a new password was asked for.
    PasswordResetRequested {
        /// Which request: the mail's token derives from it.
        reset: ResetId,
        /// Until when it can be used (`S0-07`).
        expires_at: Instant,
    },
    /// A new password was set by mail. All sessions are over.
    PasswordReset {},
    /// A new password was set. All sessions are over.
    PasswordChanged {},
    /// There is a photo.
    PhotoChanged {
        /// Which.
        photo: PhotoId,
        /// The one before, whose file can go.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaced: Option<PhotoId>,
    },
    /// There is no photo any more.
    PhotoRemoved {
        /// The one there was.
        photo: PhotoId,
    },
    /// It may be one thing more.
    RoleGranted {
        /// Which.
        role: Role,
    },
    /// It may be one thing less. All sessions are over: their tokens carry roles.
    RoleRevoked {
        /// Which.
        role: Role,
    },
    /// All sessions are over, because their owner wished so.
    SessionsEnded {},
    /// It was closed. All sessions are over.
    AccountDeactivated {
        /// By whom.
        #[serde(default)]
        by: DeactivatedBy,
    },
    /// It was opened again.
    AccountReactivated {},
    /// The person was erased: their data key is gone with this event. All sessions are over.
    AccountErased {
        /// Their photo, whose file must go.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        photo: Option<PhotoId>,
    },
}

aggregate!(Account(AccountId), AccountCommand => AccountEvent {
    AccountRegistered = "1",
    RegistrationAttempted = "1",
    EmailConfirmed = "1",
    ProfileChanged = "1",
    EmailChangeRequested = "1",
    EmailChanged = "1",
    PasswordResetRequested = "1",
    PasswordReset = "1",
    PasswordChanged = "1",
    PhotoChanged = "1",
    PhotoRemoved = "1",
    RoleGranted = "1",
    RoleRevoked = "1",
    SessionsEnded = "1",
    AccountDeactivated = "1",
    AccountReactivated = "1",
    AccountErased = "1",
});

impl Account {
    /// Whether it was registered. An erased one was.
    pub fn exists(&self) -> bool {
        self.profile.is_some()
    }

    /// What is said of the person, unless there is no such account any more.
    pub fn living(&self) -> Result<&Profile, Refusal> {
        match (&self.profile, self.status) {
            (None, _) | (Some(_), Status::Erased) => Err(Refusal::NotFound("account")),
            (Some(profile), Status::Active | Status::Deactivated) => Ok(profile),
        }
    }

    /// What is said of the person, if the account can be used.
    pub fn active(&self) -> Result<&Profile, Refusal> {
        let profile = self.living()?;
        match self.status {
            Status::Deactivated => Err(Refusal::AccountDeactivated),
            Status::Active | Status::Erased => Ok(profile),
        }
    }

    /// Whether it may act: active, and its address confirmed.
    pub fn may_act(&self) -> Result<&Profile, Refusal> {
        let profile = self.active()?;
        if self.email_confirmed { Ok(profile) } else { Err(Refusal::EmailNotConfirmed) }
    }

    /// Whether a password that was verified under this generation still is the account's.
    pub fn proven(&self, generation: u32) -> Result<(), Refusal> {
        let same = self.living().is_ok() && self.generation == generation;
        if same { Ok(()) } else { Err(Refusal::InvalidCredentials) }
    }

    /// Credentials changed: sessions are over, and no link that was mailed before opens anything.
    fn renew_credentials(&mut self) {
        self.generation = self.generation.saturating_add(1);
        self.pending_reset = None;
        self.pending_email = None;
    }
}

/// No events, unless something changes.
fn only_if(changes: bool, event: AccountEvent) -> Vec<AccountEvent> {
    if changes { vec![event] } else { Vec::new() }
}

impl Aggregate for Account {
    type Id = AccountId;
    const KIND: StreamKind = StreamKind::Account;

    fn decide(
        &self,
        command: AccountCommand,
        context: &Context,
    ) -> Result<Vec<AccountEvent>, Refusal> {
        match command {
            AccountCommand::Register { id: _, profile, zone, roles } => {
                let Profile { name, email, phone, locale } = profile;
                let registered =
                    AccountEvent::AccountRegistered { name, email, phone, locale, zone, roles };
                Ok(only_if(!self.exists(), registered))
            }
            AccountCommand::NoteRegistrationAttempt => {
                self.living()?;
                Ok(vec![AccountEvent::RegistrationAttempted {}])
            }
            AccountCommand::ConfirmEmail => {
                self.active()?;
                Ok(only_if(!self.email_confirmed, AccountEvent::EmailConfirmed {}))
            }
            AccountCommand::ChangeProfile { name, phone, locale, zone } => {
                let now = self.active()?;
                let changes =
                    (&name, &phone, locale, zone) != (&now.name, &now.phone, now.locale, self.zone);
                Ok(only_if(changes, AccountEvent::ProfileChanged { name, phone, locale, zone }))
            }
            AccountCommand::RequestEmailChange { change, email, generation } => {
                let now = self.active()?;
                self.proven(generation)?;
                let changes = email != now.email;
                Ok(only_if(changes, AccountEvent::EmailChangeRequested { change, email }))
            }
            AccountCommand::ConfirmEmailChange(change) => {
                let Ok(now) = self.active() else { return Err(Refusal::InvalidLink) };
                if self.confirmed_change == Some(change) {
                    return Ok(Vec::new());
                }
                match &self.pending_email {
                    Some(pending) if pending.change == change => {
                        let (email, previous) = (pending.email.clone(), now.email.clone());
                        Ok(vec![AccountEvent::EmailChanged { change, email, previous }])
                    }
                    Some(_) | None => Err(Refusal::InvalidLink),
                }
            }
            AccountCommand::RequestPasswordReset(PendingReset { reset, expires_at }) => {
                self.active()?;
                Ok(vec![AccountEvent::PasswordResetRequested { reset, expires_at }])
            }
            AccountCommand::ResetPassword(reset) => {
                let pending = self.pending_reset.filter(|pending| {
                    self.active().is_ok()
                        && pending.reset == reset
                        && context.now < pending.expires_at
                });
                if pending.is_none() {
                    return Err(Refusal::InvalidLink);
                }
                // Whoever reads the account's mail has confirmed its address, too.
                let mut events = only_if(!self.email_confirmed, AccountEvent::EmailConfirmed {});
                events.push(AccountEvent::PasswordReset {});
                Ok(events)
            }
            AccountCommand::ChangePassword { generation } => {
                self.active()?;
                self.proven(generation)?;
                Ok(vec![AccountEvent::PasswordChanged {}])
            }
            AccountCommand::ChangePhoto(photo) => {
                self.active()?;
                let replaced = self.photo;
                let changes = replaced != Some(photo);
                Ok(only_if(changes, AccountEvent::PhotoChanged { photo, replaced }))
            }
            AccountCommand::RemovePhoto => {
                self.active()?;
                let removed = self.photo.map(|photo| AccountEvent::PhotoRemoved { photo });
                Ok(removed.into_iter().collect())
            }
            AccountCommand::GrantRole(role) => {
                self.living()?;
                let grants = !self.roles.contains(&role);
                Ok(only_if(grants, AccountEvent::RoleGranted { role }))
            }
            AccountCommand::RevokeRole(role) => {
                self.living()?;
                // Every account has it.
                if role == Role::Client {
                    return Err(Refusal::Forbidden);
                }
                let revokes = self.roles.contains(&role);
                Ok(only_if(revokes, AccountEvent::RoleRevoked { role }))
            }
            AccountCommand::EndSessions => {
                self.active()?;
                Ok(vec![AccountEvent::SessionsEnded {}])
            }
            AccountCommand::Deactivate(by) => {
                self.living()?;
                // An administrator's word stands over the owner's.
                let closes = self.deactivated_by.is_none_or(|before| {
                    (before, by) == (DeactivatedBy::Owner, DeactivatedBy::Admin)
                });
                Ok(only_if(closes, AccountEvent::AccountDeactivated { by }))
            }
            AccountCommand::Reactivate => {
                self.living()?;
                let opens = self.status == Status::Deactivated;
                Ok(only_if(opens, AccountEvent::AccountReactivated {}))
            }
            AccountCommand::Erase => {
                self.profile.as_ref().ok_or(Refusal::NotFound("account"))?;
                let erases = self.status != Status::Erased;
                Ok(only_if(erases, AccountEvent::AccountErased { photo: self.photo }))
            }
        }
    }

    fn evolve(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::AccountRegistered { name, email, phone, locale, zone, roles } => {
                self.profile = Some(Profile {
                    name: name.clone(),
                    email: email.clone(),
                    phone: phone.clone(),
                    locale: *locale,
                });
                self.zone = *zone;
                self.roles.clone_from(roles);
            }
            AccountEvent::RegistrationAttempted {} => {}
            AccountEvent::EmailConfirmed {} => self.email_confirmed = true,
            AccountEvent::ProfileChanged { name, phone, locale, zone } => {
                if let Some(profile) = &mut self.profile {
                    profile.name = name.clone();
                    profile.phone.clone_from(phone);
                    profile.locale = *locale;
                }
                self.zone = *zone;
            }
            AccountEvent::EmailChangeRequested { change, email } => {
                self.pending_email = Some(PendingEmail { change: *change, email: email.clone() });
            }
            AccountEvent::EmailChanged { change, email, previous: _ } => {
                if let Some(profile) = &mut self.profile {
                    profile.email = email.clone();
                }
                self.email_confirmed = true;
                self.confirmed_change = Some(*change);
                self.pending_email = None;
                self.pending_reset = None;
            }
            AccountEvent::PasswordResetRequested { reset, expires_at } => {
                self.pending_reset = Some(PendingReset { reset: *reset, expires_at: *expires_at });
            }
            AccountEvent::PasswordReset {} | AccountEvent::PasswordChanged {} => {
                self.renew_credentials();
            }
            AccountEvent::PhotoChanged { photo, replaced: _ } => self.photo = Some(*photo),
            AccountEvent::PhotoRemoved { photo: _ } => self.photo = None,
            AccountEvent::RoleGranted { role } => self.roles.push(*role),
            AccountEvent::RoleRevoked { role } => {
                self.roles.retain(|held| held != role);
                self.generation = self.generation.saturating_add(1);
            }
            AccountEvent::SessionsEnded {} => {
                self.generation = self.generation.saturating_add(1);
            }
            AccountEvent::AccountDeactivated { by } => {
                self.status = Status::Deactivated;
                self.deactivated_by = Some(*by);
                self.renew_credentials();
            }
            AccountEvent::AccountReactivated {} => {
                self.status = Status::Active;
                self.deactivated_by = None;
            }
            AccountEvent::AccountErased { photo: _ } => {
                self.status = Status::Erased;
                self.deactivated_by = None;
                self.renew_credentials();
                self.roles.clear();
                self.photo = None;
                self.zone = None;
                if let Some(profile) = &mut self.profile {
                    let subject = profile.name.subject();
                    profile.name = Personal::Erased(subject);
                    profile.email = Personal::Erased(subject);
                    profile.phone = None;
                }
            }
        }
    }
}

/// The actor's own account, or a refusal for whoever is not signed in.
pub(crate) fn signed_in(actor: &Actor) -> Result<AccountId, Refusal> {
    actor.account().ok_or(Refusal::SignInRequired)
}

/// Refuses every command of an account that was deactivated or erased, or that never was, whatever its token says.
pub(crate) fn in_good_standing(view: &View<'_>) -> Result<(), Stop> {
    let Some(account) = view.actor().account() else { return Ok(()) };
    let account = view.consult::<Account>(account)?;
    if !account.exists() {
        return Err(Refusal::SignInRequired.into());
    }
    match account.status {
        Status::Active => Ok(()),
        Status::Deactivated => Err(Refusal::AccountDeactivated.into()),
        Status::Erased => Err(Refusal::SignInRequired.into()),
    }
}

/// Whether the actor runs the installation: by their token and by their account, which may know better.
pub(crate) fn is_admin(view: &View<'_>) -> Result<bool, Stop> {
    match view.actor() {
        Actor::System(_) => Ok(true),
        Actor::Anonymous | Actor::Guest { .. } => Ok(false),
        Actor::Account { id, roles } => Ok(roles.contains(&Role::Admin)
            && view.consult::<Account>(*id)?.roles.contains(&Role::Admin)),
    }
}

/// An administrator, or Pontual itself.
pub(crate) fn admin_only(view: &View<'_>) -> Result<(), Stop> {
    match view.actor() {
        Actor::Anonymous | Actor::Guest { .. } => Err(Refusal::SignInRequired.into()),
        Actor::System(_) | Actor::Account { .. } if is_admin(view)? => Ok(()),
        Actor::System(_) | Actor::Account { .. } => Err(Refusal::Forbidden.into()),
    }
}

/// The account's owner alone. Whose account it is nobody else hears.
fn own(view: &View<'_>, account: AccountId) -> Result<(), Stop> {
    if signed_in(view.actor())? == account {
        Ok(())
    } else {
        Err(Refusal::NotFound("account").into())
    }
}

/// The account's owner, or an administrator. Whoever is neither is told so without a look at the account.
fn own_or_admin(view: &View<'_>, account: AccountId) -> Result<(), Stop> {
    if view.actor().account() == Some(account) { Ok(()) } else { admin_only(view) }
}

/// The claim of an address.
fn claim_of(view: &View<'_>, email: &EmailAddress) -> ClaimKey {
    view.claim_key(ClaimKind::Email, email.as_str())
}

/// Where an account's secret is kept.
fn secret_of(account: AccountId, kind: SecretKind) -> SecretKey {
    SecretKey { owner: account.uuid(), kind }
}
