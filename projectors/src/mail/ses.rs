//! Mail by Amazon SES (S0-05, S4-21): `SendEmail` of its HTTP API, version 2, signed with AWS Signature 4.
//!
//! The whole of Amazon's SDK would be built for one request, so the request is made here: a `POST` of the raw message as
//! JSON to `/v2/email/outbound-emails`, over one TLS connection per mail. Only the signature comes from Amazon's
//! `aws-sigv4`.
//!
//! SES answers 200 with its own MessageId when it has taken the mail. `MessageRejected` and `BadRequestException` are
//! about the message, and final; everything else (429, a paused account, wrong keys, 5xx) is tried again. A crash after
//! the answer sends the mail once more. SES replaces the Message-ID; the job's id is in the header
//! `X-Entity-Ref-ID` and in the tag `mail`, which SES repeats in the events it publishes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use event_log::Clock;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::templates::{Recipient, Rendered};
use super::{Composed, MailError, Mailer, Sender};

/// A mail takes no longer than this, from the name's resolution to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The path of `SendEmail`.
const PATH: &str = "/v2/email/outbound-emails";
/// No more of an answer is read.
const ANSWER_BYTES: usize = 64 * 1024;

/// How to reach SES.
#[derive(Debug, Clone)]
pub struct SesSettings {
    /// Of Amazon's, as in `sa-east-1`.
    pub region: String,
    /// Which key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: SecretString,
    /// Beside a key that is lent for a while.
    pub session_token: Option<SecretString>,
    /// `http(s)://host:port` instead of Amazon's own address.
    pub endpoint: Option<String>,
}

impl SesSettings {
    /// The endpoint, if the settings can be used.
    pub fn check(&self) -> Result<Uri, InvalidSes> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.region.is_empty() || !self.region.chars().all(plain) {
            return Err(InvalidSes::Region);
        }
        let amazon = || format!("https://email.{}.amazonaws.com", self.region);
        let endpoint = self.endpoint.clone().unwrap_or_else(amazon);
        let uri: Uri = endpoint.parse().map_err(|_| InvalidSes::Endpoint)?;
        let good = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.path() == "/"
            && uri.query().is_none();
        if good { Ok(uri) } else { Err(InvalidSes::Endpoint) }
    }
}

/// What is wrong with the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSes {
    /// The region.
    #[error("is not a region, as sa-east-1 is")]
    Region,
    /// The endpoint.
    #[error("is not an address, as https://email.sa-east-1.amazonaws.com is")]
    Endpoint,
}

/// Sends mail by SES.
pub struct SesMailer {
    settings: SesSettings,
    scheme: Scheme,
    authority: http::uri::Authority,
    sender: Sender,
    clock: Arc<dyn Clock>,
    patience: Duration,
}

enum Scheme {
    Http,
    Https(tokio_rustls::TlsConnector),
}

