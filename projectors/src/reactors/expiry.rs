//! Bookings that wait for the provider: each orders the job that lets it expire.

use domain::event::Event;
use domain::ids::{AppointmentId, Id};
use event_log::Recorded;

use crate::jobs::{Priority, Task};

/// `AppointmentBooked` and `AppointmentRescheduled` that are pending order `ExpireAppointment`, to be done when the time to
/// answer is over. An answer does not withdraw it: then it finds nothing to do.
pub(super) fn order(event: &Recorded) -> Option<(Task, Priority)> {
    let Event::Appointment(appointment_event) = &event.event else { return None };
    let due = appointment_event.unanswered_until()?;
    let appointment = AppointmentId::trusted(event.stream.id);
    Some((Task::ExpireAppointment { appointment, due }, Priority::Normal))
}
