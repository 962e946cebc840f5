//! Calling an appointment off, from either side.

use super::stands::{AppointmentStands, end, in_window, party};
use super::{Appointment, AppointmentCommand, Booking, Parties, Side, Status};
use crate::Refusal;
use crate::account::{self, Account};
use crate::actor::Actor;
use crate::command::{Command, Stop, Target, View};
use crate::ids::AppointmentId;
use crate::personal::Personal;
use crate::provider::Provider;
use crate::text::Note;

/// Call an appointment off, from either side.
#[derive(Debug, Clone)]
pub struct CancelAppointment {
    /// Which.
    pub appointment: AppointmentId,
    /// Why.
    pub reason: Option<Note>,
}

impl Command for CancelAppointment {
    const NAME: &'static str = "CancelAppointment";
    type Outcome = AppointmentStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Appointment>(self.appointment)
    }

    /// Its parties; and Pontual itself, for a party that was erased.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        canceller(view, self.appointment).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        let (booking, by) = canceller(view, self.appointment)?;
        if booking.status.is_live() && !matches!(view.actor(), Actor::System(_)) {
            let provider = view.consult::<Provider>(booking.terms.provider)?;
            in_window(provider, booking, by, view.now())?;
        }
        let author = booking.terms.author(by);
        let reason = self.reason.clone().map(|reason| Personal::of(author, reason));
        let command = AppointmentCommand::Cancel { by, reason, with_series: false };
        end(view, self.appointment, booking, command, Status::Cancelled)
    }
}

/// The booking, and the side that calls it off: the actor's, or that of a party who was erased and cannot any more.
fn canceller<'a>(view: &View<'a>, appointment: AppointmentId) -> Result<(&'a Booking, Side), Stop> {
    match view.actor() {
        Actor::Anonymous | Actor::Account { .. } | Actor::Guest { .. } => party(view, appointment),
        Actor::System(_) => {
            let booking = view.load::<Appointment>(appointment)?.booked()?;
            let Parties { provider: _, provider_account, client } = booking.terms.parties();
            let sides =
                [(client.account(), Side::Client), (Some(provider_account), Side::Provider)];
            for (account, side) in sides {
                let Some(account) = account else { continue };
                if view.consult::<Account>(account)?.status == account::Status::Erased {
                    return Ok((booking, side));
                }
            }
            Err(Refusal::Forbidden.into())
        }
    }
}
