//! Access tokens: who sends a request (K15, K16).
//!
//! A sign-in issues a JWT signed with Ed25519, good for at most 15 minutes; every API verifies it with the
//! public key alone. A request with `Authorization: Bearer eyJ…` becomes `Actor::Account { id, roles }`;
//! without the header it is anonymous; with a token that is forged, expired or meant for somebody else it
//! is `401 invalid-token`, even where being anonymous would do, so that nobody acts as someone they are
//! not. Verified tokens are remembered by their hash until they expire, because a signature costs tens of
//! microseconds; whether their session has ended meanwhile is asked each time ([`Revocations`]). Nothing is
//! stored: after a crash the same tokens verify again.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use domain::Instant;
use domain::actor::{Actor, Role};
use domain::ids::{AccountId, SessionId};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::problem::{Kind, Problem};
use crate::revocations::Revocations;

/// The longest an access token may live (K15).
pub const LIFETIME_MAX: Duration = Duration::from_secs(15 * 60);

/// How far two machines' clocks may be apart.
const LEEWAY: TimeDelta = TimeDelta::seconds(30);

/// The type of an access token (RFC 9068), so that no other JWT is taken for one.
const TOKEN_TYPE: &str = "at+jwt";

/// The most characters of a token; ours have about 500.
const TOKEN_MAX: usize = 4096;

/// How many verified tokens are remembered.
const REMEMBERED: u64 = 100_000;

/// The clock, as a closure: so that tests can freeze it.
pub type Now = Arc<dyn Fn() -> Instant + Send + Sync>;

/// Who issues tokens, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The `iss` claim: our public URL.
    pub issuer: String,
    /// The `aud` claim.
    pub audience: String,
}

impl Names {
    /// The names of the Pontual at this public URL.
    pub fn of(public_url: &str) -> Self {
        Self { issuer: public_url.trim_end_matches('/').to_owned(), audience: "pontual".to_owned() }
    }
}

/// The header of our tokens, and nothing beside: no key or address of one (`jwk`, `jku`, `x5u`), no other form of the
/// payload (`b64`, `zip`), no extension that must be understood (`crit`, RFC 7515), no name twice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExactHeader {
    alg: String,
    typ: String,
    kid: String,
}

impl ExactHeader {
    /// The header of a token of ours; whether it is signed is another question.
    fn of(token: &str) -> Option<Self> {
        let (header, _) = token.split_once('.')?;
        let json = URL_SAFE_NO_PAD.decode(header).ok()?;
        let header: Self = serde_json::from_slice(&json).ok()?;
        (header.alg == "EdDSA" && header.typ == TOKEN_TYPE).then_some(header)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: AccountId,
    sid: SessionId,
    /// The generation of the account's credentials.
    #[serde(rename = "gen")]
    generation: u32,
    roles: Vec<Role>,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not an Ed25519 key in PKCS#8 (private) or SPKI (public) PEM form.
    #[error(
        "the signing key must be an Ed25519 key in PEM form (openssl genpkey -algorithm ed25519)"
    )]
    Form(#[source] jsonwebtoken::errors::Error),
    /// The token could not be signed.
    #[error("a token could not be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// A key that verifies tokens.
#[derive(Clone)]
pub struct PublicKey {
    kid: String,
    jwk: Jwk,
    key: DecodingKey,
}

impl PublicKey {
    /// From an SPKI PEM: a key of before a rotation, say.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let key = DecodingKey::from_ed_pem(pem).map_err(KeyError::Form)?;
        let jwk = Jwk::from_decoding_key(&key, Some(Algorithm::EdDSA)).map_err(KeyError::Form)?;
        Self::new(jwk)
    }

    /// From several SPKI PEMs, one behind the other: the keys of before some rotations.
    pub fn all_from_pem(pems: &str) -> Result<Vec<Self>, KeyError> {
        const END: &str = "-----END PUBLIC KEY-----";
        pems.split_inclusive(END)
            .filter(|pem| !pem.trim().is_empty())
            .map(|pem| Self::from_pem(pem.trim().as_bytes()))
            .collect()
    }

    /// Its id: the RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    fn new(mut jwk: Jwk) -> Result<Self, KeyError> {
        let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(KeyError::Form)?;
        jwk.common.key_id = Some(kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let key = DecodingKey::from_jwk(&jwk).map_err(KeyError::Form)?;
        Ok(Self { kid, jwk, key })
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.kid)
    }
}

