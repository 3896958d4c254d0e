//! Renewals: all at once, when they are due, and after an outage.

use std::time::{Duration, Instant};

use testkit::Error;
use tokio::time::{sleep, sleep_until};

use super::{Bench, PACE, PACED, SETTLE};
use crate::Phase;
use crate::fleet::DEFAULT_LIFETIME;
use crate::report::count;

/// How many tokens are renewed a second in the steady state, for which the lifetimes are chosen.
const STEADY_RENEWALS: u32 = 80;
/// Tokens with a shorter one are all renewed after 30 s.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(80);
/// The share of a short lifetime after which a token is renewed, on average.
const RENEWED_AFTER: f64 = 0.44;
/// New resources beside them: of fewer, the p99 would be that of one or two.
const AMONG_DUE: usize = 500;
const STEADY: Duration = Duration::from_mins(1);
const OUTAGE: Duration = Duration::from_secs(90);
/// How many tokens come due during the outage and right after it, one after the other.
const DUE_IN_OUTAGE: usize = 300;
const DUE_AFTER_OUTAGE: usize = 10;

impl Bench<'_> {
    pub(super) async fn renewals(&mut self) -> Result<(), Error> {
        let (steady, among) = (self.wants(Phase::Steady), self.wants(Phase::AmongRenewals));
        if !(self.wants(Phase::Renewal) || steady || among) {
            return Ok(());
        }
        self.renew().await?;
        if !(steady || among) {
            return Ok(());
        }
        self.spread().await?;
        if steady {
            self.renew_steadily().await?;
        }
        if among { self.create_among_renewals().await } else { Ok(()) }
    }

    /// Has tokens renewed one after the other, until as many come due by themselves.
    async fn spread(&self) -> Result<(), Error> {
        let size = u32::try_from(self.args.resources).unwrap_or(u32::MAX);
        let lifetime =
            (Duration::from_secs(u64::from(size)) / STEADY_RENEWALS).div_f64(RENEWED_AFTER).max(SHORTEST_LIFETIME);
        self.fleet.set_lifetime(lifetime.as_secs());
        let all_due = Instant::now() + lifetime / 2;
        let pace = lifetime.mul_f64(RENEWED_AFTER) / size;
        let requested = self.fleet.request_tokens(0..self.args.resources, Some(pace)).await?;
        self.fleet.renewed(&requested).await?;
        sleep_until(all_due.into()).await;
        Ok(())
    }

    /// Measures new resources beside renewals that come due by themselves, and while all tokens are renewed at once.
    async fn create_among_renewals(&mut self) -> Result<(), Error> {
        let new = self.more_credentials(AMONG_DUE).await?;
        let (began, requests) = (Instant::now(), self.journal());
        let waits = self.create_paced(new, PACE).await?;
        self.report.waits("one_among_due", &waits);
        let renewed = self.journal() - requests - AMONG_DUE;
        self.report.add("due_beside", count(renewed) / began.elapsed().as_secs_f64(), "renewals/s");

        let new = self.more_credentials(PACED).await?;
        // Requested while no operator runs, so that new resources wait for it and not for the writes of another client.
        self.operator.terminate().await?;
        let requested = self.fleet.request_tokens(0..self.args.resources, None).await?;
        self.operator.start(false).await?;
        let (_, waits) = tokio::try_join!(self.fleet.renewed(&requested), self.create_paced(new, PACE / 2))?;
        self.report.waits("one_among_renewals", &waits);
        Ok(())
    }

    /// Measures the renewal of all tokens at once.
    pub(super) async fn renew(&mut self) -> Result<(), Error> {
        let size = self.args.resources;
        let (spent, before) = (self.spent().await?, self.operator.sample()?);
        let (since, began) = (jiff::Timestamp::now(), Instant::now());
        let requested = self.fleet.request_tokens(0..size, None).await?;
        self.fleet.renewed(&requested).await?;
        let took = began.elapsed();
        self.report.add("renewal_rate", count(size) / took.as_secs_f64(), "pairs/s");
        self.report.cpu("renewal_cpu", size, &before, &self.operator.sample()?);
        let spent = self.spent().await? - spent;
        self.report.add("renewal_etcd_reads", spent.etcd_reads / count(size), "reads");
        self.report.add("renewal_control_plane_cpu", spent.cpu * 1000.0 / count(size), "ms");
        sleep(SETTLE).await;
        self.requests("renewal_requests", size, since)
    }

    pub(super) async fn rotate(&mut self) -> Result<(), Error> {
        let rotated = self.fleet.rotate(self.created - PACED..self.created, PACE).await?;
        let waits = self.fleet.renewed(&rotated).await?;
        self.report.waits("rotation_among_idle", &waits);
        Ok(())
    }

    /// Measures renewals that come due by themselves.
    pub(super) async fn renew_steadily(&mut self) -> Result<(), Error> {
        let (before, since, requests) = (self.operator.sample()?, jiff::Timestamp::now(), self.journal());
        let spent = self.spent().await?;
        sleep(STEADY).await;
        let renewed = self.journal() - requests;
        self.report.add("steady_rate", count(renewed) / STEADY.as_secs_f64(), "pairs/s");
        self.report.cpu("steady_cpu", renewed.max(1), &before, &self.operator.sample()?);
        let spent = self.spent().await? - spent;
        self.report.add("steady_etcd_reads", spent.etcd_reads / count(renewed.max(1)), "reads");
        self.requests("steady_requests", renewed.max(1), since)
    }

    /// Measures how long after an outage of all portals every token is renewed that came due meanwhile.
    pub(super) async fn outage(&mut self) -> Result<(), Error> {
        self.fleet.set_lifetime(DEFAULT_LIFETIME);
        let renewed = self.fleet.request_tokens(0..self.args.resources, None).await?;
        self.fleet.renewed(&renewed).await?;
        self.portals.iter().for_each(|portal| portal.set_outage(true));
        let due = self.created.min(DUE_IN_OUTAGE + DUE_AFTER_OUTAGE) - DUE_AFTER_OUTAGE;
        let pace = OUTAGE / u32::try_from(due).unwrap_or(u32::MAX);
        let requested = self.fleet.request_tokens(0..due, Some(pace)).await?;
        self.report.add("outage_failing", count(self.operator.problems().await?), "resources");
        self.portals.iter().for_each(|portal| portal.set_outage(false));
        let began = Instant::now();
        let after = self.fleet.request_tokens(due..due + DUE_AFTER_OUTAGE, Some(pace));
        let (after, renewed) = tokio::join!(after, self.fleet.renewed(&requested));
        after?;
        renewed?;
        self.report.seconds("outage_recovery", began.elapsed());
        let after = self.operator.sample()?;
        self.report.memory("memory_end", &after);
        Ok(())
    }
}
