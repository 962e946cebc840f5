//! Hold: a slot kept for somebody while they check out.
//!
//! A hold takes a seat in the agenda of every UTC day it touches, in the same append that begins its own stream; the agenda
//! alone decides who is in whose way. It ends in one of four ways: its holder lets go or holds another slot that day
//! (`HoldReleased`), books it (`HoldUsed`, in the same append as the appointment: nobody can come between), or its time is
//! over. The last needs nobody: an agenda minds no hold whose time is over, and so do readers; the job `ExpireHold` appends
//! `HoldExpired` a moment later, so that it is told to those who wait. A crash before that leaves a hold that is over all
//! the same.

use std::collections::BTreeSet;

use chrono::{NaiveDate, TimeDelta};
use serde::{Deserialize, Serialize};

use crate::account::signed_in;
use crate::actor::Actor;
use crate::agenda::{Agenda, AgendaCommand, Holding, Leaving};
use crate::aggregate::{Aggregate, Context, StreamId, StreamKind, aggregate};
use crate::appointment::{client_may_book, wanted_service};
use crate::command::{Command, Stop, Target, View, every};
use crate::hours::{Policy, Zone};
use crate::ids::{
    AccountId, AgendaId, AppointmentId, HoldId, Id, ProviderId, ServiceId, WaitId, WaitlistId,
};
use crate::provider::Provider;
use crate::slots::{Measure, Span, shifted};
use crate::taking::Wanted;
use crate::waitlist::{Ending, Waitlist, WaitlistCommand};
use crate::{Instant, Refusal};

/// A hold's history, folded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// `None` until placed.
    pub placed: Option<Placed>,
}

/// A hold as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Of what.
    pub held: Held,
    /// How it ended, if something was done to end it.
    pub ended: Option<Ended>,
}

/// What is held, for whom, until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Of which provider.
    pub provider: ProviderId,
    /// For whom.
    pub holder: AccountId,
    /// The service's measure when it was placed.
    pub measure: Measure,
    /// The appointment's time.
    pub slot: Span,
    /// The provider's zone when it was placed.
    pub zone: Zone,
    /// When it ends by itself.
    pub expires_at: Instant,
    /// Whose place in line it is an offer to: that ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<WaitId>,
}

impl Held {
    /// Whether it holds this service of this provider from this instant.
    pub(crate) fn is_for(
        &self,
        (provider, service, start): (ProviderId, ServiceId, Instant),
    ) -> bool {
        (self.provider, self.measure.service, self.slot.start) == (provider, service, start)
    }

    /// The UTC days in whose agendas it stands.
    pub fn utc_days(&self) -> Vec<NaiveDate> {
        self.measure.buffered(self.slot).utc_days()
    }
}

/// How a hold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Its holder let go, or held another slot that day.
    Released,
    /// It became an appointment.
    Used,
    /// Its time was over.
    Expired,
}

/// What can be asked of a hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HoldCommand {
    /// Place it.
    Place(Held),
    /// Let go.
    Release,
    /// Make it an appointment.
    Use(AppointmentId),
    /// Say that its time is over.
    Expire,
}

impl HoldCommand {
    /// How a wait ends whose offer ends like that.
    const fn ending(self) -> Ending {
        match self {
            Self::Use(_) => Ending::Taken,
            Self::Release | Self::Place(_) => Ending::Declined,
            Self::Expire => Ending::Lapsed,
        }
    }
}

/// What happened to a hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum HoldEvent {
    /// It was placed.
    HoldPlaced {
        /// Of what, for whom, until when.
        held: Held,
    },
    /// Its holder let go, or held another slot that day.
    HoldReleased {},
    /// It became an appointment.
    HoldUsed {
        /// Which.
        appointment: AppointmentId,
    },
    /// Its time was over.
    HoldExpired {},
}

aggregate!(Hold(HoldId), HoldCommand => HoldEvent {
    HoldPlaced = "1",
    HoldReleased = "1",
    HoldUsed = "1",
    HoldExpired = "1",
});

impl Hold {
    /// What it holds, for its holder; to others it does not exist.
    pub fn of(&self, holder: AccountId) -> Result<&Placed, Refusal> {
        let placed = self.placed.as_ref().filter(|placed| placed.held.holder == holder);
        placed.ok_or(Refusal::NotFound("hold"))
    }

    /// What it holds, unless something was done to end it.
    fn standing(&self) -> Option<&Held> {
        self.placed.as_ref().filter(|placed| placed.ended.is_none()).map(|placed| &placed.held)
    }
}

impl Aggregate for Hold {
    type Id = HoldId;
    const KIND: StreamKind = StreamKind::Hold;

