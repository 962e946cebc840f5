//! The notification feed in MongoDB (K7).
//!
//! A notification's `_id` is `recipient:partition:number`. Batches are `update` commands of many upserts, which
//! every server since 2.6 understands. Content is `$set`, a mark is `$min` of `read_at_us`, "all read" is
//! `$max` in the account's own document: all of them commute and repeat without effect. The checkpoint is
//! written last. Both are acknowledged by a majority that has them in its journals: a checkpoint must outlive no
//! election that its data did not. Instants are kept as microseconds, for BSON dates know only milliseconds.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use domain::Instant;
use domain::hours::Zone;
use domain::ids::{AccountId, ProviderId, SubjectId};
use domain::position::{Partition, PartitionCount, Position, PositionToken};
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{Acknowledgment, ClientOptions, WriteConcern};
use mongodb::{Client, Database, IndexModel};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::{
    Counts, FeedBatch, FeedError, FeedKey, Filter, Folded, NewNotification, Notification,
    NotificationFeed, NotificationKind, PartyName,
};
use crate::paging::{self, Page, PageLimit};
use crate::table::bigint;

const LIST: &str = "notifications";

/// How many upserts one command carries.
const CHUNK: usize = 500;

/// How often writes that collided with another's insert of the same document are tried.
const ATTEMPTS: usize = 4;

const DUPLICATE_KEY: i32 = 11000;

/// How the feed uses MongoDB.
#[derive(Debug, Clone)]
pub struct MongoOptions {
    /// The database, where the URL names none.
    pub database: String,
    /// Which generation of the feed: a rebuild fills the next one beside it.
    pub generation: u32,
    /// How long to look for a server; the driver's own default is 30 s.
    pub server_selection_timeout: Duration,
    /// How long any call may take.
    pub timeout: Duration,
}

impl Default for MongoOptions {
    fn default() -> Self {
        Self {
            database: "pontual".to_owned(),
            generation: 1,
            server_selection_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
        }
    }
}

/// The feed in MongoDB.
pub struct MongoFeed {
    database: Database,
    partitions: PartitionCount,
    timeout: Duration,
    suffix: String,
    indexed: OnceCell<()>,
}

impl MongoFeed {
    /// Connects when it is first used, so that a MongoDB that is down stops nobody from starting.
    pub async fn new(
        url: &str,
        partitions: PartitionCount,
        options: MongoOptions,
    ) -> Result<Self, FeedError> {
        let MongoOptions { database, generation, server_selection_timeout, timeout } = options;
        let mut client = in_time(timeout, ClientOptions::parse(url).into_future()).await?;
        client.server_selection_timeout = Some(server_selection_timeout);
        client.connect_timeout = Some(server_selection_timeout);
        // Whatever the URL says: what was purged must not come back with an election.
        client.write_concern = Some(durable());
        client.app_name.get_or_insert_with(|| "pontual".to_owned());
        let database = client.default_database.clone().unwrap_or(database);
        let client = Client::with_options(client).map_err(unavailable)?;
        let suffix = if generation == 1 { String::new() } else { format!("_g{generation}") };
        let database = client.database(&database);
        Ok(Self { database, partitions, timeout, suffix, indexed: OnceCell::new() })
    }

    fn name(&self, collection: &str) -> String {
        format!("{collection}{}", self.suffix)
    }

    fn notifications(&self) -> mongodb::Collection<Stored> {
        self.database.collection(&self.name("notifications"))
    }

    fn feeds(&self) -> mongodb::Collection<FeedState> {
        self.database.collection(&self.name("notification_feeds"))
    }

    fn checkpoints(&self) -> mongodb::Collection<Checkpoint> {
        self.database.collection(&self.name("notification_checkpoints"))
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = mongodb::error::Result<T>>,
    ) -> Result<T, FeedError> {
        in_time(self.timeout, call).await
    }

