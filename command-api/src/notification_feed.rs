//! Marking notifications as read.

use axum::extract::State;
use axum::response::IntoResponse;
use domain::Refusal;
use domain::notification_feed::{MarkAllNotificationsRead, MarkNotificationRead};
use domain::position::Position;
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
    // What the log has not written yet cannot be read: a mark must not lie in wait for it.
    let known = notification.partition.0 < api.log().partitions().get() && notification.number > 0;
    let there = known && {
        let head = api.log().head(notification.partition).await;
        notification.number <= head.map_err(|error| unreadable(&error))?
    };
    if !there {
        return Err(Refusal::NotFound("notification").into());
    }
    let (_, receipt) = api.execute(actor, sent, MarkNotificationRead { notification }).await?;
    Ok((StatusCode::NO_CONTENT, receipt, ()))
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