/// Issues access tokens.
#[derive(Clone)]
pub struct Signer {
    key: Arc<EncodingKey>,
    public: PublicKey,
    names: Names,
    lifetime: Duration,
    now: Now,
}

/// An access token, just issued.
pub struct Issued {
    /// The token. Never logged.
    pub token: String,
    /// How long it is good.
    pub expires_in: Duration,
}

impl Signer {
    /// With an Ed25519 private key in PKCS#8 PEM form.
    pub fn from_pem(pem: &[u8], names: Names, now: Now) -> Result<Self, KeyError> {
        let key = EncodingKey::from_ed_pem(pem).map_err(KeyError::Form)?;
        let jwk = Jwk::from_encoding_key(&key, Algorithm::EdDSA).map_err(KeyError::Form)?;
        let public = PublicKey::new(jwk)?;
        Ok(Self { key: Arc::new(key), public, names, lifetime: LIFETIME_MAX, now })
    }

    /// Another lifetime; more than [`LIFETIME_MAX`] is cut.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime.min(LIFETIME_MAX);
        self
    }

    /// The key that verifies what this one signs.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// A verifier of this signer's tokens, and of those of `earlier` keys.
    pub fn verifier(&self, earlier: impl IntoIterator<Item = PublicKey>) -> Verifier {
        let keys = std::iter::once(self.public.clone()).chain(earlier);
        Verifier::new(keys, self.names.clone(), Arc::clone(&self.now))
    }

    /// A token for a session that was started under this generation of the account's credentials.
    pub fn issue(
        &self,
        account: AccountId,
        session: SessionId,
        generation: u32,
        roles: &[Role],
    ) -> Result<Issued, KeyError> {
        let now = (self.now)().timestamp();
        let claims = Claims {
            iss: self.names.issuer.clone(),
            aud: self.names.audience.clone(),
            sub: account,
            sid: session,
            generation,
            roles: roles.to_vec(),
            iat: now,
            nbf: now,
            exp: now.saturating_add_unsigned(self.lifetime.as_secs()),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TOKEN_TYPE.to_owned());
        header.kid = Some(self.public.kid.clone());
        let token = jsonwebtoken::encode(&header, &claims, &self.key).map_err(KeyError::Sign)?;
        Ok(Issued { token, expires_in: self.lifetime })
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public.kid)
    }
}

/// What a token proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Whose it is, and what they may be.
    pub actor: Actor,
    /// Whose it is.
    pub account: AccountId,
    /// The session it was issued to.
    pub session: SessionId,
    /// The generation of the account's credentials that session was started under.
    pub generation: u32,
    /// From when on it proves nothing.
    pub expires_at: Instant,
}

/// A token that proves nothing: forged, expired, not yet good, revoked, or not for us. Why is not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the access token is not valid")]
pub struct InvalidToken;

impl From<InvalidToken> for Problem {
    fn from(_: InvalidToken) -> Self {
        Kind::InvalidToken.into()
    }
}

/// Verifies access tokens.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    keys: HashMap<String, PublicKey>,
    names: Names,
    now: Now,
    validation: Validation,
    verified: Cache<[u8; 32], Arc<Verified>>,
    revocations: Revocations,
}

