//! What each side of an appointment noted for itself: the other side never sees it.
//!
//! `AppointmentNoted` begins an appointment's row or changes one side of it. The notes stand beside the appointments, not in
//! them: what both sides read, and what is cached of it, cannot show them by mistake.

use std::collections::HashMap;

use domain::appointment::{Parties, Side};
use domain::ids::{AccountId, AppointmentId, Id};
use domain::text::Note;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::table::{
    Columns, RawStamp, RowStamp, StampColumns, Table, TableError, Writes, database,
};

const TABLE: &str = "appointment_notes";

/// The table.
pub struct AppointmentNotes;

/// The changes of a batch.
pub type NotesWrites = Writes<AppointmentNotes>;

/// The notes of an appointment's two sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotesRow {
    /// Of which appointment.
    pub id: AppointmentId,
    /// Whose appointment.
    pub parties: (AccountId, Uuid),
    /// The client's.
    pub client: Option<Note>,
    /// The provider's.
    pub provider: Option<Note>,
    /// The events behind it.
    pub stamp: RowStamp,
}

impl NotesRow {
    fn of(&mut self, side: Side) -> &mut Option<Note> {
        match side {
            Side::Client => &mut self.client,
            Side::Provider => &mut self.provider,
        }
    }
}

/// A side's notes are these from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Whose appointment.
    pub parties: Parties,
    /// Which side's.
    pub by: Side,
    /// What they are; `None`: there are none, or their author was erased.
    pub notes: Option<Note>,
}

impl Table for AppointmentNotes {
    const NAME: &'static str = TABLE;
    type Id = AppointmentId;
    type Row = NotesRow;
    type Change = Noted;

    fn stamp(row: &mut NotesRow) -> &mut RowStamp {
        &mut row.stamp
    }

    /// There may be a row with the other side's.
    fn begins(_: &Noted) -> bool {
        false
    }

    fn begin(id: AppointmentId, stamp: RowStamp, change: Noted) -> Option<NotesRow> {
        let Parties { provider: _, provider_account, client } = change.parties;
        let parties = (provider_account, client.subject().uuid());
        let mut row = NotesRow { id, parties, client: None, provider: None, stamp };
        Self::change(&mut row, change);
        Some(row)
    }

    fn change(row: &mut NotesRow, change: Noted) {
        *row.of(change.by) = change.notes;
    }

    async fn load(
        connection: &mut PgConnection,
        ids: &[Uuid],
    ) -> Result<Vec<(AppointmentId, NotesRow)>, TableError> {
        let rows: Vec<Raw> = sqlx::query_as(
            "SELECT id, partition, position, version, provider_account_id, client_id, client_notes,
                    provider_notes, created_at, updated_at
             FROM appointment_notes WHERE id = ANY($1)",
        )
        .bind(ids)
        .fetch_all(connection)
        .await
        .map_err(database(TABLE))?;
        rows.into_iter().map(|raw| NotesRow::try_from(raw).map(|row| (row.id, row))).collect()
    }

    async fn upsert(connection: &mut PgConnection, rows: &[NotesRow]) -> Result<u64, TableError> {
        let mut stamps = StampColumns::default();
        rows.iter().for_each(|row| stamps.push(&row.stamp));
        let notes = |of: fn(&NotesRow) -> &Option<Note>| -> Vec<Option<&str>> {
            rows.iter().map(|row| of(row).as_ref().map(Note::as_str)).collect()
        };
        let done = sqlx::query(
            "INSERT INTO appointment_notes AS t (id, partition, position, version,
                 provider_account_id, client_id, client_notes, provider_notes, created_at, updated_at)
             SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::uuid[],
                 $6::uuid[], $7::text[], $8::text[], $9::timestamptz[], $10::timestamptz[])
             ON CONFLICT (id) DO UPDATE SET
                 partition = excluded.partition, position = excluded.position,
                 version = excluded.version, client_notes = excluded.client_notes,
                 provider_notes = excluded.provider_notes, updated_at = excluded.updated_at
             WHERE t.position < excluded.position",
        )
        .bind(rows.iter().map(|row| row.id.uuid()).collect::<Vec<_>>())
        .bind(stamps.partitions)
        .bind(stamps.positions)
        .bind(stamps.versions)
        .bind(rows.iter().map(|row| row.parties.0.uuid()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.parties.1).collect::<Vec<_>>())
        .bind(notes(|row| &row.client))
        .bind(notes(|row| &row.provider))
        .bind(stamps.created_at)
        .bind(stamps.updated_at)
        .execute(connection)
        .await
        .map_err(database(TABLE))?;
        Ok(done.rows_affected())
    }
}

/// What one side noted, by appointment; those without notes are left out. Whether the reader is on that side of each of them
/// is the caller's to know.
pub async fn of_side(
    pool: &PgPool,
    appointments: &[AppointmentId],
    side: Side,
) -> Result<HashMap<AppointmentId, Note>, TableError> {
    if appointments.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(Uuid, String)> = sqlx::query_as(match side {
        Side::Client => {
            "SELECT id, client_notes FROM appointment_notes
             WHERE id = ANY($1) AND client_notes IS NOT NULL"
        }
        Side::Provider => {
            "SELECT id, provider_notes FROM appointment_notes
             WHERE id = ANY($1) AND provider_notes IS NOT NULL"
        }
    })
    .bind(appointments.iter().map(|id| id.uuid()).collect::<Vec<_>>())
    .fetch_all(pool)
    .await
    .map_err(database(TABLE))?;
    let columns = Columns(TABLE);
    rows.into_iter()
        .map(|(id, notes)| Ok((columns.id("id", id)?, columns.text("notes", notes)?)))
        .collect()
}

/// Empties what an erased person noted, on either side.
pub async fn purge_person(connection: &mut PgConnection, person: Uuid) -> Result<(), TableError> {
    for sql in [
        "UPDATE appointment_notes SET client_notes = NULL
         WHERE client_id = $1 AND client_notes IS NOT NULL",
        "UPDATE appointment_notes SET provider_notes = NULL
         WHERE provider_account_id = $1 AND provider_notes IS NOT NULL",
    ] {
        let done = sqlx::query(sql).bind(person).execute(&mut *connection).await;
        done.map_err(database(TABLE))?;
    }
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Raw {
    id: Uuid,
    provider_account_id: Uuid,
    client_id: Uuid,
    client_notes: Option<String>,
    provider_notes: Option<String>,
    #[sqlx(flatten)]
    stamp: RawStamp,
}

impl TryFrom<Raw> for NotesRow {
    type Error = TableError;
    fn try_from(raw: Raw) -> Result<Self, TableError> {
        let Raw { id, provider_account_id, client_id, client_notes, provider_notes, stamp } = raw;
        let columns = Columns(TABLE);
        Ok(Self {
            id: columns.id("id", id)?,
            parties: (columns.id("provider_account_id", provider_account_id)?, client_id),
            client: columns.optional("client_notes", client_notes)?,
            provider: columns.optional("provider_notes", provider_notes)?,
            stamp: columns.stamp(stamp)?,
        })
    }
}
