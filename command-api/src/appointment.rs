//! Booking, and what becomes of it: confirmed, declined, cancelled, moved, completed, missed; and what each side notes.

use axum::extract::State;
use axum::response::IntoResponse;
use chrono::SecondsFormat;
use domain::Instant;
use domain::appointment::{
    Appointment, AppointmentStands, BookAppointment, BookForGuest, CancelAppointment,
    CompleteAppointment, ConfirmAppointment, Contact, DeclineAppointment, MarkNoShow,
    NoteAppointment, RescheduleAppointment, Status,
};
use domain::hours::Zone;
use domain::ids::{AppointmentId, HoldId, ProviderId, ServiceId};
use domain::locale::Locale;
use domain::money::Money;
use domain::text::{EmailAddress, Note, PersonName, Phone, ServiceName};
use http::StatusCode;
use http::header::LOCATION;
use http_kit::auth::{MaybeSignedIn, SignedIn};
use http_kit::extract::{Json, Path, Submission, Timestamp};
use http_kit::limits::Rule;
use http_kit::problem::CommandProblems;
use http_kit::{Kind, Problem, schema};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::guest::GUEST_APPOINTMENT;
use crate::{CommandState, Receipt, unreadable};

pub(crate) fn routes() -> OpenApiRouter<CommandState> {
    OpenApiRouter::new()
        .routes(routes!(book))
        .routes(routes!(change_status))
        .routes(routes!(reschedule))
        .routes(routes!(note))
        .routes(routes!(cancel))
}

/// What to book, and when.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AppointmentBooking, example = json!({
    "provider_id": "01935d2e-7c11-7a3f-9c2b-0242ac120002", "start": "2026-03-02T13:00:00Z",
}))]
struct Booking {
    #[schema(value_type = String, format = Uuid)]
    provider_id: ProviderId,
    /// Left out where the shop offers just one service.
    #[schema(value_type = Option<String>, format = Uuid)]
    service_id: Option<ServiceId>,
    /// RFC 3339, with any offset.
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    /// What the provider should know.
    #[schema(value_type = Option<String>, max_length = 2000)]
    notes: Option<Note>,
    /// For whom, if that is somebody without an account: oneself, not signed in, where the provider allows guests; or, by
    /// the provider, anybody.
    contact: Option<GuestContact>,
    /// One's own hold of that slot, which becomes the appointment.
    #[schema(value_type = Option<String>, format = Uuid)]
    hold: Option<HoldId>,
}

/// Somebody without an account. A link that manages the appointment is mailed to them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Ana Souza", "email": "ana@example.com", "phone": "+55 11 91234-5678"}))]
struct GuestContact {
    #[schema(value_type = String, min_length = 2, max_length = 255)]
    name: PersonName,
    #[schema(value_type = String, format = Email, max_length = 254)]
    email: EmailAddress,
    #[schema(value_type = Option<String>, min_length = 3, max_length = 20)]
    phone: Option<Phone>,
    /// The language of mails to them: `pt-BR` or `en`; that of `Accept-Language` unless given.
    #[schema(value_type = Option<String>, example = "pt-BR")]
    locale: Option<Locale>,
}

/// An appointment as it stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AppointmentStands, example = json!({
    "id": "01935d2e-7c11-7a3f-9c2b-0242ac120003",
    "status": "pending",
    "provider_id": "01935d2e-7c11-7a3f-9c2b-0242ac120002",
    "service": {"id": "01935d2e-7c11-7a3f-9c2b-0242ac120004", "name": "Corte"},
    "start": "2026-03-02T13:00:00Z", "end": "2026-03-02T14:00:00Z",
    "local_start": "2026-03-02T10:00:00-03:00", "time_zone": "America/Sao_Paulo",
    "price": {"amount_minor": 12000, "currency": "BRL"},
}))]
pub(crate) struct Stands {
    #[schema(value_type = String, format = Uuid)]
    id: AppointmentId,
    /// `pending`, `confirmed`, `declined`, `cancelled`, `completed`, `no_show` or `expired`.
    #[schema(value_type = String)]
    status: Status,
    #[schema(value_type = String, format = Uuid)]
    provider_id: ProviderId,
    service: ServiceNamed,
    #[schema(value_type = String, format = DateTime)]
    start: String,
    #[schema(value_type = String, format = DateTime)]
    end: String,
    /// The start on the provider's clock, with its offset from UTC.
    #[schema(value_type = String, format = DateTime)]
    local_start: String,
    /// The provider's IANA zone.
    #[schema(value_type = String)]
    time_zone: Zone,
    #[schema(value_type = Option<schema::Money>)]
    price: Option<Money>,
}

