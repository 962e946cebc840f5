//! Who may do what: every operation the running program describes in its OpenAPI document, tried by everybody.
//!
//! [`table`] says for each `operationId` who may; the test tries it as nobody, as accounts that are gone or closed (with
//! the tokens they had), as one whose address is not confirmed, as a stranger, as either party of an appointment, and in
//! each role, always with ids of things that exist and a body that is good, so that nothing but the rule decides.
//! Whoever may not gets exactly the status of the table, hears nothing of whose thing it is, and changes nothing; whoever
//! may is not refused. An operation without an entry fails the test, and so does an entry without an operation.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use end_to_end::{Answer, Api, Person, Pontual, Profile, Shop, in_days};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";

/// Who tries. Their order is the order in which those who may do it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    /// Without a token.
    Nobody,
    /// With the token of an account that was erased since.
    Erased,
    /// With the token of an account that was deactivated since.
    Deactivated,
    /// Signed in; the address was not confirmed.
    Unconfirmed,
    /// A confirmed client who has nothing to do with any of it.
    Stranger,
    /// Bia: the client of the appointment; the account, the session and the photo are hers.
    Client,
    /// Eva: has a shop of her own.
    OtherProvider,
    Admin,
    Auditor,
    /// Ana: the shop and the service are hers, the appointment is with her, the notification is to her.
    Provider,
}
use Who::*;

const EVERYBODY: [Who; 10] = [
    Nobody,
    Erased,
    Deactivated,
    Unconfirmed,
    Stranger,
    Client,
    OtherProvider,
    Admin,
    Auditor,
    Provider,
];

/// Who may do it.
enum May {
    /// Whoever asks; tokens are not looked at.
    Anybody,
    /// Whoever proves it in the body. The entry's body proves nothing; it is answered so, whoever is signed in.
    Prover(u16),
    /// Whoever is signed in, about themselves alone.
    SignedIn,
    /// Whoever is signed in and has confirmed their address.
    Confirmed,
    /// Whoever has a shop, in it; to others there is none.
    ShopOwner,
    /// These; others get a status, and some another.
    Only(&'static [Who], u16, &'static [(Who, u16)]),
}
use May::*;

impl May {
    /// The status somebody is refused with; `None`: they may.
    fn refusal(&self, who: Who) -> Option<u16> {
        match self {
            Anybody | Prover(_) => None,
            _ if matches!(who, Nobody | Erased | Deactivated) => Some(401),
            SignedIn => None,
            Confirmed => (who == Unconfirmed).then_some(403),
            ShopOwner => (!matches!(who, Provider | OtherProvider)).then_some(404),
            Only(these, _, _) if these.contains(&who) => None,
            Only(_, others, except) => Some(
                except.iter().find(|(one, _)| *one == who).map_or(*others, |(_, status)| *status),
            ),
        }
    }
}

/// A request but for its method and path, which the document says.
#[derive(Default)]
struct Ask {
    segments: Vec<(&'static str, String)>,
    query: String,
    json: Option<Value>,
    picture: Option<Vec<u8>>,
}

impl Ask {
    /// What stands for `{name}` in the path.
    fn at(mut self, name: &'static str, value: &str) -> Self {
        self.segments.push((name, value.to_owned()));
        self
    }

    fn query(self, query: String) -> Self {
        Self { query, ..self }
    }

