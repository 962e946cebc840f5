//! Agenda: one provider's UTC day, and the authority on overlap.
//!
//! An occupation that crosses midnight UTC stands in the agendas of both days, written in the same append.
//! Agendas hold ids only, never a name.
//!
//! A seat may be held while somebody checks out. A hold ends by itself when its time is over: from then on it is in
//! nobody's way here, though it stands in the agenda until the job `ExpireHold` has taken it out.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::aggregate::{Aggregate, Context, StreamKind, aggregate};
use crate::ids::{AccountId, AgendaId, AppointmentId, HoldId, ProviderId, ServiceId};
use crate::slots::{Measure, Span, Taken};
use crate::{Instant, Refusal};

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
    /// Which others are held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldSeat>,
}

/// A seat that is held while somebody checks out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldSeat {
    /// By which hold.
    pub hold: HoldId,
    /// Whose hold that is.
    pub holder: AccountId,
    /// When it ends by itself.
    pub expires_at: Instant,
}

/// Who gives a seat back in the same append: what they have is in nobody's way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leaving {
    /// An appointment that moves.
    pub appointment: Option<AppointmentId>,
    /// A hold that is booked, or replaced.
    pub hold: Option<HoldId>,
}

impl Occupation {
    /// As slot arithmetic sees it.
    pub fn taken(&self) -> Taken {
        self.taken_without(Leaving::default())
    }

    /// As slot arithmetic sees it for those who give their seats back.
    pub fn taken_without(&self, leaving: Leaving) -> Taken {
        let stays = |seat: &&AppointmentId| leaving.appointment != Some(**seat);
        let seats = self.seats.iter().filter(stays).count();
        let held = self.held.iter().filter(|seat| leaving.hold != Some(seat.hold));
        Taken {
            span: self.span,
            start: self.slot.start,
            service: self.service,
            capacity: self.capacity,
            seats_taken: u16::try_from(seats).unwrap_or(u16::MAX),
            held_until: held.map(|seat| seat.expires_at).collect(),
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
    /// Hold a slot while somebody checks out.
    HoldSlot(Holding),
    /// Free what a hold holds.
    FreeHold {
        /// Whose agenda.
        provider: ProviderId,
        /// Which UTC day.
        day: NaiveDate,
        /// Whose seat.
        hold: HoldId,
    },
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
    /// The hold that becomes the appointment.
    pub hold: Option<HoldId>,
}

/// A slot to hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Holding {
    /// Whose agenda.
    pub provider: ProviderId,
    /// Which UTC day.
    pub day: NaiveDate,
    /// By which hold.
    pub hold: HoldId,
    /// Whose hold that is.
    pub holder: AccountId,
    /// The appointment's time.
    pub slot: Span,
    /// The service's measure.
    pub measure: Measure,
    /// When it ends by itself.
    pub expires_at: Instant,
    /// The hold it replaces.
    pub replaces: Option<HoldId>,
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
        /// The hold whose seat it is: that one is gone with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold: Option<HoldId>,
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
    /// A seat is held while somebody checks out.
    SlotHeld {
        /// Whose agenda.
        provider: ProviderId,
        /// Which UTC day.
        day: NaiveDate,
        /// By which hold.
        hold: HoldId,
        /// Whose hold that is.
        holder: AccountId,
        /// The appointment's time.
        slot: Span,
        /// With buffers.
        span: Span,
        /// The service.
        service: ServiceId,
        /// How many seats the slot has.
        capacity: u16,
        /// When it ends by itself.
        expires_at: Instant,
    },
    /// A held seat is free again.
    HeldSlotFreed {
        /// Whose agenda.
        provider: ProviderId,
        /// Which UTC day.
        day: NaiveDate,
        /// Which hold had it.
        hold: HoldId,
    },
}

aggregate!(Agenda(AgendaId), AgendaCommand => AgendaEvent {
    SlotTaken = "1",
    SlotFreed = "1",
    SlotHeld = "1",
    HeldSlotFreed = "1",
});

impl AgendaEvent {
    /// Whose agenda it is, and which UTC day.
    pub fn whose(&self) -> (ProviderId, NaiveDate) {
        match self {
            Self::SlotTaken { provider, day, .. }
            | Self::SlotFreed { provider, day, .. }
            | Self::SlotHeld { provider, day, .. }
            | Self::HeldSlotFreed { provider, day, .. } => (*provider, *day),
        }
    }

