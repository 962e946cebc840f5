//! Appointment: one id and one history from booking to its end, through every reschedule.
//!
//! Booking reads the provider, decides on the agenda of each UTC day it touches, and appends to the
//! agendas and the new appointment in one request that requires the provider unchanged. Two people can
//! race for a slot on two machines: one is booked, the other is refused with the nearest free starts.
//!
//! The commands stand beside this file: `book`, `reschedule`, `cancel`, `answer`. What they share is in `stands`
//! (whose an appointment is) and `place` (whether a slot is free).

mod answer;
mod book;
mod cancel;
mod place;
mod reschedule;
mod stands;

use serde::{Deserialize, Serialize};

pub use self::answer::{ConfirmAppointment, DeclineAppointment};
pub use self::book::BookAppointment;
pub use self::cancel::CancelAppointment;
pub use self::place::ALTERNATIVES;
pub use self::reschedule::RescheduleAppointment;
pub use self::stands::AppointmentStands;
use crate::Refusal;
use crate::aggregate::{Aggregate, Context, StreamKind, aggregate};
use crate::hours::{Confirmation, Zone};
use crate::ids::{AccountId, AppointmentId, ProviderId};
use crate::money::Money;
use crate::personal::Personal;
use crate::slots::{Measure, Span};
use crate::text::{EmailAddress, Note, PersonName, Phone, ServiceName};

/// An appointment's history, folded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Appointment {
    /// `None` until booked.
    pub booking: Option<Booking>,
}

/// An appointment as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Booking {
    /// What was agreed when it was booked.
    pub terms: Terms,
    /// Its time now.
    pub slot: Span,
    /// Its status.
    pub status: Status,
}

/// What was agreed when an appointment was booked; a reschedule changes none of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// With whom.
    pub provider: ProviderId,
    /// Whose shop that is.
    pub provider_account: AccountId,
    /// Who booked.
    pub client: AccountId,
    /// The client's name and address at that time (`S3-77`).
    pub contact: Personal<Contact>,
    /// The service's measure at that time.
    pub measure: Measure,
    /// The service's name at that time.
    pub service_name: Personal<ServiceName>,
    /// The provider's zone at that time.
    pub zone: Zone,
    /// What it costs (K14).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Money>,
    /// What the client wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_notes: Option<Personal<Note>>,
}

/// Who a client is, as a provider needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Their name.
    pub name: PersonName,
    /// Their address.
    pub email: EmailAddress,
    /// Their telephone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Phone>,
}

/// Where an appointment stands (K8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for the provider.
    Pending,
    /// Will take place.
    Confirmed,
    /// The provider said no.
    Declined,
    /// Either side called it off.
    Cancelled,
}

impl Status {
    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Declined => "declined",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it holds its slot.
    pub const fn is_live(self) -> bool {
        match self {
            Self::Pending | Self::Confirmed => true,
            Self::Declined | Self::Cancelled => false,
        }
    }
}

/// Which side did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The client.
    Client,
    /// The provider.
    Provider,
}

/// What can be asked of an appointment.
#[derive(Debug, Clone, PartialEq)]
pub enum AppointmentCommand {
    /// Book it.
    Book {
        /// What is agreed.
        terms: Box<Terms>,
        /// When.
        slot: Span,
        /// Whether it waits for the provider.
        confirmation: Confirmation,
    },
    /// Say yes.
    Confirm,
    /// Say no.
    Decline(Option<Personal<Note>>),
    /// Call it off.
    Cancel {
        /// Who does.
        by: Side,
        /// Why.
        reason: Option<Personal<Note>>,
    },
    /// Move it.
    Reschedule {
        /// Who does.
        by: Side,
        /// When it is now.
        to: Span,
        /// Whether it waits for the provider again.
        confirmation: Confirmation,
    },
}

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
    },
}

/// Whom an appointment concerns: what every reader of its events needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parties {
    /// With whom.
    pub provider: ProviderId,
    /// Whose shop that is.
    pub provider_account: AccountId,
    /// Who booked.
    pub client: AccountId,
}

aggregate!(Appointment(AppointmentId), AppointmentCommand => AppointmentEvent {
    AppointmentBooked = "2",
    AppointmentConfirmed = "1",
    AppointmentDeclined = "1",
    AppointmentCancelled = "1",
    AppointmentRescheduled = "1",
});

impl Parties {
    /// Whether an account is one of them.
    pub fn include(&self, account: AccountId) -> bool {
        [self.client, self.provider_account].contains(&account)
    }
}