    /// Makes the indexes before the first write; asking again costs nothing.
    async fn ensure_indexes(&self) -> Result<(), FeedError> {
        let make = async || {
            let index = |keys: Document| IndexModel::builder().keys(keys).build();
            let indexes = [
                index(doc! { "recipient": 1, "recorded_at_us": -1, "partition": -1, "number": -1 }),
                index(doc! { "recipient": 1, "partition": 1, "number": 1 }),
                index(doc! { "other": 1 }),
            ];
            let notifications = self.notifications();
            self.in_time(notifications.create_indexes(indexes).into_future()).await.map(drop)
        };
        self.indexed.get_or_try_init(make).await.copied()
    }

    /// Runs upserts, unordered. Those that collided with another's insert of the same document are tried again.
    async fn upsert(&self, collection: &str, updates: Vec<Document>) -> Result<(), FeedError> {
        for chunk in updates.chunks(CHUNK) {
            let mut chunk = chunk.to_vec();
            for attempt in 1.. {
                let command = update(self.name(collection), chunk.clone());
                let answer = self.in_time(self.database.run_command(command).into_future()).await?;
                let errors = write_errors(&answer)?;
                if errors.is_empty() {
                    break;
                }
                let refused = errors.values().find(|code| **code != DUPLICATE_KEY);
                if refused.is_some() || attempt == ATTEMPTS {
                    let code = *refused.unwrap_or(&DUPLICATE_KEY);
                    return Err(FeedError::Refused { code });
                }
                let mut index = 0;
                chunk.retain(|_| {
                    index += 1;
                    errors.contains_key(&(index - 1))
                });
            }
        }
        Ok(())
    }

    /// Moves the checkpoint on, unless the batch began beyond it.
    async fn advance(&self, partition: Partition, from: u64, to: u64) -> Result<(), FeedError> {
        let id = i32::from(partition.0);
        let mut query = doc! { "_id": id };
        // The first batch makes the checkpoint.
        if from > 0 {
            query.insert("position", doc! { "$gte": bigint(from) });
        }
        let statement = doc! {
            "q": query,
            "u": { "$max": { "position": bigint(to) } },
            "upsert": from == 0,
        };
        let command = update(self.name("notification_checkpoints"), vec![statement]);
        let answer = self.in_time(self.database.run_command(command).into_future()).await?;
        if let Some(code) = write_errors(&answer)?.into_values().next() {
            return Err(FeedError::Refused { code });
        }
        let matched = answer.get_i32("n").unwrap_or_default();
        if matched == 0 {
            let applied = self.applied(partition).await?;
            return Err(FeedError::Gap { partition, applied });
        }
        Ok(())
    }

    async fn find(
        &self,
        query: Document,
        sort: Document,
        limit: i64,
    ) -> Result<Vec<Stored>, FeedError> {
        self.in_time(async {
            let collection = self.notifications();
            let mut cursor =
                collection.find(query).sort(sort).limit(limit).max_time(self.timeout).await?;
            let mut found = Vec::new();
            while cursor.advance().await? {
                found.push(cursor.deserialize_current()?);
            }
            Ok(found)
        })
        .await
    }

    async fn all_read_until(&self, recipient: AccountId) -> Result<Option<i64>, FeedError> {
        let feeds = self.feeds();
        let find = feeds.find_one(doc! { "_id": recipient.to_string() }).into_future();
        Ok(self.in_time(find).await?.map(|feed| feed.all_read_until_us))
    }

    async fn count(&self, query: Document) -> Result<u64, FeedError> {
        let notifications = self.notifications();
        let count = notifications.count_documents(query).limit(Counts::MOST);
        self.in_time(count.max_time(self.timeout).into_future()).await
    }
}

