//! Free slots of any range of days, in the asker's zone or the provider's; and why one cannot be booked.
//!
//! Both look at the cache as the day and the month do (`query-api/src/availability.rs`). Why a slot cannot be booked is
//! said by the rules a booking is refused by (`domain/src/bookable.rs`), in the words of its problem.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{NaiveDate, TimeDelta};
use domain::Instant;
use domain::hours::Zone;
use domain::ids::{Id, ProviderId, ServiceId};
use domain::position::{Position, PositionToken};
use domain::slots::{Measure, Span};
use http_kit::auth::SignedIn;
use http_kit::extract::{Date, Json, Query, Rendered, Timestamp};
use http_kit::headers::At;
use http_kit::origin::RequestOrigin;
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem};
use read_models::availability::Availability;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::QueryState;
use crate::as_of::{self, Point};
use crate::availability::{Asked, Looked, Question, SlotBody, cached, local, look, service_of};
use crate::freshness::Seen;

/// The most days one answer spans.
const MAX_DAYS: i64 = 62;

/// Which days of which provider.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RangeParams {
    /// Whose.
    #[param(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// Of which service; may be left out where the provider offers just one.
    #[param(value_type = Option<uuid::Uuid>)]
    service_id: Option<ServiceId>,
    /// The first local date.
    #[param(value_type = String, format = Date, example = "2026-12-01")]
    from: Date,
    /// The last local date, at most 61 days later.
    #[param(value_type = String, format = Date, example = "2026-12-14")]
    to: Date,
    /// The IANA zone the dates and `local_start` are in; the provider's unless given.
    #[param(value_type = Option<String>, example = "Europe/Lisbon")]
    zone: Option<Zone>,
    /// As it was at this instant, which is past.
    #[param(value_type = Option<chrono::DateTime<chrono::Utc>>, example = "2026-03-01T12:00:00Z")]
    as_of: Option<Timestamp>,
    /// As it was after the event at this position: what `Pontual-Position` says.
    #[param(value_type = Option<String>, example = "3:17")]
    as_of_position: Option<PositionToken>,
}

/// What is wanted of a range.
struct Range {
    provider: ProviderId,
    from: NaiveDate,
    to: NaiveDate,
    zone: Option<Zone>,
}

impl Range {
    /// The provider's local dates its slots may be on: two zones' dates lie up to two days apart (Pago Pago, Kiritimati).
    fn days(&self) -> (NaiveDate, NaiveDate) {
        match self.zone {
            None => (self.from, self.to),
            Some(_) => (self.from - TimeDelta::days(2), self.to + TimeDelta::days(2)),
        }
    }

    /// The answer: those of these free slots that are in it.
    fn body(&self, measure: &Measure, mut slots: Vec<Span>, providers: Zone) -> RangeBody {
        let shown = self.zone.unwrap_or(providers);
        if self.zone.is_some() {
            let day = |at: Instant| at.with_timezone(&shown.0).date_naive();
            slots.retain(|slot| (self.from..=self.to).contains(&day(slot.start)));
        }
        RangeBody {
            provider_id: self.provider,
            service_id: measure.service,
            from: self.from,
            to: self.to,
            time_zone: shown.name(),
            provider_time_zone: providers.name(),
            slots: slots.into_iter().map(|slot| SlotBody::of(slot, shown)).collect(),
        }
    }
}

/// The free slots of a range of days.
#[derive(Debug, Serialize, ToSchema)]
pub struct RangeBody {
    /// Whose.
    #[schema(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// Of which service.
    #[schema(value_type = uuid::Uuid)]
    service_id: ServiceId,
    /// The first local date.
    from: NaiveDate,
    /// The last local date.
    to: NaiveDate,
    /// The zone of the dates and of `local_start`.
    #[schema(example = "Europe/Lisbon")]
    time_zone: &'static str,
    /// The provider's zone.
    #[schema(example = "America/Sao_Paulo")]
    provider_time_zone: &'static str,
    /// What can be booked, in order.
    slots: Vec<SlotBody>,
}

