//! A socket's place in its account's feed: what was sent, what is next.
//!
//! The place is an offset: all before it was sent. For example a socket stands at `3:17`; the feed has 3:18 and 3:20 for
//! its account; both are sent, and the offset is `3:20`. If 3:19 is parked, 3:20 is sent all the same, but the offset
//! stays at `3:18`: whoever comes back with it gets 3:19 once it is applied, and 3:20 again. The socket that stayed
//! remembers that it sent 3:20.
//!
//! A feed is read page by page; between two pages the session hears its client. All of this is lost in a crash but the
//! offset, which the client has.

use std::collections::BTreeSet;

use domain::ids::AccountId;
use domain::position::{Position, PositionToken};
use event_log::parked;
use read_models::notifications::{FeedError, Notification};
use read_models::paging::PageLimit;

use crate::{PROJECTOR_OF_FEED, QueryState};

/// Notifications read at a time.
const PAGE: u16 = 100;
/// The most that is sent from beyond something parked; the rest waits for it.
const MOST_AHEAD: usize = 1000;

/// A place in a feed.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// All before it was sent: what the client keeps.
    offset: PositionToken,
    /// What was sent from beyond it, while it waits for something parked.
    ahead: BTreeSet<Position>,
    /// How far the reading has come, as long as there may be more.
    reading: Option<PositionToken>,
}

/// The next notifications of a feed.
pub(super) struct NextPage {
    /// In order; some may have been sent.
    pub(super) notifications: Vec<Notification>,
    /// What it is behind.
    behind: PositionToken,
    /// Up to where the feed is whole, but for what is parked.
    applied: PositionToken,
    /// The first parked event of each partition that has any.
    parked: PositionToken,
}

impl Place {
    /// Behind this offset, with all of it still to be read.
    pub(super) fn behind(offset: PositionToken) -> Self {
        Self { reading: Some(offset.clone()), ahead: BTreeSet::new(), offset }
    }

    /// What the client keeps.
    pub(super) fn offset(&self) -> &PositionToken {
        &self.offset
    }

    /// Whether there may be more to read.
    pub(super) fn is_behind(&self) -> bool {
        self.reading.is_some()
    }

    /// There may be news.
    pub(super) fn wake(&mut self) {
        self.reading = Some(self.offset.clone());
    }

    /// How far the reading has come.
    fn reached(&self) -> &PositionToken {
        self.reading.as_ref().unwrap_or(&self.offset)
    }

    /// After a page: goes on behind it, or rests if there was nothing to take or nothing is left.
    pub(super) fn turn(&mut self, page: &NextPage) {
        if page.is_last() || *self.reached() == page.behind {
            self.rest();
        }
    }

    /// The reading ends for now: there is no more, or the feed is away.
    pub(super) fn rest(&mut self) {
        self.reading = None;
        let offset = &self.offset;
        self.ahead.retain(|at| at.number > offset.number(at.partition));
    }

    /// Takes a notification of a page; whether it is to be sent.
    pub(super) fn take(&mut self, at: Position, page: &NextPage) -> bool {
        // A batch that is being written may show its later notifications first. What is applied is whole, and an
        // offset must not pass what is not there yet.
        if at.number > page.applied.number(at.partition) {
            return false;
        }
        let parked = page.parked.number(at.partition);
        let waits = parked > 0 && parked <= at.number;
        if waits && self.ahead.len() >= MOST_AHEAD && !self.ahead.contains(&at) {
            return false;
        }
        if let Some(reading) = &mut self.reading {
            reading.raise(at);
        }
        if waits {
            return self.ahead.insert(at);
        }
        self.offset.raise(at);
        !self.ahead.contains(&at)
    }
}

impl NextPage {
    /// Whether there is nothing behind it.
    fn is_last(&self) -> bool {
        self.notifications.len() < usize::from(PAGE)
    }
}

impl QueryState {
    /// Where a subscription begins that names no offset: with what comes now, and with what is parked once it is applied.
    pub(super) async fn feed_now(&self) -> Result<PositionToken, FeedError> {
        let applied = self.feed.applied_all().await?;
        let parked = self.parked_of_feed().await?;
        let begins = |at: Position| match parked.number(at.partition) {
            0 => at,
            parked => Position { number: at.number.min(parked - 1), ..at },
        };
        Ok(applied.positions().map(begins).collect())
    }

    /// The next page behind a place.
    pub(super) async fn next_page(
        &self,
        account: AccountId,
        place: &Place,
    ) -> Result<NextPage, FeedError> {
        let behind = place.reached().clone();
        let limit = PageLimit::new(PAGE).unwrap_or_default();
        // In this order: an event is parked before the feed passes it, and applied before it is parked no longer.
        let applied = self.feed.applied_all().await?;
        let parked = self.parked_of_feed().await?;
        let notifications = self.feed.after(account, &behind, limit).await?;
        Ok(NextPage { notifications, behind, applied, parked })
    }

    async fn parked_of_feed(&self) -> Result<PositionToken, FeedError> {
        let lowest = parked::lowest(self.log.pool(), PROJECTOR_OF_FEED).await;
        lowest.map_err(|error| FeedError::Unavailable(Box::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Position {
        text.parse().unwrap()
    }

    fn page(applied: &str, parked: &str) -> NextPage {
        let (applied, parked) = (applied.parse().unwrap(), parked.parse().unwrap());
        NextPage { notifications: vec![], behind: PositionToken::default(), applied, parked }
    }

    #[test]
    fn the_offset_stays_before_what_is_parked_until_it_was_sent() {
        let mut place = Place::behind("3:17".parse().unwrap());
        let parked = page("0:9,3:21", "3:19");
        assert!(place.take(at("3:18"), &parked));
        assert!(place.take(at("3:20"), &parked));
        assert!(place.take(at("0:5"), &parked));
        assert!(!place.take(at("3:22"), &parked), "it is not whole yet");
        assert_eq!(place.offset().to_string(), "0:5,3:18");
        place.rest();
        place.wake();
        assert!(!place.take(at("3:20"), &parked), "nothing is sent twice");
        place.rest();

        let applied = page("0:9,3:21", "");
        place.wake();
        assert!(place.take(at("3:19"), &applied), "it is sent when it was applied after all");
        assert!(!place.take(at("3:20"), &applied));
        assert_eq!(place.offset().to_string(), "0:5,3:20");
        place.rest();
        assert!(place.ahead.is_empty());
    }

    #[test]
    fn no_more_than_so_many_are_sent_from_beyond_what_is_parked() {
        let mut place = Place::behind(PositionToken::default());
        let parked = page("3:5000", "3:1");
        let sent =
            (2..5000).filter(|number| place.take(at(&format!("3:{number}")), &parked)).count();
        assert_eq!(sent, MOST_AHEAD);
        assert!(place.offset().is_empty());
    }
}
