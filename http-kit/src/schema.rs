//! How the domain's values look in JSON, for the OpenAPI document. Nothing here is ever built: the values
//! themselves are read and written by the domain's own types.

#![expect(dead_code, reason = "these types only describe")]

use utoipa::ToSchema;

/// An amount of money.
#[derive(ToSchema)]
#[schema(example = json!({"amount_minor": 12000, "currency": "BRL"}))]
pub struct Money {
    /// In minor units: 12000 is R$ 120,00.
    #[schema(minimum = 0, maximum = 10_000_000_000_i64)]
    amount_minor: i64,
    /// ISO 4217; BRL unless given.
    #[schema(default = "BRL", pattern = "^[A-Z]{3}$")]
    currency: String,
}

/// A stretch of working time, in the provider's local time.
#[derive(ToSchema)]
#[schema(example = json!({"from": "09:00", "to": "12:30"}))]
pub struct Window {
    /// `HH:MM`.
    from: String,
    /// `HH:MM`, after `from`; `24:00` is the end of the day.
    to: String,
}

/// The windows of each weekday; a day without windows is a day off.
#[derive(ToSchema)]
#[schema(example = json!({
    "monday": [{"from": "09:00", "to": "12:00"}, {"from": "13:00", "to": "18:00"}],
    "saturday": [{"from": "09:00", "to": "12:00"}],
}))]
pub struct WeeklyHours {
    /// Monday.
    #[schema(required = false)]
    monday: Vec<Window>,
    /// Tuesday.
    #[schema(required = false)]
    tuesday: Vec<Window>,
    /// Wednesday.
    #[schema(required = false)]
    wednesday: Vec<Window>,
    /// Thursday.
    #[schema(required = false)]
    thursday: Vec<Window>,
    /// Friday.
    #[schema(required = false)]
    friday: Vec<Window>,
    /// Saturday.
    #[schema(required = false)]
    saturday: Vec<Window>,
    /// Sunday.
    #[schema(required = false)]
    sunday: Vec<Window>,
}

/// Whether a booking stands at once or waits for the provider.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Confirmation {
    /// At once.
    Automatic,
    /// It waits.
    Manual,
}

/// How a provider takes bookings.
#[derive(ToSchema)]
#[schema(example = json!({
    "minimum_notice_minutes": 120, "horizon_days": 60,
    "cancellation_window_minutes": 1440, "confirmation": "automatic",
}))]
pub struct Policy {
    /// A booking must be at least this far ahead.
    #[schema(minimum = 0, maximum = 527_040)]
    minimum_notice_minutes: u32,
    /// A booking may be at most this many local days ahead.
    #[schema(minimum = 1, maximum = 730)]
    horizon_days: u32,
    /// A client may cancel or reschedule until this long before the start.
    #[schema(minimum = 0, maximum = 527_040)]
    cancellation_window_minutes: u32,
    /// Whether bookings wait for the provider.
    confirmation: Confirmation,
    /// A booking that waits expires so long after it was made; left out, when it starts.
    #[schema(minimum = 5, maximum = 43_200)]
    answer_within_minutes: Option<u32>,
    /// Whether people without an account may book by name and address.
    #[schema(default = false, required = false)]
    guests: bool,
    /// The most bookings a local day may have, each seat of a group counted; left out, there is no limit.
    #[schema(minimum = 1, maximum = 1000, required = false)]
    max_per_day: Option<u32>,
    /// How long a slot is held while somebody checks out; 10 unless given.
    #[schema(minimum = 1, maximum = 60, required = false)]
    hold_minutes: Option<u32>,
    /// How long who waits is offered a slot that was given back; 30 minutes unless given.
    #[schema(minimum = 1, maximum = 1440)]
    waitlist_offer_minutes: Option<u32>,
}

/// A calendar of holidays.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum HolidayCalendar {
    /// The national holidays of Brazil.
    Brazil,
    /// The same with Carnival and Corpus Christi.
    BrazilWithOptional,
}
