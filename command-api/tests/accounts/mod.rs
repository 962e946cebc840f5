//! Accounts, as a person, a front end and an attacker would try them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use domain::account::{Account, RegisterAdmin, ResetKey};
use domain::actor::Actor;
use domain::command::{SecretKey, SecretKind};
use domain::ids::{AccountId, Id};
use domain::locale::Locale;
use event_log::{Executor, Origin};
use http::StatusCode;
use http_kit::links::{EMAIL_CHANGE, change_token, reset_token};
use serde_json::{Value, json};

use crate::common::{self, Answer, Api, bearer};

const EVA: &str = "eva@example.com";
const OLD: &str = "correct horse";
const NEW: &str = "another horse";

fn text<'a>(answer: &'a Answer, field: &str) -> &'a str {
    answer.body[field].as_str().unwrap_or_else(|| panic!("no {field}: {}", answer.body))
}

async fn login(api: &Api, email: &str, password: &str) -> Answer {
    api.post("/api/auth/login", None, json!({"email": email, "password": password})).await
}

/// Signs in somebody who is registered: their access token and refresh token.
async fn signed_in(api: &Api, email: &str) -> (String, String) {
    let answer = login(api, email, OLD).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    (text(&answer, "access_token").to_owned(), text(&answer, "refresh_token").to_owned())
}

async fn refresh(api: &Api, token: &str) -> Answer {
    api.post("/api/auth/refresh", None, json!({"refresh_token": token})).await
}

/// Something only a signed-in account may ask for, and that changes nothing.
async fn may(api: &Api, token: &str) -> StatusCode {
    let path = format!("/api/auth/sessions/{}", common::an_id());
    api.delete(&path, Some(token)).await.status
}

async fn account(api: &Api, email: &str) -> (AccountId, std::sync::Arc<Account>) {
    let id: AccountId = api.account(email).await.parse().unwrap();
    (id, api.log.load::<Account>(id).await.unwrap().state)
}

/// The token of the mail that resets a password.
async fn reset_mail(api: &Api, email: &str) -> String {
    let answer = api.post("/api/auth/forgot", None, json!({"email": email})).await;
    assert_eq!(
        (answer.status, &answer.body),
        (StatusCode::ACCEPTED, &json!({"status": "accepted"}))
    );
    let (id, account) = account(api, email).await;
    let key = ResetKey::new(api.log.derive_key(ResetKey::LABEL));
    reset_token(&key, id, account.pending_reset.expect("a mail was ordered").reset)
}

async fn reset(api: &Api, token: &str, password: &str) -> Answer {
    let body = json!({"token": token, "password": password, "password_confirmation": password});
    api.post("/api/auth/reset", None, body).await
}

async fn change_password(api: &Api, token: &str, old: &str, new: &str) -> Answer {
    let body = json!({"old_password": old, "password": new, "password_confirmation": new});
    api.put("/api/users/password", Some(token), body).await
}

