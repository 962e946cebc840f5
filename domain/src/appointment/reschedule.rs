//! Moving an appointment, from either side.

use std::collections::BTreeSet;

use super::stands::{AppointmentStands, answer_by, in_window, party, stands};
use super::{Appointment, AppointmentCommand, AppointmentEvent, Side};
use crate::Instant;
use crate::agenda::{AgendaCommand, Leaving, Taking};
use crate::command::{Command, Stop, Target, View};
use crate::hold;
use crate::ids::AppointmentId;
use crate::provider::Provider;
use crate::taking::Wanted;

/// How often an appointment can be moved: each move is news for somebody, and of a guest's a mail.
pub const MOVES: u8 = 50;

/// Move an appointment to another start, keeping its id, its history and what was agreed (K19).
#[derive(Debug, Clone)]
pub struct RescheduleAppointment {
    /// Which.
    pub appointment: AppointmentId,
    /// When it is to start.
    pub start: Instant,
}

impl Command for RescheduleAppointment {
    const NAME: &'static str = "RescheduleAppointment";
    type Outcome = AppointmentStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Appointment>(self.appointment)
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        party(view, self.appointment).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        let (booking, by) = party(view, self.appointment)?;
        booking.live("rescheduled", view.now())?;
        let terms = &booking.terms;
        let provider = view.load::<Provider>(terms.provider)?;
        provider.open()?;
        let mut outcome = stands(self.appointment, booking);
        if self.start == booking.slot.start {
            return Ok(outcome);
        }
        in_window(provider, booking, by, view.now())?;
        let slot = provider.schedule.bookable(&terms.measure, self.start, view.now())?;
        let to = (terms.provider, terms.measure.service, self.start);
        let mover = terms.client.account().filter(|_| by == Side::Client);
        let held = hold::to_book(view, None, mover, to)?;
        let hold = held.map(|(hold, _)| hold);
        let wanted = Wanted {
            view,
            provider: terms.provider,
            schedule: &provider.schedule,
            measure: terms.measure,
            slot,
            leaving: Leaving { appointment: Some(self.appointment), hold },
            has: Some(booking.slot.start),
        };
        let days = |slot| terms.measure.buffered(slot).utc_days();
        let (old, new) = (days(booking.slot), days(slot));
        for day in old.iter().chain(&new).copied().collect::<BTreeSet<_>>() {
            let (provider_id, appointment) = (terms.provider, self.appointment);
            let command = if new.contains(&day) {
                let taking = Taking {
                    provider: provider_id,
                    day,
                    appointment,
                    slot,
                    measure: terms.measure,
                    hold,
                };
                AgendaCommand::MoveSlot(taking)
            } else {
                AgendaCommand::FreeSlot { provider: provider_id, day, appointment }
            };
            wanted.decide(day, command)?;
        }
        wanted.day_has_room()?;
        if let Some(held) = held {
            hold::give_way(view, held, (self.appointment, to), &new.into_iter().collect())?;
        }
        let policy = &provider.schedule.policy;
        let confirmation = policy.confirmation;
        let answer_by = answer_by(policy, slot.start, view.now());
        let events = view.decide::<Appointment>(
            self.appointment,
            AppointmentCommand::Reschedule { by, to: slot, confirmation, answer_by },
        )?;
        outcome.slot = slot;
        if let Some(AppointmentEvent::AppointmentRescheduled { status, .. }) = events.first() {
            outcome.status = *status;
        }
        Ok(outcome)
    }
}
