//! Free days of a month and free slots of a day.
//!
//! Free slots are computed from the cached schedule and the cached intervals of the UTC days around. What
//! the cache lacks, or has from before `Pontual-After`, is loaded from the log, used, and offered to the
//! cache, which refuses it if it knows of something later. Without the cache everything is loaded from the
//! log: slower, and right.
//!
//! What was answered is kept with what it was computed from. If the cache says within the same minute that nothing was
//! applied in the provider's partition since, or if another look finds the very same documents, nothing is computed again:
//! no slot, notice or horizon ends between two minutes. That look is at no more days than mattered. A hold that is in the
//! way ends by itself, without a new document: no answer is given again beyond the first such end.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use chrono::{NaiveDate, SecondsFormat, TimeDelta};
use domain::Instant;
use domain::agenda::Agenda;
use domain::hours::Zone;
use domain::ids::{AgendaId, Id, ProviderId, ServiceId};
use domain::position::{Position, PositionToken};
use domain::provider::Provider;
use domain::slots::{Measure, Span};
use http_kit::extract::{Date, Query, Rendered};
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use read_models::availability::{
    Availability, AvailabilityDocs, CacheState, CacheWrite, DayDoc, ScheduleDoc,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::QueryState;
use crate::freshness::Seen;

/// Which day of which provider.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct TimesParams {
    /// Whose.
    #[param(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// Of which service; may be left out where the provider offers just one.
    #[param(value_type = Option<uuid::Uuid>)]
    service_id: Option<ServiceId>,
    /// The local date at the provider's.
    #[param(value_type = String, format = Date, example = "2026-12-01")]
    day: Date,
}

/// Which month of which provider.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DaysParams {
    /// Whose.
    #[param(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// Of which service; may be left out where the provider offers just one.
    #[param(value_type = Option<uuid::Uuid>)]
    service_id: Option<ServiceId>,
    /// The month at the provider's.
    #[param(value_type = String, example = "2026-12")]
    month: Month,
}

/// A calendar month, `YYYY-MM`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct Month {
    first: NaiveDate,
    last: NaiveDate,
}

impl TryFrom<String> for Month {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "must be a month such as 2026-12";
        let first: Date = format!("{text}-01").parse().map_err(|_| WRONG)?;
        let next = first.0.checked_add_months(chrono::Months::new(1)).ok_or(WRONG)?;
        Ok(Self { first: first.0, last: next.pred_opt().ok_or(WRONG)? })
    }
}

/// The free slots of a day.
#[derive(Debug, Serialize, ToSchema)]
pub struct TimesBody {
    /// Whose.
    #[schema(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// Of which service.
    #[schema(value_type = uuid::Uuid)]
    service_id: ServiceId,
    /// The local date.
    day: NaiveDate,
    /// The provider's IANA time zone.
    #[schema(example = "America/Sao_Paulo")]
    time_zone: &'static str,
    /// What can be booked, in order.
    slots: Vec<SlotBody>,
}

/// A free slot.
#[derive(Debug, Serialize, ToSchema)]
pub struct SlotBody {
    /// When it starts, in UTC: what to book.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    start: Instant,
    /// When it ends, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    end: Instant,
    /// When it starts at the provider's.
    #[schema(example = "2026-12-01T09:00:00-03:00")]
    local_start: String,
}

impl SlotBody {
    pub(crate) fn of(slot: Span, zone: Zone) -> Self {
        Self { start: slot.start, end: slot.end, local_start: local(slot.start, zone) }
    }
}

/// The days of a month with at least one free slot.
#[derive(Debug, Serialize, ToSchema)]
pub struct DaysBody {
    /// Whose.
    #[schema(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// Of which service.
    #[schema(value_type = uuid::Uuid)]
    service_id: ServiceId,
    /// The provider's IANA time zone.
    #[schema(example = "America/Sao_Paulo")]
    time_zone: &'static str,
    /// The local dates, in order.
    days: Vec<NaiveDate>,
}

