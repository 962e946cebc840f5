//! Waitlist: who waits for a slot of a provider, in the order they came.
//!
//! Whoever finds nothing free in a stretch of time joins the line of that provider, one stream in the provider's slot. When
//! a slot is given back, whatever the reason, the job `OfferFreedSlot` looks for the first in line it fits, and places a hold
//! for them: the slot is theirs alone until the offer's time is over. They take it by booking with that hold. Each way a hold
//! ends also ends the wait, in the same append (`crate::hold`): booked it is taken, let go it is declined, over it has lapsed.
//! An ended hold gives the slot back, so the job looks again and the next in line is offered it. For example: Ana and Bia wait
//! for Tuesday morning, Carla calls off Tuesday 10:00. Ana is offered it until 30 minutes later, and does nothing;
//! `HoldExpired`, `HeldSlotFreed` and `WaitEnded` are one append, then Bia is offered it.
//!
//! Whose offer lapsed has left the line: else one who never looks would keep a slot from everybody. What the line knows is ids.

mod join;
mod offer;

use serde::{Deserialize, Serialize};

pub use self::join::{JoinWaitlist, LeaveWaitlist, Waits};
pub use self::offer::{OfferFreedSlot, SlotOnOffer};
use crate::aggregate::{Aggregate, Context, StreamKind, aggregate};
use crate::appointment::Parties;
use crate::hours::Zone;
use crate::ids::{AccountId, HoldId, ProviderId, ServiceId, WaitId};
use crate::slots::Span;
use crate::{Instant, Refusal};

/// How many may wait at one provider.
pub const MAX_WAITING: usize = 500;

/// How many places of a provider's line one account may have.
pub const MAX_PLACES: usize = 5;

/// For how long a stretch one may wait, in days.
pub const MAX_STRETCH_DAYS: u16 = 14;

/// Who waits at a provider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Waitlist {
    /// In the order they came.
    pub line: Vec<Waiting>,
}

/// Somebody in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// For what.
    pub wait: Wait,
    /// What they are offered just now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<Offer>,
}

/// What somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// Which place in line this is.
    pub id: WaitId,
    /// Who.
    pub account: AccountId,
    /// For which service.
    pub service: ServiceId,
    /// From when on a slot may start.
    pub from: Instant,
    /// Until when it must have ended.
    pub to: Instant,
}

impl Wait {
    /// Whether a slot is one that is waited for.
    pub fn fits(&self, slot: Span) -> bool {
        self.from <= slot.start && slot.end <= self.to
    }

    /// Whether two wait for some of the same.
    pub fn meets(&self, other: &Self) -> bool {
        self.service == other.service && self.from < other.to && other.from < self.to
    }
}

/// A slot that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The hold that keeps it for them.
    pub hold: HoldId,
    /// The slot.
    pub slot: Span,
    /// Until when.
    pub expires_at: Instant,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// They booked what they were offered.
    Taken,
    /// They let go of what they were offered.
    Declined,
    /// They did not take it in time.
    Lapsed,
    /// They left before they were offered anything.
    Left,
    /// The time they waited for is over.
    Passed,
    /// They, or the service, are there no more.
    Gone,
}

impl Ending {
    /// As stored and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Declined => "declined",
            Self::Lapsed => "lapsed",
            Self::Left => "left",
            Self::Passed => "passed",
            Self::Gone => "gone",
        }
    }
}

/// What can be asked of a waitlist.
#[derive(Debug, Clone, PartialEq)]
pub enum WaitlistCommand {
    /// Stand in line.
    Join {
        /// Whose line.
        provider: ProviderId,
        /// For what.
        wait: Wait,
    },
    /// Offer somebody a slot, and take out of the line who waits in vain.
    Offer {
        /// Whose line.
        provider: ProviderId,
        /// The zone of its clocks.
        zone: Zone,
        /// Whose shop it is.
        provider_account: AccountId,
        /// Who is offered what.
        offer: Option<(WaitId, Offer)>,
        /// Who, or whose service, is there no more.
        gone: Vec<WaitId>,
    },
    /// Take somebody out of the line.
    End {
        /// Whose line.
        provider: ProviderId,
        /// Whom.
        wait: WaitId,
        /// Why.
        ending: Ending,
    },
}

/// What happened to a waitlist.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum WaitlistEvent {
    /// Somebody stands in line.
    WaitlistJoined {
        /// Whose line.
        provider: ProviderId,
        /// For what.
        wait: Wait,
    },
    /// Somebody is offered a slot.
    SlotOffered {
        /// Whose line.
        provider: ProviderId,
        /// Whose shop that is.
        provider_account: AccountId,
        /// The zone of its clocks.
        zone: Zone,
        /// Who, and what they waited for.
        wait: Wait,
        /// What.
        offer: Offer,
    },
    /// Somebody is in line no more.
    WaitEnded {
        /// Whose line.
        provider: ProviderId,
        /// Who, and what they waited for.
        wait: Wait,
        /// Why.
        ending: Ending,
    },
}

