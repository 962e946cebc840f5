//! Appointments and providers' days as they were at an instant or a position: from the log alone.
//!
//! `GET /api/appointments/{id}?as_of=2026-03-01T12:00:00Z` finds the last event the appointment's partition had recorded
//! until then, say 3:17, folds the appointment's own events up to there as the projector of the read tables would have,
//! and answers that row; `as_of_position=3:17` says the same for good. A provider's day begins at its agendas: whatever
//! they ever gave a seat, folded up to there, less what is at another time. What was erased since is missing. What could
//! be booked then follows from the provider's schedule and the agendas, folded up to there.
//!
//! Nothing is written, and no read model is asked, so none can be behind. A crash loses the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::NaiveDate;
use domain::Instant;
use domain::actor::Actor;
use domain::agenda::Agenda;
use domain::aggregate::{Aggregate as _, StreamId};
use domain::appointment::Appointment;
use domain::event::Event;
use domain::ids::{AgendaId, AppointmentId, Id, ProviderId};
use domain::position::{Partition, Position, PositionToken};
use domain::provider::Provider;
use domain::slots::{Span, local_day_span};
use event_log::{AsOf, LogError, Recorded};
use http_kit::extract::Timestamp;
use http_kit::{Kind, Problem};
use read_models::appointments::{AppointmentRow, Appointments, OF_PROVIDER};
use read_models::availability::{Availability, DayDoc, ScheduleDoc};
use read_models::paging::{self, Page, PageLimit};
use read_models::table::{self, Stamp, TableError};

use crate::{QueryState, rules, table_problem};

/// How many appointments of a day are looked at for one page at most; those that moved away since are not in it.
const LOOKED_AT: usize = 1_000;
/// How many of them are read at once at least, however short the page.
const AT_ONCE: usize = 100;

/// The point a request names.
#[derive(Debug, Clone)]
pub(crate) enum Point {
    Instant(Instant),
    Position(PositionToken),
}

impl Point {
    /// From the parameters `as_of` and `as_of_position`.
    pub(crate) fn named(
        as_of: Option<Timestamp>,
        position: Option<PositionToken>,
    ) -> Result<Option<Self>, Problem> {
        match (as_of, position) {
            (None, None) => Ok(None),
            (Some(Timestamp(instant)), None) => Ok(Some(Self::Instant(instant))),
            (None, Some(token)) => Ok(Some(Self::Position(token))),
            (Some(_), Some(_)) => {
                let detail = "give as_of or as_of_position, not both";
                Err(Problem::field(Kind::InvalidQuery, "as_of", detail))
            }
        }
    }

    /// The position of a partition it stands for.
    async fn of(&self, state: &QueryState, partition: Partition) -> Result<Position, Problem> {
        let (parameter, point) = match self {
            Self::Instant(instant) => ("as_of", AsOf::Instant(*instant)),
            Self::Position(token) => {
                let (parameter, number) = ("as_of_position", token.number(partition));
                if number == 0 {
                    let detail = "must name a position of the partition this is in";
                    return Err(Problem::field(Kind::InvalidQuery, parameter, detail));
                }
                (parameter, AsOf::Position(Position { partition, number }))
            }
        };
        let at = state.log.as_of(partition, point).await.map_err(log_problem)?;
        at.ok_or_else(|| Problem::field(Kind::InvalidQuery, parameter, "must be in the past"))
    }
}

/// The log cannot be read, as a problem.
pub(crate) fn log_problem(error: LogError) -> Problem {
    if matches!(error, LogError::TooLong { .. }) {
        Kind::HistoryTooLong.into()
    } else if error.is_unavailable() {
        Problem::unavailable(&error)
    } else {
        Problem::internal(&error)
    }
}

/// What is folded of appointments.
#[derive(Default)]
pub(crate) struct Folded {
    rows: BTreeMap<AppointmentId, AppointmentRow>,
    failed: Option<TableError>,
}

