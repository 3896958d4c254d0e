//! Renewals of a fleet without network: the index and the core do what they do in the controller, on the documents that an
//! API server would send and receive.

use arcgis_credential_operator::api::CredentialsRef;
use arcgis_credential_operator::cluster::LeanResource;
use arcgis_credential_operator::core::{
    AccessToken, Admit, Answer, Conclusion, Credentials, Digester, Edge, Identity, Observed, Plan, Progress,
    Reconciliation, Situation, Step, Version, conclude, render,
};
use arcgis_credential_operator::index::{Index, Key, ObjectKind, Seen};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

const LIFETIME: i64 = 7200;

/// Who manages fields of the resource, as the API server records it.
fn managed_fields() -> Value {
    let fields = json!({"f:spec": {".": {}, "f:credentialsRef": {"f:name": {}}, "f:target": {"f:name": {}}}});
    let entry = |manager: &str| {
        json!({"apiVersion": "credentials.arcgis.dev/v1alpha1", "fieldsType": "FieldsV1", "fieldsV1": fields,
               "manager": manager, "operation": "Apply", "time": "2026-01-01T00:00:00Z"})
    };
    json!([entry("kubectl"), entry("arcgis-credential-operator")])
}

fn key(n: usize) -> Key {
    Key::new(format!("team-{}", n % 10), format!("geocoding-{n}"))
}

/// Returns a resource as a watch reports it.
fn resource(n: usize, version: usize, status: &Value) -> Value {
    let key = key(n);
    let (namespace, name) = (key.namespace(), key.name());
    json!({
        "apiVersion": "credentials.arcgis.dev/v1alpha1", "kind": "ArcGisAppCredential",
        "metadata": {"name": name, "namespace": namespace, "uid": format!("7c0f4a4e-0000-4000-8000-{n:012}"),
                     "resourceVersion": version.to_string(), "generation": 1,
                     "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": managed_fields()},
        "spec": {"credentialsRef": {"name": format!("geocoding-{n}-oauth"), "clientIdKey": "client_id",
                                    "clientSecretKey": "client_secret"},
                 "portal": {"url": "https://portal.example.com/portal"},
                 "target": {"name": format!("geocoding-{n}-token"), "deletionPolicy": "Delete"}},
        "status": status,
    })
}

/// The status of a resource at rest.
const STATUS: &str = concat!(
    r#"{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"The target holds a valid token.","#,
    r#""observedGeneration":1,"reason":"TokenValid","status":"True","type":"Ready"}],"credentialsVersion":"1","#,
    r#""observedGeneration":1,"portal":"portal.example.com/portal","targetVersion":"1000","token":{"#,
    r#""expirationTime":"2026-01-01T02:00:00Z","issueTime":"2026-01-01T00:00:00Z","lifetime":"2h","#,
    r#""renewalTime":"2026-01-01T01:10:00Z"}}"#
);

fn secret_text(n: usize) -> String {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": format!("geocoding-{n}-oauth"), "namespace": key(n).namespace(), "uid": "credentials",
                     "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z",
                     "managedFields": managed_fields()},
        "data": {"client_id": "YXBwLTAwMDE=", "client_secret": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="},
    })
    .to_string()
}

fn token() -> AccessToken {
    AccessToken::parse("0123456789abcdef".repeat(16)).unwrap()
}

/// The documents of a resource, made before anything is counted.
#[derive(Clone)]
pub struct Documents {
    /// The credentials Secret.
    secret: String,
    /// The resource around its version and its status.
    parts: [String; 3],
}

impl Documents {
    pub fn new(n: usize) -> Self {
        let text = resource(n, 0, &json!("STATUS")).to_string();
        let (head, rest) = text.split_once("\"0\"").unwrap();
        let (middle, tail) = rest.split_once("\"STATUS\"").unwrap();
        Self { secret: secret_text(n), parts: [head.to_owned(), middle.to_owned(), tail.to_owned()] }
    }

    /// Returns the resource as a watch reports it.
    fn event(&self, version: usize, status: &str) -> String {
        let [head, middle, tail] = &self.parts;
        format!("{head}\"{version}\"{middle}{status}{tail}")
    }

    /// Decodes and encodes what every renewal reads and writes, once: the credentials and two watch events, the new content
    /// of the target and a status.
    pub fn pass(&self) {
        let secret: Secret = serde_json::from_str(&self.secret).unwrap();
        let target: Value = serde_json::from_str(&self.secret).unwrap();
        let event: Value = serde_json::from_str(&self.event(1, STATUS)).unwrap();
        let written = serde_json::to_vec(&secret).unwrap();
        let status = serde_json::to_vec(&event["status"]).unwrap();
        std::hint::black_box((target, written, status));
    }
}

/// Resources and the objects that they name.
#[derive(Default)]
pub struct Fleet {
    index: Index,
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
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut fleet = Self { now, version: 1, documents: documents.to_vec(), ..Self::default() };
        let count = documents.len();
        for documents in documents {
            let listed = serde_json::from_str::<LeanResource>(&documents.event(1, "null")).unwrap();
            fleet.index.upsert(listed, true);
        }
        fleet.index.begin_list(ObjectKind::Secret, None);
        for n in 0..count {
            let version = Version::new("credentials", "1");
            fleet.seen(&key(n), "oauth", version);
        }
        fleet.index.complete_list(ObjectKind::Secret, None);
        fleet
    }

    /// A watch reports a Secret.
    fn seen(&mut self, of: &Key, what: &str, version: Version) {
        let key = Key::new(of.namespace(), format!("{}-{what}", of.name()));
        self.index.observe(ObjectKind::Secret, key, version, Seen::Changed);
    }

    /// Creates or renews the token of a resource, until nothing is left to do, with the watch events of the writes.
    pub fn renew(&mut self, n: usize) {
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
            requested_at: resource.requested_at.clone(),
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
        let written = Version::new(format!("target-{n}"), self.version.to_string());
        let body = match step {
            Step::ReadCredentials => {
                let secret: Secret = serde_json::from_str(&self.documents[n].secret).unwrap();
                let read: CredentialsRef = s.plan.as_ref().unwrap().credentials.clone();
                let read = Credentials::read(&secret.data.unwrap(), &read);
                let version = Version::new("credentials", "1");
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
    fn report(&mut self, n: usize, key: &Key, conclusion: Conclusion) {
        self.version += 1;
        let uid = self.index.get(key).unwrap().uid.clone();
        self.index.get_mut(key, &uid).unwrap().memory = conclusion.memory;
        let text = serde_json::to_string(&conclusion.status).unwrap();
        let version = self.version.to_string();
        self.index.status_written(key, &uid, version, &conclusion.status, conclusion.reported);
        let event = self.documents[n].event(self.version, &text);
        self.index.upsert(serde_json::from_str::<LeanResource>(&event).unwrap(), false);
    }
}
