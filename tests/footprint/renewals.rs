//! Renewals of a fleet without network: the index and the core do what they do in the controller, on the documents that an
//! API server would send and receive.

use arcgis_credential_operator::api::{ArcGisAppCredentialStatus, CredentialsRef};
use arcgis_credential_operator::cluster::LeanResource;
use arcgis_credential_operator::core::{
    Admit, Answer, Conclusion, Credentials, Digester, Edge, Identity, Observed, Plan, Progress, Reconciliation,
    Situation, Step, Version, WorkQueue, conclude, render,
};
use arcgis_credential_operator::index::{Index, Key, ObjectKind, Seen};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;

use crate::documents::{Documents, STATUS, key, token, uid};

const LIFETIME: i64 = 7200;

/// Resources and the objects that they name.
#[derive(Default)]
pub struct Fleet {
    index: Index,
    queue: WorkQueue<Key>,
    digester: Digester,
    documents: Vec<Documents>,
    now: Timestamp,
    version: usize,
}

/// An edge that admits everything.
struct AtOnce(Timestamp);

impl Edge for AtOnce {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn leads(&self) -> bool {
        true
    }

    fn is_current(&self, _: &Situation) -> bool {
        true
    }

    fn admit(&self, _: &Plan) -> Admit {
        Admit::Now
    }

    fn acquire(&mut self, _: &Plan) -> Admit {
        Admit::Now
    }
}

impl Fleet {
    /// The bytes that the API server sends of a resource at rest.
    pub fn sent(&self, n: usize) -> usize {
        self.documents[n].event(1000, STATUS).len()
    }

    /// Lists these resources, with their credentials and no targets.
    pub fn new(documents: &[Documents]) -> Self {
        Self::listed(documents, |_| ArcGisAppCredentialStatus::default())
    }

    /// Lists the same after a restart of the process, and looks at each once.
    pub fn restarted(&self) -> Self {
        let mut fleet = Self::listed(&self.documents, |n| self.index.get(&key(n)).unwrap().status());
        fleet.serve(|fleet, key| {
            let issue_time = fleet.index.get(key).unwrap().status().token.unwrap().issue_time;
            fleet.now = issue_time.checked_add(SignedDuration::from_mins(1)).unwrap();
            let mut reconciliation = Reconciliation::new(fleet.observe(key));
            let Progress::Rest(verdict) = reconciliation.next(&mut AtOnce(fleet.now)) else { panic!("nothing is due") };
            let conclusion = conclude(reconciliation.s, verdict, fleet.now);
            assert!(!conclusion.changed);
            let uid = fleet.index.get(key).unwrap().uid.to_string();
            fleet.index.get_mut(key, &uid).unwrap().memory = conclusion.memory;
            conclusion.wake
        });
        fleet
    }

    /// Lists resources with these statuses.
    fn listed(documents: &[Documents], status: impl Fn(usize) -> ArcGisAppCredentialStatus) -> Self {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut fleet = Self { now, version: 1, documents: documents.to_vec(), ..Self::default() };
        let statuses: Vec<_> = (0..documents.len()).map(status).collect();
        for (documents, status) in documents.iter().zip(&statuses) {
            let text =
                status.token.as_ref().map_or_else(|| "null".to_owned(), |_| serde_json::to_string(status).unwrap());
            fleet.index.upsert(serde_json::from_str::<LeanResource>(&documents.event(1, &text)).unwrap(), true);
        }
        fleet.index.begin_list(ObjectKind::Secret, None);
        for (n, status) in statuses.iter().enumerate() {
            fleet.seen(&key(n), "oauth", Version::new(uid("0", n), "1"));
            if let Some(version) = &status.target_version {
                fleet.seen(&key(n), "token", Version::new(uid("1", n), version.as_str()));
            }
        }
        fleet.index.complete_list(ObjectKind::Secret, None);
        fleet
    }

