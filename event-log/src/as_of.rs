//! The log as it stood at a point of its past: an instant, or a position.
//!
//! Both become a position of one partition first ([`EventLog::as_of`]); then streams are read up to there and folded
//! ([`EventLog::replay`], [`EventLog::load_until`]). For example the appointment 019b… as of 12:00: the last event its
//! partition recorded until then is 3:17, and of its own three events the first two stand before that.
//!
//! What is answered for a point stays the answer: `recorded_at` never decreases within a partition, and while an append
//! may still be under way that took its instant before that one, it is waited for. (Unless the database's clock is set
//! back: then more may be recorded at an instant that was past already. Positions stay what they are.) Only what was
//! erased since is missing from it, as from every reading of the log. Nothing is written; a crash loses the answer.
//!
//! What is replayed is bounded: in time by the statement timeout, in events by `replay_max`.

use std::ops::ControlFlow;
use std::time::Duration;

use domain::Instant;
use domain::aggregate::{Aggregate, StreamId, Version};
use domain::position::{Partition, Position};

use crate::clock::to_micros;
use crate::load::LoadedAggregate;
use crate::{EventLog, LogError, Recorded, big, codec, from_big, kinds, small};

/// How many events one read brings, over all streams it is of.
const PAGE: usize = 1000;

/// How long after the longest statement of an append its commit is seen for certain.
const COMMIT: Duration = Duration::from_secs(25);

/// A point that somebody wants to see a partition as of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// After everything that was recorded up to and including this instant.
    Instant(Instant),
    /// After this event.
    Position(Position),
}

impl EventLog {
    /// The position of the last event a partition had at that point, 0 where it had none; `None` if that point has not
    /// come yet.
    pub async fn as_of(
        &self,
        partition: Partition,
        point: AsOf,
    ) -> Result<Option<Position>, LogError> {
        let number = match point {
            AsOf::Position(at) if at.partition != partition => None,
            AsOf::Position(at) => Some(at.number)
                .filter(|number| partition.0 < self.partitions().get() && *number > 0),
            AsOf::Instant(instant) => return self.as_of_instant(partition, instant).await,
        };
        let Some(number) = number else { return Ok(None) };
        let head = self.head(partition).await?;
        Ok((number <= head).then_some(Position { partition, number }))
    }

    async fn as_of_instant(
        &self,
        partition: Partition,
        instant: Instant,
    ) -> Result<Option<Position>, LogError> {
        let (instant, now) = (to_micros(instant), self.recording_now().await?);
        if instant >= now {
            return Ok(None);
        }
        let sql = "SELECT position, recorded_at FROM heads WHERE partition = $1";
        let query = sqlx::query_as(sql).bind(small(partition));
        let (mut head, mut last): (i64, Instant) =
            self.core.bounded(query.fetch_one(&self.core.readers)).await?;
        if last <= instant && now - instant < self.longest_append() {
            (head, last) = self.settled_head(partition).await?;
        }
        let number = if last <= instant {
            from_big(head)
        } else {
            let after = instant + chrono::TimeDelta::microseconds(1);
            self.position_before(partition, after).await?
        };
        Ok(Some(Position { partition, number }))
    }

    /// How long an append may be under way since its instant was taken; whatever is older needs no lock to be read.
    fn longest_append(&self) -> chrono::TimeDelta {
        let longest = self.core.options.statement_timeout.saturating_add(COMMIT);
        chrono::TimeDelta::from_std(longest).unwrap_or(chrono::TimeDelta::MAX)
    }

    /// The present by the clock events are recorded with.
    pub(crate) async fn recording_now(&self) -> Result<Instant, LogError> {
        match self.core.clock.recorded_at() {
            Some(now) => Ok(now),
            None => {
                let now = sqlx::query_scalar("SELECT clock_timestamp()");
                self.core.bounded(now.fetch_one(&self.core.pool)).await
            }
        }
    }

