//! People who were erased: what was made of the log is to be purged.

use domain::account::AccountEvent;
use domain::event::Event;
use domain::ids::{AccountId, Id};
use event_log::Recorded;
use read_models::erasures;
use read_models::table::TableError;
use sqlx::PgConnection;

use crate::jobs::{NewJob, Priority, Task};

/// `AccountErased` orders `PurgeAccount`.
pub(super) fn order(event: &Recorded) -> Option<(Task, Priority)> {
    let Event::Account(AccountEvent::AccountErased { photo: _ }) = &event.event else {
        return None;
    };
    Some((Task::PurgeAccount { account: AccountId::trusted(event.stream.id) }, Priority::High))
}

/// Begins the rows of `erasures` in which the jobs among `orders` keep how far they are.
pub(super) async fn begin(
    transaction: &mut PgConnection,
    orders: &[NewJob],
) -> Result<(), TableError> {
    for order in orders {
        if let Task::PurgeAccount { account } = order.task {
            erasures::begin(transaction, account, order.run_at).await?;
        }
    }
    Ok(())
}
