//! The OpenAPI document of both APIs, and the page to try it.

use axum::Router;
use axum::middleware::map_response;
use axum::response::{Redirect, Response};
use axum::routing::get;
use http::{HeaderName, HeaderValue, header};
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

/// `/openapi.json` and `/docs`. The front's own policy, which lets nothing load, is for answers of the API.
pub fn pages() -> Router {
    let page = SwaggerUi::new("/docs").url("/openapi.json", document()).config(
        Config::default()
            .try_it_out_enabled(true)
            .display_request_duration(true)
            // Whether the document is valid is nobody else's business.
            .validator_url("none"),
    );
    let pages = Router::new().route("/", get(|| async { Redirect::temporary("/docs/") }));
    pages.merge(page).layer(map_response(hardened))
}

/// A page runs its own scripts and nobody else's (K23); what an API answers with would forbid it even those.
async fn hardened(mut response: Response) -> Response {
    const ALL: [(HeaderName, HeaderValue); 2] = [
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; \
                 frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
            ),
        ),
        (
            HeaderName::from_static("cross-origin-embedder-policy"),
            HeaderValue::from_static("require-corp"),
        ),
    ];
    response.headers_mut().extend(ALL);
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_kit::front::Front;
    use http_kit::limits::Limits;
    use tower::ServiceExt as _;

    use super::*;

    #[test]
    fn no_slug_hides_behind_a_path_that_stands_beside_it() {
        for path in document().paths.paths.keys() {
            let Some(rest) = path.strip_prefix("/api/providers/") else { continue };
            let beside = rest.split('/').next().unwrap_or_default();
            let reserved = domain::text::RESERVED_SLUGS.contains(&beside);
            assert!(beside.starts_with('{') || reserved, "reserve {beside} in domain/src/text.rs");
        }
    }

    #[tokio::test]
    async fn our_own_pages_may_run_their_scripts_and_are_hardened_otherwise() {
        let app = Front::new(Limits::off()).before(pages());
        let request = Request::get("/docs/").body(Body::empty()).unwrap();
        let response = app.oneshot(request).await.unwrap();
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(response.status(), 200);
        assert!(header("content-security-policy").starts_with("default-src 'self'"));
        assert!(header("content-security-policy").contains("frame-ancestors 'none'"));
        assert_eq!(header("cross-origin-embedder-policy"), "require-corp");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin");
        let policies = response.headers().get_all("content-security-policy").iter().count();
        assert_eq!(policies, 1, "two would both hold");
    }
}
