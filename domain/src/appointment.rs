//! Appointment: one id and one history from booking to its end, through every reschedule.
//!
//! Booking reads the provider, decides on the agenda of each UTC day it touches, and appends to the
//! agendas and the new appointment in one request that requires the provider unchanged. Two people can
//! race for a slot on two machines: one is booked, the other is refused with the nearest free starts.
//!
//! A booking that waits for the provider and gets no answer expires: at its start, or when the policy's time to answer is
//! over. One that took place is completed, or missed; which of the two can be set right for seven days. Neither gives its
//! slot back, and from its end on nobody moves it or calls it off. Notes that a side makes for itself are events too, and
//! nobody else's.
//!
//! A guest has no account (K18): somebody who left name and address, where the provider allows that, or whom the provider
//! books for. They are a subject of their own, known by that one appointment, and manage it by the link that is mailed.
//!
//! The commands stand beside this file: `book`, `guest`, `reschedule`, `cancel`, `answer`, `expire`, `attend`, `note`. What they
//! share is in `stands` (whose an appointment is); how a slot is taken is in [`crate::taking`]. What happens is in `events`.

mod answer;
mod attend;
mod book;
mod cancel;
mod events;
mod expire;
mod guest;
mod note;
mod reschedule;
mod stands;

use serde::{Deserialize, Serialize};

pub use self::answer::{ConfirmAppointment, DeclineAppointment};
pub use self::attend::{CORRECTION_DAYS, CompleteAppointment, MarkNoShow};
pub use self::book::{BookAppointment, BookForGuest};
pub(crate) use self::book::{Whom, agreed, client_may_book, wanted_service};
pub use self::cancel::CancelAppointment;
pub use self::events::{AppointmentEvent, Client, Parties};
pub use self::expire::ExpireAppointment;
pub use self::guest::{EraseGuest, GUEST_LINK_DAYS, guest_link_ends};
pub use self::note::{NOTE_CHANGES, NoteAppointment};
pub use self::reschedule::{MOVES, RescheduleAppointment};
pub use self::stands::AppointmentStands;
pub(crate) use self::stands::{answer_by, in_window};
use crate::aggregate::{Aggregate, Context, StreamKind, aggregate};
use crate::hours::{Confirmation, Zone};
use crate::ids::{AccountId, AppointmentId, ProviderId, SubjectId};
use crate::locale::Locale;
use crate::money::Money;
use crate::personal::Personal;
use crate::series::SeriesPart;
use crate::slots::{Measure, Span};
use crate::text::{EmailAddress, Note, PersonName, Phone, ServiceName};
use crate::{Instant, Refusal};

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
    /// When it expires if the provider has not answered; `None` is at its start.
    pub answer_by: Option<Instant>,
    /// Until when it can be set right whether the client came; `None` until it was said.
    pub correctable_until: Option<Instant>,
    /// How often it was moved.
    pub moves: u8,
    /// What each side noted for itself alone.
    pub private_notes: PrivateNotes,
}

/// What each side of an appointment noted for itself: the other side never sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PrivateNotes {
    /// The client's.
    pub client: Option<Personal<Note>>,
    /// The provider's.
    pub provider: Option<Personal<Note>>,
    /// How often the client changed theirs.
    pub client_changes: u8,
    /// How often the provider did.
    pub provider_changes: u8,
}

impl PrivateNotes {
    /// Those of a side.
    pub fn of(&self, side: Side) -> Option<&Personal<Note>> {
        match side {
            Side::Client => self.client.as_ref(),
            Side::Provider => self.provider.as_ref(),
        }
    }

    const fn changes(&self, side: Side) -> u8 {
        match side {
            Side::Client => self.client_changes,
            Side::Provider => self.provider_changes,
        }
    }
}

/// What was agreed when an appointment was booked; a reschedule changes none of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// With whom.
    pub provider: ProviderId,
    /// Whose shop that is.
    pub provider_account: AccountId,
    /// Who booked, or was booked for.
    pub client: Client,
    /// The language mails to a guest are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_locale: Option<Locale>,
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
    /// The series it is one of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<SeriesPart>,
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
    /// It took place.
    Completed,
    /// The client did not come.
    NoShow,
    /// The provider did not answer in time.
    Expired,
}

impl Status {
    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Declined => "declined",
            Self::Cancelled => "cancelled",
            Self::Completed => "completed",
            Self::NoShow => "no_show",
            Self::Expired => "expired",
        }
    }

    /// Whether it is still to take place: it can be moved and called off.
    pub const fn is_live(self) -> bool {
        match self {
            Self::Pending | Self::Confirmed => true,
            Self::Declined | Self::Cancelled | Self::Completed | Self::NoShow | Self::Expired => {
                false
            }
        }
    }
}

/// Which side did something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The client.
    #[default]
    Client,
    /// The provider.
    Provider,
}

