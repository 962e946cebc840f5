//! Booking the same again and again, and calling off what is to come of it.

use axum::extract::State;
use axum::response::IntoResponse;
use chrono::SecondsFormat;
use domain::Instant;
use domain::appointment::{Appointment, Status};
use domain::hours::Zone;
use domain::ids::{AppointmentId, ProviderId, SeriesId, ServiceId};
use domain::money::Money;
use domain::recurrence::Recurrence;
use domain::series::{
    BookSeries, BookedOccurrence, CancelSeries, KeptOccurrence, Mode, RefusedOccurrence, Series,
    SeriesIsOff, SeriesStands, WhyKept,
};
use domain::text::Note;
use http::StatusCode;
use http::header::LOCATION;
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Path, Submission, Timestamp};
use http_kit::limits::Rule;
use http_kit::problem::CommandProblems;
use http_kit::{Problem, schema};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::appointment::{Cancellation, ServiceNamed};
use crate::{CommandState, unreadable};

pub(crate) fn routes() -> OpenApiRouter<CommandState> {
    OpenApiRouter::new().routes(routes!(book)).routes(routes!(cancel))
}

/// What to book, from when, and how often.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SeriesBooking, example = json!({
    "provider_id": "01935d2e-7c11-7a3f-9c2b-0242ac120002", "start": "2026-03-03T12:00:00Z",
    "rrule": "FREQ=WEEKLY;COUNT=10", "mode": "best-effort",
}))]
struct Booking {
    #[schema(value_type = String, format = Uuid)]
    provider_id: ProviderId,
    /// Left out where the shop offers just one service.
    #[schema(value_type = Option<String>, format = Uuid)]
    service_id: Option<ServiceId>,
    /// The first occurrence: RFC 3339, with any offset.
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    /// A rule of RFC 5545 for the provider's local days: `FREQ` (`DAILY`, `WEEKLY` or `MONTHLY`), `INTERVAL`, `BYDAY`,
    /// `BYMONTHDAY`, `WKST`, and `COUNT` or `UNTIL`; at most 60 occurrences. `start` must be the first.
    #[schema(value_type = String, example = "FREQ=WEEKLY;BYDAY=TU;COUNT=10", max_length = 256)]
    rrule: Recurrence,
    mode: WantedMode,
    /// What the provider should know.
    #[schema(value_type = Option<String>, max_length = 2000)]
    notes: Option<Note>,
}

/// Whether a series is wanted whole.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = SeriesMode)]
enum WantedMode {
    /// All occurrences, or none.
    AllOrNothing,
    /// As many as can be had.
    BestEffort,
}

/// A series that was booked.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SeriesStands)]
struct Stands {
    #[schema(value_type = String, format = Uuid)]
    id: SeriesId,
    #[schema(value_type = String, format = Uuid)]
    provider_id: ProviderId,
    service: ServiceNamed,
    /// The provider's IANA zone.
    #[schema(value_type = String)]
    time_zone: Zone,
    /// What each costs.
    #[schema(value_type = Option<schema::Money>)]
    price: Option<Money>,
    /// `pending` or `confirmed`, each of them.
    #[schema(value_type = String)]
    status: Status,
    /// What was booked, in order: each is an appointment of its own.
    booked: Vec<Booked>,
    /// What could not be, and why.
    refused: Vec<Refused>,
}

/// An occurrence, as it was booked or called off.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SeriesOccurrence)]
struct Booked {
    /// Which of the rule, from 1.
    number: u16,
    #[schema(value_type = String, format = Uuid)]
    appointment_id: AppointmentId,
    #[schema(value_type = String, format = DateTime)]
    start: String,
    #[schema(value_type = String, format = DateTime)]
    end: String,
}

impl From<BookedOccurrence> for Booked {
    fn from(occurrence: BookedOccurrence) -> Self {
        let BookedOccurrence { number, appointment, slot } = occurrence;
        let (start, end) = (utc(slot.start), utc(slot.end));
        Self { number, appointment_id: appointment, start, end }
    }
}

/// An occurrence that could not be booked.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RefusedOccurrence)]
struct Refused {
    /// Which of the rule, from 1.
    number: u16,
    /// When it would be; `null` where clocks skip that time.
    #[schema(value_type = Option<String>, format = DateTime)]
    start: Option<String>,
    /// The same on the provider's clock.
    #[schema(example = "2026-03-03T09:00:00")]
    local_start: String,
    /// What a booking of it alone would be refused for, as `slot-taken`; or `no-such-time`.
    #[schema(example = "slot-taken")]
    reason: &'static str,
    /// The nearest free starts.
    #[schema(value_type = Vec<String>)]
    alternatives: Vec<String>,
}

impl From<RefusedOccurrence> for Refused {
    fn from(occurrence: RefusedOccurrence) -> Self {
        let RefusedOccurrence { number, local, start, why, alternatives } = occurrence;
        Self {
            number,
            start: start.map(utc),
            local_start: local.format("%Y-%m-%dT%H:%M:%S").to_string(),
            reason: why.as_str(),
            alternatives: alternatives.into_iter().map(utc).collect(),
        }
    }
}