impl Folded {
    /// Folds an event of an appointment's stream.
    pub(crate) fn push(&mut self, recorded: &Recorded) {
        let Event::Appointment(event) = &recorded.event else { return };
        let id = AppointmentId::trusted(recorded.stream.id);
        let Recorded { at, sequence, recorded_at, .. } = recorded;
        let stamp = Stamp { at: *at, version: *sequence, recorded_at: *recorded_at };
        let mut row = self.rows.remove(&id);
        match table::apply::<Appointments>(&mut row, id, stamp, event.into()) {
            Ok(_) => self.rows.extend(row.map(|row| (id, row))),
            Err(error) => self.failed = self.failed.take().or(Some(error)),
        }
    }

    /// An appointment, as far as it is folded.
    pub(crate) fn get(&self, id: AppointmentId) -> Option<&AppointmentRow> {
        self.rows.get(&id)
    }

    /// All of them.
    pub(crate) fn rows(self) -> Result<BTreeMap<AppointmentId, AppointmentRow>, Problem> {
        match self.failed {
            None => Ok(self.rows),
            Some(error) => Err(table_problem(error)),
        }
    }
}

async fn fold(
    state: &QueryState,
    ids: impl IntoIterator<Item = AppointmentId>,
    until: Position,
) -> Result<BTreeMap<AppointmentId, AppointmentRow>, Problem> {
    let streams: Vec<StreamId> = ids.into_iter().map(StreamId::of::<Appointment>).collect();
    let mut folded = Folded::default();
    let read = state.log.replay(&streams, until, |recorded| {
        folded.push(&recorded);
        ControlFlow::Continue(())
    });
    read.await.map_err(log_problem)?;
    folded.rows()
}

/// An appointment as it was, as of which event, and which of its parties asks. Who may ask is decided first, on the
/// present: the parties never change, and strangers cost nothing.
pub(crate) async fn appointment(
    state: &QueryState,
    actor: &Actor,
    id: AppointmentId,
    point: &Point,
) -> Result<(AppointmentRow, Position), Problem> {
    rules::own(actor)?;
    let present = state.log.load::<Appointment>(id).await.map_err(log_problem)?;
    let booking = present.state.booking.as_ref().ok_or(Kind::NotFound)?;
    rules::past_appointment(actor, booking)?;
    let until = point.of(state, state.log.partition_of(id.slot())).await?;
    let row = fold(state, [id], until).await?.remove(&id).ok_or(Kind::NotFound)?;
    Ok((row, until))
}

/// A provider's appointments of a local day as they were, as of which event, and who the provider is: those that began
/// on it then, in the provider's zone of then, whatever their status was. A shop's owner never changes, so who may ask is
/// decided first.
pub(crate) async fn day(
    state: &QueryState,
    actor: &Actor,
    provider: ProviderId,
    day: NaiveDate,
    point: &Point,
    cursor: Option<&str>,
    limit: PageLimit,
) -> Result<(Page<AppointmentRow>, Position), Problem> {
    rules::own(actor)?;
    let after: Option<(Instant, AppointmentId)> =
        paging::decode(OF_PROVIDER, cursor).map_err(|error| table_problem(error.into()))?;
    let present = state.log.load::<Provider>(provider).await.map_err(log_problem)?;
    let shop = present.state.shop.as_ref().ok_or(Kind::NotFound)?;
    rules::provider_day(actor, shop.account)?;
    let until = point.of(state, state.log.partition_of(provider.slot())).await?;
    let then = state.log.load_until::<Provider>(provider, until).await.map_err(log_problem)?;
    if then.state.shop.is_none() {
        return Err(Kind::NotFound.into());
    }
    let mut page = Page { items: Vec::new(), next_cursor: None };
    let Some(within) = local_day_span(then.state.schedule.zone, day) else {
        return Ok((page, until));
    };
    let mut seated = seated(state, provider, within, until).await?;
    seated.retain(|key| after.is_none_or(|after| *key > after));

    let (most, seated) = (usize::from(limit.get()), seated.into_iter().collect::<Vec<_>>());
    let mut looked_at = 0;
    for some in seated.chunks(most.max(AT_ONCE)) {
        let rows = fold(state, some.iter().map(|(_, id)| *id), until).await?;
        for (start, id) in some {
            looked_at += 1;
            page.items.extend(rows.get(id).filter(|row| row.slot.start == *start).cloned());
            if page.items.len() == most || looked_at == LOOKED_AT {
                let more = looked_at < seated.len();
                page.next_cursor = more.then(|| paging::encode(OF_PROVIDER, &(start, id)));
                return Ok((page, until));
            }
        }
    }
    Ok((page, until))
}

