//! What the mails say, in Brazilian Portuguese and English, as text and as HTML.

use domain::locale::Locale;
use domain::text::{EmailAddress, PersonName};

/// Who a mail is to. Looked up when it is sent, never stored with the job.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// Their name.
    pub name: PersonName,
    /// Their address.
    pub email: EmailAddress,
    /// The language they read.
    pub locale: Locale,
}

/// A mail, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The subject line.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

/// Please confirm your address.
pub fn confirm_email(to: &Recipient, link: &str) -> Rendered {
    let pick = |pt_br, en| Locale::pick(to.locale, pt_br, en);
    letter(
        to,
        pick("Confirme seu e-mail", "Confirm your email address"),
        pick(
            "Falta um passo: confirme que este endereço é seu.",
            "One step is left: confirm that this address is yours.",
        ),
        Some((pick("Confirmar", "Confirm"), link)),
        pick(
            "Se não foi você quem criou a conta, ignore esta mensagem.",
            "If you did not create the account, ignore this message.",
        ),
    )
}

/// Somebody tried to register with your address.
pub fn registration_attempt(to: &Recipient, link: &str) -> Rendered {
    let pick = |pt_br, en| Locale::pick(to.locale, pt_br, en);
    letter(
        to,
        pick("Você já tem uma conta", "You already have an account"),
        pick(
            "Alguém tentou criar uma conta com este endereço, que já tem uma. Se foi você, entre com sua senha ou crie uma nova.",
            "Somebody tried to create an account with this address, which already has one. If it was you, sign in with your password or choose a new one.",
        ),
        Some((pick("Criar nova senha", "Choose a new password"), link)),
        pick(
            "Se não foi você, nada mudou e nada precisa ser feito.",
            "If it was not you, nothing has changed and nothing needs to be done.",
        ),
    )
}

fn letter(
    to: &Recipient,
    subject: &str,
    body: &str,
    button: Option<(&str, &str)>,
    footer: &str,
) -> Rendered {
    let hello = to.locale.pick("Olá", "Hello");
    let name = to.name.as_str();
    let mut text = format!("{hello}, {name}!\n\n{body}\n");
    let mut html = format!(
        "<!doctype html><html lang=\"{}\"><meta charset=\"utf-8\"><body style=\"font-family:sans-serif;max-width:36em;margin:2em auto\"><p>{hello}, {}!</p><p>{}</p>",
        to.locale.tag(),
        escape(name),
        escape(body),
    );
    if let Some((label, link)) = button {
        text.push_str(&format!("\n{label}: {link}\n"));
        html.push_str(&format!("<p><a href=\"{}\">{}</a></p>", escape(link), escape(label)));
    }
    text.push_str(&format!("\n{footer}\n\nPontual\n"));
    html.push_str(&format!(
        "<p style=\"color:#666\">{}</p><p>Pontual</p></body></html>",
        escape(footer)
    ));
    Rendered { subject: subject.to_owned(), text, html }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_write_html() {
        let to = Recipient {
            name: "<b>Ana</b> & \"Bia\"".parse().unwrap(),
            email: "ana@example.com".parse().unwrap(),
            locale: Locale::En,
        };
        let mail = confirm_email(&to, "https://example.com/?a=1&b=2");
        assert!(mail.html.contains("&lt;b&gt;Ana&lt;/b&gt; &amp; &quot;Bia&quot;"));
        assert!(mail.html.contains("a=1&amp;b=2"));
        assert!(mail.text.contains("https://example.com/?a=1&b=2"));
    }
}
