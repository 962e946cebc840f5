//! What guests are told, by mail: they have no feed. And their end.

use domain::appointment::{AppointmentEvent, Side, Status};
use domain::event::Event;
use domain::ids::{AppointmentId, Id};
use event_log::Recorded;

use crate::jobs::guests::GuestNews;
use crate::jobs::{Priority, Task};

/// What a guest did not do themselves orders `GuestMail`, and so does their booking, for the link; `GuestErased` orders
/// `PurgeGuest`.
pub(super) fn order(event: &Recorded) -> Option<(Task, Priority)> {
    let Event::Appointment(appointment_event) = &event.event else { return None };
    let guest = appointment_event.parties().client.guest()?;
    let appointment = AppointmentId::trusted(event.stream.id);
    let mail = |news| Some((Task::GuestMail { guest, appointment, news }, Priority::High));
    match appointment_event {
        AppointmentEvent::AppointmentBooked { status, .. } => mail(if *status == Status::Pending {
            GuestNews::Requested
        } else {
            GuestNews::Confirmed
        }),
        AppointmentEvent::AppointmentConfirmed { .. } => mail(GuestNews::Confirmed),
        AppointmentEvent::AppointmentDeclined { .. } => mail(GuestNews::Declined),
        AppointmentEvent::AppointmentCancelled { by: Side::Provider, .. } => {
            mail(GuestNews::Cancelled)
        }
        AppointmentEvent::AppointmentRescheduled { by: Side::Provider, .. } => {
            mail(GuestNews::Moved)
        }
        AppointmentEvent::AppointmentExpired { .. } => mail(GuestNews::Expired),
        AppointmentEvent::GuestErased { .. } => {
            let number = event.at.number;
            Some((Task::PurgeGuest { guest, appointment, number }, Priority::High))
        }
        AppointmentEvent::AppointmentCancelled { by: Side::Client, .. }
        | AppointmentEvent::AppointmentRescheduled { by: Side::Client, .. }
        | AppointmentEvent::AppointmentCompleted { .. }
        | AppointmentEvent::AppointmentMissed { .. }
        | AppointmentEvent::AppointmentNoted { .. } => None,
    }
}
