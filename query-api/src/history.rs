//! What happened to an appointment: who, when, what, why. From its events, not from a read model.
//!
//! For example `AppointmentRescheduled` by the client is told to the provider as: `rescheduled`, by `the client`, whose
//! name is Bia; `start` from … to …. Each event is told by what it changes in the row that the appointment's earlier
//! events make, so nothing of it is decided anew. The parties hear of each other what the appointment says of them, and
//! why; where somebody wrote from, auditors alone, who are told no names and no reasons.

use std::ops::ControlFlow;

use axum::extract::State;
use chrono::SecondsFormat;
use domain::Instant;
use domain::aggregate::{StreamId, Version};
use domain::appointment::{Appointment, AppointmentEvent, Booking, Side, Status};
use domain::event::Event;
use domain::hours::Zone;
use domain::ids::{AccountId, AppointmentId, Id};
use domain::locale::Locale;
use domain::personal::Personal;
use domain::position::Position;
use domain::slots::Span;
use domain::text::Note;
use event_log::{OpenedOrigin, Recorded};
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Path};
use http_kit::origin::RequestOrigin;
use http_kit::paging::{List, PageParams, Paging};
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem};
use read_models::appointments::AppointmentRow;
use read_models::paging;
use serde::Serialize;
use utoipa::ToSchema;

use crate::as_of::{Folded, log_problem};
use crate::availability::{head_of, local};
use crate::freshness::Seen;
use crate::rules::Reader;
use crate::{QueryState, page_limit, rules, table_problem};

const LIST: &str = "appointments.history";

/// Something that happened to an appointment.
#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryEntry {
    /// Its number in the appointment's history, from 1: the version of its `ETag`.
    #[schema(value_type = u64)]
    version: Version,
    /// Where it stands in the log: what `as_of_position` takes.
    #[schema(value_type = String, example = "3:18")]
    position: Position,
    /// When it was recorded.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    at: Instant,
    /// What happened.
    #[schema(example = "rescheduled")]
    what: &'static str,
    /// Who did it.
    by: Doer,
    /// What it changed.
    changes: Vec<Change>,
    /// Why, if somebody said; `null` once they were erased, and to auditors.
    reason: Option<String>,
    /// More about it, for auditors.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<Audited>,
}

/// Who did something to an appointment.
#[derive(Debug, Serialize, ToSchema)]
pub struct Doer {
    /// Which side: `client`, `provider`, or `pontual`.
    #[schema(example = "client")]
    side: &'static str,
    /// Whether it was whoever asks.
    you: bool,
    /// In words, in the language of the request: "you", "the provider", "the client", "Pontual".
    #[schema(example = "the client")]
    label: &'static str,
    /// The client's name when they booked, where it was the client and the provider asks; `null` once they were erased.
    name: Option<String>,
}

/// What one event changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Change {
    /// Of `status`, `start`, `end`, `local_start`, which.
    #[schema(example = "status")]
    field: &'static str,
    /// What it was; `null` before it was booked.
    #[schema(example = "pending")]
    from: Option<String>,
    /// What it is.
    #[schema(example = "confirmed")]
    to: String,
}

/// The circumstances of an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct Audited {
    /// Who asked: `account:<id>`, `system:<name>` or `anonymous`.
    actor: String,
    /// The roles they had then.
    roles: String,
    /// The operation's name.
    #[schema(example = "RescheduleAppointment")]
    operation: String,
    /// The command's id.
    command: String,
    /// The trace of the request.
    trace: String,
    /// From which address; `null` once its person was erased.
    #[schema(value_type = Option<String>)]
    ip: Option<std::net::IpAddr>,
    /// With which program; `null` once its person was erased.
    user_agent: Option<String>,
}

