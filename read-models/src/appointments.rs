//! Appointments as both sides list them: a client's upcoming ones and history, a provider's day.
//!
//! `AppointmentBooked` begins a row, later events change its status or its time. A provider's day is asked
//! for as a stretch of instants: the provider's zone at that time decides which, and it may have changed
//! since the appointment was booked. The indexes are those of `S3-17`.

use chrono::NaiveDateTime;
use domain::Instant;
use domain::appointment::{AppointmentEvent, Client, Contact, Status};
use domain::hours::Zone;
use domain::ids::{
    AccountId, AppointmentId, GuestId, Id, ProviderId, SeriesId, ServiceId, SubjectId,
};
use domain::money::Money;
use domain::personal::Personal;
use domain::series::SeriesPart;
use domain::slots::Span;
use domain::text::{EmailAddress, Note, PersonName, Phone, ServiceName};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::paging::{self, Page, PageLimit};
use crate::table::{
    Columns, RawStamp, RowStamp, StampColumns, Table, TableError, Writes, database, money_columns,
    page_database,
};

const TABLE: &str = "appointments";

/// The most appointments [`whole_day`] gives; a day with more is read in pages, with [`of_provider`].
pub const MAX_WHOLE_DAY: u16 = 500;

macro_rules! select {
    ($($rest:literal),+) => {
        concat!(
            "SELECT id, partition, position, version, provider_id, provider_account_id, client_id, \
             service_id, service_name, starts_at, ends_at, zone, status, price_minor, \
             price_currency, contact_name, contact_email, contact_phone, client_notes, \
             status_reason, reason_by, guest_id, answer_by, series_id, series_number, created_at, \
             updated_at FROM appointments ",
            $($rest),+
        )
    };
}
pub(crate) use select;

/// The table.
pub struct Appointments;

/// The changes of a batch.
pub type AppointmentWrites = Writes<Appointments>;

/// An appointment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppointmentRow {
    /// Which.
    pub id: AppointmentId,
    /// With whom.
    pub provider: ProviderId,
    /// Whose shop that is.
    pub provider_account: AccountId,
    /// Who booked, or was booked for.
    pub client: Client,
    /// What.
    pub service: ServiceId,
    /// The service's name when it was booked; `None` once the shop's owner was erased.
    pub service_name: Option<ServiceName>,
    /// When it is.
    pub slot: Span,
    /// The provider's zone when it was booked.
    pub zone: Zone,
    /// Where it stands.
    pub status: Status,
    /// What it costs.
    pub price: Option<Money>,
    /// The client as they were when they booked (`S3-77`); `None` once erased.
    pub contact: Option<Contact>,
    /// What the client wrote.
    pub client_notes: Option<Note>,
    /// Why it was declined or cancelled.
    pub status_reason: Option<Note>,
    /// Who wrote that.
    #[serde(default)]
    pub reason_by: Option<SubjectId>,
    /// When it expires unanswered while it is pending; `None` is at its start.
    #[serde(default)]
    pub answer_by: Option<Instant>,
    /// The series it is one of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<SeriesPart>,
    /// The events behind it.
    pub stamp: RowStamp,
}

impl AppointmentRow {
    /// Its start as the clock on the provider's wall showed it in the zone it was booked in.
    pub fn local_start(&self) -> NaiveDateTime {
        self.slot.start.with_timezone(&self.zone.0).naive_local()
    }
}

/// What an event does to an appointment's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppointmentChange {
    /// It was booked.
    Booked(Box<NewAppointment>),
    /// Its status changed.
    StatusChanged {
        /// Where it stands now.
        status: Status,
        /// Why, where it was declined or cancelled.
        reason: Option<Note>,
        /// Who wrote that.
        reason_by: Option<SubjectId>,
    },
    /// It was moved.
    Rescheduled {
        /// When it is now.
        to: Span,
        /// Where it stands now.
        status: Status,
        /// When it expires unanswered, if before it starts.
        answer_by: Option<Instant>,
    },
    /// One side noted something for itself: the row shows nothing of it but the version of the stream.
    Noted,
    /// The guest whose appointment it is was erased.
    GuestErased,
}

