//! Accounts as their owners and administrators see them. `AccountRegistered` begins a row, the other events of
//! the account change it; `AccountErased` empties what was personal, and once the person is erased the log gives
//! `None` for it, so that a rebuild stores NULL as well.

use domain::Instant;
use domain::account::Status;
use domain::actor::Role;
use domain::hours::Zone;
use domain::ids::{AccountId, Id, PhotoId};
use domain::locale::Locale;
use domain::text::{EmailAddress, PersonName, Phone};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::paging::{self, Page, PageLimit};
use crate::table::{
    Columns, RawStamp, RowStamp, StampColumns, Table, TableError, Writes, database,
};

const TABLE: &str = "accounts";
const LIST: &str = "accounts";

macro_rules! columns {
    () => {
        "id, partition, position, version, name, email, phone, locale, roles, email_confirmed, \
         status, generation, zone, pending_email, photo_id, created_at, updated_at"
    };
}

/// The table.
pub struct Accounts;

/// The changes of a batch.
pub type AccountWrites = Writes<Accounts>;

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRow {
    /// Whose.
    pub id: AccountId,
    /// Their name; `None` once erased.
    pub name: Option<PersonName>,
    /// Their address; `None` once erased.
    pub email: Option<EmailAddress>,
    /// Their telephone.
    pub phone: Option<Phone>,
    /// The language they read.
    pub locale: Locale,
    /// What they may be, in the order it was granted.
    pub roles: Vec<Role>,
    /// Whether the address was confirmed.
    pub email_confirmed: bool,
    /// Whether it can be used.
    pub status: Status,
    /// The credential generation: sessions that began under an older one are over.
    pub generation: u32,
    /// Where they live, if they said so.
    pub zone: Option<Zone>,
    /// The address that waits to be confirmed.
    pub pending_email: Option<EmailAddress>,
    /// Their photo.
    pub photo: Option<PhotoId>,
    /// The events behind it.
    pub stamp: RowStamp,
}

/// What an event does to an account's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountChange {
    /// It came to be.
    Registered {
        /// Their name.
        name: Option<PersonName>,
        /// Their address.
        email: Option<EmailAddress>,
        /// Their telephone.
        phone: Option<Phone>,
        /// The language they read.
        locale: Locale,
        /// Where they live.
        zone: Option<Zone>,
        /// What they may be.
        roles: Vec<Role>,
    },
    /// The address was confirmed.
    EmailConfirmed,
    /// What is said of the person changed.
    ProfileSet {
        /// Their name.
        name: Option<PersonName>,
        /// Their telephone.
        phone: Option<Phone>,
        /// The language they read.
        locale: Locale,
        /// Where they live.
        zone: Option<Zone>,
    },
    /// An address waits to be confirmed.
    EmailPending(Option<EmailAddress>),
    /// The address that waited is theirs.
    EmailChanged(Option<EmailAddress>),
    /// There is another password: sessions are over, and no address waits.
    CredentialsRenewed,
    /// There is a photo, or none.
    PhotoSet(Option<PhotoId>),
    /// They may be one thing more.
    RoleGranted(Role),
    /// They may be one thing less; sessions are over.
    RoleRevoked(Role),
    /// Sessions are over.
    SessionsEnded,
    /// It was closed; sessions are over.
    Deactivated,
    /// It was opened again.
    Reactivated,
    /// The person was erased.
    Erased,
    /// Something that shows nowhere in the row but in its version.
    Touched,
}

impl Table for Accounts {
    const NAME: &'static str = TABLE;
    type Id = AccountId;
    type Row = AccountRow;
    type Change = AccountChange;

    fn stamp(row: &mut AccountRow) -> &mut RowStamp {
        &mut row.stamp
    }

    fn begins(change: &AccountChange) -> bool {
        matches!(change, AccountChange::Registered { .. })
    }

    fn begin(id: AccountId, stamp: RowStamp, change: AccountChange) -> Option<AccountRow> {
        match change {
            AccountChange::Registered { name, email, phone, locale, zone, roles } => {
                Some(AccountRow {
                    id,
                    name,
                    email,
                    phone,
                    locale,
                    roles,
                    email_confirmed: false,
                    status: Status::Active,
                    generation: 0,
                    zone,
                    pending_email: None,
                    photo: None,
                    stamp,
                })
            }
            AccountChange::EmailConfirmed
            | AccountChange::ProfileSet { .. }
            | AccountChange::EmailPending(_)
            | AccountChange::EmailChanged(_)
            | AccountChange::CredentialsRenewed
            | AccountChange::PhotoSet(_)
            | AccountChange::RoleGranted(_)
            | AccountChange::RoleRevoked(_)
            | AccountChange::SessionsEnded
            | AccountChange::Deactivated
            | AccountChange::Reactivated
            | AccountChange::Erased
            | AccountChange::Touched => None,
        }
    }

