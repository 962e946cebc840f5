//! Standing in line, and leaving it.

use std::collections::BTreeSet;

use chrono::{NaiveDate, TimeDelta};
use serde::{Deserialize, Serialize};

use super::{Ending, MAX_STRETCH_DAYS, Wait, Waiting, Waitlist, WaitlistCommand};
use crate::account::signed_in;
use crate::actor::Actor;
use crate::aggregate::StreamId;
use crate::appointment::{client_may_book, wanted_service};
use crate::command::{Command, Stop, Target, View};
use crate::hold::{self, HoldCommand};
use crate::ids::{Id, ProviderId, ServiceId, WaitId, WaitlistId};
use crate::provider::Provider;
use crate::taking::{ALTERNATIVES, taken_around};
use crate::{Instant, Refusal};

/// Wait for a slot of a service within a stretch of time in which none is free.
#[derive(Debug, Clone)]
pub struct JoinWaitlist {
    /// With whom.
    pub provider: ProviderId,
    /// For what; `None` where the provider offers just one service.
    pub service: Option<ServiceId>,
    /// From when on a slot may start.
    pub from: Instant,
    /// Until when it must have ended.
    pub to: Instant,
}

/// Somebody stands in line: nothing personal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Waits {
    /// At which provider.
    pub provider: ProviderId,
    /// Which place it is.
    pub wait: WaitId,
    /// For which service.
    pub service: ServiceId,
    /// From when on.
    pub from: Instant,
    /// Until when.
    pub to: Instant,
    /// How many wait for some of the same, this one included, up to this one.
    pub place: usize,
}

impl Waits {
    fn of(provider: ProviderId, wait: Wait, ahead: &[Waiting]) -> Self {
        let Wait { id, account: _, service, from, to } = wait;
        let place = ahead.iter().filter(|other| other.wait.meets(&wait)).count() + 1;
        Self { provider, wait: id, service, from, to, place }
    }
}

impl Command for JoinWaitlist {
    const NAME: &'static str = "JoinWaitlist";
    type Outcome = Waits;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Waitlist>(WaitlistId::of(self.provider))
    }

    fn queue(&self) -> Option<StreamId> {
        Some(StreamId::of::<Waitlist>(WaitlistId::of(self.provider)))
    }

    /// Whoever may book there.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        client_may_book(view, self.provider).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<Waits, Stop> {
        let account = client_may_book(view, self.provider)?;
        let line = &view.load::<Waitlist>(WaitlistId::of(self.provider))?.line;
        let provider = view.load::<Provider>(self.provider)?;
        let service = wanted_service(provider, self.service)?;
        let (schedule, now) = (&provider.schedule, view.now());
        let (from, to) = (self.from, self.to);
        let days = TimeDelta::days(MAX_STRETCH_DAYS.into());
        if from >= to || to - from > days || to <= now {
            return Err(Refusal::WaitingTime { days: MAX_STRETCH_DAYS }.into());
        }
        if schedule.local_day(from) > schedule.last_day(now) {
            let horizon_days = schedule.policy.horizon_days;
            return Err(Refusal::BeyondHorizon { horizon_days }.into());
        }
        let id: WaitId = view.mint().id(self.provider.slot(), 0);
        let wait = Wait { id, account, service: service.id, from, to };
        let same = |other: &Waiting| Wait { id, ..other.wait } == wait;
        if let Some(n) = line.iter().position(same) {
            return Ok(Waits::of(self.provider, line[n].wait, &line[..n]));
        }
        // One turn each: else somebody could have the next ones, too.
        if line.iter().any(|other| other.wait.account == account && other.wait.meets(&wait)) {
            return Err(Refusal::AlreadyInLine.into());
        }

        // Required to stay as they are: what is given back at this moment comes before or after.
        let measure = service.measure();
        let local: Vec<NaiveDate> = {
            let last = schedule.local_day(to);
            schedule.local_day(from).iter_days().take_while(|day| *day <= last).collect()
        };
        let taken = taken_around(view, self.provider, schedule.zone, &local)?;
        let free = local.iter().flat_map(|day| schedule.free(&measure, *day, &taken, now));
        let alternatives: Vec<Instant> = free
            .filter(|slot| wait.fits(*slot))
            .map(|slot| slot.start)
            .take(ALTERNATIVES)
            .collect();
        if !alternatives.is_empty() {
            return Err(Refusal::NothingToWaitFor { alternatives }.into());
        }
        let join = WaitlistCommand::Join { provider: self.provider, wait };
        view.decide::<Waitlist>(WaitlistId::of(self.provider), join)?;
        Ok(Waits::of(self.provider, wait, line))
    }
}

/// Leave the line. What one is offered just now goes to the next.
#[derive(Debug, Clone)]
pub struct LeaveWaitlist {
    /// Whose line.
    pub provider: ProviderId,
    /// Which place in it.
    pub wait: WaitId,
}

/// Somebody stands in line no more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WaitIsOver {
    /// Which place it was.
    pub wait: WaitId,
}

impl Command for LeaveWaitlist {
    const NAME: &'static str = "LeaveWaitlist";
    type Outcome = WaitIsOver;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Waitlist>(WaitlistId::of(self.provider))
    }

    /// Whose place it is, to others it does not exist; and Pontual itself, for somebody who was erased.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        if matches!(view.actor(), Actor::System(_)) {
            return Ok(());
        }
        let account = signed_in(view.actor())?;
        let list = view.load::<Waitlist>(WaitlistId::of(self.provider))?;
        let own = list.place(self.wait).filter(|waiting| waiting.wait.account == account);
        own.map(drop).ok_or(Refusal::NotFound("place in line").into())
    }

    fn decide(&self, view: &View<'_>) -> Result<WaitIsOver, Stop> {
        let id = WaitlistId::of(self.provider);
        let list = view.load::<Waitlist>(id)?;
        let offer = list.place(self.wait).and_then(|waiting| waiting.offer);
        match offer {
            // The end of the hold is the end of the wait.
            Some(offer) => hold::end(view, offer.hold, HoldCommand::Release, &BTreeSet::new())?,
            None => {
                let (provider, wait, ending) = (self.provider, self.wait, Ending::Left);
                view.decide::<Waitlist>(id, WaitlistCommand::End { provider, wait, ending })?;
            }
        }
        Ok(WaitIsOver { wait: self.wait })
    }
}
