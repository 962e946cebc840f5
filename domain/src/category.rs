//! Category: what kinds of services there are, as an installation's administrators list them (`S3-14`).
//!
//! A service may name one. For example "Hair" is added, Ana's haircut names it, and "Hair" is removed later: the haircut
//! keeps its id, and readers find no such category, for the two are in different partitions and no key binds them. Its
//! slug can be taken again, by another category with another id.

use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::account::admin_only;
use crate::aggregate::{Aggregate, Context, StreamKind, aggregate};
use crate::command::{ClaimKey, ClaimKind, Command, Stop, Target, View};
use crate::ids::{CategoryId, Id};
use crate::text::{CategoryName, Color, Description, Icon, Slug};

/// A category.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Category {
    /// What is said of it; `None` until it was added.
    pub listing: Option<Listing>,
    /// Whether it is gone.
    pub removed: bool,
}

/// What is said of a category. Nobody's personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Its name.
    pub name: CategoryName,
    /// Its name in URLs; no two have the same.
    pub slug: Slug,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    /// Which icon a front end shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon: Option<Icon>,
    /// Which colour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<Color>,
    /// Whether it is listed, and services may name it.
    pub is_active: bool,
    /// Where it stands in the list: by this number, then by name.
    pub sort_order: i32,
}

/// What can be asked of a category.
#[derive(Debug, Clone, PartialEq)]
pub enum CategoryCommand {
    /// List it.
    Add(Listing),
    /// List it as this.
    Change(Listing),
    /// List it no longer.
    Remove,
}

/// What happened to a category.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CategoryEvent {
    /// It is there.
    CategoryAdded {
        /// What is said of it.
        listing: Listing,
    },
    /// Something else is said of it.
    CategoryChanged {
        /// What is said now.
        listing: Listing,
    },
    /// It is gone.
    CategoryRemoved {},
}

aggregate!(Category(CategoryId), CategoryCommand => CategoryEvent {
    CategoryAdded = "1",
    CategoryChanged = "1",
    CategoryRemoved = "1",
});

impl Category {
    /// What is said of it, unless it never was or is gone.
    pub fn there(&self) -> Result<&Listing, Refusal> {
        self.listing.as_ref().filter(|_| !self.removed).ok_or(Refusal::NotFound("category"))
    }

    /// The same, unless it is not listed: what a service may name.
    pub fn listed(&self) -> Result<&Listing, Refusal> {
        let listing = self.there()?;
        if listing.is_active { Ok(listing) } else { Err(Refusal::NotFound("category")) }
    }
}

impl Aggregate for Category {
    type Id = CategoryId;
    const KIND: StreamKind = StreamKind::Category;

    fn decide(&self, command: CategoryCommand, _: &Context) -> Result<Vec<CategoryEvent>, Refusal> {
        match command {
            CategoryCommand::Add(listing) => {
                // Its id comes from the command's: an earlier one has added it.
                if self.listing.is_some() {
                    return Err(Refusal::KeySpent);
                }
                Ok(vec![CategoryEvent::CategoryAdded { listing }])
            }
            CategoryCommand::Change(listing) => {
                let changes = *self.there()? != listing;
                Ok(changes
                    .then_some(CategoryEvent::CategoryChanged { listing })
                    .into_iter()
                    .collect())
            }
            CategoryCommand::Remove => {
                self.there()?;
                Ok(vec![CategoryEvent::CategoryRemoved {}])
            }
        }
    }

    fn evolve(&mut self, event: &CategoryEvent) {
        match event {
            CategoryEvent::CategoryAdded { listing }
            | CategoryEvent::CategoryChanged { listing } => {
                self.listing = Some(listing.clone());
            }
            CategoryEvent::CategoryRemoved {} => self.removed = true,
        }
    }
}

/// A category is as it was asked to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CategoryStands {
    /// Which.
    pub category: CategoryId,
}

/// Add a category.
#[derive(Debug, Clone)]
pub struct AddCategory {
    /// What is to be said of it.
    pub listing: Listing,
}

/// Change a category.
#[derive(Debug, Clone)]
pub struct ChangeCategory {
    /// Which.
    pub category: CategoryId,
    /// What is to be said of it.
    pub listing: Listing,
}

/// List a category no longer.
#[derive(Debug, Clone)]
pub struct RemoveCategory {
    /// Which.
    pub category: CategoryId,
}

fn claim_of(view: &View<'_>, slug: &str) -> ClaimKey {
    view.claim_key(ClaimKind::CategorySlug, slug)
}

impl Command for AddCategory {
    const NAME: &'static str = "AddCategory";
    type Outcome = CategoryStands;

    fn target(&self, view: &View<'_>) -> Target {
        let slug = claim_of(view, self.listing.slug.as_str());
        Target::named(slug.slot(), format!("category-slug/{}", self.listing.slug))
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        admin_only(view)
    }

    fn decide(&self, view: &View<'_>) -> Result<CategoryStands, Stop> {
        let slug = claim_of(view, self.listing.slug.as_str());
        let category: CategoryId = view.mint().id(slug.slot(), 0);
        view.take_claim(slug, category.uuid())?;
        let listing = self.listing.clone();
        view.decide::<Category>(category, CategoryCommand::Add(listing))?;
        Ok(CategoryStands { category })
    }
}

impl Command for ChangeCategory {
    const NAME: &'static str = "ChangeCategory";
    type Outcome = CategoryStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Category>(self.category)
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        admin_only(view)
    }

    fn decide(&self, view: &View<'_>) -> Result<CategoryStands, Stop> {
        let listing = self.listing.clone();
        let before = view.load::<Category>(self.category)?.there()?;
        if before.slug != listing.slug {
            view.take_claim(claim_of(view, listing.slug.as_str()), self.category.uuid())?;
            view.release_claim(claim_of(view, before.slug.as_str()), self.category.uuid());
        }
        view.decide::<Category>(self.category, CategoryCommand::Change(listing))?;
        Ok(CategoryStands { category: self.category })
    }
}

impl Command for RemoveCategory {
    const NAME: &'static str = "RemoveCategory";
    type Outcome = CategoryStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Category>(self.category)
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        admin_only(view)
    }

    fn decide(&self, view: &View<'_>) -> Result<CategoryStands, Stop> {
        let slug = &view.load::<Category>(self.category)?.there()?.slug;
        view.release_claim(claim_of(view, slug.as_str()), self.category.uuid());
        view.decide::<Category>(self.category, CategoryCommand::Remove)?;
        Ok(CategoryStands { category: self.category })
    }
}
