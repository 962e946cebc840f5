//! Offering what was given back to the first in line whom it fits.

use std::collections::BTreeMap;

use chrono::{NaiveDate, NaiveTime, TimeDelta};
use serde::{Deserialize, Serialize};

use super::{Offer, Wait, Waitlist, WaitlistCommand};
use crate::account::Account;
use crate::actor::Actor;
use crate::agenda::{AgendaCommand, Holding, Leaving};
use crate::command::{Command, Stop, Target, View, every};
use crate::hold::{Held, Hold, HoldCommand};
use crate::hours::Policy;
use crate::ids::{HoldId, Id, ProviderId, ServiceId, WaitId, WaitlistId};
use crate::provider::{Doors, Provider};
use crate::slots::{Measure, Schedule, Span, shifted};
use crate::taking::{Wanted, taken_around};
use crate::{Instant, Refusal};

/// How many in line whom a slot fits are looked at in one run, lest the first of them be there no more.
const LOOKED_AT: usize = 8;

/// What is offered for less than this is not offered.
const SHORTEST: TimeDelta = TimeDelta::minutes(1);

/// Offer a slot of a day to the first in line whom one fits: the earliest that does.
#[derive(Debug, Clone)]
pub struct OfferFreedSlot {
    /// Whose.
    pub provider: ProviderId,
    /// On which UTC day something was given back.
    pub day: NaiveDate,
}

/// Who is offered what, if anybody.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SlotOnOffer {
    /// Whose place in line, and the hold that keeps it for them.
    pub offered: Option<(WaitId, HoldId)>,
    /// Whether there may be more to do: somebody was offered something, or found to be gone.
    pub more: bool,
    /// Whether the provider is away for now: what is free is offered when they are back.
    #[serde(default)]
    pub paused: bool,
}

/// A slot and for whom it is kept.
struct Candidate {
    wait: Wait,
    measure: Measure,
    slot: Span,
    expires_at: Instant,
}

impl OfferFreedSlot {
    /// The first in line for whom a slot is free, each with the earliest; and whose service is not there any more.
    fn candidates(
        &self,
        view: &View<'_>,
        list: &Waitlist,
        provider: &Provider,
    ) -> Result<(Vec<Candidate>, Vec<WaitId>), Stop> {
        let (schedule, now) = (&provider.schedule, view.now());
        let begin = self.day.and_time(NaiveTime::MIN).and_utc();
        let end = shifted(begin, TimeDelta::days(1));
        let last = schedule.local_day(shifted(end, -TimeDelta::nanoseconds(1)));
        let days: Vec<NaiveDate> =
            schedule.local_day(begin).iter_days().take_while(|day| *day <= last).collect();
        let taken = taken_around(view, self.provider, schedule.zone, &days)?;

        // The local days around begin and end within a day of it, in any zone.
        let around = Span {
            start: shifted(begin, -TimeDelta::days(1)),
            end: shifted(end, TimeDelta::days(1)),
        };
        let mut free_of: BTreeMap<ServiceId, Vec<Span>> = BTreeMap::new();
        let (mut candidates, mut gone) = (Vec::new(), Vec::new());
        let waits = list.line.iter().filter(|waiting| waiting.offer.is_none());
        for wait in waits.map(|waiting| waiting.wait).filter(|wait| now < wait.to) {
            let Ok(service) = provider.service(wait.service) else {
                gone.push(wait.id);
                continue;
            };
            // What is not on offer just now is waited for until it is again.
            if !service.is_active || !around.intersects(&Span { start: wait.from, end: wait.to }) {
                continue;
            }
            let measure = service.measure();
            let free = free_of.entry(wait.service).or_insert_with(|| {
                days.iter().flat_map(|day| schedule.free(&measure, *day, &taken, now)).collect()
            });
            let timely = |slot: Span| {
                let until = offered_until(schedule, slot, now);
                (until - now >= SHORTEST).then_some((slot, until))
            };
            let found = free.iter().copied().filter(|slot| wait.fits(*slot)).find_map(timely);
            if let Some((slot, expires_at)) = found {
                candidates.push(Candidate { wait, measure, slot, expires_at });
            }
            if candidates.len() >= LOOKED_AT {
                break;
            }
        }
        Ok((candidates, gone))
    }

