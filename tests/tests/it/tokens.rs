//! Access tokens as a forger would make them, and some that only whoever has the signing key could: none is believed,
//! by any endpoint or socket, and none changes anything.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use end_to_end::socket::Socket;
use end_to_end::{Person, Pontual, Profile, in_days};
use jsonwebtoken::{Algorithm, EncodingKey};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const PASSWORD: &str = "correct horse battery";

/// An Ed25519 key in PKCS#8 PEM form (RFC 8410): a fixed prefix and the seed.
fn signing_key(seed: [u8; 32]) -> String {
    let prefix: [u8; 16] = [
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    let text = STANDARD.encode([&prefix[..], &seed].concat());
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Makes tokens of any form with the server's own key, or another.
struct Forge {
    ours: EncodingKey,
    theirs: EncodingKey,
    header: Value,
    claims: Value,
}

impl Forge {
    fn sign(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        signed(&self.ours, Algorithm::EdDSA, header, payload)
    }

    /// The good claims under a header changed by this.
    fn header(&self, change: Value) -> String {
        self.sign(with(&self.header, change).to_string(), self.claims.to_string())
    }

    /// The good header over claims changed by this.
    fn claims(&self, change: Value) -> String {
        self.sign(self.header.to_string(), with(&self.claims, change).to_string())
    }

    /// The good header over this.
    fn payload(&self, payload: impl AsRef<[u8]>) -> String {
        self.sign(self.header.to_string(), payload)
    }

    fn without_header(&self, name: &str) -> String {
        self.sign(without(&self.header, name).to_string(), self.claims.to_string())
    }

    fn without_claim(&self, name: &str) -> String {
        self.payload(without(&self.claims, name).to_string())
    }
}

fn signed(
    key: &EncodingKey,
    algorithm: Algorithm,
    header: impl AsRef<[u8]>,
    payload: impl AsRef<[u8]>,
) -> String {
    let message = format!("{}.{}", base64url(header), base64url(payload));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm)
        .expect("it is of the form it was made in");
    format!("{message}.{signature}")
}

fn with(object: &Value, change: Value) -> Value {
    let mut object = object.clone();
    for (key, value) in change.as_object().expect("an object") {
        object[key] = value.clone();
    }
    object
}

fn without(object: &Value, name: &str) -> Value {
    let mut object = object.clone();
    object.as_object_mut().expect("an object").remove(name).expect("it was there");
    object
}

fn part(token: &str, n: usize) -> &str {
    token.split('.').nth(n).expect("it is of the form it was made in")
}

/// A part of a token as JSON.
fn read(token: &str, n: usize) -> Value {
    serde_json::from_slice(
        &URL_SAFE_NO_PAD.decode(part(token, n)).expect("it is of the form it was made in"),
    )
    .expect("it is of the form it was made in")
}

/// Tokens that are none, each by its name. `key` is the public key, as JWKS shows it; `ended` a session that is over.
#[expect(clippy::too_many_lines, reason = "a list")]
fn bad_tokens(
    forge: &Forge,
    good: &str,
    refresh: &str,
    key: &Value,
    ended: &Value,
) -> Vec<(String, String)> {
    let (header, claims) = (forge.header.to_string(), forge.claims.to_string());
    let [h, p, s] = [0, 1, 2].map(|n| part(good, n));
    let iat = forge.claims["iat"].as_i64().expect("it is of the form it was made in");
    let x = key["x"].as_str().expect("a text");
    let raw_key = URL_SAFE_NO_PAD.decode(x).expect("it is of the form it was made in");
    let spki = [&hex("302a300506032b6570032100")[..], &raw_key].concat();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(spki)
    );
    let mut bad: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, token: String| bad.push((name.to_owned(), token));

    // Algorithms.
    for alg in ["none", "None", "NONE", "nOnE"] {
        let unsigned = base64url(with(&forge.header, json!({ "alg": alg })).to_string());
        add(&format!("alg {alg}, not signed"), format!("{unsigned}.{p}."));
        add(&format!("alg {alg}, our signature"), format!("{unsigned}.{p}.{s}"));
        add(&format!("alg {alg}, signed by us"), forge.header(json!({ "alg": alg })));
    }
    for (what, secret) in [
        ("the public key's text", x.as_bytes().to_vec()),
        ("the public key's bytes", raw_key),
        ("the public key's PEM", pem.clone().into_bytes()),
        ("the public key's PEM, trimmed", pem.trim().as_bytes().to_vec()),
        ("the JWK", key.to_string().into_bytes()),
        ("the key's id", forge.header["kid"].as_str().expect("a text").as_bytes().to_vec()),
        ("nothing", Vec::new()),
    ] {
        let secret = EncodingKey::from_secret(&secret);
        for (name, algorithm) in
            [("HS256", Algorithm::HS256), ("HS384", Algorithm::HS384), ("HS512", Algorithm::HS512)]
        {
            let header = with(&forge.header, json!({ "alg": name })).to_string();
            add(&format!("{name} with {what}"), signed(&secret, algorithm, header, &claims));
        }
        add(
            &format!("HMAC with {what}, called EdDSA"),
            signed(&secret, Algorithm::HS256, &header, &claims),
        );
    }
    for alg in [
        json!("RS256"),
        json!("PS256"),
        json!("ES256"),
        json!("ES384"),
        json!("HS256"),
        json!("Ed25519"),
        json!("eddsa"),
        json!("EDDSA"),
        json!("EdDSA "),
        json!(""),
        json!(null),
        json!(1),
        json!(["EdDSA"]),
    ] {
        add(&format!("alg {alg}, signed by us"), forge.header(json!({ "alg": alg })));
    }
    add("no alg", forge.without_header("alg"));

    // Types and keys.
    for typ in [
        json!("JWT"),
        json!("jwt"),
        json!("AT+JWT"),
        json!("at+jwt "),
        json!(""),
        json!(null),
        json!(1),
    ] {
        add(&format!("typ {typ}"), forge.header(json!({ "typ": typ })));
    }
    add("no typ", forge.without_header("typ"));
    for kid in [
        json!("another"),
        json!(""),
        json!(null),
        json!(7),
        json!("../../keys/signing.pem"),
        json!("/dev/null"),
        json!("' OR 1=1 --"),
        json!("%2e%2e/"),
        json!("\u{0}"),
        json!("k".repeat(2_000)),
        json!([forge.header["kid"]]),
    ] {
        let shown: String = kid.to_string().chars().take(30).collect();
        add(&format!("kid {shown}"), forge.header(json!({ "kid": kid })));
    }
    add("no kid", forge.without_header("kid"));
    let their_jwk =
        json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url([9; 32]), "kid": "theirs" });
    for (name, value) in [
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/key.pem")),
        ("jwk", their_jwk),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("AAAA")),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("enc", json!("A128GCM")),
        ("nonce", json!("1")),
    ] {
        let change = json!({ name: value });
        let theirs = with(&forge.header, change.clone()).to_string();
        add(
            &format!("{name}, signed by them"),
            signed(&forge.theirs, Algorithm::EdDSA, theirs, &claims),
        );
        let theirs =
            with(&with(&forge.header, change.clone()), json!({ "kid": "theirs" })).to_string();
        let what = format!("{name}, signed by them under their kid");
        add(&what, signed(&forge.theirs, Algorithm::EdDSA, theirs, &claims));
        add(&format!("{name}, signed by us"), forge.header(change));
    }
    // A stored block of DEFLATE (RFC 1951).
    let length = u16::try_from(claims.len()).expect("it is of the form it was made in");
    let deflated =
        [&[1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), claims.as_bytes()].concat();
    let zip = with(&forge.header, json!({ "zip": "DEF" })).to_string();
    add("zip, and deflated", forge.sign(zip, deflated));
    add("crit b64 with a plain payload", {
        let header = with(&forge.header, json!({ "b64": false, "crit": ["b64"] })).to_string();
        let message = format!("{}.{claims}", base64url(header));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &forge.ours, Algorithm::EdDSA);
        format!("{message}.{}", signature.expect("it is of the form it was made in"))
    });

    // Whom for, whom from.
    for aud in [
        json!("somebody-else"),
        json!("Pontual"),
        json!(""),
        json!(null),
        json!(["pontual"]),
        json!(["somebody-else"]),
        json!([]),
        json!({}),
        json!(1),
    ] {
        add(&format!("aud {aud}"), forge.claims(json!({ "aud": aud })));
    }
    for iss in [
        json!("https://evil.example"),
        json!("http://pontual.localhost/"),
        json!("http://pontual.localhost.evil.example"),
        json!(""),
        json!(null),
        json!(["http://pontual.localhost"]),
        json!(1),
    ] {
        add(&format!("iss {iss}"), forge.claims(json!({ "iss": iss })));
    }

    // Times.
    let past = json!({ "iat": iat - 1000, "nbf": iat - 1000, "exp": iat - 100 });
    add("expired", forge.claims(past));
    add("nbf in the future", forge.claims(json!({ "nbf": iat + 300 })));
    add("iat in the future", forge.claims(json!({ "iat": iat + 300 })));
    add("living 15 minutes and a second", forge.claims(json!({ "exp": iat + 901 })));
    add("living a year", forge.claims(json!({ "exp": iat + 31_536_000 })));
    add("iat long ago", forge.claims(json!({ "iat": 0 })));
    for name in ["exp", "nbf", "iat"] {
        let good = iat + 300;
        for value in [
            json!("2031-01-01T00:00:00Z"),
            json!(good.to_string()),
            json!(null),
            json!(true),
            json!([good]),
            json!(-1),
            json!(i64::MAX),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(1e300),
            json!({ "at": good }),
        ] {
            // A beginning long ago is no beginning too early.
            if name != "nbf" || !matches!(value.as_i64(), Some(-1)) {
                add(&format!("{name} {value}"), forge.claims(json!({ name: value })));
            }
        }
        let float = claims.replace(&format!("\"{name}\":"), &format!("\"{name}\":0.5e0,\"was\":"));
        add(&format!("{name} a fraction"), forge.payload(float));
        let float = claims.replace(
            &format!("\"{name}\":{}", forge.claims[name]),
            &format!("\"{name}\":{}.0", forge.claims[name]),
        );
        assert_ne!(float, claims);
        add(&format!("{name} a float"), forge.payload(float));
    }

    // Who, since when, as what.
    for (name, values) in [
        (
            "sub",
            vec![
                json!("1"),
                json!(""),
                json!(null),
                json!(7),
                json!([]),
                json!("3f2b8d6e-5c1d-4e6f-8a9b-0c1d2e3f4a5b"),
                json!("admin"),
            ],
        ),
        (
            "sid",
            vec![
                json!("1"),
                json!(""),
                json!(null),
                json!(7),
                json!("3f2b8d6e-5c1d-4e6f-8a9b-0c1d2e3f4a5b"),
                ended.clone(),
            ],
        ),
        (
            "gen",
            vec![
                json!(-1),
                json!("1"),
                json!(null),
                json!(0.5),
                json!(4_294_967_296_i64),
                json!([1]),
            ],
        ),
        (
            "roles",
            vec![
                json!("admin"),
                json!(["root"]),
                json!(["client", "root"]),
                json!([["admin"]]),
                json!(null),
                json!(7),
                json!({ "admin": true }),
            ],
        ),
    ] {
        for value in values {
            add(&format!("{name} {value}"), forge.claims(json!({ name: value })));
        }
    }
    for name in ["aud", "iss", "exp", "nbf", "iat", "sub", "sid", "gen", "roles"] {
        add(&format!("no {name}"), forge.without_claim(name));
    }

    // Signatures.
    add(
        "signed by another key under our kid",
        signed(&forge.theirs, Algorithm::EdDSA, &header, &claims),
    );
    add("no signature", format!("{h}.{p}."));
    add("a signature of zeros", format!("{h}.{p}.{}", base64url([0; 64])));
    add("the signature of another payload", {
        let other = forge.claims(json!({ "roles": ["client", "admin"] }));
        format!("{}.{}.{s}", part(&other, 0), part(&other, 1))
    });
    for bit in [0, 255, 256, 511] {
        let mut bytes = URL_SAFE_NO_PAD.decode(s).expect("it is of the form it was made in");
        bytes[bit / 8] ^= 1 << (bit % 8);
        add(
            &format!("bit {bit} of the signature flipped"),
            format!("{h}.{p}.{}", base64url(bytes)),
        );
    }
    let last = s.chars().last().expect("it is of the form it was made in");
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet
        .chars()
        .nth(alphabet.find(last).expect("it is of the form it was made in") + 1)
        .expect("it is of the form it was made in");
    add("bits behind the signature", format!("{h}.{p}.{}{next}", &s[..s.len() - 1]));

    // Forms.
    for (name, token) in [
        ("only a header", h.to_owned()),
        ("a header and a dot", format!("{h}.")),
        ("two parts", format!("{h}.{p}")),
        ("no header", format!(".{p}.{s}")),
        ("no payload", format!("{h}..{s}")),
        ("dots", "..".to_owned()),
        ("a dot before", format!(".{good}")),
        ("a dot behind", format!("{good}.")),
        ("four parts", format!("{good}.{s}")),
        ("five parts", format!("{h}.{p}.{s}.{p}.{s}")),
        ("twice", format!("{good}{good}")),
        ("the header cut", format!("{}.{p}.{s}", &h[..h.len() - 1])),
        ("the payload cut", format!("{h}.{}.{s}", &p[..p.len() - 1])),
        ("the signature cut", format!("{h}.{p}.{}", &s[..s.len() - 1])),
        ("the signature longer", format!("{good}A")),
        ("padded", format!("{h}.{p}.{s}==")),
        ("padded in the middle", format!("{h}=.{p}=.{s}==")),
        ("standard base64", format!("{h}.{p}.+/{}", &s[2..])),
        ("a space inside", format!("{h}. {p}.{s}")),
        ("a tab inside", format!("{h}.{p}\t.{s}")),
        ("percent encoded", good.replace('.', "%2E")),
        ("in quotes", format!("\"{good}\"")),
        ("in brackets", format!("<{good}>")),
        ("lower case", good.to_lowercase()),
        ("upper case", good.to_uppercase()),
        ("swapped parts", format!("{p}.{h}.{s}")),
        ("a comma and another", format!("{good},{good}")),
        ("garbage", "a.b.c".to_owned()),
        ("not base64", "!!!.???.***".to_owned()),
        ("null", "null".to_owned()),
        ("undefined", "undefined".to_owned()),
        ("an object", "{}".to_owned()),
        ("letters beyond ASCII", "ação.ação.ação".to_owned()),
        ("a refresh token", refresh.to_owned()),
        ("a hundred kilobytes", "A".repeat(100_000)),
        ("a hundred kilobytes of dots", ".".repeat(100_000)),
    ] {
        add(name, token);
    }
    add("five kilobytes, well signed", forge.claims(json!({ "more": "x".repeat(5_000) })));
    for (name, payload) in [
        ("no object", "[]"),
        ("a text", "\"x\""),
        ("nothing", ""),
        ("null", "null"),
        ("half an object", "{\"sub\":"),
    ] {
        add(&format!("the payload is {name}"), forge.payload(payload));
    }
    add("the payload is not UTF-8", forge.payload(b"\xff\xfe{}"));
    add("the payload begins with a byte order mark", forge.payload(format!("\u{feff}{claims}")));
    add("the payload goes on", forge.payload(format!("{claims}{{}}")));
    add("the payload is deep", forge.payload("[".repeat(1_500)));
    for name in ["sub", "sid", "exp", "aud", "iss", "gen", "roles"] {
        let twice = claims.replacen('{', &format!("{{\"{name}\":{},", forge.claims[name]), 1);
        add(&format!("{name} twice"), forge.payload(twice));
    }
    for (name, value) in [("alg", "none"), ("kid", "other"), ("typ", "JWT")] {
        let twice = header.replacen('{', &format!("{{\"{name}\":\"{value}\","), 1);
        add(&format!("{name} twice in the header"), forge.sign(twice, &claims));
    }
    add("the header is no object", forge.sign("[]", &claims));
    add("the header is a text", forge.sign("\"EdDSA\"", &claims));
    bad
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("it is of the form it was made in"))
        .collect()
}

