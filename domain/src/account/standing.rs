//! Roles, and whether an account can be used: granted, revoked, deactivated, reactivated, erased.
//!
//! An account's shop goes with it: paused while its owner is deactivated, closed for good when they are erased.
//! It is found by the claim an account has on its one shop, so that all of it is one append.

use serde::{Deserialize, Serialize};

use super::{
    Account, AccountCommand, DeactivatedBy, Status, admin_only, claim_of, own, own_or_admin,
    secret_of,
};
use crate::Refusal;
use crate::actor::{Actor, Role};
use crate::command::{ClaimKind, Command, SecretKind, Stop, Target, View};
use crate::ids::{AccountId, Id, ProviderId};
use crate::provider::{Provider, ProviderCommand, Shop};

/// How an account stands after a command about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountIs {
    /// Which.
    pub account: AccountId,
    /// Whether it can be used.
    pub status: Status,
    /// What it may be.
    pub roles: Vec<Role>,
    /// Its credential generation: sessions of an older one are over.
    pub generation: u32,
}

/// Decides one command of an account and says how it stands then.
fn decided(
    view: &View<'_>,
    account: AccountId,
    command: AccountCommand,
) -> Result<(AccountIs, bool), Stop> {
    use crate::aggregate::Aggregate as _;
    let mut after = view.load::<Account>(account)?.clone();
    let events = view.decide::<Account>(account, command)?;
    events.iter().for_each(|event| after.evolve(event));
    let Account { status, roles, generation, .. } = after;
    Ok((AccountIs { account, status, roles, generation }, !events.is_empty()))
}

/// The account's shop, if it has one.
fn shop_of(view: &View<'_>, account: AccountId) -> Result<Option<ProviderId>, Stop> {
    let claim = view.claim_key(ClaimKind::Shop, &account.to_string());
    Ok(view.claim_owner(claim)?.map(ProviderId::trusted))
}

macro_rules! about_an_account {
    ($($command:ident by $rule:ident($($extra:ident)?) => |$this:ident, $view:ident| $decide:expr;)*) => {$(
        impl Command for $command {
            const NAME: &'static str = stringify!($command);
            type Outcome = AccountIs;

            fn target(&self, _: &View<'_>) -> Target {
                Target::stream::<Account>(self.account)
            }

            fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
                $rule(view, self.account $(, self.$extra)?)
            }

            fn decide(&self, $view: &View<'_>) -> Result<AccountIs, Stop> {
                let $this = self;
                $decide
            }
        }
    )*};
}

/// Let an account be one thing more.
#[derive(Debug, Clone)]
pub struct GrantRole {
    /// Which account.
    pub account: AccountId,
    /// What it may be.
    pub role: Role,
}

/// Let an account be one thing less. Its sessions end.
#[derive(Debug, Clone)]
pub struct RevokeRole {
    /// Which account.
    pub account: AccountId,
    /// What it may no longer be.
    pub role: Role,
}

/// End every session of an account, the one that asks included.
#[derive(Debug, Clone)]
pub struct EndAllSessions {
    /// Whose.
    pub account: AccountId,
}

/// Close an account; it can be opened again (`S3-28`).
#[derive(Debug, Clone)]
pub struct DeactivateAccount {
    /// Which.
    pub account: AccountId,
}

/// Open a deactivated account again.
#[derive(Debug, Clone)]
pub struct ReactivateAccount {
    /// Which.
    pub account: AccountId,
    /// The credential generation that its password was verified under, where its owner asks: a deactivated
    /// account has no session to ask with.
    pub proven_under: Option<u32>,
}

/// Erase a person for good (K12): their data key is destroyed.
#[derive(Debug, Clone)]
pub struct EraseAccount {
    /// Which.
    pub account: AccountId,
    /// The credential generation that its password was verified under, where its owner asks: whoever finds a session
    /// open must not be able to do this.
    pub proven_under: Option<u32>,
}

