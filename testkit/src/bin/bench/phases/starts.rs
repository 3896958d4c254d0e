//! Restarts, changes of leader, and shards.

use std::time::Instant;

use futures::future::join_all;
use testkit::{Error, doing};
use tokio::time::sleep;

use super::{Bench, PACED, SETTLE, SHARDS};
use crate::Phase;
use crate::fleet::Answers;
use crate::process::Operator;
use crate::report::{count, float};

impl Bench<'_> {
    pub(super) async fn starts(&mut self, second: Operator) -> Result<(), Error> {
        if self.wants(Phase::Restart) {
            self.restart("restart", true).await?;
        }
        if self.wants(Phase::Kill) {
            self.restart("kill", false).await?;
        }
        if self.wants(Phase::HandOver) { self.hand_over(second).await } else { Ok(()) }
    }

    /// Measures a restart, planned or by SIGKILL: what it asks of the API server and of the portals.
    pub(super) async fn restart(&mut self, id: &str, planned: bool) -> Result<(), Error> {
        let requests = self.journal();
        if planned {
            let began = Instant::now();
            self.operator.terminate().await?;
            self.report.seconds("restart_ended", began.elapsed());
        }
        let since = jiff::Timestamp::now();
        let ready = self.operator.restart(false).await?;
        self.report.seconds(&format!("{id}_ready"), ready);
        let after = self.settled().await?;
        let last = self.calls.last(since).map_err(doing("reading the log"))?;
        let quiet = last.map_or(0.0, |last| last.duration_since(since).as_secs_f64());
        self.report.add(format!("{id}_quiet"), quiet, "s");
        self.report.memory(&format!("memory_after_{id}"), &after);
        self.report.add(format!("{id}_cpu"), after.cpu, "s");
        self.requests(&format!("{id}_requests"), 1, since)?;
        self.report.add(format!("{id}_token_requests"), count(self.journal() - requests), "requests");
        Ok(())
    }

    /// Measures how long a new resource waits when the leader stops, and when it is killed.
    pub(super) async fn hand_over(&mut self, mut second: Operator) -> Result<(), Error> {
        self.operator.stop().await;
        self.operator.start(true).await?;
        self.operator.leads().await?;
        for id in ["hand_over_planned", "hand_over_unplanned"] {
            second.start(true).await?;
            sleep(SETTLE).await;
            let n = self.created;
            self.fleet.credentials(n..n + 1, Answers::AtOnce).await?;
            self.created += 1;
            let began = Instant::now();
            let created = if id == "hand_over_planned" {
                let (ended, created) = tokio::join!(self.operator.terminate(), self.fleet.create(n..n + 1, None));
                ended?;
                created?
            } else {
                self.operator.stop().await;
                self.fleet.create(n..n + 1, None).await?
            };
            self.fleet.ready(&created).await?;
            self.report.seconds(id, began.elapsed());
            std::mem::swap(&mut self.operator, &mut second);
        }
        self.operator.restart(false).await?;
        Ok(())
    }

    /// Measures several operators that share the resources by a label, and resources that move between them.
    pub(super) async fn divide(&mut self, mut shards: Vec<Operator>) -> Result<(), Error> {
        self.operator.stop().await;
        self.fleet.assign(0..self.created, |n| n % SHARDS).await?;
        let (requests, since) = (self.journal(), jiff::Timestamp::now());
        let began = Instant::now();
        for ready in join_all(shards.iter_mut().map(|shard| shard.start(false))).await {
            ready?;
        }
        self.report.seconds("shards_ready", began.elapsed());
        sleep(SETTLE).await;
        let mut memory = 0;
        for shard in &shards {
            memory = memory.max(shard.sample()?.resident);
        }
        self.report.add("shards_memory", float(memory) / 1024.0, "MiB");
        self.fleet.assign(0..self.created.min(PACED), |n| (n + 1) % SHARDS).await?;
        sleep(SETTLE).await;
        self.requests("shards_requests", 1, since)?;
        self.report.add("shards_token_requests", count(self.journal() - requests), "requests");
        for shard in &mut shards {
            shard.terminate().await?;
        }
        Ok(())
    }
}
