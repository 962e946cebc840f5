//! Accounts as their owners see them. `AccountRegistered` begins a row, `EmailConfirmed` and `RoleGranted`
//! change it; once the person is erased the log gives `None` for what was personal, and NULL is stored.

use domain::actor::Role;
use domain::ids::{AccountId, Id};
use domain::locale::Locale;
use domain::text::{EmailAddress, PersonName, Phone};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::table::{
    Columns, RawStamp, RowStamp, StampColumns, Table, TableError, Writes, database,
};

const TABLE: &str = "accounts";

macro_rules! columns {
    () => {
        "id, partition, position, version, name, email, phone, locale, roles, email_confirmed, \
         created_at, updated_at"
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
        /// What they may be.
        roles: Vec<Role>,
    },
    /// The address was confirmed.
    EmailConfirmed,
    /// They may be one thing more.
    RoleGranted(Role),
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
            AccountChange::Registered { name, email, phone, locale, roles } => Some(AccountRow {
                id,
                name,
                email,
                phone,
                locale,
                roles,
                email_confirmed: false,
                stamp,
            }),
            AccountChange::EmailConfirmed
            | AccountChange::RoleGranted(_)
            | AccountChange::Touched => None,
        }
    }

    fn change(row: &mut AccountRow, change: AccountChange) {
        match change {
            AccountChange::Registered { name, email, phone, locale, roles } => {
                let (id, stamp, email_confirmed) = (row.id, row.stamp, false);
                *row = AccountRow { id, name, email, phone, locale, roles, email_confirmed, stamp };
            }
            AccountChange::EmailConfirmed => row.email_confirmed = true,
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
        // UNNEST flattens arrays of arrays: roles travel joined.
        let roles: Vec<String> = rows
            .iter()
            .map(|row| row.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(","))
            .collect();
        let done = sqlx::query(
            "INSERT INTO accounts AS t (id, partition, position, version, name, email, phone, locale,
                 roles, email_confirmed, created_at, updated_at)
             SELECT id, partition, position, version, name, email, phone, locale,
                 string_to_array(roles, ','), email_confirmed, created_at, updated_at
             FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::text[], $6::text[],
                 $7::text[], $8::text[], $9::text[], $10::boolean[], $11::timestamptz[],
                 $12::timestamptz[])
               AS u (id, partition, position, version, name, email, phone, locale, roles,
                 email_confirmed, created_at, updated_at)
             ON CONFLICT (id) DO UPDATE SET
                 partition = excluded.partition, position = excluded.position,
                 version = excluded.version, name = excluded.name, email = excluded.email,
                 phone = excluded.phone, locale = excluded.locale, roles = excluded.roles,
                 email_confirmed = excluded.email_confirmed, created_at = excluded.created_at,
                 updated_at = excluded.updated_at
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

#[derive(sqlx::FromRow)]
struct Raw {
    id: Uuid,
    name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    locale: String,
    roles: Vec<String>,
    email_confirmed: bool,
    #[sqlx(flatten)]
    stamp: RawStamp,
}

impl TryFrom<Raw> for AccountRow {
    type Error = TableError;
    fn try_from(raw: Raw) -> Result<Self, TableError> {
        let Raw { id, name, email, phone, locale, roles, email_confirmed, stamp } = raw;
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
            stamp: columns.stamp(stamp)?,
        })
    }
}
