//! Agenda: one provider's UTC day, and the authority on overlap.
//!
//! An occupation that crosses midnight UTC stands in the agendas of both days, written in the same append.
//! Agendas hold ids only, never a name.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::aggregate::{Aggregate, Context, StreamKind, aggregate};
use crate::ids::{AgendaId, AppointmentId, ProviderId, ServiceId};
use crate::slots::{Measure, Span, Taken};

/// One provider's UTC day.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Agenda {
    /// What stands in it, in the order it was taken.
    pub occupations: Vec<Occupation>,
}

/// A stretch of the day that is taken, and by whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Occupation {
    /// The appointment's time.
    pub slot: Span,
    /// The time with buffers.
    pub span: Span,
    /// The service.
    pub service: ServiceId,
    /// How many seats there are: the least that any of its seats was booked with, so that who booked alone
    /// stays alone when the service becomes a group.
    pub capacity: u16,
    /// Who sits in them.
    pub seats: Vec<AppointmentId>,
}

impl Occupation {
    /// As slot arithmetic sees it.
    pub fn taken(&self) -> Taken {
        self.seating(self.seats.len())
    }

    /// As slot arithmetic sees it for an appointment that gives its seat back; `None` when nobody else
    /// sits there.
    pub fn taken_without(&self, mover: AppointmentId) -> Option<Taken> {
        let others = self.seats.iter().filter(|seat| **seat != mover).count();
        (others > 0).then(|| self.seating(others))
    }

    fn seating(&self, seats: usize) -> Taken {
        Taken {
            span: self.span,
            start: self.slot.start,
            service: self.service,
            capacity: self.capacity,
            seats_taken: u16::try_from(seats).unwrap_or(u16::MAX),
        }
    }
}

/// What can be asked of an agenda.
#[derive(Debug, Clone, PartialEq)]
pub enum AgendaCommand {
    /// Take a slot for an appointment.
    TakeSlot(Taking),
    /// Free whatever an appointment holds.
    FreeSlot {
        /// Whose agenda.
        provider: ProviderId,
        /// Which UTC day.
        day: NaiveDate,
        /// Whose seat.
        appointment: AppointmentId,
    },
    /// Free what the appointment holds and take another slot, as one.
    MoveSlot(Taking),
}

/// A slot to take.
#[derive(Debug, Clone, PartialEq)]
pub struct Taking {
    /// Whose agenda.
    pub provider: ProviderId,
    /// Which UTC day.
    pub day: NaiveDate,
    /// For whom.
    pub appointment: AppointmentId,
    /// The appointment's time.
    pub slot: Span,
    /// The service's measure.
    pub measure: Measure,
}

/// What happened to an agenda.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AgendaEvent {
    /// A seat was taken.
    SlotTaken {
        /// Whose agenda.
        provider: ProviderId,
        /// Which UTC day.
        day: NaiveDate,
        /// For whom.
        appointment: AppointmentId,
        /// The appointment's time.
        slot: Span,
        /// With buffers.
        span: Span,
        /// The service.
        service: ServiceId,
        /// How many seats the slot has.
        capacity: u16,
    },
    /// A seat was given back.
    SlotFreed {
        /// Whose agenda.
        provider: ProviderId,
        /// Which UTC day.
        day: NaiveDate,
        /// Who sat there.
        appointment: AppointmentId,
    },
}

aggregate!(Agenda(AgendaId), AgendaCommand => AgendaEvent { SlotTaken = "1", SlotFreed = "1" });

impl AgendaEvent {
    /// Which appointment got a seat, and when it is.
    pub fn seated(&self) -> Option<(AppointmentId, Span)> {
        match self {
            Self::SlotTaken { appointment, slot, .. } => Some((*appointment, *slot)),
            Self::SlotFreed { .. } => None,
        }
    }
}

impl Agenda {
    /// As slot arithmetic sees it.
    pub fn taken(&self) -> Vec<Taken> {
        self.occupations.iter().map(Occupation::taken).collect()
    }

    fn holds(&self, appointment: AppointmentId) -> bool {
        self.occupations.iter().any(|o| o.seats.contains(&appointment))
    }

    /// The event that takes a slot, unless somebody else but `mover` is in the way.
    fn take(&self, taking: &Taking, mover: Option<AppointmentId>) -> Result<AgendaEvent, Refusal> {
        let fits = |occupation: &Occupation| {
            let taken = match mover {
                Some(mover) => occupation.taken_without(mover),
                None => Some(occupation.taken()),
            };
            taken.is_none_or(|taken| taking.measure.fits(taking.slot, &taken))
        };
        if !self.occupations.iter().all(fits) {
            return Err(Refusal::SlotTaken { alternatives: Vec::new() });
        }
        Ok(AgendaEvent::SlotTaken {
            provider: taking.provider,
            day: taking.day,
            appointment: taking.appointment,
            slot: taking.slot,
            span: taking.measure.buffered(taking.slot),
            service: taking.measure.service,
            capacity: taking.measure.capacity,
        })
    }

    fn vacate(&mut self, appointment: AppointmentId) {
        for occupation in &mut self.occupations {
            occupation.seats.retain(|seat| *seat != appointment);
        }
        self.occupations.retain(|o| !o.seats.is_empty());
    }
}

impl Aggregate for Agenda {
    type Id = AgendaId;
    const KIND: StreamKind = StreamKind::Agenda;

    fn decide(&self, command: AgendaCommand, _: &Context) -> Result<Vec<AgendaEvent>, Refusal> {
        match command {
            AgendaCommand::TakeSlot(taking) => {
                if self.holds(taking.appointment) {
                    return Ok(Vec::new());
                }
                Ok(vec![self.take(&taking, None)?])
            }
            AgendaCommand::FreeSlot { provider, day, appointment } => {
                if !self.holds(appointment) {
                    return Ok(Vec::new());
                }
                Ok(vec![AgendaEvent::SlotFreed { provider, day, appointment }])
            }
            AgendaCommand::MoveSlot(taking) => {
                let Taking { provider, day, appointment, .. } = taking;
                let taken = self.take(&taking, Some(appointment))?;
                let freed = AgendaEvent::SlotFreed { provider, day, appointment };
                Ok(if self.holds(appointment) { vec![freed, taken] } else { vec![taken] })
            }
        }
    }

    fn evolve(&mut self, event: &AgendaEvent) {
        match event {
            AgendaEvent::SlotTaken {
                provider: _,
                day: _,
                appointment,
                slot,
                span,
                service,
                capacity,
            } => {
                let joined = self.occupations.iter_mut().find(|o| {
                    o.slot.start == slot.start && o.span == *span && o.service == *service
                });
                match joined {
                    Some(occupation) => {
                        occupation.capacity = occupation.capacity.min(*capacity);
                        occupation.seats.push(*appointment);
                    }
                    None => self.occupations.push(Occupation {
                        slot: *slot,
                        span: *span,
                        service: *service,
                        capacity: *capacity,
                        seats: vec![*appointment],
                    }),
                }
            }
            AgendaEvent::SlotFreed { provider: _, day: _, appointment } => {
                self.vacate(*appointment)
            }
        }
    }
}
