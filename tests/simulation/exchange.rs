//! The exchange with a portal: a request waits for its turn at the host, is sent, and answered after virtual time.

use arcgis_credential_operator::core::{AccessToken, Answer, Outcome, Step, Turn};

use crate::fleet::Id;
use crate::reconciliation::InProgress;
use crate::simulation::{Event, Simulation};
use crate::time::{Ms, SECOND};

/// How long credentials that were read are kept until they are sent.
const HELD: Ms = 5 * SECOND;

impl Simulation {
    /// Sends a request, where its turn has come.
    pub fn request(&mut self, id: Id, mut in_progress: Box<InProgress>, step: Step) {
        let (now, portal) = (self.clock.timestamp(), self.resources[id as usize].portal);
        let turn = match in_progress.permit {
            Some(_) if in_progress.in_flight => Turn::Now,
            Some(acquired) => self.operator.hosts[portal].limiter.try_send(acquired, now),
            None => Turn::Never,
        };
        match turn {
            Turn::Now => {
                in_progress.in_flight = true;
                self.wake_waiting(portal);
                self.send(id, in_progress, step);
            }
            Turn::Later => {
                in_progress.waiting = Some((step, self.clock.now));
                self.resources[id as usize].in_progress = Some(in_progress);
                self.operator.to_send[portal].push_back(id);
            }
            Turn::Never => self.unsent(id, in_progress, &step, true),
        }
    }

    /// Lets what waits at a portal be sent, where its turn has come, or will not come after a 429.
    pub fn send_waiting(&mut self, portal: usize) {
        for id in std::mem::take(&mut self.operator.to_send[portal]) {
            let now = self.clock.timestamp();
            let Some(mut in_progress) = self.resources[id as usize].in_progress.take() else { continue };
            let (Some(acquired), Some((step, since))) = (in_progress.permit, in_progress.waiting.take()) else {
                self.resources[id as usize].in_progress = Some(in_progress);
                continue;
            };
            match self.operator.hosts[portal].limiter.try_send(acquired, now) {
                Turn::Later => {
                    in_progress.waiting = Some((step, since));
                    self.resources[id as usize].in_progress = Some(in_progress);
                    self.operator.to_send[portal].push_back(id);
                }
                turn => {
                    in_progress.in_flight = turn == Turn::Now;
                    self.wake_waiting(portal);
                    self.unsent(id, in_progress, &step, self.clock.now - since < HELD);
                }
            }
        }
    }

    /// A request waited, or is not sent: it is decided again.
    fn unsent(&mut self, id: Id, mut in_progress: Box<InProgress>, step: &Step, has_credentials: bool) {
        let has_permit = in_progress.in_flight;
        if !has_permit && let Some(acquired) = in_progress.permit.take() {
            self.drop_permit(id, acquired, false);
        }
        let answer = Answer::Unsent { has_permit, has_credentials };
        in_progress.reconciliation.record(step, answer, self.clock.timestamp());
        self.advance(id, in_progress);
    }

    fn send(&mut self, id: Id, mut in_progress: Box<InProgress>, step: Step) {
        in_progress.sent = self.clock;
        in_progress.requested = true;
        self.check_request(id, &in_progress);
        let resource = &mut self.resources[id as usize];
        let lifetime = in_progress.reconciliation.s.plan.as_ref().ok().and_then(|plan| plan.lifetime);
        let granted = resource.grant(lifetime, &mut self.rng);
        let rejection = resource.rejection();
        let response = self.portals[resource.portal].response(self.clock.now, &mut self.rng, granted, rejection);
        in_progress.request = Some((step, response.result));
        resource.in_progress = Some(in_progress);
        self.after(response.after, Event::Response(id, self.operator.started));
        self.change_during_exchange(id, response.after);
    }

    /// Handles the response of the portal.
    pub fn on_response(&mut self, id: Id) {
        let Some(mut in_progress) = self.resources[id as usize].in_progress.take() else { return };
        let Some((step, response)) = in_progress.request.take() else { return };
        let outcome = match response {
            Ok(_) => Outcome::Issued,
            Err((reason, retry_after)) => Outcome::of(reason, retry_after),
        };
        self.record_limit(id, outcome);
        in_progress.in_flight = false;
        if let Some(acquired) = in_progress.permit.take() {
            self.release_permit(id, acquired, outcome);
        }
        self.record_response(id, &in_progress, response);
        let answer = match response {
            Ok(lifetime_seconds) => {
                self.serial += 1;
                let token = AccessToken::parse(format!("{:060x}", self.serial)).expect("a valid token");
                Answer::Issued { token, lifetime_seconds, sent: in_progress.sent.timestamp() }
            }
            Err((reason, retry_after)) => Answer::Failed { fault: reason.into(), retry_after },
        };
        in_progress.reconciliation.record(&step, answer, self.clock.timestamp());
        self.advance(id, in_progress);
    }
}