/// What could be booked of a provider then.
pub(crate) struct Then {
    /// The schedule, and what was taken.
    pub(crate) availability: Availability,
    /// The instant that is.
    pub(crate) now: Instant,
    /// After which event.
    pub(crate) at: Position,
}

/// What could be booked of a provider then on these local dates; for the provider.
pub(crate) async fn availability(
    state: &QueryState,
    actor: &Actor,
    provider: ProviderId,
    (first, last): (NaiveDate, NaiveDate),
    point: &Point,
) -> Result<Then, Problem> {
    rules::own(actor)?;
    let present = state.log.load::<Provider>(provider).await.map_err(log_problem)?;
    let shop = present.state.shop.as_ref().ok_or(Kind::NotFound)?;
    rules::provider_day(actor, shop.account)?;
    let until = point.of(state, state.log.partition_of(provider.slot())).await?;
    let then = state.log.load_until::<Provider>(provider, until).await.map_err(log_problem)?;
    let doc = ScheduleDoc::of(&then.state).ok_or(Kind::NotFound)?;

    let mut agendas: BTreeMap<StreamId, (NaiveDate, Agenda)> = BTreeMap::new();
    for day in Availability::days_around(first, last) {
        let stream = StreamId::of::<Agenda>(AgendaId::of(provider, day));
        agendas.insert(stream, (day, Agenda::default()));
    }
    let streams: Vec<StreamId> = agendas.keys().copied().collect();
    let read = state.log.replay(&streams, until, |recorded| {
        if let (Event::Agenda(event), Some((_, agenda))) =
            (&recorded.event, agendas.get_mut(&recorded.stream))
        {
            agenda.evolve(event);
        }
        ControlFlow::Continue(())
    });
    read.await.map_err(log_problem)?;
    let mut availability = Availability::new(Arc::new(doc));
    for (day, agenda) in agendas.into_values() {
        availability.add_day(day, Arc::new(DayDoc { taken: agenda.taken() }));
    }
    let now = match point {
        Point::Instant(instant) => *instant,
        Point::Position(_) => {
            let read = state.log.tail(until.partition, until.number.saturating_sub(1), 1).await;
            let event = read.map_err(log_problem)?.pop();
            event.ok_or(Kind::NotFound)?.recorded_at
        }
    };
    Ok(Then { availability, now, at: until })
}

/// What the agendas of a stretch ever gave a seat in it, where it was not given another one in them since: when, and
/// to whom. Whether it still stands there, its own stream says.
async fn seated(
    state: &QueryState,
    provider: ProviderId,
    within: Span,
    until: Position,
) -> Result<BTreeSet<(Instant, AppointmentId)>, Problem> {
    let agendas: Vec<StreamId> = within
        .utc_days()
        .into_iter()
        .map(|day| StreamId::of::<Agenda>(AgendaId::of(provider, day)))
        .collect();
    let mut last: BTreeMap<AppointmentId, (Position, Instant)> = BTreeMap::new();
    let read = state.log.replay(&agendas, until, |recorded| {
        if let Event::Agenda(event) = &recorded.event
            && let Some((appointment, slot)) = event.seated()
        {
            let seat = last.entry(appointment).or_insert((recorded.at, slot.start));
            *seat = (*seat).max((recorded.at, slot.start));
        }
        ControlFlow::Continue(())
    });
    read.await.map_err(log_problem)?;
    let seats = last.into_iter().map(|(appointment, (_, start))| (start, appointment));
    Ok(seats.filter(|(start, _)| within.start <= *start && *start < within.end).collect())
}