    fn json(self, body: Value) -> Self {
        Self { json: Some(body), ..self }
    }
}

fn ask() -> Ask {
    Ask::default()
}

struct Entry {
    operation: &'static str,
    may: May,
    ask: fn(&Town, Who) -> Ask,
}

fn to(operation: &'static str, may: May, ask: fn(&Town, Who) -> Ask) -> Entry {
    Entry { operation, may, ask }
}

/// Every operation, in an order in which what ends something comes after what needs it.
fn table() -> Vec<Entry> {
    const PARTIES: &[Who] = &[Client, Provider];
    vec![
        // What everybody may see.
        to("JsonWebKeys", Anybody, |_, _| ask()),
        to("ListProviders", Anybody, |_, _| ask()),
        to("ProviderBySlug", Anybody, |t, _| ask().at("slug", &t.shop.slug)),
        to("ProviderPage", Anybody, |t, _| ask().at("slug", &t.shop.slug)),
        to("ListCategories", Anybody, |_, _| ask()),
        to("Category", Anybody, |t, _| ask().at("id", &t.category)),
        to("ProviderServices", Anybody, |t, _| ask().at("id", &t.shop.id)),
        to("Service", Anybody, |t, _| ask().at("id", &t.service)),
        to("AvailableDays", Anybody, |t, _| {
            ask().query(format!("provider_id={}&month={}", t.shop.id, &in_days(3, "")[..7]))
        }),
        to("AvailableTimes", Anybody, |t, _| {
            ask().query(format!("provider_id={}&day={}", t.shop.id, &in_days(3, "")[..10]))
        }),
        to("AvailableSlots", Anybody, |t, _| {
            let day = in_days(3, "")[..10].to_owned();
            ask().query(format!("provider_id={}&from={day}&to={day}", t.shop.id))
        }),
        to("WhyNotAvailable", Anybody, |t, _| {
            ask().query(format!("provider_id={}&start={}", t.shop.id, in_days(3, "12:00:00Z")))
        }),
        to("Photo", Anybody, |t, _| ask().at("photo", &t.photo).at("file", "64.jpg")),
        // Getting in.
        to("RegisterAccount", Anybody, |_, who| {
            let email = format!("new.{who:?}@example.com");
            ask().json(json!({ "name": "New Person", "email": email, "password": PASSWORD }))
        }),
        to("RequestPasswordReset", Anybody, |t, _| {
            ask().json(json!({ "email": t.people[&Client].email }))
        }),
        to("ConfirmEmail", Prover(422), |t, _| {
            let id = t.people[&Unconfirmed].account.clone();
            ask().json(json!({ "token": format!("{id}.forged") }))
        }),
        to("ConfirmEmailChange", Prover(422), |_, _| ask().json(json!({ "token": "AA.BB" }))),
        to("ResetPassword", Prover(422), |_, _| {
            let body = json!({ "token": "AA.BB", "password": PASSWORD, "password_confirmation": PASSWORD });
            ask().json(body)
        }),
        to("SignIn", Prover(401), |t, _| {
            ask().json(json!({ "email": t.people[&Client].email, "password": "a wrong password" }))
        }),
        to("ReactivateAccount", Prover(401), |t, _| {
            let email = &t.people[&Deactivated].email;
            ask().json(json!({ "email": email, "password": "a wrong password" }))
        }),
        to("GuestAppointment", Prover(401), |_, _| ask()),
        to("RescheduleGuestAppointment", Prover(401), |_, _| {
            ask().json(json!({ "start": in_days(6, "12:00:00Z") }))
        }),
        to("CancelGuestAppointment", Prover(401), |_, _| ask()),
        to("EraseGuest", Prover(401), |_, _| ask()),
        to("RefreshSession", Prover(401), |t, _| {
            ask().json(json!({ "refresh_token": format!("ptr_{}", t.session) }))
        }),
        to("SignOut", Prover(204), |t, _| {
            ask().json(json!({ "refresh_token": format!("ptr_{}", t.session) }))
        }),
        // One's own.
        to("Me", SignedIn, |_, _| ask()),
        to("OwnAccount", SignedIn, |_, _| ask()),
        to("ExportAccount", SignedIn, |_, _| ask()),
        to("ListSessions", SignedIn, |_, _| ask()),
        to("OwnAppointments", SignedIn, |_, _| ask()),
        to("ListNotifications", SignedIn, |_, _| ask()),
        to("NotificationCounts", SignedIn, |_, _| ask()),
        to("UpdateProfile", SignedIn, |t, who| {
            let name = match who {
                Client => t.client_name,
                Provider => t.provider_name,
                Nobody | Erased | Deactivated | Unconfirmed | Stranger | OtherProvider | Admin
                | Auditor => "Another Name",
            };
            ask().json(json!({ "name": name, "phone": t.phone_of(who), "locale": "en" }))
        }),
        to("RequestEmailChange", SignedIn, |_, who| {
            let email = format!("next.{who:?}@example.com");
            ask().json(json!({ "email": email, "password": PASSWORD }))
        }),
        to("EndSession", Only(&[Client], 404, &[]), |t, _| ask().at("id", &t.session)),
        to("ChangePhoto", SignedIn, |t, _| Ask { picture: Some(t.picture.clone()), ..ask() }),
        to("RemovePhoto", SignedIn, |_, _| ask()),
        // Appointments.
        to("BookAppointment", Confirmed, |t, _| {
            let start = in_days(5, "12:00:00Z");
            ask().json(
                json!({ "provider_id": t.shop.id, "start": start, "notes": "as it was said" }),
            )
        }),
        to("JoinWaitlist", Confirmed, |t, _| {
            let (from, to) = (in_days(3, "03:00:00Z"), in_days(3, "03:30:00Z"));
            ask().json(json!({ "provider_id": t.shop.id, "from": from, "to": to }))
        }),
        to("OwnWaits", SignedIn, |_, _| ask()),
        to("WaitlistLength", Only(&[Provider], 403, &[]), |t, _| ask().at("id", &t.shop.id)),
        to("LeaveWaitlist", Only(&[Client], 404, &[]), |t, _| {
            ask().at("id", &t.shop.id).at("wait", &t.wait)
        }),
        to("BookSeries", Confirmed, |t, _| {
            ask().json(json!({
                "provider_id": t.shop.id, "start": in_days(20, "12:00:00Z"),
                "rrule": "FREQ=DAILY;COUNT=2", "mode": "best-effort",
            }))
        }),
        to("HoldSlot", Confirmed, |t, _| {
            ask().json(json!({ "provider_id": t.shop.id, "start": in_days(5, "13:00:00Z") }))
        }),
        to("Hold", Only(&[Client], 404, &[]), |t, _| ask().at("id", &t.hold)),
        to("ReleaseHold", Only(&[Client], 404, &[]), |t, _| ask().at("id", &t.hold)),
        to("AppointmentsOutsideHours", ShopOwner, |_, _| ask()),
        to("Appointment", Only(PARTIES, 404, &[]), |t, _| ask().at("id", &t.appointment)),
        to("ProviderDay", Only(&[Provider], 403, &[]), |t, _| {
            ask().at("id", &t.shop.id).query(format!("day={}", &in_days(3, "")[..10]))
        }),
        to("ProviderCalendar", Only(&[Provider], 403, &[]), |t, _| {
            let query = format!("view=week&date={}", &in_days(3, "")[..10]);
            ask().at("id", &t.shop.id).query(query)
        }),
        to("AppointmentHistory", Only(&[Client, Auditor, Provider], 404, &[]), |t, _| {
            ask().at("id", &t.appointment)
        }),
        to("RescheduleAppointment", Only(PARTIES, 404, &[]), |t, who| {
            let start = in_days(3, if who == Client { "13:00:00Z" } else { "14:00:00Z" });
            ask().at("id", &t.appointment).json(json!({ "start": start }))
        }),
        to("ChangeAppointmentStatus", Only(&[Provider], 404, &[(Client, 403)]), |t, _| {
            ask().at("id", &t.appointment).json(json!({ "status": "confirmed" }))
        }),
        to("NoteAppointment", Only(PARTIES, 404, &[]), |t, _| {
            ask().at("id", &t.appointment).json(json!({ "notes": "for myself" }))
        }),
        to("CancelAppointment", Only(PARTIES, 404, &[]), |t, _| {
            ask().at("id", &t.appointment).json(json!({ "reason": "for a test" }))
        }),
        to("Series", Only(PARTIES, 404, &[]), |t, _| ask().at("id", &t.series)),
        to("CancelSeries", Only(PARTIES, 404, &[]), |t, _| {
            ask().at("id", &t.series).json(json!({ "reason": "for a test" }))
        }),
        to("MarkNotificationRead", Only(PARTIES, 404, &[]), |t, _| ask().at("id", &t.notification)),
        to("MarkAllNotificationsRead", SignedIn, |_, _| ask()),
        // Shops.
        to("OwnProviderProfile", ShopOwner, |_, _| ask()),
        to("ProviderDashboard", ShopOwner, |_, _| ask()),
        to("OwnServices", ShopOwner, |_, _| ask()),
        to("ChangeProviderProfile", ShopOwner, |_, _| {
            ask().json(json!({ "business_name": "A shop" }))
        }),
        to("SetWeeklyHours", ShopOwner, |_, _| {
            let day = json!([{ "from": "08:00", "to": "18:00" }]);
            ask().json(json!({ "time_zone": "America/Sao_Paulo", "weekly": { "monday": day } }))
        }),
        to("OverrideDay", ShopOwner, |_, _| {
            ask().at("date", &in_days(9, "")[..10]).json(json!({ "windows": [] }))
        }),
        to("RemoveOverride", ShopOwner, |_, _| ask().at("date", &in_days(9, "")[..10])),
        to("SetHolidays", ShopOwner, |_, _| ask().json(json!({ "calendar": "brazil" }))),
        to("TimeOff", Only(&[Provider], 403, &[]), |t, _| ask().at("id", &t.shop.id)),
        to("TakeTimeOff", Only(&[Provider], 403, &[]), |t, _| {
            let (from, until) = (in_days(40, "10:00"), in_days(40, "11:00"));
            ask().at("id", &t.shop.id).json(json!({ "from": from, "until": until }))
        }),
        to("CancelTimeOff", Only(&[Provider], 403, &[]), |t, _| {
            ask().at("id", &t.shop.id).at("time_off", &t.time_off)
        }),
        to("SetPolicy", ShopOwner, |_, _| {
            ask().json(json!({
                "minimum_notice_minutes": 0, "horizon_days": 90, "cancellation_window_minutes": 0,
                "confirmation": "manual",
            }))
        }),
        to("ReorderServices", Only(&[Provider], 404, &[(OtherProvider, 422)]), |t, _| {
            ask().json(json!({ "services": [t.service] }))
        }),
        to("AddService", ShopOwner, |_, _| {
            ask().json(json!({ "name": "Barba", "duration_minutes": 30 }))
        }),
        to("ChangeService", Only(&[Provider], 404, &[]), |t, _| {
            ask().at("id", &t.service).json(json!({ "name": "Corte", "duration_minutes": 45 }))
        }),
        to("RemoveService", Only(&[Provider], 404, &[]), |t, _| ask().at("id", &t.service)),
        to("ChangeSlug", ShopOwner, |t, who| {
            let slug = format!("{}-moved-{who:?}", t.shop.slug).to_lowercase();
            ask().json(json!({ "slug": slug }))
        }),
        to("OpenProvider", Confirmed, |t, who| {
            let slug = format!("{}-{who:?}", t.shop.slug).to_lowercase();
            ask().json(json!({ "business_name": "One more", "slug": slug }))
        }),
        // What administrators say.
        to("SetProviderStanding", Only(&[Admin], 403, &[]), |t, _| {
            ask().at("id", &t.shop.id).json(json!({ "is_verified": true, "plan": "pro" }))
        }),
        to("AddCategory", Only(&[Admin], 403, &[]), |_, who| {
            let slug = format!("of-{who:?}").to_lowercase();
            ask().json(json!({ "name": "A category", "slug": slug }))
        }),
        to("ChangeCategory", Only(&[Admin], 403, &[]), |t, _| {
            ask().at("id", &t.category).json(json!({ "name": "Another", "slug": "another" }))
        }),
        to("RemoveCategory", Only(&[Admin], 403, &[]), |t, _| ask().at("id", &t.category)),
        // Roles.
        to("AuditTrail", Only(&[Auditor], 403, &[]), |_, _| ask()),
        to("Account", Only(&[Client, Admin], 403, &[]), |t, _| t.bia()),
        to("AccountErasure", Only(&[Admin], 403, &[]), |t, _| {
            ask().at("id", &t.people[&Erased].account)
        }),
        to("GrantRole", Only(&[Admin], 403, &[]), |t, _| t.bia().at("role", "auditor")),
        to("RevokeRole", Only(&[Admin], 403, &[]), |t, _| t.bia().at("role", "auditor")),
        to("ReactivateSomebody", Only(&[Admin], 403, &[]), |t, _| t.bia()),
        to("DeactivateSomebody", Only(&[Client, Admin], 403, &[]), |t, _| t.bia()),
        // What ends sessions, and people.
        to("ChangePassword", SignedIn, |_, _| {
            ask().json(json!({
                "old_password": PASSWORD, "password": PASSWORD, "password_confirmation": PASSWORD,
            }))
        }),
        to("EndAllSessions", SignedIn, |_, _| ask()),
        to("DeactivateAccount", SignedIn, |_, _| ask()),
        to("EraseAccount", Only(&[Client, Admin], 403, &[]), |t, _| {
            t.bia().json(json!({ "password": PASSWORD }))
        }),
    ]
}

/// Everybody, and the things there are.
struct Town {
    pontual: Pontual,
    pool: sqlx::PgPool,
    people: HashMap<Who, Person>,
    shop: Shop,
    service: String,
    category: String,
    appointment: String,
    hold: String,
    series: String,
    wait: String,
    time_off: String,
    notification: String,
    session: String,
    photo: String,
    picture: Vec<u8>,
    client_name: &'static str,
    provider_name: &'static str,
    client_phone: &'static str,
    provider_phone: &'static str,
    notes: &'static str,
}

impl Town {
    async fn found() -> Self {
        let pontual = Pontual::start(Profile::SingleNode).await;
        let pool = pontual.pool().await;
        let (client_name, provider_name) = ("Beatriz Xyzzyclient", "Adriana Xyzzyprovider");
        let (client_phone, provider_phone) = ("+55 11 91234-0071", "+55 11 91234-0072");
        let notes = "xyzzynotes: ring twice";
        let mut people = HashMap::new();

        let shop = pontual.provider("Ana").await;
        let ana = shop.owner.clone();
        let bia = pontual.client("Bia").await;
        for (person, name, phone) in
            [(&ana, provider_name, provider_phone), (&bia, client_name, client_phone)]
        {
            let profile = json!({ "name": name, "phone": phone, "locale": "en" });
            person.api.put("/api/users/profile", profile).await.expect(200);
        }
        let booking =
            json!({ "provider_id": shop.id, "start": in_days(3, "12:00:00Z"), "notes": notes });
        let booked = bia.api.post("/api/appointments", booking).await.expect(201);
        let (position, text) =
            (booked.position(), |value: &Value| value.as_str().expect("a text").to_owned());
        let appointment = text(&booked.body["id"]);
        let holding = json!({ "provider_id": shop.id, "start": in_days(6, "12:00:00Z") });
        let hold = text(&bia.api.post("/api/holds", holding).await.expect(201).body["id"]);
        let recurring = json!({
            "provider_id": shop.id, "start": in_days(4, "15:00:00Z"), "rrule": "FREQ=DAILY;COUNT=2",
            "mode": "all-or-nothing",
        });
        let series = text(&bia.api.post("/api/series", recurring).await.expect(201).body["id"]);
        let night = json!({
            "provider_id": shop.id, "from": in_days(3, "04:00:00Z"), "to": in_days(3, "05:00:00Z"),
        });
        let wait = text(&bia.api.post("/api/waitlist", night).await.expect(201).body["id"]);
        let off = json!({ "from": in_days(41, "10:00"), "until": in_days(41, "11:00") });
        let path = format!("/api/providers/{}/time-off", shop.id);
        let time_off = text(&ana.api.post(&path, off).await.expect(201).body["id"]);
        let feed = ana.api.get_after("/api/notifications", &position).await.expect(200);
        let notification = text(&feed.body["items"][0]["id"]);
        let services = ana.api.get("/api/services/my-services").await.expect(200);
        let service = text(&services.body["items"][0]["id"]);
        let credentials = json!({ "email": bia.email, "password": PASSWORD });
        let elsewhere = pontual.nobody().post("/api/auth/login", credentials).await.expect(200);
        let session = text(&elsewhere.body["session_id"]);
        let picture = picture();
        let request =
            bia.api.request("PUT", "/api/users/photo").header("content-type", "image/png");
        let shown = bia.api.send(request.body(picture.clone())).await.expect(200);
        let url = text(&shown.body["photo"]["small"]);
        let photo = url.rsplit('/').nth(1).expect("the URL has an id").to_owned();

        let erased = pontual.client("Edu").await;
        let path = format!("/api/users/{}", erased.account);
        let erasure = erased.api.request("DELETE", &path).json(&json!({ "password": PASSWORD }));
        erased.api.send(erasure).await.expect(202);
        let closed = pontual.client("Davi").await;
        closed.api.post("/api/users/deactivate", json!({})).await.expect(200);
        let email = "ugo@example.com";
        let registration = json!({ "name": "Ugo Test", "email": email, "password": PASSWORD });
        pontual.nobody().post("/api/auth/register", registration).await.expect(202);

        let create = ["admin", "create", "--email", "admin@example.com", "--name", "Adm Test"];
        let (made, said) = pontual.run(&create, &format!("{PASSWORD}\n"), &[]).await;
        assert!(made, "{said}");
        let admin = pontual.sign_in("admin@example.com", PASSWORD).await;
        let category = json!({ "name": "Hair", "slug": "hair" });
        let category = admin.api.post("/api/categories", category).await.expect(201);
        let category = text(&category.body["id"]);
        let auditor = pontual.client("Abel").await;
        let role = format!("/api/users/{}/roles/auditor", auditor.account);
        admin.api.send(admin.api.request("PUT", &role)).await.expect(200);

        let eva = pontual.provider("Eva").await.owner;
        let nobody = Person { api: pontual.nobody(), account: String::new(), email: String::new() };
        people.extend([
            (Nobody, nobody),
            (Erased, erased),
            (Deactivated, closed),
            (Unconfirmed, pontual.sign_in(email, PASSWORD).await),
            (Stranger, pontual.client("Caio").await),
            (Client, bia),
            (OtherProvider, eva),
            (Admin, admin),
            (Auditor, pontual.sign_in(&auditor.email, PASSWORD).await),
            (Provider, ana),
        ]);
        Self {
            pontual,
            pool,
            people,
            shop,
            service,
            category,
            appointment,
            hold,
            series,
            wait,
            time_off,
            notification,
            session,
            photo,
            picture,
            client_name,
            provider_name,
            client_phone,
            provider_phone,
            notes,
        }
    }

