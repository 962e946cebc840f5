//! Who may read what: one rule per query, all of them here.
//!
//! | query | who |
//! |---|---|
//! | providers and their pages, services, categories, free slots and why one is not, keys | everybody |
//! | a category that is not active | administrators; to others it does not exist |
//! | a service that is not offered at present | its provider; to others it does not exist |
//! | a photo | whoever knows its id |
//! | `Me`, own account and its export, own sessions, own appointments, own shop and dashboard, own services, own notifications, own places in line | whoever is signed in, their own |
//! | somebody's account | its owner, and administrators; others are refused without a look |
//! | how far somebody's erasure is | administrators |
//! | one appointment, now or as of a point | its client and its provider, each with their own notes; to others it does not exist |
//! | a series | its client and its provider; to others it does not exist |
//! | a guest's appointment | whoever has the link that was mailed to them |
//! | an appointment's history | its client, its provider, auditors; to others it does not exist |
//! | the audit trail | auditors |
//! | a hold | its holder; to others it does not exist |
//! | a provider's time off, the appointments its hours no longer have | the provider |
//! | how long a provider's line is | the provider; others are told that it is not theirs |
//! | a provider's appointments of a day, now or as of a point, calendar, and free slots as of a point | the provider; others are told that it is not theirs |

use domain::Instant;
use domain::actor::{Actor, Role};
use domain::appointment::{Booking, Client, Side, guest_link_ends};
use domain::ids::{AccountId, GuestId};
use domain::provider::Shop;
use domain::series::Placed;
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

/// The side of an appointment that an account is on, if it is a party: whose notes it sees.
pub(crate) fn side_of(account: AccountId, row: &AppointmentRow) -> Option<Side> {
    if row.client == Client::Account(account) {
        Some(Side::Client)
    } else if row.provider_account == account {
        Some(Side::Provider)
    } else {
        None
    }
}

/// One appointment; says who of its parties the reader is.
pub(crate) fn appointment(actor: &Actor, row: &AppointmentRow) -> Result<AccountId, Problem> {
    let account = own(actor)?;
    if side_of(account, row).is_some() { Ok(account) } else { Err(Kind::NotFound.into()) }
}

/// A series; says who of its parties the reader is.
pub(crate) fn series(actor: &Actor, placed: &Placed) -> Result<AccountId, Problem> {
    let account = own(actor)?;
    if placed.side_of(account).is_some() { Ok(account) } else { Err(Kind::NotFound.into()) }
}

/// One appointment as of a point. Its parties are those of the present: they never change.
pub(crate) fn past_appointment(actor: &Actor, booking: &Booking) -> Result<AccountId, Problem> {
    let account = own(actor)?;
    if booking.side_of(account).is_some() { Ok(account) } else { Err(Kind::NotFound.into()) }
}

/// A guest's own appointment: the one their link is for, until some time after its end, and not once they were erased.
pub(crate) fn guest(guest: GuestId, row: &AppointmentRow, now: Instant) -> Result<(), Problem> {
    let theirs = row.client == Client::Guest { guest } && row.contact.is_some();
    if theirs && now < guest_link_ends(row.slot) { Ok(()) } else { Err(Kind::InvalidLink.into()) }
}

/// As what somebody reads an appointment's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// As one of its parties, whatever else they are.
    Party(Side),
    /// As an auditor.
    Auditor,
}

/// An appointment's history.
pub(crate) fn history(actor: &Actor, booking: &Booking) -> Result<Reader, Problem> {
    match booking.side_of(own(actor)?) {
        Some(side) => Ok(Reader::Party(side)),
        None if actor.has(Role::Auditor) => Ok(Reader::Auditor),
        None => Err(Kind::NotFound.into()),
    }
}

/// A provider's appointments of a day, or of more; says who the provider is.
pub(crate) fn provider_day(actor: &Actor, owner: AccountId) -> Result<AccountId, Problem> {
    let account = own(actor)?;
    if owner == account { Ok(account) } else { Err(Kind::Forbidden.into()) }
}

/// What only a shop's owner sees of it.
pub(crate) fn shop(account: AccountId, shop: &Shop) -> Result<(), Problem> {
    if shop.account == account { Ok(()) } else { Err(Kind::Forbidden.into()) }
}

/// The audit trail.
pub(crate) fn audit(actor: &Actor) -> Result<(), Problem> {
    own(actor)?;
    if actor.has(Role::Auditor) { Ok(()) } else { Err(Kind::Forbidden.into()) }
}