    /// A partition's head, and when its last event was recorded, after the append that is under way.
    pub(crate) async fn settled_head(
        &self,
        partition: Partition,
    ) -> Result<(i64, Instant), LogError> {
        let head = async {
            let begin = "BEGIN; SET LOCAL lock_timeout = '2s'";
            let mut transaction = self.core.pool.begin_with(begin).await?;
            let sql = "SELECT position, recorded_at FROM heads WHERE partition = $1 FOR SHARE";
            let query = sqlx::query_as(sql).bind(small(partition));
            let head = query.fetch_one(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(head)
        };
        self.core.bounded(head).await
    }

    /// The position of a partition's last event that was recorded before an instant; 0 if there is none.
    pub async fn position_before(
        &self,
        partition: Partition,
        instant: Instant,
    ) -> Result<u64, LogError> {
        let query = sqlx::query_scalar("SELECT log_position_before($1, $2)")
            .bind(small(partition))
            .bind(instant);
        Ok(from_big(self.core.bounded(query.fetch_one(&self.core.readers)).await?))
    }

    /// Gives every event these streams had up to a position of their partition to `each`, until it breaks off: those of
    /// one stream in their order. What is of another kind than the stream that was asked for is left out. All of it takes
    /// no longer than one statement may, and no more than `replay_max` events.
    pub async fn replay(
        &self,
        streams: &[StreamId],
        until: Position,
        each: impl FnMut(Recorded) -> ControlFlow<()> + Send,
    ) -> Result<(), LogError> {
        let whole = self.replay_pages(streams, until, each);
        let done = tokio::time::timeout(self.core.options.statement_timeout, whole).await;
        done.map_err(|_| LogError::TimedOut)?
    }

    async fn replay_pages(
        &self,
        streams: &[StreamId],
        until: Position,
        mut each: impl FnMut(Recorded) -> ControlFlow<()> + Send,
    ) -> Result<(), LogError> {
        let (mut given, most) = (0, self.core.options.replay_max);
        let mut open: Vec<(StreamId, Version)> =
            streams.iter().map(|stream| (*stream, 0)).collect();
        let sql =
            format!("SELECT {} FROM log_streams_until($1, $2, $3, $4, $5)", codec::EVENT_COLUMNS);
        while !open.is_empty() {
            let page = (PAGE / open.len()).max(10);
            let query = sqlx::query(&sql)
                .bind(small(until.partition))
                .bind(open.iter().map(|(stream, _)| stream.id).collect::<Vec<_>>())
                .bind(open.iter().map(|(_, after)| big(*after)).collect::<Vec<_>>())
                .bind(big(until.number))
                .bind(i32::try_from(page).unwrap_or(i32::MAX));
            let rows = self.core.bounded(query.fetch_all(&self.core.readers)).await?;
            let mut found = vec![0; open.len()];
            for recorded in self.core.recorded(&rows).await? {
                let of = |(stream, _): &(StreamId, Version)| *stream == recorded.stream;
                let Some(i) = open.iter().position(of) else { continue };
                if given == most {
                    return Err(LogError::TooLong { most });
                }
                given += 1;
                found[i] += 1;
                open[i].1 = recorded.sequence;
                if each(recorded).is_break() {
                    return Ok(());
                }
            }
            let mut whole = found.into_iter().map(|count| count < page);
            open.retain(|_| !whole.next().unwrap_or(true));
        }
        Ok(())
    }

    /// An aggregate as it was at a position of its partition: of version 0 if it did not exist yet.
    pub async fn load_until<A: Aggregate>(
        &self,
        id: A::Id,
        until: Position,
    ) -> Result<LoadedAggregate<A>, LogError> {
        let stream = StreamId::of::<A>(id);
        let (mut state, mut version, mut last) = (Some(kinds::fresh(stream.kind)), 0, None);
        self.replay(&[stream], until, |recorded| {
            state = state
                .take()
                .map(|state| kinds::fold(stream.kind, state, std::iter::once(&recorded.event)));
            version = recorded.sequence;
            last = Some(recorded.at);
            ControlFlow::Continue(())
        })
        .await?;
        let state = state.expect("what is taken is put back");
        Ok(LoadedAggregate { version, state: kinds::downcast(state), last })
    }
}
