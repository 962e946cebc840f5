//! Waking readers up. A hint, nothing more: the position is the truth.
//!
//! An append of this process wakes at once. What other processes append is seen by one task, which asks for
//! all heads a few times a second while anybody waits, however many wait.

use std::sync::{Arc, Weak};

use domain::position::{Partition, PartitionCount};
use tokio::sync::watch;

use crate::{Core, EventLog};

/// What is known of a partition without asking.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Committed at least up to here.
    pub(crate) head: u64,
    /// Whether somebody outside said it grew, and nobody has looked since.
    pub(crate) nudged: bool,
}

/// One watch per partition.
pub(crate) struct Wake(Vec<watch::Sender<Seen>>);

impl Wake {
    pub(crate) fn new(partitions: PartitionCount) -> Self {
        Self(partitions.all().map(|_| watch::channel(Seen::default()).0).collect())
    }

    /// The partition was seen to have come this far.
    pub(crate) fn grown(&self, partition: Partition, head: u64) {
        if let Some(watch) = self.0.get(usize::from(partition.0)) {
            watch.send_if_modified(|seen| {
                let grown = head > seen.head;
                seen.head = seen.head.max(head);
                grown
            });
        }
    }

    /// Somebody says it grew; whoever waits looks.
    pub(crate) fn nudge(&self, partition: Partition) {
        if let Some(watch) = self.0.get(usize::from(partition.0)) {
            watch.send_modify(|seen| seen.nudged = true);
        }
    }

    /// Somebody is about to look.
    pub(crate) fn heard(&self, partition: Partition) {
        if let Some(watch) = self.0.get(usize::from(partition.0)) {
            watch.send_if_modified(|seen| {
                seen.nudged = false;
                false
            });
        }
    }

    pub(crate) fn watch(&self, partition: Partition) -> watch::Receiver<Seen> {
        self.0[usize::from(partition.0)].subscribe()
    }

    fn anybody_waits(&self) -> bool {
        self.0.iter().any(|watch| watch.receiver_count() > 0)
    }
}

/// Looks at the heads for as long as the log is open and somebody waits.
pub(crate) fn watch_heads(core: &Arc<Core>) {
    let (every, core) = (core.options.poll, Arc::downgrade(core));
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            let Some(core) = Weak::upgrade(&core) else { return };
            if !core.wake.anybody_waits() {
                continue;
            }
            match EventLog::heads_of(&core).await {
                Ok(heads) => {
                    heads.positions().for_each(|at| core.wake.grown(at.partition, at.number))
                }
                Err(error) => tracing::debug!(%error, "the heads could not be looked at"),
            }
        }
    });
}