/// Neither keys nor tokens are printed.
impl fmt::Debug for SesMailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SesMailer").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl SesMailer {
    /// Mail goes to SES, from this sender; requests are dated by the clock.
    pub fn new(
        settings: SesSettings,
        sender: Sender,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidSes> {
        let uri = settings.check()?;
        let authority = uri.authority().ok_or(InvalidSes::Endpoint)?.clone();
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some(_) | None => Scheme::Https(tls()),
        };
        Ok(Self { settings, scheme, authority, sender, clock, patience: PATIENCE })
    }

    /// A mail takes no longer than this.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    fn request(&self, id: Uuid, mail: &Composed) -> Result<Request<Full<Bytes>>, MailError> {
        let body = serde_json::json!({
            "FromEmailAddress": mail.from.to_string(),
            "Destination": { "ToAddresses": [mail.to.to_string()] },
            "Content": { "Raw": { "Data": STANDARD.encode(&mail.bytes) } },
            "EmailTags": [{ "Name": "mail", "Value": id.to_string() }],
        })
        .to_string();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(PATH)
            .header(HOST, self.authority.as_str())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.clone())))
            .map_err(|error| MailError::Compose(error.into()))?;
        self.sign(&mut request, body.as_bytes())
            .map_err(|error| MailError::Away(format!("the request was not signed: {error}")))?;
        Ok(request)
    }

    fn sign(
        &self,
        request: &mut Request<Full<Bytes>>,
        body: &[u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let SesSettings { region, access_key_id, secret_access_key, session_token, endpoint: _ } =
            &self.settings;
        let token = session_token.as_ref().map(|token| token.expose_secret().to_owned());
        let secret = secret_access_key.expose_secret();
        let identity = Credentials::new(access_key_id, secret, token, None, "settings").into();
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("ses")
            .time(SystemTime::from(self.clock.now()))
            .settings(SigningSettings::default())
            .build()?
            .into();
        let headers = request.headers().iter();
        let headers = headers.map(|(name, value)| Ok((name.as_str(), value.to_str()?)));
        let headers = headers.collect::<Result<Vec<_>, http::header::ToStrError>>()?;
        // The signer writes what it signs to the log at its finest level: of the mail only a hash.
        let hash = SignableBody::Precomputed(hex::encode(Sha256::digest(body)));
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https(_) => "https",
        };
        let url = format!("{scheme}://{}{PATH}", self.authority);
        let signable = SignableRequest::new("POST", url, headers.into_iter(), hash)?;
        let (instructions, _) = sign(signable, &parameters)?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }

    async fn deliver(&self, request: Request<Full<Bytes>>) -> Result<(), MailError> {
        let host = self.authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let (port, tls) = match &self.scheme {
            Scheme::Http => (80, None),
            Scheme::Https(tls) => (443, Some(tls)),
        };
        let port = self.authority.port_u16().unwrap_or(port);
        let stream = TcpStream::connect((bare, port)).await.map_err(away("connecting"))?;
        match tls {
            None => exchange(stream, request).await,
            Some(tls) => {
                let name = ServerName::try_from(bare.to_owned()).map_err(away("connecting"))?;
                let stream = tls.connect(name, stream).await.map_err(away("starting TLS"))?;
                exchange(stream, request).await
            }
        }
    }
}

#[async_trait]
impl Mailer for SesMailer {
    async fn send(&self, id: Uuid, to: &Recipient, mail: &Rendered) -> Result<(), MailError> {
        let composed = self.sender.compose(id, to, mail)?;
        if !composed.to.user().is_ascii() {
            let problem = "SES takes addresses in ASCII only, but for the domain";
            return Err(MailError::Refused(problem.to_owned()));
        }
        let request = self.request(id, &composed)?;
        let delivered = tokio::time::timeout(self.patience, self.deliver(request)).await;
        delivered.unwrap_or(Err(MailError::TimedOut(self.patience)))?;
        tracing::info!(mail = %id, "mail {id} was taken by SES");
        Ok(())
    }
}

