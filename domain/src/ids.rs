//! Identifiers: one type per kind, all UUIDv7-shaped (K10), all carrying a routing slot.
//!
//! An id's twelve `rand_a` bits are its [`RoutingSlot`]; `slot % P` is the partition of the log the
//! thing lives in. What belongs to a provider takes the provider's slot, so a booking touches one
//! partition. For example the appointment `01935d2e-7c11-7a3f-9c2b-…` has slot `0xa3f` and, in a log of
//! four partitions, lives in partition `0xa3f % 4 = 3`.

use std::fmt;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use uuid::Uuid;

/// Twelve bits that route an id to a partition. Always below 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoutingSlot(u16);

impl RoutingSlot {
    /// How many slots there are.
    pub const COUNT: u16 = 4096;

    /// Keeps the low twelve bits.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits % Self::COUNT)
    }

    /// The slot of any UUID: its `rand_a` bits.
    pub fn of(id: Uuid) -> Self {
        let bytes = id.as_bytes();
        Self(u16::from_be_bytes([bytes[6], bytes[7]]) & 0x0fff)
    }

    /// The slot as a number, 0–4095.
    pub const fn bits(self) -> u16 {
        self.0
    }
}

/// A text or UUID that is not an id of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a valid {kind} id")]
pub struct InvalidId {
    /// The kind that was expected, such as `appointment`.
    pub kind: &'static str,
}

