//! How much one client may say: a token bucket. For example forty messages at once are fine, the next one is not
//! before a tenth of a second has passed. It lives and dies with its socket.

/// The most messages a client may send within a second, on average, and at once.
const MESSAGES_PER_SECOND: f64 = 10.0;
const MESSAGES_AT_ONCE: f64 = 40.0;

/// A token bucket for what one client may say.
pub(super) struct Budget {
    left: f64,
    at: tokio::time::Instant,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: MESSAGES_AT_ONCE, at: tokio::time::Instant::now() }
    }
}

impl Budget {
    /// Takes one; `false` when there is none.
    pub(super) fn spend(&mut self) -> bool {
        let now = tokio::time::Instant::now();
        let earned = (now - self.at).as_secs_f64() * MESSAGES_PER_SECOND;
        self.left = (self.left + earned).min(MESSAGES_AT_ONCE) - 1.0;
        self.at = now;
        self.left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn forty_messages_at_once_and_ten_a_second_are_fine() {
        let mut budget = Budget::default();
        assert!((0..40).all(|_| budget.spend()));
        assert!(!budget.spend());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!((0..19).all(|_| budget.spend()));
        assert!(!budget.spend());
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!((0..40).all(|_| budget.spend()), "and no more are saved up");
        assert!(!budget.spend());
    }
}
