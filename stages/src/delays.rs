use std::time::Duration;
#[derive(Debug)]
pub(crate) struct ExponentialDelays(Duration, Duration);
impl ExponentialDelays {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self(first, longest)
    }
    pub(crate) fn next_delay(&mut self) -> Option<Duration> {
        let now = self.0;
        self.0 = (now * 2).min(self.1);
        Some(now)
    }
}
