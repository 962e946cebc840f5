//! What the read tables in Postgres share: changes are collected in event order, folded in memory, and
//! written with one statement per table and batch.
//!
//! For example a batch with `AppointmentBooked` and `AppointmentConfirmed` of one appointment, and the
//! cancellation of another that was booked last week: the projector pushes three changes, [`Writes::flush`]
//! loads the one row that did not begin in the batch, folds, and upserts two rows. Row by row would be
//! twelve times slower (design.md §9).
//!
//! It runs in the projector's transaction, beside its checkpoint, so a crash leaves neither. Each row
//! carries the position of its last event: a change at or before it is ignored, in the fold and again in
//! the upsert, so that a replay of parked events or of a whole batch changes nothing.

use std::collections::BTreeMap;
use std::future::Future;

use domain::Instant;
use domain::aggregate::Version;
use domain::ids::Id;
use domain::money::{Currency, Money};
use domain::position::{Partition, Position};
use serde::de::IntoDeserializer;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use thiserror::Error;
use uuid::Uuid;

/// Why a read table could not be read or written.
#[derive(Debug, Error)]
pub enum TableError {
    /// Postgres did not do it.
    #[error("the read table {table} cannot be used")]
    Database {
        /// Which table.
        table: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A row holds what this program cannot have written.
    #[error("the column {column} of the read table {table} holds an invalid value")]
    Corrupt {
        /// Which table.
        table: &'static str,
        /// Which column.
        column: &'static str,
    },
    /// A change of something that never began: an earlier event is missing here.
    #[error("the read table {table} has no row {id} to apply {at} to")]
    NoRow {
        /// Which table.
        table: &'static str,
        /// Whose row.
        id: Uuid,
        /// The change that cannot be applied.
        at: Position,
    },
    /// A cursor of another list, or no cursor at all.
    #[error(transparent)]
    Cursor(#[from] crate::paging::InvalidCursor),
}

/// Where and when an event happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Its position.
    pub at: Position,
    /// Its number in its stream.
    pub version: Version,
    /// When.
    pub recorded_at: Instant,
}

/// What a row remembers of the events that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowStamp {
    /// The last event that changed it.
    pub at: Position,
    /// The version of its stream then: what an `ETag` says.
    pub version: Version,
    /// When its first event was recorded.
    pub created_at: Instant,
    /// When the last that it shows was.
    pub updated_at: Instant,
}

impl RowStamp {
    /// Of a row's first event.
    pub const fn first(stamp: &Stamp) -> Self {
        Self {
            at: stamp.at,
            version: stamp.version,
            created_at: stamp.recorded_at,
            updated_at: stamp.recorded_at,
        }
    }

    fn raise(&mut self, stamp: &Stamp, shown: bool) {
        self.at = stamp.at;
        self.version = stamp.version;
        if shown {
            self.updated_at = stamp.recorded_at;
        }
    }
}

/// Rows by their ids.
pub type Loaded<T> = Vec<(<T as Table>::Id, <T as Table>::Row)>;

/// A read table: how its rows are loaded, changed and stored.
pub trait Table: Sized + Send + 'static {
    /// Its name in Postgres.
    const NAME: &'static str;
    /// What identifies a row.
    type Id: Id;
    /// A row.
    type Row: Clone + Send + Sync;
    /// What an event does to a row.
    type Change: Send;

    /// A row's stamp.
    fn stamp(row: &mut Self::Row) -> &mut RowStamp;

    /// The row a change begins, unless it can only change one that is there.
    fn begin(id: Self::Id, stamp: RowStamp, change: Self::Change) -> Option<Self::Row>;

    /// Whether a change begins a row.
    fn begins(change: &Self::Change) -> bool;

    /// Whether a row shows a change, so that it says when it was; its version follows the stream in any case.
    fn is_shown(_: &Self::Change) -> bool {
        true
    }

    /// Changes a row. A change that begins one replaces it.
    fn change(row: &mut Self::Row, change: Self::Change);

    /// The rows there are of these.
    fn load(
        connection: &mut PgConnection,
        ids: &[Uuid],
    ) -> impl Future<Output = Result<Loaded<Self>, TableError>> + Send;

    /// Stores rows, each unless a later one is there. Says how many were stored.
    fn upsert(
        connection: &mut PgConnection,
        rows: &[Self::Row],
    ) -> impl Future<Output = Result<u64, TableError>> + Send;
}

/// What an event makes of a row, unless the row is as late already; says whether it changed. What is folded like this
/// from a stream's first event on is the row a projector stores.
pub fn apply<T: Table>(
    row: &mut Option<T::Row>,
    id: T::Id,
    stamp: Stamp,
    change: T::Change,
) -> Result<bool, TableError> {
    match row {
        Some(row) => {
            let later = stamp.at.number > T::stamp(row).at.number;
            if later {
                let shown = T::is_shown(&change);
                T::change(row, change);
                T::stamp(row).raise(&stamp, shown);
            }
            Ok(later)
        }
        None => {
            let no_row = || TableError::NoRow { table: T::NAME, id: id.uuid(), at: stamp.at };
            *row = Some(T::begin(id, RowStamp::first(&stamp), change).ok_or_else(no_row)?);
            Ok(true)
        }
    }
}

/// The changes of one batch to one table.
pub struct Writes<T: Table> {
    changes: BTreeMap<T::Id, Vec<(Stamp, T::Change)>>,
}

impl<T: Table> Default for Writes<T> {
    fn default() -> Self {
        Self { changes: BTreeMap::new() }
    }
}