/// The free slots of a day (`S0-22`, `S3-34`).
#[utoipa::path(
    get, path = "/api/providers/available-times", operation_id = "AvailableTimes", tag = "availability",
    params(TimesParams),
    responses((status = 200, body = TimesBody), QueryProblems)
)]
pub async fn available_times(
    State(state): State<QueryState>,
    Query(params): Query<TimesParams>,
    Seen(after): Seen,
) -> Result<Rendered, Problem> {
    let (provider_id, day) = (params.provider_id, params.day.0);
    let now = state.log.clock().now();
    let question = Question::Times(provider_id, params.service_id, day);
    let mut asked = match look(&state, question, (day, day), &after, now).await? {
        Looked::Answered(answer) => return Ok(answer),
        Looked::Anew(asked) => asked,
    };
    let measure = asked.service(params.service_id)?;
    let slots =
        asked.retry(&state, |availability| availability.free_slots(&measure, day, now)).await?;
    let zone = asked.availability.schedule().schedule.zone;
    let answer = Rendered::of(&TimesBody {
        provider_id,
        service_id: measure.service,
        day,
        time_zone: zone.name(),
        slots: slots.into_iter().map(|slot| SlotBody::of(slot, zone)).collect(),
    })?;
    let from = asked.availability.for_slots(&measure, day, day, now);
    Ok(state.answers.keep(question, (from, asked.as_of), now, answer))
}

/// The days of a month with at least one free slot (`S0-21`).
#[utoipa::path(
    get, path = "/api/providers/available-days", operation_id = "AvailableDays", tag = "availability",
    params(DaysParams),
    responses((status = 200, body = DaysBody), QueryProblems)
)]
pub async fn available_days(
    State(state): State<QueryState>,
    Query(params): Query<DaysParams>,
    Seen(after): Seen,
) -> Result<Rendered, Problem> {
    let (provider_id, Month { first, last }) = (params.provider_id, params.month);
    let now = state.log.clock().now();
    let question = Question::Days(provider_id, params.service_id, first);
    let mut asked = match look(&state, question, (first, last), &after, now).await? {
        Looked::Answered(answer) => return Ok(answer),
        Looked::Anew(asked) => asked,
    };
    let measure = asked.service(params.service_id)?;
    let days = asked
        .retry(&state, |availability| availability.free_days(&measure, first, last, now))
        .await?;
    let answer = Rendered::of(&DaysBody {
        provider_id,
        service_id: measure.service,
        time_zone: asked.availability.schedule().schedule.zone.name(),
        days,
    })?;
    let from = asked.availability.for_slots(&measure, first, last, now);
    Ok(state.answers.keep(question, (from, asked.as_of), now, answer))
}

/// What a look at the cache finds.
pub(crate) enum Looked {
    /// Everything the last answer was computed from.
    Answered(Rendered),
    /// Something else: the answer is to be computed.
    Anew(Asked),
}

/// Looks whether the last answer still holds; if not, at all the days that may matter.
pub(crate) async fn look(
    state: &QueryState,
    question: Question,
    (first, last): (NaiveDate, NaiveDate),
    after: &PositionToken,
    now: Instant,
) -> Result<Looked, Problem> {
    let provider = question.provider();
    let partition = state.log.partitions().partition_of(provider.slot());
    let wanted = Position { partition, number: after.number(partition) };
    if let Some(answered) = state.answers.get(question, now) {
        if let Some(as_of) = answered.as_of.filter(|as_of| as_of.applied() >= wanted.number)
            && state.availability.state(partition).await.is_ok_and(|now| now == Some(as_of))
        {
            return Ok(Looked::Answered(answered.answer.clone()));
        }
        let Some(docs) = cached(state, provider, &answered.from.days()).await else {
            return Ok(Looked::Anew(Asked::of(state, provider, None, wanted).await?));
        };
        let as_of = docs.state;
        if recent(docs, wanted.number).is_some_and(|now| now.is_same(&answered.from)) {
            state.answers.still_good(question, &answered, as_of);
            return Ok(Looked::Answered(answered.answer.clone()));
        }
    }
    let docs = cached(state, provider, &Availability::days_around(first, last)).await;
    Ok(Looked::Anew(Asked::of(state, provider, docs, wanted).await?))
}

