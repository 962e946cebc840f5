//! Events → the read tables in Postgres, in the transaction that moves the checkpoint.
//!
//! For example `AppointmentBooked` becomes a row of `appointments`; a batch of five hundred events is one
//! statement per table. A crash leaves neither rows nor checkpoint.

use async_trait::async_trait;
use domain::Instant;
use domain::account::AccountEvent;
use domain::appointment::AppointmentEvent;
use domain::category::CategoryEvent;
use domain::event::Event;
use domain::ids::{AccountId, AppointmentId, CategoryId, Id, ProviderId, SessionId};
use domain::personal::Personal;
use domain::position::Partition;
use domain::provider::{ProviderEvent, place_of};
use domain::session::SessionEvent;
use domain::waitlist::WaitlistEvent;
use event_log::{EventLog, Recorded, checkpoints};
use read_models::accounts::{AccountChange, AccountWrites};
use read_models::appointment_notes::{Noted, NotesWrites};
use read_models::appointments::AppointmentWrites;
use read_models::categories::{CategoryChange, CategoryWrites};
use read_models::providers::{ProviderChange, ProviderWrites};
use read_models::services::{self, ServiceChange, ServiceWrites};
use read_models::sessions::{self, SessionChange, SessionWrites};
use read_models::table::Stamp;
use read_models::waits::WaitWrites;

use crate::runner::{ApplyError, Batch, Projector};

/// The projector.
pub struct ReadTables {
    log: EventLog,
}

impl ReadTables {
    /// Its name, and that of its checkpoint.
    pub const NAME: &'static str = "read-tables";

    /// The tables are in the log's database.
    pub fn new(log: EventLog) -> Self {
        Self { log }
    }
}

#[async_trait]
impl Projector for ReadTables {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn document(&self, event: &Recorded) -> Option<String> {
        match &event.event {
            Event::Account(_)
            | Event::Provider(_)
            | Event::Appointment(_)
            | Event::Session(_)
            | Event::Category(_)
            | Event::Waitlist(_) => Some(event.stream.to_string()),
            Event::Agenda(_) | Event::NotificationFeed(_) | Event::Hold(_) | Event::Series(_) => {
                None
            }
        }
    }

    async fn position(&self, partition: Partition) -> Result<u64, ApplyError> {
        Ok(checkpoints::get(self.log.pool(), Self::NAME, partition).await?)
    }

