//! The provider's answer to a booking: yes or no.

use super::stands::{AppointmentStands, end, providers_side, said};
use super::{Appointment, AppointmentCommand, Status};
use crate::command::{Command, Stop, Target, View};
use crate::ids::AppointmentId;
use crate::personal::Personal;
use crate::text::Note;

/// Say yes to a pending appointment.
#[derive(Debug, Clone)]
pub struct ConfirmAppointment {
    /// Which.
    pub appointment: AppointmentId,
}

impl Command for ConfirmAppointment {
    const NAME: &'static str = "ConfirmAppointment";
    type Outcome = AppointmentStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Appointment>(self.appointment)
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        providers_side(view, self.appointment).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        said(view, self.appointment, AppointmentCommand::Confirm, Status::Confirmed)
    }
}

/// Say no to a pending appointment.
#[derive(Debug, Clone)]
pub struct DeclineAppointment {
    /// Which.
    pub appointment: AppointmentId,
    /// Why.
    pub reason: Option<Note>,
}

impl Command for DeclineAppointment {
    const NAME: &'static str = "DeclineAppointment";
    type Outcome = AppointmentStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Appointment>(self.appointment)
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        providers_side(view, self.appointment).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        let booking = providers_side(view, self.appointment)?;
        let author = booking.terms.provider_account;
        let reason = self.reason.clone().map(|reason| Personal::of(author, reason));
        end(view, self.appointment, booking, AppointmentCommand::Decline(reason), Status::Declined)
    }
}
