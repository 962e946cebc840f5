//! Why a command was refused. Each variant is one stable problem type of the HTTP API.

use crate::Instant;
use crate::aggregate::Version;
use crate::command::ClaimKind;
use crate::holidays::Holiday;
use crate::recurrence::InvalidRecurrence;
use crate::series::RefusedOccurrence;

/// A named refusal: what was asked may not, or cannot, be done. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The actor is nobody we know.
    #[error("sign in first")]
    SignInRequired,
    /// The actor may know the thing but not do this to it.
    #[error("the actor may not do this")]
    Forbidden,
    /// There is no such thing, or the actor may not know it.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The account's address was not confirmed yet.
    #[error("the account's email address is not confirmed")]
    EmailNotConfirmed,
    /// Address and password do not belong together, or no longer do.
    #[error("the address or the password is wrong")]
    InvalidCredentials,
    /// What cannot be undone asks for the password once more, and there was none.
    #[error("the password is required")]
    PasswordRequired,
    /// The account was deactivated (`S3-28`).
    #[error("the account is deactivated")]
    AccountDeactivated,
    /// A link from a mail was used, replaced by a newer one, or is too old.
    #[error("the link is not valid any more")]
    InvalidLink,
    /// The session was ended, or is too old.
    #[error("the session has ended")]
    SessionEnded,
    /// The idempotency key began this very thing longer ago than its answer is kept.
    #[error("the idempotency key was used long ago")]
    KeySpent,
    /// Somebody else holds the claim.
    #[error("the {} is taken", .0.as_str())]
    Claimed(ClaimKind),
    /// The thing is at another version than `If-Match` names.
    #[error("it has changed since the version that was named")]
    AnotherVersion {
        /// The version it is at, if it has one.
        current: Option<Version>,
    },
    /// A list is full.
    #[error("there may be at most {limit} {what}")]
    LimitReached {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: usize,
    },
    /// An order of a shop's services that leaves one out, names one twice, or names another's.
    #[error("the order must name every service once")]
    NotEveryService,
    /// The slot is occupied (`S0-27`). The nearest free starts, nearest first.
    #[error("the slot is taken")]
    SlotTaken {
        /// Starts that are free, nearest first.
        alternatives: Vec<Instant>,
    },
    /// Nobody has booked the slot yet, but somebody holds it while they check out.
    #[error("the slot is held")]
    SlotHeld {
        /// Starts that are free, nearest first.
        alternatives: Vec<Instant>,
    },
    /// The group has no seat left.
    #[error("the group is full")]
    GroupFull {
        /// Starts that are free, nearest first.
        alternatives: Vec<Instant>,
    },
    /// The local day has as many bookings as the provider takes.
    #[error("the day is full: the provider takes {limit} bookings")]
    DayFull {
        /// How many it may have.
        limit: u32,
        /// Starts that are free, nearest first.
        alternatives: Vec<Instant>,
    },
    /// A hold is for another slot than is to be booked with it.
    #[error("the hold is for another slot")]
    HoldMismatch,
    /// Somebody waits for that service at a time that meets this one.
    #[error("already in line")]
    AlreadyInLine,
    /// A hold has become an appointment already.
    #[error("the hold is used")]
    HoldUsed,
    /// A series that is wanted whole cannot be had whole, or none of it can be had.
    #[error("{} occurrences of the series cannot be booked", .refused.len())]
    SeriesNotBookable {
        /// Which, why, and what is free near them.
        refused: Vec<RefusedOccurrence>,
    },
    /// Somebody would wait for what is free.
    #[error("something is free")]
    NothingToWaitFor {
        /// The first starts that are.
        alternatives: Vec<Instant>,
    },
    /// A stretch of time to wait for ends before it begins, is past or too long.
    #[error("one may wait for at most {days} days, which must not be over")]
    WaitingTime {
        /// How many.
        days: u16,
    },
    /// A recurrence rule is not one, or does not fit its start.
    #[error(transparent)]
    InvalidRecurrence(InvalidRecurrence),
    /// The start is not in the future (`S0-28`).
    #[error("the start is in the past")]
    SlotInPast,
    /// The start is sooner than the provider's minimum notice.
    #[error("the start is too soon: the provider asks for {notice_minutes} minutes' notice")]
    NoticeTooShort {
        /// The notice.
        notice_minutes: u32,
    },
    /// The start is later than the provider's horizon.
    #[error("the start is more than {horizon_days} days ahead")]
    BeyondHorizon {
        /// The horizon.
        horizon_days: u32,
    },
    /// The day of an override is too far from today, in either direction.
    #[error("the day is more than {reach_days} days away")]
    DayOutOfReach {
        /// How far away a day may be.
        reach_days: u32,
    },
    /// No slot of the service starts then (`S0-26`).
    #[error("no slot of this service starts then")]
    OutsideHours,
    /// The provider is off that day.
    #[error("the provider is off that day")]
    DayOff,
    /// The provider is closed on that holiday.
    #[error("the provider is closed on that holiday")]
    Holiday(Holiday),
    /// The provider has time off then.
    #[error("the provider has time off then")]
    TimeOff,
    /// The provider works then, but does not offer this service.
    #[error("this service is not offered then")]
    OutsideServiceHours,
    /// One cannot book with oneself (`S0-29`, K17).
    #[error("one cannot book with oneself")]
    OwnAppointment,
    /// The client's time to cancel or reschedule has passed (K19).
    #[error("it is too late: changes end {window_minutes} minutes before the start")]
    TooLate {
        /// The window.
        window_minutes: u32,
    },
    /// It cannot be said yet: the appointment has not begun, or not ended.
    #[error("it cannot be said before {from}")]
    NotYet {
        /// From when on it can.
        from: Instant,
    },
    /// The appointment's end has passed: it is not moved or called off any more.
    #[error("it ended at {at}")]
    Ended {
        /// When.
        at: Instant,
    },
    /// It was said whether the client came, and the time to set that right is over.
    #[error("it could be set right until {until}")]
    CorrectionOver {
        /// Until when it could.
        until: Instant,
    },
    /// The appointment's status does not allow it.
    #[error("an appointment that is {status} cannot be {wanted}")]
    WrongStatus {
        /// What it is.
        status: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
}

impl Refusal {
    /// The free starts it names, where it names some.
    #[expect(clippy::wildcard_enum_match_arm, reason = "few of many name any")]
    pub fn alternatives_mut(&mut self) -> Option<&mut Vec<Instant>> {
        match self {
            Self::SlotTaken { alternatives }
            | Self::SlotHeld { alternatives }
            | Self::GroupFull { alternatives }
            | Self::DayFull { alternatives, limit: _ } => Some(alternatives),
            _ => None,
        }
    }
}