impl From<&AppointmentEvent> for AppointmentChange {
    fn from(event: &AppointmentEvent) -> Self {
        match event {
            AppointmentEvent::AppointmentBooked { terms, slot, status, answer_by, by: _ } => {
                Self::Booked(Box::new(NewAppointment {
                    provider: terms.provider,
                    provider_account: terms.provider_account,
                    client: terms.client,
                    service: terms.measure.service,
                    service_name: terms.service_name.known().cloned(),
                    slot: *slot,
                    zone: terms.zone,
                    status: *status,
                    price: terms.price,
                    contact: terms.contact.known().cloned(),
                    client_notes: terms.client_notes.as_ref().and_then(Personal::known).cloned(),
                    answer_by: *answer_by,
                    series: terms.series,
                }))
            }
            AppointmentEvent::AppointmentConfirmed { parties: _, slot: _ } => {
                Self::status(Status::Confirmed, None)
            }
            AppointmentEvent::AppointmentDeclined { parties: _, slot: _, reason } => {
                Self::status(Status::Declined, reason.as_ref())
            }
            AppointmentEvent::AppointmentCancelled {
                parties: _,
                slot: _,
                by: _,
                reason,
                with_series: _,
            } => Self::status(Status::Cancelled, reason.as_ref()),
            AppointmentEvent::AppointmentRescheduled {
                parties: _,
                from: _,
                to,
                by: _,
                status,
                answer_by,
            } => Self::Rescheduled { to: *to, status: *status, answer_by: *answer_by },
            AppointmentEvent::AppointmentExpired { parties: _, slot: _ } => {
                Self::status(Status::Expired, None)
            }
            AppointmentEvent::AppointmentCompleted {
                parties: _,
                slot: _,
                correctable_until: _,
            } => Self::status(Status::Completed, None),
            AppointmentEvent::AppointmentMissed { parties: _, slot: _, correctable_until: _ } => {
                Self::status(Status::NoShow, None)
            }
            AppointmentEvent::AppointmentNoted { parties: _, slot: _, by: _, notes: _ } => {
                Self::Noted
            }
            AppointmentEvent::GuestErased { parties: _, slot: _ } => Self::GuestErased,
        }
    }
}

impl AppointmentChange {
    fn status(status: Status, reason: Option<&Personal<Note>>) -> Self {
        Self::StatusChanged {
            status,
            reason: reason.and_then(Personal::known).cloned(),
            reason_by: reason.map(Personal::subject),
        }
    }
}

/// What a booking says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAppointment {
    /// With whom.
    pub provider: ProviderId,
    /// Whose shop that is.
    pub provider_account: AccountId,
    /// Who booked, or was booked for.
    pub client: Client,
    /// What.
    pub service: ServiceId,
    /// The service's name.
    pub service_name: Option<ServiceName>,
    /// When.
    pub slot: Span,
    /// The provider's zone.
    pub zone: Zone,
    /// Pending, or confirmed at once.
    pub status: Status,
    /// What it costs.
    pub price: Option<Money>,
    /// The client's contact.
    pub contact: Option<Contact>,
    /// What the client wrote.
    pub client_notes: Option<Note>,
    /// When it expires unanswered, if before it starts.
    pub answer_by: Option<Instant>,
    /// The series it is one of.
    pub series: Option<SeriesPart>,
}

impl NewAppointment {
    fn into_row(self, id: AppointmentId, stamp: RowStamp) -> AppointmentRow {
        let Self {
            provider,
            provider_account,
            client,
            service,
            service_name,
            slot,
            zone,
            status,
            price,
            contact,
            client_notes,
            answer_by,
            series,
        } = self;
        AppointmentRow {
            id,
            provider,
            provider_account,
            client,
            service,
            service_name,
            slot,
            zone,
            status,
            price,
            contact,
            client_notes,
            status_reason: None,
            reason_by: None,
            answer_by,
            series,
            stamp,
        }
    }
}

impl Table for Appointments {
    const NAME: &'static str = TABLE;
    type Id = AppointmentId;
    type Row = AppointmentRow;
    type Change = AppointmentChange;

