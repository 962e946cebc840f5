//! Provider: a shop, its hours, its policy and the services it offers.
//!
//! A new provider starts with the classic profile (K1): one 60-minute service, every day 08:00–18:00, so
//! that it can be booked with no set-up.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use serde::{Deserialize, Deserializer, Serialize};

use crate::Refusal;
use crate::account::{Account, AccountCommand, signed_in};
use crate::actor::Role;
use crate::aggregate::{Aggregate, Context, StreamKind, aggregate};
use crate::category::Category;
use crate::command::{ClaimKind, Command, Stop, Target, View};
use crate::hours::{InvalidHours, Policy, WeeklyHours, Windows, Zone, within};
use crate::ids::{AccountId, CategoryId, Id, ProviderId, ServiceId};
use crate::locale::Locale;
use crate::money::{HourlyRate, Money};
use crate::personal::Personal;
use crate::slots::{Measure, Schedule};
use crate::text::{BusinessName, Description, NewSlug, ServiceName, Slug};

pub use self::details::{Details, InvalidPoint, Point, Specializations};
pub use self::slug::{ChangeSlug, SlugIsChanged};
pub use self::standing::{ProviderStands, SetProviderStanding, Standing};

mod details;
mod slug;
mod standing;

/// A shop.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Provider {
    /// `None` until opened.
    pub shop: Option<Shop>,
    /// Hours, overrides and policy.
    pub schedule: Schedule,
    /// What it offers, by id; removed services are gone.
    pub services: BTreeMap<ServiceId, Service>,
    /// Whether it can be found and booked.
    pub doors: Doors,
    /// How the installation sees it.
    #[serde(default)]
    pub standing: Standing,
}

/// Whether a shop can be found and booked. Its owner's account decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doors {
    /// Yes.
    #[default]
    Open,
    /// Not while its owner is deactivated.
    Paused,
    /// Never again: its owner was erased.
    Closed,
}

/// Who runs the shop and what it is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shop {
    /// Whose it is.
    pub account: AccountId,
    /// Its name in URLs.
    pub slug: Personal<Slug>,
    /// Its name.
    pub business_name: Personal<BusinessName>,
    /// What an hour costs where a service has no price of its own (K14).
    pub hourly_rate: Option<HourlyRate>,
    /// What else it says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Personal<Box<Details>>>,
    /// What its page was called before, the newest last: those lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_slugs: Vec<Personal<Slug>>,
}

/// Something one can book. What it says is its shop's owner's, and goes with them; numbers stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// Its name.
    pub name: Personal<ServiceName>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Personal<Description>>,
    /// What kind of service it is. The category may be gone since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<CategoryId>,
    /// Whether it is offered at present: listed, and to be booked.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub is_active: bool,
    /// Where it stands in the shop's list: by this number, then by age.
    #[serde(default, skip_serializing_if = "is_first")]
    pub sort_order: u16,
    /// Elapsed minutes, 5–1440.
    #[serde(deserialize_with = "bounded::<_, 5, 1440>")]
    pub duration_minutes: u16,
    /// Local minutes between two starts, 5–1440.
    #[serde(deserialize_with = "bounded::<_, 5, 1440>")]
    pub interval_minutes: u16,
    /// Its price; `None` takes the shop's hourly rate (K14).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Money>,
    /// Minutes kept free before, 0–240.
    #[serde(deserialize_with = "bounded::<_, 0, 240>")]
    pub buffer_before_minutes: u16,
    /// Minutes kept free after, 0–240.
    #[serde(deserialize_with = "bounded::<_, 0, 240>")]
    pub buffer_after_minutes: u16,
    /// How many can book the same slot, 1–500.
    #[serde(deserialize_with = "bounded::<_, 1, 500>")]
    pub capacity: u16,
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_yes(it: &bool) -> bool {
    *it
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_first(number: &u16) -> bool {
    *number == 0
}

/// What a service is to be, as somebody asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Its name.
    pub name: ServiceName,
    /// More about it.
    pub description: Option<Description>,
    /// What kind of service it is.
    pub category: Option<CategoryId>,
    /// Whether it is offered at present.
    pub is_active: bool,
    /// Elapsed minutes, 5–1440.
    pub duration_minutes: u16,
    /// Local minutes between two starts, 5–1440; the duration where nothing else is said (K1).
    pub interval_minutes: u16,
    /// Its price; `None` takes the shop's hourly rate (K14).
    pub price: Option<Money>,
    /// Minutes kept free before, 0–240.
    pub buffer_before_minutes: u16,
    /// Minutes kept free after, 0–240.
    pub buffer_after_minutes: u16,
    /// How many can book the same slot, 1–500.
    pub capacity: u16,
}

