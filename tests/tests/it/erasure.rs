//! Erasing a person (K12): a marker in every field of theirs is afterwards nowhere, not even after a rebuild.

use std::path::Path;
use std::time::Duration;

use end_to_end::socket::Socket;
use end_to_end::{Api, PATIENCE, Person, Pontual, Profile, Shop, in_days, required};
use futures_util::TryStreamExt;
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};
use tokio::time::Instant;

const PASSWORD: &str = "correct horse battery";
const SOON: Duration = Duration::from_secs(5);
const ADMIN: (&str, &str) = ("the.admin@example.com", "an administrator's password");

/// What is looked for.
struct Markers {
    word: String,
    digits: String,
}

impl Markers {
    fn new() -> Self {
        let (word, digits): (u64, u32) = (rand::random(), rand::random());
        Self { word: format!("zq{word:016x}"), digits: format!("{digits:010}") }
    }

    fn all(&self) -> [&str; 2] {
        [&self.word, &self.digits]
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes).to_lowercase();
        self.all().iter().any(|marker| text.contains(marker))
    }
}

/// Every place that holds a marker: tables, keys, documents, files.
async fn places(pontual: &Pontual, profile: Profile, markers: &Markers) -> Vec<String> {
    let mut found = in_postgres(pontual, markers).await;
    in_files(pontual.folder(), markers, &mut found);
    if profile == Profile::Full {
        in_redis(pontual, markers, &mut found).await;
        in_mongo(pontual, markers, &mut found).await;
    }
    found
}

async fn in_postgres(pontual: &Pontual, markers: &Markers) -> Vec<String> {
    let pool = pontual.pool().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
         WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')",
    )
    .fetch_all(&pool)
    .await
    .expect("tables");
    assert!(tables.len() > 15, "{tables:?}");
    let mut found = Vec::new();
    for table in tables {
        for marker in markers.all() {
            // A row as text has texts and JSON as they are, and bytes in hexadecimal.
            let hex: String = marker.bytes().map(|byte| format!("{byte:02x}")).collect();
            let rows: i64 = sqlx::query_scalar(&format!(
                "SELECT count(*) FROM {table} AS r
                 WHERE r::text ILIKE '%' || $1 || '%' OR r::text LIKE '%' || $2 || '%'"
            ))
            .bind(marker)
            .bind(hex)
            .fetch_one(&pool)
            .await
            .expect("a count");
            if rows > 0 {
                found.push(format!("{rows} rows of {table}"));
            }
        }
    }
    pool.close().await;
    found
}

fn in_files(folder: &Path, markers: &Markers, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            in_files(&path, markers, found);
        } else if markers.is_in(path.to_string_lossy().as_bytes())
            || std::fs::read(&path).is_ok_and(|bytes| markers.is_in(&bytes))
        {
            found.push(path.display().to_string());
        }
    }
}

async fn in_redis(pontual: &Pontual, markers: &Markers, found: &mut Vec<String>) {
    let client = redis::Client::open(required("TEST_REDIS_URL")).expect("a Redis URL");
    let mut redis = client.get_multiplexed_async_connection().await.expect("Redis answers");
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(format!("{}*", pontual.database()))
        .query_async(&mut redis)
        .await
        .expect("keys");
    assert!(!keys.is_empty(), "nothing of this log is in Redis");
    for key in keys {
        let kind: String =
            redis::cmd("TYPE").arg(&key).query_async(&mut redis).await.expect("a type");
        let all: Vec<Vec<u8>> = match kind.as_str() {
            "string" => {
                redis::cmd("MGET").arg(&key).query_async(&mut redis).await.unwrap_or_default()
            }
            "hash" => redis::cmd("HGETALL").arg(&key).query_async(&mut redis).await.expect("all"),
            // It expired in the meantime.
            "none" => Vec::new(),
            other => panic!("nobody looks into a {other} of Redis"),
        };
        if markers.is_in(key.as_bytes()) || all.iter().any(|value| markers.is_in(value)) {
            found.push(format!("Redis: {key}"));
        }
    }
}

async fn mongo(pontual: &Pontual) -> mongodb::Database {
    let url = required("TEST_MONGODB_URL");
    let client = mongodb::Client::with_uri_str(url).await.expect("a MongoDB URL");
    client.database(pontual.database())
}

