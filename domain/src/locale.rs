//! The languages Pontual speaks (K31).

use serde::{Deserialize, Serialize};

/// A language people read mails, notifications and error texts in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Locale {
    /// Brazilian Portuguese, the default.
    #[default]
    #[serde(rename = "pt-BR")]
    PtBr,
    /// English.
    #[serde(rename = "en")]
    En,
}

impl Locale {
    /// The BCP 47 tag.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::PtBr => "pt-BR",
            Self::En => "en",
        }
    }

    /// The one of the two texts that is in this language.
    pub const fn pick<'t>(self, pt_br: &'t str, en: &'t str) -> &'t str {
        match self {
            Self::PtBr => pt_br,
            Self::En => en,
        }
    }
}