/// One appointment's whole history, the oldest first, for its client, its provider, and auditors.
#[utoipa::path(
    get, path = "/api/appointments/{id}/history", operation_id = "AppointmentHistory", tag = "appointments",
    params(("id" = uuid::Uuid, Path, description = "The appointment"), PageParams),
    responses(
        (status = 200, body = List<HistoryEntry>),
        (status = 422, description = "history-too-long: more happened until then than can be read again"),
        QueryProblems,
    ),
    security(("bearer" = []))
)]
pub async fn history(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Path(id): Path<AppointmentId>,
    paging: Paging,
    origin: RequestOrigin,
    Seen(after): Seen,
) -> Result<Json<List<HistoryEntry>>, Problem> {
    let limit = page_limit(paging.limit)?;
    let from: Option<u64> = paging::decode(LIST, paging.cursor.as_deref())
        .map_err(|error| table_problem(error.into()))?;
    rules::own(&actor)?;
    let present = state.log.load::<Appointment>(id).await.map_err(log_problem)?;
    let booking = present.state.booking.as_ref().ok_or(Kind::NotFound)?;
    let reader = rules::history(&actor, booking)?;
    let partition = state.log.partition_of(id.slot());
    let wanted = Position { partition, number: after.number(partition) };
    let until = head_of(&state, wanted).await?;

    let (mut folded, mut told) = (Folded::default(), Vec::new());
    let (from, most) = (from.unwrap_or_default(), usize::from(limit.get()));
    let stream = [StreamId::of::<Appointment>(id)];
    let read = state.log.replay(&stream, until, |recorded| {
        let before = folded.get(id).map(Facts::of);
        folded.push(&recorded);
        let now = folded.get(id).map(Facts::of);
        if let Some(now) = now.filter(|_| recorded.sequence > from) {
            told.push((recorded, before, now));
        }
        if told.len() > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    read.await.map_err(log_problem)?;
    let row = folded.rows()?.remove(&id).ok_or(Kind::NotFound)?;

    let more = told.len() > most;
    told.truncate(most);
    let next_cursor = told.last().filter(|_| more);
    let next_cursor = next_cursor.map(|(last, ..)| paging::encode(LIST, &last.sequence));
    let mut items = Vec::with_capacity(told.len());
    for (recorded, before, now) in told {
        let Event::Appointment(event) = &recorded.event else { continue };
        // What a side notes for itself is nobody else's business, not even that it did.
        if let AppointmentEvent::AppointmentNoted { by, .. } = event
            && reader != Reader::Party(*by)
        {
            continue;
        }
        let (what, by, reason) = tell(event);
        items.push(HistoryEntry {
            version: recorded.sequence,
            position: recorded.at,
            at: recorded.recorded_at,
            what,
            by: doer(
                by.or_else(|| side_of(&recorded.metadata.actor, booking)),
                reader,
                &row,
                origin.locale,
            ),
            changes: changes(before, now),
            reason: match reader {
                Reader::Party(_) => reason.and_then(Personal::known).map(ToString::to_string),
                Reader::Auditor => None,
            },
            audit: match reader {
                Reader::Auditor => Some(audited(&state, recorded).await?),
                Reader::Party(_) => None,
            },
        });
    }
    Ok(Json(List { items, next_cursor }))
}

/// What an event is called, who did it where the event itself says so, and why it was.
fn tell(event: &AppointmentEvent) -> (&'static str, Option<Side>, Option<&Personal<Note>>) {
    match event {
        AppointmentEvent::AppointmentBooked { by, .. } => ("booked", Some(*by), None),
        AppointmentEvent::AppointmentConfirmed { .. } => ("confirmed", None, None),
        AppointmentEvent::AppointmentDeclined { reason, .. } => ("declined", None, reason.as_ref()),
        AppointmentEvent::AppointmentCancelled { by, reason, .. } => {
            ("cancelled", Some(*by), reason.as_ref())
        }
        AppointmentEvent::AppointmentRescheduled { by, .. } => ("rescheduled", Some(*by), None),
        AppointmentEvent::AppointmentExpired { .. } => ("expired", None, None),
        AppointmentEvent::AppointmentCompleted { .. } => ("completed", None, None),
        AppointmentEvent::AppointmentMissed { .. } => ("missed", None, None),
        AppointmentEvent::AppointmentNoted { by, .. } => ("noted", Some(*by), None),
        AppointmentEvent::GuestErased { .. } => ("guest_erased", Some(Side::Client), None),
    }
}

/// The side of whoever sent a command; `None` for Pontual itself.
fn side_of(actor: &str, booking: &Booking) -> Option<Side> {
    let account = actor.strip_prefix("account:")?.parse::<AccountId>().ok()?;
    booking.side_of(account)
}

/// Who a side is to whoever asks.
fn doer(side: Option<Side>, reader: Reader, row: &AppointmentRow, locale: Locale) -> Doer {
    let you = matches!(reader, Reader::Party(own) if Some(own) == side);
    let (name_of, label) = match side {
        Some(Side::Client) => ("client", locale.pick("o cliente", "the client")),
        Some(Side::Provider) => ("provider", locale.pick("o prestador", "the provider")),
        None => ("pontual", "Pontual"),
    };
    let name = match (reader, side) {
        (Reader::Party(Side::Provider), Some(Side::Client)) => {
            row.contact.as_ref().map(|contact| contact.name.to_string())
        }
        (Reader::Party(_) | Reader::Auditor, _) => None,
    };
    Doer { side: name_of, you, label: if you { locale.pick("você", "you") } else { label }, name }
}

/// What of an appointment its history tells.
#[derive(Clone, Copy)]
struct Facts {
    status: Status,
    slot: Span,
    zone: Zone,
}

impl Facts {
    fn of(row: &AppointmentRow) -> Self {
        Self { status: row.status, slot: row.slot, zone: row.zone }
    }

    fn texts(self) -> [(&'static str, String); 4] {
        let utc = |at: Instant| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let Span { start, end } = self.slot;
        [
            ("status", self.status.as_str().to_owned()),
            ("start", utc(start)),
            ("end", utc(end)),
            ("local_start", local(start, self.zone)),
        ]
    }
}

/// What differs between two states of an appointment.
fn changes(before: Option<Facts>, now: Facts) -> Vec<Change> {
    let before =
        before.map_or([const { None }; 4], |facts| facts.texts().map(|(_, text)| Some(text)));
    let pairs = before.into_iter().zip(now.texts());
    pairs
        .filter(|(from, (_, to))| from.as_ref() != Some(to))
        .map(|(from, (field, to))| Change { field, from, to })
        .collect()
}

async fn audited(state: &QueryState, recorded: Recorded) -> Result<Audited, Problem> {
    let origin = state.log.open_origin(&recorded).await.map_err(log_problem)?;
    let OpenedOrigin { ip, user_agent } = origin.unwrap_or_default();
    let metadata = recorded.metadata;
    Ok(Audited {
        actor: metadata.actor,
        roles: metadata.roles,
        operation: metadata.operation,
        command: metadata.command,
        trace: metadata.trace,
        ip,
        user_agent,
    })
}