struct World {
    pontual: Pontual,
    pool: sqlx::PgPool,
    bia: Person,
    refresh: String,
    booking: Value,
    forge: Forge,
    key: Value,
}

impl World {
    async fn found() -> Self {
        let seed: [u8; 32] = rand::random();
        let pem = signing_key(seed);
        let pontual =
            Pontual::start_with(Profile::SingleNode, 4, &[("PONTUAL_SIGNING_KEY", &pem)]).await;
        let ana = pontual.provider("Ana").await;
        let bia = pontual.client("Bia").await;
        let credentials = json!({ "email": bia.email, "password": PASSWORD });
        let session = pontual.nobody().post("/api/auth/login", credentials).await.expect(200);
        let token = session.body["access_token"].as_str().expect("a text").to_owned();
        let bia = Person { api: end_to_end::Api { token: Some(token.clone()), ..bia.api }, ..bia };
        let encoding = |pem: &str| {
            EncodingKey::from_ed_pem(pem.as_bytes()).expect("it is of the form it was made in")
        };
        let forge = Forge {
            ours: encoding(&pem),
            theirs: encoding(&signing_key(rand::random())),
            header: read(&token, 0),
            claims: read(&token, 1),
        };
        let keys = pontual.nobody().get("/.well-known/jwks.json").await.expect(200);
        Self {
            pool: pontual.pool().await,
            refresh: session.body["refresh_token"].as_str().expect("a text").to_owned(),
            booking: json!({ "provider_id": ana.id, "start": in_days(3, "12:00:00Z") }),
            key: keys.body["keys"][0].clone(),
            pontual,
            bia,
            forge,
        }
    }