impl Verifier {
    /// With the keys whose tokens are good.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>, names: Names, now: Now) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.set_issuer(&[&names.issuer]);
        validation.set_audience(&[&names.audience]);
        // The library asks the system clock; `check_times` asks ours.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let verified = Cache::builder().max_capacity(REMEMBERED).time_to_live(LIFETIME_MAX).build();
        let keys = keys.into_iter().map(|key| (key.kid.clone(), key)).collect();
        let revocations = Revocations::new();
        Self(Arc::new(Inner { keys, names, now, validation, verified, revocations }))
    }

    /// What it holds for void; whoever follows the log tells them.
    pub fn revocations(&self) -> &Revocations {
        &self.0.revocations
    }

    /// What a token proves.
    pub fn verify(&self, token: &str) -> Result<Arc<Verified>, InvalidToken> {
        if token.len() > TOKEN_MAX {
            return Err(InvalidToken);
        }
        let now = (self.0.now)();
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let verified = match self.0.verified.get(&hash) {
            Some(verified) if now < verified.expires_at => verified,
            Some(_) => return Err(InvalidToken),
            None => {
                let verified = Arc::new(self.0.decode(token, now).ok_or(InvalidToken)?);
                self.0.verified.insert(hash, Arc::clone(&verified));
                verified
            }
        };
        let Verified { account, session, generation, .. } = *verified;
        if self.0.revocations.void(account, session, generation) {
            return Err(InvalidToken);
        }
        Ok(verified)
    }

    /// The keys, for others to verify our tokens with: `/.well-known/jwks.json`.
    pub fn jwks(&self) -> JwkSet {
        let mut keys: Vec<Jwk> = self.0.keys.values().map(|key| key.jwk.clone()).collect();
        keys.sort_by(|a, b| a.common.key_id.cmp(&b.common.key_id));
        JwkSet { keys }
    }

    /// What the `Authorization` header proves; `None` without one.
    pub fn of_headers(&self, headers: &HeaderMap) -> Result<Option<Arc<Verified>>, InvalidToken> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(InvalidToken);
        }
        let text = value.to_str().map_err(|_| InvalidToken)?;
        let (scheme, token) = text.split_once(' ').ok_or(InvalidToken)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(InvalidToken);
        }
        self.verify(token.trim()).map(Some)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("names", &self.0.names).finish_non_exhaustive()
    }
}

impl Inner {
    fn decode(&self, token: &str, now: Instant) -> Option<Verified> {
        let key = self.keys.get(&ExactHeader::of(token)?.kid)?;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.key, &self.validation).ok()?.claims;
        let expires_at = check_times(&claims, now)?;
        Some(Verified {
            actor: Actor::Account { id: claims.sub, roles: claims.roles },
            account: claims.sub,
            session: claims.sid,
            generation: claims.generation,
            expires_at,
        })
    }
}

/// From when on the token is no good, unless it is none now.
fn check_times(claims: &Claims, now: Instant) -> Option<Instant> {
    let at = |seconds| DateTime::<Utc>::from_timestamp(seconds, 0);
    let (issued, not_before, expires) = (at(claims.iat)?, at(claims.nbf)?, at(claims.exp)?);
    let lifetime = TimeDelta::from_std(LIFETIME_MAX).ok()?;
    let end = expires.checked_add_signed(LEEWAY)?;
    let soon = now.checked_add_signed(LEEWAY)?;
    let good = now < end && not_before <= soon && issued <= soon && expires - issued <= lifetime;
    good.then_some(end)
}

/// The account that sends the request; anonymous ones are `401 sign-in-required`.
#[derive(Debug, Clone)]
pub struct SignedIn(pub Actor);

/// The account that sends the request, or anonymous. A token that is there must be good.
#[derive(Debug, Clone)]
pub struct MaybeSignedIn(pub Actor);

/// All that the token of the request proves; anonymous ones are `401 sign-in-required`.
#[derive(Debug, Clone)]
pub struct InSession(pub Arc<Verified>);

