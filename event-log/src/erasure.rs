//! Erasing a person: their data key is destroyed and a tombstone stays. The log is never rewritten.
//!
//! From then on every reader sees `Erased` where the person's data was, here at once, elsewhere when the key
//! cache forgets (at most a minute). The tombstone records the heads at erasure: once every projector has
//! passed them, the read models are purged and the erasure is complete. What other servers appended with a
//! key they still remembered stays sealed for good.
//!
//! On a crash the key is destroyed or not; asking again is harmless. A restored backup brings keys back:
//! [`replay`] erases them again before anything is served.

use domain::Instant;
use domain::ids::{Id, SubjectId};
use domain::position::PositionToken;
use uuid::Uuid;

use crate::{Append, AppendError, CommandRow, EventLog, LogError, small};

/// A tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Who was erased.
    pub subject: SubjectId,
    /// When.
    pub at: Instant,
    /// The heads at that time.
    pub heads: PositionToken,
}

impl EventLog {
    /// Destroys a subject's data key. A command that does more at once puts the subject into
    /// [`Append::erase`].
    pub async fn erase_subject(&self, subject: SubjectId) -> Result<Erasure, AppendError> {
        let row = CommandRow::without_key(subject.slot(), self.clock().now(), "{}");
        let mut request = Append::new(row);
        request.erase.insert(subject);
        self.append(request).await?;
        let erasure = self.erasure(subject).await?;
        Ok(erasure.ok_or(LogError::Malformed("an erasure leaves a tombstone"))?)
    }

    /// A subject's tombstone, if it was erased.
    pub async fn erasure(&self, subject: SubjectId) -> Result<Option<Erasure>, LogError> {
        let query = sqlx::query_as::<_, (Instant, String)>(
            "SELECT erased_at, erased_heads FROM subject_keys
             WHERE partition = $1 AND subject = $2 AND erased_at IS NOT NULL",
        )
        .bind(small(self.partition_of(subject.slot())))
        .bind(subject.uuid());
        let row = self.core.bounded(query.fetch_optional(self.pool())).await?;
        row.map(|(at, heads)| tombstone(subject, at, &heads)).transpose()
    }

    /// Every tombstone: to be kept apart from the backups, and replayed after a restore.
    pub async fn erasures(&self) -> Result<Vec<Erasure>, LogError> {
        let rows: Vec<(Uuid, Instant, String)> = sqlx::query_as(
            "SELECT subject, erased_at, erased_heads FROM subject_keys WHERE erased_at IS NOT NULL
             ORDER BY erased_at, subject",
        )
        .fetch_all(self.pool())
        .await?;
        let erasure = |(id, at, heads): (Uuid, Instant, String)| {
            tombstone(SubjectId::trusted(id), at, &heads)
        };
        rows.into_iter().map(erasure).collect()
    }
}

/// Erases all of these again; says how many keys a restore had brought back.
pub async fn replay(log: &EventLog, erasures: &[Erasure]) -> Result<usize, AppendError> {
    let mut brought_back = 0;
    for erasure in erasures {
        if log.erasure(erasure.subject).await?.is_none() {
            log.erase_subject(erasure.subject).await?;
            brought_back += 1;
        }
    }
    Ok(brought_back)
}

fn tombstone(subject: SubjectId, at: Instant, heads: &str) -> Result<Erasure, LogError> {
    let heads = heads.parse().map_err(|_| LogError::Malformed("a tombstone's heads"))?;
    Ok(Erasure { subject, at, heads })
}