fn wrong_field(answer: &Answer, pointer: &str) {
    answer.is(422, "invalid-input");
    assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{}", answer.body);
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_reuse_ends_the_family() {
    let api = Api::start().await;
    api.client(EVA).await;
    let (access, first) = signed_in(&api, EVA).await;
    let second = refresh(&api, &first).await;
    assert_eq!(second.status, StatusCode::OK, "{}", second.body);
    assert_eq!(second.body["expires_in"], 900);
    let second = text(&second, "refresh_token").to_owned();
    assert_ne!(first, second);
    // An answer was lost: the same one again, for half a minute.
    api.clock.advance(TimeDelta::seconds(29));
    assert_eq!(text(&refresh(&api, &first).await, "refresh_token"), second);
    let third = refresh(&api, &second).await;
    let third = text(&third, "refresh_token").to_owned();
    assert_eq!(may(&api, &access).await, StatusCode::NOT_FOUND, "signed in");

    let other = signed_in(&api, EVA).await.1;
    refresh(&api, &first).await.is(401, "session-ended");
    refresh(&api, &third).await.is(401, "session-ended");
    assert_eq!(may(&api, &access).await, StatusCode::UNAUTHORIZED, "its access token is void");
    assert_eq!(refresh(&api, &other).await.status, StatusCode::OK, "other sessions go on");
}

#[tokio::test]
async fn what_is_no_refresh_token_of_ours_ends_nothing() {
    let api = Api::start().await;
    api.client(EVA).await;
    let (access, good) = signed_in(&api, EVA).await;
    let mut flipped = good.clone().into_bytes();
    flipped[60] = if flipped[60] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    for forged in ["", "x", "ptr_", &good[..70], &format!("{good}A"), &flipped, &access] {
        refresh(&api, forged).await.is(401, "session-ended");
    }
    api.post("/api/auth/refresh", None, json!({})).await.is(401, "sign-in-required");
    api.post("/api/auth/refresh", None, json!({"refresh_token": 7})).await.is(422, "invalid-input");
    assert_eq!(refresh(&api, &good).await.status, StatusCode::OK);
    api.clock.advance(TimeDelta::days(31));
    refresh(&api, &good).await.is(401, "session-ended");
}

#[tokio::test]
async fn signing_out_ends_the_session_however_one_says_which() {
    let api = Api::start().await;
    api.client(EVA).await;
    let (access, token) = signed_in(&api, EVA).await;
    let out = api.post_empty("/api/auth/logout", Some(&access)).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT, "{}", out.body);
    refresh(&api, &token).await.is(401, "session-ended");
    assert_eq!(may(&api, &access).await, StatusCode::UNAUTHORIZED);
    api.post_empty("/api/auth/logout", Some(&access)).await.is(401, "invalid-token");

    let (access, token) = signed_in(&api, EVA).await;
    for _ in 0..2 {
        let out = json!({"refresh_token": token});
        let out = api.post("/api/auth/logout", None, out).await;
        assert_eq!(out.status, StatusCode::NO_CONTENT, "twice is no error");
    }
    assert_eq!(may(&api, &access).await, StatusCode::UNAUTHORIZED);
    api.post_empty("/api/auth/logout", None).await.is(401, "sign-in-required");
    let forged = api.post("/api/auth/logout", None, json!({"refresh_token": "ptr_x"})).await;
    assert_eq!(forged.status, StatusCode::NO_CONTENT, "which tells nothing");
}