    fn change(row: &mut AccountRow, change: AccountChange) {
        match change {
            registered @ AccountChange::Registered { .. } => {
                if let Some(begun) = Self::begin(row.id, row.stamp, registered) {
                    *row = begun;
                }
            }
            AccountChange::EmailConfirmed => row.email_confirmed = true,
            AccountChange::ProfileSet { name, phone, locale, zone } => {
                row.name = name;
                row.phone = phone;
                row.locale = locale;
                row.zone = zone;
            }
            AccountChange::EmailPending(email) => row.pending_email = email,
            AccountChange::EmailChanged(email) => {
                row.email = email;
                row.email_confirmed = true;
                row.pending_email = None;
            }
            AccountChange::CredentialsRenewed => row.renew_credentials(),
            AccountChange::PhotoSet(photo) => row.photo = photo,
            AccountChange::RoleRevoked(role) => {
                row.roles.retain(|held| *held != role);
                row.generation = row.generation.saturating_add(1);
            }
            AccountChange::SessionsEnded => row.generation = row.generation.saturating_add(1),
            AccountChange::Deactivated => {
                row.status = Status::Deactivated;
                row.renew_credentials();
            }
            AccountChange::Reactivated => row.status = Status::Active,
            AccountChange::Erased => {
                row.status = Status::Erased;
                row.renew_credentials();
                row.roles.clear();
                (row.name, row.email, row.phone) = (None, None, None);
                (row.zone, row.photo) = (None, None);
            }
            AccountChange::RoleGranted(role) if row.roles.contains(&role) => {}
            AccountChange::RoleGranted(role) => row.roles.push(role),
            AccountChange::Touched => {}
        }
    }

    async fn load(
        connection: &mut PgConnection,
        ids: &[Uuid],
    ) -> Result<Vec<(AccountId, AccountRow)>, TableError> {
        let rows: Vec<Raw> =
            sqlx::query_as(concat!("SELECT ", columns!(), " FROM accounts WHERE id = ANY($1)"))
                .bind(ids)
                .fetch_all(connection)
                .await
                .map_err(database(TABLE))?;
        rows.into_iter().map(|raw| AccountRow::try_from(raw).map(|row| (row.id, row))).collect()
    }

    async fn upsert(connection: &mut PgConnection, rows: &[AccountRow]) -> Result<u64, TableError> {
        let mut stamps = StampColumns::default();
        rows.iter().for_each(|row| stamps.push(&row.stamp));
        let column = |text: fn(&AccountRow) -> Option<String>| rows.iter().map(text).collect();
        let names: Vec<Option<String>> = column(|r| r.name.clone().map(Into::into));
        let emails: Vec<Option<String>> = column(|r| r.email.clone().map(Into::into));
        let phones: Vec<Option<String>> = column(|r| r.phone.clone().map(Into::into));
        let pending: Vec<Option<String>> = column(|r| r.pending_email.clone().map(Into::into));
        // UNNEST flattens arrays of arrays: roles travel joined.
        let roles: Vec<String> = rows
            .iter()
            .map(|row| row.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(","))
            .collect();
        let done = sqlx::query(
            "INSERT INTO accounts AS t (id, partition, position, version, name, email, phone, locale,
                 roles, email_confirmed, created_at, updated_at, status, generation, zone,
                 pending_email, photo_id)
             SELECT id, partition, position, version, name, email, phone, locale,
                 string_to_array(roles, ','), email_confirmed, created_at, updated_at, status,
                 generation, zone, pending_email, photo_id
             FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::text[], $6::text[],
                 $7::text[], $8::text[], $9::text[], $10::boolean[], $11::timestamptz[],
                 $12::timestamptz[], $13::text[], $14::bigint[], $15::text[], $16::text[], $17::uuid[])
               AS u (id, partition, position, version, name, email, phone, locale, roles,
                 email_confirmed, created_at, updated_at, status, generation, zone, pending_email,
                 photo_id)
             ON CONFLICT (id) DO UPDATE SET
                 partition = excluded.partition, position = excluded.position,
                 version = excluded.version, name = excluded.name, email = excluded.email,
                 phone = excluded.phone, locale = excluded.locale, roles = excluded.roles,
                 email_confirmed = excluded.email_confirmed, created_at = excluded.created_at,
                 updated_at = excluded.updated_at, status = excluded.status,
                 generation = excluded.generation, zone = excluded.zone,
                 pending_email = excluded.pending_email, photo_id = excluded.photo_id
             WHERE t.position < excluded.position",
        )
        .bind(rows.iter().map(|row| row.id.uuid()).collect::<Vec<_>>())
        .bind(stamps.partitions)
        .bind(stamps.positions)
        .bind(stamps.versions)
        .bind(names)
        .bind(emails)
        .bind(phones)
        .bind(rows.iter().map(|row| row.locale.tag()).collect::<Vec<_>>())
        .bind(roles)
        .bind(rows.iter().map(|row| row.email_confirmed).collect::<Vec<_>>())
        .bind(stamps.created_at)
        .bind(stamps.updated_at)
        .bind(rows.iter().map(|row| row.status.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| i64::from(row.generation)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.zone.map(|zone| zone.name())).collect::<Vec<_>>())
        .bind(pending)
        .bind(rows.iter().map(|row| row.photo.map(PhotoId::uuid)).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map_err(database(TABLE))?;
        Ok(done.rows_affected())
    }
}