    /// Some operations that need a token: queries, commands, one that would do with none but refuses a bad one.
    fn operations(&self) -> Vec<(&'static str, &'static str, Option<Value>)> {
        let profile = json!({ "name": "Somebody Else", "locale": "en" });
        vec![
            ("GET", "/api/auth/me", None),
            ("GET", "/api/users/appointments", None),
            ("POST", "/api/appointments", Some(self.booking.clone())),
            ("PUT", "/api/users/profile", Some(profile)),
            ("DELETE", "/api/auth/sessions", None),
            ("POST", "/api/auth/logout", None),
        ]
    }

    async fn events(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM events")
            .fetch_one(&self.pool)
            .await
            .expect("the log can be counted")
    }

    /// What each operation answers to these `Authorization` headers: status, content type, problem, challenge.
    async fn answers(&self, headers: &[Vec<u8>]) -> Vec<(String, end_to_end::Answer)> {
        let api = self.pontual.nobody();
        let mut answers = Vec::new();
        for (method, path, body) in self.operations() {
            let mut request = api.request(method, path);
            for header in headers {
                request = request.header(
                    AUTHORIZATION,
                    HeaderValue::from_bytes(header).expect("it is of the form it was made in"),
                );
            }
            if let Some(body) = &body {
                request = request.json(body);
            }
            answers.push((format!("{method} {path}"), api.send(request).await));
        }
        answers
    }