impl Offer {
    /// The offer, if its numbers are in bounds.
    pub fn checked(self) -> Result<Self, InvalidHours> {
        within("duration_minutes", self.duration_minutes.into(), 5, 1440)?;
        within("interval_minutes", self.interval_minutes.into(), 5, 1440)?;
        within("buffer_before_minutes", self.buffer_before_minutes.into(), 0, 240)?;
        within("buffer_after_minutes", self.buffer_after_minutes.into(), 0, 240)?;
        within("capacity", self.capacity.into(), 1, 500)?;
        Ok(self)
    }

    /// One hour, no price of its own: the classic profile's only service (K1, `S0-25`).
    pub fn classic(locale: Locale) -> Self {
        Self {
            name: locale.pick("Atendimento", "Appointment").parse().expect("a fixed name is valid"),
            description: None,
            category: None,
            is_active: true,
            duration_minutes: 60,
            interval_minutes: 60,
            price: None,
            buffer_before_minutes: 0,
            buffer_after_minutes: 0,
            capacity: 1,
        }
    }
}

/// A service whose numbers are out of bounds was not written by a program like this one: slots are not computed from it.
fn bounded<'de, D: Deserializer<'de>, const LEAST: u16, const MOST: u16>(
    number: D,
) -> Result<u16, D::Error> {
    let number = u16::deserialize(number)?;
    within("a service's number", number.into(), LEAST.into(), MOST.into())
        .map_err(serde::de::Error::custom)?;
    Ok(number)
}

impl Service {
    /// What the owner of a shop offers there.
    pub fn of(owner: AccountId, id: ServiceId, offer: Offer) -> Self {
        let Offer {
            name,
            description,
            category,
            is_active,
            duration_minutes,
            interval_minutes,
            price,
            buffer_before_minutes,
            buffer_after_minutes,
            capacity,
        } = offer;
        Self {
            id,
            name: Personal::of(owner, name),
            description: description.map(|text| Personal::of(owner, text)),
            category,
            is_active,
            sort_order: 0,
            duration_minutes,
            interval_minutes,
            price,
            buffer_before_minutes,
            buffer_after_minutes,
            capacity,
        }
    }

    /// What slot arithmetic needs.
    pub fn measure(&self) -> Measure {
        Measure {
            service: self.id,
            duration_minutes: self.duration_minutes,
            interval_minutes: self.interval_minutes,
            buffer_before_minutes: self.buffer_before_minutes,
            buffer_after_minutes: self.buffer_after_minutes,
            capacity: self.capacity,
        }
    }

    /// The same, its texts `owner`'s. Those of version 1 of its events name nobody.
    fn owned_by(self, owner: AccountId) -> Self {
        let name = self.name.owned_by(owner);
        let description = self.description.map(|text| text.owned_by(owner));
        Self { name, description, ..self }
    }
}

