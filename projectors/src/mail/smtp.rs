//! Mail by SMTP (S0-04, S4-21): Mailtrap, Mailpit or any relay, named by a URL.
//!
//! `smtps://user:password@host:465` speaks TLS from the start, `smtp://…:587?tls=required` after STARTTLS,
//! `smtp://localhost:1025` not at all. User and password are percent-encoded; a path names this machine in EHLO.
//!
//! One mail is one connection: greet, sign in, `MAIL`, `RCPT`, `DATA`. What happens to the *recipient* or the
//! *message* with a 5xx is final; a server that refuses *us* (a password, the sender, TLS) is tried again, since that is
//! for an operator to mend. The whole dialogue has one deadline. If the connection dies between the end of `DATA` and
//! the answer, nobody knows whether the mail was taken: it is sent again, with the same Message-ID.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Noop, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use url::Url;
use uuid::Uuid;

use super::templates::{Recipient, Rendered};
use super::{Composed, MailError, Mailer, Sender};

/// A mail takes no longer than this, from the name's resolution to the last answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// An SMTP server, as a URL names it. Its password is never printed.
#[derive(Clone)]
pub struct SmtpServer {
    host: String,
    port: u16,
    tls: Tls,
    credentials: Option<Credentials>,
    hello: ClientId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    None,
    /// STARTTLS, where the server has it.
    Opportunistic,
    /// STARTTLS, or no mail.
    Required,
    FromTheStart,
}

/// What is wrong with an SMTP URL; the URL itself, which holds a password, is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not smtps://user:password@host:465 or smtp://user:password@host:587?tls=required")]
pub struct InvalidSmtpUrl;

impl FromStr for SmtpServer {
    type Err = InvalidSmtpUrl;

    fn from_str(text: &str) -> Result<Self, InvalidSmtpUrl> {
        let url = Url::parse(text).map_err(|_| InvalidSmtpUrl)?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(InvalidSmtpUrl)?;
        let mut tls = None;
        for (key, value) in url.query_pairs() {
            match (&*key, &*value) {
                ("tls", "required") => tls = Some(Tls::Required),
                ("tls", "opportunistic") => tls = Some(Tls::Opportunistic),
                _ => return Err(InvalidSmtpUrl),
            }
        }
        let (tls, default_port) = match (url.scheme(), tls) {
            ("smtps", None) => (Tls::FromTheStart, 465),
            ("smtp", Some(tls)) => (tls, 587),
            ("smtp", None) => (Tls::None, 25),
            _ => return Err(InvalidSmtpUrl),
        };
        let decoded = |text| {
            let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
            decoded.map(String::from).map_err(|_| InvalidSmtpUrl)
        };
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) => Some(Credentials::new(decoded(user)?, decoded(password)?)),
            (_, None) => return Err(InvalidSmtpUrl),
        };
        let name = url.path().trim_matches('/');
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')) {
            return Err(InvalidSmtpUrl);
        }
        Ok(Self {
            // An address of IPv6 stands between brackets in a URL, and nowhere else.
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(default_port),
            tls,
            credentials,
            hello: match name {
                "" => ClientId::default(),
                name => ClientId::Domain(name.to_owned()),
            },
        })
    }
}

impl fmt::Display for SmtpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = match self.tls {
            Tls::None => "without TLS",
            Tls::Opportunistic => "STARTTLS if there is",
            Tls::Required => "STARTTLS",
            Tls::FromTheStart => "TLS",
        };
        write!(f, "{}:{} ({tls})", self.host, self.port)
    }
}

impl fmt::Debug for SmtpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpServer({self})")
    }
}

/// Sends mail by SMTP.
#[derive(Debug, Clone)]
pub struct SmtpMailer {
    server: SmtpServer,
    sender: Sender,
    patience: Duration,
}

impl SmtpMailer {
    /// Mail goes to this server, from this sender.
    pub fn new(server: SmtpServer, sender: Sender) -> Self {
        Self { server, sender, patience: PATIENCE }
    }

    /// A mail takes no longer than this.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Whether the server is there and lets us in; sends nothing.
    pub async fn check(&self) -> Result<(), MailError> {
        let check = async {
            let mut connection = self.connect().await?;
            let answered = connection.command(Noop).await;
            connection.abort().await;
            answered.map(drop).map_err(away("asking whether it is there"))
        };
        let checked = tokio::time::timeout(self.patience, check).await;
        checked.unwrap_or(Err(MailError::TimedOut(self.patience)))
    }