    /// Holds a slot for somebody, as they would themselves.
    fn hold(
        &self,
        view: &View<'_>,
        schedule: &Schedule,
        candidate: &Candidate,
    ) -> Result<Offer, Stop> {
        let Candidate { wait, measure, slot, expires_at } = candidate;
        let hold: HoldId = view.mint().id(self.provider.slot(), 0);
        let wanted = Wanted {
            view,
            provider: self.provider,
            schedule,
            measure: *measure,
            slot: *slot,
            leaving: Leaving::default(),
            has: None,
        };
        for day in measure.buffered(*slot).utc_days() {
            let holding = Holding {
                provider: self.provider,
                day,
                hold,
                holder: wait.account,
                slot: *slot,
                measure: *measure,
                expires_at: *expires_at,
                replaces: None,
            };
            wanted.decide(day, AgendaCommand::HoldSlot(holding))?;
        }
        wanted.day_has_room()?;
        let held = Held {
            provider: self.provider,
            holder: wait.account,
            measure: *measure,
            slot: *slot,
            zone: schedule.zone,
            expires_at: *expires_at,
            wait: Some(wait.id),
        };
        view.decide::<Hold>(hold, HoldCommand::Place(held))?;
        Ok(Offer { hold, slot: *slot, expires_at: *expires_at })
    }
}

impl Command for OfferFreedSlot {
    const NAME: &'static str = "OfferFreedSlot";
    type Outcome = SlotOnOffer;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Waitlist>(WaitlistId::of(self.provider))
    }

    /// Pontual itself.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        match view.actor() {
            Actor::System(_) => Ok(()),
            Actor::Anonymous => Err(Refusal::SignInRequired.into()),
            Actor::Account { .. } | Actor::Guest { .. } => Err(Refusal::Forbidden.into()),
        }
    }

    fn decide(&self, view: &View<'_>) -> Result<SlotOnOffer, Stop> {
        let nobody = SlotOnOffer { offered: None, more: false, paused: false };
        let id = WaitlistId::of(self.provider);
        let list = view.load::<Waitlist>(id)?;
        if list.line.iter().all(|waiting| waiting.offer.is_some()) {
            return Ok(nobody);
        }
        let provider = view.load::<Provider>(self.provider)?;
        let over = self.day.and_time(NaiveTime::MIN).and_utc() + TimeDelta::days(1) <= view.now();
        let Ok(shop) = provider.open() else {
            return Ok(SlotOnOffer { paused: provider.doors == Doors::Paused && !over, ..nobody });
        };
        let (candidates, mut gone) = self.candidates(view, list, provider)?;
        let may_act = |candidate: &Candidate| match view.consult::<Account>(candidate.wait.account)
        {
            Ok(account) => Ok(account.may_act().is_ok()),
            Err(stop) => Err(stop),
        };
        let may_act = every(candidates.iter().map(may_act))?;
        let mut offer = None;
        for (candidate, may_act) in candidates.iter().zip(may_act) {
            if may_act {
                offer = Some((candidate.wait.id, self.hold(view, &provider.schedule, candidate)?));
                break;
            }
            gone.push(candidate.wait.id);
        }
        let more = offer.is_some() || !gone.is_empty();
        let offered = offer.map(|(wait, offer)| (wait, offer.hold));
        let command = WaitlistCommand::Offer {
            provider: self.provider,
            zone: provider.schedule.zone,
            provider_account: shop.account,
            offer,
            gone,
        };
        view.decide::<Waitlist>(id, command)?;
        Ok(SlotOnOffer { offered, more, ..nobody })
    }
}

/// Until when a slot is offered from now on: for as long as the policy says, and not beyond when it can be booked.
fn offered_until(schedule: &Schedule, slot: Span, now: Instant) -> Instant {
    let policy = &schedule.policy;
    let minutes = policy.waitlist_offer_minutes.unwrap_or(Policy::WAITLIST_OFFER_MINUTES);
    let notice = TimeDelta::minutes(policy.minimum_notice_minutes.into());
    shifted(now, TimeDelta::minutes(minutes.into())).min(shifted(slot.start, -notice))
}