impl Side {
    fn is_client(&self) -> bool {
        *self == Self::Client
    }
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
        /// Until when, if not until it starts.
        answer_by: Option<Instant>,
        /// Who does.
        by: Side,
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
        /// Whether all that is to come of its series is called off with it.
        with_series: bool,
    },
    /// Move it.
    Reschedule {
        /// Who does.
        by: Side,
        /// When it is now.
        to: Span,
        /// Whether it waits for the provider again.
        confirmation: Confirmation,
        /// Until when it waits for the provider after a client's move, if not until it starts.
        answer_by: Option<Instant>,
    },
    /// Let it expire, if the provider's time to answer is over.
    Expire,
    /// Say that it took place.
    Complete,
    /// Say that the client did not come.
    MarkNoShow,
    /// Note something for one side alone, in place of what it noted before.
    Note {
        /// For which.
        by: Side,
        /// What.
        notes: Option<Personal<Note>>,
    },
    /// Forget the guest, and call it off if it is still to come.
    EraseGuest,
}

aggregate!(Appointment(AppointmentId), AppointmentCommand => AppointmentEvent {
    AppointmentBooked = "2",
    AppointmentConfirmed = "1",
    AppointmentDeclined = "1",
    AppointmentCancelled = "1",
    AppointmentRescheduled = "1",
    AppointmentExpired = "1",
    AppointmentCompleted = "1",
    AppointmentMissed = "1",
    AppointmentNoted = "1",
    GuestErased = "1",
});

impl Terms {
    /// Whose data it is what a side writes.
    fn author(&self, side: Side) -> SubjectId {
        match side {
            Side::Client => self.client.subject(),
            Side::Provider => self.provider_account.into(),
        }
    }

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
        if self.terms.client == Client::Account(account) {
            Some(Side::Client)
        } else if account == self.terms.provider_account {
            Some(Side::Provider)
        } else {
            None
        }
    }

    /// When it expires unanswered, while it waits for the provider.
    pub fn unanswered_until(&self) -> Option<Instant> {
        let pending = self.status == Status::Pending;
        pending.then(|| self.answer_by.unwrap_or(self.slot.start))
    }

    /// Where it stands at an instant: what nobody answered in time is over before anybody has said so.
    pub(crate) fn status_at(&self, now: Instant) -> Status {
        match self.unanswered_until() {
            Some(until) if now >= until => Status::Expired,
            Some(_) | None => self.status,
        }
    }

    fn live(&self, wanted: &'static str, now: Instant) -> Result<(), Refusal> {
        let status = self.status_at(now);
        if !status.is_live() {
            return Err(wrong(status, wanted));
        }
        // From its end on it is only said whether the client came.
        if now >= self.slot.end { Err(Refusal::Ended { at: self.slot.end }) } else { Ok(()) }
    }
}