#[async_trait]
impl NotificationFeed for MongoFeed {
    async fn apply(&self, batch: FeedBatch) -> Result<(), FeedError> {
        self.ensure_indexes().await?;
        let Folded { documents, all_read } = batch.fold();
        let upserts = documents
            .iter()
            .map(|((recipient, at), entry)| {
                let mut update = Document::new();
                if let Some(new) = entry.content {
                    update.insert("$set", content(new));
                }
                if let Some(read_at) = entry.read_at {
                    update.insert("$min", doc! { "read_at_us": read_at.timestamp_micros() });
                    if entry.content.is_none() {
                        // A mere mark is its owner's too: a purge must find it.
                        update.insert("$set", doc! { "recipient": recipient.to_string() });
                    }
                }
                doc! { "q": { "_id": format!("{recipient}:{at}") }, "u": update, "upsert": true }
            })
            .collect();
        self.upsert("notifications", upserts).await?;
        let upserts = all_read
            .iter()
            .map(|(recipient, until)| {
                doc! {
                    "q": { "_id": recipient.to_string() },
                    "u": { "$max": { "all_read_until_us": until.timestamp_micros() } },
                    "upsert": true,
                }
            })
            .collect();
        self.upsert("notification_feeds", upserts).await?;
        self.advance(batch.partition, batch.from, batch.to).await
    }

    async fn applied(&self, partition: Partition) -> Result<u64, FeedError> {
        let checkpoints = self.checkpoints();
        let find = checkpoints.find_one(doc! { "_id": i32::from(partition.0) }).into_future();
        let found = self.in_time(find).await?;
        found.map_or(Ok(0), |checkpoint| number(checkpoint.position, "position"))
    }

    async fn applied_all(&self) -> Result<PositionToken, FeedError> {
        let found = self
            .in_time(async {
                let mut cursor = self.checkpoints().find(doc! {}).max_time(self.timeout).await?;
                let mut found = Vec::new();
                while cursor.advance().await? {
                    found.push(cursor.deserialize_current()?);
                }
                Ok(found)
            })
            .await?;
        found
            .into_iter()
            .map(|Checkpoint { partition, position: number }| position(partition, number))
            .collect()
    }

    async fn list(
        &self,
        recipient: AccountId,
        filter: Filter,
        cursor: Option<&str>,
        limit: PageLimit,
    ) -> Result<Page<Notification>, FeedError> {
        let before: Option<FeedKey> = paging::decode(LIST, cursor)?;
        let all_read_until = self.all_read_until(recipient).await?;
        let mut query = of_recipient(recipient, filter, all_read_until);
        if let Some((recorded_at, partition, number)) = before {
            let (us, partition) = (recorded_at.timestamp_micros(), i32::from(partition.0));
            query.insert(
                "$or",
                vec![
                    doc! { "recorded_at_us": { "$lt": us } },
                    doc! { "recorded_at_us": us, "partition": { "$lt": partition } },
                    doc! {
                        "recorded_at_us": us,
                        "partition": partition,
                        "number": { "$lt": bigint(number) },
                    },
                ],
            );
        }
        let newest_first = doc! { "recorded_at_us": -1, "partition": -1, "number": -1 };
        let found = self.find(query, newest_first, limit.and_one()).await?;
        let items = read(recipient, found, all_read_until)?;
        Ok(Page::cut(items, limit, LIST, |item| item.content.key()))
    }

    async fn after(
        &self,
        recipient: AccountId,
        seen: &PositionToken,
        limit: PageLimit,
    ) -> Result<Vec<Notification>, FeedError> {
        let all_read_until = self.all_read_until(recipient).await?;
        let mut query = of_recipient(recipient, Filter::All, None);
        let unseen: Vec<Document> = self
            .partitions
            .all()
            .map(|partition| {
                let number = doc! { "$gt": bigint(seen.number(partition)) };
                doc! { "partition": i32::from(partition.0), "number": number }
            })
            .collect();
        query.insert("$or", unseen);
        let oldest_first = doc! { "recorded_at_us": 1, "partition": 1, "number": 1 };
        let found = self.find(query, oldest_first, limit.get().into()).await?;
        read(recipient, found, all_read_until)
    }

    async fn counts(&self, recipient: AccountId) -> Result<Counts, FeedError> {
        let all_read_until = self.all_read_until(recipient).await?;
        let (unread, total) = tokio::try_join!(
            self.count(of_recipient(recipient, Filter::Unread, all_read_until)),
            self.count(of_recipient(recipient, Filter::All, None)),
        )?;
        Ok(Counts { unread, total })
    }

