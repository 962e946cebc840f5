//! Notes that one side of an appointment makes for itself: the other never sees them.

use super::stands::{AppointmentStands, party, stands};
use super::{Appointment, AppointmentCommand};
use crate::command::{Command, Stop, Target, View};
use crate::ids::AppointmentId;
use crate::personal::Personal;
use crate::text::Note;

/// How often each side may change its notes of an appointment: their history is kept.
pub const NOTE_CHANGES: u8 = 100;

/// Note something for one's own side alone, in place of what was noted before; at any time.
#[derive(Debug, Clone)]
pub struct NoteAppointment {
    /// Which.
    pub appointment: AppointmentId,
    /// What; `None` takes it away.
    pub notes: Option<Note>,
}

impl Command for NoteAppointment {
    const NAME: &'static str = "NoteAppointment";
    type Outcome = AppointmentStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Appointment>(self.appointment)
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        party(view, self.appointment).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        let (booking, by) = party(view, self.appointment)?;
        let author = booking.terms.author(by);
        let notes = self.notes.clone().map(|notes| Personal::of(author, notes));
        view.decide::<Appointment>(self.appointment, AppointmentCommand::Note { by, notes })?;
        Ok(stands(self.appointment, booking))
    }
}