impl<S> FromRequestParts<S> for InSession
where
    S: Send + Sync,
    Verifier: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let verified = Verifier::from_ref(state).of_headers(&parts.headers)?;
        verified.map(Self).ok_or_else(|| Kind::SignInRequired.into())
    }
}

impl<S> FromRequestParts<S> for SignedIn
where
    S: Send + Sync,
    Verifier: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Verifier::from_ref(state).of_headers(&parts.headers)? {
            Some(verified) => Ok(Self(verified.actor.clone())),
            None => Err(Kind::SignInRequired.into()),
        }
    }
}

impl<S> FromRequestParts<S> for MaybeSignedIn
where
    S: Send + Sync,
    Verifier: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let verified = Verifier::from_ref(state).of_headers(&parts.headers)?;
        Ok(Self(verified.map_or(Actor::Anonymous, |verified| verified.actor.clone())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use domain::ids::{Mint, RoutingSlot};
    use http::header::WWW_AUTHENTICATE;
    use http::{Request, StatusCode};
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;

    const START: i64 = 1_770_000_000;

    fn clock() -> (Now, Arc<AtomicI64>) {
        let seconds = Arc::new(AtomicI64::new(START));
        let read = Arc::clone(&seconds);
        let now: Now =
            Arc::new(move || DateTime::from_timestamp(read.load(Ordering::Relaxed), 0).unwrap());
        (now, seconds)
    }

    /// An Ed25519 private key in PKCS#8 PEM: a fixed prefix and the seed.
    fn pem(seed: u8) -> Vec<u8> {
        let mut der = hex_bytes("302e020100300506032b657004220420");
        der.extend([seed; 32]);
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n").into_bytes()
    }

    fn hex_bytes(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    fn names() -> Names {
        Names::of("https://pontual.test/")
    }

    fn account() -> AccountId {
        Mint::new([1; 32]).id(RoutingSlot::from_bits(1), 0)
    }

    fn session() -> SessionId {
        Mint::new([2; 32]).id(RoutingSlot::from_bits(1), 0)
    }

    fn claims() -> Value {
        json!({
            "iss": "https://pontual.test", "aud": "pontual", "sub": account(), "sid": session(), "gen": 1,
            "roles": ["client"], "iat": START, "nbf": START, "exp": START + 900,
        })
    }

    /// Signs anything at all with our key, as an insider's mistake or a stolen library would.
    fn sign(seed: u8, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &EncodingKey::from_ed_pem(&pem(seed)).unwrap())
            .unwrap()
    }

    fn header(kid: &str) -> Header {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TOKEN_TYPE.to_owned());
        header.kid = Some(kid.to_owned());
        header
    }

    fn app(verifier: Verifier) -> Router {
        async fn label(SignedIn(actor): SignedIn) -> String {
            actor.label()
        }
        async fn maybe(MaybeSignedIn(actor): MaybeSignedIn) -> String {
            actor.label()
        }
        Router::new().route("/", get(label)).route("/maybe", get(maybe)).with_state(verifier)
    }

    async fn ask(
        app: &Router,
        path: &str,
        authorization: Option<&str>,
    ) -> axum::response::Response {
        let mut request = Request::get(path);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_token_signs_its_account_in_until_it_expires() {
        let (now, seconds) = clock();
        let signer = Signer::from_pem(&pem(1), names(), now).unwrap();
        let app = app(signer.verifier([]));
        let issued = signer.issue(account(), session(), 1, &[Role::Client]).unwrap();
        let bearer = format!("Bearer {}", issued.token);
        assert_eq!(issued.expires_in, LIFETIME_MAX);
        assert_eq!(ask(&app, "/", Some(&bearer)).await.status(), StatusCode::OK);
        seconds.store(START + 929, Ordering::Relaxed);
        assert_eq!(ask(&app, "/", Some(&bearer)).await.status(), StatusCode::OK);
        seconds.store(START + 930, Ordering::Relaxed);
        assert_eq!(ask(&app, "/", Some(&bearer)).await.status(), StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn without_a_token_one_is_anonymous() {
        let (now, _) = clock();
        let app = app(Signer::from_pem(&pem(1), names(), now).unwrap().verifier([]));
        let response = ask(&app, "/", None).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        assert_eq!(ask(&app, "/maybe", None).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn forged_expired_or_misdirected_tokens_are_refused_everywhere() {
        let (now, _) = clock();
        let signer = Signer::from_pem(&pem(1), names(), now).unwrap();
        let app = app(signer.verifier([]));
        let kid = signer.public_key().kid().to_owned();
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            sign(1, &header(&kid), &claims)
        };
        let without = |name: &str| {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(name);
            sign(1, &header(&kid), &claims)
        };
        let headed = |change: fn(&mut Header)| {
            let mut header = header(&kid);
            change(&mut header);
            sign(1, &header, &claims())
        };
        let good = sign(1, &header(&kid), &claims());
        assert_eq!(ask(&app, "/", Some(&format!("bearer {good}"))).await.status(), StatusCode::OK);

        let parts: Vec<&str> = good.split('.').collect();
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let unsigned = encode(json!({"alg": "none", "typ": TOKEN_TYPE, "kid": kid}));
        let by_hmac = {
            // The public key taken for an HMAC secret: the classic confusion of algorithms.
            let mut header = header(&kid);
            header.alg = Algorithm::HS256;
            let secret = EncodingKey::from_secret(kid.as_bytes());
            jsonwebtoken::encode(&header, &claims(), &secret).unwrap()
        };
        let admin = {
            let mut claims = claims();
            claims["roles"] = json!(["admin"]);
            format!("{}.{}.{}", parts[0], encode(claims), parts[2])
        };
        let bad = [
            ("another key under our kid", sign(2, &header(&kid), &claims())),
            ("another kid", sign(1, &header("other"), &claims())),
            ("no kid", headed(|h| h.kid = None)),
            ("another type", headed(|h| h.typ = Some("JWT".to_owned()))),
            ("no type", headed(|h| h.typ = None)),
            ("a critical extension", headed(|h| h.crit = Some(vec!["b64".to_owned()]))),
            ("alg none", format!("{unsigned}.{}.", parts[1])),
            ("alg none with our signature", format!("{unsigned}.{}.{}", parts[1], parts[2])),
            ("alg HS256", by_hmac),
            ("changed claims", admin),
            ("no signature", format!("{}.{}.", parts[0], parts[1])),
            ("cut signature", good[..good.len() - 4].to_owned()),
            ("another issuer", with("iss", json!("https://evil.test"))),
            ("another audience", with("aud", json!("somebody-else"))),
            ("expired", with("exp", json!(START - 31))),
            ("not yet good", with("nbf", json!(START + 31))),
            ("issued in the future", with("iat", json!(START + 31))),
            ("living too long", with("exp", json!(START + 901))),
            ("living for ever", with("exp", json!(i64::MAX))),
            ("expired before the epoch", with("exp", json!(i64::MIN))),
            ("times as text", with("exp", json!("never"))),
            ("an unknown role", with("roles", json!(["root"]))),
            ("an id that is none", with("sub", json!("1"))),
            ("no subject", without("sub")),
            ("no session", without("sid")),
            ("no generation", without("gen")),
            ("a generation that is none", with("gen", json!(-1))),
            ("no expiry", without("exp")),
            ("no not-before", without("nbf")),
            ("no issuer", without("iss")),
            ("no audience", without("aud")),
            ("no roles", without("roles")),
            ("garbage", "a.b.c".to_owned()),
            ("nothing", String::new()),
            ("a megabyte", "x".repeat(1 << 20)),
        ];
        for (what, token) in bad {
            for path in ["/", "/maybe"] {
                let response = ask(&app, path, Some(&format!("Bearer {token}"))).await;
                assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{what} at {path}");
                assert_eq!(
                    response.headers()[WWW_AUTHENTICATE],
                    "Bearer error=\"invalid_token\"",
                    "{what}"
                );
            }
        }
        for value in ["Basic YTpi", "Bearer", good.as_str()] {
            assert_eq!(ask(&app, "/maybe", Some(value)).await.status(), StatusCode::UNAUTHORIZED);
        }
    }

    #[tokio::test]
    async fn a_key_of_before_a_rotation_still_verifies_and_jwks_lists_both() {
        let (now, _) = clock();
        let old = Signer::from_pem(&pem(1), names(), Arc::clone(&now)).unwrap();
        let new = Signer::from_pem(&pem(2), names(), now).unwrap();
        let verifier = new.verifier([old.public_key().clone()]);
        for signer in [&old, &new] {
            let token = signer.issue(account(), session(), 1, &[Role::Client]).unwrap().token;
            let verified = verifier.verify(&token).unwrap();
            assert_eq!(verified.actor.account(), Some(account()));
            assert_eq!((verified.session, verified.generation), (session(), 1));
        }
        let jwks = serde_json::to_value(verifier.jwks()).unwrap();
        assert_eq!(jwks["keys"].as_array().unwrap().len(), 2);
        let key = &jwks["keys"][0];
        assert_eq!((&key["kty"], &key["crv"]), (&json!("OKP"), &json!("Ed25519")));
        assert_eq!((&key["use"], &key["alg"]), (&json!("sig"), &json!("EdDSA")));
        assert!(key.get("d").is_none());
    }

    #[test]
    fn a_token_is_void_once_its_session_ended_or_its_credentials_were_replaced() {
        let (now, _) = clock();
        let signer = Signer::from_pem(&pem(1), names(), now).unwrap();
        let issue = |session, generation| {
            signer.issue(account(), session, generation, &[Role::Client]).unwrap().token
        };
        let other: SessionId = Mint::new([3; 32]).id(RoutingSlot::from_bits(1), 0);
        let (first, second) = (issue(session(), 1), issue(other, 1));
        let verifier = signer.verifier([]);
        assert!(verifier.verify(&first).is_ok() && verifier.verify(&second).is_ok());
        verifier.revocations().end(session());
        assert_eq!(verifier.verify(&first), Err(InvalidToken), "though it was remembered");
        assert!(verifier.verify(&second).is_ok());
        verifier.revocations().require(account(), 2);
        assert_eq!(verifier.verify(&second), Err(InvalidToken));
        assert!(verifier.verify(&issue(other, 2)).is_ok());
    }

    #[test]
    fn keys_of_before_several_rotations_are_read_from_one_text() {
        let pem_of = |seed: u8| {
            let mut der = hex_bytes("302a300506032b6570032100");
            let jwk = Signer::from_pem(&pem(seed), names(), clock().0).unwrap().public.jwk;
            let jwk = serde_json::to_value(jwk).unwrap();
            der.extend(URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap());
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
        };
        let keys = PublicKey::all_from_pem(&format!("{}\n{}\n", pem_of(1), pem_of(2))).unwrap();
        let kid = |seed| Signer::from_pem(&pem(seed), names(), clock().0).unwrap().public.kid;
        assert_eq!(keys.iter().map(PublicKey::kid).collect::<Vec<_>>(), [kid(1), kid(2)]);
        assert!(PublicKey::all_from_pem("").unwrap().is_empty());
        assert!(PublicKey::all_from_pem(&format!("{}x", pem_of(1))).is_err());
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let (now, _) = clock();
        for pem in
            [&b""[..], b"x", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
        {
            assert!(Signer::from_pem(pem, names(), Arc::clone(&now)).is_err());
            assert!(PublicKey::from_pem(pem).is_err());
        }
    }
}
