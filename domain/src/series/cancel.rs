//! Calling off what is to come of a series, from either side.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::agendas::Agendas;
use super::{BookedOccurrence, Placed, Series, SeriesCommand};
use crate::Refusal;
use crate::account::signed_in;
use crate::agenda::AgendaCommand;
use crate::appointment::{Appointment, AppointmentCommand, Booking, Side, Status, in_window};
use crate::command::{Command, Stop, Target, View, every};
use crate::ids::{AppointmentId, SeriesId};
use crate::personal::Personal;
use crate::provider::Provider;
use crate::text::Note;

/// Call off what is to come of a series: every occurrence that its side could call off by itself.
#[derive(Debug, Clone)]
pub struct CancelSeries {
    /// Which.
    pub series: SeriesId,
    /// Why.
    pub reason: Option<Note>,
}

/// What was called off, and what was not: nothing personal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SeriesIsOff {
    /// Which series.
    pub series: SeriesId,
    /// The occurrences that were called off just now, in order.
    pub cancelled: Vec<BookedOccurrence>,
    /// All others.
    pub kept: Vec<KeptOccurrence>,
}

/// An occurrence that was not called off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptOccurrence {
    /// Which of the rule, from 1.
    pub number: u16,
    /// Which appointment it is.
    pub appointment: AppointmentId,
    /// Where it stands.
    pub status: Status,
    /// Why not.
    pub why: WhyKept,
}

/// Why an occurrence was not called off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhyKept {
    /// The client's time to change it has passed.
    TooLate,
    /// It has begun.
    AlreadyBegun,
    /// It was called off, declined or over before.
    WrongStatus,
}

impl Command for CancelSeries {
    const NAME: &'static str = "CancelSeries";
    type Outcome = SeriesIsOff;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Series>(self.series)
    }

    /// Its parties; to others it does not exist.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        party(view, self.series).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<SeriesIsOff, Stop> {
        let (placed, by) = party(view, self.series)?;
        let provider_id = placed.parties.provider;
        let provider = view.consult::<Provider>(provider_id);
        let bookings = every(placed.booked.iter().map(|occurrence| {
            let booking = view.load::<Appointment>(occurrence.appointment)?.booked()?;
            Ok((*occurrence, booking))
        }));
        let (provider, bookings) = (provider?, bookings?);
        let (mut cancelled, mut kept, mut freed) = (Vec::new(), Vec::new(), Vec::new());
        for (BookedOccurrence { number, appointment, slot: _ }, booking) in bookings {
            match kept_because(provider, booking, by, view) {
                Some(why) => {
                    let status = booking.status_at(view.now());
                    kept.push(KeptOccurrence { number, appointment, status, why });
                }
                None => {
                    cancelled.push(BookedOccurrence { number, appointment, slot: booking.slot });
                    for day in booking.terms.measure.buffered(booking.slot).utc_days() {
                        let provider = provider_id;
                        let free = AgendaCommand::FreeSlot { provider, day, appointment };
                        freed.push((day, free));
                    }
                }
            }
        }
        let days: BTreeSet<NaiveDate> = freed.iter().map(|(day, _)| *day).collect();
        let mut agendas = Agendas::load(view, provider_id, days)?;
        agendas.decide(freed)?;
        agendas.emit()?;
        let author = match by {
            Side::Client => placed.parties.client.subject(),
            Side::Provider => placed.parties.provider_account.into(),
        };
        for occurrence in &cancelled {
            let reason = self.reason.clone().map(|reason| Personal::of(author, reason));
            let cancel = AppointmentCommand::Cancel { by, reason, with_series: true };
            view.decide::<Appointment>(occurrence.appointment, cancel)?;
        }
        let cancel = SeriesCommand::Cancel { by, cancelled: cancelled.clone() };
        view.decide::<Series>(self.series, cancel)?;
        Ok(SeriesIsOff { series: self.series, cancelled, kept })
    }
}

/// What is booked, and the actor's side of it.
fn party<'a>(view: &View<'a>, series: SeriesId) -> Result<(&'a Placed, Side), Stop> {
    let account = signed_in(view.actor())?;
    let placed = view.load::<Series>(series)?.booked()?;
    let side = placed.side_of(account).ok_or(Refusal::NotFound("series"))?;
    Ok((placed, side))
}

fn kept_because(
    provider: &Provider,
    booking: &Booking,
    by: Side,
    view: &View<'_>,
) -> Option<WhyKept> {
    let now = view.now();
    if !booking.status_at(now).is_live() {
        Some(WhyKept::WrongStatus)
    } else if booking.slot.start <= now {
        Some(WhyKept::AlreadyBegun)
    } else {
        in_window(provider, booking, by, now).is_err().then_some(WhyKept::TooLate)
    }
}
