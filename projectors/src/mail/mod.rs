//! Mail: one port, and the folder one can open (K30). SMTP and SES are further adapters of the port.

use std::path::PathBuf;

use async_trait::async_trait;
use lettre::message::{Mailbox, MultiPart, header};
use uuid::Uuid;

pub mod templates;

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The message could not be composed.
    #[error("the message could not be composed")]
    Compose(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The folder could not be written.
    #[error("the mail folder could not be written")]
    Folder(#[source] std::io::Error),
}

/// The mailer port.
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Sends one mail. The same `id` gives the same Message-ID.
    async fn send(
        &self,
        id: Uuid,
        to: &templates::Recipient,
        mail: &templates::Rendered,
    ) -> Result<(), MailError>;
}

/// Writes each mail as an `.eml` file that mail programs open.
#[derive(Debug, Clone)]
pub struct FolderMailer {
    folder: PathBuf,
}

impl FolderMailer {
    /// Mails go to this folder, which is made when the first one is sent.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }
}

#[async_trait]
impl Mailer for FolderMailer {
    async fn send(
        &self,
        id: Uuid,
        to: &templates::Recipient,
        mail: &templates::Rendered,
    ) -> Result<(), MailError> {
        let message = compose(id, to, mail)?;
        tokio::fs::create_dir_all(&self.folder).await.map_err(MailError::Folder)?;
        // Written beside and renamed, so that nobody reads half a mail; the same id overwrites itself.
        let path = self.folder.join(format!("{id}.eml"));
        let partial = self.folder.join(format!(".{id}.partial"));
        tokio::fs::write(&partial, message).await.map_err(MailError::Folder)?;
        tokio::fs::rename(&partial, &path).await.map_err(MailError::Folder)?;
        tracing::info!(mail = %id, "mail {id} was written to the mail folder");
        Ok(())
    }
}

fn compose(
    id: Uuid,
    to: &templates::Recipient,
    mail: &templates::Rendered,
) -> Result<Vec<u8>, MailError> {
    let wrong = |error: Box<dyn std::error::Error + Send + Sync>| MailError::Compose(error);
    let from: Mailbox =
        "Pontual <no-reply@pontual.localhost>".parse().map_err(|e| wrong(Box::new(e)))?;
    let address =
        to.email.as_str().parse().map_err(|e: lettre::address::AddressError| wrong(Box::new(e)))?;
    let message = lettre::Message::builder()
        .message_id(Some(format!("<{id}@pontual.localhost>")))
        .from(from)
        .to(Mailbox::new(Some(to.name.as_str().to_owned()), address))
        .subject(mail.subject.clone())
        .header(header::MIME_VERSION_1_0)
        .multipart(MultiPart::alternative_plain_html(mail.text.clone(), mail.html.clone()))
        .map_err(|e| wrong(Box::new(e)))?;
    Ok(message.formatted())
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::locale::Locale;

    #[tokio::test]
    async fn a_mail_sent_twice_is_one_file_with_one_message_id() {
        let folder = std::env::temp_dir().join(format!("pontual-mail-{}", Uuid::now_v7()));
        let mailer = FolderMailer::new(&folder);
        let to = templates::Recipient {
            name: "João \"Zé\" Silva".parse().unwrap(),
            email: "joao@example.com".parse().unwrap(),
            locale: Locale::PtBr,
        };
        let mail = templates::confirm_email(&to, "https://example.com/confirm#token=abc");
        let id = Uuid::now_v7();
        mailer.send(id, &to, &mail).await.unwrap();
        mailer.send(id, &to, &mail).await.unwrap();
        let files: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
        assert_eq!(files.len(), 1);
        let text = std::fs::read_to_string(files[0].as_ref().unwrap().path()).unwrap();
        assert!(text.contains(&format!("Message-ID: <{id}@pontual.localhost>")));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
