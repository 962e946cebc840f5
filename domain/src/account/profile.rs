//! What is said of a person: name, telephone, language, time zone, address, photo.

use serde::{Deserialize, Serialize};

use super::{Account, AccountCommand, claim_of, own, secret_of, signed_in};
use crate::Refusal;
use crate::command::{Command, SecretKind, Stop, Target, View};
use crate::hours::Zone;
use crate::ids::{AccountId, ChangeId, Id, PhotoId};
use crate::locale::Locale;
use crate::personal::Personal;
use crate::text::{EmailAddress, PersonName, Phone};

/// The actor's own account as a command's target; for whoever is not signed in, who is refused anyway, any.
fn own_target(view: &View<'_>) -> Target {
    match view.actor().account() {
        Some(account) => Target::stream::<Account>(account),
        None => Target::named(view.mint().slot(), "nobody".to_owned()),
    }
}

/// Change what is said of the actor (`S3-26`).
#[derive(Debug, Clone)]
pub struct UpdateProfile {
    /// Their name.
    pub name: PersonName,
    /// Their telephone; `None` for none.
    pub phone: Option<Phone>,
    /// The language they read.
    pub locale: Locale,
    /// Where they live; `None` for nowhere in particular.
    pub zone: Option<Zone>,
}

/// A profile is as it was asked to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileIsSet {
    /// Whose.
    pub account: AccountId,
}

impl Command for UpdateProfile {
    const NAME: &'static str = "UpdateProfile";
    type Outcome = ProfileIsSet;

    fn target(&self, view: &View<'_>) -> Target {
        own_target(view)
    }

    /// Everybody their own.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        signed_in(view.actor())?;
        Ok(())
    }

    fn decide(&self, view: &View<'_>) -> Result<ProfileIsSet, Stop> {
        let account = signed_in(view.actor())?;
        let command = AccountCommand::ChangeProfile {
            name: Personal::of(account, self.name.clone()),
            phone: self.phone.clone().map(|phone| Personal::of(account, phone)),
            locale: self.locale,
            zone: self.zone,
        };
        view.decide::<Account>(account, command)?;
        Ok(ProfileIsSet { account })
    }
}

/// Ask for another address. The password was verified at the edge. A taken address gives the same answer, and
/// its owner is told by mail, as at a registration.
#[derive(Debug, Clone)]
pub struct RequestEmailChange {
    /// The new address.
    pub email: EmailAddress,
    /// The account's credential generation that the password was verified under.
    pub generation: u32,
}

/// The answer to it: the same whether the address was free or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailChangeReceived {}

impl Command for RequestEmailChange {
    const NAME: &'static str = "RequestEmailChange";
    type Outcome = EmailChangeReceived;

    fn target(&self, view: &View<'_>) -> Target {
        own_target(view)
    }

    /// Everybody their own, with the password.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        let account = view.load::<Account>(signed_in(view.actor())?)?;
        Ok(account.proven(self.generation)?)
    }

    fn decide(&self, view: &View<'_>) -> Result<EmailChangeReceived, Stop> {
        let account = signed_in(view.actor())?;
        let owner = view.claim_owner(claim_of(view, &self.email))?;
        if let Some(owner) = owner.filter(|owner| *owner != account.uuid()) {
            view.decide::<Account>(
                AccountId::trusted(owner),
                AccountCommand::NoteRegistrationAttempt,
            )?;
            return Ok(EmailChangeReceived {});
        }
        let command = AccountCommand::RequestEmailChange {
            change: view.mint().id(account.slot(), 0),
            email: Personal::of(account, self.email.clone()),
            generation: self.generation,
        };
        view.decide::<Account>(account, command)?;
        Ok(EmailChangeReceived {})
    }
}

/// Confirm a new address. The link's signature was verified at the edge: whoever holds it may.
#[derive(Debug, Clone)]
pub struct ConfirmEmailChange {
    /// Whose.
    pub account: AccountId,
    /// Which request.
    pub change: ChangeId,
}

/// An account has the address it asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailIsChanged {
    /// Whose.
    pub account: AccountId,
}

impl Command for ConfirmEmailChange {
    const NAME: &'static str = "ConfirmEmailChange";
    type Outcome = EmailIsChanged;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Account>(self.account)
    }

    fn authorize(&self, _: &View<'_>) -> Result<(), Stop> {
        Ok(())
    }

    fn decide(&self, view: &View<'_>) -> Result<EmailIsChanged, Stop> {
        let account = view.load::<Account>(self.account)?;
        let command = AccountCommand::ConfirmEmailChange(self.change);
        if !view.decide::<Account>(self.account, command)?.is_empty() {
            let pending = account.pending_email.as_ref().and_then(|pending| pending.email.known());
            let current = account.profile.as_ref().and_then(|profile| profile.email.known());
            // Neither is readable once the person was erased.
            let (pending, current) = pending.zip(current).ok_or(Refusal::InvalidLink)?;
            view.take_claim(claim_of(view, pending), self.account.uuid())?;
            view.release_claim(claim_of(view, current), self.account.uuid());
            view.drop_secret(secret_of(self.account, SecretKind::PasswordReset));
            view.sent_by(self.account);
        }
        Ok(EmailIsChanged { account: self.account })
    }
}

/// Show a photo, whose file is in the store already.
#[derive(Debug, Clone)]
pub struct ChangePhoto {
    /// Which; minted in the account's slot.
    pub photo: PhotoId,
}

/// Show no photo.
#[derive(Debug, Clone)]
pub struct RemovePhoto {}

/// What an account shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhotoIs {
    /// Whose.
    pub account: AccountId,
    /// The photo, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub photo: Option<PhotoId>,
}

impl Command for ChangePhoto {
    const NAME: &'static str = "ChangePhoto";
    type Outcome = PhotoIs;

    fn target(&self, view: &View<'_>) -> Target {
        own_target(view)
    }

    /// Everybody their own.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        own(view, signed_in(view.actor())?)
    }

    fn decide(&self, view: &View<'_>) -> Result<PhotoIs, Stop> {
        let account = signed_in(view.actor())?;
        view.decide::<Account>(account, AccountCommand::ChangePhoto(self.photo))?;
        Ok(PhotoIs { account, photo: Some(self.photo) })
    }
}

impl Command for RemovePhoto {
    const NAME: &'static str = "RemovePhoto";
    type Outcome = PhotoIs;

    fn target(&self, view: &View<'_>) -> Target {
        own_target(view)
    }

    /// Everybody their own.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        own(view, signed_in(view.actor())?)
    }

    fn decide(&self, view: &View<'_>) -> Result<PhotoIs, Stop> {
        let account = signed_in(view.actor())?;
        view.decide::<Account>(account, AccountCommand::RemovePhoto)?;
        Ok(PhotoIs { account, photo: None })
    }
}
