//! What access tokens are void before they expire: those of sessions that ended, and those of credentials
//! that were replaced.
//!
//! A token names its session and the generation of its account's credentials (`sid`, `gen`). Ana changes her
//! password at 3:21: `PasswordChanged` makes her generation 2, a follower in every serving process reads that within
//! moments, and from then on her tokens of generation 1 are void. Tokens live 15 minutes at most, so what is noted
//! here may be forgotten after [`KEEP`]. A process that starts reads the last [`KEEP`] of the log before it serves,
//! so a crash forgets nothing either.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use domain::ids::{AccountId, SessionId};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// How long a revocation is kept: longer than a token and the clocks' difference.
pub const KEEP: Duration = Duration::from_secs(20 * 60);

/// The most sessions, and the most accounts, that are kept. Signing in costs a password hash, so nobody ends
/// as many sessions within [`KEEP`].
const MOST: u64 = 1_000_000;

/// Sessions that ended and generations that passed. Cheap to clone; clones share what they know.
#[derive(Clone)]
pub struct Revocations(Arc<Inner>);

struct Inner {
    ended: Cache<SessionId, ()>,
    /// The generation an account's tokens must have at least.
    at_least: Cache<AccountId, u32>,
}

impl Revocations {
    /// Nothing is revoked.
    pub fn new() -> Self {
        // The oldest goes first: the usual policy would rather keep out what is new.
        let (policy, most) = (EvictionPolicy::lru(), MOST);
        Self(Arc::new(Inner {
            ended: Cache::builder()
                .max_capacity(most)
                .time_to_live(KEEP)
                .eviction_policy(policy.clone())
                .build(),
            at_least: Cache::builder()
                .max_capacity(most)
                .time_to_live(KEEP)
                .eviction_policy(policy)
                .build(),
        }))
    }

    /// A session has ended.
    pub fn end(&self, session: SessionId) {
        self.0.ended.insert(session, ());
    }

    /// An account's credentials are of this generation now; an older one never comes back.
    pub fn require(&self, account: AccountId, generation: u32) {
        self.0.at_least.entry(account).and_upsert_with(|known| {
            known.map_or(generation, |known| known.into_value().max(generation))
        });
    }

    /// Whether what was issued to this session, under this generation, is void.
    pub fn void(&self, account: AccountId, session: SessionId, generation: u32) -> bool {
        self.0.ended.contains_key(&session)
            || self.0.at_least.get(&account).is_some_and(|least| generation < least)
    }
}

impl Default for Revocations {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations")
            .field("sessions", &self.0.ended.entry_count())
            .field("accounts", &self.0.at_least.entry_count())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::{Mint, RoutingSlot};

    use super::*;

    #[test]
    fn an_ended_session_and_an_older_generation_are_void_and_others_are_not() {
        let slot = RoutingSlot::from_bits(1);
        let session = |n| Mint::new([n; 32]).id::<SessionId>(slot, 0);
        let account = |n| Mint::new([n; 32]).id::<AccountId>(slot, 0);
        let revocations = Revocations::new();
        assert!(!revocations.void(account(1), session(1), 0));
        revocations.end(session(1));
        assert!(revocations.void(account(1), session(1), 0));
        assert!(!revocations.void(account(1), session(2), 0));
        revocations.require(account(1), 2);
        revocations.require(account(1), 1);
        assert!(
            revocations.void(account(1), session(2), 1),
            "events may be seen twice, in any order"
        );
        assert!(!revocations.void(account(1), session(2), 2));
        assert!(!revocations.void(account(2), session(3), 0));
    }
}