    fn decide(&self, command: HoldCommand, context: &Context) -> Result<Vec<HoldEvent>, Refusal> {
        if let HoldCommand::Place(held) = command {
            // Its id comes from the command's: an earlier one, whose answer is no longer kept, has placed it.
            return match self.placed {
                Some(_) => Err(Refusal::KeySpent),
                None => Ok(vec![HoldEvent::HoldPlaced { held }]),
            };
        }
        if self.placed.is_none() {
            return Err(Refusal::NotFound("hold"));
        }
        let Some(held) = self.standing() else { return Ok(Vec::new()) };
        Ok(match command {
            HoldCommand::Place(_) => Vec::new(),
            HoldCommand::Release => vec![HoldEvent::HoldReleased {}],
            HoldCommand::Use(appointment) => vec![HoldEvent::HoldUsed { appointment }],
            HoldCommand::Expire if context.now < held.expires_at => Vec::new(),
            HoldCommand::Expire => vec![HoldEvent::HoldExpired {}],
        })
    }

    fn evolve(&mut self, event: &HoldEvent) {
        let end = match event {
            HoldEvent::HoldPlaced { held } => {
                self.placed = Some(Placed { held: *held, ended: None });
                return;
            }
            HoldEvent::HoldReleased {} => Ended::Released,
            HoldEvent::HoldUsed { appointment: _ } => Ended::Used,
            HoldEvent::HoldExpired {} => Ended::Expired,
        };
        if let Some(placed) = &mut self.placed {
            placed.ended = Some(end);
        }
    }
}

/// Hold a slot for the actor. Whoever has one on that agenda's day already has this one instead.
#[derive(Debug, Clone)]
pub struct HoldSlot {
    /// Of which provider.
    pub provider: ProviderId,
    /// Of which service; `None` where the provider offers just one.
    pub service: Option<ServiceId>,
    /// When it starts.
    pub start: Instant,
}

/// A slot is held.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SlotIsHeld {
    /// By which hold.
    pub hold: HoldId,
    /// What, for whom, until when.
    pub held: Held,
}

impl Command for HoldSlot {
    const NAME: &'static str = "HoldSlot";
    type Outcome = SlotIsHeld;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Provider>(self.provider)
    }

    fn queue(&self) -> Option<StreamId> {
        Some(StreamId::of::<Agenda>(AgendaId::of(self.provider, self.start.date_naive())))
    }

    fn reads(&self) -> Vec<StreamId> {
        let day = AgendaId::of(self.provider, self.start.date_naive());
        vec![StreamId::of::<Provider>(self.provider), StreamId::of::<Agenda>(day)]
    }

    /// Whoever could book it.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        client_may_book(view, self.provider).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<SlotIsHeld, Stop> {
        let holder = signed_in(view.actor())?;
        let provider = view.load::<Provider>(self.provider)?;
        let schedule = &provider.schedule;
        let measure = wanted_service(provider, self.service)?.measure();
        let asked = (self.provider, measure.service, self.start);
        let mine = mine(view, holder, asked)?;
        if let Some((hold, held)) = mine.filter(|(_, held)| held.is_for(asked)) {
            // Held again is held no longer: else a slot could be kept for ever.
            return Ok(SlotIsHeld { hold, held });
        }
        let before = mine.map(|(hold, _)| hold);
        let slot = schedule.bookable(&measure, self.start, view.now())?;
        let minutes = schedule.policy.hold_minutes.unwrap_or(Policy::HOLD_MINUTES);
        let expires_at = shifted(view.now(), TimeDelta::minutes(minutes.into()));

        let hold: HoldId = view.mint().id(self.provider.slot(), 0);
        let wanted = Wanted {
            view,
            provider: self.provider,
            schedule,
            measure,
            slot,
            leaving: Leaving { appointment: None, hold: before },
            has: None,
        };
        let new: BTreeSet<NaiveDate> = measure.buffered(slot).utc_days().into_iter().collect();
        for day in &new {
            let holding = Holding {
                provider: self.provider,
                day: *day,
                hold,
                holder,
                slot,
                measure,
                expires_at,
                replaces: before,
            };
            wanted.decide(*day, AgendaCommand::HoldSlot(holding))?;
        }
        wanted.day_has_room()?;
        if let Some(before) = before {
            end(view, before, HoldCommand::Release, &new)?;
        }
        let zone = schedule.zone;
        let held =
            Held { provider: self.provider, holder, measure, slot, zone, expires_at, wait: None };
        view.decide::<Hold>(hold, HoldCommand::Place(held))?;
        Ok(SlotIsHeld { hold, held })
    }
}

/// Let go of a slot one holds.
#[derive(Debug, Clone)]
pub struct ReleaseHold {
    /// Which hold.
    pub hold: HoldId,
}

/// A hold is over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HoldIsOver {
    /// Which.
    pub hold: HoldId,
}

