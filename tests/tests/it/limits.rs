//! Rate limits, from outside: several processes, several addresses, Redis and no Redis.

use end_to_end::{Answer, Pontual, Profile};
use serde_json::json;

/// A request that came through a proxy of ours from this address.
async fn from(pontual: &Pontual, address: &str, path: &str, body: serde_json::Value) -> Answer {
    let nobody = pontual.nobody();
    let request = nobody.request("POST", path).header("x-forwarded-for", address).json(&body);
    nobody.send(request).await
}

const ON: (&str, &str) = ("PONTUAL_RATE_LIMITS", "on");
const PROXY: (&str, &str) = ("PONTUAL_TRUSTED_PROXIES", "127.0.0.1");

#[tokio::test]
async fn two_processes_on_one_redis_share_a_quota() {
    let extra = [ON, PROXY, ("PONTUAL_LIMIT_GENERAL", "20/h")];
    let mut pontual = Pontual::start_with(Profile::Full, 4, &extra).await;
    let second = pontual.spawn(&["serve"]).await;
    let callers = [pontual.nobody(), pontual.nobody().at(&second)];
    let ask = async |n: usize, address: &str| {
        let caller = &callers[n % 2];
        let path = "/.well-known/jwks.json";
        caller.send(caller.request("GET", path).header("x-forwarded-for", address)).await
    };
    for n in 0..20 {
        let answer = ask(n, "203.0.113.1").await.expect(200);
        assert_eq!(answer.header("ratelimit-policy"), Some("\"general\";q=20;w=3600"));
        let left = format!("\"general\";r={};t=", 19 - n);
        assert!(answer.header("ratelimit").unwrap().starts_with(&left), "{n} {answer:?}");
    }
    for n in 0..2 {
        let refused = ask(n, "203.0.113.1").await.expect(429);
        assert_eq!(refused.problem(), "too-many-requests");
        let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((100..=180).contains(&seconds), "{seconds}");
    }
    // Whoever writes an address in front of theirs gains nothing; whoever has another one is free.
    ask(0, "198.51.100.7, 203.0.113.1").await.expect(429);
    ask(1, "203.0.113.2").await.expect(200);
}

#[tokio::test]
async fn guests_book_so_often_from_one_address_and_for_one_address() {
    for profile in Profile::ALL {
        let extra = [ON, PROXY, ("PONTUAL_LIMIT_GUEST_BOOKING", "2/h")];
        let pontual = Pontual::start_with(profile, 4, &extra).await;
        let policy = json!({
            "minimum_notice_minutes": 0, "horizon_days": 90, "cancellation_window_minutes": 0,
            "confirmation": "manual", "guests": true,
        });
        let ana = pontual.provider_with("Ana", json!({ "policy": policy })).await;
        let book = async |ip: &str, email: &str, hour: u8| {
            let start = end_to_end::in_days(7, &format!("{hour}:00:00Z"));
            let contact = json!({ "name": "Gil Guest", "email": email });
            let body = json!({ "provider_id": ana.id, "start": start, "contact": contact });
            from(&pontual, ip, "/api/appointments", body).await
        };
        book("203.0.113.1", "gil@example.com", 12).await.expect(201);
        book("203.0.113.1", "eva@example.com", 13).await.expect(201);
        book("203.0.113.1", "ian@example.com", 14).await.expect(429);
        book("203.0.113.2", "gil@example.com", 14).await.expect(201);
        book("203.0.113.3", "Gil@example.com", 15).await.expect(429);
        // A mail goes there, whoever books.
        let start = end_to_end::in_days(7, "16:00:00Z");
        let contact = json!({ "name": "Gil Guest", "email": "gil@example.com" });
        let body = json!({ "provider_id": ana.id, "start": start, "contact": contact });
        ana.owner.api.post("/api/appointments", body).await.expect(429);
    }
}

#[tokio::test]
async fn a_password_can_be_tried_five_times_a_minute_whoever_tries_and_whether_there_is_an_account()
{
    for profile in Profile::ALL {
        let pontual = Pontual::start_with(profile, 4, &[ON, PROXY]).await;
        let known = pontual.client("Ana").await.email;
        // The address registered and signed in once: that was its own try.
        for (email, tries) in [(known.as_str(), 4), ("nobody@example.com", 5)] {
            for n in 0..tries {
                let wrong = json!({ "email": email, "password": "wrong password" });
                let answer =
                    from(&pontual, &format!("203.0.113.{n}"), "/api/auth/login", wrong).await;
                assert_eq!(answer.expect(401).problem(), "invalid-credentials");
            }
            let wrong = json!({ "email": email.to_uppercase(), "password": "wrong password" });
            let refused =
                from(&pontual, "203.0.113.99", "/api/auth/login", wrong).await.expect(429);
            assert_eq!(refused.problem(), "too-many-requests");
            assert!(refused.header("ratelimit").unwrap().starts_with("\"sign-in-account\";r=0;t="));
            let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=12).contains(&seconds), "{seconds}");
        }
    }
}
