//! Marking notifications as read.

use axum::extract::State;
use axum::response::IntoResponse;
use domain::Refusal;
use domain::event::Event;
use domain::ids::AccountId;
use domain::notification_feed::{MarkAllNotificationsRead, MarkNotificationRead};
use domain::position::Position;
use event_log::EventLog;
use http::StatusCode;
use http_kit::auth::SignedIn;
use http_kit::extract::{Path, Submission};
use http_kit::problem::CommandProblems;
use http_kit::{Kind, Problem};
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
    let account = actor.account().ok_or(Kind::SignInRequired)?;
    if !concerns(api.log(), notification, account).await? {
        return Err(Refusal::NotFound("notification").into());
    }
    let (_, receipt) = api.execute(actor, sent, MarkNotificationRead { notification }).await?;
    Ok((StatusCode::NO_CONTENT, receipt, ()))
}

/// Whether the event a notification is named by is there, and concerns this account. What the log has not written yet
/// cannot be read: a mark must not lie in wait for it.
async fn concerns(log: &EventLog, at: Position, account: AccountId) -> Result<bool, Problem> {
    let Some(before) = at.number.checked_sub(1) else { return Ok(false) };
    if at.partition.0 >= log.partitions().get() {
        return Ok(false);
    }
    let found = log.tail(at.partition, before, 1).await.map_err(|error| unreadable(&error))?;
    let parties = match found.first().map(|recorded| &recorded.event) {
        Some(Event::Appointment(event)) => event.parties(),
        Some(
            Event::Account(_)
            | Event::Session(_)
            | Event::Provider(_)
            | Event::Agenda(_)
            | Event::NotificationFeed(_),
        )
        | None => return Ok(false),
    };
    Ok([parties.client, parties.provider_account].contains(&account))
}

/// Mark all of one's notifications as read.
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
    let (_, receipt) = api.execute(actor, sent, MarkAllNotificationsRead).await?;
    Ok((StatusCode::NO_CONTENT, receipt, ()))
}
