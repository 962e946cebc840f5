//! Appointments: one, one's own, a provider's day.

use std::collections::HashMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::Instant;
use domain::appointment::{Side, Status};
use domain::ids::{AccountId, AppointmentId, ProviderId, SeriesId, ServiceId};
use domain::position::PositionToken;
use http_kit::auth::SignedIn;
use http_kit::extract::{Date, Json, Path, Query, Timestamp};
use http_kit::headers::{At, Tag};
use http_kit::links::{GUEST_LINK, GuestToken};
use http_kit::paging::{List, Paging};
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem, schema};
use read_models::appointment_notes;
use read_models::appointments::{AppointmentRow, Party, Period};
use serde::de::IntoDeserializer as _;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::as_of::{self, Point};
use crate::freshness::Seen;
use crate::{QueryState, page_limit, rules, table_problem};

/// An appointment, as its parties see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppointmentBody {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: AppointmentId,
    /// With whom.
    #[schema(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// Who booked; `null` for a guest, who has no account.
    #[schema(value_type = Option<uuid::Uuid>)]
    client_id: Option<AccountId>,
    /// What was booked.
    service: ServiceName,
    /// Where it stands.
    #[schema(value_type = String, example = "pending")]
    status: Status,
    /// Why it was declined or cancelled, if somebody said.
    status_reason: Option<String>,
    /// When it starts, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    start: Instant,
    /// When it ends, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    end: Instant,
    /// When it starts at the provider's.
    #[schema(example = "2026-12-01T09:00:00-03:00")]
    local_start: String,
    /// The provider's IANA time zone.
    time_zone: &'static str,
    /// What it costs.
    #[schema(value_type = Option<schema::Money>)]
    price: Option<domain::money::Money>,
    /// The client's name when it was booked.
    client_name: Option<String>,
    /// The client's address when it was booked.
    client_email: Option<String>,
    /// The client's telephone when it was booked.
    client_phone: Option<String>,
    /// What the client wrote for the provider.
    client_notes: Option<String>,
    /// What the asking side noted for itself; the other side never sees it.
    own_notes: Option<String>,
    /// The series it is one of.
    #[schema(value_type = Option<uuid::Uuid>)]
    series_id: Option<SeriesId>,
    /// Which of its rule, from 1.
    series_number: Option<u16>,
    /// When it was booked.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: Instant,
    /// When it last changed. What a side noted for itself does not count; the `ETag`, which follows every event of the
    /// appointment, does change with it.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    updated_at: Instant,
}

/// A service as it was booked.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BookedService)]
pub struct ServiceName {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    pub(crate) id: ServiceId,
    /// Its name when it was booked; `null` once the shop's owner was erased.
    pub(crate) name: Option<String>,
}

impl From<AppointmentRow> for AppointmentBody {
    fn from(row: AppointmentRow) -> Self {
        let local_start = crate::availability::local(row.slot.start, row.zone);
        let contact = row.contact;
        Self {
            id: row.id,
            provider_id: row.provider,
            client_id: row.client.account(),
            service: ServiceName { id: row.service, name: row.service_name.map(Into::into) },
            status: row.status,
            status_reason: row.status_reason.map(Into::into),
            start: row.slot.start,
            end: row.slot.end,
            local_start,
            time_zone: row.zone.name(),
            price: row.price,
            client_name: contact.as_ref().map(|contact| contact.name.to_string()),
            client_email: contact.as_ref().map(|contact| contact.email.to_string()),
            client_phone: contact.and_then(|contact| contact.phone).map(Into::into),
            client_notes: row.client_notes.map(Into::into),
            own_notes: None,
            series_id: row.series.map(|part| part.series),
            series_number: row.series.map(|part| part.number),
            created_at: row.stamp.created_at,
            updated_at: row.stamp.updated_at,
        }
    }
}

/// The appointments as an account sees them: of each, with what its own side noted, whichever that is. That it may see them
/// the caller knows. Every list and every single appointment becomes a body here.
pub(crate) async fn seen_by(
    state: &QueryState,
    reader: AccountId,
    rows: Vec<AppointmentRow>,
) -> Result<Vec<AppointmentBody>, Problem> {
    let mut notes = HashMap::new();
    for side in [Side::Client, Side::Provider] {
        let on_it = rows.iter().filter(|row| rules::side_of(reader, row) == Some(side));
        let ids: Vec<AppointmentId> = on_it.map(|row| row.id).collect();
        let noted = appointment_notes::of_side(state.log.pool(), &ids, side).await;
        notes.extend(noted.map_err(table_problem)?);
    }
    let body = |row: AppointmentRow| {
        let own_notes = notes.remove(&row.id).map(Into::into);
        AppointmentBody { own_notes, ..row.into() }
    };
    Ok(rows.into_iter().map(body).collect())
}