    /// Bia's account.
    fn bia(&self) -> Ask {
        ask().at("id", &self.people[&Client].account)
    }

    fn phone_of(&self, who: Who) -> Option<&'static str> {
        match who {
            Client => Some(self.client_phone),
            Provider => Some(self.provider_phone),
            Nobody | Erased | Deactivated | Unconfirmed | Stranger | OtherProvider | Admin
            | Auditor => None,
        }
    }

    fn api(&self, who: Who) -> &Api {
        &self.people[&who].api
    }

    /// Signs somebody in again whose session one of the operations ended, and opens what it closed.
    async fn revive(&mut self, who: Who) {
        if matches!(who, Nobody | Erased | Deactivated)
            || self.api(who).get("/api/auth/me").await.status == 200
        {
            return;
        }
        let person = self.people[&who].clone();
        let credentials = json!({ "email": person.email, "password": PASSWORD });
        let nobody = self.pontual.nobody();
        if nobody.post("/api/auth/reactivate", credentials).await.status != 200 {
            let path = format!("/api/users/{}/reactivate", person.account);
            self.api(Admin).post(&path, json!({})).await.expect(200);
        }
        let signed_in = self.pontual.sign_in(&person.email, PASSWORD).await;
        self.people.insert(who, signed_in);
    }

