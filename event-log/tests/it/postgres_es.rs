//! Stock postgres-es reads our events through the view.

use cqrs_es::EventStore as _;
use cqrs_es::persist::PersistedEventStore;
use domain::appointment::Appointment;
use domain::ids::AppointmentId;
use event_log::Executor;
use postgres_es::PostgresEventRepository;

use crate::common::*;

on_1_and_7_partitions! {
    async fn an_appointment_of_ours_is_loaded_by_stock_postgres_es(database, partitions) {
        let executor = Executor::new(database.log(partitions).await);
        let log = executor.log();
        let (bia, ana) = (person(&executor, "bia").await, person(&executor, "ana").await);
        let shop = shop(&executor, &bia, "salao").await;
        let booked = executor.execute(booking(log, shop.provider, 10), origin(&ana)).await.unwrap();
        let id: AppointmentId = booked.outcome.appointment;
        executor.execute(domain::appointment::ConfirmAppointment { appointment: id }, origin(&bia)).await.unwrap();

        let repository = PostgresEventRepository::new(database.pool().clone())
            .with_tables("cqrs_events", "cqrs_snapshots");
        let store = PersistedEventStore::<_, Appointment>::new_event_store(repository);
        let context = store.load_aggregate(&id.to_string()).await.unwrap();
        assert_eq!(context.current_sequence, 2);
        let ours = log.load::<Appointment>(id).await.unwrap();
        let (theirs, ours) = (context.aggregate.booking.unwrap(), ours.state.booking.clone().unwrap());
        assert_eq!((theirs.slot, theirs.status), (ours.slot, ours.status));
        assert_eq!(theirs.terms.parties(), ours.terms.parties());
        // It holds no keys: what is personal stays sealed.
        assert_eq!(theirs.terms.contact.known(), None);
        let events = store.load_events(&id.to_string()).await.unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].metadata["actor"], ana.label());
    }
}