    /// The status a websocket's handshake is answered with.
    async fn handshake(&self, headers: &[Vec<u8>]) -> u16 {
        let url = format!("{}/ws", self.pontual.url.replacen("http", "ws", 1));
        let mut request = url.into_client_request().expect("it is of the form it was made in");
        for header in headers {
            let value = tungstenite::http::HeaderValue::from_bytes(header)
                .expect("it is of the form it was made in");
            request.headers_mut().append("authorization", value);
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((_, answer)) => answer.status().as_u16(),
            Err(tungstenite::Error::Http(answer)) => answer.status().as_u16(),
            Err(error) => panic!("the handshake failed: {error}"),
        }
    }
}

#[tokio::test]
async fn no_forged_or_garbled_token_is_believed_anywhere() {
    let world = World::found().await;
    let good = world.bia.api.token.clone().expect("it is of the form it was made in");
    // What the forge makes is good as long as nothing is changed; so each of the others is bad for its own reason.
    let again = world.forge.claims(json!({}));
    let api = end_to_end::Api { token: Some(again), ..world.bia.api.clone() };
    api.get("/api/auth/me").await.expect(200);
    let more = end_to_end::Api { token: Some(world.forge.claims(json!({ "more": 1 }))), ..api };
    more.get("/api/auth/me").await.expect(200);
    // A session that is over.
    let other = world.pontual.sign_in(&world.bia.email, PASSWORD).await;
    let ended =
        read(other.api.token.as_deref().expect("it is of the form it was made in"), 1)["sid"]
            .clone();
    other.api.post("/api/auth/logout", json!({})).await.expect(204);

    let before = world.events().await;
    let bad = bad_tokens(&world.forge, &good, &world.refresh, &world.key, &ended);
    assert!(bad.len() >= 40, "{}", bad.len());
    let bearer = |token: &str| vec![format!("Bearer {token}").into_bytes()];
    let mut cases: Vec<(String, Vec<Vec<u8>>)> =
        bad.iter().map(|(name, token)| (name.clone(), bearer(token))).collect();
    for (name, header) in [
        ("Basic", format!("Basic {}", STANDARD.encode("ana:secret"))),
        ("Digest", "Digest username=\"ana\"".to_owned()),
        ("another scheme", format!("Token {good}")),
        ("DPoP", format!("DPoP {good}")),
        ("no scheme", good.clone()),
        ("only a scheme", "Bearer".to_owned()),
        ("a scheme and a space", "Bearer ".to_owned()),
        ("an empty header", String::new()),
        ("the scheme twice", format!("Bearer Bearer {good}")),
        ("a colon", format!("Bearer: {good}")),
        ("a tab behind the scheme", format!("Bearer\t{good}")),
        ("a list of two", format!("Bearer {good}, Bearer {good}")),
    ] {
        cases.push((name.to_owned(), vec![header.into_bytes()]));
    }
    let (good_header, bad_header) = (bearer(&good).remove(0), bearer("a.b.c").remove(0));
    cases.push(("two good headers".to_owned(), vec![good_header.clone(), good_header.clone()]));
    cases.push((
        "a good and a bad header".to_owned(),
        vec![good_header.clone(), bad_header.clone()],
    ));
    cases.push(("a bad and a good header".to_owned(), vec![bad_header, good_header.clone()]));
    cases.push(("bytes that are no text".to_owned(), vec![b"Bearer \xff\xfe\x80".to_vec()]));

    let mut wrong = Vec::new();
    for (name, headers) in &cases {
        let large = headers.iter().map(Vec::len).sum::<usize>() > 8 * 1024;
        for (what, answer) in world.answers(headers).await {
            let refused = answer.status == 401
                && answer.problem() == "invalid-token"
                && answer.header("content-type") == Some("application/problem+json")
                && answer.header("www-authenticate") == Some("Bearer error=\"invalid_token\"");
            if !(refused || large && [400, 431].contains(&answer.status)) {
                wrong.push(format!("{name}: {what}: {} {}", answer.status, answer.body));
            }
        }
        let status = world.handshake(headers).await;
        if status != 401 && !(large && [400, 431].contains(&status)) {
            wrong.push(format!("{name}: the websocket's handshake: {status}"));
        }
    }
    for (name, token) in &bad {
        let mut socket = Socket::connect(&world.pontual.url).await;
        socket.send(json!({ "type": "authenticate", "token": token })).await;
        let code = socket.closed().await;
        // More than a message may have is refused before it is read.
        if code != Some(4401) && token.len() < 10_000 {
            wrong.push(format!("{name}: the socket: {code:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), cases.len());
    assert_eq!(world.events().await, before);
    let log = world.pontual.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(!log.contains(part(&good, 2)), "a token is in the log");
    // A token in the URL is not read.
    let api = world.pontual.nobody();
    let in_url = api.get(&format!("/api/auth/me?access_token={good}")).await;
    assert!([400, 401].contains(&in_url.status), "{}", in_url.body);
    // An access token is no refresh token.
    for token in [good.as_str(), "", "ptr_", "ptr_AAAA", &good.repeat(100), "ptr_\u{0}", "ação"] {
        let answer = api.post("/api/auth/refresh", json!({ "refresh_token": token })).await;
        assert_eq!((answer.status, answer.problem()), (401, "session-ended"), "{}", answer.body);
    }
    assert_eq!(world.events().await, before);
    // After all that, hers still is good, and a lower-case scheme is one too (RFC 9110).
    world.bia.api.get("/api/auth/me").await.expect(200);
    let lower = [b"bearer ".to_vec(), good.into_bytes()].concat();
    assert_eq!(world.handshake(std::slice::from_ref(&lower)).await, 101);
    assert_eq!(world.answers(&[lower]).await[0].1.status, 200);
}

#[tokio::test]
async fn header_lines_that_are_none_are_refused_before_anybody_is_asked() {
    let world = World::found().await;
    let good = world.bia.api.token.clone().expect("it is of the form it was made in");
    let address =
        world.pontual.url.strip_prefix("http://").expect("it is of the form it was made in");
    let before = world.events().await;
    for (name, line) in [
        ("a NUL", format!("Authorization: Bearer {good}\0")),
        ("a NUL inside", format!("Authorization: Bearer {}\0{}", &good[..9], &good[9..])),
        ("a carriage return", format!("Authorization: Bearer {}\r{}", &good[..9], &good[9..])),
        ("an escape", format!("Authorization: Bearer \u{1b}{good}")),
        ("a fold", format!("Authorization: Bearer\r\n {good}")),
        ("a space before the colon", format!("Authorization : Bearer {good}")),
        ("a delete", format!("Authorization: Bearer {good}\u{7f}")),
    ] {
        let mut socket = tokio::net::TcpStream::connect(address)
            .await
            .expect("it is of the form it was made in");
        let request = format!(
            "DELETE /api/auth/sessions HTTP/1.1\r\nHost: x\r\n{line}\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.expect("it is of the form it was made in");
        let mut answer = Vec::new();
        // Whoever refuses may hang up before all was read.
        let _ = socket.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).unwrap_or("(none)").to_owned();
        assert!(["400", "401"].contains(&status.as_str()), "{name}: {answer}");
    }
    assert_eq!(world.events().await, before);
    world.bia.api.get("/api/auth/me").await.expect(200);
    assert!(!world.pontual.log().contains("panicked"));
}

#[tokio::test]
async fn credentials_of_before_and_accounts_that_are_none_get_nothing_done() {
    let world = World::found().await;
    let generation = world.forge.claims["gen"].as_u64().expect("it is of the form it was made in");
    let change = json!({
        "old_password": PASSWORD, "password": "another horse battery",
        "password_confirmation": "another horse battery",
    });
    world.bia.api.put("/api/users/password", change).await.expect(200);
    let before = world.events().await;
    // A new session would be good, were its generation not the old one.
    let fresh = json!({ "gen": generation, "sid": "01935d2e-7c11-7a3f-9c2b-0242ac120002" });
    let old = world.forge.claims(fresh);
    for (what, answer) in world.answers(&[format!("Bearer {old}").into_bytes()]).await {
        assert_eq!((answer.status, answer.problem()), (401, "invalid-token"), "{what}");
    }
    // Well signed, and about nobody: an id nobody has, and one of another kind.
    for sub in [json!("01935d2e-7c11-7a3f-9c2b-0242ac120002"), world.forge.claims["sid"].clone()] {
        let roles = json!(["client", "provider", "admin", "auditor"]);
        let token = world.forge.claims(json!({ "sub": sub, "roles": roles, "gen": 0, "sid": sub }));
        for (what, answer) in world.answers(&[format!("Bearer {token}").into_bytes()]).await {
            let nothing = [401, 403, 404].contains(&answer.status)
                || (answer.status, what.as_str()) == (204, "POST /api/auth/logout")
                || (what == "GET /api/users/appointments" && answer.body["items"] == json!([]));
            assert!(nothing, "{sub}: {what}: {} {}", answer.status, answer.body);
        }
        let api = end_to_end::Api { token: Some(token), ..world.bia.api.clone() };
        let all = api.post("/api/notifications/read-all", json!({})).await;
        assert!([401, 403, 404].contains(&all.status), "{sub}: {} {}", all.status, all.body);
        let role = format!("/api/users/{}/roles/admin", world.bia.account);
        api.put(&role, json!({})).await.expect(if all.status == 401 { 401 } else { 403 });
    }
    assert_eq!(world.events().await, before);
    assert!(!world.pontual.log().contains("panicked"));
}