    /// What the log has: events, the sum of its heads, commands.
    async fn written(&self) -> (i64, i64, i64) {
        sqlx::query_as(
            "SELECT (SELECT count(*) FROM events), (SELECT sum(position)::bigint FROM heads), \
             (SELECT count(*) FROM commands)",
        )
        .fetch_one(&self.pool)
        .await
        .expect("the log can be counted")
    }

    async fn attempt(&self, operation: &Operation, entry: &Entry, who: Who) -> Answer {
        let asked = (entry.ask)(self, who);
        let mut path = operation.path.clone();
        for (name, value) in &asked.segments {
            path = path.replace(&format!("{{{name}}}"), value);
        }
        assert!(!path.contains('{'), "{}: the entry gives no {path}", entry.operation);
        if !asked.query.is_empty() {
            path = format!("{path}?{}", asked.query);
        }
        let api = self.api(who);
        let mut request = api.request(&operation.method, &path);
        if let Some(body) = &asked.json {
            request = request.json(body);
        }
        if let Some(picture) = asked.picture {
            request = request.header("content-type", "image/png").body(picture);
        }
        api.send(request).await
    }

    /// What somebody must not read in an answer, though it is their good right to get one.
    fn secrets(&self, operation: &str, who: Who, refused: bool) -> Vec<String> {
        let (bia, ana) = (&self.people[&Client], &self.people[&Provider]);
        let of_bia = [self.client_name, self.client_phone, self.notes, &bia.email];
        let of_ana = [self.provider_name, self.provider_phone, &ana.email];
        let knows_bia = matches!(who, Client | Provider) || (operation, who) == ("Account", Admin);
        let mut secrets = Vec::new();
        if refused || !knows_bia {
            secrets.extend(of_bia);
        }
        if refused || who != Provider {
            secrets.extend(of_ana);
        }
        secrets.into_iter().map(str::to_lowercase).collect()
    }
}