/// What can be asked of a provider.
#[derive(Debug, Clone, PartialEq)]
pub enum ProviderCommand {
    /// Open the shop.
    Open {
        /// Whose and what.
        shop: Box<Shop>,
        /// Hours and policy.
        schedule: Box<Schedule>,
        /// The first service.
        service: Service,
    },
    /// Change name, rate, and what else it says of itself.
    ChangeProfile {
        /// The new name.
        business_name: Personal<BusinessName>,
        /// The new rate.
        hourly_rate: Option<HourlyRate>,
        /// What else it says.
        details: Option<Personal<Box<Details>>>,
    },
    /// Give its page another name.
    ChangeSlug {
        /// The new one.
        slug: Personal<Slug>,
        /// Those that lead to it.
        former: Vec<Personal<Slug>>,
    },
    /// Set badge and plan.
    SetStanding(Standing),
    /// Set the zone and the weekly windows.
    SetWeeklyHours {
        /// The zone the windows are in.
        zone: Zone,
        /// The windows.
        weekly: WeeklyHours,
    },
    /// Make one day differ.
    OverrideDay {
        /// Which local date.
        day: NaiveDate,
        /// Its windows; none is a day off.
        windows: Windows,
    },
    /// Let a day be as its weekday again.
    RemoveOverride {
        /// Which local date.
        day: NaiveDate,
    },
    /// Set the booking policy.
    SetPolicy(Policy),
    /// Offer a service.
    AddService(Service),
    /// Change a service; standing appointments keep what they were booked with.
    ChangeService(Service),
    /// Offer a service no longer.
    RemoveService(ServiceId),
    /// List its services in this order: all of them.
    ReorderServices(Vec<ServiceId>),
    /// Take no bookings while the owner is away.
    Pause,
    /// Take bookings again.
    Resume,
    /// Close for good.
    Close,
}

/// What happened to a provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ProviderEvent {
    /// The shop opened.
    ProviderOpened {
        /// Whose it is.
        account: AccountId,
        /// Its name in URLs.
        slug: Personal<Slug>,
        /// Its name.
        business_name: Personal<BusinessName>,
        /// What an hour costs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hourly_rate: Option<HourlyRate>,
        /// Hours and policy.
        schedule: Schedule,
    },
    /// What it says of itself changed.
    ProfileChanged {
        /// The new name.
        business_name: Personal<BusinessName>,
        /// The new rate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hourly_rate: Option<HourlyRate>,
        /// What else it says now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<Personal<Box<Details>>>,
    },
    /// Its page has another name.
    SlugChanged {
        /// The new one.
        slug: Personal<Slug>,
        /// Those that lead to it, the newest last.
        former: Vec<Personal<Slug>>,
    },
    /// An administrator set its badge and plan.
    StandingSet {
        /// What it has now.
        standing: Standing,
    },
    /// The weekly windows were set.
    WeeklyHoursSet {
        /// The zone.
        zone: Zone,
        /// The windows.
        weekly: WeeklyHours,
    },
    /// A day differs.
    DayOverridden {
        /// Which.
        day: NaiveDate,
        /// Its windows.
        windows: Windows,
    },
    /// A day is as its weekday again.
    OverrideRemoved {
        /// Which.
        day: NaiveDate,
    },
    /// The booking policy was set.
    PolicySet {
        /// The policy.
        policy: Policy,
    },
    /// A service is offered.
    ServiceAdded {
        /// The service.
        service: Service,
    },
    /// A service changed.
    ServiceChanged {
        /// The service as it is now.
        service: Service,
    },
    /// A service is no longer offered.
    ServiceRemoved {
        /// Which.
        service: ServiceId,
    },
    /// Its services are listed in another order.
    ServicesReordered {
        /// All of them, in that order.
        order: Vec<ServiceId>,
    },
    /// It cannot be found or booked for now: its owner was deactivated.
    ShopPaused {},
    /// It can be found and booked again.
    ShopResumed {},
    /// It is closed for good: its owner was erased.
    ShopClosed {},
}

aggregate!(Provider(ProviderId), ProviderCommand => ProviderEvent {
    ProviderOpened = "2",
    ProfileChanged = "1",
    WeeklyHoursSet = "1",
    DayOverridden = "1",
    OverrideRemoved = "1",
    PolicySet = "1",
    ServiceAdded = "2",
    ServiceChanged = "2",
    ServiceRemoved = "1",
    SlugChanged = "1",
    StandingSet = "1",
    ServicesReordered = "1",
    ShopPaused = "1",
    ShopResumed = "1",
    ShopClosed = "1",
});

impl Provider {
    /// The most services a shop may offer.
    pub const MAX_SERVICES: usize = 200;
    /// How many former slugs lead to a shop's page.
    pub const MAX_FORMER_SLUGS: usize = 10;
    /// The most overridden days a shop may have.
    pub const MAX_OVERRIDES: usize = 1000;
    /// How many days back and ahead a day may be overridden: five times the longest horizon. An absurd date
    /// would be one more that every reader has to be able to store.
    pub const OVERRIDE_REACH_DAYS: u32 = 3650;