fn utc(at: Instant) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Book a service again and again, for oneself.
///
/// Every occurrence is an appointment of its own, which is moved and called off like any other. A weekly 09:00 stays 09:00
/// at the provider's when clocks change. With `all-or-nothing`, `409 series-not-bookable` says in `occurrences` which cannot
/// be had, why, and what is free near them; with `best-effort` the answer says so in `refused`, unless none can be had.
#[utoipa::path(
    post, path = "/api/series", operation_id = "BookSeries", tag = "appointments",
    security(("bearer" = [])),
    request_body = Booking,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses(
        (status = 201, body = Stands, headers(
            ("Location" = String, description = "The series"),
            ("Pontual-Position" = String, description = "Send it as Pontual-After to read this write"),
            ("ETag" = String, description = "The series' version"),
            ("Idempotent-Replayed" = Option<String>, description = "true: the first answer again"),
        )),
        CommandProblems,
    ),
)]
async fn book(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: Json(body), sent }: Submission<Json<Booking>>,
) -> Result<impl IntoResponse, Problem> {
    let Booking { provider_id, service_id, start, rrule, mode, notes } = body;
    if let Some(account) = actor.account() {
        api.limits.account(Rule::Series, &account.to_string()).await?;
    }
    let command = BookSeries {
        provider: provider_id,
        service: service_id,
        start: start.0,
        rule: rrule,
        mode: match mode {
            WantedMode::AllOrNothing => Mode::AllOrNothing,
            WantedMode::BestEffort => Mode::BestEffort,
        },
        notes,
    };
    let (outcome, receipt) = api.execute(actor, sent, command).await?;
    let SeriesStands {
        series,
        provider,
        service,
        service_name,
        zone,
        price,
        status,
        booked,
        refused,
    } = outcome;
    // Stored answers hold no names: a repeated one gets it from an appointment.
    let service_name = match (service_name, booked.first()) {
        (None, Some(first)) => {
            let stored = api.log().load::<Appointment>(first.appointment).await;
            let booking = &stored.map_err(|error| unreadable(&error))?.state.booking;
            booking.as_ref().and_then(|booking| booking.terms.service_name.known()).cloned()
        }
        (name, _) => name,
    };
    let location = [(LOCATION, format!("/api/series/{series}"))];
    let answer = Stands {
        id: series,
        provider_id: provider,
        service: ServiceNamed { id: service, name: service_name },
        time_zone: zone,
        price,
        status,
        booked: booked.into_iter().map(Into::into).collect(),
        refused: refused.into_iter().map(Into::into).collect(),
    };
    Ok((StatusCode::CREATED, receipt.of::<Series>(series), location, Json(answer)))
}

/// What was called off of a series.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SeriesIsOff)]
struct IsOff {
    #[schema(value_type = String, format = Uuid)]
    id: SeriesId,
    /// Called off just now.
    cancelled: Vec<Booked>,
    /// All others.
    kept: Vec<Kept>,
}

/// An occurrence that was not called off.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeptOccurrence)]
struct Kept {
    /// Which of the rule, from 1.
    number: u16,
    #[schema(value_type = String, format = Uuid)]
    appointment_id: AppointmentId,
    /// Where it stands.
    #[schema(value_type = String)]
    status: Status,
    /// `too-late`: the time to change it has passed; `already-begun`; `wrong-status`: it was off or over before.
    #[schema(value_type = String, example = "too-late")]
    reason: WhyKept,
}

impl From<KeptOccurrence> for Kept {
    fn from(occurrence: KeptOccurrence) -> Self {
        let KeptOccurrence { number, appointment, status, why } = occurrence;
        Self { number, appointment_id: appointment, status, reason: why }
    }
}

/// Call off what is to come of a series, from either side.
///
/// Each occurrence under the rules it would be called off under alone; the answer says which were not, and why.
#[utoipa::path(
    post, path = "/api/series/{id}/cancel", operation_id = "CancelSeries", tag = "appointments",
    security(("bearer" = [])),
    request_body = Option<Cancellation>,
    params(
        ("id" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v1\""),
    ),
    responses((status = 200, body = IsOff), CommandProblems),
)]
async fn cancel(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(series): Path<SeriesId>,
    Submission { body, sent }: Submission<Option<Json<Cancellation>>>,
) -> Result<impl IntoResponse, Problem> {
    let reason = body.and_then(|Json(Cancellation { reason })| reason);
    let (outcome, receipt) = api.execute(actor, sent, CancelSeries { series, reason }).await?;
    let SeriesIsOff { series, cancelled, kept } = outcome;
    let answer = IsOff {
        id: series,
        cancelled: cancelled.into_iter().map(Into::into).collect(),
        kept: kept.into_iter().map(Into::into).collect(),
    };
    Ok((receipt.of::<Series>(series), Json(answer)))
}
