//! The audit trail: who did what, from where, with what, when, and whether it was done (`S4-51`).

use end_to_end::{Answer, Api, PATIENCE, Pontual, Profile};
use serde_json::{Value, json};
use tokio::time::Instant;

const ADMIN: &str = "the.admin@example.com";
const PASSWORD: &str = "an administrator's password";
const STRANGER: &str = "a stranger's browser/1.0";

/// Signs in with this program.
async fn sign_in(pontual: &Pontual, email: &str, password: &str, agent: &str) -> Answer {
    let api = pontual.nobody();
    let request = api.request("POST", "/api/auth/login").header("user-agent", agent);
    api.send(request.json(&json!({ "email": email, "password": password }))).await
}

/// An auditor, made by an administrator.
async fn auditor(pontual: &Pontual) -> Api {
    let create = ["admin", "create", "--email", ADMIN, "--name", "Ana Souza"];
    let (made, said) = pontual.run(&create, &format!("{PASSWORD}\n"), &[]).await;
    assert!(made, "{said}");
    let admin = pontual.sign_in(ADMIN, PASSWORD).await;
    let carla = pontual.client("Carla").await;
    let role = format!("/api/users/{}/roles/auditor", carla.account);
    let granted = admin.api.send(admin.api.request("PUT", &role)).await.expect(200);
    assert_eq!(admin.api.get("/api/audit").await.expect(403).problem(), "forbidden");
    let auditor = pontual.sign_in(&carla.email, "correct horse battery").await;
    // Whoever waits for the event sees the line.
    let told = auditor.api.get_after("/api/audit?action=GrantRole", &granted.position()).await;
    let line = &told.expect(200).body["items"][0];
    assert_eq!(line["account_id"], admin.account);
    assert_eq!(line["actor"], format!("account:{}", admin.account));
    assert_eq!(line["resource"], format!("account/{}", carla.account));
    assert_eq!((&line["details"]["role"], &line["success"]), (&json!("auditor"), &json!(true)));
    auditor.api
}

/// The lines of a query, once there are so many: what was refused is written a moment later.
async fn lines(auditor: &Api, query: &str, wanted: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = auditor.get(&format!("/api/audit?{query}")).await.expect(200);
        let items = answer.body["items"].as_array().expect("a list").clone();
        if items.len() >= wanted {
            return items;
        }
        assert!(Instant::now() < deadline, "{query}: {} of {wanted} lines", items.len());
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
}

#[tokio::test]
async fn a_refused_sign_in_and_a_good_one_are_told_to_an_auditor_and_to_nobody_else() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let bia = pontual.client("Bia").await;
        sign_in(&pontual, &bia.email, "a wrong password", STRANGER).await.expect(401);
        sign_in(&pontual, &bia.email, "correct horse battery", "her telephone").await.expect(200);
        sign_in(&pontual, "nobody.at.all@example.com", "a wrong password", STRANGER)
            .await
            .expect(401);
        let role = format!("/api/users/{}/roles/admin", bia.account);
        bia.api.send(bia.api.request("PUT", &role)).await.expect(403);
        assert_eq!(bia.api.get("/api/audit").await.expect(403).problem(), "forbidden");
        assert_eq!(pontual.nobody().get("/api/audit").await.status, 401);

        let auditor = auditor(&pontual).await;
        let hers = format!("account={}&action=SignIn", bia.account);
        let refused = lines(&auditor, &format!("{hers}&success=false"), 1).await;
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert_eq!(refused[0]["user_agent"], STRANGER);
        assert_eq!(refused[0]["ip"], "127.0.0.1");
        assert_eq!(refused[0]["actor"], "anonymous");
        assert_eq!(refused[0]["success"], false);
        assert_eq!(refused[0]["details"]["reason"], "invalid-credentials");
        let done = lines(&auditor, &format!("{hers}&success=true"), 2).await;
        assert_eq!(done[0]["user_agent"], "her telephone");
        assert_eq!(done[0]["ip"], "127.0.0.1");
        assert!(done[0]["resource"].as_str().expect("a session").starts_with("session/"));
        assert_eq!(done[0]["details"]["event"], "SessionStarted");
        let (before, after) = (refused[0]["at"].as_str(), done[0]["at"].as_str());
        assert!(before.expect("a time") <= after.expect("a time"), "{before:?} {after:?}");

        // Nobody's address is nobody's account; and what may not be done is told too.
        let strangers = lines(&auditor, "action=SignIn&success=false&limit=100", 2).await;
        assert_eq!(strangers.iter().filter(|line| line["account_id"].is_null()).count(), 1);
        let forbidden = lines(&auditor, "action=GrantRole&success=false", 1).await;
        assert_eq!(forbidden[0]["account_id"], bia.account);
        assert_eq!(forbidden[0]["details"]["reason"], "forbidden");

        // One line at a time is the same list.
        let all = lines(&auditor, "limit=100", 8).await;
        let (mut cursor, mut seen) = (String::new(), Vec::new());
        for _ in 0..4 {
            let page = auditor.get(&format!("/api/audit?limit=1{cursor}")).await.expect(200);
            seen.push(page.body["items"][0].clone());
            cursor = format!("&cursor={}", page.body["next_cursor"].as_str().expect("more"));
        }
        assert_eq!(seen, all[..4]);
        let text = Value::from(all).to_string();
        for secret in ["a wrong password", "correct horse battery", bia.email.as_str(), ADMIN] {
            assert!(!text.contains(secret), "{secret}");
        }
    }
}