    fn stamp(row: &mut AppointmentRow) -> &mut RowStamp {
        &mut row.stamp
    }

    fn begins(change: &AppointmentChange) -> bool {
        matches!(change, AppointmentChange::Booked(_))
    }

    fn is_shown(change: &AppointmentChange) -> bool {
        !matches!(change, AppointmentChange::Noted)
    }

    fn begin(
        id: AppointmentId,
        stamp: RowStamp,
        change: AppointmentChange,
    ) -> Option<AppointmentRow> {
        match change {
            AppointmentChange::Booked(new) => Some(new.into_row(id, stamp)),
            AppointmentChange::StatusChanged { .. }
            | AppointmentChange::Rescheduled { .. }
            | AppointmentChange::Noted
            | AppointmentChange::GuestErased => None,
        }
    }

    fn change(row: &mut AppointmentRow, change: AppointmentChange) {
        match change {
            AppointmentChange::Booked(new) => *row = new.into_row(row.id, row.stamp),
            AppointmentChange::StatusChanged { status, reason, reason_by } => {
                row.status = status;
                row.reason_by = reason_by.filter(|_| reason.is_some());
                row.status_reason = reason;
            }
            AppointmentChange::Rescheduled { to, status, answer_by } => {
                row.slot = to;
                row.status = status;
                row.answer_by = answer_by;
            }
            AppointmentChange::Noted => {}
            AppointmentChange::GuestErased => {
                row.contact = None;
                row.client_notes = None;
                if row.reason_by == Some(row.client.subject()) {
                    row.status_reason = None;
                    row.reason_by = None;
                }
            }
        }
    }

    async fn load(
        connection: &mut PgConnection,
        ids: &[Uuid],
    ) -> Result<Vec<(AppointmentId, AppointmentRow)>, TableError> {
        let rows = sqlx::query_as(select!("WHERE id = ANY($1)"))
            .bind(ids)
            .fetch_all(connection)
            .await
            .map_err(database(TABLE))?;
        Ok(read(rows)?.into_iter().map(|row| (row.id, row)).collect())
    }

