//! Migrating a database that is in use: every migration meets rows of those before it.

use event_log::MIGRATOR;
use event_log::testing::TestDatabase;
use sqlx::migrate::Migrate as _;
use uuid::Uuid;

/// A row of each table that a later migration changes, as it was before accounts grew (0004).
const BEFORE_ACCOUNTS: &str = "
    INSERT INTO accounts VALUES (gen_random_uuid(), 0, 1, 1, 'Ávila', 'a@example.com', NULL, 'en',
        '{client}', true, now(), now());
    INSERT INTO providers VALUES (gen_random_uuid(), 0, 1, 1, gen_random_uuid(), 'avila', 'Ávila',
        'ávila', 'Europe/Lisbon', NULL, NULL, true, now(), now());
    INSERT INTO services VALUES (gen_random_uuid(), 0, 1, 1, gen_random_uuid(), 'Cut', NULL, 60, 60,
        0, 0, 1, NULL, NULL, false, now(), now());
    INSERT INTO appointments VALUES (gen_random_uuid(), 0, 1, 1, gen_random_uuid(),
        gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'Cut', now(), now(),
        'Europe/Lisbon', now()::timestamp, 'pending', NULL, NULL, 'Ana', 'ana@example.com', NULL,
        NULL, NULL, now(), now());
    INSERT INTO jobs VALUES (gen_random_uuid(), 'SendConfirmation', '{}', 2, now(), 0, 12, NULL,
        NULL, NULL, now());";

#[tokio::test]
async fn every_migration_leaves_the_rows_of_before_in_place() {
    let database = TestDatabase::create().await;
    let pool = database.pool();
    let empty = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
    sqlx::raw_sql(empty).execute(pool).await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    connection.ensure_migrations_table().await.unwrap();
    for migration in MIGRATOR.iter() {
        if migration.version == 4 {
            sqlx::raw_sql(BEFORE_ACCOUNTS).execute(&mut *connection).await.unwrap();
        }
        connection.apply(migration).await.unwrap();
    }
    MIGRATOR.run(pool).await.unwrap();
    let account: (Option<String>, String, i64) =
        sqlx::query_as("SELECT name, status, generation FROM accounts")
            .fetch_one(pool)
            .await
            .unwrap();
    assert_eq!(account, (Some("Ávila".to_owned()), "active".to_owned(), 0));
    let booked: (Option<String>, Option<Uuid>) =
        sqlx::query_as("SELECT service_name, reason_by FROM appointments")
            .fetch_one(pool)
            .await
            .unwrap();
    assert_eq!(booked, (Some("Cut".to_owned()), None));
    for table in ["providers", "services", "jobs"] {
        let rows: i64 = sqlx::query_scalar(&format!("SELECT count(*) FROM {table}"))
            .fetch_one(pool)
            .await
            .unwrap();
        assert_eq!(rows, 1, "{table}");
    }
}