    /// Greeted, encrypted and signed in, as the URL wants it.
    async fn connect(&self) -> Result<AsyncSmtpConnection, MailError> {
        let SmtpServer { host, port, tls, credentials, hello } = &self.server;
        let parameters = || TlsParameters::new(host.clone()).map_err(away("preparing TLS"));
        let wrapped = match tls {
            Tls::FromTheStart => Some(parameters()?),
            Tls::None | Tls::Opportunistic | Tls::Required => None,
        };
        let address = (host.as_str(), *port);
        let connecting =
            AsyncSmtpConnection::connect_tokio1(address, Some(self.patience), hello, wrapped, None);
        let mut connection = connecting.await.map_err(away("connecting"))?;
        let upgrade = match tls {
            Tls::None | Tls::FromTheStart => false,
            Tls::Opportunistic => connection.can_starttls(),
            Tls::Required => true,
        };
        if upgrade {
            connection.starttls(parameters()?, hello).await.map_err(away("starting TLS"))?;
        }
        if let Some(credentials) = credentials {
            let signed_in = connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials);
            signed_in.await.map_err(away("signing in"))?;
        }
        Ok(connection)
    }

    async fn deliver(&self, mail: Composed) -> Result<(), MailError> {
        let Composed { from, to, bytes } = mail;
        let mut connection = self.connect().await?;
        let has = |feature| connection.server_info().supports_feature(feature);
        let mut parameters = Vec::new();
        // Only an address outside ASCII makes the message so: all else is encoded.
        if !bytes.is_ascii() {
            if !has(Extension::SmtpUtfEight) || !has(Extension::EightBitMime) {
                connection.abort().await;
                let problem = "the server takes ASCII addresses only (no SMTPUTF8)";
                return Err(MailError::Refused(problem.to_owned()));
            }
            parameters.push(MailParameter::SmtpUtfEight);
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let sent = async {
            let mail = Mail::new(Some(from), parameters);
            connection.command(mail).await.map_err(away("naming the sender"))?;
            let rcpt = Rcpt::new(to, Vec::new());
            connection.command(rcpt).await.map_err(final_if_5xx("naming the recipient"))?;
            connection.command(Data).await.map_err(final_if_5xx("beginning the message"))?;
            connection.message(&bytes).await.map_err(final_if_5xx("sending the message"))?;
            Ok(())
        };
        let sent = sent.await;
        // Says QUIT, whatever came of it, and does not mind the answer.
        connection.abort().await;
        sent
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn send(&self, id: Uuid, to: &Recipient, mail: &Rendered) -> Result<(), MailError> {
        let delivery = self.deliver(self.sender.compose(id, to, mail)?);
        // lettre's own time-out covers the connection only.
        let delivered = tokio::time::timeout(self.patience, delivery).await;
        delivered.unwrap_or(Err(MailError::TimedOut(self.patience)))?;
        tracing::info!(mail = %id, "mail {id} was taken by the SMTP server");
        Ok(())
    }
}

fn away(doing: &'static str) -> impl Fn(lettre::transport::smtp::Error) -> MailError {
    move |error| MailError::Away(reason(doing, &error))
}

fn final_if_5xx(doing: &'static str) -> impl Fn(lettre::transport::smtp::Error) -> MailError {
    move |error| {
        let reason = reason(doing, &error);
        if error.is_permanent() { MailError::Refused(reason) } else { MailError::Away(reason) }
    }
}

/// Of an answer only the code: its text may repeat the address. What the network or TLS says names no person.
fn reason(doing: &str, error: &lettre::transport::smtp::Error) -> String {
    match error.status() {
        Some(code) => format!("it answered {code} when {doing}"),
        None if error.is_response() => format!("its answer was not understood when {doing}"),
        None => format!("{error}, when {doing}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_host_port_tls_and_who_we_are() {
        let server = |url: &str| url.parse::<SmtpServer>().unwrap();
        for (url, shown) in [
            ("smtps://ana:hunter2@mail.example.com", "mail.example.com:465 (TLS)"),
            ("smtp://ana:hunter2@mail.example.com?tls=required", "mail.example.com:587 (STARTTLS)"),
            ("smtp://[::1]:1025", "::1:1025 (without TLS)"),
            ("smtp://mailpit:1025/pontual.example.com", "mailpit:1025 (without TLS)"),
            ("smtp://relay?tls=opportunistic", "relay:587 (STARTTLS if there is)"),
        ] {
            assert_eq!(server(url).to_string(), shown);
            assert!(!format!("{:?}", server(url)).contains("hunter2"));
        }
        let odd = server("smtp://ana%40b.c:p%2Fw%3A@relay");
        assert_eq!(odd.credentials, Some(Credentials::new("ana@b.c".into(), "p/w:".into())));
        for wrong in [
            "",
            "mail.example.com:25",
            "http://mail.example.com",
            "smtp://",
            "smtp://user@host",
            "smtp://host?tls=no",
            "smtps://host?tls=required",
            "smtp://host?TLS=required",
            "smtp://host/a%20b",
        ] {
            assert!(wrong.parse::<SmtpServer>().is_err(), "{wrong}");
        }
    }
}
