//! Answers made of the catalogue (lists of providers, their pages, categories), kept until it changes (`S0-24`, `S3-71`).
//!
//! The availability cache has one mark per partition: that nothing of its providers, services and categories has changed
//! since an event. For example `ProfileChanged` at 3:18 takes partition 3's mark away; whoever asks next reads the tables'
//! checkpoint (3:18 or later), puts the mark back as of that, reads, answers, and keeps the answer under all marks'
//! numbers. As long as they are the same, what was read still holds. A crash loses answers, which are made again.
//!
//! An answer is read after its marks, so it is never older than they say. While something of a partition is parked there
//! is no mark, and nothing is kept: nobody would say when it is applied after all.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::locale::Locale;
use domain::position::{Position, PositionToken};
use domain::text::Slug;
use http_kit::Problem;
use http_kit::extract::Rendered;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use read_models::availability::CacheWrite;
use read_models::provider_search::Filter;

use crate::QueryState;
use crate::availability::offer;

/// The most memory for answers, in bytes, roughly.
const ANSWERS: u64 = 16 * 1024 * 1024;
/// How long an answer is kept at most (`S3-71`): a safety net, its marks say when it ends.
const LIFETIME: Duration = Duration::from_secs(300);

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    /// A page of the providers that are as the filter says.
    Providers(Box<Filter>, Option<String>, u16),
    /// A page of the categories that are listed.
    Categories(Option<String>, u16),
    /// A provider's page, in a language.
    Page(Slug, Locale),
}

struct Kept {
    marks: Vec<u64>,
    since: Instant,
    answer: Rendered,
}

/// The latest answers, as many as fit.
pub(crate) struct Answers(Cache<Question, Arc<Kept>, ByBytes>);

#[derive(Clone)]
struct ByBytes;

impl Weighter<Question, Arc<Kept>> for ByBytes {
    fn weight(&self, question: &Question, kept: &Arc<Kept>) -> u64 {
        // Filters and cursors are bounded where they come in.
        let asked = match question {
            Question::Providers(filter, cursor, _) => {
                let words: usize = filter.words.iter().map(|word| word.len() + 32).sum();
                words + cursor.as_ref().map_or(0, String::len)
            }
            Question::Categories(cursor, _) => cursor.as_ref().map_or(0, String::len),
            Question::Page(slug, _) => slug.as_str().len(),
        };
        kept.answer.0.len() as u64 + asked as u64 + 512
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self(Cache::with_weighter(2_000, ANSWERS, ByBytes))
    }
}

impl Answers {
    fn get(&self, question: &Question, marks: &[u64]) -> Option<Rendered> {
        let kept = self.0.get(question)?;
        let holds = kept.marks == marks && kept.since.elapsed() < LIFETIME;
        holds.then(|| kept.answer.clone())
    }
}

impl QueryState {
    /// The answer that is kept, if it still holds; else the one that is made, which is then kept.
    pub(crate) async fn of_catalogue<F>(
        &self,
        question: Question,
        after: &PositionToken,
        make: impl FnOnce() -> F,
    ) -> Result<Rendered, Problem>
    where
        F: Future<Output = Result<Rendered, Problem>>,
    {
        let marks = self.marks(after).await?;
        if let Some(marks) = &marks
            && let Some(answer) = self.catalogue.get(&question, marks)
        {
            self.tables_hold(after).await?;
            return Ok(answer);
        }
        self.tables_after(after).await?;
        // Tables that are built anew are behind the marks: of what they lack nobody would tell.
        let reached = match &marks {
            Some(marks) => self.tables_reach(marks).await?,
            None => false,
        };
        let answer = make().await?;
        if let Some(marks) = marks.filter(|_| reached) {
            let kept = Kept { marks, since: Instant::now(), answer: answer.clone() };
            self.catalogue.0.insert(question, Arc::new(kept));
        }
        Ok(answer)
    }

    /// Whether the read tables have applied what every partition's mark is as of.
    async fn tables_reach(&self, marks: &[u64]) -> Result<bool, Problem> {
        let partitions: Vec<_> = self.log.partitions().all().collect();
        let applied = self.tables.applied(&partitions).await;
        let applied = applied.map_err(|error| Problem::unavailable(&error))?;
        Ok(partitions
            .iter()
            .zip(marks)
            .all(|(partition, mark)| applied.number(*partition) >= *mark))
    }

    /// Every partition's mark; those that are missing, or too old for the client, are made anew. `None` while nothing may
    /// be kept.
    async fn marks(&self, after: &PositionToken) -> Result<Option<Vec<u64>>, Problem> {
        let Ok(cached) = self.availability.get_catalogue().await else { return Ok(None) };
        let mut marks = Vec::with_capacity(cached.len());
        let mut waited = false;
        for (partition, cached) in cached {
            let wanted = after.number(partition);
            let fresh = cached.applied.is_some_and(|applied| applied >= wanted);
            let there = cached.doc.filter(|doc| fresh || doc.number >= wanted);
            if let Some(doc) = there {
                marks.push(doc.number);
                continue;
            }
            if !std::mem::replace(&mut waited, true) {
                self.tables_after(after).await?;
            }
            let (number, whole) = self.tables_as_of(partition).await?;
            if !whole {
                return Ok(None);
            }
            let write = vec![CacheWrite::catalogue(partition, number)];
            offer(self, Position { partition, number }, write).await;
            marks.push(number);
        }
        Ok(Some(marks))
    }
}