    async fn upsert(
        connection: &mut PgConnection,
        rows: &[AppointmentRow],
    ) -> Result<u64, TableError> {
        let mut stamps = StampColumns::default();
        rows.iter().for_each(|row| stamps.push(&row.stamp));
        let ids = |of: fn(&AppointmentRow) -> Uuid| rows.iter().map(of).collect::<Vec<_>>();
        let client = |of: fn(Client) -> Option<Uuid>| -> Vec<Option<Uuid>> {
            rows.iter().map(|row| of(row.client)).collect()
        };
        let (prices, currencies): (Vec<_>, Vec<_>) =
            rows.iter().map(|row| money_columns(row.price)).unzip();
        let contact = |of: fn(&Contact) -> Option<&str>| -> Vec<Option<&str>> {
            rows.iter().map(|row| row.contact.as_ref().and_then(of)).collect()
        };
        let note = |of: fn(&AppointmentRow) -> &Option<Note>| -> Vec<Option<&str>> {
            rows.iter().map(|row| of(row).as_ref().map(Note::as_str)).collect()
        };
        let done = sqlx::query(
            "INSERT INTO appointments AS t (id, partition, position, version, provider_id,
                 provider_account_id, client_id, service_id, service_name, starts_at, ends_at, zone,
                 local_start, status, price_minor, price_currency, contact_name, contact_email,
                 contact_phone, client_notes, status_reason, created_at, updated_at, reason_by,
                 guest_id, answer_by, series_id, series_number)
             SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::uuid[],
                 $6::uuid[], $7::uuid[], $8::uuid[], $9::text[], $10::timestamptz[],
                 $11::timestamptz[], $12::text[], $13::timestamp[], $14::text[], $15::bigint[],
                 $16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[],
                 $22::timestamptz[], $23::timestamptz[], $24::uuid[], $25::uuid[],
                 $26::timestamptz[], $27::uuid[], $28::smallint[])
             ON CONFLICT (id) DO UPDATE SET
                 partition = excluded.partition, position = excluded.position,
                 version = excluded.version, provider_id = excluded.provider_id,
                 provider_account_id = excluded.provider_account_id,
                 client_id = excluded.client_id, service_id = excluded.service_id,
                 service_name = excluded.service_name, starts_at = excluded.starts_at,
                 ends_at = excluded.ends_at, zone = excluded.zone,
                 local_start = excluded.local_start, status = excluded.status,
                 price_minor = excluded.price_minor, price_currency = excluded.price_currency,
                 contact_name = excluded.contact_name, contact_email = excluded.contact_email,
                 contact_phone = excluded.contact_phone, client_notes = excluded.client_notes,
                 status_reason = excluded.status_reason, created_at = excluded.created_at,
                 updated_at = excluded.updated_at, reason_by = excluded.reason_by,
                 guest_id = excluded.guest_id, answer_by = excluded.answer_by,
                 series_id = excluded.series_id, series_number = excluded.series_number
             WHERE t.position < excluded.position",
        )
        .bind(ids(|row| row.id.uuid()))
        .bind(stamps.partitions)
        .bind(stamps.positions)
        .bind(stamps.versions)
        .bind(ids(|row| row.provider.uuid()))
        .bind(ids(|row| row.provider_account.uuid()))
        .bind(client(|client| client.account().map(AccountId::uuid)))
        .bind(ids(|row| row.service.uuid()))
        .bind(
            rows.iter()
                .map(|row| row.service_name.as_ref().map(ServiceName::as_str))
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(|row| row.slot.start).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.slot.end).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.zone.name()).collect::<Vec<_>>())
        .bind(rows.iter().map(AppointmentRow::local_start).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.status.as_str()).collect::<Vec<_>>())
        .bind(prices)
        .bind(currencies)
        .bind(contact(|contact| Some(contact.name.as_str())))
        .bind(contact(|contact| Some(contact.email.as_str())))
        .bind(contact(|contact| contact.phone.as_ref().map(Phone::as_str)))
        .bind(note(|row| &row.client_notes))
        .bind(note(|row| &row.status_reason))
        .bind(stamps.created_at)
        .bind(stamps.updated_at)
        .bind(rows.iter().map(|row| row.reason_by.map(SubjectId::uuid)).collect::<Vec<_>>())
        .bind(client(|client| client.guest().map(GuestId::uuid)))
        .bind(rows.iter().map(|row| row.answer_by).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.series.map(|part| part.series.uuid())).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.series.and_then(|part| i16::try_from(part.number).ok()))
                .collect::<Vec<_>>(),
        )
        .execute(connection)
        .await
        .map_err(database(TABLE))?;
        Ok(done.rows_affected())
    }
}

/// Which of a party's appointments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// Those that will take place or do right now, the next first.
    Upcoming,
    /// All others: over, declined or cancelled; the latest first (`S4-08`).
    Past,
}

/// The appointment with this id.
pub async fn by_id(pool: &PgPool, id: AppointmentId) -> Result<Option<AppointmentRow>, TableError> {
    let row = sqlx::query_as(select!("WHERE id = $1")).bind(id.uuid()).fetch_optional(pool).await;
    row.map_err(database(TABLE))?.map(|raw: Raw| raw.try_into()).transpose()
}

/// On which side of an appointment somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// Who booked.
    Client(AccountId),
    /// With whom.
    Provider(ProviderId),
}

