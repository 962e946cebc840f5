//! Provider: a shop, its hours, its policy and the services it offers.
//!
//! A new provider starts with the classic profile (K1): one 60-minute service, every day 08:00–18:00, so
//! that it can be booked with no set-up.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::account::{Account, AccountCommand, signed_in};
use crate::actor::Role;
use crate::aggregate::{Aggregate, Context, StreamKind, aggregate};
use crate::category::Category;
use crate::command::{ClaimKind, Command, Stop, Target, View};
use crate::holidays::HolidayCalendar;
use crate::hours::{Policy, WeeklyHours, Windows, Zone};
use crate::ids::{AccountId, CategoryId, Id, ProviderId, ServiceId, TimeOffId};
use crate::money::{HourlyRate, Money};
use crate::personal::Personal;
use crate::slots::Schedule;
use crate::text::{BusinessName, NewSlug, Note, Slug};
use crate::time_off::TimeOff;
use crate::{Instant, Refusal};

pub use self::change::{
    AddService, CancelTimeOff, ChangeProvider, ChangeProviderProfile, ChangeService, OverrideDay,
    OwnersChange, ProviderChanged, RemoveOverride, RemoveService, ReorderServices, SetHolidays,
    SetPolicy, SetWeeklyHours, TakeTimeOff, TimeOffStands,
};
pub use self::details::{Details, InvalidPoint, Point, Specializations};
pub use self::service::{Offer, Service};
pub use self::slug::{ChangeSlug, SlugIsChanged};
pub use self::standing::{ProviderStands, SetProviderStanding, Standing};

mod change;
mod details;
mod service;
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
    /// Why it has time off, where its owner said so: for their eyes only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub time_off_reasons: BTreeMap<TimeOffId, Personal<Note>>,
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
    /// Keep a calendar of holidays, or none.
    SetHolidays(Option<HolidayCalendar>),
    /// Take time off.
    TakeTimeOff {
        /// Its id.
        id: TimeOffId,
        /// From when to when.
        time_off: TimeOff,
        /// Why.
        reason: Option<Personal<Note>>,
    },
    /// Work after all.
    CancelTimeOff(TimeOffId),
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
        schedule: Box<Schedule>,
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
    /// The holidays it keeps were set.
    HolidaysSet {
        /// Which; none is none.
        holidays: Option<HolidayCalendar>,
    },
    /// It has time off.
    TimeOffTaken {
        /// Its id.
        id: TimeOffId,
        /// From when to when, in local time.
        time_off: TimeOff,
        /// Why; the owner's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Personal<Note>>,
    },
    /// It works after all.
    TimeOffCancelled {
        /// Which stretch is no longer off.
        id: TimeOffId,
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
    HolidaysSet = "1",
    TimeOffTaken = "1",
    TimeOffCancelled = "1",
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
    /// The most stretches of time off a shop may have.
    pub const MAX_TIME_OFF: usize = 500;
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

    /// That a local date is not absurdly far away.
    fn in_reach(&self, day: NaiveDate, now: Instant) -> Result<(), Refusal> {
        let distance_days = day.signed_duration_since(self.schedule.local_day(now)).num_days();
        if distance_days.abs() > i64::from(Self::OVERRIDE_REACH_DAYS) {
            return Err(Refusal::DayOutOfReach { reach_days: Self::OVERRIDE_REACH_DAYS });
        }
        Ok(())
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
                    schedule,
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
                self.in_reach(day, context.now)?;
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
            ProviderCommand::SetHolidays(holidays) => {
                (holidays != self.schedule.holidays, ProviderEvent::HolidaysSet { holidays })
            }
            ProviderCommand::TakeTimeOff { id, time_off, reason } => {
                // Its id comes from the command's: an earlier one, whose answer is no longer kept, has taken it.
                if self.schedule.time_off.contains_key(&id) {
                    return Err(Refusal::KeySpent);
                }
                self.in_reach(time_off.from.naive().date(), context.now)?;
                if self.schedule.time_off.len() >= Self::MAX_TIME_OFF {
                    return Err(Refusal::LimitReached {
                        what: "stretches of time off",
                        limit: Self::MAX_TIME_OFF,
                    });
                }
                (true, ProviderEvent::TimeOffTaken { id, time_off, reason })
            }
            ProviderCommand::CancelTimeOff(id) => {
                if !self.schedule.time_off.contains_key(&id) {
                    return Err(Refusal::NotFound("time off"));
                }
                (true, ProviderEvent::TimeOffCancelled { id })
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
                self.schedule = schedule.as_ref().clone();
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
            ProviderEvent::HolidaysSet { holidays } => self.schedule.holidays = *holidays,
            ProviderEvent::TimeOffTaken { id, time_off, reason } => {
                self.schedule.time_off.insert(*id, *time_off);
                if let Some(reason) = reason {
                    self.time_off_reasons.insert(*id, reason.clone());
                }
            }
            ProviderEvent::TimeOffCancelled { id } => {
                self.schedule.time_off.remove(id);
                self.time_off_reasons.remove(id);
            }
            ProviderEvent::PolicySet { policy } => self.schedule.policy = policy.clone(),
            ProviderEvent::ServiceAdded { service } | ProviderEvent::ServiceChanged { service } => {
                if let Some(shop) = &self.shop {
                    match &service.weekly {
                        Some(own) => self.schedule.own_weekly.insert(service.id, (**own).clone()),
                        None => self.schedule.own_weekly.remove(&service.id),
                    };
                    self.services.insert(service.id, service.clone().owned_by(shop.account));
                }
            }
            ProviderEvent::ServiceRemoved { service } => {
                self.services.remove(service);
                self.schedule.own_weekly.remove(service);
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
            policy: self.policy.clone().unwrap_or_else(Policy::classic),
            ..Schedule::default()
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

/// A service may name a category that is listed. That it stays listed is not required.
fn must_be_listed(view: &View<'_>, category: Option<CategoryId>) -> Result<(), Stop> {
    if let Some(category) = category {
        view.consult::<Category>(category)?.listed()?;
    }
    Ok(())
}
