//! Whether the client came: completed, or a no-show. The provider says so, and can set it right for seven days.
//!
//! It is not the place where a slot is freed: what took place keeps it, and so does what should have. (A service that has a
//! price will be completed only when it is paid, K13.)

use chrono::TimeDelta;

use super::stands::{AppointmentStands, providers_side, said};
use super::{Appointment, AppointmentCommand, Booking, Status, wrong};
use crate::command::{Command, Stop, Target, View};
use crate::ids::AppointmentId;
use crate::slots::shifted;
use crate::{Instant, Refusal};

/// For how many days after it was first said whether the client came that can be set right.
pub const CORRECTION_DAYS: u16 = 7;

/// Say that a confirmed appointment took place, once it has ended.
#[derive(Debug, Clone)]
pub struct CompleteAppointment {
    /// Which.
    pub appointment: AppointmentId,
}

impl Command for CompleteAppointment {
    const NAME: &'static str = "CompleteAppointment";
    type Outcome = AppointmentStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Appointment>(self.appointment)
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        providers_side(view, self.appointment).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        said(view, self.appointment, AppointmentCommand::Complete, Status::Completed)
    }
}

/// Say that the client of a confirmed appointment did not come, once it has begun.
#[derive(Debug, Clone)]
pub struct MarkNoShow {
    /// Which.
    pub appointment: AppointmentId,
}

impl Command for MarkNoShow {
    const NAME: &'static str = "MarkNoShow";
    type Outcome = AppointmentStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Appointment>(self.appointment)
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        providers_side(view, self.appointment).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        said(view, self.appointment, AppointmentCommand::MarkNoShow, Status::NoShow)
    }
}

/// Whether it can be said now whether the client came, and until when that can be set right. `from` is when it can be
/// said at the earliest.
pub(super) fn correctable(
    booking: &Booking,
    wanted: &'static str,
    from: Instant,
    now: Instant,
) -> Result<Instant, Refusal> {
    match booking.status {
        Status::Confirmed | Status::Completed | Status::NoShow => {}
        Status::Pending | Status::Declined | Status::Cancelled | Status::Expired => {
            return Err(wrong(booking.status_at(now), wanted));
        }
    }
    if now < from {
        return Err(Refusal::NotYet { from });
    }
    match booking.correctable_until {
        None => Ok(shifted(now, TimeDelta::days(CORRECTION_DAYS.into()))),
        Some(until) if now < until => Ok(until),
        Some(until) => Err(Refusal::CorrectionOver { until }),
    }
}