    async fn purge(&self, person: SubjectId, shops: &[ProviderId]) -> Result<(), FeedError> {
        let id = person.to_string();
        let (notifications, feeds) = (self.notifications(), self.feeds());
        let shops: Vec<String> = shops.iter().map(ToString::to_string).collect();
        let booked = doc! { "other": &id, "provider": { "$in": shops } };
        let unname = doc! { "$unset": { "service_name": "" } };
        self.in_time(notifications.update_many(booked, unname).into_future()).await?;
        let unname = doc! { "$unset": { "other_name": "" } };
        self.in_time(notifications.update_many(doc! { "other": &id }, unname).into_future())
            .await?;
        self.in_time(notifications.delete_many(doc! { "recipient": &id }).into_future()).await?;
        self.in_time(feeds.delete_one(doc! { "_id": &id }).into_future()).await?;
        Ok(())
    }
}

#[cfg(test)]
impl MongoFeed {
    /// Drops the database of a test.
    pub(super) async fn drop_database(&self) {
        self.database.drop().await.expect("MongoDB answers");
    }
}

/// A notification as it is stored, without the fields only queries need.
#[derive(Deserialize)]
struct Stored {
    partition: i32,
    number: i64,
    kind: String,
    appointment: Option<String>,
    hold: Option<String>,
    provider: String,
    other: String,
    other_name: Option<String>,
    service_name: Option<String>,
    start_us: i64,
    old_start_us: Option<i64>,
    zone: String,
    recorded_at_us: i64,
    read_at_us: Option<i64>,
}

#[derive(Deserialize)]
struct FeedState {
    all_read_until_us: i64,
}

#[derive(Deserialize)]
struct Checkpoint {
    #[serde(rename = "_id")]
    partition: i32,
    position: i64,
}

fn content(new: &NewNotification) -> Document {
    let NewNotification {
        recipient,
        at,
        recorded_at,
        kind,
        appointment,
        hold,
        provider,
        other,
        other_name,
        service_name,
        start,
        old_start,
        zone,
    } = new;
    let mut content = doc! {
        "recipient": recipient.to_string(),
        "partition": i32::from(at.partition.0),
        "number": bigint(at.number),
        "recorded_at_us": recorded_at.timestamp_micros(),
        "kind": kind.as_str(),
        "provider": provider.to_string(),
        "other": other.to_string(),
        "start_us": start.timestamp_micros(),
        "zone": zone.name(),
    };
    if let Some(appointment) = appointment {
        content.insert("appointment", appointment.to_string());
    }
    if let Some(hold) = hold {
        content.insert("hold", hold.to_string());
    }
    if let Some(name) = other_name {
        content.insert("other_name", name.as_str());
    }
    if let Some(name) = service_name {
        content.insert("service_name", name.as_str());
    }
    if let Some(start) = old_start {
        content.insert("old_start_us", start.timestamp_micros());
    }
    content
}

/// A recipient's notifications. A mere mark has no `recorded_at_us`, so no comparison finds it.
fn of_recipient(recipient: AccountId, filter: Filter, all_read_until: Option<i64>) -> Document {
    let recorded_after = match filter {
        Filter::All => i64::MIN,
        Filter::Unread => all_read_until.unwrap_or(i64::MIN),
    };
    let mut query = doc! {
        "recipient": recipient.to_string(),
        "recorded_at_us": { "$gt": recorded_after },
    };
    match filter {
        Filter::All => {}
        Filter::Unread => {
            query.insert("read_at_us", doc! { "$exists": false });
        }
    }
    query
}