about_an_account! {
    GrantRole by an_admin() => |this, view| {
        Ok(decided(view, this.account, AccountCommand::GrantRole(this.role))?.0)
    };
    RevokeRole by another_admin(role) => |this, view| {
        Ok(decided(view, this.account, AccountCommand::RevokeRole(this.role))?.0)
    };
    EndAllSessions by own() => |this, view| {
        Ok(decided(view, this.account, AccountCommand::EndSessions)?.0)
    };
    DeactivateAccount by own_or_admin() => |this, view| deactivate(view, this.account);
    ReactivateAccount by admin_or_proven(proven_under) => |this, view| reactivate(view, this.account);
    EraseAccount by admin_or_proven_owner(proven_under) => |this, view| erase(view, this.account);
}

fn an_admin(view: &View<'_>, _: AccountId) -> Result<(), Stop> {
    admin_only(view)
}

/// An administrator; but nobody takes that from themselves, lest nobody be left.
fn another_admin(view: &View<'_>, account: AccountId, role: Role) -> Result<(), Stop> {
    admin_only(view)?;
    if role == Role::Admin && view.actor().account() == Some(account) {
        return Err(Refusal::Forbidden.into());
    }
    Ok(())
}

/// An administrator, or whoever knew the password of an account that its owner closed.
fn admin_or_proven(
    view: &View<'_>,
    account: AccountId,
    proven_under: Option<u32>,
) -> Result<(), Stop> {
    match (view.actor(), proven_under) {
        (Actor::Anonymous, Some(generation)) => {
            let account = view.load::<Account>(account)?;
            account.proven(generation)?;
            match account.deactivated_by {
                Some(DeactivatedBy::Admin) => Err(Refusal::AccountDeactivated.into()),
                Some(DeactivatedBy::Owner) | None => Ok(()),
            }
        }
        (Actor::Anonymous | Actor::System(_) | Actor::Account { .. } | Actor::Guest { .. }, _) => {
            admin_only(view)
        }
    }
}

/// The account's owner, who knew the password just now; or an administrator, of anybody else's.
fn admin_or_proven_owner(
    view: &View<'_>,
    account: AccountId,
    proven_under: Option<u32>,
) -> Result<(), Stop> {
    if view.actor().account() != Some(account) {
        return admin_only(view);
    }
    let generation = proven_under.ok_or(Refusal::PasswordRequired)?;
    view.load::<Account>(account)?.proven(generation)?;
    Ok(())
}

fn deactivate(view: &View<'_>, account: AccountId) -> Result<AccountIs, Stop> {
    let own = view.actor().account() == Some(account);
    let by = if own { DeactivatedBy::Owner } else { DeactivatedBy::Admin };
    let (outcome, changed) = decided(view, account, AccountCommand::Deactivate(by))?;
    if changed {
        view.drop_secret(secret_of(account, SecretKind::PasswordReset));
        if let Some(shop) = shop_of(view, account)? {
            view.decide::<Provider>(shop, ProviderCommand::Pause)?;
        }
    }
    Ok(outcome)
}

fn reactivate(view: &View<'_>, account: AccountId) -> Result<AccountIs, Stop> {
    if view.actor().account().is_none() {
        view.sent_by(account);
    }
    let (outcome, changed) = decided(view, account, AccountCommand::Reactivate)?;
    if changed && let Some(shop) = shop_of(view, account)? {
        view.decide::<Provider>(shop, ProviderCommand::Resume)?;
    }
    Ok(outcome)
}

fn erase(view: &View<'_>, account: AccountId) -> Result<AccountIs, Stop> {
    let person = view.load::<Account>(account)?;
    let (outcome, changed) = decided(view, account, AccountCommand::Erase)?;
    if !changed {
        return Ok(outcome);
    }
    view.erase_subject(account);
    if let Some(email) = person.profile.as_ref().and_then(|profile| profile.email.known()) {
        view.release_claim(claim_of(view, email), account.uuid());
    }
    for kind in [SecretKind::PasswordHash, SecretKind::PasswordReset] {
        view.drop_secret(secret_of(account, kind));
    }
    if let Some(shop) = shop_of(view, account)? {
        let open = view.load::<Provider>(shop)?.shop.as_ref();
        for slug in open.into_iter().flat_map(Shop::slugs) {
            let slug = view.claim_key(ClaimKind::Slug, slug.as_str());
            view.release_claim(slug, shop.uuid());
        }
        let claim = view.claim_key(ClaimKind::Shop, &account.to_string());
        view.release_claim(claim, shop.uuid());
        view.decide::<Provider>(shop, ProviderCommand::Close)?;
    }
    Ok(outcome)
}