/// The free slots of at most 62 days, in the provider's zone or one's own.
///
/// With `as_of` or `as_of_position`, for the provider: what could be booked then, by the hours, services and appointments of
/// then; `Pontual-Position` says after which event that is.
#[utoipa::path(
    get, path = "/api/providers/available-slots", operation_id = "AvailableSlots", tag = "availability",
    params(RangeParams),
    responses(
        (status = 200, body = RangeBody),
        (status = 422, description = "history-too-long: more happened until then than can be read again"),
        QueryProblems,
    ),
    security((), ("bearer" = []))
)]
pub async fn available_slots(
    State(state): State<QueryState>,
    actor: Result<SignedIn, Problem>,
    Query(params): Query<RangeParams>,
    Seen(after): Seen,
) -> Result<Response, Problem> {
    let RangeParams { provider_id, service_id, from, to, zone, as_of, as_of_position } = params;
    let (Date(from), Date(to)) = (from, to);
    if to < from || (to - from).num_days() >= MAX_DAYS {
        let wrong = "must not be before from, nor 62 days or more after it";
        return Err(Problem::field(Kind::InvalidQuery, "to", wrong));
    }
    let range = Range { provider: provider_id, from, to, zone };
    let (first, last) = range.days();
    if let Some(point) = Point::named(as_of, as_of_position)? {
        let SignedIn(actor) = actor?;
        let then = as_of::availability(&state, &actor, provider_id, (first, last), &point).await?;
        let shop = then.availability.schedule();
        let measure = service_of(shop, service_id)?;
        let slots = then.availability.free_between(&measure, first, last, then.now);
        let slots = slots.expect("the days around hold all that is in a slot's way");
        let body = Rendered::of(&range.body(&measure, slots, shop.schedule.zone))?;
        return Ok((At([then.at].into_iter().collect()), body).into_response());
    }
    let now = state.log.clock().now();
    let question = Question::Range(provider_id, service_id, (from, to), zone);
    let mut asked = match look(&state, question, (first, last), &after, now).await? {
        Looked::Answered(answer) => return Ok(answer.into_response()),
        Looked::Anew(asked) => asked,
    };
    let measure = asked.service(service_id)?;
    let slots = asked
        .retry(&state, |availability| availability.free_between(&measure, first, last, now))
        .await?;
    let zone = asked.availability.schedule().schedule.zone;
    let answer = Rendered::of(&range.body(&measure, slots, zone))?;
    let from = asked.availability.for_slots(&measure, first, last, now);
    Ok(state.answers.keep(question, (from, asked.as_of), now, answer).into_response())
}

/// Which slot.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct WhyParams {
    /// Whose.
    #[param(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// Of which service; may be left out where the provider offers just one.
    #[param(value_type = Option<uuid::Uuid>)]
    service_id: Option<ServiceId>,
    /// When it starts, RFC 3339.
    #[param(value_type = String, format = DateTime, example = "2026-12-01T12:00:00Z")]
    start: Timestamp,
}

/// Whether a slot can be booked, and if not, why.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhyBody {
    /// Whose.
    #[schema(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// Of which service.
    #[schema(value_type = uuid::Uuid)]
    service_id: ServiceId,
    /// When it starts, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    start: Instant,
    /// When it starts at the provider's.
    local_start: String,
    /// Whether it can be booked now.
    free: bool,
    /// What forbids it: the `type` of the problem a booking would be refused with.
    #[schema(example = "/problems/time-off")]
    rule: Option<String>,
    /// The rule in a few words.
    title: Option<&'static str>,
    /// The rule in a sentence.
    detail: Option<String>,
}

/// Whether a slot can be booked, and if not, by which rule.
///
/// The rules are those of a booking, in its order. That one may not book for other reasons, such as with oneself, is not
/// among them.
#[utoipa::path(
    get, path = "/api/providers/available-times/why", operation_id = "WhyNotAvailable",
    tag = "availability", params(WhyParams),
    responses((status = 200, body = WhyBody), QueryProblems)
)]
pub async fn why(
    State(state): State<QueryState>,
    Query(params): Query<WhyParams>,
    origin: RequestOrigin,
    Seen(after): Seen,
) -> Result<Json<WhyBody>, Problem> {
    let WhyParams { provider_id, service_id, start: Timestamp(start) } = params;
    let now = state.log.clock().now();
    let partition = state.log.partitions().partition_of(provider_id.slot());
    let wanted = Position { partition, number: after.number(partition) };
    let day = start.date_naive();
    let docs = cached(&state, provider_id, &Availability::days_around(day, day)).await;
    let mut asked = Asked::of(&state, provider_id, docs, wanted).await?;
    let measure = asked.service(service_id)?;
    let told =
        asked.retry(&state, |availability| availability.bookable(&measure, start, now)).await?;
    let problem = told.err().map(Problem::from);
    let words = problem.as_ref().map(|problem| problem.words(origin.locale));
    let (title, detail) = words.unzip();
    Ok(Json(WhyBody {
        provider_id,
        service_id: measure.service,
        start,
        local_start: local(start, asked.availability.schedule().schedule.zone),
        free: problem.is_none(),
        rule: problem.map(|problem| problem.kind().type_uri().into()),
        title,
        detail,
    }))
}
