//! The permits of the portals' hosts, and the resources that wait for one.

use arcgis_credential_operator::core::{Epoch, Outcome, Priority};

use crate::fleet::Id;
use crate::simulation::Simulation;

impl Simulation {
    /// Queues a resource at its busy host.
    pub fn queue(&mut self, id: Id, priority: Priority) {
        let now = self.clock.timestamp();
        let portal = self.resources[id as usize].portal;
        match self.operator.hosts[portal].enqueue(priority, id, now) {
            Some(id) => self.wake(id),
            None => self.record_queued(id, priority),
        }
    }

    /// Ends a request in flight.
    pub fn release_permit(&mut self, id: Id, acquired: Epoch, outcome: Outcome) {
        let now = self.clock.timestamp();
        let portal = self.resources[id as usize].portal;
        let recovered = self.operator.hosts[portal].release(Some(&id), acquired, outcome, now);
        self.send_waiting(portal);
        self.wake_waiting(portal);
        if recovered {
            self.end_waits(portal);
        }
    }

    /// Releases a permit of which no request was sent.
    pub fn drop_permit(&mut self, id: Id, acquired: Epoch, in_flight: bool) {
        if in_flight {
            return self.release_permit(id, acquired, Outcome::Failed);
        }
        let portal = self.resources[id as usize].portal;
        self.operator.hosts[portal].limiter.forgo(acquired);
        self.send_waiting(portal);
        self.wake_waiting(portal);
    }

    /// Wakes those that wait for a permit of a portal and may try now.
    pub fn wake_waiting(&mut self, portal: usize) {
        for woken in self.operator.hosts[portal].wake_waiting(usize::MAX) {
            self.notify(woken);
        }
    }

    /// Ends the waits of the resources that failed because of an outage of their portal.
    fn end_waits(&mut self, portal: usize) {
        let now = self.clock.timestamp();
        let mut woken = Vec::new();
        for resource in self.resources.iter_mut().filter(|resource| resource.portal == portal) {
            if resource.memory.end_request_wait(now, |wait| wait.reason.is_outage()) {
                woken.push(resource.id);
            }
        }
        for id in woken {
            self.wake(id);
        }
    }

    /// Passes on an unused permit at the end of a reconciliation.
    pub fn pass_permit_on(&mut self, id: Id) {
        let now = self.clock.timestamp();
        let portal = self.resources[id as usize].portal;
        if let Some(woken) = self.operator.hosts[portal].pass_on(&id, now) {
            self.notify(woken);
        }
    }

    /// Wakes a resource that waits at its host.
    fn notify(&mut self, id: Id) {
        let history = &mut self.resources[id as usize].history;
        history.notified_at = self.clock.now;
        if let Some(queue_priority) = history.queue_priority.take() {
            let portal = self.resources[id as usize].portal;
            self.waiting[portal].remove(&(queue_priority, id));
        }
        self.wake(id);
    }
}
