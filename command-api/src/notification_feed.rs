//! Marking notifications as read.

use axum::extract::State;
use axum::response::IntoResponse;
use domain::appointment::Parties;
use domain::event::Event;
use domain::notification_feed::{MarkAllNotificationsRead, MarkNotificationRead};
use domain::position::Position;
use event_log::EventLog;
use http::StatusCode;
use http_kit::Problem;
use http_kit::auth::SignedIn;
use http_kit::extract::{Path, Submission};
use http_kit::problem::CommandProblems;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{CommandState, unreadable};

pub(crate) fn routes() -> OpenApiRouter<CommandState> {
    OpenApiRouter::new().routes(routes!(mark)).routes(routes!(mark_all))
}

/// Mark one of one's notifications as read.
#[utoipa::path(
    post, path = "/api/notifications/{id}/read", operation_id = "MarkNotificationRead",
    tag = "notifications", security(("bearer" = [])),
    params(
        ("id" = String, Path, description = "The notification's id", example = "3:1042"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
    ),
    responses((status = 204), CommandProblems),
)]
async fn mark(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(notification): Path<Position>,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    let concerns = concerned(api.log(), notification).await?;
    let command = MarkNotificationRead { notification, concerns };
    let (_, receipt) = api.execute(actor, sent, command).await?;
    Ok((StatusCode::NO_CONTENT, receipt, ()))
}

/// Whom the event that a notification is named by concerns, if there is such an event.
async fn concerned(log: &EventLog, at: Position) -> Result<Option<Parties>, Problem> {
    let Some(before) = at.number.checked_sub(1) else { return Ok(None) };
    if at.partition.0 >= log.partitions().get() {
        return Ok(None);
    }
    let found = log.tail(at.partition, before, 1).await.map_err(|error| unreadable(&error))?;
    Ok(match found.first().map(|recorded| &recorded.event) {
        Some(Event::Appointment(event)) => Some(event.parties()),
        Some(Event::Series(event)) => Some(event.parties()),
        Some(Event::Waitlist(event)) => event.offered_to(),
        Some(
            Event::Account(_)
            | Event::Session(_)
            | Event::Provider(_)
            | Event::Agenda(_)
            | Event::NotificationFeed(_)
            | Event::Category(_)
            | Event::Hold(_),
        )
        | None => None,
    })
}

/// Mark all of one's notifications as read.
///
/// Those that the log had when it was asked for; what arrives meanwhile stays unread.
#[utoipa::path(
    post, path = "/api/notifications/read-all", operation_id = "MarkAllNotificationsRead",
    tag = "notifications", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 204), CommandProblems),
)]
async fn mark_all(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    let until = api.log().recorded_until().await.map_err(|error| unreadable(&error))?;
    let (_, receipt) = api.execute(actor, sent, MarkAllNotificationsRead { until }).await?;
    Ok((StatusCode::NO_CONTENT, receipt, ()))
}
