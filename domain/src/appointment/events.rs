//! What happens to an appointment, and whom it concerns.

use serde::{Deserialize, Serialize};

use super::{Side, Status, Terms};
use crate::Instant;
use crate::ids::{AccountId, GuestId, ProviderId, SubjectId};
use crate::personal::Personal;
use crate::slots::Span;
use crate::text::Note;

/// What happened to an appointment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AppointmentEvent {
    /// It was booked.
    AppointmentBooked {
        /// What was agreed.
        terms: Box<Terms>,
        /// When it is.
        slot: Span,
        /// Pending, or confirmed at once by the provider's policy.
        status: Status,
        /// Where it is pending: when it expires unanswered, if before it starts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer_by: Option<Instant>,
        /// Who booked: the client, or the provider on a guest's behalf.
        #[serde(default, skip_serializing_if = "Side::is_client")]
        by: Side,
    },
    /// The provider said yes.
    AppointmentConfirmed {
        /// Whose appointment.
        parties: Parties,
        /// When it is.
        slot: Span,
    },
    /// The provider said no.
    AppointmentDeclined {
        /// Whose appointment.
        parties: Parties,
        /// When it would have been.
        slot: Span,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Personal<Note>>,
    },
    /// It was called off.
    AppointmentCancelled {
        /// Whose appointment.
        parties: Parties,
        /// When it would have been.
        slot: Span,
        /// Who called it off.
        by: Side,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Personal<Note>>,
        /// Whether all that was to come of its series was called off with it: that is told once, by the series.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        with_series: bool,
    },
    /// It was moved.
    AppointmentRescheduled {
        /// Whose appointment.
        parties: Parties,
        /// When it was.
        from: Span,
        /// When it is now.
        to: Span,
        /// Who moved it.
        by: Side,
        /// Where it stands now.
        status: Status,
        /// Where it is pending: when it expires unanswered, if before it starts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer_by: Option<Instant>,
    },
    /// The provider did not answer in time.
    AppointmentExpired {
        /// Whose appointment.
        parties: Parties,
        /// When it would have been.
        slot: Span,
    },
    /// It took place.
    AppointmentCompleted {
        /// Whose appointment.
        parties: Parties,
        /// When it was.
        slot: Span,
        /// Until when that can be set right.
        correctable_until: Instant,
    },
    /// The client did not come.
    AppointmentMissed {
        /// Whose appointment.
        parties: Parties,
        /// When it was.
        slot: Span,
        /// Until when that can be set right.
        correctable_until: Instant,
    },
    /// One side noted something for itself alone: only that side may see it.
    AppointmentNoted {
        /// Whose appointment.
        parties: Parties,
        /// When it is.
        slot: Span,
        /// Whose notes.
        by: Side,
        /// What they are now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        notes: Option<Personal<Note>>,
    },
    /// The guest whose appointment it is was erased: their data key is gone with this event.
    GuestErased {
        /// Whose appointment.
        parties: Parties,
        /// When it is, or would have been.
        slot: Span,
    },
}

/// Whom an appointment concerns: what every reader of its events needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parties {
    /// With whom.
    pub provider: ProviderId,
    /// Whose shop that is.
    pub provider_account: AccountId,
    /// Who booked, or was booked for.
    pub client: Client,
}

/// Whose appointment it is besides the provider's: an account's, or a guest's (K18). An account is written as its bare id,
/// as before there were guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Client {
    /// Somebody with an account.
    Account(AccountId),
    /// Somebody without one, known by this one appointment.
    Guest {
        /// Who.
        guest: GuestId,
    },
}

impl Client {
    /// The account, if it is one.
    pub const fn account(self) -> Option<AccountId> {
        match self {
            Self::Account(account) => Some(account),
            Self::Guest { .. } => None,
        }
    }

    /// The guest, if it is one.
    pub const fn guest(self) -> Option<GuestId> {
        match self {
            Self::Account(_) => None,
            Self::Guest { guest } => Some(guest),
        }
    }

    /// Whose personal data theirs is.
    pub fn subject(self) -> SubjectId {
        match self {
            Self::Account(account) => account.into(),
            Self::Guest { guest } => guest.into(),
        }
    }
}

impl From<AccountId> for Client {
    fn from(account: AccountId) -> Self {
        Self::Account(account)
    }
}

impl Parties {
    /// Whether an account is one of them.
    pub fn include(&self, account: AccountId) -> bool {
        self.client == Client::Account(account) || self.provider_account == account
    }
}

impl AppointmentEvent {
    /// Whom it concerns.
    pub fn parties(&self) -> Parties {
        match self {
            Self::AppointmentBooked { terms, .. } => terms.parties(),
            Self::AppointmentConfirmed { parties, .. }
            | Self::AppointmentDeclined { parties, .. }
            | Self::AppointmentCancelled { parties, .. }
            | Self::AppointmentRescheduled { parties, .. }
            | Self::AppointmentExpired { parties, .. }
            | Self::AppointmentCompleted { parties, .. }
            | Self::AppointmentMissed { parties, .. }
            | Self::AppointmentNoted { parties, .. }
            | Self::GuestErased { parties, .. } => *parties,
        }
    }
}