/// What the cache has; `None` while it is away.
pub(crate) async fn cached(
    state: &QueryState,
    provider: ProviderId,
    utc_days: &[NaiveDate],
) -> Option<AvailabilityDocs> {
    match state.availability.get(provider, utc_days).await {
        Ok(docs) => Some(docs),
        Err(error) => {
            metrics::counter!("pontual_availability_without_cache_total").increment(1);
            tracing::debug!(%error, "answering from the log");
            None
        }
    }
}

/// The service that is asked about; where none is named, the only one.
pub(crate) fn service_of(
    shop: &ScheduleDoc,
    wanted: Option<ServiceId>,
) -> Result<Measure, Problem> {
    let services = &shop.services;
    match wanted {
        Some(id) => services
            .iter()
            .find(|measure| measure.service == id)
            .copied()
            .ok_or(Kind::NotFound.into()),
        None => match services.as_slice() {
            [only] => Ok(*only),
            [] => Err(Kind::NotFound.into()),
            _ => Err(Problem::field(
                Kind::InvalidQuery,
                "service_id",
                "name one: the provider offers several",
            )),
        },
    }
}

/// An instant as a clock at the provider's shows it, with its offset (RFC 3339).
pub(crate) fn local(at: Instant, zone: Zone) -> String {
    at.with_timezone(&zone.0).to_rfc3339_opts(SecondsFormat::Secs, false)
}

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    /// The free slots of a day.
    Times(ProviderId, Option<ServiceId>, NaiveDate),
    /// The free days of the month that begins then.
    Days(ProviderId, Option<ServiceId>, NaiveDate),
    /// The free slots from one date to another, in a zone.
    Range(ProviderId, Option<ServiceId>, (NaiveDate, NaiveDate), Option<Zone>),
}

impl Question {
    const fn provider(self) -> ProviderId {
        let (Self::Times(provider, ..) | Self::Days(provider, ..) | Self::Range(provider, ..)) =
            self;
        provider
    }
}

/// What was answered, and why.
#[derive(Clone)]
struct Answered {
    from: Availability,
    /// How far the cache was before `from` was read.
    as_of: Option<CacheState>,
    minute: i64,
    /// When the first hold in the way ends.
    until: Option<Instant>,
    answer: Rendered,
}

/// The latest answers, as many as fit.
pub(crate) struct Answers(Cache<Question, Arc<Answered>, ByBytes>);

/// The most memory for answers, in bytes, roughly.
const ANSWERS: u64 = 16 * 1024 * 1024;

#[derive(Clone)]
struct ByBytes;

impl Weighter<Question, Arc<Answered>> for ByBytes {
    fn weight(&self, _: &Question, answered: &Arc<Answered>) -> u64 {
        // Beside the body: the documents it holds on to, which other caches may have let go.
        answered.answer.0.len() as u64 + answered.from.weight() + 256
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self(Cache::with_weighter(10_000, ANSWERS, ByBytes))
    }
}

impl Answers {
    fn get(&self, question: Question, now: Instant) -> Option<Arc<Answered>> {
        self.0.get(&question).filter(|answered| {
            answered.minute == minute(now) && answered.until.is_none_or(|until| now < until)
        })
    }

    pub(crate) fn keep(
        &self,
        question: Question,
        (from, as_of): (Availability, Option<CacheState>),
        now: Instant,
        answer: Rendered,
    ) -> Rendered {
        let (minute, until) = (minute(now), from.next_expiry(now));
        let answered = Answered { from, as_of, minute, until, answer: answer.clone() };
        self.0.insert(question, Arc::new(answered));
        answer
    }