const fn wrong(status: Status, wanted: &'static str) -> Refusal {
    Refusal::WrongStatus { status: status.as_str(), wanted }
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
        context: &Context,
    ) -> Result<Vec<AppointmentEvent>, Refusal> {
        if let AppointmentCommand::Book { terms, slot, confirmation, answer_by, by } = command {
            // Its id comes from the command's: an earlier one, whose answer is no longer kept, has begun it.
            if self.booking.is_some() {
                return Err(Refusal::KeySpent);
            }
            let status = first_status(confirmation);
            let answer_by = answer_by.filter(|_| status == Status::Pending);
            return Ok(vec![AppointmentEvent::AppointmentBooked {
                terms,
                slot,
                status,
                answer_by,
                by,
            }]);
        }
        let now = context.now;
        let booking = self.booked()?;
        let (parties, slot) = (booking.terms.parties(), booking.slot);
        Ok(match command {
            AppointmentCommand::Book { .. } => return Err(Refusal::KeySpent),
            AppointmentCommand::Confirm if booking.status == Status::Confirmed => Vec::new(),
            AppointmentCommand::Confirm => {
                booking.live("confirmed", now)?;
                vec![AppointmentEvent::AppointmentConfirmed { parties, slot }]
            }
            AppointmentCommand::Decline(_) if booking.status == Status::Declined => Vec::new(),
            AppointmentCommand::Decline(reason) => {
                let status = booking.status_at(now);
                if status != Status::Pending {
                    return Err(wrong(status, "declined"));
                }
                vec![AppointmentEvent::AppointmentDeclined { parties, slot, reason }]
            }
            AppointmentCommand::Cancel { .. } if booking.status == Status::Cancelled => Vec::new(),
            AppointmentCommand::Cancel { by, reason, with_series } => {
                booking.live("cancelled", now)?;
                vec![AppointmentEvent::AppointmentCancelled {
                    parties,
                    slot,
                    by,
                    reason,
                    with_series,
                }]
            }
            AppointmentCommand::Reschedule { by, to, confirmation, answer_by } => {
                booking.live("rescheduled", now)?;
                if to == slot {
                    return Ok(Vec::new());
                }
                if booking.moves >= MOVES {
                    return Err(Refusal::LimitReached { what: "moves", limit: MOVES.into() });
                }
                // Whoever moves it has agreed to the new time; a client's move waits for the provider
                // again where bookings do. The provider's own move does not give them longer to answer.
                let (status, answer_by) = match by {
                    Side::Provider => {
                        let until = booking.unanswered_until().filter(|until| *until < to.start);
                        (booking.status, until)
                    }
                    Side::Client => (first_status(confirmation), answer_by),
                };
                vec![AppointmentEvent::AppointmentRescheduled {
                    parties,
                    from: slot,
                    to,
                    by,
                    status,
                    answer_by: answer_by.filter(|_| status == Status::Pending),
                }]
            }
            AppointmentCommand::Expire => match booking.unanswered_until() {
                Some(until) if now >= until => {
                    vec![AppointmentEvent::AppointmentExpired { parties, slot }]
                }
                Some(_) | None => Vec::new(),
            },
            AppointmentCommand::Complete if booking.status == Status::Completed => Vec::new(),
            AppointmentCommand::Complete => {
                let correctable_until = attend::correctable(booking, "completed", slot.end, now)?;
                vec![AppointmentEvent::AppointmentCompleted { parties, slot, correctable_until }]
            }
            AppointmentCommand::MarkNoShow if booking.status == Status::NoShow => Vec::new(),
            AppointmentCommand::MarkNoShow => {
                let correctable_until = attend::correctable(booking, "no_show", slot.start, now)?;
                vec![AppointmentEvent::AppointmentMissed { parties, slot, correctable_until }]
            }
            AppointmentCommand::Note { by, notes } => {
                if booking.private_notes.of(by) == notes.as_ref() {
                    return Ok(Vec::new());
                }
                // To take them away is always possible.
                if notes.is_some() && booking.private_notes.changes(by) >= NOTE_CHANGES {
                    let limit = usize::from(NOTE_CHANGES);
                    return Err(Refusal::LimitReached { what: "changes of notes", limit });
                }
                vec![AppointmentEvent::AppointmentNoted { parties, slot, by, notes }]
            }
            AppointmentCommand::EraseGuest => {
                let to_come = slot.start > now && booking.status_at(now).is_live();
                let called_off = to_come.then_some(AppointmentEvent::AppointmentCancelled {
                    parties,
                    slot,
                    by: Side::Client,
                    reason: None,
                    with_series: false,
                });
                let erased = AppointmentEvent::GuestErased { parties, slot };
                called_off.into_iter().chain([erased]).collect()
            }
        })
    }

    fn evolve(&mut self, event: &AppointmentEvent) {
        if let AppointmentEvent::AppointmentBooked { terms, slot, status, answer_by, .. } = event {
            self.booking = Some(Booking {
                terms: terms.as_ref().clone(),
                slot: *slot,
                status: *status,
                answer_by: *answer_by,
                correctable_until: None,
                moves: 0,
                private_notes: PrivateNotes::default(),
            });
            return;
        }
        let Some(booking) = &mut self.booking else { return };
        match event {
            AppointmentEvent::AppointmentBooked { .. } => {}
            AppointmentEvent::AppointmentConfirmed { .. } => booking.status = Status::Confirmed,
            AppointmentEvent::AppointmentDeclined { .. } => booking.status = Status::Declined,
            AppointmentEvent::AppointmentCancelled { .. } => booking.status = Status::Cancelled,
            AppointmentEvent::AppointmentRescheduled { to, status, answer_by, .. } => {
                booking.slot = *to;
                booking.status = *status;
                booking.answer_by = *answer_by;
                booking.moves = booking.moves.saturating_add(1);
            }
            AppointmentEvent::AppointmentExpired { .. } => booking.status = Status::Expired,
            AppointmentEvent::AppointmentCompleted { correctable_until, .. } => {
                booking.status = Status::Completed;
                booking.correctable_until = Some(*correctable_until);
            }
            AppointmentEvent::AppointmentMissed { correctable_until, .. } => {
                booking.status = Status::NoShow;
                booking.correctable_until = Some(*correctable_until);
            }
            AppointmentEvent::AppointmentNoted { by, notes, .. } => {
                let private = &mut booking.private_notes;
                let (stands, changes) = match by {
                    Side::Client => (&mut private.client, &mut private.client_changes),
                    Side::Provider => (&mut private.provider, &mut private.provider_changes),
                };
                stands.clone_from(notes);
                *changes = changes.saturating_add(1);
            }
            AppointmentEvent::GuestErased { .. } => {
                booking.terms.contact = Personal::Erased(booking.terms.client.subject());
                booking.terms.client_notes = None;
                booking.private_notes.client = None;
            }
        }
    }
}

pub(crate) const fn first_status(confirmation: Confirmation) -> Status {
    match confirmation {
        Confirmation::Automatic => Status::Confirmed,
        Confirmation::Manual => Status::Pending,
    }
}