async fn in_mongo(pontual: &Pontual, markers: &Markers, found: &mut Vec<String>) {
    let database = mongo(pontual).await;
    let names = database.list_collection_names().await.expect("collections");
    assert!(!names.is_empty(), "nothing of this log is in MongoDB");
    for name in names {
        let collection = database.collection::<mongodb::bson::Document>(&name);
        let all = collection.find(mongodb::bson::Document::new()).await;
        let documents: Vec<_> = all.expect("documents").try_collect().await.expect("all");
        let with = documents.iter().filter(|doc| markers.is_in(doc.to_string().as_bytes()));
        let count = with.count();
        if count > 0 {
            found.push(format!("MongoDB: {count} documents of {name}"));
        }
    }
}

/// Waits until something holds.
async fn until(what: &str, pontual: &Pontual, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE * 2;
    while !holds().await {
        assert!(Instant::now() < deadline, "it never happened: {what}\n{}", pontual.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A JPEG with the marker in its comment and in what could be EXIF.
fn photo(marker: &str) -> Vec<u8> {
    let mut jpeg = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(80, 80, Rgb([9, 99, 199]))
        .write_to(&mut jpeg, ImageFormat::Jpeg)
        .expect("it is drawn");
    let jpeg = jpeg.into_inner();
    let segment = |kind: u8, text: String| {
        let length = u16::try_from(text.len() + 2).expect("a short text").to_be_bytes();
        [&[0xff, kind], &length[..], text.as_bytes()].concat()
    };
    let (start, rest) = jpeg.split_at(2);
    let comment = segment(0xfe, marker.to_owned());
    [start, &segment(0xe1, format!("Exif\0\0{marker}")), &comment, rest].concat()
}

/// Somebody who has the marker everywhere, and a shop.
async fn planted(pontual: &Pontual, markers: &Markers) -> Shop {
    let (word, email) = (&markers.word, format!("{}@example.com", markers.word));
    let nobody = pontual.nobody();
    let with_agent = |path: &str| nobody.request("POST", path).header("user-agent", word);
    let body = json!({"name": format!("Ana {word}"), "email": email, "password": PASSWORD,
        "phone": format!("+55{}", markers.digits), "locale": "en"});
    nobody.send(with_agent("/api/auth/register").json(&body)).await.expect(202);
    let token = pontual.confirmation_token(&email).await;
    nobody.send(with_agent("/api/auth/confirm").json(&json!({"token": token}))).await.expect(200);
    let body = json!({"email": email, "password": "a wrong password"});
    nobody.send(with_agent("/api/auth/login").json(&body)).await.expect(401);
    let body = json!({"email": email, "password": PASSWORD});
    let session = nobody.send(with_agent("/api/auth/login").json(&body)).await.expect(200);
    let token = session.body["access_token"].as_str().map(str::to_owned);
    let account = session.body["account"]["id"].as_str().expect("an id").to_owned();
    let api = Api { token, ..nobody.clone() };
    let photo = api.request("PUT", "/api/users/photo").header("content-type", "image/jpeg");
    api.send(photo.body(self::photo(word))).await.expect(200);
    let body = json!({"email": format!("new.{email}"), "password": PASSWORD});
    api.put("/api/users/email", body).await.expect(202);
    pontual.mail_to(&format!("new.{email}")).await;
    let slug = format!("shop-{word}");
    let service = |name: &str| json!({"name": format!("{name} {word}"), "description": format!("With {word}."), "duration_minutes": 60});
    let body = json!({"business_name": format!("Salão {word}"), "slug": slug, "time_zone": "America/Sao_Paulo",
        "service": service("Cut")});
    let opened = api.post("/api/providers", body).await.expect(201);
    let id = opened.body["id"].as_str().expect("an id").to_owned();
    let renamed = json!({"business_name": format!("Studio {word}"), "description": format!("Of {word}."),
        "address": format!("{word} street"), "city": word, "state": word, "postal_code": &markers.digits,
        "phone": markers.digits, "website": format!("https://{word}.example"), "instagram": word,
        "facebook": word, "specializations": [word], "latitude": -23.55, "longitude": -46.63});
    api.put("/api/providers/profile", renamed).await.expect(200);
    let moved = json!({"slug": format!("studio-{word}")});
    api.put("/api/providers/profile/slug", moved).await.expect(200);
    let slug = format!("studio-{word}");
    let off = json!({"from": "2027-01-04T12:00", "until": "2027-01-05T00:00", "reason": format!("Off to {word}")});
    api.post(&format!("/api/providers/{id}/time-off"), off).await.expect(201);
    let added = api.post("/api/services", service("Shave")).await.expect(201);
    let added = format!("/api/services/{}", added.body["id"].as_str().expect("an id"));
    api.put(&added, service("Trim")).await.expect(200);
    let position = api.request("DELETE", &added);
    let position = api.send(position).await.expect(204).position();
    let page =
        nobody.get_after(&format!("/api/providers/{slug}"), &position).await.expect(200).body;
    assert_eq!(page["services"][0]["name"], format!("Cut {word}"), "{page}");
    for path in [format!("{slug}/page"), format!("?q={word}"), format!("?city={word}")] {
        let path = format!("/api/providers/{path}").replace("/?", "?");
        let found = nobody.get_after(&path, &position).await.expect(200).body;
        assert!(markers.is_in(found.to_string().as_bytes()), "{path}: {found}");
    }
    Shop { owner: Person { api, account, email }, id, slug, position }
}

/// Cancels an appointment, and says why.
async fn cancel(api: &Api, booked: &Value, reason: &str) -> String {
    let path = format!("/api/appointments/{}/status", booked["id"].as_str().expect("an id"));
    let body = json!({"status": "cancelled", "reason": reason});
    api.put(&path, body).await.expect(200).position()
}

/// Everything others can look at, so that it is cached.
async fn look(markers: &Markers, bia: &Person, carla: &Shop, days: &[String], after: &str) -> bool {
    let mut shown = String::new();
    for day in days {
        let path = format!("/api/appointments/provider/{}?day={}", carla.id, &day[..10]);
        shown += &carla.owner.api.get_after(&path, after).await.expect(200).body.to_string();
    }
    for api in [&bia.api, &carla.owner.api] {
        for path in ["/api/notifications", "/api/providers?limit=100", "/api/users/appointments"] {
            shown += &api.get_after(path, after).await.expect(200).body.to_string();
        }
    }
    markers.is_in(shown.as_bytes())
}

#[tokio::test]
async fn an_erased_person_is_in_no_store_and_no_rebuild_brings_them_back() {
    for profile in Profile::ALL {
        let mut pontual = Pontual::start(profile).await;
        let create = ["admin", "create", "--email", ADMIN.0, "--name", "Root"];
        let (made, said) = pontual.run(&create, &format!("{}\n", ADMIN.1), &[]).await;
        assert!(made, "{said}");
        let admin = pontual.sign_in(ADMIN.0, ADMIN.1).await;
        let markers = Markers::new();
        let word = &markers.word;
        let ana = planted(&pontual, &markers).await;
        let (bia, carla) = (pontual.client("Bia").await, pontual.provider("Carla").await);
        let (day, other_day) = (in_days(7, "12:00:00Z"), in_days(8, "12:00:00Z"));
        let book = |shop: &Shop, start: &str| json!({"provider_id": shop.id, "start": start, "notes": format!("Call me {word}")});
        let plain = |shop: &Shop, start: &str| json!({"provider_id": shop.id, "start": start});

        let hers = ana.owner.api.post("/api/appointments", book(&carla, &day)).await.expect(201);
        let gone = ana.owner.api.post("/api/appointments", book(&carla, &other_day)).await;
        cancel(&ana.owner.api, &gone.expect(201).body, &format!("Ill. {word}")).await;
        let book_theirs = async |api: &Api| {
            let asked =
                api.request("POST", "/api/appointments").header("idempotency-key", "theirs");
            api.send(asked.json(&plain(&ana, &day))).await
        };
        let theirs = book_theirs(&bia.api).await.expect(201);
        let again = book_theirs(&bia.api).await.expect(201);
        assert_eq!(again.body, theirs.body, "the answer names the service, though it is not kept");
        let called_off = bia.api.post("/api/appointments", plain(&ana, &other_day)).await;
        let called_off = called_off.expect(201).body;
        let why = cancel(&ana.owner.api, &called_off, &format!("Closed. {word}")).await;
        let kept = bia.api.post("/api/appointments", plain(&carla, &other_day)).await.expect(201);
        let last = cancel(&bia.api, &kept.body, "I found another.").await;
        let mut noted = Vec::new();
        for booked in [&hers, &theirs] {
            let id = booked.body["id"].as_str().expect("an id");
            let notes = json!({"notes": format!("For myself: {word}")});
            let path = format!("/api/appointments/{id}/notes");
            noted.push(ana.owner.api.put(&path, notes).await.expect(200).position());
        }
        let recurring = json!({"provider_id": carla.id, "start": in_days(14, "12:00:00Z"),
            "rrule": "FREQ=WEEKLY;COUNT=2", "mode": "all-or-nothing", "notes": format!("Each time: {word}")});
        let series = ana.owner.api.post("/api/series", recurring).await.expect(201);
        let night = json!({"provider_id": carla.id, "from": in_days(14, "04:00:00Z"), "to": in_days(14, "05:00:00Z")});
        let waits = ana.owner.api.post("/api/waitlist", night).await.expect(201);
        noted.extend([series.position(), waits.position()]);
        let noted = noted.join(",");
        let after = [hers.position(), theirs.position(), why, last, noted].join(",");
        let days = [day.clone(), other_day.clone()];
        assert!(look(&markers, &bia, &carla, &days, &after).await);

        let export = ana.owner.api.get_after("/api/users/export", &after).await.expect(200);
        let attachment = export.header("content-disposition").expect("a file");
        assert!(attachment.starts_with("attachment"), "{attachment}");
        let export = export.body;
        assert_eq!(export["truncated"], false);
        assert_eq!(export["account"]["pending_email"], format!("new.{}", ana.owner.email));
        let count = |list: &str| export[list].as_array().expect("a list").len();
        assert_eq!((count("appointments_as_client"), count("appointments_as_provider")), (4, 2));
        assert_eq!(export["waits"][0]["status"], "waiting");
        assert_eq!((count("sessions"), export["shop"]["id"].as_str()), (1, Some(&*ana.id)));
        assert!(export["shop"]["schedule"]["zone"].is_string(), "{}", export["shop"]);
        assert!(export["account"]["photo"]["large"].is_string());
        assert!(count("audit_trail") > 3 && count("notifications") > 0);
        assert!(!export.to_string().contains("I found another."));
        pontual.nobody().get("/api/users/export").await.expect(401);

        let before = places(&pontual, profile, &markers).await;
        for wanted in [
            "accounts",
            "providers",
            "services",
            "appointments",
            "appointment_notes",
            "sessions",
            "audit_trail",
            ".eml",
        ] {
            assert!(before.iter().any(|place| place.contains(wanted)), "{wanted}: {before:?}");
        }
        for log in ["events", "commands", "claims", "snapshots", "secrets"] {
            let log = format!("public.{log}");
            assert!(!before.iter().any(|place| place.ends_with(&log)), "{log}: {before:?}");
        }
        if profile == Profile::Full {
            assert!(before.iter().any(|place| place.starts_with("Redis")), "{before:?}");
            assert!(before.iter().any(|place| place.starts_with("MongoDB")), "{before:?}");
        }

        let mut socket = Socket::of(&ana.owner).await;
        let account = format!("/api/users/{}", ana.owner.account);
        let erase = ana.owner.api.request("DELETE", &account).json(&json!({"password": PASSWORD}));
        let began = Instant::now();
        let erased = ana.owner.api.send(erase).await.expect(202);
        assert_eq!(socket.closed().await, Some(4001));
        until("her token is void", &pontual, async || {
            ana.owner.api.get("/api/auth/me").await.status == 401
        })
        .await;
        assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
        let body = json!({"email": ana.owner.email, "password": PASSWORD});
        pontual.nobody().post("/api/auth/login", body).await.expect(401);

        let standing = format!("{account}/erasure");
        bia.api.get(&standing).await.expect(403);
        let status = async || admin.api.get(&standing).await.body["status"].clone();
        until("she is purged", &pontual, async || status().await == "purged").await;
        let line = format!("/api/waitlist/provider/{}", carla.id);
        until("she waits no more", &pontual, async || {
            carla.owner.api.get(&line).await.expect(200).body["items"] == json!([])
        })
        .await;
        let none = Vec::<String>::new();
        assert_eq!(places(&pontual, profile, &markers).await, none);
        // The other side was told, and sees nothing of her.
        for (api, booked) in [(&carla.owner.api, &hers), (&bia.api, &theirs)] {
            let path = format!("/api/appointments/{}", booked.body["id"].as_str().expect("an id"));
            assert_eq!(api.get(&path).await.expect(200).body["status"], "cancelled");
            let told = api.get("/api/notifications").await.expect(200).body;
            let of_it = |item: &&Value| item["appointment_id"] == booked.body["id"];
            let items = told["items"].as_array().expect("a list");
            let latest = items.iter().find(of_it).expect("they were told");
            assert_eq!(latest["kind"], "booking_cancelled", "{told}");
            assert_eq!(latest["other_party"], Value::Null);
        }
        // What she booked elsewhere keeps its name, what was booked with her has none.
        for (api, booked, service, name) in [
            (&carla.owner.api, &hers, json!("Appointment"), json!("Appointment")),
            (&bia.api, &theirs, Value::Null, Value::Null),
        ] {
            let path = format!("/api/appointments/{}", booked.body["id"].as_str().expect("an id"));
            assert_eq!(api.get(&path).await.expect(200).body["service"]["name"], service);
            let told = api.get("/api/notifications").await.expect(200).body;
            assert_eq!(told["items"][0]["service_name"], name, "{told}");
        }
        // A retry gets the first answer, as far as it is not hers.
        let again = book_theirs(&bia.api).await.expect(201);
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(
            again.body["service"],
            json!({"id": theirs.body["service"]["id"], "name": null})
        );
        let page = format!("/api/providers/{}", ana.slug);
        pontual.nobody().get(&page).await.expect(404);
        let services = format!("/api/services/provider/{}", ana.id);
        let services = pontual.nobody().get(&services).await.expect(200).body;
        assert_eq!(services["items"], json!([]));
        let theirs = format!("/api/appointments/{}", kept.body["id"].as_str().expect("an id"));
        let reason = &bia.api.get(&theirs).await.expect(200).body["status_reason"];
        assert_eq!(reason, "I found another.");
        assert!(!look(&markers, &bia, &carla, &days, &erased.position()).await);

        // Two minutes later all of it is done once more.
        let pool = pontual.pool().await;
        for sql in [
            "UPDATE erasures SET erased_at = erased_at - interval '5 minutes'",
            "UPDATE jobs SET run_at = now() WHERE kind = 'PurgeAccount'",
        ] {
            sqlx::query(sql).execute(&pool).await.expect(sql);
        }
        until("nothing is left", &pontual, async || status().await == "erased").await;
        assert_eq!(places(&pontual, profile, &markers).await, none);
        let photos = pontual.folder().join("files/photos");
        let left = std::fs::read_dir(photos).map(|entries| entries.flatten().count());
        assert!(left.unwrap_or(0) == 0, "a photo is left");

        // A rebuild from the log.
        pontual.kill(0).await;
        for sql in [
            "TRUNCATE accounts, providers, services, appointments, appointment_notes, sessions, waits, audit_trail, notifications, notification_feeds, notification_checkpoints",
            "DELETE FROM checkpoints WHERE projector IN ('read-tables', 'audit', 'availability')",
        ] {
            sqlx::query(sql).execute(&pool).await.expect(sql);
        }
        if profile == Profile::Full {
            mongo(&pontual).await.drop().await.expect("MongoDB answers");
        }
        let heads: Vec<(i16, i64)> =
            sqlx::query_as("SELECT partition, position FROM heads WHERE position > 0")
                .fetch_all(&pool)
                .await
                .expect("heads");
        let heads: Vec<_> = heads.iter().map(|(p, n)| format!("{p}:{n}")).collect();
        let url = pontual.spawn(&["serve"]).await;
        pontual.url.clone_from(&url);
        let (heads, bia, admin) = (heads.join(","), bia.api.at(&url), admin.api.at(&url));
        let rebuilt = async || {
            bia.get_after("/api/users/appointments", &heads).await.status == 200
                && bia.get_after("/api/notifications", &heads).await.status == 200
                && admin.get_after(&account, &heads).await.status == 200
        };
        until("the tables are rebuilt", &pontual, rebuilt).await;
        let checkpoints = "SELECT count(*) FROM checkpoints c JOIN heads h USING (partition)
             WHERE c.projector = 'audit' AND c.position < h.position";
        until("the trail is rebuilt", &pontual, async || {
            let behind: i64 =
                sqlx::query_scalar(checkpoints).fetch_one(&pool).await.expect("a count");
            behind == 0
        })
        .await;
        assert_eq!(places(&pontual, profile, &markers).await, none);
        let row = admin.get(&account).await.expect(200).body;
        assert_eq!((&row["status"], &row["name"]), (&json!("erased"), &Value::Null));

        // Whoever has the address now is somebody else.
        let body = json!({"name": "Ana Again", "email": ana.owner.email, "password": PASSWORD, "locale": "en"});
        pontual.nobody().post("/api/auth/register", body).await.expect(202);
        let token = pontual.confirmation_token(&ana.owner.email).await;
        pontual.nobody().post("/api/auth/confirm", json!({"token": token})).await.expect(200);
        let again = pontual.sign_in(&ana.owner.email, PASSWORD).await;
        assert_ne!(again.account, ana.owner.account);
    }
}

#[tokio::test]
async fn an_erased_guest_is_in_no_store_and_their_link_is_dead() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let markers = Markers::new();
        let word = &markers.word;
        let policy = json!({"minimum_notice_minutes": 0, "horizon_days": 90, "cancellation_window_minutes": 0,
            "confirmation": "manual", "guests": true});
        let carla = pontual.provider_with("Carla", json!({"policy": policy})).await;
        let nobody = pontual.nobody();
        let day = in_days(7, "12:00:00Z");
        let (mut guests, mut after) = (Vec::new(), Vec::new());
        for (name, start) in [("gil", &day), ("eva", &in_days(7, "14:00:00Z"))] {
            let email = format!("{name}.{word}@example.com");
            let contact = json!({"name": format!("{name} {word}"), "email": email,
                "phone": format!("+55{}", markers.digits)});
            let body = json!({"provider_id": carla.id, "start": start,
                "notes": format!("Call me {word}"), "contact": contact});
            let asked = nobody.request("POST", "/api/appointments").header("user-agent", word);
            let booked = nobody.send(asked.json(&body)).await.expect(201);
            after.push(booked.position());
            let mail = pontual.mail_to(&email).await;
            let (_, token) = mail.split_once("#token=").expect("the mail has a link");
            let token =
                token.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c));
            guests.push((token.collect::<String>(), booked.body));
        }
        let by_link = |n: usize, method: &str, path: &str| {
            nobody.request(method, path).header("pontual-guest", &guests[n].0)
        };
        // One calls it off, and says why; the other's stands.
        let why = json!({"reason": format!("Ill. {word}")});
        let off = nobody.send(by_link(0, "DELETE", "/api/guest/appointment").json(&why)).await;
        after.push(off.expect(200).position());
        let list = format!("/api/appointments/provider/{}?day={}", carla.id, &day[..10]);
        let shown = async |after: &str| {
            let lists = carla.owner.api.get_after(&list, after).await.expect(200).body;
            let feed =
                carla.owner.api.get_after("/api/notifications", after).await.expect(200).body;
            (lists, feed)
        };
        let (lists, feed) = shown(&after.join(",")).await;
        assert!(
            markers.is_in(lists.to_string().as_bytes())
                && markers.is_in(feed.to_string().as_bytes())
        );
        let before = places(&pontual, profile, &markers).await;
        assert!(before.iter().any(|place| place.ends_with("appointments")), "{before:?}");
        for log in ["events", "commands", "snapshots", "jobs"] {
            let log = format!("public.{log}");
            assert!(!before.iter().any(|place| place.ends_with(&log)), "{log}: {before:?}");
        }

        let mut erased = Vec::new();
        for n in 0..guests.len() {
            let request = by_link(n, "DELETE", "/api/guest").header("idempotency-key", "go");
            let again = request.try_clone().expect("a request");
            erased.push(nobody.send(request).await.expect(202).position());
            nobody.send(again).await.expect(202);
            nobody.send(by_link(n, "DELETE", "/api/guest")).await.expect(422);
        }
        let (lists, _) = shown(&erased.join(",")).await;
        assert_eq!(lists["items"][1]["status"], "cancelled", "{lists}");
        assert!(!markers.is_in(lists.to_string().as_bytes()), "{lists}");
        nobody.send(by_link(1, "GET", "/api/guest/appointment")).await.expect(422);
        until("the guests are in no store", &pontual, async || {
            places(&pontual, profile, &markers).await.is_empty()
        })
        .await;
        let (_, feed) = shown(&erased.join(",")).await;
        assert_eq!(feed["items"][0]["other_party"], Value::Null);
    }
}