    /// The shop, if it was opened and can be found and booked.
    pub fn open(&self) -> Result<&Shop, Refusal> {
        self.shop
            .as_ref()
            .filter(|_| self.doors == Doors::Open)
            .ok_or(Refusal::NotFound("provider"))
    }

    /// A service that can be booked. One that is not offered at present is to clients as if it were not there.
    pub fn offered(&self, id: ServiceId) -> Result<&Service, Refusal> {
        let service = self.service(id)?;
        if service.is_active { Ok(service) } else { Err(Refusal::NotFound("service")) }
    }

    /// A service it has.
    pub fn service(&self, id: ServiceId) -> Result<&Service, Refusal> {
        self.services.get(&id).ok_or(Refusal::NotFound("service"))
    }

    /// What a service costs here: its price, else the hourly rate × duration (K14).
    pub fn price_of(&self, service: &Service) -> Option<Money> {
        let by_the_hour = || {
            let rate = self.shop.as_ref()?.hourly_rate?;
            Some(rate.for_minutes(service.duration_minutes))
        };
        service.price.or_else(by_the_hour)
    }
}

/// The `sort_order` of the service that stands so far down in an order.
pub fn place_of(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

impl Aggregate for Provider {
    type Id = ProviderId;
    const KIND: StreamKind = StreamKind::Provider;

    fn decide(
        &self,
        command: ProviderCommand,
        context: &Context,
    ) -> Result<Vec<ProviderEvent>, Refusal> {
        if let ProviderCommand::Open { shop, schedule, service } = command {
            if self.shop.is_some() {
                return Ok(Vec::new());
            }
            let Shop { account, slug, business_name, hourly_rate, details: _, former_slugs: _ } =
                *shop;
            return Ok(vec![
                ProviderEvent::ProviderOpened {
                    account,
                    slug,
                    business_name,
                    hourly_rate,
                    schedule: *schedule,
                },
                ProviderEvent::ServiceAdded { service },
            ]);
        }
        let shop = self.shop.as_ref().ok_or(Refusal::NotFound("provider"))?;
        let (changed, event) = match command {
            ProviderCommand::Open { .. } => return Ok(Vec::new()),
            ProviderCommand::Pause => (self.doors == Doors::Open, ProviderEvent::ShopPaused {}),
            ProviderCommand::Resume => (self.doors == Doors::Paused, ProviderEvent::ShopResumed {}),
            ProviderCommand::Close => (self.doors != Doors::Closed, ProviderEvent::ShopClosed {}),
            ProviderCommand::ChangeProfile { business_name, hourly_rate, details } => (
                (&business_name, hourly_rate, &details)
                    != (&shop.business_name, shop.hourly_rate, &shop.details),
                ProviderEvent::ProfileChanged { business_name, hourly_rate, details },
            ),
            ProviderCommand::ChangeSlug { slug, former } => {
                (slug != shop.slug, ProviderEvent::SlugChanged { slug, former })
            }
            ProviderCommand::SetStanding(standing) => {
                // One that is closed for good is gone; one that is paused comes back.
                if self.doors == Doors::Closed {
                    return Err(Refusal::NotFound("provider"));
                }
                (standing != self.standing, ProviderEvent::StandingSet { standing })
            }
            ProviderCommand::SetWeeklyHours { zone, weekly } => (
                zone != self.schedule.zone || weekly != self.schedule.weekly,
                ProviderEvent::WeeklyHoursSet { zone, weekly },
            ),
            ProviderCommand::OverrideDay { day, windows } => {
                let before = self.schedule.overrides.get(&day);
                let today = self.schedule.local_day(context.now);
                let distance_days = day.signed_duration_since(today).num_days();
                if distance_days.abs() > i64::from(Self::OVERRIDE_REACH_DAYS) {
                    return Err(Refusal::DayOutOfReach { reach_days: Self::OVERRIDE_REACH_DAYS });
                }
                if before.is_none() && self.schedule.overrides.len() >= Self::MAX_OVERRIDES {
                    return Err(Refusal::LimitReached {
                        what: "overrides",
                        limit: Self::MAX_OVERRIDES,
                    });
                }
                (before != Some(&windows), ProviderEvent::DayOverridden { day, windows })
            }
            ProviderCommand::RemoveOverride { day } => {
                (self.schedule.overrides.contains_key(&day), ProviderEvent::OverrideRemoved { day })
            }
            ProviderCommand::SetPolicy(policy) => {
                (policy != self.schedule.policy, ProviderEvent::PolicySet { policy })
            }
            ProviderCommand::AddService(mut service) => {
                // Its id comes from the command's: an earlier one, whose answer is no longer kept, has added it.
                if self.services.contains_key(&service.id) {
                    return Err(Refusal::KeySpent);
                }
                if self.services.len() >= Self::MAX_SERVICES {
                    return Err(Refusal::LimitReached {
                        what: "services",
                        limit: Self::MAX_SERVICES,
                    });
                }
                let last = self.services.values().map(|service| service.sort_order).max();
                service.sort_order = last.map_or(0, |last| last.saturating_add(1));
                (true, ProviderEvent::ServiceAdded { service })
            }
            ProviderCommand::ChangeService(mut service) => {
                let before = self.service(service.id)?;
                service.sort_order = before.sort_order;
                (*before != service, ProviderEvent::ServiceChanged { service })
            }
            ProviderCommand::RemoveService(service) => {
                // What is gone is not found, as with every other command on it; a retry has its key.
                self.service(service)?;
                (true, ProviderEvent::ServiceRemoved { service })
            }
            ProviderCommand::ReorderServices(order) => {
                let named: BTreeSet<&ServiceId> = order.iter().collect();
                if named.len() != order.len() || !named.into_iter().eq(self.services.keys()) {
                    return Err(Refusal::NotEveryService);
                }
                let place = |id: &ServiceId| self.services.get(id).map(|one| one.sort_order);
                let stands = order.iter().enumerate().all(|(n, id)| place(id) == Some(place_of(n)));
                (!stands, ProviderEvent::ServicesReordered { order })
            }
        };
        Ok(if changed { vec![event] } else { Vec::new() })
    }

    fn evolve(&mut self, event: &ProviderEvent) {
        match event {
            ProviderEvent::ProviderOpened {
                account,
                slug,
                business_name,
                hourly_rate,
                schedule,
            } => {
                self.shop = Some(Shop {
                    account: *account,
                    slug: slug.clone(),
                    business_name: business_name.clone(),
                    hourly_rate: *hourly_rate,
                    details: None,
                    former_slugs: Vec::new(),
                });
                self.schedule = schedule.clone();
            }
            ProviderEvent::ProfileChanged { business_name, hourly_rate, details } => {
                if let Some(shop) = &mut self.shop {
                    shop.business_name = business_name.clone();
                    shop.hourly_rate = *hourly_rate;
                    shop.details.clone_from(details);
                }
            }
            ProviderEvent::SlugChanged { slug, former } => {
                if let Some(shop) = &mut self.shop {
                    shop.slug = slug.clone();
                    shop.former_slugs.clone_from(former);
                }
            }
            ProviderEvent::StandingSet { standing } => self.standing = standing.clone(),
            ProviderEvent::WeeklyHoursSet { zone, weekly } => {
                self.schedule.zone = *zone;
                self.schedule.weekly = weekly.clone();
            }
            ProviderEvent::DayOverridden { day, windows } => {
                self.schedule.overrides.insert(*day, windows.clone());
            }
            ProviderEvent::OverrideRemoved { day } => {
                self.schedule.overrides.remove(day);
            }
            ProviderEvent::PolicySet { policy } => self.schedule.policy = policy.clone(),
            ProviderEvent::ServiceAdded { service } | ProviderEvent::ServiceChanged { service } => {
                if let Some(shop) = &self.shop {
                    self.services.insert(service.id, service.clone().owned_by(shop.account));
                }
            }
            ProviderEvent::ServiceRemoved { service } => {
                self.services.remove(service);
            }
            ProviderEvent::ServicesReordered { order } => {
                for (n, id) in order.iter().enumerate() {
                    if let Some(service) = self.services.get_mut(id) {
                        service.sort_order = place_of(n);
                    }
                }
            }
            ProviderEvent::ShopPaused {} => self.doors = Doors::Paused,
            ProviderEvent::ShopResumed {} => self.doors = Doors::Open,
            ProviderEvent::ShopClosed {} => self.doors = Doors::Closed,
        }
    }
}

/// Open a shop for the actor's account. One account has at most one.
#[derive(Debug, Clone)]
pub struct OpenProvider {
    /// Its name.
    pub business_name: BusinessName,
    /// Its name in URLs.
    pub slug: NewSlug,
    /// Its time zone.
    pub zone: Zone,
    /// What an hour costs.
    pub hourly_rate: Option<HourlyRate>,
    /// The weekly windows; `None` is the classic profile.
    pub weekly: Option<WeeklyHours>,
    /// The booking policy; `None` is the classic profile.
    pub policy: Option<Policy>,
    /// The first service; `None` is the classic profile.
    pub service: Option<Offer>,
}

/// A shop is open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProviderIsOpen {
    /// Its id.
    pub provider: ProviderId,
    /// The first service.
    pub service: ServiceId,
}

