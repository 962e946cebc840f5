//! What a shop's owner can change about it: profile, hours, holidays, time off, policy, services.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::{Details, Offer, Provider, ProviderCommand, Service, Shop, must_be_listed};
use crate::Refusal;
use crate::account::signed_in;
use crate::command::{Command, Stop, Target, View};
use crate::holidays::HolidayCalendar;
use crate::hours::{Policy, WeeklyHours, Windows, Zone};
use crate::ids::{Id, ProviderId, ServiceId, TimeOffId};
use crate::money::HourlyRate;
use crate::personal::Personal;
use crate::text::{BusinessName, Note};
use crate::time_off::TimeOff;

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

    /// The owner alone.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        owned(view, self.provider).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<ProviderChanged, Stop> {
        let shop = view.load::<Provider>(self.provider)?.open()?;
        let (command, service) = self.change.command(view, self.provider, shop)?;
        view.decide::<Provider>(self.provider, command)?;
        Ok(ProviderChanged { provider: self.provider, service })
    }
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

    /// Keep a calendar of holidays, or none.
    SetHolidays {
        /// Which.
        holidays: Option<HolidayCalendar>,
    } => |this, _view, _provider, _shop| (ProviderCommand::SetHolidays(this.holidays), None);

    /// Work after all in a stretch that was to be off.
    CancelTimeOff {
        /// Which.
        id: TimeOffId,
    } => |this, _view, _provider, _shop| (ProviderCommand::CancelTimeOff(this.id), None);

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

/// Take time off from a shop the actor owns.
#[derive(Debug, Clone)]
pub struct TakeTimeOff {
    /// Which shop.
    pub provider: ProviderId,
    /// From when to when, in the shop's local time.
    pub time_off: TimeOff,
    /// Why; nobody else sees it.
    pub reason: Option<Note>,
}

/// Time off was taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TimeOffStands {
    /// Its id.
    pub id: TimeOffId,
}

impl Command for TakeTimeOff {
    const NAME: &'static str = "TakeTimeOff";
    type Outcome = TimeOffStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Provider>(self.provider)
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        owned(view, self.provider).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<TimeOffStands, Stop> {
        let shop = owned(view, self.provider)?;
        let id: TimeOffId = view.mint().id(self.provider.slot(), 0);
        let reason = self.reason.clone().map(|reason| Personal::of(shop.account, reason));
        let command = ProviderCommand::TakeTimeOff { id, time_off: self.time_off, reason };
        view.decide::<Provider>(self.provider, command)?;
        Ok(TimeOffStands { id })
    }
}

/// The actor's own shop. Everybody may know a provider, so others are told 403, not 404.
fn owned<'a>(view: &View<'a>, provider: ProviderId) -> Result<&'a Shop, Stop> {
    let account = signed_in(view.actor())?;
    let shop = view.load::<Provider>(provider)?.open()?;
    if shop.account == account { Ok(shop) } else { Err(Refusal::Forbidden.into()) }
}
