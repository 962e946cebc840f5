//! Booking a series: the slot of each occurrence, its appointment, and the series, in one append.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::agendas::Agendas;
use super::{
    ALTERNATIVES_EACH, Mode, Placed, RefusedOccurrence, Series, SeriesCommand, SeriesPart,
    Unbookable,
};
use crate::agenda::{Agenda, AgendaCommand, Leaving, Taking};
use crate::aggregate::StreamId;
use crate::appointment::{
    Appointment, AppointmentCommand, Parties, Side, Status, Whom, agreed, answer_by,
    client_may_book, first_status, wanted_service,
};
use crate::command::{Command, Stop, Target, View, every};
use crate::hours::Zone;
use crate::ids::{AgendaId, AppointmentId, Id, ProviderId, SeriesId, ServiceId};
use crate::money::Money;
use crate::provider::Provider;
use crate::recurrence::{Occurrence, Recurrence};
use crate::slots::{Measure, Schedule, Span, Taken};
use crate::taking::Wanted;
use crate::text::{Note, ServiceName};
use crate::{Instant, Refusal};

/// Book a service again and again, for the actor.
#[derive(Debug, Clone)]
pub struct BookSeries {
    /// With whom.
    pub provider: ProviderId,
    /// What; `None` where the provider offers just one service.
    pub service: Option<ServiceId>,
    /// When the first occurrence starts.
    pub start: Instant,
    /// When the others do.
    pub rule: Recurrence,
    /// Whether all are wanted.
    pub mode: Mode,
    /// What the client wants the provider to know, of each.
    pub notes: Option<Note>,
}

/// A series as its answer names it: nothing personal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SeriesStands {
    /// Which.
    pub series: SeriesId,
    /// With whom.
    pub provider: ProviderId,
    /// What.
    pub service: ServiceId,
    /// The service's name. It is not stored with the answer, so a repeated one lacks it: the appointments have it.
    #[serde(skip)]
    pub service_name: Option<ServiceName>,
    /// The provider's zone.
    pub zone: Zone,
    /// What each costs.
    pub price: Option<Money>,
    /// Where each stands.
    pub status: Status,
    /// Which were booked, in order.
    pub booked: Vec<BookedOccurrence>,
    /// Which were not, and why.
    pub refused: Vec<RefusedOccurrence>,
}

/// An occurrence that was booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookedOccurrence {
    /// Which of the rule, from 1.
    pub number: u16,
    /// As which appointment.
    pub appointment: AppointmentId,
    /// For when; it may move later.
    pub slot: Span,
}

impl BookSeries {
    /// The agenda racers for the first occurrence meet at.
    fn meets_at(&self) -> StreamId {
        StreamId::of::<Agenda>(AgendaId::of(self.provider, self.start.date_naive()))
    }

    /// Takes what can be had, and says what cannot.
    fn take<'a, 'v>(
        &self,
        view: &'a View<'v>,
        schedule: &Schedule,
        measure: &Measure,
    ) -> Result<(Agendas<'a, 'v>, Vec<BookedOccurrence>, Vec<RefusedOccurrence>), Stop> {
        let (now, zone) = (view.now(), schedule.zone);
        let occurrences =
            self.rule.occurrences(self.start, zone).map_err(Refusal::InvalidRecurrence)?;
        let slot = |occurrence: &Occurrence| match occurrence.start {
            Some(start) => unbookable(schedule.bookable(measure, start, now)),
            None => Ok(Err(Unbookable::NoSuchTime)),
        };
        let asked = occurrences.iter().map(|occurrence| Ok((*occurrence, slot(occurrence)?)));
        let asked = asked.collect::<Result<Vec<_>, Stop>>()?;
        let days = |slot: Span| measure.buffered(slot).utc_days();
        let touched: BTreeSet<NaiveDate> =
            asked.iter().filter_map(|(_, slot)| slot.ok()).flat_map(days).collect();
        let mut agendas = Agendas::load(view, self.provider, touched)?;
        let full =
            self.full_days(view, schedule, asked.iter().filter_map(|(_, slot)| slot.ok()))?;

        let (mut booked, mut refused) = (Vec::new(), Vec::new());
        for (Occurrence { number, local, start }, slot) in asked {
            let appointment: AppointmentId =
                view.mint().id(self.provider.slot(), u32::from(number) - 1);
            let taken = match slot {
                Ok(slot) if full.contains(&schedule.local_day(slot.start)) => {
                    Err(Unbookable::DayFull)
                }
                Ok(slot) => {
                    let (provider, measure, hold) = (self.provider, *measure, None);
                    let takings = days(slot).into_iter().map(|day| {
                        let taking = Taking { provider, day, appointment, slot, measure, hold };
                        (day, AgendaCommand::TakeSlot(taking))
                    });
                    unbookable(agendas.decide(takings).map(|()| slot))?
                }
                Err(why) => Err(why),
            };
            match taken {
                Ok(slot) => booked.push(BookedOccurrence { number, appointment, slot }),
                Err(why) => {
                    let alternatives = Vec::new();
                    refused.push(RefusedOccurrence { number, local, start, why, alternatives });
                }
            }
        }
        Ok((agendas, booked, refused))
    }

