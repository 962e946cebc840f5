//! What the mails say, in Brazilian Portuguese and English, as text and as HTML (S4-22, K31).
//!
//! Each letter is one file a language, `templates/en/reset_password.j2` say, with four blocks: subject, body, action
//! and footer. It is rendered twice, into `templates/layout.txt` and into `templates/layout.html`; what comes from people
//! (a name) or stands in a link is escaped in the second. A letter without a file in both languages does not compile.

use std::sync::LazyLock;

use domain::locale::Locale;
use domain::text::{EmailAddress, PersonName};
use minijinja::{Environment, UndefinedBehavior, context};

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
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The subject line.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

/// The text names a person and may hold a link that lets in whoever has it.
impl std::fmt::Debug for Rendered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rendered").field("subject", &self.subject).finish_non_exhaustive()
    }
}

macro_rules! letters {
    ($($(#[$doc:meta])* $letter:ident = $stem:literal;)*) => {
        /// A mail there is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Letter {
            $($(#[$doc])* $letter,)*
        }

        impl Letter {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$letter,)*];

            /// Its name, per language and form.
            fn template(self, locale: Locale, form: Form) -> &'static str {
                match (self, locale, form) {
                    $((Self::$letter, Locale::PtBr, Form::Text) => concat!("pt-BR/", $stem, ".txt"),
                    (Self::$letter, Locale::PtBr, Form::Html) => concat!("pt-BR/", $stem, ".html"),
                    (Self::$letter, Locale::En, Form::Text) => concat!("en/", $stem, ".txt"),
                    (Self::$letter, Locale::En, Form::Html) => concat!("en/", $stem, ".html"),)*
                }
            }

            fn source(self, locale: Locale) -> &'static str {
                match (self, locale) {
                    $((Self::$letter, Locale::PtBr) => include_str!(concat!("templates/pt-BR/", $stem, ".j2")),
                    (Self::$letter, Locale::En) => include_str!(concat!("templates/en/", $stem, ".j2")),)*
                }
            }
        }
    };
}

letters! {
    /// Welcome; please confirm your address. The link confirms it.
    ConfirmEmail = "confirm_email";
    /// Somebody tried to register with your address. The link leads to a new password.
    RegistrationAttempt = "registration_attempt";
    /// You wish to use this address from now on: confirm that it is yours. The link does.
    ConfirmNewEmail = "confirm_new_email";
    /// To the old address: the account uses another one now. The link leads to the site.
    EmailChanged = "email_changed";
    /// The link sets a new password.
    ResetPassword = "reset_password";
    /// Your password was changed. The link leads to another new one.
    PasswordChanged = "password_changed";
    /// You deactivated your account. The link leads to the site.
    AccountDeactivated = "account_deactivated";
    /// An administrator deactivated your account. The link leads to the site.
    AccountClosed = "account_closed";
    /// To a guest: what you booked waits for the provider. The link manages it, as that of all mails to guests does.
    GuestRequested = "guest_requested";
    /// To a guest: your appointment will take place.
    GuestConfirmed = "guest_confirmed";
    /// To a guest: the provider said no.
    GuestDeclined = "guest_declined";
    /// To a guest: the provider called it off.
    GuestCancelled = "guest_cancelled";
    /// To a guest: the provider moved it.
    GuestMoved = "guest_moved";
    /// To a guest: the provider did not answer.
    GuestExpired = "guest_expired";
}

/// A mail has both.
#[derive(Debug, Clone, Copy)]
enum Form {
    Text,
    Html,
}

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    let layouts = [
        ("layout.txt", include_str!("templates/layout.txt")),
        ("layout.html", include_str!("templates/layout.html")),
    ];
    let letters = Letter::ALL.iter().flat_map(|letter| {
        [Locale::PtBr, Locale::En].into_iter().flat_map(|locale| {
            let source = letter.source(locale);
            [Form::Text, Form::Html].map(|form| (letter.template(locale, form), source))
        })
    });
    for (name, source) in layouts.into_iter().chain(letters) {
        templates.add_template(name, source).expect("the templates are part of the program");
    }
    templates
});

impl Letter {
    /// The letter as it is sent to somebody, in their language. What its link is for, each letter says.
    pub fn render(self, to: &Recipient, link: &str) -> Rendered {
        self.render_about(to, link, "")
    }

    /// The same, about something: those to guests say what was booked.
    pub fn render_about(self, to: &Recipient, link: &str, about: &str) -> Rendered {
        let render = |form, layout| {
            let name = to.name.as_str();
            let values = context! { layout, link, about, name, lang => to.locale.tag() };
            let template = TEMPLATES.get_template(self.template(to.locale, form));
            let template = template.expect("every letter has a template of every form");
            let mut captured =
                template.render_captured(values).expect("a template uses what it is given");
            let subject = captured.with_state_mut(|state| state.render_block("subject"));
            (subject.expect("every letter has a subject"), captured.into_output())
        };
        // Of the subject the one without HTML's escapes.
        let (subject, text) = render(Form::Text, "layout.txt");
        let (_, html) = render(Form::Html, "layout.html");
        Rendered { subject: subject.trim().to_owned(), text, html }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(name: &str, locale: Locale) -> Recipient {
        Recipient { name: name.parse().unwrap(), email: "ana@example.com".parse().unwrap(), locale }
    }

    #[test]
    fn names_and_links_cannot_write_html_and_stand_in_the_text_as_they_are() {
        let to = to("<b>Ana</b> & \"Bia\" {{ link }}", Locale::En);
        for letter in Letter::ALL {
            let mail = letter.render(&to, "https://example.com/?a=1&b=\"2\"#token=x.y");
            assert!(
                mail.html.contains("&lt;b&gt;Ana&lt;&#x2f;b&gt; &amp; &quot;Bia&quot; {{ link }}"),
                "{}",
                mail.html
            );
            assert!(mail.html.contains("a=1&amp;b=&quot;2&quot;#token=x.y"), "{}", mail.html);
            assert!(mail.text.contains("Hello, <b>Ana</b> & \"Bia\" {{ link }}!"), "{}", mail.text);
            assert!(
                mail.text.contains(": https://example.com/?a=1&b=\"2\"#token=x.y\n"),
                "{}",
                mail.text
            );
        }
    }

    #[test]
    fn every_letter_speaks_both_languages_and_no_two_are_alike() {
        let mut subjects = Vec::new();
        for letter in Letter::ALL {
            for (locale, hello) in [(Locale::PtBr, "Olá, Ana!"), (Locale::En, "Hello, Ana!")] {
                let mail = letter.render(&to("Ana", locale), "https://example.com/");
                assert!(mail.text.starts_with(hello), "{}", mail.text);
                assert!(mail.html.contains(hello), "{}", mail.html);
                assert!(mail.html.contains(&format!("lang=\"{}\"", locale.tag())));
                assert!(
                    !mail.text.contains("\n\n\n") && !mail.text.contains('%'),
                    "{:?}",
                    mail.text
                );
                assert!(!mail.subject.contains('\n') && mail.subject.len() > 10);
                assert!(!format!("{mail:?}").contains("https://"));
                subjects.push(mail.subject);
            }
        }
        let count = subjects.len();
        subjects.sort_unstable();
        subjects.dedup();
        assert_eq!(subjects.len(), count, "{subjects:?}");
    }
}