/// Trusts whom Mozilla trusts, as the connections to Postgres and Redis do.
fn tls() -> tokio_rustls::TlsConnector {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(), MailError> {
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(away("connecting"))?;
    let conversation = async {
        let answer = sender.send_request(request).await.map_err(away("sending"))?;
        let (parts, body) = answer.into_parts();
        let error = parts.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
        let error = error.map(str::to_owned);
        let body = Limited::new(body, ANSWER_BYTES).collect().await;
        let body =
            body.map_err(|error| MailError::Away(format!("its answer broke off: {error}")))?;
        verdict(parts.status, error.as_deref(), &body.to_bytes())
    };
    // The connection ends with the conversation, and needs no task of its own.
    tokio::pin!(connection, conversation);
    tokio::select! {
        verdict = &mut conversation => verdict,
        // What was read before the end is still there to be told.
        ended = &mut connection => match ended {
            Ok(()) => conversation.await,
            Err(error) => Err(away("talking to it")(error)),
        },
    }
}

/// What SES answered. Its message may repeat the address: only the name of the error is kept.
fn verdict(status: StatusCode, header: Option<&str>, body: &[u8]) -> Result<(), MailError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Taken {
        #[expect(dead_code, reason = "that it is there is all that matters")]
        message_id: String,
    }
    #[derive(Default, Deserialize)]
    struct Problem {
        #[serde(rename = "__type", alias = "code")]
        kind: Option<String>,
    }
    if status == StatusCode::OK {
        return match serde_json::from_slice::<Taken>(body) {
            Ok(_) => Ok(()),
            // A portal or a proxy that says 200 to everything.
            Err(_) => Err(MailError::Away("it answered 200 without a MessageId".to_owned())),
        };
    }
    let problem = serde_json::from_slice::<Problem>(body).unwrap_or_default();
    let name = header.map(str::to_owned).or(problem.kind).unwrap_or_default();
    // `com.amazonaws.sesv2#MessageRejected:http://…` is `MessageRejected`.
    let name = name.split(':').next().unwrap_or_default();
    let name = name.rsplit('#').next().unwrap_or_default();
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    let reason = format!("it answered {} {name}", status.as_u16()).trim_end().to_owned();
    let about_the_mail = matches!(name.as_str(), "MessageRejected" | "BadRequestException");
    if status == StatusCode::BAD_REQUEST && about_the_mail {
        Err(MailError::Refused(reason))
    } else {
        Err(MailError::Away(reason))
    }
}

fn away<E: std::error::Error + 'static>(doing: &'static str) -> impl Fn(E) -> MailError {
    move |error| MailError::Away(format!("{}, when {doing}", crate::causes(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_log::SystemClock;

    #[test]
    fn settings_that_lead_nowhere_are_refused() {
        let mailer = |region: &str, endpoint: Option<&str>| {
            let settings = SesSettings {
                region: region.to_owned(),
                access_key_id: "AKID".to_owned(),
                secret_access_key: "hunter2".to_owned().into(),
                session_token: Some("hunter2".to_owned().into()),
                endpoint: endpoint.map(str::to_owned),
            };
            assert!(!format!("{settings:?}").contains("hunter2"));
            SesMailer::new(settings, Sender::default(), Arc::new(SystemClock))
        };
        let amazon = mailer("sa-east-1", None).unwrap();
        assert_eq!(amazon.authority, "email.sa-east-1.amazonaws.com");
        assert!(!format!("{amazon:?}").contains("hunter2"));
        assert!(mailer("sa-east-1", Some("http://127.0.0.1:4566")).is_ok());
        assert!(mailer("sa-east-1", Some("https://[::1]:4566/")).is_ok());
        for region in ["", "sa east", "sa-east-1.evil.com/"] {
            assert_eq!(mailer(region, None).unwrap_err(), InvalidSes::Region, "{region}");
        }
        for endpoint in
            ["", "localhost:4566", "ftp://a", "http://a/b", "http://u:p@a", "http://a/?b"]
        {
            let error = mailer("sa-east-1", Some(endpoint)).unwrap_err();
            assert_eq!(error, InvalidSes::Endpoint, "{endpoint}");
        }
    }

    #[test]
    fn only_what_is_about_the_mail_is_final() {
        let final_of = |status: u16, header: Option<&str>, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            verdict(status, header, body.as_bytes()).unwrap_err().is_permanent()
        };
        assert!(final_of(400, Some("MessageRejected:http://internal.amazon.com/"), "{}"));
        assert!(final_of(400, None, r#"{"__type":"com.amazonaws.sesv2#BadRequestException"}"#));
        for (status, name) in [
            (400, "SendingPausedException"),
            (400, "LimitExceededException"),
            (403, "InvalidSignatureException"),
            (429, "TooManyRequestsException"),
            (500, "InternalServiceErrorException"),
            (503, "MessageRejected"),
        ] {
            assert!(!final_of(status, Some(name), "{}"), "{name}");
        }
        assert!(!final_of(200, None, "<html>Please sign in to the Wi-Fi</html>"));
        let body = r#"{"message":"Address ana@example.com is blacklisted"}"#;
        let error = verdict(StatusCode::BAD_REQUEST, None, body.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("ana@"), "{error}");
    }
}