    /// Something was applied, but nothing that matters to this answer.
    fn still_good(&self, question: Question, answered: &Answered, as_of: Option<CacheState>) {
        self.0.insert(question, Arc::new(Answered { as_of, ..answered.clone() }));
    }
}

/// The minute an instant ends or lies in: a slot that starts at 12:00 can be booked until then, and not after.
fn minute(now: Instant) -> i64 {
    (now - TimeDelta::nanoseconds(1)).timestamp().div_euclid(60)
}

/// A provider's availability while a query is answered.
pub(crate) struct Asked {
    provider: ProviderId,
    pub(crate) availability: Availability,
    /// How far the cache was before anything was read; `None` while it does not know.
    pub(crate) as_of: Option<CacheState>,
    /// What the client has seen of the provider's partition.
    wanted: Position,
    /// The partition's head, once something had to be loaded: what is loaded is at least this recent.
    head: Option<Position>,
    /// Whether there is a cache to offer it to.
    cache_is_there: bool,
}

impl Asked {
    /// From what the cache gave, as far as it is recent enough; the schedule, if need be, from the log.
    pub(crate) async fn of(
        state: &QueryState,
        provider: ProviderId,
        cached: Option<AvailabilityDocs>,
        wanted: Position,
    ) -> Result<Self, Problem> {
        let cache_is_there = cached.is_some();
        let as_of = cached.as_ref().and_then(|docs| docs.state);
        let mut head = None;
        let availability = match cached.and_then(|docs| recent(docs, wanted.number)) {
            Some(availability) => availability,
            None => {
                let at_least = *head.insert(head_of(state, wanted).await?);
                let loaded = state.log.load_at_least::<Provider>(provider, at_least).await;
                let loaded = loaded.map_err(|error| Problem::unavailable(&error))?;
                let doc = ScheduleDoc::of(&loaded.state).ok_or(Kind::NotFound)?;
                if cache_is_there {
                    let number = loaded.last.map_or(0, |at| at.number);
                    let write = CacheWrite::schedule(provider, number, Some(doc.clone()));
                    offer(state, at_least, vec![write]).await;
                }
                Availability::new(Arc::new(doc))
            }
        };
        Ok(Self { provider, availability, as_of, wanted, head, cache_is_there })
    }

    /// The service that was asked for, or the only one.
    pub(crate) fn service(&self, wanted: Option<ServiceId>) -> Result<Measure, Problem> {
        service_of(self.availability.schedule(), wanted)
    }

    /// Computes; if days are missing, loads them from the log and computes again.
    pub(crate) async fn retry<T>(
        &mut self,
        state: &QueryState,
        compute: impl Fn(&Availability) -> Result<T, read_models::availability::MissingDays>,
    ) -> Result<T, Problem> {
        let missing = match compute(&self.availability) {
            Ok(answer) => return Ok(answer),
            Err(missing) => missing.0,
        };
        let at_least = match self.head {
            Some(head) => head,
            None => head_of(state, self.wanted).await?,
        };
        let mut writes = Vec::new();
        for day in missing.into_iter().collect::<BTreeSet<_>>() {
            let id = AgendaId::of(self.provider, day);
            let loaded = state.log.load_at_least::<Agenda>(id, at_least).await;
            let loaded = loaded.map_err(|error| Problem::unavailable(&error))?;
            let doc = DayDoc { taken: loaded.state.taken() };
            let number = loaded.last.map_or(0, |at| at.number);
            writes.push(CacheWrite::day(self.provider, day, number, doc.clone()));
            self.availability.add_day(day, Arc::new(doc));
        }
        if self.cache_is_there {
            offer(state, at_least, writes).await;
        }
        compute(&self.availability).map_err(|missing| Problem::internal(&missing))
    }
}

