//! Why a slot can or cannot be booked: one set of rules for the booking that is refused, and for whoever asks beforehand.
//!
//! First what the provider's schedule says, in this order: past, notice, horizon, day off, holiday, time off, hours. Then
//! what is in the way, in the order of the UTC days and of what was taken first. Last, whether the day is full. For example
//! a start on Christmas at a shop that keeps holidays is refused as `Holiday`, whoever has booked then.

use crate::hours::Zone;
use crate::ids::ServiceId;
use crate::slots::{Measure, Obstacle, Schedule, Span};
use crate::{Instant, Refusal};

impl Obstacle {
    /// The refusal it leads to, free starts yet to be found.
    pub const fn refusal(self) -> Refusal {
        let alternatives = Vec::new();
        match self {
            Self::Taken => Refusal::SlotTaken { alternatives },
            Self::Held => Refusal::SlotHeld { alternatives },
            Self::Full => Refusal::GroupFull { alternatives },
        }
    }
}

/// Why a standing appointment would not be booked like that today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfPlace {
    /// The day is a day off.
    DayOff,
    /// The day is a holiday.
    Holiday,
    /// It touches time off.
    TimeOff,
    /// It does not lie in the shop's windows.
    OutsideHours,
    /// It lies in the shop's windows, but not in its service's own.
    OutsideServiceHours,
    /// The shop moved to another zone, where clocks show another time for it.
    LocalTimeChanged,
}

impl OutOfPlace {
    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DayOff => "day_off",
            Self::Holiday => "holiday",
            Self::TimeOff => "time_off",
            Self::OutsideHours => "outside_hours",
            Self::OutsideServiceHours => "outside_service_hours",
            Self::LocalTimeChanged => "local_time_changed",
        }
    }
}

impl Schedule {
    /// The slot that starts then, if time, notice, horizon and hours allow it.
    pub fn bookable(
        &self,
        measure: &Measure,
        start: Instant,
        now: Instant,
    ) -> Result<Span, Refusal> {
        let policy = &self.policy;
        if start <= now {
            return Err(Refusal::SlotInPast);
        }
        if start < self.earliest(now) {
            return Err(Refusal::NoticeTooShort { notice_minutes: policy.minimum_notice_minutes });
        }
        if self.local_day(start) > self.last_day(now) {
            return Err(Refusal::BeyondHorizon { horizon_days: policy.horizon_days });
        }
        let slot = measure.slot_at(start);
        if self.allows(measure, start) {
            return Ok(slot);
        }
        Err(match self.out_of_hours(measure.service, slot) {
            Some(OutOfPlace::DayOff) => Refusal::DayOff,
            Some(OutOfPlace::Holiday) => match self.holiday(self.local_day(start)) {
                Some(holiday) => Refusal::Holiday(holiday),
                None => Refusal::OutsideHours,
            },
            Some(OutOfPlace::TimeOff) => Refusal::TimeOff,
            Some(OutOfPlace::OutsideServiceHours) => Refusal::OutsideServiceHours,
            // Within the windows, but no start of the grid.
            Some(OutOfPlace::OutsideHours | OutOfPlace::LocalTimeChanged) | None => {
                Refusal::OutsideHours
            }
        })
    }

    /// What is wrong with the place of an appointment that was booked in `zone`, if anything.
    pub fn out_of_place(&self, service: ServiceId, slot: Span, zone: Zone) -> Option<OutOfPlace> {
        let elsewhere = || slot.start.with_timezone(&zone.0).naive_local();
        self.out_of_hours(service, slot).or_else(|| {
            (zone != self.zone && elsewhere() != self.local(slot.start))
                .then_some(OutOfPlace::LocalTimeChanged)
        })
    }

    /// Why a stretch of time is not within working hours, whatever the grid.
    fn out_of_hours(&self, service: ServiceId, slot: Span) -> Option<OutOfPlace> {
        let day = self.local_day(slot.start);
        let windows = self.windows(day);
        if self.holiday(day).is_some() {
            Some(OutOfPlace::Holiday)
        } else if windows.is_empty() && self.overrides.contains_key(&day) {
            Some(OutOfPlace::DayOff)
        } else if self.is_off(slot) {
            Some(OutOfPlace::TimeOff)
        } else if !self.covers(slot, windows.as_slice()) {
            Some(OutOfPlace::OutsideHours)
        } else if !self.has_room_for(service, slot) {
            Some(OutOfPlace::OutsideServiceHours)
        } else {
            None
        }
    }
}