/// Statuses as they stand in a query, with commas between.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Statuses(pub(crate) Vec<Status>);

impl TryFrom<String> for Statuses {
    type Error = serde::de::value::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let status = |name: &str| Status::deserialize(name.into_deserializer());
        // There are fewer statuses than that.
        text.split(',').take(32).map(status).collect::<Result<_, _>>().map(Self)
    }
}

/// As of when.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AsOfParams {
    /// As it was at this instant, which is past.
    #[param(value_type = Option<chrono::DateTime<chrono::Utc>>, example = "2026-03-01T12:00:00Z")]
    as_of: Option<Timestamp>,
    /// As it was after the event at this position: what `Pontual-Position` says.
    #[param(value_type = Option<String>, example = "3:17")]
    as_of_position: Option<PositionToken>,
}

/// One appointment, for its client and its provider (`S3-42`).
///
/// With `as_of` or `as_of_position`, as it was then, but for what was erased since; `Pontual-Position` says after which
/// event of its partition that is, `ETag` its version.
#[utoipa::path(
    get, path = "/api/appointments/{id}", operation_id = "Appointment", tag = "appointments",
    params(("id" = uuid::Uuid, Path, description = "The appointment"), AsOfParams),
    responses(
        (status = 200, body = AppointmentBody),
        (status = 422, description = "history-too-long: more happened until then than can be read again"),
        QueryProblems,
    ),
    security(("bearer" = []))
)]
pub async fn appointment(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Path(id): Path<AppointmentId>,
    Query(params): Query<AsOfParams>,
    Seen(after): Seen,
) -> Result<Response, Problem> {
    if let Some(point) = Point::named(params.as_of, params.as_of_position)? {
        let (row, at) = as_of::appointment(&state, &actor, id, &point).await?;
        let (at, tag) = (At([at].into_iter().collect()), Tag(row.stamp.version));
        // Without anybody's notes: those that are there are of today.
        return Ok((at, tag, Json(AppointmentBody::from(row))).into_response());
    }
    state.tables_after(&after).await?;
    let row = read_models::appointments::by_id(state.log.pool(), id).await;
    let row = row.map_err(table_problem)?.ok_or(Kind::NotFound)?;
    let reader = rules::appointment(&actor, &row)?;
    let version = row.stamp.version;
    let body = seen_by(&state, reader, vec![row]).await?.pop();
    Ok((Tag(version), Json(body)).into_response())
}

/// A guest's appointment, by the token of the link that was mailed to them (K18).
#[utoipa::path(
    get, path = "/api/guest/appointment", operation_id = "GuestAppointment", tag = "appointments",
    responses((status = 200, body = AppointmentBody), QueryProblems), security(("guest" = []))
)]
pub async fn guest_appointment(
    State(state): State<QueryState>,
    token: GuestToken,
    Seen(after): Seen,
) -> Result<Response, Problem> {
    let (guest, id) = token.guest(&state.log.derive_key(GUEST_LINK))?;
    state.tables_after(&after).await?;
    let row = read_models::appointments::by_id(state.log.pool(), id).await;
    let row = row.map_err(table_problem)?.ok_or(Kind::InvalidLink)?;
    rules::guest(guest, &row, state.log.clock().now())?;
    Ok((Tag(row.stamp.version), Json(AppointmentBody::from(row))).into_response())
}

/// Which of one's own appointments.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct OwnParams {
    /// `upcoming`: those that will take place, the next first. `past`: all others, the latest first.
    #[serde(default)]
    #[param(inline, default = "upcoming")]
    when: When,
    /// `client`: what the account booked. `provider`: what was booked with it.
    #[serde(default)]
    #[param(inline, default = "client")]
    side: OwnSide,
    /// Of these statuses only, with commas between.
    #[param(value_type = Option<String>, example = "pending,confirmed")]
    status: Option<Statuses>,
    /// How many items, 1 to 100; 20 unless given.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Upcoming or past.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Those that will take place.
    #[default]
    Upcoming,
    /// All others.
    Past,
}

