//! The OpenAPI document of both APIs, and the page to try it.

use axum::Router;
use axum::middleware::map_response;
use axum::response::{Redirect, Response};
use axum::routing::get;
use http::HeaderValue;
use http::header::CONTENT_SECURITY_POLICY;
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

/// What the page may load: its own scripts and styles, the images inside its style sheet, and the API. All its
/// scripts are files; the styles it writes into elements are why `style-src` is wider than the rest.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

/// `/openapi.json` and `/docs`. The front's own policy, which lets nothing load, is for answers of the API.
pub fn pages() -> Router {
    let config = Config::default()
        .try_it_out_enabled(true)
        .display_request_duration(true)
        // Whether the document is valid is nobody else's business.
        .validator_url("none");
    let page: Router =
        SwaggerUi::new("/docs").url("/openapi.json", document()).config(config).into();
    let page = page.route_layer(map_response(|mut response: Response| async {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, PAGE_POLICY);
        response
    }));
    Router::new().route("/", get(|| async { Redirect::temporary("/docs/") })).merge(page)
}
