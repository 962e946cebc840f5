//! Positions in the log, and the token clients carry to read what they wrote.
//!
//! `3:1042` is event 1042 of partition 3. Positions of a partition start at 1 and have no gaps; 0 means
//! "before the first". A [`PositionToken`] joins one position per partition: `0:17,3:1042`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::RoutingSlot;

/// One partition of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub u16);

/// How many partitions the log has, fixed when it is created. At least 1, at most 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionCount(u16);

impl PartitionCount {
    /// `None` unless 1–4096.
    pub const fn new(count: u16) -> Option<Self> {
        if count >= 1 && count <= RoutingSlot::COUNT { Some(Self(count)) } else { None }
    }

    /// Where a slot's things live.
    pub const fn partition_of(self, slot: RoutingSlot) -> Partition {
        Partition(slot.bits() % self.0)
    }

    /// All partitions, ascending.
    pub fn all(self) -> impl Iterator<Item = Partition> {
        (0..self.0).map(Partition)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An event's place: partition and number within it, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Position {
    /// Which partition.
    pub partition: Partition,
    /// Which event of it, from 1.
    pub number: u64,
}

/// A text that is not a position or a position token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a position token")]
pub struct InvalidPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.number)
    }
}

impl From<Position> for String {
    fn from(position: Position) -> Self {
        position.to_string()
    }
}

impl TryFrom<String> for Position {
    type Error = InvalidPosition;
    fn try_from(text: String) -> Result<Self, InvalidPosition> {
        text.parse()
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;
    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (partition, number) = text.split_once(':').ok_or(InvalidPosition)?;
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(partition) || !digits(number) {
            return Err(InvalidPosition);
        }
        let number: u64 = number.parse().map_err(|_| InvalidPosition)?;
        // Postgres' bigint is signed.
        i64::try_from(number).map_err(|_| InvalidPosition)?;
        Ok(Self { partition: Partition(partition.parse().map_err(|_| InvalidPosition)?), number })
    }
}

/// At most one position per partition: what a command's answer carries in `Pontual-Position` and a
/// read may ask to see in `Pontual-After`. Opaque to clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PositionToken(BTreeMap<Partition, u64>);

impl PositionToken {
    /// Raises the token to include `position`; never lowers it.
    pub fn raise(&mut self, position: Position) {
        let number = self.0.entry(position.partition).or_default();
        *number = position.number.max(*number);
    }

    /// The number asked of a partition; 0 where the token says nothing.
    pub fn number(&self, partition: Partition) -> u64 {
        self.0.get(&partition).copied().unwrap_or_default()
    }

    /// Its positions, by partition.
    pub fn positions(&self) -> impl Iterator<Item = Position> {
        self.0.iter().map(|(&partition, &number)| Position { partition, number })
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Position> for PositionToken {
    fn from_iter<T: IntoIterator<Item = Position>>(positions: T) -> Self {
        let mut token = Self::default();
        positions.into_iter().for_each(|position| token.raise(position));
        token
    }
}

impl fmt::Display for PositionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, position) in self.positions().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            position.fmt(f)?;
        }
        Ok(())
    }
}

impl From<PositionToken> for String {
    fn from(token: PositionToken) -> Self {
        token.to_string()
    }
}

impl TryFrom<String> for PositionToken {
    type Error = InvalidPosition;
    fn try_from(text: String) -> Result<Self, InvalidPosition> {
        text.parse()
    }
}

impl FromStr for PositionToken {
    type Err = InvalidPosition;
    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        // 4096 partitions at most, each at most 4 + 1 + 19 characters and a comma.
        if text.len() > usize::from(RoutingSlot::COUNT) * 25 {
            return Err(InvalidPosition);
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.split(',').map(|part| part.trim().parse::<Position>()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_joins_and_only_rises() {
        let mut token: PositionToken = "3:10,0:7".parse().unwrap();
        token.raise("3:9".parse().unwrap());
        token.raise("1:1".parse().unwrap());
        assert_eq!(token.to_string(), "0:7,1:1,3:10");
        assert_eq!(token.number(Partition(2)), 0);
    }

    #[test]
    fn garbage_is_refused() {
        for text in
            ["x", "1", "1:", ":1", "1:-2", "+1:2", "1:2;3:4", "70000:1", "0:9223372036854775808"]
        {
            assert_eq!(text.parse::<PositionToken>(), Err(InvalidPosition), "{text}");
        }
    }
}
