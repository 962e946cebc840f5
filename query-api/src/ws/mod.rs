//! `/ws`: the plain websocket (K6). See [`protocol`] for what travels over it.

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::{IntoResponse, Response};
use domain::Refusal;
use http::HeaderMap;
use http_kit::{Kind, Problem};

mod budget;
mod changes;
pub mod hub;
mod notifications;
pub mod protocol;
mod session;

pub use session::Identity;

use crate::QueryState;
use session::Session;

/// The longest message a client may send.
const MAX_MESSAGE: usize = 16 * 1024;
/// A socket's buffers: axum's defaults cost 134 KB a socket (design.md §9).
const READ_BUFFER: usize = 4 * 1024;
const WRITE_BUFFER: usize = 0;
const MAX_WRITE_BUFFER: usize = 256 * 1024;

/// Opens a websocket. A bearer header authenticates it at once; browsers, which cannot send one, send
/// `authenticate` as their first message. Tokens in the URL are not read: URLs end up in logs.
pub async fn open(
    State(state): State<QueryState>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Problem::of_status(rejection.status()).into_response(),
    };
    let identity = match state.verifier.of_headers(&headers) {
        Ok(verified) => verified.map(|verified| Identity::of(&verified)),
        Err(invalid) => return Problem::from(invalid).into_response(),
    };
    let Some(mut seat) = state.hub.enter() else {
        return Problem::from(Kind::Busy).retry_after(5).into_response();
    };
    if identity.is_some_and(|identity| !seat.belongs_to(identity.account)) {
        let full = Refusal::LimitReached { what: "sockets", limit: hub::MOST_PER_ACCOUNT };
        return Problem::from(full).into_response();
    }
    upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .on_upgrade(move |socket| Session::run(state, socket, seat, identity))
}