#[tokio::test]
async fn sessions_are_ended_one_by_one_or_all_at_once_by_their_owner() {
    let api = Api::start().await;
    api.client(EVA).await;
    let zoe = api.client("zoe@example.com").await;
    let (here, _) = signed_in(&api, EVA).await;
    let there = login(&api, EVA, OLD).await;
    let path = format!("/api/auth/sessions/{}", text(&there, "session_id"));
    api.delete(&path, Some(&zoe)).await.is(404, "not-found");
    api.delete(&path, None).await.is(401, "sign-in-required");
    for _ in 0..2 {
        assert_eq!(api.delete(&path, Some(&here)).await.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(may(&api, text(&there, "access_token")).await, StatusCode::UNAUTHORIZED);
    refresh(&api, text(&there, "refresh_token")).await.is(401, "session-ended");

    let (_, token) = signed_in(&api, EVA).await;
    let all = api.delete("/api/auth/sessions", Some(&here)).await;
    assert_eq!(all.status, StatusCode::NO_CONTENT, "{}", all.body);
    assert_eq!(may(&api, &here).await, StatusCode::UNAUTHORIZED);
    refresh(&api, &token).await.is(401, "session-ended");
    assert_eq!(may(&api, &zoe).await, StatusCode::NOT_FOUND, "others stay signed in");
    signed_in(&api, EVA).await;
}

/// The cookies an answer sets, as a browser would send them back.
fn jar(answer: &Answer) -> (String, String) {
    let set: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(set.len(), 2, "{:?}", answer.headers);
    let pairs: Vec<_> = set
        .iter()
        .map(|value| value.to_str().unwrap().split(';').next().unwrap().to_owned())
        .collect();
    let csrf = pairs[1].split_once('=').unwrap().1.to_owned();
    (pairs.join("; "), csrf)
}

#[tokio::test]
async fn a_cookie_refreshes_only_for_a_page_that_can_read_the_other_cookie() {
    let api = Api::start().await;
    api.client(EVA).await;
    let body = json!({"email": EVA, "password": OLD, "cookie": true});
    let answer = api.post("/api/auth/login", None, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert!(answer.body.get("refresh_token").is_none(), "it is in the cookie alone");
    let (cookie, csrf) = jar(&answer);
    assert_eq!(answer.headers["pontual-csrf"], csrf);

    let by_cookie = |path| api.request("POST", path).header("cookie", &cookie);
    let refresh_path = "/api/auth/refresh";
    by_cookie(refresh_path).send().await.is(403, "csrf-failed");
    by_cookie(refresh_path).header("pontual-csrf", "x").send().await.is(403, "csrf-failed");
    let evil = by_cookie(refresh_path).header("pontual-csrf", &csrf);
    evil.header("origin", "https://evil.test").send().await.is(403, "csrf-failed");
    let ours = by_cookie(refresh_path).header("pontual-csrf", &csrf);
    let next = ours.header("origin", "https://pontual.test").send().await;
    assert_eq!(next.status, StatusCode::OK, "{}", next.body);
    assert!(next.body.get("refresh_token").is_none());
    let (cookie, csrf) = jar(&next);

    // The body wins, and is not mixed with the cookie.
    let (_, token) = signed_in(&api, EVA).await;
    let both = api.request("POST", refresh_path).header("cookie", &cookie);
    let both = both.json(json!({"refresh_token": token})).send().await;
    assert_eq!(both.status, StatusCode::OK);
    assert!(both.body["refresh_token"].is_string() && !both.headers.contains_key("set-cookie"));

    let out = api.request("POST", "/api/auth/logout").header("cookie", &cookie);
    out.send().await.is(403, "csrf-failed");
    let out = api.request("POST", "/api/auth/logout").header("cookie", &cookie);
    let out = out.header("pontual-csrf", &csrf).send().await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert!(jar(&out).0.ends_with("__Host-pontual-csrf="), "the cookies go away");
    let gone = api.request("POST", refresh_path).header("cookie", &cookie);
    let gone = gone.header("pontual-csrf", &csrf).send().await;
    gone.is(401, "session-ended");
    jar(&gone);
}

#[tokio::test]
async fn changing_the_password_needs_the_old_one_and_ends_every_session() {
    let api = Api::start().await;
    api.client(EVA).await;
    let (access, token) = signed_in(&api, EVA).await;
    let (elsewhere, _) = signed_in(&api, EVA).await;
    wrong_field(&change_password(&api, &access, NEW, NEW).await, "/old_password");
    let differs = json!({"old_password": OLD, "password": NEW, "password_confirmation": "x"});
    let differs = api.put("/api/users/password", Some(&access), differs).await;
    wrong_field(&differs, "/password_confirmation");
    wrong_field(&change_password(&api, &access, OLD, "short").await, "/password");
    assert_eq!(may(&api, &elsewhere).await, StatusCode::NOT_FOUND, "nothing has changed yet");

    let changed = change_password(&api, &access, OLD, NEW).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.body);
    for void in [&access, &elsewhere] {
        assert_eq!(may(&api, void).await, StatusCode::UNAUTHORIZED);
    }
    refresh(&api, &token).await.is(401, "session-ended");
    assert_eq!(may(&api, text(&changed, "access_token")).await, StatusCode::NOT_FOUND);
    let kept = refresh(&api, text(&changed, "refresh_token")).await;
    assert_eq!(kept.status, StatusCode::OK, "one stays signed in here: {}", kept.body);
    login(&api, EVA, OLD).await.is(401, "invalid-credentials");
    assert_eq!(login(&api, EVA, NEW).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_reset_link_works_once_for_two_hours_and_dies_with_the_password_and_the_address() {
    let api = Api::start().await;
    api.client(EVA).await;
    let (access, _) = signed_in(&api, EVA).await;
    let token = reset_mail(&api, EVA).await;
    let differs = json!({"token": token, "password": NEW, "password_confirmation": "x"});
    let differs = api.post("/api/auth/reset", None, differs).await;
    wrong_field(&differs, "/password_confirmation");
    let (ids, tag) = token.split_once('.').unwrap();
    let confirmation = api.confirmation(EVA).await;
    for forged in ["", "x", ids, &format!("{ids}.{}", &tag[1..]), &token[1..], &confirmation] {
        reset(&api, forged, NEW).await.is(422, "invalid-link");
    }
    let done = reset(&api, &token, NEW).await;
    assert_eq!(done.status, StatusCode::NO_CONTENT, "{}", done.body);
    assert_eq!(may(&api, &access).await, StatusCode::UNAUTHORIZED, "every session ends");
    reset(&api, &token, OLD).await.is(422, "invalid-link");
    assert_eq!(login(&api, EVA, NEW).await.status, StatusCode::OK);

    let late = reset_mail(&api, EVA).await;
    api.clock.advance(TimeDelta::hours(2));
    reset(&api, &late, OLD).await.is(422, "invalid-link");

    let replaced = reset_mail(&api, EVA).await;
    let newer = reset_mail(&api, EVA).await;
    reset(&api, &replaced, OLD).await.is(422, "invalid-link");
    assert_eq!(reset(&api, &newer, OLD).await.status, StatusCode::NO_CONTENT);

    let dead = reset_mail(&api, EVA).await;
    let (access, _) = signed_in(&api, EVA).await;
    assert_eq!(change_password(&api, &access, OLD, NEW).await.status, StatusCode::OK);
    reset(&api, &dead, OLD).await.is(422, "invalid-link");
}

#[tokio::test]
async fn a_reset_that_is_sent_twice_with_one_key_is_done_once() {
    let api = Api::start().await;
    api.client(EVA).await;
    let token = reset_mail(&api, EVA).await;
    for replayed in [false, true] {
        let body = json!({"token": token, "password": NEW, "password_confirmation": NEW});
        let sent = api.request("POST", "/api/auth/reset").header("idempotency-key", "k");
        let answer = sent.json(body).send().await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.body);
        assert_eq!(answer.headers.contains_key("idempotent-replayed"), replayed);
    }
}

#[tokio::test]
async fn an_address_changes_when_the_new_one_is_confirmed_and_not_before() {
    let api = Api::start().await;
    let eva = api.client(EVA).await;
    api.client("taken@example.com").await;
    let ask = |email: &str, password: &str| {
        let body = json!({"email": email, "password": password});
        let (api, eva) = (&api, &eva);
        async move { api.put("/api/users/email", Some(eva), body).await }
    };
    wrong_field(&ask("new@example.com", NEW).await, "/password");
    wrong_field(&ask("no address", OLD).await, "/email");
    let taken = ask("taken@example.com", OLD).await;
    let reset_before = reset_mail(&api, EVA).await;
    let free = ask("new@example.com", OLD).await;
    assert_eq!((taken.status, &taken.body), (free.status, &free.body));
    assert_eq!(free.status, StatusCode::ACCEPTED);
    assert_eq!(login(&api, EVA, OLD).await.status, StatusCode::OK, "the old one still is");

    let (id, state) = account(&api, EVA).await;
    let change = state.pending_email.as_ref().unwrap().change;
    let link = change_token(&api.log.derive_key(EMAIL_CHANGE), id, change);
    let confirm = |token: &str| {
        let body = json!({"token": token});
        let api = &api;
        async move { api.post("/api/auth/confirm-email-change", None, body).await }
    };
    let confirmation = api.confirmation(EVA).await;
    for forged in ["", "x", &link[1..], &confirmation] {
        confirm(forged).await.is(422, "invalid-link");
    }
    for _ in 0..2 {
        let confirmed = confirm(&link).await;
        assert_eq!(confirmed.status, StatusCode::OK, "{}", confirmed.body);
    }
    login(&api, EVA, OLD).await.is(401, "invalid-credentials");
    assert_eq!(login(&api, "new@example.com", OLD).await.status, StatusCode::OK);
    reset(&api, &reset_before, NEW).await.is(422, "invalid-link");
    // The address is free again.
    api.registered(EVA).await;
}

#[tokio::test]
async fn a_deactivated_account_gets_nothing_done_until_its_owner_opens_it_again() {
    let api = Api::start().await;
    let eva = api.client(EVA).await;
    let (_, token) = signed_in(&api, EVA).await;
    let closed = api.post_empty("/api/users/deactivate", Some(&eva)).await;
    assert_eq!((closed.status, &closed.body["status"]), (StatusCode::OK, &json!("deactivated")));
    assert_eq!(may(&api, &eva).await, StatusCode::UNAUTHORIZED);
    refresh(&api, &token).await.is(403, "account-deactivated");
    login(&api, EVA, OLD).await.is(403, "account-deactivated");
    login(&api, EVA, NEW).await.is(401, "invalid-credentials");
    let open = |password: &str| json!({"email": EVA, "password": password});
    let wrong = api.post("/api/auth/reactivate", None, open(NEW)).await;
    wrong.is(401, "invalid-credentials");
    let opened = api.post("/api/auth/reactivate", None, open(OLD)).await;
    assert_eq!(opened.status, StatusCode::OK, "{}", opened.body);
    assert_eq!(may(&api, text(&opened, "access_token")).await, StatusCode::NOT_FOUND);
    refresh(&api, &token).await.is(401, "session-ended");
}

/// An administrator's access token and account.
async fn admin(api: &Api) -> (String, String) {
    let password: command_api::Password = OLD.to_owned().try_into().unwrap();
    let command = RegisterAdmin {
        name: "The Admin".parse().unwrap(),
        email: "admin@example.com".parse().unwrap(),
        locale: Locale::En,
        password_hash: command_api::Passwords::new().hash(password).await.unwrap(),
    };
    let origin = Origin::of(Actor::System("test"), "t");
    Executor::new(api.log.clone()).execute(command, origin).await.unwrap();
    let token = signed_in(api, "admin@example.com").await.0;
    (token, api.account("admin@example.com").await)
}

#[tokio::test]
async fn administrators_grant_and_revoke_roles_and_close_accounts_and_nobody_else_does() {
    let api = Api::start().await;
    let (boss, boss_id) = admin(&api).await;
    let eva = api.client(EVA).await;
    let zoe = api.client("zoe@example.com").await;
    let id = api.account(EVA).await;
    let role = format!("/api/users/{id}/roles/auditor");
    let path = |what: &str| format!("/api/users/{id}/{what}");
    for stranger in [&zoe, &eva] {
        api.put(&role, Some(stranger), Value::Null).await.is(403, "forbidden");
        api.delete(&role, Some(stranger)).await.is(403, "forbidden");
        api.post_empty(&path("reactivate"), Some(stranger)).await.is(403, "forbidden");
    }
    api.post_empty(&path("deactivate"), Some(&zoe)).await.is(403, "forbidden");
    api.put(&role, None, Value::Null).await.is(401, "sign-in-required");
    let unknown = format!("/api/users/{id}/roles/root");
    api.put(&unknown, Some(&boss), Value::Null).await.is(400, "invalid-path");
    let nobody = format!("/api/users/{}/roles/auditor", common::an_id());
    api.put(&nobody, Some(&boss), Value::Null).await.is(404, "not-found");

    let granted = api.put(&role, Some(&boss), Value::Null).await;
    assert_eq!(granted.status, StatusCode::OK, "{}", granted.body);
    assert_eq!(granted.body["roles"], json!(["client", "auditor"]));
    assert_eq!(login(&api, EVA, OLD).await.body["account"]["roles"], json!(["client", "auditor"]));
    let revoked = api.delete(&role, Some(&boss)).await;
    assert_eq!(revoked.body["roles"], json!(["client"]));
    assert_eq!(may(&api, &eva).await, StatusCode::UNAUTHORIZED, "tokens carry roles");
    let own = format!("/api/users/{boss_id}/roles/admin");
    api.delete(&own, Some(&boss)).await.is(403, "forbidden");

    let closed = api.post_empty(&path("deactivate"), Some(&boss)).await;
    assert_eq!(closed.body["status"], "deactivated", "{}", closed.body);
    let open = json!({"email": EVA, "password": OLD});
    api.post("/api/auth/reactivate", None, open).await.is(403, "account-deactivated");
    let opened = api.post_empty(&path("reactivate"), Some(&boss)).await;
    assert_eq!(opened.body["status"], "active", "{}", opened.body);
    signed_in(&api, EVA).await;
}

#[tokio::test]
async fn erasing_oneself_needs_the_password_and_leaves_nobody() {
    let api = Api::start().await;
    let eva = api.client(EVA).await;
    let zoe = api.client("zoe@example.com").await;
    let id = api.account(EVA).await;
    let path = format!("/api/users/{id}");
    api.delete_with(&path, Some(&zoe), json!({"password": OLD})).await.is(403, "forbidden");
    wrong_field(&api.delete(&path, Some(&eva)).await, "/password");
    let wrong = api.delete_with(&path, Some(&eva), json!({"password": NEW})).await;
    wrong_field(&wrong, "/password");
    let erased = api.delete_with(&path, Some(&eva), json!({"password": OLD})).await;
    assert_eq!(erased.status, StatusCode::ACCEPTED, "{}", erased.body);
    assert_eq!(erased.body, json!({"id": id, "status": "erasing"}));
    assert_eq!(may(&api, &eva).await, StatusCode::UNAUTHORIZED);
    login(&api, EVA, OLD).await.is(401, "invalid-credentials");
    api.registered(EVA).await;
    assert_ne!(api.account(EVA).await, id, "somebody new");

    let (boss, _) = admin(&api).await;
    let zoe_id = api.account("zoe@example.com").await;
    let erased = api.delete(&format!("/api/users/{zoe_id}"), Some(&boss)).await;
    assert_eq!(erased.status, StatusCode::ACCEPTED, "{}", erased.body);
    assert_eq!(may(&api, &zoe).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_profile_is_what_was_last_said_of_oneself() {
    let api = Api::start().await;
    let eva = api.client(EVA).await;
    let profile = json!({"name": "Eva Lima", "phone": "+55 11 98765-4321", "locale": "en", "time_zone": "America/Recife"});
    let set = api.put("/api/users/profile", Some(&eva), profile).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.body);
    let (id, state) = account(&api, EVA).await;
    assert_eq!(set.body, json!({"id": id}));
    assert_eq!(set.headers["etag"], "\"v3\"");
    assert_eq!(state.zone.unwrap().name(), "America/Recife");
    let wrong = json!({"name": "E", "locale": "en"});
    wrong_field(&api.put("/api/users/profile", Some(&eva), wrong).await, "/name");
    api.put("/api/users/profile", None, json!({})).await.is(401, "sign-in-required");
}

#[tokio::test]
async fn an_imported_bcrypt_hash_signs_in_and_is_made_anew() {
    let api = Api::start().await;
    api.client(EVA).await;
    let (id, _) = account(&api, EVA).await;
    let key = SecretKey { owner: id.uuid(), kind: SecretKind::PasswordHash };
    let ours = api.log.secret(key).await.unwrap().unwrap();
    let imported = bcrypt::hash("of another system", 5).unwrap();
    assert!(api.log.swap_secret(key, &ours, imported.as_bytes()).await.unwrap());
    login(&api, EVA, OLD).await.is(401, "invalid-credentials");
    for _ in 0..2 {
        assert_eq!(login(&api, EVA, "of another system").await.status, StatusCode::OK);
        let kept = String::from_utf8(api.log.secret(key).await.unwrap().unwrap()).unwrap();
        assert!(kept.starts_with("$argon2id$"), "{kept}");
    }
}

#[tokio::test]
async fn how_long_an_answer_takes_does_not_tell_who_has_an_account() {
    let api = Api::start().await;
    api.client(EVA).await;
    for email in [EVA, "nobody@example.com"] {
        let (began, rows) = (Instant::now(), commands(&api).await);
        api.post("/api/auth/forgot", None, json!({"email": email})).await;
        assert!(began.elapsed() >= Duration::from_millis(40), "{email}");
        // The same append in any case: a command's row is written for nobody, too.
        assert_eq!(commands(&api).await, rows + 1, "{email}");
        let began = Instant::now();
        login(&api, email, NEW).await.is(401, "invalid-credentials");
        assert!(began.elapsed() >= Duration::from_millis(250), "{email}");
    }
}

async fn commands(api: &Api) -> i64 {
    let query = sqlx::query_scalar("SELECT count(*) FROM commands");
    query.fetch_one(api.log.pool()).await.unwrap()
}

#[tokio::test]
async fn a_token_of_another_account_under_ones_own_id_is_nobodys() {
    let api = Api::start().await;
    api.client("ana@example.com").await;
    let forged = common::forged(&api).await;
    let answer = api.request("POST", "/api/auth/logout").header("authorization", bearer(&forged));
    answer.send().await.is(401, "invalid-token");
}
