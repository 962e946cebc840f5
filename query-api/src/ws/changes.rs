//! The newest change of what a socket watches: from the cache, or from the log.
//!
//! A socket that comes back with the offset `3:17` must hear of 3:18, although no hint tells it any more. The cache
//! knows the last event of each value it holds; what it has lost, or never held, as after a restart, the log
//! knows. Nothing is kept here: whoever asks again after a crash gets the same answer.
//!
//! What a socket has to watch for a local day depends on the provider: its zone says which UTC days that is, the buffers
//! of its services how far into the days beside it what is taken can be in the way.

use chrono::NaiveDate;
use domain::agenda::Agenda;
use domain::ids::{AgendaId, Id, ProviderId};
use domain::position::{Partition, Position, PositionToken};
use domain::provider::Provider;
use domain::slots::local_day_span;
use event_log::{LoadedAggregate, LogError};
use read_models::fanout::Topic;

use crate::QueryState;

/// The topics of a provider's local day: the UTC days whose agendas can change what is free on it, and the provider
/// itself. `None` for a date the provider's zone skipped.
pub(super) fn topics(
    provider: ProviderId,
    loaded: &LoadedAggregate<Provider>,
    day: NaiveDate,
) -> Option<Vec<Topic>> {
    let span = local_day_span(loaded.state.schedule.zone, day)?;
    let mut reach = span;
    for service in loaded.state.services.values() {
        let buffered = service.measure().buffered(span);
        reach.start = reach.start.min(buffered.start);
        reach.end = reach.end.max(buffered.end);
    }
    let days = reach.utc_days().into_iter().map(Some).chain([None]);
    Some(days.map(|day| Topic::Availability { provider, day }).collect())
}

impl QueryState {
    /// A provider with all that has happened to it.
    pub(super) async fn provider_now(
        &self,
        provider: ProviderId,
    ) -> Result<LoadedAggregate<Provider>, LogError> {
        let partition = self.log.partitions().partition_of(provider.slot());
        let head = Position { partition, number: self.log.head(partition).await? };
        self.log.load_at_least::<Provider>(provider, head).await
    }

    /// The newest change of some availability topics of one provider. Without any cache nothing is said: hints do
    /// not come either, and when both are back everything is looked at.
    pub(super) async fn newest_change(&self, topics: &[Topic]) -> PositionToken {
        let mut newest = PositionToken::default();
        let watched = |topic: &Topic| match topic {
            Topic::Availability { provider, day } => Some((*provider, *day)),
            Topic::Notifications { .. } => None,
        };
        let Some((provider, _)) = topics.iter().find_map(watched) else { return newest };
        let days: Vec<_> = topics.iter().filter_map(watched).map(|(_, day)| day).collect();
        let utc_days: Vec<NaiveDate> = days.iter().copied().flatten().collect();
        let docs = match self.availability.get(provider, &utc_days).await {
            Ok(docs) => docs,
            Err(error) => {
                tracing::debug!(%error, "availability could not be read for a socket");
                return newest;
            }
        };
        let partition = self.log.partitions().partition_of(provider.slot());
        for day in days {
            let cached = match day {
                None => docs.schedule.as_ref().map(|doc| doc.number),
                Some(day) => docs
                    .days
                    .iter()
                    .find(|(of, _)| *of == day)
                    .and_then(|(_, doc)| Some(doc.as_ref()?.number)),
            };
            let number = match cached {
                Some(number) => Ok(number),
                None => self.last_change(provider, partition, day).await,
            };
            match number {
                Ok(0) => {}
                Ok(number) => newest.raise(Position { partition, number }),
                Err(error) => tracing::debug!(%error, "the log could not be read for a socket"),
            }
        }
        newest
    }

    /// The last event of a provider's UTC day, or of the provider, by the log; 0 if there is none.
    async fn last_change(
        &self,
        provider: ProviderId,
        partition: Partition,
        day: Option<NaiveDate>,
    ) -> Result<u64, LogError> {
        let last = match day {
            None => self.provider_now(provider).await?.last,
            Some(day) => {
                let head = Position { partition, number: self.log.head(partition).await? };
                let agenda = AgendaId::of(provider, day);
                self.log.load_at_least::<Agenda>(agenda, head).await?.last
            }
        };
        Ok(last.map_or(0, |last| last.number))
    }
}