/// A small red square.
fn picture() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(80, 80, image::Rgb([200, 30, 30]))
        .write_to(&mut bytes, image::ImageFormat::Png)
        .expect("it is drawn");
    bytes.into_inner()
}

struct Operation {
    method: String,
    path: String,
}

/// All operations of the document the program serves.
async fn operations(api: &Api) -> BTreeMap<String, Operation> {
    let document = api.get("/openapi.json").await.expect(200).body;
    let mut operations = BTreeMap::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let Some(name) = operation["operationId"].as_str() else { continue };
            let found = Operation { method: method.to_uppercase(), path: path.clone() };
            let twice = operations.insert(name.to_owned(), found);
            assert!(twice.is_none(), "{name} is the name of two operations");
        }
    }
    operations
}

/// A refusal says its kind, and nothing else.
fn says_no_more(answer: &Answer, what: &str) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
    let known = ["type", "title", "status", "detail", "trace_id", "errors"];
    for key in answer.body.as_object().expect("a problem is an object").keys() {
        assert!(known.contains(&key.as_str()), "{what} tells {key}: {}", answer.body);
    }
}

#[tokio::test]
async fn everybody_may_do_what_the_table_says_and_nothing_else() {
    let mut town = Town::found().await;
    let (operations, table) = (operations(&town.pontual.nobody()).await, table());
    let named: BTreeSet<&str> = table.iter().map(|entry| entry.operation).collect();
    assert_eq!(named.len(), table.len(), "an operation has two entries");
    for (name, Operation { method, path }) in &operations {
        assert!(
            named.contains(name.as_str()),
            "{name} ({method} {path}) has no entry: say in table(), in tests/tests/it/authorization.rs, who may do it, \
             with a body that is good"
        );
    }
    for name in &named {
        assert!(
            operations.contains_key(*name),
            "{name} is no operation any more: remove its entry"
        );
    }

    let mut wrong = Vec::new();
    for entry in &table {
        let operation = &operations[entry.operation];
        town.revive(Admin).await;
        for who in EVERYBODY {
            town.revive(who).await;
        }
        for who in EVERYBODY {
            let what = format!("{} as {who:?}", entry.operation);
            let proof = matches!(entry.may, Prover(_));
            let expected = match entry.may {
                Prover(status) => status,
                Anybody | SignedIn | Confirmed | ShopOwner | Only(..) => {
                    match entry.may.refusal(who) {
                        Some(status) => status,
                        None => continue,
                    }
                }
            };
            let before = town.written().await;
            let answer = town.attempt(operation, entry, who).await;
            if answer.status != expected {
                wrong.push(format!(
                    "{what}: {} instead of {expected}: {}",
                    answer.status, answer.body
                ));
                continue;
            }
            if expected >= 400 {
                says_no_more(&answer, &what);
            }
            if !proof && expected == 401 {
                let kind = if who == Nobody { "sign-in-required" } else { "invalid-token" };
                assert_eq!(answer.problem(), kind, "{what}");
            }
            assert_eq!(town.written().await, before, "{what} was refused, and wrote");
            hides(&town, entry, who, &answer, true);
        }
        let mut done = matches!(entry.may, Prover(_));
        for who in EVERYBODY {
            if matches!(entry.may, Prover(_)) || entry.may.refusal(who).is_some() {
                continue;
            }
            town.revive(who).await;
            let answer = town.attempt(operation, entry, who).await;
            done |= (200..300).contains(&answer.status);
            // What may not be done twice, and that one cannot book with oneself, is not about who asks.
            let by_rule = (200..300).contains(&answer.status)
                || answer.status == 409
                || answer.problem() == "own-appointment";
            if !by_rule {
                let answered = format!("{} {}", answer.status, answer.body);
                wrong.push(format!("{} as {who:?} may, and got {answered}", entry.operation));
            }
            hides(&town, entry, who, &answer, false);
        }
        assert!(done, "{}: nobody got it done; {wrong:#?}", entry.operation);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!town.pontual.log().contains("panicked"), "{}", town.pontual.log());
}

/// Fails if an answer shows somebody what is not theirs to know.
fn hides(town: &Town, entry: &Entry, who: Who, answer: &Answer, refused: bool) {
    let text = format!("{:?} {}", answer.headers, answer.body).to_lowercase();
    for secret in town.secrets(entry.operation, who, refused) {
        assert!(!text.contains(&secret), "{} tells {who:?} {secret}: {text}", entry.operation);
    }
}
