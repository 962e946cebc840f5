//! How an appointment stands after a command about it, and what those commands share: whose it is, who may, its end.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::guest::by_link;
use super::{Appointment, AppointmentCommand, Booking, Side, Status, Terms};
use crate::account::signed_in;
use crate::actor::Actor;
use crate::agenda::{Agenda, AgendaCommand};
use crate::command::{Stop, View};
use crate::hours::{Policy, Zone};
use crate::ids::{AgendaId, AppointmentId, ProviderId, ServiceId};
use crate::money::Money;
use crate::provider::Provider;
use crate::slots::{Span, shifted};
use crate::text::ServiceName;
use crate::{Instant, Refusal};

/// An appointment as its answer names it: nothing personal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppointmentStands {
    /// Which.
    pub appointment: AppointmentId,
    /// With whom.
    pub provider: ProviderId,
    /// What.
    pub service: ServiceId,
    /// The service's name. It is not stored with the answer, so a repeated one lacks it: the appointment has it.
    #[serde(skip)]
    pub service_name: Option<ServiceName>,
    /// When.
    pub slot: Span,
    /// The provider's zone.
    pub zone: Zone,
    /// What it costs.
    pub price: Option<Money>,
    /// Where it stands.
    pub status: Status,
}

/// The booking and the actor's side of it. Whoever is no party is told that there is no such appointment.
pub(super) fn party<'a>(
    view: &View<'a>,
    appointment: AppointmentId,
) -> Result<(&'a Booking, Side), Stop> {
    if let Actor::Guest { id, appointment: theirs } = view.actor() {
        return Ok((by_link(view, appointment, *id, *theirs)?, Side::Client));
    }
    let account = signed_in(view.actor())?;
    let booking = view.load::<Appointment>(appointment)?.booked()?;
    let side = booking.side_of(account).ok_or(Refusal::NotFound("appointment"))?;
    Ok((booking, side))
}

/// The booking, for its provider; the client is told that this is not theirs to do.
pub(super) fn providers_side<'a>(
    view: &View<'a>,
    appointment: AppointmentId,
) -> Result<&'a Booking, Stop> {
    match party(view, appointment)? {
        (booking, Side::Provider) => Ok(booking),
        (_, Side::Client) => Err(Refusal::Forbidden.into()),
    }
}

/// Until when the client may change it; the provider may until the end of time.
pub(crate) fn in_window(
    provider: &Provider,
    booking: &Booking,
    by: Side,
    now: Instant,
) -> Result<(), Refusal> {
    let window_minutes = provider.schedule.policy.cancellation_window_minutes;
    let until = shifted(booking.slot.start, -TimeDelta::minutes(i64::from(window_minutes)));
    match by {
        Side::Client if now >= until => Err(Refusal::TooLate { window_minutes }),
        Side::Client | Side::Provider => Ok(()),
    }
}

/// When a booking made now expires if the provider does not answer; `None` is at its start.
pub(crate) fn answer_by(policy: &Policy, start: Instant, now: Instant) -> Option<Instant> {
    let minutes = policy.answer_within_minutes?;
    Some(shifted(now, TimeDelta::minutes(minutes.into()))).filter(|by| *by < start)
}

/// Ends a live appointment and frees what it holds; on an ended one the aggregate alone decides.
pub(super) fn end(
    view: &View<'_>,
    appointment: AppointmentId,
    booking: &Booking,
    command: AppointmentCommand,
    status: Status,
) -> Result<AppointmentStands, Stop> {
    let events = view.decide::<Appointment>(appointment, command)?;
    if events.is_empty() {
        return Ok(stands(appointment, booking));
    }
    free(view, appointment, booking)?;
    Ok(AppointmentStands { status, ..stands(appointment, booking) })
}

/// Gives back what an appointment holds, in the agenda of each day it touches.
pub(super) fn free(
    view: &View<'_>,
    appointment: AppointmentId,
    booking: &Booking,
) -> Result<(), Stop> {
    let provider = booking.terms.provider;
    for day in booking.terms.measure.buffered(booking.slot).utc_days() {
        let free = AgendaCommand::FreeSlot { provider, day, appointment };
        view.decide::<Agenda>(AgendaId::of(provider, day), free)?;
    }
    Ok(())
}

/// The provider says how an appointment stands; what it holds stays as it is.
pub(super) fn said(
    view: &View<'_>,
    appointment: AppointmentId,
    command: AppointmentCommand,
    status: Status,
) -> Result<AppointmentStands, Stop> {
    let booking = providers_side(view, appointment)?;
    view.decide::<Appointment>(appointment, command)?;
    Ok(AppointmentStands { status, ..stands(appointment, booking) })
}

pub(super) fn stands(appointment: AppointmentId, booking: &Booking) -> AppointmentStands {
    let Terms {
        provider,
        provider_account: _,
        client: _,
        guest_locale: _,
        contact: _,
        measure,
        service_name,
        zone,
        price,
        client_notes: _,
        series: _,
    } = &booking.terms;
    AppointmentStands {
        appointment,
        provider: *provider,
        service: measure.service,
        service_name: service_name.known().cloned(),
        slot: booking.slot,
        zone: *zone,
        price: *price,
        status: booking.status,
    }
}
