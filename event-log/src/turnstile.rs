//! Lets commands that meet at the same stream through one at a time, in the order they came.
//!
//! Racers for one agenda would otherwise conflict with each other at the append, and the slowest would
//! starve. It only saves work: what is right is decided by the versions at the append.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use domain::aggregate::StreamId;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Queues by stream; a stream nobody waits for has none.
#[derive(Clone, Default)]
pub(crate) struct Turnstile(Arc<Mutex<HashMap<StreamId, Queue>>>);

#[derive(Default)]
struct Queue {
    turn: Arc<AsyncMutex<()>>,
    /// Who waits or has the turn.
    present: usize,
}

/// Somebody's turn; the next comes when it is dropped.
pub(crate) struct Turn {
    // Dropped first: the next one may go before we leave the queue.
    guard: Option<OwnedMutexGuard<()>>,
    turnstile: Turnstile,
    stream: StreamId,
}

impl Turnstile {
    /// Waits for the stream's turn; `None` if too many wait already.
    pub(crate) async fn turn(&self, stream: StreamId, most: usize) -> Option<Turn> {
        let (lock, mut turn) = {
            let mut queues = self.0.lock().expect("nobody panics holding this lock");
            let queue = queues.entry(stream).or_default();
            if queue.present > most {
                return None;
            }
            queue.present += 1;
            let turn = Turn { guard: None, turnstile: self.clone(), stream };
            (Arc::clone(&queue.turn), turn)
        };
        turn.guard = Some(lock.lock_owned().await);
        Some(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard.take();
        let mut queues = self.turnstile.0.lock().expect("nobody panics holding this lock");
        if let Some(queue) = queues.get_mut(&self.stream) {
            queue.present -= 1;
            if queue.present == 0 {
                queues.remove(&self.stream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::aggregate::StreamKind;

    use super::*;

    #[tokio::test]
    async fn one_goes_at_a_time_too_many_are_refused_and_nothing_remains() {
        let turnstile = Turnstile::default();
        let stream = StreamId { kind: StreamKind::Agenda, id: uuid::Uuid::from_u128(1) };
        let first = turnstile.turn(stream, 1).await.unwrap();
        let second = tokio::spawn({
            let turnstile = turnstile.clone();
            async move { turnstile.turn(stream, 1).await.is_some() }
        });
        while turnstile.0.lock().unwrap()[&stream].present < 2 {
            tokio::task::yield_now().await;
        }
        assert!(turnstile.turn(stream, 1).await.is_none());
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.unwrap());
        assert!(turnstile.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_waiter_who_gives_up_leaves_the_queue() {
        let turnstile = Turnstile::default();
        let stream = StreamId { kind: StreamKind::Agenda, id: uuid::Uuid::from_u128(1) };
        let first = turnstile.turn(stream, 9).await.unwrap();
        let given_up =
            tokio::time::timeout(std::time::Duration::from_millis(1), turnstile.turn(stream, 9));
        assert!(given_up.await.is_err());
        drop(first);
        assert!(turnstile.0.lock().unwrap().is_empty());
    }
}