/// The head of a partition, read before anything is loaded: what is loaded then is complete up to there, and a
/// fill that says so is refused by nobody but the next event. A token from beyond the head is of a log that was
/// restored, or of nobody's making: it is never caught up with, and must not vouch for a fill.
pub(crate) async fn head_of(state: &QueryState, wanted: Position) -> Result<Position, Problem> {
    let head = state.log.head(wanted.partition).await;
    let number = head.map_err(|error| Problem::unavailable(&error))?;
    if number < wanted.number {
        return Err(Problem::from(Kind::NotCaughtUp).retry_after(1));
    }
    Ok(Position { number, ..wanted })
}

/// What the cache gave, less what may be from before `wanted`: a value is recent enough when the whole
/// partition is, or when it is itself.
fn recent(mut docs: AvailabilityDocs, wanted: u64) -> Option<Availability> {
    if docs.state.is_none_or(|state| state.applied() < wanted) {
        if docs.schedule.as_ref().is_none_or(|doc| doc.number < wanted) {
            return None;
        }
        for (_, doc) in &mut docs.days {
            if doc.as_ref().is_some_and(|doc| doc.number < wanted) {
                *doc = None;
            }
        }
    }
    Availability::from_docs(&docs)
}

/// Offers the cache what was loaded; that it is away, or knows better, is no concern of the reader's.
pub(crate) async fn offer(state: &QueryState, as_of: Position, writes: Vec<CacheWrite>) {
    if let Err(error) = state.availability.fill(as_of.partition, as_of.number, writes).await {
        tracing::debug!(%error, "what was loaded was not cached");
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::{Mint, RoutingSlot};
    use domain::slots::Taken;

    use super::*;

    #[test]
    fn an_answer_is_given_again_within_its_minute_which_ends_where_slots_do() {
        let at = |text: &str| -> Instant { text.parse().unwrap() };
        let (answers, provider) = (Answers::default(), Mint::new([1; 32]).id(slot(), 0));
        let day = NaiveDate::from_ymd_opt(2026, 12, 1).unwrap();
        let question = Question::Times(provider, None, day);
        let schedule = ScheduleDoc { schedule: Default::default(), services: Vec::new() };
        let from = Availability::new(Arc::new(schedule));
        let free = || Rendered::of(&"free").unwrap();
        answers.keep(question, (from.clone(), None), at("2026-12-01T12:00:00Z"), free());
        let given = |question, now: &str| answers.get(question, at(now)).is_some();
        assert!(given(question, "2026-12-01T12:00:00Z"));
        assert!(given(question, "2026-12-01T11:59:00.000000001Z"));
        assert!(!given(question, "2026-12-01T12:00:00.000000001Z"), "noon's slot is over");
        assert!(!given(question, "2026-12-01T11:59:00Z"));
        assert!(!given(Question::Days(provider, None, day), "2026-12-01T12:00:00Z"));

        // A hold that ends within the minute ends the answer with it; one that is over already does not.
        let mut held = from;
        let slot = Span { start: at("2026-12-01T15:00:00Z"), end: at("2026-12-01T16:00:00Z") };
        let until = |end: &str| Taken {
            span: slot,
            start: slot.start,
            service: Mint::new([1; 32]).id(self::slot(), 0),
            capacity: 1,
            seats_taken: 0,
            held_until: vec![at(end)],
        };
        let taken = vec![until("2026-12-01T12:10:00Z"), until("2026-12-01T12:20:30Z")];
        held.add_day(day, Arc::new(DayDoc { taken }));
        answers.keep(question, (held, None), at("2026-12-01T12:20:10Z"), free());
        assert!(given(question, "2026-12-01T12:20:29.999999Z"));
        assert!(!given(question, "2026-12-01T12:20:30Z"));
    }

    fn slot() -> RoutingSlot {
        RoutingSlot::from_bits(1)
    }
}
