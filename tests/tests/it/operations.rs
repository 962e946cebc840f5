//! What the operator sees: health, metrics, doctor, OpenAPI, a graceful stop.

use end_to_end::{Pontual, Profile};

#[tokio::test]
async fn sigterm_stops_it_gracefully_and_a_restart_finds_everything() {
    let mut pontual = Pontual::start(Profile::SingleNode).await;
    let ana = pontual.provider("Ana").await;
    assert!(pontual.stop(0).await.success());
    pontual.url = pontual.spawn(&["serve"]).await;
    let found = pontual
        .nobody()
        .get_after(&format!("/api/providers/{}", ana.slug), &ana.position)
        .await
        .expect(200);
    assert_eq!(found.body["id"], ana.id);
}

#[tokio::test]
async fn the_api_describes_itself_and_shows_a_page_to_try_it() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let nobody = pontual.nobody();
    let document = nobody.get("/openapi.json").await.expect(200);
    assert_eq!(document.body["openapi"], "3.1.0");
    for operation in ["BookAppointment", "RegisterAccount", "OpenProvider", "AvailableTimes"] {
        assert!(
            document.body.to_string().contains(&format!("\"operationId\":\"{operation}\"")),
            "{operation}"
        );
    }
    let page = nobody.get("/docs/").await.expect(200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'self'"), "the page may load its own scripts: {policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    for part in ["swagger-ui-bundle.js", "swagger-initializer.js", "swagger-ui.css"] {
        nobody.get(&format!("/docs/{part}")).await.expect(200);
    }
    let policy = document.header("content-security-policy").unwrap();
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    nobody.get("/health/live").await.expect(200);
    nobody.get("/.well-known/jwks.json").await.expect(200);
}

#[tokio::test]
async fn logs_hold_no_personal_data_and_no_secrets() {
    let pontual = Pontual::start_with(Profile::SingleNode, 4, &[("PONTUAL_LOG", "debug")]).await;
    let ana = pontual.provider("Ana").await;
    let bia = pontual.client("Bia").await;
    bia.book(&ana, &end_to_end::in_days(3, "12:00:00Z")).await.expect(201);
    let log = pontual.log();
    for secret in
        [bia.email.as_str(), "Bia Test", "correct horse", bia.api.token.as_deref().unwrap()]
    {
        assert!(!log.contains(secret), "the log holds {secret}");
    }
}