aggregate!(Waitlist(crate::ids::WaitlistId), WaitlistCommand => WaitlistEvent {
    WaitlistJoined = "1",
    SlotOffered = "1",
    WaitEnded = "1",
});

impl WaitlistEvent {
    /// Whom an offer concerns.
    pub fn offered_to(&self) -> Option<Parties> {
        let Self::SlotOffered { provider, provider_account, wait, .. } = self else { return None };
        let (provider, provider_account) = (*provider, *provider_account);
        Some(Parties { provider, provider_account, client: wait.account.into() })
    }
}

impl Waitlist {
    /// Somebody's place in line, if they have it.
    pub fn place(&self, wait: WaitId) -> Option<&Waiting> {
        self.line.iter().find(|waiting| waiting.wait.id == wait)
    }

    /// Who waits still, though the time they waited for is over.
    fn passed(&self, provider: ProviderId, now: Instant) -> impl Iterator<Item = WaitlistEvent> {
        let over = move |waiting: &&Waiting| waiting.offer.is_none() && waiting.wait.to <= now;
        let ending = Ending::Passed;
        self.line.iter().filter(over).map(move |waiting| WaitlistEvent::WaitEnded {
            provider,
            wait: waiting.wait,
            ending,
        })
    }

    fn join(
        &self,
        provider: ProviderId,
        wait: Wait,
        now: Instant,
    ) -> Result<Vec<WaitlistEvent>, Refusal> {
        // Its id comes from the command's: an earlier one, whose answer is no longer kept, has joined.
        if self.place(wait.id).is_some() {
            return Err(Refusal::KeySpent);
        }
        let mut events: Vec<_> = self.passed(provider, now).collect();
        let standing = self.line.len() - events.len();
        if standing >= MAX_WAITING {
            return Err(Refusal::LimitReached { what: "people in line", limit: MAX_WAITING });
        }
        let own =
            |waiting: &&Waiting| waiting.wait.account == wait.account && waiting.wait.to > now;
        if self.line.iter().filter(own).count() >= MAX_PLACES {
            return Err(Refusal::LimitReached { what: "places in line", limit: MAX_PLACES });
        }
        events.push(WaitlistEvent::WaitlistJoined { provider, wait });
        Ok(events)
    }
}

impl Aggregate for Waitlist {
    type Id = crate::ids::WaitlistId;
    const KIND: StreamKind = StreamKind::Waitlist;

    fn decide(
        &self,
        command: WaitlistCommand,
        context: &Context,
    ) -> Result<Vec<WaitlistEvent>, Refusal> {
        match command {
            WaitlistCommand::Join { provider, wait } => self.join(provider, wait, context.now),
            WaitlistCommand::Offer { provider, zone, provider_account, offer, gone } => {
                let mut events: Vec<_> = self.passed(provider, context.now).collect();
                let ending = Ending::Gone;
                let gone = gone.into_iter().filter_map(|wait| self.place(wait));
                events.extend(gone.map(|waiting| WaitlistEvent::WaitEnded {
                    provider,
                    wait: waiting.wait,
                    ending,
                }));
                let offered = offer.and_then(|(wait, offer)| Some((self.place(wait)?.wait, offer)));
                events.extend(offered.map(|(wait, offer)| WaitlistEvent::SlotOffered {
                    provider,
                    provider_account,
                    zone,
                    wait,
                    offer,
                }));
                Ok(events)
            }
            WaitlistCommand::End { provider, wait, ending } => Ok(self
                .place(wait)
                .map(|waiting| WaitlistEvent::WaitEnded { provider, wait: waiting.wait, ending })
                .into_iter()
                .collect()),
        }
    }

    fn evolve(&mut self, event: &WaitlistEvent) {
        match event {
            WaitlistEvent::WaitlistJoined { provider: _, wait } => {
                self.line.push(Waiting { wait: *wait, offer: None });
            }
            WaitlistEvent::SlotOffered { wait, offer, .. } => {
                let place = self.line.iter_mut().find(|waiting| waiting.wait.id == wait.id);
                if let Some(waiting) = place {
                    waiting.offer = Some(*offer);
                }
            }
            WaitlistEvent::WaitEnded { provider: _, wait, ending: _ } => {
                self.line.retain(|waiting| waiting.wait.id != wait.id);
            }
        }
    }
}