/// The account with this id.
pub async fn by_id(pool: &PgPool, id: AccountId) -> Result<Option<AccountRow>, TableError> {
    let raw: Option<Raw> =
        sqlx::query_as(concat!("SELECT ", columns!(), " FROM accounts WHERE id = $1"))
            .bind(id.uuid())
            .fetch_optional(pool)
            .await
            .map_err(database(TABLE))?;
    raw.map(AccountRow::try_from).transpose()
}

/// Empties what an erased person left in their row. `AccountErased` did so; this is for a projector that could still read
/// an older event of theirs.
pub async fn purge_person(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<(), TableError> {
    sqlx::query(
        "UPDATE accounts SET name = NULL, email = NULL, phone = NULL, pending_email = NULL,
                zone = NULL, photo_id = NULL
         WHERE id = $1",
    )
    .bind(account.uuid())
    .execute(connection)
    .await
    .map_err(database(TABLE))?;
    Ok(())
}

/// All accounts, the newest first: for administrators.
pub async fn list(
    pool: &PgPool,
    cursor: Option<&str>,
    limit: PageLimit,
) -> Result<Page<AccountRow>, TableError> {
    let after: Option<(Instant, AccountId)> = paging::decode(LIST, cursor)?;
    let (at, id) = after.unzip();
    let rows: Vec<Raw> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM accounts WHERE $2::timestamptz IS NULL OR (created_at, id) < ($2, $3) \
         ORDER BY created_at DESC, id DESC LIMIT $1"
    ))
    .bind(limit.and_one())
    .bind(at)
    .bind(id.map(AccountId::uuid))
    .fetch_all(pool)
    .await
    .map_err(database(TABLE))?;
    let rows = rows.into_iter().map(AccountRow::try_from).collect::<Result<_, _>>()?;
    Ok(Page::cut(rows, limit, LIST, |row| (row.stamp.created_at, row.id)))
}

impl AccountRow {
    fn renew_credentials(&mut self) {
        self.generation = self.generation.saturating_add(1);
        self.pending_email = None;
    }
}

#[derive(sqlx::FromRow)]
struct Raw {
    id: Uuid,
    name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    locale: String,
    roles: Vec<String>,
    email_confirmed: bool,
    status: String,
    generation: i64,
    zone: Option<String>,
    pending_email: Option<String>,
    photo_id: Option<Uuid>,
    #[sqlx(flatten)]
    stamp: RawStamp,
}

impl TryFrom<Raw> for AccountRow {
    type Error = TableError;
    fn try_from(raw: Raw) -> Result<Self, TableError> {
        let Raw {
            id,
            name,
            email,
            phone,
            locale,
            roles,
            email_confirmed,
            status,
            generation,
            zone,
            pending_email,
            photo_id,
            stamp,
        } = raw;
        let columns = Columns(TABLE);
        Ok(Self {
            id: columns.id("id", id)?,
            name: columns.optional("name", name)?,
            email: columns.optional("email", email)?,
            phone: columns.optional("phone", phone)?,
            locale: columns.text("locale", locale)?,
            roles: roles
                .into_iter()
                .map(|role| columns.text("roles", role))
                .collect::<Result<_, _>>()?,
            email_confirmed,
            status: columns.text("status", status)?,
            generation: columns.number("generation", generation)?,
            zone: columns.optional("zone", zone)?,
            pending_email: columns.optional("pending_email", pending_email)?,
            photo: photo_id.map(|photo| columns.id("photo_id", photo)).transpose()?,
            stamp: columns.stamp(stamp)?,
        })
    }
}