#[tokio::test]
async fn a_worker_that_dies_in_mid_purge_leaves_the_rest_to_another() {
    let mut pontual = Pontual::start(Profile::SingleNode).await;
    let markers = Markers::new();
    let ana = planted(&pontual, &markers).await;
    let bia = pontual.client("Bia").await;
    let booking = json!({"provider_id": ana.id, "start": in_days(7, "12:00:00Z")});
    let booked = bia.api.post("/api/appointments", booking).await.expect(201);
    let position = cancel(&bia.api, &booked.body, "I found another.").await;
    ana.owner.api.get_after("/api/notifications", &position).await.expect(200);

    // Somebody holds what she was told: the purge stops half-way, after the tables.
    let pool = pontual.pool().await;
    let mut held = pool.begin().await.expect("a transaction");
    let hers = "SELECT FROM notifications WHERE recipient_id = $1::uuid FOR UPDATE";
    let rows = sqlx::query(hers).bind(&ana.owner.account).fetch_all(&mut *held).await;
    assert!(!rows.expect("rows").is_empty());
    let account = format!("/api/users/{}", ana.owner.account);
    let erase = ana.owner.api.request("DELETE", &account).json(&json!({"password": PASSWORD}));
    ana.owner.api.send(erase).await.expect(202);
    let waits = "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock'
             AND query LIKE 'DELETE FROM notifications%'";
    let count = async |sql: &'static str| -> i64 {
        sqlx::query_scalar(sql).fetch_one(&pool).await.expect("a count")
    };
    until("the purge is half-way", &pontual, async || count(waits).await > 0).await;
    pontual.kill(0).await;
    assert_eq!(count("SELECT count(*) FROM appointments WHERE service_name IS NOT NULL").await, 0);
    let left = places(&pontual, Profile::SingleNode, &markers).await;
    assert!(left.iter().any(|place| place.contains(".eml")), "{left:?}");
    held.rollback().await.expect("it lets go");

    // An hour later an administrator wonders.
    let sql = "UPDATE erasures SET erased_at = erased_at - interval '1 hour'";
    sqlx::query(sql).execute(&pool).await.expect(sql);
    let (well, said) = pontual.run(&["doctor"], "", &[]).await;
    let line = said.lines().find(|line| line.contains("erasures")).unwrap_or_default();
    assert!(!well && line.starts_with('✗') && line.contains(&ana.owner.account), "{said}");

    // The dead worker's lock on the job runs out.
    let url = pontual.spawn(&["serve"]).await;
    pontual.url = url;
    let sql = "UPDATE jobs SET locked_until = now() WHERE kind = 'PurgeAccount'";
    assert_eq!(sqlx::query(sql).execute(&pool).await.expect(sql).rows_affected(), 1);
    let complete = "SELECT count(*) FROM erasures WHERE stage = 'complete'";
    until("another worker purges her", &pontual, async || count(complete).await == 1).await;
    let none = Vec::<String>::new();
    assert_eq!(places(&pontual, Profile::SingleNode, &markers).await, none);
}