impl Command for ReleaseHold {
    const NAME: &'static str = "ReleaseHold";
    type Outcome = HoldIsOver;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Hold>(self.hold)
    }

    /// Its holder; to others it does not exist.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        let holder = signed_in(view.actor())?;
        view.load::<Hold>(self.hold)?.of(holder)?;
        Ok(())
    }

    fn decide(&self, view: &View<'_>) -> Result<HoldIsOver, Stop> {
        end(view, self.hold, HoldCommand::Release, &BTreeSet::new())?;
        Ok(HoldIsOver { hold: self.hold })
    }
}

/// Say that a hold's time is over, if it is.
#[derive(Debug, Clone)]
pub struct ExpireHold {
    /// Which hold.
    pub hold: HoldId,
}

impl Command for ExpireHold {
    const NAME: &'static str = "ExpireHold";
    type Outcome = HoldIsOver;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Hold>(self.hold)
    }

    /// Pontual itself.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        match view.actor() {
            Actor::System(_) => Ok(()),
            Actor::Anonymous => Err(Refusal::SignInRequired.into()),
            Actor::Account { .. } | Actor::Guest { .. } => Err(Refusal::Forbidden.into()),
        }
    }

    fn decide(&self, view: &View<'_>) -> Result<HoldIsOver, Stop> {
        end(view, self.hold, HoldCommand::Expire, &BTreeSet::new())?;
        Ok(HoldIsOver { hold: self.hold })
    }
}

/// The hold of a client's that an appointment of theirs takes the place of: the one they name, for the very slot; where they
/// name none, or it has ended unused, whichever they have on that agenda's day. One whose time is over but was not ended yet
/// is as good as any: if somebody else has the slot by now, their agenda says so.
pub(crate) fn to_book(
    view: &View<'_>,
    named: Option<HoldId>,
    client: Option<AccountId>,
    wanted: (ProviderId, ServiceId, Instant),
) -> Result<Option<(HoldId, Held)>, Stop> {
    let Some(client) = client else {
        return match named {
            Some(_) => Err(Refusal::NotFound("hold").into()),
            None => Ok(None),
        };
    };
    if let Some(hold) = named {
        let Placed { held, ended } = *view.load::<Hold>(hold)?.of(client)?;
        if !held.is_for(wanted) {
            return Err(Refusal::HoldMismatch.into());
        }
        match ended {
            None => return Ok(Some((hold, held))),
            Some(Ended::Used) => return Err(Refusal::HoldUsed.into()),
            Some(Ended::Released | Ended::Expired) => {}
        }
    }
    mine(view, client, wanted)
}

/// What somebody holds on the agenda's day of a slot that they want: that slot, else another. An offer of another slot is
/// left out: it stays until it is taken, declined or over.
fn mine(
    view: &View<'_>,
    holder: AccountId,
    wanted: (ProviderId, ServiceId, Instant),
) -> Result<Option<(HoldId, Held)>, Stop> {
    let (provider, _, start) = wanted;
    let day = start.date_naive();
    let agenda = view.load::<Agenda>(AgendaId::of(provider, day))?;
    let load = |hold| Ok((hold, view.load::<Hold>(hold)?.standing().copied()));
    let holds = every(agenda.holds_of(holder, day, view.now()).map(load))?;
    let standing = holds.into_iter().filter_map(|(hold, held)| Some((hold, held?)));
    Ok(standing
        .filter(|(_, held)| held.wait.is_none() || held.is_for(wanted))
        .max_by_key(|(_, held)| held.is_for(wanted)))
}

/// Ends a hold for an appointment that is decided on the days `done`: it became that, or gave way to it.
pub(crate) fn give_way(
    view: &View<'_>,
    (hold, held): (HoldId, Held),
    (appointment, wanted): (AppointmentId, (ProviderId, ServiceId, Instant)),
    done: &BTreeSet<NaiveDate>,
) -> Result<(), Stop> {
    let used = held.is_for(wanted);
    let command = if used { HoldCommand::Use(appointment) } else { HoldCommand::Release };
    end(view, hold, command, done)
}

/// Ends a hold and frees what it holds, but on the days `done`, which are decided already.
pub(crate) fn end(
    view: &View<'_>,
    hold: HoldId,
    command: HoldCommand,
    done: &BTreeSet<NaiveDate>,
) -> Result<(), Stop> {
    let Some(held) = view.load::<Hold>(hold)?.standing() else {
        view.decide::<Hold>(hold, command)?;
        return Ok(());
    };
    if view.decide::<Hold>(hold, command)?.is_empty() {
        return Ok(());
    }
    if let Some(wait) = held.wait {
        let (provider, ending) = (held.provider, command.ending());
        let end = WaitlistCommand::End { provider, wait, ending };
        view.decide::<Waitlist>(WaitlistId::of(provider), end)?;
    }
    for day in held.utc_days().into_iter().filter(|day| !done.contains(day)) {
        let free = AgendaCommand::FreeHold { provider: held.provider, day, hold };
        view.decide::<Agenda>(AgendaId::of(held.provider, day), free)?;
    }
    Ok(())
}
