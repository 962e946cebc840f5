//! The signed-in account's notifications.

use axum::extract::State;
use domain::Instant;
use domain::ids::{AppointmentId, HoldId, ProviderId};
use domain::position::Position;
use http_kit::Problem;
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Query};
use http_kit::paging::{List, Paging};
use http_kit::problem::QueryProblems;
use read_models::notifications::{FeedError, Filter, Notification, NotificationKind};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::freshness::Seen;
use crate::{QueryState, page_limit, rules};

/// A notification, as its recipient sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct NotificationBody {
    /// Its id: the position of the event it is of.
    #[schema(value_type = String, example = "3:18")]
    id: Position,
    /// What it is about.
    #[schema(value_type = String, example = "new_booking")]
    kind: NotificationKind,
    /// Which appointment; `null` for an offer.
    #[schema(value_type = Option<uuid::Uuid>)]
    appointment_id: Option<AppointmentId>,
    /// Of a `waitlist_offer`: the hold to book with.
    #[schema(value_type = Option<uuid::Uuid>)]
    hold_id: Option<HoldId>,
    /// With which provider.
    #[schema(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// The other side's name; `null` once erased.
    other_party: Option<String>,
    /// What was booked; `null` once the shop's owner was erased.
    service_name: Option<String>,
    /// When the appointment is, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    start: Instant,
    /// When it was, if it was moved.
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    previous_start: Option<Instant>,
    /// The provider's IANA time zone.
    #[schema(example = "America/Sao_Paulo")]
    time_zone: &'static str,
    /// Whether its recipient has read it.
    read: bool,
    /// When it happened.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: Instant,
}

impl From<&Notification> for NotificationBody {
    fn from(notification: &Notification) -> Self {
        let content = &notification.content;
        Self {
            id: content.at,
            kind: content.kind,
            appointment_id: content.appointment,
            hold_id: content.hold,
            provider_id: content.provider,
            other_party: content.other_name.as_ref().map(|name| name.as_str().to_owned()),
            service_name: content.service_name.as_ref().map(ToString::to_string),
            start: content.start,
            previous_start: content.old_start,
            time_zone: content.zone.name(),
            read: notification.read,
            created_at: content.recorded_at,
        }
    }
}

/// Which notifications.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    /// `all`, or only the `unread`.
    #[serde(default)]
    #[param(inline, default = "all")]
    status: ReadStatus,
    /// How many items, 1 to 100; 20 unless given.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// All, or the unread ones.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadStatus {
    /// All of them.
    #[default]
    All,
    /// Those not marked as read.
    Unread,
}

/// How many notifications there are.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountsBody {
    /// Not marked as read; 1000 is a thousand or more.
    unread: u64,
    /// All of them; 1000 is a thousand or more.
    total: u64,
}

/// One's own notifications, the latest first (`S0-15`).
#[utoipa::path(
    get, path = "/api/notifications", operation_id = "ListNotifications", tag = "notifications",
    params(ListParams),
    responses((status = 200, body = List<NotificationBody>), QueryProblems), security(("bearer" = []))
)]
pub async fn list_notifications(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Query(params): Query<ListParams>,
    Seen(after): Seen,
) -> Result<Json<List<NotificationBody>>, Problem> {
    let account = rules::own(&actor)?;
    let paging = Paging::new(params.limit, params.cursor)?;
    let limit = page_limit(paging.limit)?;
    state.feed_after(&after).await?;
    let filter = match params.status {
        ReadStatus::All => Filter::All,
        ReadStatus::Unread => Filter::Unread,
    };
    let page = state.feed.list(account, filter, paging.cursor.as_deref(), limit).await;
    let page = page.map_err(feed_problem)?;
    let items = page.items.iter().map(NotificationBody::from).collect();
    Ok(Json(List { items, next_cursor: page.next_cursor }))
}

/// How many of one's own notifications there are, and how many are unread.
#[utoipa::path(
    get, path = "/api/notifications/counts", operation_id = "NotificationCounts", tag = "notifications",
    responses((status = 200, body = CountsBody), QueryProblems), security(("bearer" = []))
)]
pub async fn notification_counts(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Seen(after): Seen,
) -> Result<Json<CountsBody>, Problem> {
    let account = rules::own(&actor)?;
    state.feed_after(&after).await?;
    let counts = state.feed.counts(account).await.map_err(feed_problem)?;
    Ok(Json(CountsBody { unread: counts.unread, total: counts.total }))
}

pub(crate) fn feed_problem(error: FeedError) -> Problem {
    match error {
        FeedError::Cursor(_) => http_kit::paging::wrong_cursor(),
        error @ FeedError::Corrupt { .. } => Problem::internal(&error),
        error @ (FeedError::Unavailable(_) | FeedError::Refused { .. } | FeedError::Gap { .. }) => {
            Problem::unavailable(&error)
        }
    }
}
