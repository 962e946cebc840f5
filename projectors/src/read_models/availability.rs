//! Events → the availability cache: what is taken of a day, when a provider can be booked; and which cached
//! lists are out of date.
//!
//! Days and schedules are written as whole values: the projector folds each agenda it touches, from memory
//! when the event continues what it knows, else from the log. Lists are only forgotten; the next reader
//! fills them (docs/adr/0002). For example `SlotTaken` at 3:17 puts the day's intervals as of 3:17, and
//! `AppointmentBooked` at 3:18 forgets the provider's list of that day.
//!
//! A crash leaves the cache ahead of the checkpoint, and the repeated batch is ignored by it.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{Days, NaiveDate, TimeDelta};
use domain::Instant;
use domain::agenda::{Agenda, AgendaEvent};
use domain::aggregate::{Aggregate, Version};
use domain::appointment::AppointmentEvent;
use domain::event::Event;
use domain::ids::{AgendaId, Id, ProviderId};
use domain::position::Partition;
use domain::provider::{Provider, ProviderEvent};
use domain::slots::Span;
use event_log::{EventLog, Recorded, checkpoints};
use moka::sync::Cache;
use read_models::availability::{AvailabilityCache, CacheBatch, CacheWrite, DayDoc, ScheduleDoc};
use read_models::fanout::Fanout;

use crate::push::{LocalPositions, availability_hints};
use crate::runner::{ApplyError, Batch, Move, Projector};

/// How many agendas are kept folded.
const FOLDED: u64 = 20_000;

/// The projector.
pub struct AvailabilityProjector {
    log: EventLog,
    cache: Arc<dyn AvailabilityCache>,
    fanout: Arc<dyn Fanout>,
    folded: Cache<AgendaId, (Version, Arc<Agenda>)>,
    /// Where it stands, when the cache is this process' own.
    local: Option<LocalPositions>,
}

impl AvailabilityProjector {
    /// Its name, and that of its checkpoint.
    pub const NAME: &'static str = "availability";

    /// For a cache that is shared: its checkpoint is in Postgres.
    pub fn shared(
        log: EventLog,
        cache: Arc<dyn AvailabilityCache>,
        fanout: Arc<dyn Fanout>,
    ) -> Self {
        Self { log, cache, fanout, folded: Cache::new(FOLDED), local: None }
    }

    /// For a cache of this process' own: it starts cold, at the log's heads.
    pub async fn local(
        log: EventLog,
        cache: Arc<dyn AvailabilityCache>,
        fanout: Arc<dyn Fanout>,
    ) -> Result<Self, event_log::LogError> {
        let local = Some(LocalPositions::at_heads(&log).await?);
        Ok(Self { local, ..Self::shared(log, cache, fanout) })
    }

    /// An agenda with at least this event, and the number of its last one.
    async fn fold(
        &self,
        id: AgendaId,
        recorded: &Recorded,
        event: &AgendaEvent,
    ) -> Result<(u64, Arc<Agenda>), ApplyError> {
        let known = self.folded.get(&id);
        let before = match &known {
            _ if recorded.sequence == 1 => Some(Arc::default()),
            Some((version, agenda)) if version + 1 == recorded.sequence => Some(agenda.clone()),
            Some(_) | None => None,
        };
        if let Some(mut agenda) = before {
            drop(known);
            Arc::make_mut(&mut agenda).evolve(event);
            self.folded.insert(id, (recorded.sequence, agenda.clone()));
            return Ok((recorded.at.number, agenda));
        }
        let loaded = self.log.load_at_least::<Agenda>(id, recorded.at).await?;
        self.folded.insert(id, (loaded.version, loaded.state.clone()));
        let number = loaded.last.map_or(recorded.at.number, |at| at.number);
        Ok((number, loaded.state))
    }

    async fn write(&self, recorded: &Recorded, writes: &mut CacheBatch) -> Result<(), ApplyError> {
        let number = recorded.at.number;
        match &recorded.event {
            Event::Agenda(event) => {
                let (provider, day) = event.whose();
                let id = AgendaId::trusted(recorded.stream.id);
                let (number, agenda) = self.fold(id, recorded, event).await?;
                let doc = DayDoc { taken: agenda.taken() };
                writes.push(CacheWrite::day(provider, day, number, doc));
            }
            Event::Provider(event) => {
                let id = ProviderId::trusted(recorded.stream.id);
                let loaded = self.log.load_at_least::<Provider>(id, recorded.at).await?;
                // A shop that is closed is none.
                let doc = ScheduleDoc::of(&loaded.state);
                let as_of = loaded.last.map_or(number, |at| at.number);
                writes.push(CacheWrite::schedule(id, as_of, doc));
                if shows_in_catalogue(event) {
                    writes.push(CacheWrite::forget_catalogue(recorded.at.partition, number));
                }
            }
            Event::Appointment(event) => {
                let (provider, slots) = moved(event);
                for day in slots.into_iter().flatten().flat_map(|slot| local_days(slot.start)) {
                    writes.push(CacheWrite::forget_day_list(provider, day, number));
                }
            }
            Event::Category(_) => {
                writes.push(CacheWrite::forget_catalogue(recorded.at.partition, number));
            }
            Event::Account(_)
            | Event::NotificationFeed(_)
            | Event::Session(_)
            | Event::Hold(_)
            | Event::Series(_)
            | Event::Waitlist(_) => {}
        }
        Ok(())
    }
}

