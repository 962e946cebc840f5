//! A provider's public page in one call: what it says of itself, what it offers, when it is open, how it takes bookings.
//!
//! One answer per slug and language, kept until something of the catalogue changes ([`crate::catalogue`]). The hours are
//! the log's own, at least as recent as the provider's row.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::hours::{Policy, WeeklyHours, Windows};
use domain::locale::Locale;
use domain::provider::Provider;
use domain::text::Slug;
use http_kit::extract::{Path, Rendered};
use http_kit::origin::RequestOrigin;
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem, schema};
use read_models::providers::ProviderRow;
use serde::Serialize;
use utoipa::ToSchema;

use crate::catalogue::Question;
use crate::freshness::Seen;
use crate::providers::{ProviderPage, moved, page_of};
use crate::{QueryState, table_problem};

/// A provider's public page.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublicPage {
    /// The provider and its services, in their order and with their categories.
    #[serde(flatten)]
    provider: ProviderPage,
    /// When it is open in an ordinary week, Monday first, in its own time zone.
    hours: Vec<DayBody>,
    /// How it takes bookings.
    #[schema(value_type = schema::Policy)]
    policy: Policy,
}

/// One weekday.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct DayBody {
    /// Which, in English: as in `weekly` hours.
    #[schema(example = "monday")]
    weekday: &'static str,
    /// Its name in the language of `Accept-Language`.
    #[schema(example = "segunda-feira")]
    name: &'static str,
    /// Its windows; none is a day off.
    #[schema(value_type = Vec<schema::Window>)]
    windows: Windows,
    /// The windows in words.
    #[schema(example = "08:00–12:00, 13:00–18:00")]
    text: String,
}

/// Everything a provider's public page shows, in one call.
///
/// A former slug is answered 308 with the present one.
#[utoipa::path(
    get, path = "/api/providers/{slug}/page", operation_id = "ProviderPage", tag = "providers",
    params(("slug" = String, Path, description = "The provider's name in URLs", example = "salao-da-ana")),
    responses(
        (status = 200, body = PublicPage),
        (status = 308, description = "The page has another name now", headers(("Location" = String))),
        QueryProblems,
    )
)]
pub async fn provider_page(
    State(state): State<QueryState>,
    Path(slug): Path<String>,
    origin: RequestOrigin,
    Seen(after): Seen,
) -> Result<Response, Problem> {
    let slug: Slug = slug.parse().map_err(|_| Kind::NotFound)?;
    let locale = origin.locale;
    let question = Question::Page(slug.clone(), locale);
    let make = || async {
        let row = read_models::providers::by_slug(state.log.pool(), &slug).await;
        let row = row.map_err(table_problem)?.ok_or(Kind::NotFound)?;
        Rendered::of(&page(&state, row, locale).await?)
    };
    match state.of_catalogue(question, &after, make).await {
        Ok(answer) => Ok(answer.into_response()),
        Err(problem) if problem.kind() == Kind::NotFound => moved(&state, &slug, "/page").await,
        Err(problem) => Err(problem),
    }
}

async fn page(state: &QueryState, row: ProviderRow, locale: Locale) -> Result<PublicPage, Problem> {
    let known = state.log.load_at_least::<Provider>(row.id, row.stamp.at).await;
    let known = known.map_err(|error| Problem::unavailable(&error))?;
    let hours = week(&known.state.schedule.weekly, locale);
    let policy = known.state.schedule.policy.clone();
    Ok(PublicPage { provider: page_of(state, row, false).await?, hours, policy })
}

/// An ordinary week in words.
fn week(weekly: &WeeklyHours, locale: Locale) -> Vec<DayBody> {
    let WeeklyHours { monday, tuesday, wednesday, thursday, friday, saturday, sunday } = weekly;
    let day = |(windows, weekday, pt, en): (&Windows, &'static str, &'static str, &'static str)| {
        let window = |window: domain::hours::Window| format!("{}–{}", window.from, window.to);
        let text = if windows.is_empty() {
            locale.pick("Fechado", "Closed").to_owned()
        } else {
            windows.iter().map(window).collect::<Vec<_>>().join(", ")
        };
        DayBody { weekday, name: locale.pick(pt, en), windows: windows.clone(), text }
    };
    [
        (monday, "monday", "segunda-feira", "Monday"),
        (tuesday, "tuesday", "terça-feira", "Tuesday"),
        (wednesday, "wednesday", "quarta-feira", "Wednesday"),
        (thursday, "thursday", "quinta-feira", "Thursday"),
        (friday, "friday", "sexta-feira", "Friday"),
        (saturday, "saturday", "sábado", "Saturday"),
        (sunday, "sunday", "domingo", "Sunday"),
    ]
    .into_iter()
    .map(day)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_is_said_in_words_of_the_readers_language() {
        let weekly: WeeklyHours = serde_json::from_str(
            r#"{"monday":[{"from":"08:00","to":"12:00"},{"from":"13:00","to":"24:00"}]}"#,
        )
        .unwrap();
        let days = week(&weekly, Locale::PtBr);
        assert_eq!(
            (days[0].name, days[0].text.as_str()),
            ("segunda-feira", "08:00–12:00, 13:00–24:00")
        );
        assert_eq!((days[6].weekday, days[6].text.as_str()), ("sunday", "Fechado"));
        assert_eq!(week(&weekly, Locale::En)[6].text, "Closed");
    }
}
