//! Mail: one port and three adapters. Without settings mails go to a [folder](FolderMailer) one can open (K30);
//! with `SMTP_URL` to an [SMTP server](smtp), with `PONTUAL_SES_REGION` to [Amazon SES](ses).
//!
//! For example the job `ConfirmEmailMail` renders a [letter](templates::Letter) and hands it to the mailer with the
//! job's id, which becomes the Message-ID. A mailer either knows that the mail was taken, or says why not and whether
//! another try may help ([`MailError::is_permanent`]): then the job comes back, or is a dead letter at once.
//!
//! A crash after the server took the mail and before the job was marked done sends it twice, with one Message-ID.
//! (SES puts its own Message-ID on a mail; there both copies carry the job's id as `X-Entity-Ref-ID`.)

use std::path::PathBuf;
use std::str::FromStr;

use async_trait::async_trait;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, header};
use lettre::{Address, Message};
use uuid::Uuid;

pub mod ses;
pub mod smtp;
pub mod templates;

use templates::{Recipient, Rendered};

/// Why a mail was not sent. The texts hold nothing personal: what a server answered may repeat an address, so of that
/// only codes and names of errors are kept.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The message could not be composed: the address is none that can be written to.
    #[error("the message could not be composed")]
    Compose(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The recipient or the message was refused for good.
    #[error("the mail was refused for good: {0}")]
    Refused(String),
    /// The server could not be used; it may work later.
    #[error("the mail server could not be used: {0}")]
    Away(String),
    /// It took too long; it may work later.
    #[error("the mail server took longer than {} s", .0.as_secs_f32())]
    TimedOut(std::time::Duration),
    /// The folder could not be written.
    #[error("the mail folder could not be written")]
    Folder(#[source] std::io::Error),
}

impl MailError {
    /// Whether trying again cannot help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Compose(_) | Self::Refused(_) => true,
            Self::Away(_) | Self::TimedOut(_) | Self::Folder(_) => false,
        }
    }
}

/// The mailer port.
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Sends one mail. The same `id` gives the same Message-ID.
    async fn send(&self, id: Uuid, to: &Recipient, mail: &Rendered) -> Result<(), MailError>;

    /// Deletes the mails to somebody who was erased, by their ids, where the mailer keeps any. What was sent is its
    /// recipient's.
    async fn forget(&self, _theirs: &(dyn Fn(Uuid) -> bool + Sync)) -> Result<(), MailError> {
        Ok(())
    }
}

/// Who mails are from: `Pontual <no-reply@example.com>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender(Mailbox);

/// A text that is no sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an address, as no-reply@example.com or Pontual <no-reply@example.com> is")]
pub struct InvalidSender;

impl FromStr for Sender {
    type Err = InvalidSender;

    fn from_str(text: &str) -> Result<Self, InvalidSender> {
        if text.chars().any(char::is_control) {
            return Err(InvalidSender);
        }
        let mut mailbox: Mailbox = text.parse().map_err(|_| InvalidSender)?;
        // Nothing may be assumed of the recipient's server, so what is ours to choose is plain.
        mailbox.email = address(mailbox.email.as_ref()).map_err(|_| InvalidSender)?;
        if mailbox.email.user().is_ascii() { Ok(Self(mailbox)) } else { Err(InvalidSender) }
    }
}

impl Default for Sender {
    fn default() -> Self {
        "Pontual <no-reply@pontual.localhost>".parse().expect("this is an address")
    }
}

/// A message as it travels, and its envelope.
struct Composed {
    from: Address,
    to: Address,
    bytes: Vec<u8>,
}

