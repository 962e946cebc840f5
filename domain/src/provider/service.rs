//! What a shop offers.

use serde::{Deserialize, Deserializer, Serialize};

use crate::hours::{InvalidHours, WeeklyHours, within};
use crate::ids::{AccountId, CategoryId, ServiceId};
use crate::locale::Locale;
use crate::money::Money;
use crate::personal::Personal;
use crate::slots::Measure;
use crate::text::{Description, ServiceName};

/// Something one can book. What it says is its shop's owner's, and goes with them; numbers stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// Its name.
    pub name: Personal<ServiceName>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Personal<Description>>,
    /// What kind of service it is. The category may be gone since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<CategoryId>,
    /// Whether it is offered at present: listed, and to be booked.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub is_active: bool,
    /// Where it stands in the shop's list: by this number, then by age.
    #[serde(default, skip_serializing_if = "is_first")]
    pub sort_order: u16,
    /// Elapsed minutes, 5–1440.
    #[serde(deserialize_with = "bounded::<_, 5, 1440>")]
    pub duration_minutes: u16,
    /// Local minutes between two starts, 5–1440.
    #[serde(deserialize_with = "bounded::<_, 5, 1440>")]
    pub interval_minutes: u16,
    /// Its price; `None` takes the shop's hourly rate (K14).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Money>,
    /// Minutes kept free before, 0–240.
    #[serde(deserialize_with = "bounded::<_, 0, 240>")]
    pub buffer_before_minutes: u16,
    /// Minutes kept free after, 0–240.
    #[serde(deserialize_with = "bounded::<_, 0, 240>")]
    pub buffer_after_minutes: u16,
    /// How many can book the same slot, 1–500.
    #[serde(deserialize_with = "bounded::<_, 1, 500>")]
    pub capacity: u16,
    /// Windows of its own: its slots lie in these as well as in the shop's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weekly: Option<Box<WeeklyHours>>,
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_yes(it: &bool) -> bool {
    *it
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_first(number: &u16) -> bool {
    *number == 0
}

/// What a service is to be, as somebody asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Its name.
    pub name: ServiceName,
    /// More about it.
    pub description: Option<Description>,
    /// What kind of service it is.
    pub category: Option<CategoryId>,
    /// Whether it is offered at present.
    pub is_active: bool,
    /// Elapsed minutes, 5–1440.
    pub duration_minutes: u16,
    /// Local minutes between two starts, 5–1440; the duration where nothing else is said (K1).
    pub interval_minutes: u16,
    /// Its price; `None` takes the shop's hourly rate (K14).
    pub price: Option<Money>,
    /// Minutes kept free before, 0–240.
    pub buffer_before_minutes: u16,
    /// Minutes kept free after, 0–240.
    pub buffer_after_minutes: u16,
    /// How many can book the same slot, 1–500.
    pub capacity: u16,
    /// Windows of its own, besides the shop's.
    pub weekly: Option<Box<WeeklyHours>>,
}

impl Offer {
    /// The offer, if its numbers are in bounds.
    pub fn checked(self) -> Result<Self, InvalidHours> {
        within("duration_minutes", self.duration_minutes.into(), 5, 1440)?;
        within("interval_minutes", self.interval_minutes.into(), 5, 1440)?;
        within("buffer_before_minutes", self.buffer_before_minutes.into(), 0, 240)?;
        within("buffer_after_minutes", self.buffer_after_minutes.into(), 0, 240)?;
        within("capacity", self.capacity.into(), 1, 500)?;
        Ok(self)
    }

    /// One hour, no price of its own: the classic profile's only service (K1, `S0-25`).
    pub fn classic(locale: Locale) -> Self {
        Self {
            name: locale.pick("Atendimento", "Appointment").parse().expect("a fixed name is valid"),
            description: None,
            category: None,
            is_active: true,
            duration_minutes: 60,
            interval_minutes: 60,
            price: None,
            buffer_before_minutes: 0,
            buffer_after_minutes: 0,
            capacity: 1,
            weekly: None,
        }
    }
}

/// A service whose numbers are out of bounds was not written by a program like this one: slots are not computed from it.
fn bounded<'de, D: Deserializer<'de>, const LEAST: u16, const MOST: u16>(
    number: D,
) -> Result<u16, D::Error> {
    let number = u16::deserialize(number)?;
    within("a service's number", number.into(), LEAST.into(), MOST.into())
        .map_err(serde::de::Error::custom)?;
    Ok(number)
}

impl Service {
    /// What the owner of a shop offers there.
    pub fn of(owner: AccountId, id: ServiceId, offer: Offer) -> Self {
        let Offer {
            name,
            description,
            category,
            is_active,
            duration_minutes,
            interval_minutes,
            price,
            buffer_before_minutes,
            buffer_after_minutes,
            capacity,
            weekly,
        } = offer;
        Self {
            id,
            name: Personal::of(owner, name),
            description: description.map(|text| Personal::of(owner, text)),
            category,
            is_active,
            sort_order: 0,
            duration_minutes,
            interval_minutes,
            price,
            buffer_before_minutes,
            buffer_after_minutes,
            capacity,
            weekly,
        }
    }

    /// What slot arithmetic needs.
    pub fn measure(&self) -> Measure {
        Measure {
            service: self.id,
            duration_minutes: self.duration_minutes,
            interval_minutes: self.interval_minutes,
            buffer_before_minutes: self.buffer_before_minutes,
            buffer_after_minutes: self.buffer_after_minutes,
            capacity: self.capacity,
        }
    }

    /// The same, its texts `owner`'s. Those of version 1 of its events name nobody.
    pub(super) fn owned_by(self, owner: AccountId) -> Self {
        let name = self.name.owned_by(owner);
        let description = self.description.map(|text| text.owned_by(owner));
        Self { name, description, ..self }
    }
}