impl Terms {
    /// Whom it concerns.
    pub fn parties(&self) -> Parties {
        Parties {
            provider: self.provider,
            provider_account: self.provider_account,
            client: self.client,
        }
    }
}

impl Booking {
    /// The side an account is on, if it is a party.
    pub fn side_of(&self, account: AccountId) -> Option<Side> {
        if account == self.terms.client {
            Some(Side::Client)
        } else if account == self.terms.provider_account {
            Some(Side::Provider)
        } else {
            None
        }
    }

    fn live(&self, wanted: &'static str) -> Result<(), Refusal> {
        if self.status.is_live() {
            Ok(())
        } else {
            Err(Refusal::WrongStatus { status: self.status.as_str(), wanted })
        }
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
            | Self::AppointmentRescheduled { parties, .. } => *parties,
        }
    }
}

impl Appointment {
    /// The booking, if there is one.
    pub fn booked(&self) -> Result<&Booking, Refusal> {
        self.booking.as_ref().ok_or(Refusal::NotFound("appointment"))
    }
}

impl Aggregate for Appointment {
    type Id = AppointmentId;
    const KIND: StreamKind = StreamKind::Appointment;

    fn decide(
        &self,
        command: AppointmentCommand,
        _: &Context,
    ) -> Result<Vec<AppointmentEvent>, Refusal> {
        if let AppointmentCommand::Book { terms, slot, confirmation } = command {
            // Its id comes from the command's: an earlier one, whose answer is no longer kept, has begun it.
            if self.booking.is_some() {
                return Err(Refusal::KeySpent);
            }
            let status = first_status(confirmation);
            return Ok(vec![AppointmentEvent::AppointmentBooked { terms, slot, status }]);
        }
        let booking = self.booked()?;
        let (parties, slot) = (booking.terms.parties(), booking.slot);
        Ok(match command {
            AppointmentCommand::Book { .. } => return Err(Refusal::KeySpent),
            AppointmentCommand::Confirm if booking.status == Status::Confirmed => Vec::new(),
            AppointmentCommand::Confirm => {
                booking.live("confirmed")?;
                vec![AppointmentEvent::AppointmentConfirmed { parties, slot }]
            }
            AppointmentCommand::Decline(_) if booking.status == Status::Declined => Vec::new(),
            AppointmentCommand::Decline(reason) => {
                if booking.status != Status::Pending {
                    return Err(Refusal::WrongStatus {
                        status: booking.status.as_str(),
                        wanted: "declined",
                    });
                }
                vec![AppointmentEvent::AppointmentDeclined { parties, slot, reason }]
            }
            AppointmentCommand::Cancel { .. } if booking.status == Status::Cancelled => Vec::new(),
            AppointmentCommand::Cancel { by, reason } => {
                booking.live("cancelled")?;
                vec![AppointmentEvent::AppointmentCancelled { parties, slot, by, reason }]
            }
            AppointmentCommand::Reschedule { by, to, confirmation } => {
                booking.live("rescheduled")?;
                if to == slot {
                    return Ok(Vec::new());
                }
                // Whoever moves it has agreed to the new time; a client's move waits for the provider
                // again where bookings do.
                let status = match by {
                    Side::Provider => booking.status,
                    Side::Client => first_status(confirmation),
                };
                vec![AppointmentEvent::AppointmentRescheduled {
                    parties,
                    from: slot,
                    to,
                    by,
                    status,
                }]
            }
        })
    }

    fn evolve(&mut self, event: &AppointmentEvent) {
        if let AppointmentEvent::AppointmentBooked { terms, slot, status } = event {
            self.booking =
                Some(Booking { terms: terms.as_ref().clone(), slot: *slot, status: *status });
            return;
        }
        let Some(booking) = &mut self.booking else { return };
        match event {
            AppointmentEvent::AppointmentBooked { .. } => {}
            AppointmentEvent::AppointmentConfirmed { .. } => booking.status = Status::Confirmed,
            AppointmentEvent::AppointmentDeclined { .. } => booking.status = Status::Declined,
            AppointmentEvent::AppointmentCancelled { .. } => booking.status = Status::Cancelled,
            AppointmentEvent::AppointmentRescheduled { to, status, .. } => {
                booking.slot = *to;
                booking.status = *status;
            }
        }
    }
}

const fn first_status(confirmation: Confirmation) -> Status {
    match confirmation {
        Confirmation::Automatic => Status::Confirmed,
        Confirmation::Manual => Status::Pending,
    }
}
