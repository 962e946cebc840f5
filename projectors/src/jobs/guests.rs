//! Guests: what they are told, and how they are forgotten.
//!
//! For example `AppointmentBooked` of a guest orders `GuestMail` with the ids of both and what there is to say; the worker
//! looks up the appointment as it is now, makes the link, and mails it, unless that is not so any more. Once the guest was
//! erased there is nobody to write to.
//!
//! With `GuestErased` the log forgot them, and the appointment's row and the cached lists lose them by that event alone.
//! `PurgeGuest` waits until every projector has passed it, and then takes their name out of the provider's notifications and
//! their mails out of jobs and mail folder. It waits until no mail to them is under way, so none is written after that. A
//! crash does it again.

use chrono::SubsecRound as _;
use domain::appointment::{Appointment, Booking, Contact, Status};
use domain::ids::{AppointmentId, GuestId, Id as _};
use domain::locale::Locale;
use domain::position::{Position, PositionToken};
use domain::provider::Provider;
use event_log::{EventLog, LogError};
use http_kit::links;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

use super::erasure::{EraseError, Eraser, Outcome, look_again};
use crate::mail::Mailer;
use crate::mail::templates::{Letter, Recipient};
use crate::reactors::guests_mail_is_of;

/// What there is to tell a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestNews {
    /// It was booked and waits for the provider.
    Requested,
    /// It will take place.
    Confirmed,
    /// The provider said no.
    Declined,
    /// The provider called it off.
    Cancelled,
    /// The provider moved it.
    Moved,
    /// The provider did not answer.
    Expired,
}

impl GuestNews {
    const fn letter(self) -> Letter {
        match self {
            Self::Requested => Letter::GuestRequested,
            Self::Confirmed => Letter::GuestConfirmed,
            Self::Declined => Letter::GuestDeclined,
            Self::Cancelled => Letter::GuestCancelled,
            Self::Moved => Letter::GuestMoved,
            Self::Expired => Letter::GuestExpired,
        }
    }

    /// Whether it is still so.
    fn holds(self, status: Status) -> bool {
        match self {
            Self::Requested => status == Status::Pending,
            Self::Confirmed => status == Status::Confirmed,
            Self::Declined => status == Status::Declined,
            Self::Cancelled => status == Status::Cancelled,
            Self::Moved => status.is_live(),
            Self::Expired => status == Status::Expired,
        }
    }
}

/// A mail to a guest.
pub(super) struct GuestLetter {
    pub(super) letter: Letter,
    pub(super) to: Recipient,
    /// What it is about, in their language.
    pub(super) about: String,
    /// Where its link leads, without the site's address.
    pub(super) link: String,
}

/// What is to be written to a guest; `None` if there is no reason to (any more).
pub(super) async fn letter(
    log: &EventLog,
    guest: GuestId,
    appointment: AppointmentId,
    news: GuestNews,
) -> Result<Option<GuestLetter>, LogError> {
    // Of the log as it is now: what is in memory may be older than the event that ordered the mail.
    let partition = log.partition_of(appointment.slot());
    let number = log.head(partition).await?;
    let now = log.load_at_least::<Appointment>(appointment, Position { partition, number }).await?;
    let Some(booking) = now.state.booking.as_ref().filter(|now| news.holds(now.status)) else {
        return Ok(None);
    };
    let Some(Contact { name, email, phone: _ }) = booking.terms.contact.known() else {
        return Ok(None);
    };
    let locale = booking.terms.guest_locale.unwrap_or_default();
    let shop = log.load::<Provider>(booking.terms.provider).await?;
    let shop = shop.state.shop.as_ref().and_then(|shop| shop.business_name.known());
    let token = links::guest_token(&log.derive_key(links::GUEST_LINK), appointment, guest);
    Ok(Some(GuestLetter {
        letter: news.letter(),
        to: Recipient { name: name.clone(), email: email.clone(), locale },
        about: about(booking, shop.map(ToString::to_string), locale),
        link: format!("/guest#token={token}"),
    }))
}

/// What, where and when: `Corte, Salão da Ana, 03/03/2026 às 10:00 (America/Sao_Paulo)`.
fn about(booking: &Booking, shop: Option<String>, locale: Locale) -> String {
    let zone = booking.terms.zone;
    let start = booking.slot.start.trunc_subsecs(0).with_timezone(&zone.0);
    let form = locale.pick("%d/%m/%Y às %H:%M", "%Y-%m-%d at %H:%M");
    let service = booking.terms.service_name.known().map(ToString::to_string);
    let when = format!("{} ({})", start.format(form), zone.name());
    [service, shop, Some(when)].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Forgets an erased guest, if every projector has come so far. `job` is the one that runs.
pub(super) async fn purge(
    eraser: &Eraser,
    (log, mailer): (&EventLog, &dyn Mailer),
    (guest, appointment, number): (GuestId, AppointmentId, u64),
    job: Uuid,
) -> Result<Outcome, EraseError> {
    let (pool, now) = (log.pool(), log.clock().now());
    let erased = log.erasure(guest.into()).await?;
    let erased = erased.ok_or(LogError::Malformed("an erased guest has a tombstone"))?;
    let partition = log.partition_of(appointment.slot());
    let event = PositionToken::from_iter([Position { partition, number }]);
    forget_waiting_mails(pool, guest).await?;
    if !eraser.passed(log, &event).await? || mails_under_way(pool, guest, job).await? {
        return Ok(Outcome::Later(now + look_again(now - erased.at)));
    }
    eraser.feed.purge(guest.into(), &[]).await?;
    mailer.forget(&|mail| guests_mail_is_of(mail, appointment)).await?;
    Ok(Outcome::Complete)
}

async fn forget_waiting_mails(pool: &PgPool, guest: GuestId) -> sqlx::Result<()> {
    sqlx::query(
        "DELETE FROM jobs WHERE kind = 'GuestMail' AND payload->>'guest' = $1
           AND (locked_until IS NULL OR locked_until <= now())",
    )
    .bind(guest.to_string())
    .execute(pool)
    .await?;
    Ok(())
}

async fn mails_under_way(pool: &PgPool, guest: GuestId, but: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM jobs WHERE payload->>'guest' = $1 AND id <> $2)")
        .bind(guest.to_string())
        .bind(but)
        .fetch_one(pool)
        .await
}