#[tokio::test]
async fn without_redis_every_process_forgets_the_lists_an_erased_person_was_in() {
    let mut pontual = Pontual::start(Profile::SingleNode).await;
    let (ana, carla) = (pontual.client("Ana").await, pontual.provider("Carla").await);
    let start = in_days(7, "12:00:00Z");
    let booking = json!({"provider_id": carla.id, "start": start});
    let booked = ana.api.post("/api/appointments", booking).await.expect(201);
    // Nothing happens on that day any more, so no event says that its list is another.
    let position = cancel(&ana.api, &booked.body, "I am ill.").await;
    let other = pontual.spawn(&["serve"]).await;
    let path = format!("/api/appointments/provider/{}?day={}", carla.id, &start[..10]);
    let both = [carla.owner.api.clone(), carla.owner.api.at(&other)];
    let named = async |api: &Api| {
        let list = api.get_after(&path, &position).await.expect(200).body;
        assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
        list["items"][0]["client_email"] == json!(ana.email)
    };
    for api in &both {
        // Once to fill the list, once from it.
        assert!(named(api).await && named(api).await);
    }
    let account = format!("/api/users/{}", ana.account);
    let erase = ana.api.request("DELETE", &account).json(&json!({"password": PASSWORD}));
    ana.api.send(erase).await.expect(202);
    for api in &both {
        until("she is in no list", &pontual, async || !named(api).await).await;
    }
}
