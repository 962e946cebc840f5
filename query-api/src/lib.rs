//! Routes that read: one file per resource, and the websocket.
//!
//! A handler is: extract, wait until what it reads has caught up with `Pontual-After`, read, apply the rule
//! of `rules`, respond. For example `GET /api/appointments/{id}` with `Pontual-After: 3:18` waits until the
//! read tables have applied 3:18, reads the row, and gives it to its two parties only.
//!
//! Nothing here writes but caches. A crash loses open sockets, which resume.

use std::sync::Arc;

use axum::extract::FromRef;
use axum::routing::get;
use event_log::EventLog;
use http_kit::auth::Verifier;
use http_kit::files::Files;
use http_kit::{Kind, Problem};
use read_models::availability::AvailabilityCache;
use read_models::fanout::Fanout;
use read_models::freshness::TablesFreshness;
use read_models::notifications::NotificationFeed;
use read_models::paging::PageLimit;
use read_models::table::TableError;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub mod accounts;
pub mod accounts_export;
pub mod appointments;
mod as_of;
pub mod audit;
pub mod availability;
mod cached_lists;
pub mod calendar;
mod catalogue;
pub mod categories;
pub mod dashboard;
pub mod erasures;
pub mod files;
mod freshness;
pub mod history;
pub mod holds;
pub mod hours;
pub mod notifications;
pub mod provider_page;
pub mod providers;
mod rules;
pub mod series;
pub mod services;
pub mod sessions;
pub mod slots;
pub mod waitlist;
pub mod ws;

/// The projector that feeds the notification feed; what it has parked is never caught up with.
const PROJECTOR_OF_FEED: &str = "notifications";
/// The projector that feeds the audit trail.
const PROJECTOR_OF_AUDIT: &str = "audit";
/// The projector that feeds the read tables.
const PROJECTOR_OF_TABLES: &str = "read-tables";

/// What the query side reads from.
#[derive(Clone)]
pub struct QueryState {
    /// The log, for what a cache does not hold.
    pub log: EventLog,
    /// How fresh the read tables are.
    pub tables: TablesFreshness,
    /// Taken intervals, schedules and cached lists.
    pub availability: Arc<dyn AvailabilityCache>,
    /// Notifications.
    pub feed: Arc<dyn NotificationFeed>,
    /// Photos; without a store none is found.
    pub files: Option<Files>,
    /// Verifies access tokens.
    pub verifier: Verifier,
    /// The open sockets.
    pub hub: Arc<ws::hub::Hub>,
    /// Free slots and days, as they were just answered.
    answers: Arc<availability::Answers>,
    /// What was made of the catalogue.
    catalogue: Arc<catalogue::Answers>,
    /// Cancelled when the server stops.
    pub stop: CancellationToken,
}

impl QueryState {
    /// A query side that listens to this fan-out, for at most so many sockets.
    #[expect(clippy::too_many_arguments, reason = "each is one part of the query side")]
    pub fn new(
        log: EventLog,
        tables: TablesFreshness,
        availability: Arc<dyn AvailabilityCache>,
        feed: Arc<dyn NotificationFeed>,
        verifier: Verifier,
        fanout: &dyn Fanout,
        sockets: usize,
        stop: CancellationToken,
    ) -> Self {
        let hub = ws::hub::Hub::new(sockets);
        hub.listen(fanout);
        let (answers, catalogue) = (Arc::default(), Arc::default());
        let files = None;
        Self { log, tables, availability, feed, files, verifier, hub, answers, catalogue, stop }
    }

    /// With a store of files.
    #[must_use]
    pub fn with_files(mut self, files: Files) -> Self {
        self.files = Some(files);
        self
    }

    /// Whose an access token is, if it is good.
    pub fn identify(&self, token: &str) -> Option<ws::Identity> {
        self.verifier.verify(token).ok().map(|verified| ws::Identity::of(&verified))
    }
}

impl FromRef<QueryState> for Verifier {
    fn from_ref(state: &QueryState) -> Self {
        state.verifier.clone()
    }
}

/// All routes that read, and their part of the OpenAPI document.
pub fn router(state: QueryState) -> (axum::Router, utoipa::openapi::OpenApi) {
    let (router, document) = routes().split_for_parts();
    (router.route("/ws", get(ws::open)).with_state(state), document)
}

/// The description alone.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes().into_openapi()
}

fn routes() -> OpenApiRouter<QueryState> {
    OpenApiRouter::new()
        .routes(routes!(accounts::me))
        .routes(routes!(accounts::own_account))
        .routes(routes!(accounts_export::export))
        .routes(routes!(accounts::account))
        .routes(routes!(erasures::erasure))
        .routes(routes!(sessions::list_sessions))
        .routes(routes!(accounts::json_web_keys))
        .routes(routes!(providers::list_providers))
        .routes(routes!(providers::own_profile))
        .routes(routes!(dashboard::dashboard))
        .routes(routes!(providers::provider_by_slug))
        .routes(routes!(provider_page::provider_page))
        .routes(routes!(categories::list_categories))
        .routes(routes!(categories::category))
        .routes(routes!(availability::available_days))
        .routes(routes!(availability::available_times))
        .routes(routes!(slots::available_slots))
        .routes(routes!(slots::why))
        .routes(routes!(hours::time_off))
        .routes(routes!(services::provider_services))
        .routes(routes!(services::own_services))
        .routes(routes!(services::service))
        .routes(routes!(appointments::appointment))
        .routes(routes!(hours::outside_hours))
        .routes(routes!(holds::hold))
        .routes(routes!(appointments::own_appointments))
        .routes(routes!(appointments::guest_appointment))
        .routes(routes!(appointments::provider_day))
        .routes(routes!(series::series))
        .routes(routes!(waitlist::own_waits))
        .routes(routes!(waitlist::length))
        .routes(routes!(calendar::calendar))
        .routes(routes!(history::history))
        .routes(routes!(audit::audit_trail))
        .routes(routes!(files::photo))
        .routes(routes!(notifications::list_notifications))
        .routes(routes!(notifications::notification_counts))
}

/// A table that cannot be read, as a problem.
fn table_problem(error: TableError) -> Problem {
    match error {
        TableError::Cursor(_) => http_kit::paging::wrong_cursor(),
        error @ TableError::Database { .. } => Problem::unavailable(&error),
        error @ (TableError::Corrupt { .. } | TableError::NoRow { .. }) => {
            Problem::internal(&error)
        }
    }
}

/// A page's limit, already checked at the edge.
fn page_limit(limit: u16) -> Result<PageLimit, Problem> {
    PageLimit::new(limit).map_err(|_| Kind::InvalidQuery.into())
}