impl Command for OpenProvider {
    const NAME: &'static str = "OpenProvider";
    type Outcome = ProviderIsOpen;

    fn target(&self, view: &View<'_>) -> Target {
        let slug = view.claim_key(ClaimKind::Slug, self.slug.as_str());
        Target::named(slug.slot(), format!("slug/{}", self.slug))
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        view.load::<Account>(signed_in(view.actor())?)?.may_act()?;
        Ok(())
    }

    fn decide(&self, view: &View<'_>) -> Result<ProviderIsOpen, Stop> {
        let account = signed_in(view.actor())?;
        let locale = view.load::<Account>(account)?.may_act()?.locale;
        let slug = view.claim_key(ClaimKind::Slug, self.slug.as_str());
        let provider: ProviderId = view.mint().id(slug.slot(), 0);
        let offer = self.service.clone().unwrap_or_else(|| Offer::classic(locale));
        must_be_listed(view, offer.category)?;
        let service = Service::of(account, view.mint().id(slug.slot(), 0), offer);
        view.take_claim(slug, provider.uuid())?;
        view.take_claim(view.claim_key(ClaimKind::Shop, &account.to_string()), provider.uuid())?;
        let schedule = Box::new(Schedule {
            zone: self.zone,
            weekly: self.weekly.clone().unwrap_or_else(WeeklyHours::classic),
            overrides: BTreeMap::new(),
            policy: self.policy.clone().unwrap_or_else(Policy::classic),
        });
        let shop = Box::new(Shop {
            account,
            slug: Personal::of(account, self.slug.clone().into()),
            business_name: Personal::of(account, self.business_name.clone()),
            hourly_rate: self.hourly_rate,
            details: None,
            former_slugs: Vec::new(),
        });
        let outcome = ProviderIsOpen { provider, service: service.id };
        view.decide::<Provider>(provider, ProviderCommand::Open { shop, schedule, service })?;
        view.decide::<Account>(account, AccountCommand::GrantRole(Role::Provider))?;
        Ok(outcome)
    }
}

