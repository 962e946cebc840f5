//! Personal data in events.
//!
//! `Personal<T>` names whose data it is. In memory it is [`Personal::Known`]; on its way into the log the
//! codec of `event-log` seals it with the subject's data key, and on its way out opens it again. After an
//! erasure the key is gone and every reader sees [`Personal::Erased`]; the log itself is never rewritten.
//!
//! As JSON: `{"$personal":{"subject":"…","value":…}}` in memory, `{"$sealed":{"subject":"…","box":"…"}}` in
//! the log, `{"$erased":"…"}` when the codec found a tombstone. `Debug` never prints the value.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::SubjectId;

/// A value that is somebody's personal data.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Personal<T> {
    /// The value, in the clear. Never written to the log in this form.
    #[serde(rename = "$personal")]
    Known {
        /// Whose data it is.
        subject: SubjectId,
        /// The data.
        value: T,
    },
    /// As it stands in the log, for readers that hold no keys.
    #[serde(rename = "$sealed")]
    Sealed {
        /// Whose data it is.
        subject: SubjectId,
        /// Nonce and ciphertext, base64.
        #[serde(rename = "box")]
        sealed: String,
    },
    /// The person was erased: nobody can read this any more.
    #[serde(rename = "$erased")]
    Erased(SubjectId),
}

impl<T> Personal<T> {
    /// `value` is `subject`'s.
    pub fn of(subject: impl Into<SubjectId>, value: T) -> Self {
        Self::Known { subject: subject.into(), value }
    }

    /// The value, unless it was erased or is still sealed.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known { value, .. } => Some(value),
            Self::Sealed { .. } | Self::Erased(_) => None,
        }
    }

    /// The same value, as `owner`'s. What is not in the clear stays whose it is.
    #[must_use]
    pub fn owned_by(self, owner: impl Into<SubjectId>) -> Self {
        match self {
            Self::Known { subject: _, value } => Self::of(owner, value),
            Self::Sealed { .. } | Self::Erased(_) => self,
        }
    }

    /// Whose data it is.
    pub fn subject(&self) -> SubjectId {
        match self {
            Self::Known { subject, .. } | Self::Sealed { subject, .. } | Self::Erased(subject) => {
                *subject
            }
        }
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self {
            Self::Known { .. } => "known",
            Self::Sealed { .. } => "sealed",
            Self::Erased(_) => "erased",
        };
        write!(f, "Personal({state}, of {})", self.subject())
    }
}