/// A party's own appointments, of these statuses or, where none is named, of any. Statuses are filtered while going along
/// the party's index: where few of a long history match, all of it is walked. An index for them would cost every booking.
pub async fn of_party(
    pool: &PgPool,
    party: Party,
    period: Period,
    statuses: &[Status],
    now: Instant,
    cursor: Option<&str>,
    limit: PageLimit,
) -> Result<Page<AppointmentRow>, TableError> {
    // No service lasts longer than a day: so the index skips the history.
    macro_rules! upcoming {
        ($party:literal) => {
            select!(
                "WHERE ",
                $party,
                " = $1 AND ends_at > $2 AND starts_at > $2 - interval '1 day' \
                 AND status IN ('pending', 'confirmed') \
                 AND ($6::text[] IS NULL OR status = ANY ($6)) \
                 AND (starts_at, id) > (COALESCE($4::timestamptz, '-infinity'), COALESCE($5::uuid, '00000000-0000-0000-0000-000000000000')) \
                 ORDER BY starts_at, id LIMIT $3"
            )
        };
    }
    macro_rules! past {
        ($party:literal) => {
            select!(
                "WHERE ",
                $party,
                " = $1 AND (ends_at <= $2 OR status NOT IN ('pending', 'confirmed')) \
                 AND ($6::text[] IS NULL OR status = ANY ($6)) \
                 AND (starts_at, id) < (COALESCE($4::timestamptz, 'infinity'), COALESCE($5::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')) \
                 ORDER BY starts_at DESC, id DESC LIMIT $3"
            )
        };
    }
    let (list, sql) = match (period, party) {
        (Period::Upcoming, Party::Client(_)) => ("appointments.upcoming", upcoming!("client_id")),
        (Period::Upcoming, Party::Provider(_)) => {
            ("appointments.upcoming", upcoming!("provider_id"))
        }
        (Period::Past, Party::Client(_)) => ("appointments.past", past!("client_id")),
        (Period::Past, Party::Provider(_)) => ("appointments.past", past!("provider_id")),
    };
    let party = match party {
        Party::Client(account) => account.uuid(),
        Party::Provider(provider) => provider.uuid(),
    };
    let after: Option<(Instant, AppointmentId)> = paging::decode(list, cursor)?;
    let rows = sqlx::query_as(sql)
        .bind(party)
        .bind(now)
        .bind(limit.and_one())
        .bind(after.map(|(start, _)| start))
        .bind(after.map(|(_, id)| id.uuid()))
        .bind(texts(statuses))
        .fetch_all(pool)
        .await
        .map_err(page_database(TABLE, cursor.is_some()))?;
    Ok(Page::cut(read(rows)?, limit, list, |row| (row.slot.start, row.id)))
}

/// A provider's appointments that share an instant with a stretch of time, of these statuses or, where none is named, of
/// any, by start; the first so many.
pub async fn intersecting(
    pool: &PgPool,
    provider: ProviderId,
    within: Span,
    statuses: &[Status],
    most: u16,
) -> Result<Vec<AppointmentRow>, TableError> {
    let rows = sqlx::query_as(select!(
        "WHERE provider_id = $1 AND starts_at < $3 AND starts_at > $2 - interval '1 day' AND ends_at > $2 \
         AND ($5::text[] IS NULL OR status = ANY ($5)) \
         ORDER BY starts_at, id LIMIT $4"
    ))
    .bind(provider.uuid())
    .bind(within.start)
    .bind(within.end)
    .bind(i64::from(most))
    .bind(texts(statuses))
    .fetch_all(pool)
    .await;
    read(rows.map_err(database(TABLE))?)
}

/// The appointments of a series, by number: at most 60.
pub async fn of_series(pool: &PgPool, series: SeriesId) -> Result<Vec<AppointmentRow>, TableError> {
    let rows = sqlx::query_as(select!("WHERE series_id = $1 ORDER BY series_number, id LIMIT 60"))
        .bind(series.uuid())
        .fetch_all(pool)
        .await;
    read(rows.map_err(database(TABLE))?)
}

/// Statuses as the column has them; `None` where none is named.
fn texts(statuses: &[Status]) -> Option<Vec<&'static str>> {
    (!statuses.is_empty()).then(|| statuses.iter().map(|status| status.as_str()).collect())
}

/// The list a provider's day is, to those who make its cursors elsewhere.
pub const OF_PROVIDER: &str = "appointments.provider";

/// A provider's appointments that start within a stretch of time, whatever their status, in order.
pub async fn of_provider(
    pool: &PgPool,
    provider: ProviderId,
    within: Span,
    cursor: Option<&str>,
    limit: PageLimit,
) -> Result<Page<AppointmentRow>, TableError> {
    let after: Option<(Instant, AppointmentId)> = paging::decode(OF_PROVIDER, cursor)?;
    let rows = starting_within(pool, provider, within, after, limit.and_one()).await?;
    Ok(Page::cut(rows, limit, OF_PROVIDER, |row| (row.slot.start, row.id)))
}