/// Change something about a shop the actor owns.
#[derive(Debug, Clone)]
pub struct ChangeProvider<C> {
    /// Which shop.
    pub provider: ProviderId,
    /// What to change.
    pub change: C,
}

/// A shop is as it was asked to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProviderChanged {
    /// Which shop.
    pub provider: ProviderId,
    /// The service that was added, changed or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
}

/// One change a provider's owner can order.
pub trait OwnersChange: Clone + Send + Sync + 'static {
    /// The command's name.
    const NAME: &'static str;
    /// The aggregate's command for it, and the service it is about.
    fn command(
        &self,
        view: &View<'_>,
        provider: ProviderId,
        shop: &Shop,
    ) -> Result<(ProviderCommand, Option<ServiceId>), Stop>;
}

impl<C: OwnersChange> Command for ChangeProvider<C> {
    const NAME: &'static str = C::NAME;
    type Outcome = ProviderChanged;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Provider>(self.provider)
    }

    /// The owner alone. Everybody may know a provider, so others are told 403, not 404.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        let account = signed_in(view.actor())?;
        let owner = view.load::<Provider>(self.provider)?.open()?.account;
        if owner == account { Ok(()) } else { Err(Refusal::Forbidden.into()) }
    }

    fn decide(&self, view: &View<'_>) -> Result<ProviderChanged, Stop> {
        let shop = view.load::<Provider>(self.provider)?.open()?;
        let (command, service) = self.change.command(view, self.provider, shop)?;
        view.decide::<Provider>(self.provider, command)?;
        Ok(ProviderChanged { provider: self.provider, service })
    }
}