    /// Which appointment got a seat, and when it is.
    pub fn seated(&self) -> Option<(AppointmentId, Span)> {
        match self {
            Self::SlotTaken { appointment, slot, .. } => Some((*appointment, *slot)),
            Self::SlotFreed { .. } | Self::SlotHeld { .. } | Self::HeldSlotFreed { .. } => None,
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

    /// The live holds of somebody on slots that start on this agenda's day.
    pub fn holds_of(
        &self,
        holder: AccountId,
        day: NaiveDate,
        now: Instant,
    ) -> impl Iterator<Item = HoldId> {
        let todays = self.occupations.iter().filter(move |o| o.slot.start.date_naive() == day);
        let theirs = move |seat: &&HeldSeat| seat.holder == holder && now < seat.expires_at;
        todays.flat_map(|occupation| &occupation.held).filter(theirs).map(|seat| seat.hold)
    }

    fn has_hold(&self, hold: HoldId) -> bool {
        self.occupations.iter().any(|o| o.held.iter().any(|seat| seat.hold == hold))
    }

    /// That nobody but those who leave is in the way of a slot.
    fn free(
        &self,
        measure: &Measure,
        slot: Span,
        leaving: Leaving,
        now: Instant,
    ) -> Result<(), Refusal> {
        let obstacle = |o: &Occupation| measure.obstacle(slot, &o.taken_without(leaving), now);
        match self.occupations.iter().find_map(obstacle) {
            Some(obstacle) => Err(obstacle.refusal()),
            None => Ok(()),
        }
    }

    /// The event that takes a slot, unless somebody else but `mover` is in the way.
    fn take(
        &self,
        taking: &Taking,
        mover: Option<AppointmentId>,
        now: Instant,
    ) -> Result<AgendaEvent, Refusal> {
        let leaving = Leaving { appointment: mover, hold: taking.hold };
        self.free(&taking.measure, taking.slot, leaving, now)?;
        Ok(AgendaEvent::SlotTaken {
            provider: taking.provider,
            day: taking.day,
            appointment: taking.appointment,
            slot: taking.slot,
            span: taking.measure.buffered(taking.slot),
            service: taking.measure.service,
            capacity: taking.measure.capacity,
            hold: taking.hold,
        })
    }

    /// The occupation that is this very slot of this service, made if it is not there.
    fn seating(
        &mut self,
        slot: Span,
        span: Span,
        service: ServiceId,
        capacity: u16,
    ) -> &mut Occupation {
        let same =
            |o: &Occupation| o.slot.start == slot.start && o.span == span && o.service == service;
        let at = self.occupations.iter().position(same).unwrap_or_else(|| {
            let (seats, held) = (Vec::new(), Vec::new());
            self.occupations.push(Occupation { slot, span, service, capacity, seats, held });
            self.occupations.len() - 1
        });
        &mut self.occupations[at]
    }

    fn vacate(&mut self, leaving: Leaving) {
        for occupation in &mut self.occupations {
            occupation.seats.retain(|seat| leaving.appointment != Some(*seat));
            occupation.held.retain(|seat| leaving.hold != Some(seat.hold));
        }
        self.occupations.retain(|o| !o.seats.is_empty() || !o.held.is_empty());
    }
}

impl Aggregate for Agenda {
    type Id = AgendaId;
    const KIND: StreamKind = StreamKind::Agenda;

    fn decide(
        &self,
        command: AgendaCommand,
        context: &Context,
    ) -> Result<Vec<AgendaEvent>, Refusal> {
        match command {
            AgendaCommand::TakeSlot(taking) => {
                if self.holds(taking.appointment) {
                    return Ok(Vec::new());
                }
                Ok(vec![self.take(&taking, None, context.now)?])
            }
            AgendaCommand::FreeSlot { provider, day, appointment } => {
                if !self.holds(appointment) {
                    return Ok(Vec::new());
                }
                Ok(vec![AgendaEvent::SlotFreed { provider, day, appointment }])
            }
            AgendaCommand::MoveSlot(taking) => {
                let Taking { provider, day, appointment, .. } = taking;
                let taken = self.take(&taking, Some(appointment), context.now)?;
                let freed = AgendaEvent::SlotFreed { provider, day, appointment };
                Ok(if self.holds(appointment) { vec![freed, taken] } else { vec![taken] })
            }
            AgendaCommand::HoldSlot(holding) => {
                let Holding { provider, day, hold, holder, slot, measure, expires_at, replaces } =
                    holding;
                if self.has_hold(hold) {
                    return Ok(Vec::new());
                }
                let leaving = Leaving { appointment: None, hold: replaces };
                self.free(&measure, slot, leaving, context.now)?;
                let replaced = replaces.filter(|replaced| self.has_hold(*replaced));
                let freed = replaced.map(|hold| AgendaEvent::HeldSlotFreed { provider, day, hold });
                let held = AgendaEvent::SlotHeld {
                    provider,
                    day,
                    hold,
                    holder,
                    slot,
                    span: measure.buffered(slot),
                    service: measure.service,
                    capacity: measure.capacity,
                    expires_at,
                };
                Ok(freed.into_iter().chain([held]).collect())
            }
            AgendaCommand::FreeHold { provider, day, hold } => {
                if !self.has_hold(hold) {
                    return Ok(Vec::new());
                }
                Ok(vec![AgendaEvent::HeldSlotFreed { provider, day, hold }])
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
                hold,
            } => {
                // What was held lowers no limit: it goes first.
                if hold.is_some() {
                    self.vacate(Leaving { appointment: None, hold: *hold });
                }
                let occupation = self.seating(*slot, *span, *service, *capacity);
                occupation.capacity = occupation.capacity.min(*capacity);
                occupation.seats.push(*appointment);
            }
            AgendaEvent::SlotFreed { provider: _, day: _, appointment } => {
                self.vacate(Leaving { appointment: Some(*appointment), hold: None });
            }
            AgendaEvent::SlotHeld {
                provider: _,
                day: _,
                hold,
                holder,
                slot,
                span,
                service,
                capacity,
                expires_at,
            } => {
                let seat = HeldSeat { hold: *hold, holder: *holder, expires_at: *expires_at };
                self.seating(*slot, *span, *service, *capacity).held.push(seat);
            }
            AgendaEvent::HeldSlotFreed { provider: _, day: _, hold } => {
                self.vacate(Leaving { appointment: None, hold: Some(*hold) });
            }
        }
    }
}