/// Where a party's appointments are listed: each appointment's provider and start, in order of their ids, as client or
/// as owner of the shop; for going through all of them, some at a time.
pub async fn places_of_party(
    pool: &PgPool,
    account: AccountId,
    after: Option<AppointmentId>,
    limit: i64,
) -> Result<Vec<(AppointmentId, ProviderId, Instant)>, TableError> {
    let rows: Vec<(Uuid, Uuid, Instant)> = sqlx::query_as(
        "SELECT id, provider_id, starts_at FROM appointments
         WHERE (client_id = $1 OR provider_id = ANY (SELECT id FROM providers WHERE account_id = $1))
           AND id > COALESCE($2::uuid, '00000000-0000-0000-0000-000000000000')
         ORDER BY id LIMIT $3",
    )
    .bind(account.uuid())
    .bind(after.map(AppointmentId::uuid))
    .bind(limit)
    .fetch_all(pool)
    .await
    .map_err(database(TABLE))?;
    let columns = Columns(TABLE);
    rows.into_iter()
        .map(|(id, provider, start)| {
            Ok((columns.id("id", id)?, columns.id("provider_id", provider)?, start))
        })
        .collect()
}

/// A party's appointments that stand and have not begun, on either side, in order of their ids.
pub async fn standing_of_party(
    pool: &PgPool,
    account: AccountId,
    now: Instant,
    after: Option<AppointmentId>,
    limit: i64,
) -> Result<Vec<AppointmentId>, TableError> {
    let rows: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM appointments
         WHERE (client_id = $1 OR provider_id = ANY (SELECT id FROM providers WHERE account_id = $1))
           AND starts_at > $2 AND status IN ('pending', 'confirmed')
           AND id > COALESCE($3::uuid, '00000000-0000-0000-0000-000000000000')
         ORDER BY id LIMIT $4",
    )
    .bind(account.uuid())
    .bind(now)
    .bind(after.map(AppointmentId::uuid))
    .bind(limit)
    .fetch_all(pool)
    .await
    .map_err(database(TABLE))?;
    rows.into_iter().map(|id| Columns(TABLE).id("id", id)).collect()
}

/// Pending appointments whose time to answer is over, with when that was, oldest first: some of those after the last that
/// was given. The table only points: whether one expires the log decides.
pub async fn unanswered(
    pool: &PgPool,
    now: Instant,
    after: Option<(Instant, AppointmentId)>,
    limit: i64,
) -> Result<Vec<(Instant, AppointmentId)>, TableError> {
    let rows: Vec<(Instant, Uuid)> = sqlx::query_as(
        "SELECT coalesce(answer_by, starts_at), id FROM appointments
         WHERE status = 'pending' AND coalesce(answer_by, starts_at) <= $1
           AND (coalesce(answer_by, starts_at), id)
               > (COALESCE($2::timestamptz, '-infinity'), COALESCE($3::uuid, '00000000-0000-0000-0000-000000000000'))
         ORDER BY coalesce(answer_by, starts_at), id LIMIT $4",
    )
    .bind(now)
    .bind(after.map(|(due, _)| due))
    .bind(after.map(|(_, id)| id.uuid()))
    .bind(limit)
    .fetch_all(pool)
    .await
    .map_err(database(TABLE))?;
    rows.into_iter().map(|(due, id)| Ok((due, Columns(TABLE).id("id", id)?))).collect()
}

/// How many standing appointments one page looks at.
const LOOKED_AT: i64 = 500;