    /// The local days that have as many bookings as they may. No two occurrences are on the same.
    fn full_days(
        &self,
        view: &View<'_>,
        schedule: &Schedule,
        slots: impl Iterator<Item = Span>,
    ) -> Result<BTreeSet<NaiveDate>, Stop> {
        if schedule.policy.max_per_day.is_none() {
            return Ok(BTreeSet::new());
        }
        let is_full = |slot: Span| {
            let day = schedule.local_day(slot.start);
            let load = |utc_day| view.load::<Agenda>(AgendaId::of(self.provider, utc_day));
            let agendas = every(schedule.days_that_fill(day).into_iter().map(load))?;
            let taken: Vec<Taken> = agendas.into_iter().flat_map(Agenda::taken).collect();
            Ok((day, schedule.is_full(day, &taken, view.now())))
        };
        let days = every(slots.map(is_full))?;
        Ok(days.into_iter().filter_map(|(day, full)| full.then_some(day)).collect())
    }

    /// Finds what is free near each occurrence that cannot be had, and is none of the others.
    fn name_alternatives(
        &self,
        view: &View<'_>,
        (schedule, measure): (&Schedule, &Measure),
        booked: &[BookedOccurrence],
        refused: &mut [RefusedOccurrence],
    ) -> Result<(), Stop> {
        let own: Vec<Span> = booked.iter().map(|other| measure.buffered(other.slot)).collect();
        let near = |start: Option<Instant>| {
            let Some(start) = start else { return Ok(Vec::new()) };
            let wanted = Wanted {
                view,
                provider: self.provider,
                schedule,
                measure: *measure,
                slot: measure.slot_at(start),
                leaving: Leaving::default(),
                has: None,
            };
            let mut starts = wanted.nearby()?;
            starts.retain(|start| {
                let span = measure.buffered(measure.slot_at(*start));
                !own.iter().any(|own| own.intersects(&span))
            });
            starts.truncate(ALTERNATIVES_EACH);
            Ok(starts)
        };
        let found = every(refused.iter().map(|occurrence| near(occurrence.start)))?;
        for (occurrence, alternatives) in refused.iter_mut().zip(found) {
            occurrence.alternatives = alternatives;
        }
        Ok(())
    }
}

impl Command for BookSeries {
    const NAME: &'static str = "BookSeries";
    type Outcome = SeriesStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Provider>(self.provider)
    }

    fn queue(&self) -> Option<StreamId> {
        Some(self.meets_at())
    }

    fn reads(&self) -> Vec<StreamId> {
        vec![StreamId::of::<Provider>(self.provider), self.meets_at()]
    }

    /// Whoever may book one appointment there.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        client_may_book(view, self.provider).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<SeriesStands, Stop> {
        let client = client_may_book(view, self.provider)?;
        let provider = view.load::<Provider>(self.provider)?;
        let shop = provider.open()?;
        let service = wanted_service(provider, self.service)?;
        let (measure, schedule) = (service.measure(), &provider.schedule);
        let (agendas, booked, mut refused) = self.take(view, schedule, &measure)?;
        if !refused.is_empty() {
            self.name_alternatives(view, (schedule, &measure), &booked, &mut refused)?;
            if self.mode == Mode::AllOrNothing || booked.is_empty() {
                return Err(Refusal::SeriesNotBookable { refused }.into());
            }
        }
        agendas.emit()?;

        let series: SeriesId = view.mint().id(self.provider.slot(), 0);
        let confirmation = schedule.policy.confirmation;
        let begun = booked.iter().map(|one| view.load::<Appointment>(one.appointment).map(drop));
        every(begun.chain([view.load::<Series>(series).map(drop)]))?;
        for &BookedOccurrence { number, appointment, slot } in &booked {
            let part = Some(SeriesPart { series, number });
            let whom = Whom::account(view, client)?;
            let terms = agreed(self.provider, provider, service, whom, self.notes.clone(), part)?;
            let answer_by = answer_by(&schedule.policy, slot.start, view.now());
            let by = Side::Client;
            let book = AppointmentCommand::Book { terms, slot, confirmation, answer_by, by };
            view.decide::<Appointment>(appointment, book)?;
        }
        let parties = Parties {
            provider: self.provider,
            provider_account: shop.account,
            client: client.into(),
        };
        let status = first_status(confirmation);
        let placed = Placed {
            parties,
            service: service.id,
            start: self.start,
            rule: self.rule.clone(),
            zone: schedule.zone,
            mode: self.mode,
            status,
            booked: booked.clone(),
        };
        view.decide::<Series>(series, SeriesCommand::Book(placed))?;
        Ok(SeriesStands {
            series,
            provider: self.provider,
            service: service.id,
            service_name: service.name.known().cloned(),
            zone: schedule.zone,
            price: provider.price_of(service),
            status,
            booked,
            refused,
        })
    }
}

/// What a time was refused for, apart from what is refused altogether.
fn unbookable<T>(decided: Result<T, Refusal>) -> Result<Result<T, Unbookable>, Stop> {
    match decided {
        Ok(done) => Ok(Ok(done)),
        Err(refusal) => Unbookable::of(&refusal).map(Err).ok_or(Stop::Refused(refusal)),
    }
}