/// A service may name a category that is listed. That it stays listed is not required.
fn must_be_listed(view: &View<'_>, category: Option<CategoryId>) -> Result<(), Stop> {
    if let Some(category) = category {
        view.consult::<Category>(category)?.listed()?;
    }
    Ok(())
}

macro_rules! owners_changes {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? } => |$this:ident, $view:ident, $provider:ident, $shop:ident| $body:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type),* }

        impl OwnersChange for $name {
            const NAME: &'static str = stringify!($name);
            fn command(&self, $view: &View<'_>, $provider: ProviderId, $shop: &Shop) -> Result<(ProviderCommand, Option<ServiceId>), Stop> {
                let $this = self.clone();
                Ok($body)
            }
        }
    )*};
}

owners_changes! {
    /// Change a shop's name, rate, and what else it says of itself.
    ChangeProviderProfile {
        /// The new name.
        business_name: BusinessName,
        /// The new rate.
        hourly_rate: Option<HourlyRate>,
        /// What else it says: all of it.
        details: Details,
    } => |this, _view, _provider, shop| (
        ProviderCommand::ChangeProfile {
            business_name: Personal::of(shop.account, this.business_name),
            hourly_rate: this.hourly_rate,
            details: this.details.said().map(|details| Personal::of(shop.account, details)),
        },
        None,
    );

    /// Set the zone and the weekly windows.
    SetWeeklyHours {
        /// The zone.
        zone: Zone,
        /// The windows.
        weekly: WeeklyHours,
    } => |this, _view, _provider, _shop| (ProviderCommand::SetWeeklyHours { zone: this.zone, weekly: this.weekly }, None);

    /// Make one day differ.
    OverrideDay {
        /// Which local date.
        day: NaiveDate,
        /// Its windows; none is a day off.
        windows: Windows,
    } => |this, _view, _provider, _shop| (ProviderCommand::OverrideDay { day: this.day, windows: this.windows }, None);

    /// Let a day be as its weekday again.
    RemoveOverride {
        /// Which local date.
        day: NaiveDate,
    } => |this, _view, _provider, _shop| (ProviderCommand::RemoveOverride { day: this.day }, None);

    /// Set the booking policy.
    SetPolicy {
        /// The policy.
        policy: Policy,
    } => |this, _view, _provider, _shop| (ProviderCommand::SetPolicy(this.policy), None);

    /// Offer a service.
    AddService {
        /// What it is.
        offer: Offer,
    } => |this, view, provider, shop| {
        must_be_listed(view, this.offer.category)?;
        let id = view.mint().id(provider.slot(), 0);
        (ProviderCommand::AddService(Service::of(shop.account, id, this.offer)), Some(id))
    };

    /// Change a service.
    ChangeService {
        /// Which.
        service: ServiceId,
        /// What it is now.
        offer: Offer,
    } => |this, view, provider, shop| {
        // One that names what was removed since may go on doing so.
        let before = view.load::<Provider>(provider)?.service(this.service)?.category;
        if this.offer.category != before {
            must_be_listed(view, this.offer.category)?;
        }
        (
            ProviderCommand::ChangeService(Service::of(shop.account, this.service, this.offer)),
            Some(this.service),
        )
    };

    /// Offer a service no longer.
    RemoveService {
        /// Which.
        service: ServiceId,
    } => |this, _view, _provider, _shop| (ProviderCommand::RemoveService(this.service), Some(this.service));

    /// List a shop's services in another order.
    ReorderServices {
        /// All of them, in that order.
        order: Vec<ServiceId>,
    } => |this, _view, _provider, _shop| (ProviderCommand::ReorderServices(this.order), None);
}