fn read(
    recipient: AccountId,
    found: Vec<Stored>,
    all_read_until: Option<i64>,
) -> Result<Vec<Notification>, FeedError> {
    found
        .into_iter()
        .map(|stored| {
            let Stored {
                partition,
                number,
                kind,
                appointment,
                hold,
                provider,
                other,
                other_name,
                service_name,
                start_us,
                old_start_us,
                zone,
                recorded_at_us,
                read_at_us,
            } = stored;
            let content = NewNotification {
                recipient,
                at: position(partition, number)?,
                recorded_at: instant("recorded_at_us", recorded_at_us)?,
                kind: NotificationKind::parse(&kind)?,
                appointment: appointment.map(|id| parse("appointment", &id)).transpose()?,
                hold: hold.map(|id| parse("hold", &id)).transpose()?,
                provider: parse("provider", &provider)?,
                other: parse("other", &other)?,
                other_name: other_name.map(PartyName),
                service_name: service_name.map(|name| parse("service_name", &name)).transpose()?,
                start: instant("start_us", start_us)?,
                old_start: old_start_us.map(|us| instant("old_start_us", us)).transpose()?,
                zone: parse::<Zone>("zone", &zone)?,
            };
            let read = read_at_us.is_some() || Some(recorded_at_us) <= all_read_until;
            Ok(Notification { content, read })
        })
        .collect()
}

fn parse<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<T, FeedError> {
    text.parse().map_err(|_| FeedError::Corrupt { field })
}

fn instant(field: &'static str, us: i64) -> Result<Instant, FeedError> {
    DateTime::from_timestamp_micros(us).ok_or(FeedError::Corrupt { field })
}

fn number(number: i64, field: &'static str) -> Result<u64, FeedError> {
    number.try_into().map_err(|_| FeedError::Corrupt { field })
}

fn position(partition: i32, of: i64) -> Result<Position, FeedError> {
    let partition = partition.try_into().map_err(|_| FeedError::Corrupt { field: "partition" })?;
    Ok(Position { partition: Partition(partition), number: number(of, "number")? })
}

/// Acknowledged by a majority that has it in its journals. A command that is run by hand says so itself, in [`update`].
fn durable() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build()
}

/// The command that writes, data and checkpoints alike.
fn update(collection: String, statements: Vec<Document>) -> Document {
    doc! {
        "update": collection,
        "updates": statements,
        "ordered": false,
        "writeConcern": { "w": "majority", "j": true },
    }
}

/// The code of each statement that failed, by its index. The driver does not look for them in a command's
/// answer.
fn write_errors(answer: &Document) -> Result<BTreeMap<i32, i32>, FeedError> {
    if let Ok(error) = answer.get_document("writeConcernError") {
        return Err(FeedError::Refused { code: error.get_i32("code").unwrap_or_default() });
    }
    let Ok(errors) = answer.get_array("writeErrors") else { return Ok(BTreeMap::new()) };
    Ok(errors
        .iter()
        .filter_map(Bson::as_document)
        .map(|error| {
            let code = error.get_i32("code").unwrap_or_default();
            (error.get_i32("index").unwrap_or_default(), code)
        })
        .collect())
}

async fn in_time<T>(
    timeout: Duration,
    call: impl Future<Output = mongodb::error::Result<T>>,
) -> Result<T, FeedError> {
    match tokio::time::timeout(timeout, call).await {
        Ok(answer) => answer.map_err(unavailable),
        Err(elapsed) => Err(FeedError::Unavailable(Box::new(elapsed))),
    }
}

fn unavailable(error: mongodb::error::Error) -> FeedError {
    FeedError::Unavailable(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_write_outlives_an_election_whatever_the_url_says() {
        let url = "mongodb://127.0.0.1:1/?w=1&journal=false";
        let partitions = PartitionCount::new(1).unwrap();
        let feed = MongoFeed::new(url, partitions, MongoOptions::default()).await.unwrap();
        for written in [feed.notifications().write_concern(), feed.feeds().write_concern()] {
            assert_eq!(written, Some(&durable()));
        }
        let by_hand = update("a".to_owned(), Vec::new());
        assert_eq!(
            by_hand.get_document("writeConcern").unwrap(),
            &doc! { "w": "majority", "j": true }
        );
    }
}
