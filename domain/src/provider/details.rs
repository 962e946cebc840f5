//! What a shop says of itself besides its name: where it is, how to reach it, what it is good at (`S3-13`, `S1-04`).
//!
//! All of it is its owner's personal data, sealed and erased as one: the street of somebody who works at home is theirs.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::text::{
    Address, City, Description, Facebook, Instagram, InvalidText, Phone, PostalCode,
    Specialization, State, Website,
};

/// What a shop says of itself. All of it can be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// What it is, in its own words (a biography, `S1-04`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    /// Street and number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// City.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<City>,
    /// State or province.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Postal code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<PostalCode>,
    /// Where it is on a map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<Point>,
    /// Telephone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Phone>,
    /// Its own page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub website: Option<Website>,
    /// At Instagram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instagram: Option<Instagram>,
    /// At Facebook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facebook: Option<Facebook>,
    /// What it is good at.
    #[serde(default, skip_serializing_if = "Specializations::is_empty")]
    pub specializations: Specializations,
}

impl Details {
    /// Itself, unless nothing is said.
    pub fn said(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// What a provider is good at: at most [`Specializations::MAX`], in the provider's order, none twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Specialization>", into = "Vec<Specialization>")]
pub struct Specializations(Vec<Specialization>);

impl Specializations {
    /// The most there may be.
    pub const MAX: usize = 20;

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Specialization> {
        self.0.iter()
    }
}

impl TryFrom<Vec<Specialization>> for Specializations {
    type Error = InvalidText;
    fn try_from(all: Vec<Specialization>) -> Result<Self, InvalidText> {
        // How many first: each is compared with all before it.
        let twice = || all.iter().enumerate().any(|(n, one)| all[..n].contains(one));
        if all.len() > Self::MAX || twice() {
            let form = "a list of at most 20 that differ";
            return Err(InvalidText::Form { what: "specializations", form });
        }
        Ok(Self(all))
    }
}

impl From<Specializations> for Vec<Specialization> {
    fn from(all: Specializations) -> Self {
        all.0
    }
}

/// A place on a map (WGS 84), exact to 1e-7 degrees: a centimetre.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Point {
    latitude_e7: i32,
    longitude_e7: i32,
}

/// A place that is on no map.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidPoint {
    /// North or south of the poles.
    #[error("latitude must be between -90 and 90")]
    Latitude,
    /// Once around.
    #[error("longitude must be between -180 and 180")]
    Longitude,
}

impl Point {
    const POLE_E7: i32 = 900_000_000;
    const DATE_LINE_E7: i32 = 1_800_000_000;

    /// From degrees, rounded to 1e-7 of one.
    pub fn from_degrees(latitude: f64, longitude: f64) -> Result<Self, InvalidPoint> {
        Ok(Self {
            latitude_e7: e7(latitude, Self::POLE_E7).ok_or(InvalidPoint::Latitude)?,
            longitude_e7: e7(longitude, Self::DATE_LINE_E7).ok_or(InvalidPoint::Longitude)?,
        })
    }

    /// From ten-millionths of a degree.
    pub fn from_e7(latitude_e7: i32, longitude_e7: i32) -> Result<Self, InvalidPoint> {
        let within = |value: i32, most: i32| (-most..=most).contains(&value);
        if !within(latitude_e7, Self::POLE_E7) {
            return Err(InvalidPoint::Latitude);
        }
        if !within(longitude_e7, Self::DATE_LINE_E7) {
            return Err(InvalidPoint::Longitude);
        }
        Ok(Self { latitude_e7, longitude_e7 })
    }

    /// Ten-millionths of a degree: north is positive.
    pub const fn latitude_e7(self) -> i32 {
        self.latitude_e7
    }

    /// Ten-millionths of a degree: east is positive.
    pub const fn longitude_e7(self) -> i32 {
        self.longitude_e7
    }

    /// Degrees: north is positive.
    pub fn latitude(self) -> f64 {
        f64::from(self.latitude_e7) / 1e7
    }

    /// Degrees: east is positive.
    pub fn longitude(self) -> f64 {
        f64::from(self.longitude_e7) / 1e7
    }
}

fn e7(degrees: f64, most: i32) -> Option<i32> {
    let scaled = (degrees * 1e7).round();
    // What is not a number is not within either.
    if !(-f64::from(most)..=f64::from(most)).contains(&scaled) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a whole number, just found within bounds")]
    let exact = scaled as i32;
    Some(exact)
}

/// Where somebody works is not for logs.
impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Point(…)")
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    latitude_e7: i32,
    longitude_e7: i32,
}

impl TryFrom<Stored> for Point {
    type Error = InvalidPoint;
    fn try_from(stored: Stored) -> Result<Self, InvalidPoint> {
        Self::from_e7(stored.latitude_e7, stored.longitude_e7)
    }
}

impl From<Point> for Stored {
    fn from(point: Point) -> Self {
        let Point { latitude_e7, longitude_e7 } = point;
        Self { latitude_e7, longitude_e7 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_keeps_seven_decimals_exactly_and_is_on_the_map() {
        let sao_paulo = Point::from_degrees(-23.5505199, -46.6333094).unwrap();
        assert_eq!(
            (sao_paulo.latitude_e7(), sao_paulo.longitude_e7()),
            (-235_505_199, -466_333_094)
        );
        assert_eq!((sao_paulo.latitude(), sao_paulo.longitude()), (-23.5505199, -46.6333094));
        assert!(Point::from_degrees(90.0, -180.0).is_ok());
        for (latitude, longitude) in
            [(90.0001, 0.0), (f64::NAN, 0.0), (0.0, 180.1), (0.0, f64::INFINITY), (-91.0, 0.0)]
        {
            assert!(Point::from_degrees(latitude, longitude).is_err());
        }
        assert_eq!(format!("{sao_paulo:?}"), "Point(…)");
        let json = serde_json::to_string(&sao_paulo).unwrap();
        assert_eq!(serde_json::from_str::<Point>(&json).unwrap(), sao_paulo);
        assert!(serde_json::from_str::<Point>(&json.replace("-23550", "-93550")).is_err());
    }

    #[test]
    fn specializations_are_bounded_and_differ() {
        let of = |names: &[String]| {
            let all: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
            Specializations::try_from(all)
        };
        let names: Vec<String> = (0..21).map(|n| format!("art {n}")).collect();
        assert_eq!(of(&names[..20]).unwrap().iter().count(), 20);
        assert!(of(&names).is_err());
        assert!(of(&[names[0].clone(), names[0].clone()]).is_err());
    }
}
