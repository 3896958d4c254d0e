//! Limits, and the creation of resources.

use std::ops::Range;
use std::time::{Duration, Instant};

use testkit::{Error, doing};
use tokio::time::{sleep, sleep_until};

use super::{Bench, SETTLE};
use crate::fleet::{Answers, DEFAULT_LIFETIME};
use crate::report::{count, float};
use crate::tracker::Key;

/// How many are written to find the limit of the API server.
const CALIBRATED: usize = 2000;
/// How many tokens come due while all resources are created, and their lifetime in seconds: they are due after 45 to 60 s.
const DUE_IN_CREATION: usize = 20;
const DUE_SOON: u64 = 120;
/// Secrets of others with annotations of this size.
const LARGE: (usize, usize) = (300, 200 * 1024);

impl Bench<'_> {
    /// Measures how fast this API server takes the writes that a renewal cannot avoid.
    pub(super) async fn limit(&mut self) -> Result<(), Error> {
        let all = 0..self.args.resources.min(CALIBRATED);
        self.fleet.create(all.clone(), None).await?;
        let took = self.fleet.write_pairs(all.clone()).await?;
        self.report.add("limit", count(all.len()) / took.as_secs_f64(), "pairs/s");
        self.fleet.delete(all).await
    }

    /// Measures how fast the operator fills targets for resources that exist before it starts, and how fast the API server
    /// takes the same calls from a client that does nothing else.
    pub(super) async fn own_calls(&mut self) -> Result<(), Error> {
        let each = self.args.resources.min(CALIBRATED);
        let (filled, replayed) = (0..each, each..2 * each);
        self.fleet.credentials(0..replayed.end, Answers::Later).await?;
        let created = self.fleet.create(filled.clone(), None).await?;
        let (since, began) = (jiff::Timestamp::now(), Instant::now());
        self.operator.start(false).await?;
        let moments: Vec<_> = created.into_iter().map(|(key, _)| (key, began)).collect();
        let waits = self.fleet.ready(&moments).await?;
        let (first, last) = (waits.first().copied().unwrap_or_default(), waits.last().copied().unwrap_or_default());
        let took = last.saturating_sub(first);
        sleep(SETTLE).await;
        self.operator.stop().await;
        let calls = self.calls.since(since).map_err(doing("counting calls"))?;
        let script = self.fleet.script(filled, &calls).await?;
        self.fleet.create(replayed.clone(), None).await?;
        let alone = self.fleet.replay(replayed.clone(), &script).await?;
        let (rate, limit) = (count(each) / took.as_secs_f64(), count(each) / alone.as_secs_f64());
        self.report.add("backlog_rate", rate, "resources/s");
        self.report.add("limit_own_calls", limit, "resources/s");
        self.report.add("share_of_own_calls", 100.0 * rate / limit, "%");
        self.fleet.delete(0..replayed.end).await
    }

    /// Measures Secrets that no resource names, when they appear and when they are listed.
    pub(super) async fn ignore_foreign(&mut self) -> Result<(), Error> {
        let before = self.operator.sample()?;
        self.fleet.foreign(0..self.args.foreign, 0).await?;
        let after = self.settled().await?;
        self.report.add("foreign_cpu", after.cpu - before.cpu, "s");
        self.report.memory("memory_foreign", &after);
        self.fleet.foreign(self.args.foreign..self.args.foreign + LARGE.0, LARGE.1).await?;
        let after = self.settled().await?;
        self.report.memory("memory_large_foreign", &after);
        let ready = self.operator.restart(false).await?;
        self.report.seconds("restart_foreign_ready", ready);
        let after = self.settled().await?;
        self.report.memory("memory_foreign_listed", &after);
        Ok(())
    }

    /// Makes resources ready whose tokens are due soon; returns when.
    pub(super) async fn due_soon(&mut self) -> Result<Vec<(Key, Instant)>, Error> {
        let soon = self.args.resources..self.args.resources + DUE_IN_CREATION;
        self.fleet.set_lifetime(DUE_SOON);
        self.fleet.credentials(soon.clone(), Answers::Later).await?;
        let created = self.fleet.create(soon.clone(), None).await?;
        self.fleet.ready(&created).await?;
        self.fleet.set_lifetime(DEFAULT_LIFETIME);
        self.fleet.due(soon).await
    }

    /// Measures the creation of all at once, which begins when the first of these tokens is due.
    pub(super) async fn create_at_once(&mut self, due: Vec<(Key, Instant)>) -> Result<(), Error> {
        let size = self.args.resources;
        if let Some(first) = due.iter().map(|(_, at)| *at).min() {
            sleep_until(first.into()).await;
        }
        let (spent, before) = (self.spent().await?, self.operator.sample()?);
        let (since, began) = (jiff::Timestamp::now(), Instant::now());
        let created = self.fleet.create(0..size, None).await?;
        let sent = began.elapsed();
        let waits = self.fleet.ready(&created).await?;
        let took = began.elapsed();
        self.created = size + due.len();
        self.report.seconds("creation_sent", sent);
        self.report.seconds("creation", took);
        self.report.add("creation_rate", count(size) / took.as_secs_f64(), "pairs/s");
        self.report.waits("creation_wait", &waits);
        self.report.cpu("creation_cpu", size, &before, &self.operator.sample()?);
        let spent = self.spent().await? - spent;
        self.report.add("creation_control_plane_cpu", spent.cpu * 1000.0 / count(size), "ms");
        let after = self.settled().await?;
        self.requests("creation_requests", size, since)?;
        self.report.memory("memory_resources", &after);
        let more = float(after.resident) - float(before.resident);
        self.report.add("memory_per_resource", more / count(size), "KiB");
        if !due.is_empty() {
            let late = self.fleet.renewed(&due).await?;
            self.report.seconds("late", late.last().copied().unwrap_or_default());
        }
        Ok(())
    }

    /// Measures resources for which nothing is due, and a scrape of their metrics.
    pub(super) async fn rest(&mut self) -> Result<(), Error> {
        let (after, since) = (self.operator.sample()?, jiff::Timestamp::now());
        let idle = self.settled().await?;
        self.report.add("idle_cpu", (idle.cpu - after.cpu) / SETTLE.as_secs_f64() * 1000.0, "ms/s");
        self.requests("idle_requests", 1, since)?;
        let length = self.operator.http_get("/metrics").await.ok_or_else(|| Error("no metrics".to_owned()))?.len();
        self.report.add("metrics_size", count(length) / 1024.0 / 1024.0, "MiB");
        let sample = self.operator.sample()?;
        self.report.memory("memory_scraped", &sample);
        Ok(())
    }

    /// Creates the credentials of more resources.
    pub(super) async fn more_credentials(&mut self, number: usize) -> Result<Range<usize>, Error> {
        let more = self.created..self.created + number;
        self.fleet.credentials(more.clone(), Answers::AtOnce).await?;
        self.created = more.end;
        Ok(more)
    }

    /// Creates resources one after the other; returns how long each took.
    pub(super) async fn create_paced(&self, new: Range<usize>, pace: Duration) -> Result<Vec<Duration>, Error> {
        let created = self.fleet.create(new, Some(pace)).await?;
        self.fleet.ready(&created).await
    }
}