#[async_trait]
impl Projector for AvailabilityProjector {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn document(&self, event: &Recorded) -> Option<String> {
        match &event.event {
            Event::Agenda(_) | Event::Provider(_) | Event::Appointment(_) | Event::Category(_) => {
                Some(event.stream.to_string())
            }
            Event::Account(_)
            | Event::NotificationFeed(_)
            | Event::Session(_)
            | Event::Hold(_)
            | Event::Series(_)
            | Event::Waitlist(_) => None,
        }
    }

    /// What was parked would be served as it was before, and readers could not tell.
    fn parks(&self) -> bool {
        false
    }

    async fn position(&self, partition: Partition) -> Result<u64, ApplyError> {
        match &self.local {
            Some(positions) => Ok(positions.get(partition)),
            None => Ok(checkpoints::get(self.log.pool(), Self::NAME, partition).await?),
        }
    }

    async fn apply(&self, batch: &Batch<'_>) -> Result<(), ApplyError> {
        let last = batch.events.last().map_or(0, |event| event.at.number);
        let Move { from, to } = batch.checkpoint.unwrap_or(Move { from: last, to: last });
        let mut writes = CacheBatch::new(batch.partition, from, to);
        for event in &batch.events {
            self.write(event, &mut writes).await?;
        }
        self.cache.apply(writes).await?;
        if batch.checkpoint.is_some() {
            match &self.local {
                Some(positions) => positions.set(batch.partition, to),
                None => {
                    // A transaction, so that nobody takes the lease between the look at it and the move.
                    let mut transaction = Batch::begin(&self.log).await?;
                    batch.advance(&mut transaction, Self::NAME).await?;
                    transaction.commit().await?;
                }
            }
        }
        self.fanout.publish(&availability_hints(&batch.events)).await;
        Ok(())
    }

    /// Notices a cache that was lost, and tells readers how far it is applied.
    async fn idle(&self, partition: Partition, at: u64) -> Result<(), ApplyError> {
        Ok(self.cache.apply(CacheBatch::heartbeat(partition, at)).await?)
    }
}

/// Whether the event changes what lists of providers show, what they are searched by, or a provider's page.
fn shows_in_catalogue(event: &ProviderEvent) -> bool {
    match event {
        ProviderEvent::ProviderOpened { .. }
        | ProviderEvent::ProfileChanged { .. }
        | ProviderEvent::SlugChanged { .. }
        | ProviderEvent::StandingSet { .. }
        | ProviderEvent::WeeklyHoursSet { .. }
        | ProviderEvent::PolicySet { .. }
        | ProviderEvent::ServiceAdded { .. }
        | ProviderEvent::ServiceChanged { .. }
        | ProviderEvent::ServiceRemoved { .. }
        | ProviderEvent::ServicesReordered { .. }
        | ProviderEvent::ShopPaused {}
        | ProviderEvent::ShopResumed {}
        | ProviderEvent::ShopClosed {} => true,
        ProviderEvent::DayOverridden { .. }
        | ProviderEvent::OverrideRemoved { .. }
        | ProviderEvent::HolidaysSet { .. }
        | ProviderEvent::TimeOffTaken { .. }
        | ProviderEvent::TimeOffCancelled { .. } => false,
    }
}

/// The provider, and the times whose day's list the event changes.
fn moved(event: &AppointmentEvent) -> (ProviderId, [Option<Span>; 2]) {
    match event {
        AppointmentEvent::AppointmentBooked { terms, slot, .. } => {
            (terms.provider, [Some(*slot), None])
        }
        AppointmentEvent::AppointmentConfirmed { parties, slot }
        | AppointmentEvent::AppointmentDeclined { parties, slot, .. }
        | AppointmentEvent::AppointmentCancelled { parties, slot, .. }
        | AppointmentEvent::AppointmentExpired { parties, slot }
        | AppointmentEvent::AppointmentCompleted { parties, slot, .. }
        | AppointmentEvent::AppointmentMissed { parties, slot, .. }
        | AppointmentEvent::AppointmentNoted { parties, slot, .. }
        | AppointmentEvent::GuestErased { parties, slot } => {
            (parties.provider, [Some(*slot), None])
        }
        AppointmentEvent::AppointmentRescheduled { parties, from, to, .. } => {
            (parties.provider, [Some(*from), Some(*to)])
        }
    }
}

/// The local dates a start can fall on in any zone: UTC-12 to UTC+14. The zone itself is not asked for: it may
/// have changed since.
pub(crate) fn local_days(start: Instant) -> Vec<NaiveDate> {
    let local = |hours| start.naive_utc().checked_add_signed(TimeDelta::hours(hours));
    let first = local(-12).unwrap_or(start.naive_utc()).date();
    let last = local(14).unwrap_or(start.naive_utc()).date();
    let mut days = vec![first];
    let mut day = first;
    while day < last {
        let Some(next) = day.checked_add_days(Days::new(1)) else { break };
        days.push(next);
        day = next;
    }
    days
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_forgotten_on_every_date_it_can_be_somewhere() {
        let days = |start: &str| {
            local_days(start.parse().unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(days("2026-03-02T13:00:00Z"), ["2026-03-02", "2026-03-03"]);
        assert_eq!(days("2026-03-02T11:00:00Z"), ["2026-03-01", "2026-03-02", "2026-03-03"]);
        assert_eq!(days("2026-03-02T09:00:00Z"), ["2026-03-01", "2026-03-02"]);
    }
}
