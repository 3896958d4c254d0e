//! Admission and the operator accept the same texts: compared on generated ones.

use arcgis_credential_operator::core::Plan;
use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::TestEnv;

const CASES: usize = 1200;

const SCHEMES: &[&str] =
    &["https://", "https://", "https://", "https://", "https://", "https://", "http://", "HTTPS://", ""];
const HOSTS: &str = "a B 7 0x 0X1f - _ . .. 255 1.2.3 127.0.0.1 10.0.0.01 [::1] [::ffff:1.2.3.4] [1.2.3.4] [2001:db8::1] [ ] :: %41 \u{e4} \
    xn--a host gis_1 b-c h.i x2 .example.com";
const PORTS: &[&str] =
    &["", "", "", "", "", "", ":443", ":0443", ":7443", ":0", ":65535", ":65536", ":123456", ":", ":1a", ":-1"];
const PATHS: &str =
    "/ /arcgis /portal /home /sharing/rest /rest/services /REST/Services %20 %2 %zz % ; ~ .. _ ?x #y @ \\ // \u{e4}";
const DURATIONS: &str = "1 9 0 59 60 336 1.5 .5 5. . h h m m s ms us ns d - + e3 000000000000 99999999999999999999 0.123456789 \
    0.1234567890 336h 1m \u{b5}s";

/// Returns up to `most` of the pieces, one after the other.
fn some(random: &mut fastrand::Rng, pieces: &str, most: usize) -> String {
    let long = ["a".repeat(63), "b".repeat(64), "c.".repeat(60), " ".to_owned()];
    let pieces: Vec<&str> = pieces.split_whitespace().chain(long.iter().map(String::as_str)).collect();
    (0..random.usize(..=most)).map(|_| *random.choice(&pieces).unwrap()).collect()
}

fn url(random: &mut fastrand::Rng) -> String {
    let (scheme, port) = (random.choice(SCHEMES).unwrap(), random.choice(PORTS).unwrap());
    format!("{scheme}{}{port}{}", some(random, HOSTS, 2), some(random, PATHS, 2))
}

fn duration(random: &mut fastrand::Rng) -> String {
    some(random, DURATIONS, 4)
}

const GOOD_URL: &str = "https://gis.example.com/portal";

type Generator = fn(&mut fastrand::Rng) -> String;

/// What one text is to admission and to the operator.
struct Outcome {
    field: &'static str,
    text: String,
    admission: bool,
    operator: bool,
}

async fn accepted(env: &TestEnv, manifest: &Value) -> bool {
    let dry = PatchParams { dry_run: true, ..PatchParams::apply("user").validation_strict() };
    match env.resources().patch("case", &dry, &Patch::Apply(manifest)).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) if status.code == 422 => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn admission_and_the_operator_accept_the_same_urls_and_durations() {
    let env = TestEnv::without_operator(&[]).await;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let fields: [(&'static str, Generator); 4] = [
        ("/portal/url", url),
        ("/portal/publicURL", url),
        ("/token/lifetime", duration),
        ("/verification/interval", duration),
    ];
    let cases = fields.iter().cycle().take(CASES).map(|(field, text)| (*field, text(&mut random)));
    // By chance, none might be valid.
    let valid = fields.iter().map(|(field, _)| (*field, if field.starts_with("/portal/") { GOOD_URL } else { "1h" }));
    let valid = valid.map(|(field, text)| (field, text.to_owned()));
    let cases: Vec<_> = cases.filter(|(_, text)| !text.is_empty()).chain(valid).collect();
    let outcomes = futures::stream::iter(cases).map(|(field, text)| {
        let mut manifest = env.manifest("case", "creds");
        let (object, key) = field.trim_start_matches('/').split_once('/').unwrap();
        manifest["spec"][object][key] = json!(text);
        let plan = Plan::new(&serde_json::from_value(manifest["spec"].clone()).unwrap());
        let env = &env;
        async move { Outcome { field, text, admission: accepted(env, &manifest).await, operator: plan.is_ok() } }
    });
    let outcomes: Vec<Outcome> = outcomes.buffer_unordered(8).collect().await;
    for Outcome { field, text, admission, operator } in &outcomes {
        assert_eq!(admission, operator, "seed {seed}: admission and operator, {field}: {text}");
    }
    for (field, _) in fields {
        let of_field = || outcomes.iter().filter(|outcome| outcome.field == field);
        assert!(of_field().any(|outcome| outcome.admission), "seed {seed}: no text of {field} is accepted");
        assert!(of_field().any(|outcome| !outcome.admission), "seed {seed}: every text of {field} is accepted");
    }
}
