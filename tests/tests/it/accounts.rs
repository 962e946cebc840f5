//! Accounts through real processes: sessions, refresh tokens, passwords, addresses.

use std::collections::HashSet;
use std::time::Duration;

use end_to_end::socket::Socket;
use end_to_end::{Answer, Api, PATIENCE, Person, Pontual, Profile};
use serde_json::{Value, json};
use tokio::time::Instant;

const PASSWORD: &str = "correct horse battery";
const NEW: &str = "another horse battery";
/// Within this time a session that ended is over on every node, open sockets included.
const SOON: Duration = Duration::from_secs(5);

fn text(answer: &Answer, field: &str) -> String {
    answer.body[field].as_str().unwrap_or_else(|| panic!("no {field}: {}", answer.body)).to_owned()
}

async fn login(api: &Api, email: &str, password: &str) -> Answer {
    api.post("/api/auth/login", json!({"email": email, "password": password})).await
}

async fn refresh(api: &Api, token: &str) -> Answer {
    api.post("/api/auth/refresh", json!({"refresh_token": token})).await
}

/// The same caller with another access token.
fn with_token(api: &Api, token: String) -> Api {
    Api { token: Some(token), ..api.clone() }
}

async fn change_password(person: &Person, old: &str, new: &str) -> Answer {
    let body = json!({"old_password": old, "password": new, "password_confirmation": new});
    person.api.put("/api/users/password", body).await
}

