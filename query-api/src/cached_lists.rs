//! The cached lists: a provider's appointments of a day (`S0-35`).
//!
//! The projector only forgets them; the next reader fills them from the read tables. For example
//! `AppointmentBooked` at 3:18 makes the cache forget that day; whoever asks next reads the checkpoint (3:18 or
//! later), then the rows, answers, and offers them as of that checkpoint. The cache refuses what is older than
//! what it began to apply. A crash in between leaves the list to the next reader.

use std::sync::Arc;

use chrono::NaiveDate;
use domain::ids::Id;
use domain::position::{Position, PositionToken};
use domain::slots::{Span, local_day_span};
use http_kit::Problem;
use read_models::appointments::AppointmentRow;
use read_models::availability::{CacheWrite, DayListDoc};
use read_models::paging::{Page, PageLimit};
use read_models::providers::ProviderRow;

use crate::availability::offer;
use crate::{QueryState, table_problem};

impl QueryState {
    /// A provider's appointments of a local day.
    pub(crate) async fn day_of(
        &self,
        provider: &ProviderRow,
        day: NaiveDate,
        cursor: Option<&str>,
        limit: PageLimit,
        after: &PositionToken,
    ) -> Result<Page<AppointmentRow>, Problem> {
        let Some(within) = local_day_span(provider.zone, day) else {
            return Ok(Page { items: Vec::new(), next_cursor: None });
        };
        if cursor.is_none()
            && let Some(doc) = self.whole_day(provider, day, within, after).await?
            && doc.items.len() <= usize::from(limit.get())
        {
            return Ok(Page { items: doc.items.clone(), next_cursor: None });
        }
        let page = read_models::appointments::of_provider(
            self.log.pool(),
            provider.id,
            within,
            cursor,
            limit,
        );
        page.await.map_err(table_problem)
    }

    /// The cached list of a day, filled if need be; `None` for a day too long to be cached.
    async fn whole_day(
        &self,
        provider: &ProviderRow,
        day: NaiveDate,
        within: Span,
        after: &PositionToken,
    ) -> Result<Option<Arc<DayListDoc>>, Problem> {
        let partition = self.log.partitions().partition_of(provider.id.slot());
        let wanted = after.number(partition);
        let cached = self.availability.get_day_list(provider.id, day).await.ok();
        let there = cached.is_some();
        if let Some(cached) = cached {
            let fresh = cached.applied.is_some_and(|applied| applied >= wanted);
            let doc = cached.doc.filter(|doc| fresh || doc.number >= wanted);
            // A list of before the provider moved to another zone is of another day.
            if let Some(doc) = doc.and_then(|doc| doc.value).filter(|doc| doc.within == within) {
                return Ok(Some(doc));
            }
        }
        let (as_of, whole) = self.tables_as_of(partition).await?;
        let rows = read_models::appointments::whole_day(self.log.pool(), provider.id, within).await;
        let Some(items) = rows.map_err(table_problem)? else { return Ok(None) };
        let doc = DayListDoc { within, items };
        if there && whole {
            let write = CacheWrite::day_list(provider.id, day, as_of, doc.clone());
            offer(self, Position { partition, number: as_of }, vec![write]).await;
        }
        Ok(Some(Arc::new(doc)))
    }
}
