//! The OpenAPI document of both APIs, and the page to try it.

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// The whole document: the command API's, with the queries added.
pub fn document() -> OpenApi {
    let mut document = command_api::openapi();
    document.merge(query_api::openapi());
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    document.info.description = Some(
        "Commands change something and answer with `Pontual-Position`; a query that sends it back as \
         `Pontual-After` sees what was changed. Every command takes an `Idempotency-Key`. Failures are \
         problem documents (RFC 9457). Pushes: the websocket at `/ws`."
            .to_owned(),
    );
    document
}

/// `/openapi.json` and `/docs`.
pub fn pages() -> Router {
    let page = SwaggerUi::new("/docs")
        .url("/openapi.json", document())
        .config(Config::default().try_it_out_enabled(true).display_request_duration(true));
    Router::new().route("/", get(|| async { Redirect::temporary("/docs/") })).merge(page)
}