    /// Requeues all, and serves them in the order of the work queue.
    fn serve(&mut self, mut reconcile: impl FnMut(&mut Self, &Key) -> Timestamp) {
        let keys: Vec<Key> = self.index.iter().map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.queue.add_at(key, Timestamp::MIN);
        }
        self.queue.promote_due(self.now, |_| None);
        while let Some(key) = self.queue.pop() {
            let wake = reconcile(self, &key);
            self.queue.done(key, Some(wake));
        }
    }

    /// Creates the targets of all.
    pub fn fill(&mut self) {
        self.serve(|fleet, key| {
            let n = key.name().rsplit('-').next().unwrap().parse().unwrap();
            fleet.renew(n)
        });
    }

    /// A watch reports a Secret.
    fn seen(&mut self, of: &Key, what: &str, version: Version) {
        let key = Key::new(of.namespace(), format!("{}-{what}", of.name()));
        self.index.observe(ObjectKind::Secret, &key, version, Seen::Changed);
    }

    /// Creates or renews the token of a resource, until nothing is left to do, with the watch events of the writes; returns when it
    /// is due again.
    pub fn renew(&mut self, n: usize) -> Timestamp {
        let key = key(n);
        self.now = self.now.checked_add(SignedDuration::from_secs(LIFETIME)).unwrap();
        let mut reconciliation = Reconciliation::new(self.observe(&key));
        loop {
            match reconciliation.next(&mut AtOnce(self.now)) {
                Progress::Call(step) => {
                    let answer = self.answer(&reconciliation.s, &key, n, &step);
                    reconciliation.record(&step, answer, self.now);
                }
                Progress::Rest(verdict) => {
                    let conclusion = conclude(reconciliation.s, verdict, self.now);
                    assert!(conclusion.changed && conclusion.status.token.is_some());
                    return self.report(n, &key, conclusion);
                }
                Progress::Abandon(_) => panic!("nothing changes meanwhile"),
            }
        }
    }

    fn observe(&self, key: &Key) -> Situation {
        let resource = self.index.get(key).unwrap();
        let plan = Plan::new(&serde_json::from_str(&resource.spec()).unwrap());
        let names = plan.as_ref().map(|plan| (plan.target.name.clone(), plan.credentials.name.clone())).unwrap();
        let mut s = Situation {
            me: Identity {
                namespace: key.namespace().to_owned(),
                name: key.name().to_owned(),
                uid: resource.uid.to_string(),
            },
            generation: resource.generation,
            requested_at: resource.requested_at.as_deref().map(str::to_owned),
            plan,
            status: resource.status(),
            allowed: true,
            rival: self.index.rival(key),
            target: self.index.observed(ObjectKind::Secret, key.namespace(), &names.0),
            credentials: self.index.observed(ObjectKind::Secret, key.namespace(), &names.1),
            ca: Observed::Absent,
            client_certificate: Observed::Absent,
            admit: Admit::Now,
            has_permit: false,
            created_alike: false,
            memory: resource.memory.clone(),
        };
        s.recall(self.now);
        s
    }

    fn answer(&mut self, s: &Situation, key: &Key, n: usize, step: &Step) -> Answer {
        self.version += 1;
        let written = Version::new(uid("1", n), self.version.to_string());
        let body = match step {
            Step::ReadCredentials => {
                let secret: Secret = serde_json::from_str(&self.documents[n].secret).unwrap();
                let read: CredentialsRef = s.plan.as_ref().unwrap().credentials.clone();
                let read = Credentials::read(&secret.data.unwrap(), &read);
                let version = Version::new(uid("0", n), "1");
                return Answer::Credentials(Some((version, read.map(|read| self.digester.digest(&read)))));
            }
            Step::TryCreate | Step::CheckName => return Answer::Accepted,
            Step::Request(_) => {
                return Answer::Issued { token: token(), lifetime_seconds: LIFETIME, sent: self.now };
            }
            Step::Create => {
                let plan = s.plan.as_ref().unwrap();
                let manifest = render(plan, &s.me, s.unpublished(self.now).unwrap()).manifest(plan, &s.me);
                serde_json::to_vec(manifest.expose()).unwrap()
            }
            Step::Publish(patch) => serde_json::to_vec(patch.expose()).unwrap(),
            step => panic!("no renewal needs {step:?}"),
        };
        std::hint::black_box(body);
        self.seen(key, "token", written.clone());
        Answer::Written(written)
    }

    /// Writes the status, and passes its watch event to the index.
    fn report(&mut self, n: usize, key: &Key, conclusion: Conclusion) -> Timestamp {
        self.version += 1;
        let uid = self.index.get(key).unwrap().uid.to_string();
        self.index.get_mut(key, &uid).unwrap().memory = conclusion.memory;
        let text = serde_json::to_string(&conclusion.status).unwrap();
        let version = self.version.to_string();
        self.index.status_written(key, &uid, version, &conclusion.status, conclusion.reported);
        let event = self.documents[n].event(self.version, &text);
        self.index.upsert(serde_json::from_str::<LeanResource>(&event).unwrap(), false);
        conclusion.wake
    }
}