/// Waits until an access token is void here; panics if that takes longer than it may.
async fn is_void_soon(api: &Api) {
    let deadline = Instant::now() + SOON;
    while api.get("/api/auth/me").await.status != 401 {
        assert!(Instant::now() < deadline, "the token is still good");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The token of the newest mail to an address whose link begins like this.
async fn token_of(pontual: &Pontual, email: &str, link: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for mail in pontual.mails_to(email) {
            if let Some((_, rest)) = mail.split_once(&format!("{link}#token=")) {
                let known = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
                return rest.chars().take_while(known).collect();
            }
        }
        assert!(Instant::now() < deadline, "no mail with {link} to {email}:\n{}", pontual.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_person_registers_signs_in_refreshes_looks_around_and_signs_out() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let bia = pontual.client("Bia").await;
        let nobody = pontual.nobody();
        let session = login(&nobody, &bia.email, PASSWORD).await.expect(200);
        let position = session.position();
        let refreshed = refresh(&nobody, &text(&session, "refresh_token")).await.expect(200);
        let api = with_token(&nobody, text(&refreshed, "access_token"));

        let me = api.get_after("/api/auth/me", &position).await.expect(200);
        assert_eq!(me.body["email"], bia.email);
        assert_eq!(
            (&me.body["email_confirmed"], &me.body["status"]),
            (&json!(true), &json!("active"))
        );
        let profile = api.get("/api/users/profile").await.expect(200);
        assert_eq!(profile.body, me.body);
        let path = format!("/api/users/{}", bia.account);
        assert_eq!(api.get(&path).await.expect(200).body, me.body);
        let stranger = pontual.client("Eva").await;
        assert_eq!(stranger.api.get(&path).await.expect(403).problem(), "forbidden");

        let sessions = api.get_after("/api/auth/sessions", &position).await.expect(200);
        let items = sessions.body["items"].as_array().unwrap();
        assert_eq!(items.len(), 2, "{items:?}");
        assert_eq!(items[0]["id"], session.body["session_id"]);
        assert_eq!((&items[0]["current"], &items[1]["current"]), (&json!(true), &json!(false)));
        assert_eq!(items[0]["ip"], "127.0.0.1");

        let change = json!({"name": "Bia Lima", "locale": "pt-BR", "time_zone": "America/Recife"});
        let changed = api.put("/api/users/profile", change).await.expect(200);
        let me = api.get_after("/api/auth/me", &changed.position()).await.expect(200);
        assert_eq!((&me.body["name"], &me.body["phone"]), (&json!("Bia Lima"), &Value::Null));
        assert_eq!(me.body["time_zone"], "America/Recife");

        let out = api.post("/api/auth/logout", json!({})).await.expect(204);
        assert_eq!(api.get("/api/auth/me").await.expect(401).problem(), "invalid-token");
        let gone = refresh(&nobody, &text(&refreshed, "refresh_token")).await.expect(401);
        assert_eq!(gone.problem(), "session-ended");
        let left = bia.api.get_after("/api/auth/sessions", &out.position()).await.expect(200);
        assert_eq!(left.body["items"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_hundred_refreshes_of_one_token_at_once_get_one_successor() {
    let mut pontual = Pontual::start(Profile::SingleNode).await;
    let second = pontual.spawn(&["serve"]).await;
    let bia = pontual.client("Bia").await;
    let nobody = pontual.nobody();
    let token = text(&login(&nobody, &bia.email, PASSWORD).await.expect(200), "refresh_token");
    let racers = (0..100).map(|n| {
        let api = if n % 2 == 0 { nobody.clone() } else { nobody.at(&second) };
        let token = token.clone();
        tokio::spawn(async move { text(&refresh(&api, &token).await.expect(200), "refresh_token") })
    });
    let mut successors = HashSet::new();
    for racer in racers.collect::<Vec<_>>() {
        successors.insert(racer.await.unwrap());
    }
    assert_eq!(successors.len(), 1);
    let successor = successors.into_iter().next().unwrap();
    let third = text(&refresh(&nobody, &successor).await.expect(200), "refresh_token");
    // The first is not the predecessor of the third: two have this session, and it ends.
    assert_eq!(refresh(&nobody, &token).await.expect(401).problem(), "session-ended");
    assert_eq!(refresh(&nobody.at(&second), &third).await.expect(401).problem(), "session-ended");
    bia.api.get("/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn a_changed_password_ends_every_session_on_every_process_and_its_sockets() {
    for profile in Profile::ALL {
        let mut pontual = Pontual::start(profile).await;
        let second = pontual.spawn(&["serve"]).await;
        let bia = pontual.client("Bia").await;
        let eva = pontual.client("Eva").await;
        let mut there = bia.clone();
        there.api = bia.api.at(&second);
        there.api.get("/api/auth/me").await.expect(200);
        let mut near = Socket::of(&bia).await;
        let mut far = Socket::of(&there).await;
        let mut others = Socket::of(&Person { api: eva.api.at(&second), ..eva.clone() }).await;

        let began = Instant::now();
        let changed = change_password(&bia, PASSWORD, NEW).await.expect(200);
        is_void_soon(&there.api).await;
        assert_eq!(bia.api.get("/api/auth/me").await.status, 401);
        assert_eq!(near.closed().await, Some(4001));
        assert_eq!(far.closed().await, Some(4001));
        assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
        assert!(others.is_silent(Duration::from_millis(100)).await, "others stay");

        with_token(&there.api, text(&changed, "access_token"))
            .get("/api/auth/me")
            .await
            .expect(200);
        login(&there.api, &bia.email, PASSWORD).await.expect(401);
        login(&there.api, &bia.email, NEW).await.expect(200);
        // A process that starts later knows it, too.
        let third = pontual.spawn(&["query-api"]).await;
        bia.api.at(&third).get("/api/auth/me").await.expect(401);
    }
}

#[tokio::test]
async fn a_forgotten_password_is_set_anew_by_the_mails_link_once() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let bia = pontual.client("Bia").await;
    let nobody = pontual.nobody();
    let forgot = |email: String| {
        let nobody = nobody.clone();
        async move { nobody.post("/api/auth/forgot", json!({"email": email})).await.expect(202) }
    };
    let known = forgot(bia.email.clone()).await;
    let unknown = forgot("nobody.at.all@example.com".to_owned()).await;
    assert_eq!(known.body, unknown.body);
    let token = token_of(&pontual, &bia.email, "/reset-password").await;
    let reset = |token: &str, password: &str| {
        let body = json!({"token": token, "password": password, "password_confirmation": password});
        let nobody = nobody.clone();
        async move { nobody.post("/api/auth/reset", body).await }
    };
    reset(&token, NEW).await.expect(204);
    is_void_soon(&bia.api).await;
    assert_eq!(reset(&token, PASSWORD).await.expect(422).problem(), "invalid-link");
    login(&nobody, &bia.email, PASSWORD).await.expect(401);
    login(&nobody, &bia.email, NEW).await.expect(200);
}

#[tokio::test]
async fn a_changed_address_is_confirmed_anew_and_the_old_one_is_told() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let bia = pontual.client("Bia").await;
    let nobody = pontual.nobody();
    nobody.post("/api/auth/forgot", json!({"email": bia.email})).await.expect(202);
    let reset = token_of(&pontual, &bia.email, "/reset-password").await;
    let new = format!("new.{}", bia.email);
    let ask = json!({"email": new, "password": PASSWORD});
    bia.api.put("/api/users/email", ask).await.expect(202);
    let link = token_of(&pontual, &new, "/confirm-email-change").await;
    login(&nobody, &new, PASSWORD).await.expect(401);
    let mails = pontual.mails_to(&bia.email).len();
    let confirm = nobody.post("/api/auth/confirm-email-change", json!({"token": link})).await;
    let confirmed = confirm.expect(200);
    let me = bia.api.get_after("/api/auth/me", &confirmed.position()).await.expect(200);
    assert_eq!((&me.body["email"], &me.body["pending_email"]), (&json!(new), &Value::Null));
    login(&nobody, &new, PASSWORD).await.expect(200);
    login(&nobody, &bia.email, PASSWORD).await.expect(401);
    let body = json!({"token": reset, "password": NEW, "password_confirmation": NEW});
    assert_eq!(nobody.post("/api/auth/reset", body).await.expect(422).problem(), "invalid-link");
    let deadline = Instant::now() + PATIENCE;
    while pontual.mails_to(&bia.email).len() == mails {
        assert!(Instant::now() < deadline, "the old address was not told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_cookie_refreshes_with_its_csrf_header_and_never_without() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let bia = pontual.client("Bia").await;
    let nobody = pontual.nobody();
    let body = json!({"email": bia.email, "password": PASSWORD, "cookie": true});
    let session = nobody.post("/api/auth/login", body).await.expect(200);
    assert!(session.body.get("refresh_token").is_none());
    let pairs: Vec<String> = session
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|value| value.to_str().unwrap().split(';').next().unwrap().to_owned())
        .collect();
    let cookie = pairs.join("; ");
    let csrf = session.header("pontual-csrf").unwrap().to_owned();
    let ask = |path| nobody.request("POST", path).header("cookie", &cookie);
    let refused = nobody.send(ask("/api/auth/refresh")).await.expect(403);
    assert_eq!(refused.problem(), "csrf-failed");
    let evil = ask("/api/auth/refresh").header("pontual-csrf", &csrf);
    nobody.send(evil.header("origin", "https://evil.example")).await.expect(403);
    let ours = ask("/api/auth/refresh").header("pontual-csrf", &csrf);
    let next = nobody.send(ours.header("origin", "http://pontual.localhost")).await.expect(200);
    let api = with_token(&nobody, text(&next, "access_token"));
    api.get("/api/auth/me").await.expect(200);
}