impl<T: Table> Writes<T> {
    /// Adds what an event does to a row. Events of one row must be pushed in their order.
    pub fn push(&mut self, id: T::Id, stamp: Stamp, change: T::Change) {
        self.changes.entry(id).or_default().push((stamp, change));
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Folds and stores the batch, within the projector's transaction. Says how many rows changed.
    pub async fn flush(self, connection: &mut PgConnection) -> Result<u64, TableError> {
        if self.changes.is_empty() {
            return Ok(0);
        }
        let known_before: Vec<Uuid> = self
            .changes
            .iter()
            .filter(|(_, changes)| !changes.first().is_some_and(|(_, first)| T::begins(first)))
            .map(|(id, _)| id.uuid())
            .collect();
        let mut loaded: BTreeMap<T::Id, T::Row> = if known_before.is_empty() {
            BTreeMap::new()
        } else {
            T::load(connection, &known_before).await?.into_iter().collect()
        };
        let mut rows = Vec::with_capacity(self.changes.len());
        for (id, changes) in self.changes {
            let mut row = loaded.remove(&id);
            let mut changed = false;
            for (stamp, change) in changes {
                changed |= apply::<T>(&mut row, id, stamp, change)?;
            }
            rows.extend(row.filter(|_| changed));
        }
        if rows.is_empty() { Ok(0) } else { T::upsert(connection, &rows).await }
    }
}

/// Maps Postgres' errors to the table's.
pub(crate) fn database(table: &'static str) -> impl Fn(sqlx::Error) -> TableError + Copy {
    move |source| TableError::Database { table, source }
}

/// The same for a page of a list, where what Postgres refuses to compare with is the cursor's key.
pub(crate) fn page_database(
    table: &'static str,
    cursor: bool,
) -> impl Fn(sqlx::Error) -> TableError + Copy {
    move |source| {
        if crate::paging::is_the_cursors_fault(&source, cursor) {
            TableError::Cursor(crate::paging::InvalidCursor)
        } else {
            TableError::Database { table, source }
        }
    }
}

/// Reads columns back into the domain's types.
#[derive(Clone, Copy)]
pub(crate) struct Columns(pub(crate) &'static str);

impl Columns {
    pub(crate) fn corrupt(self, column: &'static str) -> TableError {
        TableError::Corrupt { table: self.0, column }
    }

    /// Anything that reads itself from a string.
    pub(crate) fn text<T: for<'de> Deserialize<'de>>(
        self,
        column: &'static str,
        text: String,
    ) -> Result<T, TableError> {
        let text: serde::de::value::StringDeserializer<serde::de::value::Error> =
            text.into_deserializer();
        T::deserialize(text).map_err(|_| self.corrupt(column))
    }

    /// The same, where NULL is allowed.
    pub(crate) fn optional<T: for<'de> Deserialize<'de>>(
        self,
        column: &'static str,
        text: Option<String>,
    ) -> Result<Option<T>, TableError> {
        text.map(|text| self.text(column, text)).transpose()
    }

    /// Anything that reads itself from JSON.
    pub(crate) fn json<T: for<'de> Deserialize<'de>>(
        self,
        column: &'static str,
        json: &str,
    ) -> Result<T, TableError> {
        serde_json::from_str(json).map_err(|_| self.corrupt(column))
    }

    pub(crate) fn id<I: TryFrom<Uuid>>(
        self,
        column: &'static str,
        id: Uuid,
    ) -> Result<I, TableError> {
        id.try_into().map_err(|_| self.corrupt(column))
    }

    /// Any narrower or unsigned number.
    pub(crate) fn number<N, M: TryFrom<N>>(
        self,
        column: &'static str,
        number: N,
    ) -> Result<M, TableError> {
        number.try_into().map_err(|_| self.corrupt(column))
    }

    pub(crate) fn money(
        self,
        column: &'static str,
        minor: Option<i64>,
        currency: Option<String>,
    ) -> Result<Option<Money>, TableError> {
        let (Some(minor), Some(currency)) = (minor, currency) else { return Ok(None) };
        let currency = Currency::try_from(currency).map_err(|_| self.corrupt(column))?;
        Money::new(minor, currency).map(Some).map_err(|_| self.corrupt(column))
    }

    pub(crate) fn stamp(self, raw: RawStamp) -> Result<RowStamp, TableError> {
        let RawStamp { partition, position, version, created_at, updated_at } = raw;
        Ok(RowStamp {
            at: Position {
                partition: Partition(self.number("partition", partition)?),
                number: self.number("position", position)?,
            },
            version: self.number("version", version)?,
            created_at,
            updated_at,
        })
    }
}

/// A row's stamp as its columns have it.
#[derive(sqlx::FromRow)]
pub(crate) struct RawStamp {
    partition: i32,
    position: i64,
    version: i64,
    created_at: Instant,
    updated_at: Instant,
}

/// The stamps of many rows, as arrays for UNNEST.
#[derive(Default)]
pub(crate) struct StampColumns {
    pub(crate) partitions: Vec<i32>,
    pub(crate) positions: Vec<i64>,
    pub(crate) versions: Vec<i64>,
    pub(crate) created_at: Vec<Instant>,
    pub(crate) updated_at: Vec<Instant>,
}

impl StampColumns {
    pub(crate) fn push(&mut self, stamp: &RowStamp) {
        self.partitions.push(stamp.at.partition.0.into());
        self.positions.push(bigint(stamp.at.number));
        self.versions.push(bigint(stamp.version));
        self.created_at.push(stamp.created_at);
        self.updated_at.push(stamp.updated_at);
    }
}

/// Positions and versions come from Postgres, so they fit its bigint.
pub(crate) fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A price as two columns.
pub(crate) fn money_columns(money: Option<Money>) -> (Option<i64>, Option<String>) {
    (money.map(|money| money.amount_minor), money.map(|money| money.currency.as_str().to_owned()))
}