/// A provider's appointments that stand, from the next one on, for which `tells` has something to say. A page ends when it is
/// full or when as many as [`LOOKED_AT`] were looked at, so it may be short, or empty, and still have a next one.
pub async fn standing_of_provider<T>(
    pool: &PgPool,
    provider: ProviderId,
    now: Instant,
    cursor: Option<&str>,
    limit: PageLimit,
    tells: impl Fn(&AppointmentRow) -> Option<T>,
) -> Result<Page<(AppointmentRow, T)>, TableError> {
    const LIST: &str = "appointments.standing";
    let after: Option<(Instant, AppointmentId)> = paging::decode(LIST, cursor)?;
    let rows = sqlx::query_as(select!(
        "WHERE provider_id = $1 AND starts_at > $2 AND status IN ('pending', 'confirmed') \
         AND (starts_at, id) > (COALESCE($4::timestamptz, '-infinity'), COALESCE($5::uuid, '00000000-0000-0000-0000-000000000000')) \
         ORDER BY starts_at, id LIMIT $3"
    ))
    .bind(provider.uuid())
    .bind(now)
    .bind(LOOKED_AT)
    .bind(after.map(|(start, _)| start))
    .bind(after.map(|(_, id)| id.uuid()))
    .fetch_all(pool)
    .await
    .map_err(page_database(TABLE, cursor.is_some()))?;
    let rows = read(rows)?;
    let mut more = i64::try_from(rows.len()).is_ok_and(|looked_at| looked_at == LOOKED_AT);
    let (mut items, mut last) = (Vec::new(), None);
    for row in rows {
        if items.len() == usize::from(limit.get()) {
            more = true;
            break;
        }
        last = Some((row.slot.start, row.id));
        if let Some(told) = tells(&row) {
            items.push((row, told));
        }
    }
    let next_cursor = last.filter(|_| more).map(|last| paging::encode(LIST, &last));
    Ok(Page { items, next_cursor })
}

/// All of a provider's appointments, whatever their status, the latest first.
pub async fn all_of_provider(
    pool: &PgPool,
    provider: ProviderId,
    cursor: Option<&str>,
    limit: PageLimit,
) -> Result<Page<AppointmentRow>, TableError> {
    const LIST: &str = "appointments.all";
    let after: Option<(Instant, AppointmentId)> = paging::decode(LIST, cursor)?;
    let rows = sqlx::query_as(select!(
        "WHERE provider_id = $1 \
         AND (starts_at, id) < (COALESCE($3::timestamptz, 'infinity'), COALESCE($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')) \
         ORDER BY starts_at DESC, id DESC LIMIT $2"
    ))
    .bind(provider.uuid())
    .bind(limit.and_one())
    .bind(after.map(|(start, _)| start))
    .bind(after.map(|(_, id)| id.uuid()))
    .fetch_all(pool)
    .await
    .map_err(database(TABLE))?;
    Ok(Page::cut(read(rows)?, limit, LIST, |row| (row.slot.start, row.id)))
}