/// On which side of its appointments an account is looked at.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OwnSide {
    /// Who booked.
    #[default]
    Client,
    /// With whom.
    Provider,
}

/// The signed-in account's own appointments (`S1-16`, `S3-27`, `S4-08`): as a client, unless `side` says `provider`. Who
/// has no shop has none as one.
#[utoipa::path(
    get, path = "/api/users/appointments", operation_id = "OwnAppointments", tag = "appointments",
    params(OwnParams),
    responses((status = 200, body = List<AppointmentBody>), QueryProblems), security(("bearer" = []))
)]
pub async fn own_appointments(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Query(params): Query<OwnParams>,
    Seen(after): Seen,
) -> Result<Json<List<AppointmentBody>>, Problem> {
    let account = rules::own(&actor)?;
    let paging = Paging::new(params.limit, params.cursor)?;
    state.tables_after(&after).await?;
    let period = match params.when {
        When::Upcoming => Period::Upcoming,
        When::Past => Period::Past,
    };
    let now = state.log.clock().now();
    let limit = page_limit(paging.limit)?;
    let cursor = paging.cursor.as_deref();
    let pool = state.log.pool();
    let party = match params.side {
        OwnSide::Client => Party::Client(account),
        OwnSide::Provider => {
            let shop = read_models::providers::of_account(pool, account).await;
            let Some(shop) = shop.map_err(table_problem)? else {
                return Ok(Json(List { items: Vec::new(), next_cursor: None }));
            };
            Party::Provider(shop.id)
        }
    };
    let statuses = params.status.unwrap_or_default().0;
    let page =
        read_models::appointments::of_party(pool, party, period, &statuses, now, cursor, limit)
            .await;
    let page = page.map_err(table_problem)?;
    let items = seen_by(&state, account, page.items).await?;
    Ok(Json(List { items, next_cursor: page.next_cursor }))
}

/// Which day of a provider.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DayParams {
    /// The local date at the provider's.
    #[param(value_type = String, format = Date, example = "2026-12-01")]
    day: Date,
    /// As it was at this instant, which is past.
    #[param(value_type = Option<chrono::DateTime<chrono::Utc>>, example = "2026-03-01T12:00:00Z")]
    as_of: Option<Timestamp>,
    /// As it was after the event at this position: what `Pontual-Position` says.
    #[param(value_type = Option<String>, example = "3:17")]
    as_of_position: Option<PositionToken>,
    /// How many items, 1 to 100; 20 unless given.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A provider's appointments of a local day, whatever their status, by start; for the provider
/// (`S0-13`, `S3-44`). Cached, and read anew only after one of them changed (`S0-35`, `S0-36`).
///
/// With `as_of` or `as_of_position`, as it was then, in the provider's zone of then, but for what was erased since;
/// `Pontual-Position` says after which event that is. A page of it may be short, and have a next one all the same.
#[utoipa::path(
    get, path = "/api/appointments/provider/{id}", operation_id = "ProviderDay", tag = "appointments",
    params(("id" = uuid::Uuid, Path, description = "The provider"), DayParams),
    responses(
        (status = 200, body = List<AppointmentBody>),
        (status = 422, description = "history-too-long: more happened until then than can be read again"),
        QueryProblems,
    ),
    security(("bearer" = []))
)]
pub async fn provider_day(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Path(id): Path<ProviderId>,
    Query(params): Query<DayParams>,
    Seen(after): Seen,
) -> Result<Response, Problem> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let limit = page_limit(paging.limit)?;
    if let Some(point) = Point::named(params.as_of, params.as_of_position)? {
        let (day, cursor) = (params.day.0, paging.cursor.as_deref());
        let (page, at) = as_of::day(&state, &actor, id, day, &point, cursor, limit).await?;
        let items = page.items.into_iter().map(AppointmentBody::from).collect();
        let list = Json(List { items, next_cursor: page.next_cursor });
        return Ok((At([at].into_iter().collect()), list).into_response());
    }
    state.tables_after(&after).await?;
    let provider = read_models::providers::by_id(state.log.pool(), id).await;
    let provider = provider.map_err(table_problem)?.ok_or(Kind::NotFound)?;
    let reader = rules::provider_day(&actor, provider.account)?;
    let page =
        state.day_of(&provider, params.day.0, paging.cursor.as_deref(), limit, &after).await?;
    let items = seen_by(&state, reader, page.items).await?;
    Ok(Json(List { items, next_cursor: page.next_cursor }).into_response())
}
