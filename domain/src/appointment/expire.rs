//! A booking that the provider did not answer in time gives its slot back.
//!
//! A worker looks every few seconds for those whose time has come and runs the command for each. An answer, a cancellation or
//! a move that came first has made it nobody's business: then nothing happens.

use super::stands::{AppointmentStands, end};
use super::{Appointment, AppointmentCommand, Status};
use crate::Refusal;
use crate::actor::Actor;
use crate::command::{Command, Stop, Target, View};
use crate::ids::AppointmentId;

/// Let an appointment expire that still waits for the provider, though the time to answer is over.
#[derive(Debug, Clone)]
pub struct ExpireAppointment {
    /// Which.
    pub appointment: AppointmentId,
}

impl Command for ExpireAppointment {
    const NAME: &'static str = "ExpireAppointment";
    type Outcome = AppointmentStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Appointment>(self.appointment)
    }

    /// Pontual itself.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        match view.actor() {
            Actor::System(_) => Ok(()),
            Actor::Anonymous => Err(Refusal::SignInRequired.into()),
            Actor::Account { .. } | Actor::Guest { .. } => Err(Refusal::Forbidden.into()),
        }
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        let booking = view.load::<Appointment>(self.appointment)?.booked()?;
        end(view, self.appointment, booking, AppointmentCommand::Expire, Status::Expired)
    }
}