/// Empties what an erased person left in appointments: contact and notes where they were the client, and the reasons
/// they wrote on either side (of rows of before authors were kept, every reason).
pub async fn purge_person(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<(), TableError> {
    for sql in [
        "UPDATE appointments SET contact_name = NULL, contact_email = NULL, contact_phone = NULL,
                client_notes = NULL
         WHERE client_id = $1 AND (contact_name IS NOT NULL OR contact_email IS NOT NULL
               OR contact_phone IS NOT NULL OR client_notes IS NOT NULL)",
        "UPDATE appointments SET status_reason = NULL, reason_by = NULL
         WHERE (client_id = $1 OR provider_id = ANY (SELECT id FROM providers WHERE account_id = $1))
           AND status_reason IS NOT NULL AND COALESCE(reason_by, $1) = $1",
        "UPDATE appointments SET service_name = NULL
         WHERE provider_id = ANY (SELECT id FROM providers WHERE account_id = $1)
           AND service_name IS NOT NULL",
    ] {
        sqlx::query(sql)
            .bind(account.uuid())
            .execute(&mut *connection)
            .await
            .map_err(database(TABLE))?;
    }
    Ok(())
}

/// The same all at once, for the cache; `None` when there are more than [`MAX_WHOLE_DAY`].
pub async fn whole_day(
    pool: &PgPool,
    provider: ProviderId,
    within: Span,
) -> Result<Option<Vec<AppointmentRow>>, TableError> {
    let most = usize::from(MAX_WHOLE_DAY);
    let rows = starting_within(pool, provider, within, None, i64::from(MAX_WHOLE_DAY) + 1).await?;
    Ok((rows.len() <= most).then_some(rows))
}

async fn starting_within(
    pool: &PgPool,
    provider: ProviderId,
    within: Span,
    after: Option<(Instant, AppointmentId)>,
    limit: i64,
) -> Result<Vec<AppointmentRow>, TableError> {
    let rows = sqlx::query_as(select!(
        "WHERE provider_id = $1 AND starts_at >= $2 AND starts_at < $3 \
         AND (starts_at, id) > (COALESCE($5::timestamptz, '-infinity'), COALESCE($6::uuid, '00000000-0000-0000-0000-000000000000')) \
         ORDER BY starts_at, id LIMIT $4"
    ))
    .bind(provider.uuid())
    .bind(within.start)
    .bind(within.end)
    .bind(limit)
    .bind(after.map(|(start, _)| start))
    .bind(after.map(|(_, id)| id.uuid()))
    .fetch_all(pool)
    .await;
    read(rows.map_err(page_database(TABLE, after.is_some()))?)
}

#[derive(sqlx::FromRow)]
pub(crate) struct Raw {
    id: Uuid,
    provider_id: Uuid,
    provider_account_id: Uuid,
    client_id: Option<Uuid>,
    service_id: Uuid,
    service_name: Option<String>,
    starts_at: Instant,
    ends_at: Instant,
    zone: String,
    status: String,
    price_minor: Option<i64>,
    price_currency: Option<String>,
    contact_name: Option<String>,
    contact_email: Option<String>,
    contact_phone: Option<String>,
    client_notes: Option<String>,
    status_reason: Option<String>,
    reason_by: Option<Uuid>,
    guest_id: Option<Uuid>,
    answer_by: Option<Instant>,
    series_id: Option<Uuid>,
    series_number: Option<i16>,
    #[sqlx(flatten)]
    stamp: RawStamp,
}

fn read(rows: Vec<Raw>) -> Result<Vec<AppointmentRow>, TableError> {
    rows.into_iter().map(AppointmentRow::try_from).collect()
}

impl TryFrom<Raw> for AppointmentRow {
    type Error = TableError;
    fn try_from(raw: Raw) -> Result<Self, TableError> {
        let Raw {
            id,
            provider_id,
            provider_account_id,
            client_id,
            service_id,
            service_name,
            starts_at,
            ends_at,
            zone,
            status,
            price_minor,
            price_currency,
            contact_name,
            contact_email,
            contact_phone,
            client_notes,
            status_reason,
            reason_by,
            guest_id,
            answer_by,
            series_id,
            series_number,
            stamp,
        } = raw;
        let columns = Columns(TABLE);
        let client = match (client_id, guest_id) {
            (Some(account), _) => Client::Account(columns.id("client_id", account)?),
            (None, Some(guest)) => Client::Guest { guest: columns.id("guest_id", guest)? },
            (None, None) => return Err(columns.corrupt("client_id")),
        };
        let series = match series_id.zip(series_number) {
            Some((series, number)) => Some(SeriesPart {
                series: columns.id("series_id", series)?,
                number: columns.number("series_number", number)?,
            }),
            None => None,
        };
        let name: Option<PersonName> = columns.optional("contact_name", contact_name)?;
        let email: Option<EmailAddress> = columns.optional("contact_email", contact_email)?;
        let phone: Option<Phone> = columns.optional("contact_phone", contact_phone)?;
        Ok(Self {
            id: columns.id("id", id)?,
            provider: columns.id("provider_id", provider_id)?,
            provider_account: columns.id("provider_account_id", provider_account_id)?,
            client,
            service: columns.id("service_id", service_id)?,
            service_name: columns.optional("service_name", service_name)?,
            slot: Span { start: starts_at, end: ends_at },
            zone: columns.text("zone", zone)?,
            status: columns.text("status", status)?,
            price: columns.money("price_minor", price_minor, price_currency)?,
            contact: name.zip(email).map(|(name, email)| Contact { name, email, phone }),
            client_notes: columns.optional("client_notes", client_notes)?,
            status_reason: columns.optional("status_reason", status_reason)?,
            reason_by: reason_by.map(|id| columns.id("reason_by", id)).transpose()?,
            answer_by,
            series,
            stamp: columns.stamp(stamp)?,
        })
    }
}