/// A service by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServiceNamed {
    #[schema(value_type = String, format = Uuid)]
    pub(crate) id: ServiceId,
    /// `null` once the shop's owner was erased.
    #[schema(value_type = Option<String>)]
    pub(crate) name: Option<ServiceName>,
}

impl From<AppointmentStands> for Stands {
    fn from(stands: AppointmentStands) -> Self {
        let AppointmentStands {
            appointment,
            provider,
            service,
            service_name,
            slot,
            zone,
            price,
            status,
        } = stands;
        let utc = |at: Instant| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        Self {
            id: appointment,
            status,
            provider_id: provider,
            service: ServiceNamed { id: service, name: service_name },
            start: utc(slot.start),
            end: utc(slot.end),
            local_start: slot
                .start
                .with_timezone(&zone.0)
                .to_rfc3339_opts(SecondsFormat::AutoSi, false),
            time_zone: zone,
            price,
        }
    }
}

pub(crate) async fn answer(
    api: &CommandState,
    (mut outcome, receipt): (AppointmentStands, Receipt),
) -> Result<(Receipt, Json<Stands>), Problem> {
    let id = outcome.appointment;
    // Stored answers hold no names: a repeated one gets it from the appointment.
    if outcome.service_name.is_none() {
        let stored = api.log().load::<Appointment>(id).await;
        let booking = &stored.map_err(|error| unreadable(&error))?.state.booking;
        outcome.service_name =
            booking.as_ref().and_then(|booking| booking.terms.service_name.known()).cloned();
    }
    Ok((receipt.of::<Appointment>(id), Json(outcome.into())))
}

/// Book a service for oneself, or for a guest.
///
/// With a `contact` it is for somebody without an account: oneself, without a token, where the provider's policy has
/// `guests`; or, by the provider, anybody, and then it is confirmed at once. A slot that is taken is a `409 slot-taken` with the nearest free `alternatives`.
#[utoipa::path(
    post, path = "/api/appointments", operation_id = "BookAppointment", tag = "appointments",
    security(("bearer" = []), ()),
    request_body = Booking,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses(
        (status = 201, body = Stands, headers(
            ("Location" = String, description = "The appointment"),
            ("Pontual-Position" = String, description = "Send it as Pontual-After to read this write"),
            ("ETag" = String, description = "The appointment's version"),
            ("Idempotent-Replayed" = Option<String>, description = "true: the first answer again"),
        )),
        CommandProblems,
    ),
)]
async fn book(
    State(api): State<CommandState>,
    MaybeSignedIn(actor): MaybeSignedIn,
    Submission { body: Json(body), sent }: Submission<Json<Booking>>,
) -> Result<impl IntoResponse, Problem> {
    let Booking { provider_id, service_id, start, notes, contact, hold } = body;
    let (provider, service, start) = (provider_id, service_id, start.0);
    let booking = BookAppointment { provider, service, start, notes, hold };
    let is_guest = contact.is_some() && actor.account().is_none();
    let done = match contact {
        None => api.execute(actor, sent, booking).await?,
        Some(GuestContact { name, email, phone, locale }) => {
            if is_guest {
                api.limits.address(Rule::GuestBooking, sent.origin.ip).await?;
            }
            // Whoever books, a mail goes there.
            api.limits.account(Rule::GuestBooking, email.as_str()).await?;
            let locale = locale.unwrap_or(sent.origin.locale);
            let contact = Contact { name, email, phone };
            api.execute(actor, sent, BookForGuest { booking, contact, locale }).await?
        }
    };
    let location = if is_guest {
        GUEST_APPOINTMENT.to_owned()
    } else {
        format!("/api/appointments/{}", done.0.appointment)
    };
    let location = [(LOCATION, location)];
    let (receipt, body) = answer(&api, done).await?;
    Ok((StatusCode::CREATED, receipt, location, body))
}

/// What an appointment should be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AppointmentStatusChange, example = json!({"status": "declined", "reason": "Closed that week."}))]
struct StatusChange {
    status: WantedStatus,
    /// Why; only with `declined` and `cancelled`.
    #[schema(value_type = Option<String>, max_length = 2000)]
    reason: Option<Note>,
}

/// A status one can ask for.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = WantedAppointmentStatus)]
enum WantedStatus {
    /// By the provider.
    Confirmed,
    /// By the provider.
    Declined,
    /// By either side.
    Cancelled,
    /// By the provider, once it has ended.
    Completed,
    /// By the provider, once it has begun.
    NoShow,
}

