//! Series: appointments that recur, booked together.
//!
//! Every occurrence is an appointment of its own, with its own id and its own life; its terms name the series and which of
//! it it is. The series' own stream, in the provider's slot, begins in the very append that books them. It says what was
//! asked for and which appointments came of it: so that they can be found without asking a read model, so that there is one
//! thing to tell the provider, and so that a retry finds what the first attempt did.
//!
//! Whether all occurrences are wanted or as many as can be had, it is one append: see `docs/adr/0008`. For example ten
//! Tuesdays at 09:00, of which the third is a holiday: *all or nothing* is refused, naming the third, why, and what is free
//! near it; *best effort* books nine, and answers the same of the third.
//!
//! Calling a series off calls off what is to come of it, each occurrence under the rules it would be under alone.

mod agendas;
mod book;
mod cancel;

use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};

pub use self::book::{BookSeries, BookedOccurrence, SeriesStands};
pub use self::cancel::{CancelSeries, KeptOccurrence, SeriesIsOff, WhyKept};
use crate::aggregate::{Aggregate, Context, StreamKind, aggregate};
use crate::appointment::{Client, Parties, Side, Status};
use crate::hours::Zone;
use crate::ids::{AccountId, SeriesId, ServiceId};
use crate::recurrence::Recurrence;
use crate::{Instant, Refusal};

/// How many free starts are named for an occurrence that cannot be booked.
pub const ALTERNATIVES_EACH: usize = 3;

/// A series' history, folded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// `None` until booked.
    pub placed: Option<Placed>,
}

/// What was asked for, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// Whose it is.
    pub parties: Parties,
    /// What was booked.
    pub service: ServiceId,
    /// The rule's first occurrence, whether it was booked or not.
    pub start: Instant,
    /// When the others are.
    pub rule: Recurrence,
    /// The zone the rule's days were counted in.
    pub zone: Zone,
    /// Whether all were wanted.
    pub mode: Mode,
    /// Pending, or confirmed at once.
    pub status: Status,
    /// What was booked, in order; one at least.
    pub booked: Vec<BookedOccurrence>,
}

/// Whether a series is wanted whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All occurrences, or none.
    AllOrNothing,
    /// As many as can be had.
    BestEffort,
}

/// Which of which series an appointment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesPart {
    /// Which series.
    pub series: SeriesId,
    /// Which occurrence of its rule, from 1.
    pub number: u16,
}

/// An occurrence that cannot be booked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedOccurrence {
    /// Which of the rule, from 1.
    pub number: u16,
    /// When it would be, on the provider's clock.
    pub local: NaiveDateTime,
    /// The same as an instant, where there is one.
    pub start: Option<Instant>,
    /// Why not.
    pub why: Unbookable,
    /// The nearest free starts, nearest first.
    pub alternatives: Vec<Instant>,
}

macro_rules! unbookable {
    ($($(#[$doc:meta])* $variant:ident = $slug:literal $(, $refusal:ident)?;)*) => {
        /// Why an occurrence cannot be booked: what a booking of it alone would be refused for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Unbookable {
            $($(#[$doc])* #[serde(rename = $slug)] $variant,)*
        }

        impl Unbookable {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As in JSON: the type of the problem that a booking of it alone would be answered with.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $slug,)* }
            }

            fn of(refusal: &Refusal) -> Option<Self> {
                match refusal {
                    $($(Refusal::$refusal { .. } => Some(Self::$variant),)?)*
                    _ => None,
                }
            }
        }
    };
}

unbookable! {
    /// Clocks skip that time on that day.
    NoSuchTime = "no-such-time";
    /// It is not in the future.
    SlotInPast = "slot-in-past", SlotInPast;
    /// It is sooner than the provider's notice.
    NoticeTooShort = "notice-too-short", NoticeTooShort;
    /// It is later than the provider's horizon.
    BeyondHorizon = "beyond-horizon", BeyondHorizon;
    /// No slot of the service starts then.
    OutsideHours = "outside-hours", OutsideHours;
    /// The service is not offered then.
    OutsideServiceHours = "outside-service-hours", OutsideServiceHours;
    /// The provider is off that day.
    DayOff = "day-off", DayOff;
    /// The provider is closed on that holiday.
    Holiday = "holiday", Holiday;
    /// The provider has time off then.
    TimeOff = "time-off", TimeOff;
    /// Somebody has it, perhaps an earlier occurrence of the same series.
    SlotTaken = "slot-taken", SlotTaken;
    /// Somebody holds it while they check out.
    SlotHeld = "slot-held", SlotHeld;
    /// The group has no seat left.
    GroupFull = "group-full", GroupFull;
    /// The day has as many bookings as the provider takes.
    DayFull = "day-full", DayFull;
}

/// What can be asked of a series.
#[derive(Debug, Clone, PartialEq)]
pub enum SeriesCommand {
    /// Book it.
    Book(Placed),
    /// Call off what is to come.
    Cancel {
        /// Who does.
        by: Side,
        /// Which are called off, in order.
        cancelled: Vec<BookedOccurrence>,
    },
}

/// What happened to a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SeriesEvent {
    /// It was booked.
    SeriesBooked {
        /// What was asked for, and what came of it.
        series: Placed,
    },
    /// What was to come of it was called off.
    SeriesCancelled {
        /// Whose it is.
        parties: Parties,
        /// Who called it off.
        by: Side,
        /// Which of its appointments, and when they would have been; one at least.
        cancelled: Vec<BookedOccurrence>,
    },
}

aggregate!(Series(SeriesId), SeriesCommand => SeriesEvent {
    SeriesBooked = "1",
    SeriesCancelled = "1",
});

impl SeriesEvent {
    /// Whom it concerns.
    pub fn parties(&self) -> Parties {
        match self {
            Self::SeriesBooked { series } => series.parties,
            Self::SeriesCancelled { parties, .. } => *parties,
        }
    }
}

impl Placed {
    /// The side an account is on, if it is a party.
    pub fn side_of(&self, account: AccountId) -> Option<Side> {
        if self.parties.client == Client::Account(account) {
            Some(Side::Client)
        } else if self.parties.provider_account == account {
            Some(Side::Provider)
        } else {
            None
        }
    }
}

impl Series {
    /// What was booked, if it was.
    pub fn booked(&self) -> Result<&Placed, Refusal> {
        self.placed.as_ref().ok_or(Refusal::NotFound("series"))
    }
}

impl Aggregate for Series {
    type Id = SeriesId;
    const KIND: StreamKind = StreamKind::Series;

    fn decide(&self, command: SeriesCommand, _: &Context) -> Result<Vec<SeriesEvent>, Refusal> {
        match command {
            // Its id comes from the command's: an earlier one, whose answer is no longer kept, has begun it.
            SeriesCommand::Book(_) if self.placed.is_some() => Err(Refusal::KeySpent),
            SeriesCommand::Book(series) => Ok(vec![SeriesEvent::SeriesBooked { series }]),
            SeriesCommand::Cancel { by, cancelled } => {
                let parties = self.booked()?.parties;
                if cancelled.is_empty() {
                    return Ok(Vec::new());
                }
                Ok(vec![SeriesEvent::SeriesCancelled { parties, by, cancelled }])
            }
        }
    }

    fn evolve(&mut self, event: &SeriesEvent) {
        match event {
            SeriesEvent::SeriesBooked { series } => self.placed = Some(series.clone()),
            // How each of them stands, it says itself.
            SeriesEvent::SeriesCancelled { parties: _, by: _, cancelled: _ } => {}
        }
    }
}