/// What every id can do.
pub trait Id:
    Copy + Eq + Ord + std::hash::Hash + fmt::Debug + fmt::Display + Send + Sync + 'static
{
    /// The kind in lower case, as in an error message.
    const KIND: &'static str;

    /// Wraps a UUID that is already known to be UUIDv7-shaped.
    fn trusted(id: Uuid) -> Self;

    /// The bare UUID, for storage.
    fn uuid(self) -> Uuid;

    /// Where the thing is routed.
    fn slot(self) -> RoutingSlot {
        RoutingSlot::of(self.uuid())
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "Uuid", into = "Uuid")]
        pub struct $name(Uuid);

        impl Id for $name {
            const KIND: &'static str = $kind;
            fn trusted(id: Uuid) -> Self { Self(id) }
            fn uuid(self) -> Uuid { self.0 }
        }

        impl TryFrom<Uuid> for $name {
            type Error = InvalidId;
            fn try_from(id: Uuid) -> Result<Self, InvalidId> {
                if id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122 {
                    Ok(Self(id))
                } else {
                    Err(InvalidId { kind: $kind })
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map_err(|_| InvalidId { kind: $kind })?.try_into()
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Uuid { id.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )*};
}

ids! {
    /// A person's account.
    AccountId = "account";
    /// A provider: the shop an account opened.
    ProviderId = "provider";
    /// A service a provider offers; takes the provider's slot.
    ServiceId = "service";
    /// One provider's UTC day; derived, see [`AgendaId::of`].
    AgendaId = "agenda";
    /// An appointment; takes the provider's slot.
    AppointmentId = "appointment";
    /// A slot that is held while somebody checks out; takes the provider's slot.
    HoldId = "hold";
    /// A provider's time off; takes the provider's slot.
    TimeOffId = "time off";
    /// Appointments that recur; takes the provider's slot.
    SeriesId = "series";
    /// A provider's waitlist; derived, see [`WaitlistId::of`].
    WaitlistId = "waitlist";
    /// A place in a provider's line; takes the provider's slot.
    WaitId = "place in line";
    /// Somebody who books without an account; takes the provider's slot.
    GuestId = "guest";
    /// An account's notification feed; derived, see [`NotificationFeedId::of`].
    NotificationFeedId = "notification feed";
    /// A category of services.
    CategoryId = "category";
    /// A signed-in session; takes the account's slot.
    SessionId = "session";
    /// One request to reset a password; takes the account's slot.
    ResetId = "password reset";
    /// One request to change an address; takes the account's slot.
    ChangeId = "email change";
    /// A photo in the file store; takes its account's slot.
    PhotoId = "photo";
    /// A command: derived from its idempotency key, or random without one.
    CommandId = "command";
    /// Whose personal data something is: an account or a guest.
    SubjectId = "subject";
}

impl From<AccountId> for SubjectId {
    fn from(id: AccountId) -> Self {
        Self(id.0)
    }
}

impl From<GuestId> for SubjectId {
    fn from(id: GuestId) -> Self {
        Self(id.0)
    }
}

impl AgendaId {
    /// The agenda of a provider's UTC day. The same pair always gives the same id, in the provider's
    /// slot.
    pub fn of(provider: ProviderId, day: NaiveDate) -> Self {
        let digest = Sha256::new()
            .chain_update(b"agenda\0")
            .chain_update(provider.uuid().as_bytes())
            .chain_update(day.to_string().as_bytes())
            .finalize();
        Self(shape(first_16(&digest), provider.slot()))
    }
}

impl WaitlistId {
    /// The line of a provider, in the provider's slot.
    pub fn of(provider: ProviderId) -> Self {
        let digest = Sha256::new()
            .chain_update(b"waitlist\0")
            .chain_update(provider.uuid().as_bytes())
            .finalize();
        Self(shape(first_16(&digest), provider.slot()))
    }
}

impl NotificationFeedId {
    /// The feed of an account: the account's slot, and a stream of its own.
    pub fn of(account: AccountId) -> Self {
        let digest = Sha256::new()
            .chain_update(b"notification-feed\0")
            .chain_update(account.uuid().as_bytes())
            .finalize();
        Self(shape(first_16(&digest), account.slot()))
    }
}

/// Mints the ids of one command: the same command mints the same ids, so a retry lands on the same
/// streams (design.md §2, idempotency).
#[derive(Debug, Clone)]
pub struct Mint {
    seed: [u8; 32],
}

impl Mint {
    /// `seed` must be a keyed function of the command's id, so that nobody can foresee an id.
    pub const fn new(seed: [u8; 32]) -> Self {
        Self { seed }
    }

    /// The `n`-th id of kind `I` of this command, in `slot`.
    pub fn id<I: Id>(&self, slot: RoutingSlot, n: u32) -> I {
        I::trusted(shape(self.bytes(I::KIND, n), slot))
    }

    /// Whether this is one of the first few ids of its kind that this mint makes. Nobody else can have made it.
    pub fn made<I: Id>(&self, id: I) -> bool {
        const FEW: u32 = 4;
        (0..FEW).any(|n| self.id::<I>(id.slot(), n) == id)
    }

    /// A slot for something that belongs to nobody.
    pub fn slot(&self) -> RoutingSlot {
        let bytes = self.bytes("slot", 0);
        RoutingSlot::from_bits(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn bytes(&self, kind: &str, n: u32) -> [u8; 16] {
        let digest = Sha256::new()
            .chain_update(self.seed)
            .chain_update(kind.as_bytes())
            .chain_update([0])
            .chain_update(n.to_be_bytes())
            .finalize();
        first_16(&digest)
    }
}

/// Gives 16 bytes the shape of a UUIDv7 with `slot` in `rand_a`.
pub fn shape(mut bytes: [u8; 16], slot: RoutingSlot) -> Uuid {
    let [high, low] = slot.bits().to_be_bytes();
    bytes[6] = 0x70 | (high & 0x0f);
    bytes[7] = low;
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    Uuid::from_bytes(bytes)
}

fn first_16(digest: &[u8]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(slot: u16) -> ProviderId {
        Mint::new([7; 32]).id(RoutingSlot::from_bits(slot), 0)
    }

    #[test]
    fn an_id_carries_the_slot_it_was_minted_in() {
        for slot in [0, 1, 0x0abc, 4095] {
            assert_eq!(provider(slot).slot().bits(), slot);
        }
    }

    #[test]
    fn the_same_command_mints_the_same_ids_and_another_mints_others() {
        let slot = RoutingSlot::from_bits(9);
        let one: AppointmentId = Mint::new([1; 32]).id(slot, 0);
        assert_eq!(one, Mint::new([1; 32]).id(slot, 0));
        assert_ne!(one, Mint::new([1; 32]).id(slot, 1));
        assert_ne!(one, Mint::new([2; 32]).id(slot, 0));
    }

    #[test]
    fn an_agenda_stands_in_its_providers_slot_and_is_one_per_day() {
        let day = NaiveDate::from_ymd_opt(2026, 3, 1).unwrap();
        let agenda = AgendaId::of(provider(77), day);
        assert_eq!(agenda.slot().bits(), 77);
        assert_eq!(agenda, AgendaId::of(provider(77), day));
        assert_ne!(agenda, AgendaId::of(provider(77), day.succ_opt().unwrap()));
    }

    #[test]
    fn text_that_is_no_uuidv7_is_refused() {
        for text in [
            "",
            "x",
            "00000000-0000-0000-0000-000000000000",
            "6f1c2b1e-8f0b-4c59-9f5e-2d3c4b5a6978",
        ] {
            assert_eq!(text.parse::<AccountId>(), Err(InvalidId { kind: "account" }), "{text}");
        }
        let id = provider(3);
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