/// Confirm, decline or cancel an appointment, or say whether the client came.
///
/// `completed` and `no_show` can be set right, one to the other, for seven days after the first of them.
#[utoipa::path(
    put, path = "/api/appointments/{id}/status", operation_id = "ChangeAppointmentStatus",
    tag = "appointments", security(("bearer" = [])),
    request_body = StatusChange,
    params(
        ("id" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = Stands), CommandProblems),
)]
async fn change_status(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(appointment): Path<AppointmentId>,
    Submission { body: Json(StatusChange { status, reason }), sent }: Submission<
        Json<StatusChange>,
    >,
) -> Result<impl IntoResponse, Problem> {
    let done = match (status, reason) {
        (WantedStatus::Confirmed, None) => {
            api.execute(actor, sent, ConfirmAppointment { appointment }).await?
        }
        (WantedStatus::Completed, None) => {
            api.execute(actor, sent, CompleteAppointment { appointment }).await?
        }
        (WantedStatus::NoShow, None) => {
            api.execute(actor, sent, MarkNoShow { appointment }).await?
        }
        (WantedStatus::Confirmed | WantedStatus::Completed | WantedStatus::NoShow, Some(_)) => {
            let detail = "is not a field of this request";
            return Err(Problem::field(Kind::InvalidInput, "/reason", detail));
        }
        (WantedStatus::Declined, reason) => {
            api.execute(actor, sent, DeclineAppointment { appointment, reason }).await?
        }
        (WantedStatus::Cancelled, reason) => {
            api.execute(actor, sent, CancelAppointment { appointment, reason }).await?
        }
    };
    answer(&api, done).await
}

/// When it should start.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AppointmentMove, example = json!({"start": "2026-03-03T13:00:00Z"}))]
pub(crate) struct Move {
    /// RFC 3339, with any offset.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) start: Timestamp,
}

/// Move an appointment to another start, keeping its id and history.
#[utoipa::path(
    post, path = "/api/appointments/{id}/reschedule", operation_id = "RescheduleAppointment",
    tag = "appointments", security(("bearer" = [])),
    request_body = Move,
    params(
        ("id" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = Stands), CommandProblems),
)]
async fn reschedule(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(appointment): Path<AppointmentId>,
    Submission { body: Json(Move { start }), sent }: Submission<Json<Move>>,
) -> Result<impl IntoResponse, Problem> {
    let command = RescheduleAppointment { appointment, start: start.0 };
    let done = api.execute(actor, sent, command).await?;
    answer(&api, done).await
}

/// What one notes for oneself.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AppointmentNotes, example = json!({"notes": "Likes it short at the back."}))]
struct Notes {
    /// `null` or left out: none any more.
    #[schema(value_type = Option<String>, max_length = 2000)]
    notes: Option<Note>,
}

/// Note something about an appointment for oneself, in place of what one noted before.
///
/// Either side has notes of its own, which the other never sees.
#[utoipa::path(
    put, path = "/api/appointments/{id}/notes", operation_id = "NoteAppointment",
    tag = "appointments", security(("bearer" = [])),
    request_body = Notes,
    params(
        ("id" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = Stands), CommandProblems),
)]
async fn note(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(appointment): Path<AppointmentId>,
    Submission { body: Json(Notes { notes }), sent }: Submission<Json<Notes>>,
) -> Result<impl IntoResponse, Problem> {
    let done = api.execute(actor, sent, NoteAppointment { appointment, notes }).await?;
    answer(&api, done).await
}

/// Why it is called off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AppointmentCancellation, example = json!({"reason": "I am ill."}))]
pub(crate) struct Cancellation {
    #[schema(value_type = Option<String>, max_length = 2000)]
    pub(crate) reason: Option<Note>,
}

/// Call an appointment off, from either side.
#[utoipa::path(
    delete, path = "/api/appointments/{id}", operation_id = "CancelAppointment",
    tag = "appointments", security(("bearer" = [])),
    request_body = Option<Cancellation>,
    params(
        ("id" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = Stands), CommandProblems),
)]
async fn cancel(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(appointment): Path<AppointmentId>,
    Submission { body, sent }: Submission<Option<Json<Cancellation>>>,
) -> Result<impl IntoResponse, Problem> {
    let reason = body.and_then(|Json(Cancellation { reason })| reason);
    let done = api.execute(actor, sent, CancelAppointment { appointment, reason }).await?;
    answer(&api, done).await
}
