//! Another name for a shop's page. The old one stays the shop's, so that links to it lead on.
//!
//! For example `salao-da-ana` becomes `studio-ana`: the append takes the claim on the new slug and keeps that on the old
//! one, `SlugChanged` lists it as former, and whoever asks for it is sent on. One that holds
//! [`Provider::MAX_FORMER_SLUGS`] gets no other: released, the oldest would lead its readers to whoever takes it next. Erasing
//! the owner releases all.

use serde::{Deserialize, Serialize};

use super::{Provider, ProviderCommand, Shop};
use crate::Refusal;
use crate::account::signed_in;
use crate::command::{ClaimKind, Command, Stop, Target, View};
use crate::ids::{Id, ProviderId};
use crate::personal::Personal;
use crate::text::{NewSlug, Slug};

/// Give the page of a shop that the actor owns another name.
#[derive(Debug, Clone)]
pub struct ChangeSlug {
    /// Which shop.
    pub provider: ProviderId,
    /// Its new name in URLs.
    pub slug: NewSlug,
}

/// A shop's page is called what it was asked to be. The name itself is not kept with the command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SlugIsChanged {
    /// Which shop.
    pub provider: ProviderId,
}

impl Shop {
    /// What its page was called before, once it is called `slug`: the newest last.
    fn former_with(&self, slug: &Slug) -> Result<Vec<Personal<Slug>>, Refusal> {
        let others = self.former_slugs.iter().chain([&self.slug]);
        let former: Vec<_> = others.filter(|one| one.known() != Some(slug)).cloned().collect();
        let limit = Provider::MAX_FORMER_SLUGS;
        if former.len() > limit {
            return Err(Refusal::LimitReached { what: "former slugs", limit });
        }
        Ok(former)
    }

    /// Every slug whose claim it holds.
    pub fn slugs(&self) -> impl Iterator<Item = &Slug> {
        self.former_slugs.iter().chain([&self.slug]).filter_map(Personal::known)
    }
}

impl Command for ChangeSlug {
    const NAME: &'static str = "ChangeSlug";
    type Outcome = SlugIsChanged;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Provider>(self.provider)
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        let account = signed_in(view.actor())?;
        let owner = view.load::<Provider>(self.provider)?.open()?.account;
        if owner == account { Ok(()) } else { Err(Refusal::Forbidden.into()) }
    }

    fn decide(&self, view: &View<'_>) -> Result<SlugIsChanged, Stop> {
        let shop = view.load::<Provider>(self.provider)?.open()?;
        let slug = Slug::from(self.slug.clone());
        let outcome = SlugIsChanged { provider: self.provider };
        if shop.slug.known() == Some(&slug) {
            return Ok(outcome);
        }
        let former = shop.former_with(&slug)?;
        view.take_claim(view.claim_key(ClaimKind::Slug, slug.as_str()), self.provider.uuid())?;
        let slug = Personal::of(shop.account, slug);
        view.decide::<Provider>(self.provider, ProviderCommand::ChangeSlug { slug, former })?;
        Ok(outcome)
    }
}