impl Sender {
    fn compose(&self, id: Uuid, to: &Recipient, mail: &Rendered) -> Result<Composed, MailError> {
        let address = address(to.email.as_str()).map_err(MailError::Compose)?;
        let from = self.0.email.clone();
        let named = |name: &'static str, value: String| {
            HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
        };
        let mut message = Message::builder()
            .message_id(Some(format!("<{id}@{}>", from.domain())))
            .from(self.0.clone())
            .to(Mailbox::new(Some(one_line(to.name.as_str())), address.clone()))
            .subject(one_line(&mail.subject))
            .header(header::MIME_VERSION_1_0)
            .multipart(MultiPart::alternative_plain_html(mail.text.clone(), mail.html.clone()))
            .map_err(|error| MailError::Compose(error.into()))?;
        // Nobody's out-of-office answers (RFC 3834).
        message.headers_mut().insert_raw(named("Auto-Submitted", "auto-generated".to_owned()));
        message.headers_mut().insert_raw(named("X-Entity-Ref-ID", id.to_string()));
        Ok(Composed { from, to: address, bytes: message.formatted() })
    }
}

/// An address whose domain is written in ASCII, as DNS has it.
fn address(text: &str) -> Result<Address, Box<dyn std::error::Error + Send + Sync>> {
    let (user, domain) = text.rsplit_once('@').ok_or("there is no @ in the address")?;
    let domain = idna::domain_to_ascii(domain).map_err(|_| "its domain cannot be one")?;
    Ok(Address::new(user, domain)?)
}

/// A text that stays in its header: no line breaks, and nothing that a reader would take for an encoded word.
fn one_line(text: &str) -> String {
    let broken = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.replace(broken, " ").replace("=?", "= ?")
}

/// Writes each mail as an `.eml` file that mail programs open.
#[derive(Debug, Clone)]
pub struct FolderMailer {
    folder: PathBuf,
    sender: Sender,
}

impl FolderMailer {
    /// Mails go to this folder, which is made when the first one is sent.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), sender: Sender::default() }
    }

    /// Mails are from this sender.
    #[must_use]
    pub fn from(self, sender: Sender) -> Self {
        Self { sender, ..self }
    }
}

#[async_trait]
impl Mailer for FolderMailer {
    async fn send(&self, id: Uuid, to: &Recipient, mail: &Rendered) -> Result<(), MailError> {
        let message = self.sender.compose(id, to, mail)?;
        tokio::fs::create_dir_all(&self.folder).await.map_err(MailError::Folder)?;
        // Written beside and renamed, so that nobody reads half a mail; the same id overwrites itself.
        let path = self.folder.join(format!("{id}.eml"));
        let partial = self.folder.join(format!(".{id}.partial"));
        tokio::fs::write(&partial, message.bytes).await.map_err(MailError::Folder)?;
        tokio::fs::rename(&partial, &path).await.map_err(MailError::Folder)?;
        tracing::info!(mail = %id, "mail {id} was written to the mail folder");
        Ok(())
    }

    /// A mail's file has the name of its job.
    async fn forget(&self, theirs: &(dyn Fn(Uuid) -> bool + Sync)) -> Result<(), MailError> {
        let mut entries = match tokio::fs::read_dir(&self.folder).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(MailError::Folder(error)),
        };
        while let Some(entry) = entries.next_entry().await.map_err(MailError::Folder)? {
            let name = entry.file_name();
            let job = name.to_str().map(|name| name.trim_start_matches('.'));
            let job = job.and_then(|name| name.split('.').next()?.parse::<Uuid>().ok());
            if job.is_some_and(theirs) {
                match tokio::fs::remove_file(entry.path()).await {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(MailError::Folder(error));
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_an_address_with_or_without_a_name() {
        for good in ["no-reply@example.com", "Pontual <no-reply@example.com>", "São <a@é.com>"] {
            assert!(good.parse::<Sender>().is_ok(), "{good}");
        }
        for wrong in ["", "Pontual", "a@", "é@example.com", "a@b.c\r\nBcc: d@e.f", "<a@b.c"] {
            assert!(wrong.parse::<Sender>().is_err(), "{wrong:?}");
        }
    }
}