    async fn apply(&self, batch: &Batch<'_>) -> Result<(), ApplyError> {
        let mut tables = Tables::default();
        batch.events.iter().for_each(|event| tables.push(event));
        let mut transaction = Batch::begin(&self.log).await?;
        tables.accounts.flush(&mut transaction).await?;
        tables.providers.flush(&mut transaction).await?;
        tables.services.flush(&mut transaction).await?;
        tables.appointments.flush(&mut transaction).await?;
        tables.notes.flush(&mut transaction).await?;
        tables.sessions.flush(&mut transaction).await?;
        tables.categories.flush(&mut transaction).await?;
        tables.waits.flush(&mut transaction).await?;
        sessions::forget_whose(&mut transaction, &tables.erased).await?;
        services::forget_of(&mut transaction, &tables.closed).await?;
        batch.advance(&mut transaction, Self::NAME).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// The changes of a batch, by table.
#[derive(Default)]
struct Tables {
    accounts: AccountWrites,
    providers: ProviderWrites,
    services: ServiceWrites,
    appointments: AppointmentWrites,
    notes: NotesWrites,
    sessions: SessionWrites,
    categories: CategoryWrites,
    waits: WaitWrites,
    /// Whose sessions lose what is personal.
    erased: Vec<AccountId>,
    /// Whose services lose what they were called.
    closed: Vec<ProviderId>,
}

impl Tables {
    fn push(&mut self, event: &Recorded) {
        let stamp = Stamp { at: event.at, version: event.sequence, recorded_at: event.recorded_at };
        match &event.event {
            Event::Account(change) => {
                let id = AccountId::trusted(event.stream.id);
                if let AccountEvent::AccountErased { photo: _ } = change {
                    self.erased.push(id);
                }
                self.accounts.push(id, stamp, account(change));
            }
            Event::Provider(change) => {
                self.provider(ProviderId::trusted(event.stream.id), stamp, change);
            }
            Event::Appointment(change) => {
                let id = AppointmentId::trusted(event.stream.id);
                if let AppointmentEvent::AppointmentNoted { parties, slot: _, by, notes } = change {
                    let notes = notes.as_ref().and_then(Personal::known).cloned();
                    self.notes.push(id, stamp, Noted { parties: *parties, by: *by, notes });
                }
                self.appointments.push(id, stamp, change.into());
            }
            Event::Session(change) => {
                let id = SessionId::trusted(event.stream.id);
                self.sessions.push(id, stamp, session(change, event.recorded_at));
            }
            Event::Category(change) => {
                let id = CategoryId::trusted(event.stream.id);
                self.categories.push(id, stamp, category(change));
            }
            Event::Waitlist(change) => {
                let wait = match change {
                    WaitlistEvent::WaitlistJoined { wait, .. }
                    | WaitlistEvent::SlotOffered { wait, .. }
                    | WaitlistEvent::WaitEnded { wait, .. } => wait.id,
                };
                self.waits.push(wait, stamp, change.into());
            }
            Event::Agenda(_) | Event::NotificationFeed(_) | Event::Hold(_) | Event::Series(_) => {}
        }
    }

    /// A provider's stream feeds two tables: the provider's row and those of its services.
    fn provider(&mut self, id: ProviderId, stamp: Stamp, event: &ProviderEvent) {
        let change = match event {
            ProviderEvent::ProviderOpened {
                account,
                slug,
                business_name,
                hourly_rate,
                schedule,
            } => ProviderChange::Opened {
                account: *account,
                slug: slug.known().cloned(),
                business_name: business_name.known().cloned(),
                hourly_rate: hourly_rate.map(Into::into),
                zone: schedule.zone,
            },
            ProviderEvent::ProfileChanged { business_name, hourly_rate, details } => {
                let details = details.as_ref().and_then(Personal::known);
                ProviderChange::ProfileChanged {
                    business_name: business_name.known().cloned(),
                    hourly_rate: hourly_rate.map(Into::into),
                    details: details.cloned().unwrap_or_default(),
                }
            }
            ProviderEvent::SlugChanged { slug, former } => ProviderChange::SlugChanged {
                slug: slug.known().cloned(),
                former: former.iter().filter_map(Personal::known).cloned().collect(),
            },
            ProviderEvent::StandingSet { standing } => {
                ProviderChange::StandingSet(standing.clone())
            }
            ProviderEvent::WeeklyHoursSet { zone, weekly: _ } => ProviderChange::ZoneSet(*zone),
            ProviderEvent::ServiceAdded { service } => {
                let added = ServiceChange::Added { provider: id, service: service.clone() };
                self.services.push(service.id, stamp, added);
                ProviderChange::Touched
            }
            ProviderEvent::ServiceChanged { service } => {
                self.services.push(service.id, stamp, ServiceChange::Changed(service.clone()));
                ProviderChange::Touched
            }
            ProviderEvent::ServiceRemoved { service } => {
                self.services.push(*service, stamp, ServiceChange::Removed);
                ProviderChange::Touched
            }
            ProviderEvent::ServicesReordered { order } => {
                for (n, service) in order.iter().enumerate() {
                    let placed = ServiceChange::Placed { sort_order: place_of(n) };
                    self.services.push(*service, stamp, placed);
                }
                ProviderChange::Touched
            }
            ProviderEvent::DayOverridden { .. }
            | ProviderEvent::OverrideRemoved { .. }
            | ProviderEvent::HolidaysSet { .. }
            | ProviderEvent::TimeOffTaken { .. }
            | ProviderEvent::TimeOffCancelled { .. }
            | ProviderEvent::PolicySet { .. } => ProviderChange::Touched,
            ProviderEvent::ShopPaused {} => ProviderChange::DoorsSet { is_open: false },
            ProviderEvent::ShopResumed {} => ProviderChange::DoorsSet { is_open: true },
            ProviderEvent::ShopClosed {} => {
                self.closed.push(id);
                ProviderChange::Closed
            }
        };
        self.providers.push(id, stamp, change);
    }
}

fn account(event: &AccountEvent) -> AccountChange {
    match event {
        AccountEvent::AccountRegistered { name, email, phone, locale, zone, roles } => {
            AccountChange::Registered {
                name: name.known().cloned(),
                email: email.known().cloned(),
                phone: phone.as_ref().and_then(Personal::known).cloned(),
                locale: *locale,
                zone: *zone,
                roles: roles.clone(),
            }
        }
        AccountEvent::EmailConfirmed {} => AccountChange::EmailConfirmed,
        AccountEvent::ProfileChanged { name, phone, locale, zone } => AccountChange::ProfileSet {
            name: name.known().cloned(),
            phone: phone.as_ref().and_then(Personal::known).cloned(),
            locale: *locale,
            zone: *zone,
        },
        AccountEvent::EmailChangeRequested { change: _, email } => {
            AccountChange::EmailPending(email.known().cloned())
        }
        AccountEvent::EmailChanged { change: _, email, previous: _ } => {
            AccountChange::EmailChanged(email.known().cloned())
        }
        AccountEvent::PasswordReset {} | AccountEvent::PasswordChanged {} => {
            AccountChange::CredentialsRenewed
        }
        AccountEvent::PhotoChanged { photo, replaced: _ } => AccountChange::PhotoSet(Some(*photo)),
        AccountEvent::PhotoRemoved { photo: _ } => AccountChange::PhotoSet(None),
        AccountEvent::RoleGranted { role } => AccountChange::RoleGranted(*role),
        AccountEvent::RoleRevoked { role } => AccountChange::RoleRevoked(*role),
        AccountEvent::SessionsEnded {} => AccountChange::SessionsEnded,
        AccountEvent::AccountDeactivated { by: _ } => AccountChange::Deactivated,
        AccountEvent::AccountReactivated {} => AccountChange::Reactivated,
        AccountEvent::AccountErased { photo: _ } => AccountChange::Erased,
        AccountEvent::RegistrationAttempted {}
        | AccountEvent::PasswordResetRequested { reset: _, expires_at: _ } => {
            AccountChange::Touched
        }
    }
}

fn category(event: &CategoryEvent) -> CategoryChange {
    match event {
        CategoryEvent::CategoryAdded { listing } => CategoryChange::Added(listing.clone()),
        CategoryEvent::CategoryChanged { listing } => CategoryChange::Changed(listing.clone()),
        CategoryEvent::CategoryRemoved {} => CategoryChange::Removed,
    }
}

fn session(event: &SessionEvent, at: Instant) -> SessionChange {
    match event {
        SessionEvent::SessionStarted { account, generation, expires_at, ip, user_agent } => {
            SessionChange::Started {
                account: *account,
                generation: *generation,
                expires_at: *expires_at,
                ip: ip.as_ref().and_then(Personal::known).cloned(),
                user_agent: user_agent.as_ref().and_then(Personal::known).cloned(),
            }
        }
        SessionEvent::SessionEnded { account: _, reason } => {
            SessionChange::Ended { at, reason: *reason }
        }
    }
}
