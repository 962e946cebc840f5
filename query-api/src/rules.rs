//! Who may read what: one rule per query, all of them here.
//!
//! | query | who |
//! |---|---|
//! | providers and their pages, services, categories, free slots, keys | everybody |
//! | a category that is not active | administrators; to others it does not exist |
//! | a service that is not offered at present | its provider; to others it does not exist |
//! | a photo | whoever knows its id |
//! | `Me`, own account and its export, own sessions, own appointments, own shop, own services, own notifications | whoever is signed in, their own |
//! | somebody's account | its owner, and administrators; others are refused without a look |
//! | how far somebody's erasure is | administrators |
//! | one appointment | its client and its provider; to others it does not exist |
//! | the audit trail | auditors |
//! | a provider's appointments of a day | the provider; others are told that it is not theirs |

use domain::actor::{Actor, Role};
use domain::ids::AccountId;
use http_kit::auth::MaybeSignedIn;
use http_kit::{Kind, Problem};
use read_models::appointments::AppointmentRow;
use read_models::providers::ProviderRow;

/// Who reads what everybody may, if they say so: a token that is no good, or was, is nobody's.
pub(crate) fn whoever(signed_in: Result<MaybeSignedIn, Problem>) -> Actor {
    signed_in.map_or(Actor::Anonymous, |MaybeSignedIn(actor)| actor)
}

/// The account that reads its own things.
pub(crate) fn own(actor: &Actor) -> Result<AccountId, Problem> {
    actor.account().ok_or_else(|| Kind::SignInRequired.into())
}

/// Somebody's account.
pub(crate) fn account(actor: &Actor, account: AccountId) -> Result<(), Problem> {
    let may = own(actor)? == account || actor.has(Role::Admin);
    if may { Ok(()) } else { Err(Kind::Forbidden.into()) }
}

/// Categories that are not active.
pub(crate) fn inactive_categories(actor: &Actor) -> Result<(), Problem> {
    own(actor)?;
    if actor.has(Role::Admin) { Ok(()) } else { Err(Kind::Forbidden.into()) }
}

/// A service that is not offered at present.
pub(crate) fn inactive_service(actor: &Actor, provider: &ProviderRow) -> Result<(), Problem> {
    if actor.account() == Some(provider.account) { Ok(()) } else { Err(Kind::NotFound.into()) }
}

/// How far the erasure of an account is.
pub(crate) fn erasure(actor: &Actor) -> Result<(), Problem> {
    own(actor)?;
    if actor.has(Role::Admin) { Ok(()) } else { Err(Kind::Forbidden.into()) }
}

/// One appointment.
pub(crate) fn appointment(actor: &Actor, row: &AppointmentRow) -> Result<(), Problem> {
    let account = own(actor)?;
    let party = row.client == account || row.provider_account == account;
    if party { Ok(()) } else { Err(Kind::NotFound.into()) }
}

/// A provider's appointments of a day.
pub(crate) fn provider_day(actor: &Actor, provider: &ProviderRow) -> Result<(), Problem> {
    if provider.account == own(actor)? { Ok(()) } else { Err(Kind::Forbidden.into()) }
}

/// The audit trail.
pub(crate) fn audit(actor: &Actor) -> Result<(), Problem> {
    own(actor)?;
    if actor.has(Role::Auditor) { Ok(()) } else { Err(Kind::Forbidden.into()) }
}
