//! Guests: they come by the link of their one appointment, and can be forgotten by it.

use chrono::TimeDelta;

use super::stands::{AppointmentStands, free, party, stands};
use super::{Appointment, AppointmentCommand, AppointmentEvent, Booking, Client, Status};
use crate::actor::Actor;
use crate::command::{Command, Stop, Target, View};
use crate::ids::{AppointmentId, GuestId};
use crate::personal::Personal;
use crate::slots::{Span, shifted};
use crate::{Instant, Refusal};

/// For how many days after its end a guest's link leads to an appointment.
pub const GUEST_LINK_DAYS: u16 = 30;

/// Until when a guest's link leads to an appointment of that time.
pub fn guest_link_ends(slot: Span) -> Instant {
    shifted(slot.end, TimeDelta::days(GUEST_LINK_DAYS.into()))
}

/// The booking a guest's link leads to: that one alone, for some time after its end, and not once they were erased.
pub(super) fn by_link<'a>(
    view: &View<'a>,
    appointment: AppointmentId,
    guest: GuestId,
    theirs: AppointmentId,
) -> Result<&'a Booking, Stop> {
    if appointment != theirs {
        return Err(Refusal::NotFound("appointment").into());
    }
    let booking = view.load::<Appointment>(appointment)?.booked()?;
    let known = match booking.terms.contact {
        Personal::Known { .. } | Personal::Sealed { .. } => true,
        Personal::Erased(_) => false,
    };
    let is_theirs = booking.terms.client == Client::Guest { guest };
    let good = is_theirs && known && view.now() < guest_link_ends(booking.slot);
    if good { Ok(booking) } else { Err(Refusal::InvalidLink.into()) }
}

/// Erase a guest for good: their data key is destroyed, and the appointment called off if it is still to come. The
/// cancellation window does not hold that up (K12): it is about appointments, not about one's data.
#[derive(Debug, Clone)]
pub struct EraseGuest {
    /// Whose appointment.
    pub appointment: AppointmentId,
}

impl Command for EraseGuest {
    const NAME: &'static str = "EraseGuest";
    type Outcome = AppointmentStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Appointment>(self.appointment)
    }

    /// The guest, by their link.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        party(view, self.appointment)?;
        match view.actor() {
            Actor::Guest { .. } => Ok(()),
            Actor::Anonymous | Actor::Account { .. } | Actor::System(_) => {
                Err(Refusal::Forbidden.into())
            }
        }
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        let (booking, _) = party(view, self.appointment)?;
        let events =
            view.decide::<Appointment>(self.appointment, AppointmentCommand::EraseGuest)?;
        view.erase_subject(booking.terms.client.subject());
        let outcome = stands(self.appointment, booking);
        let calls_off = |event: &AppointmentEvent| {
            matches!(event, AppointmentEvent::AppointmentCancelled { .. })
        };
        if !events.iter().any(calls_off) {
            return Ok(outcome);
        }
        free(view, self.appointment, booking)?;
        Ok(AppointmentStands { status: Status::Cancelled, ..outcome })
    }
}
