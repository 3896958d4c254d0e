//! Admission and the operator accept the same texts: compared on generated ones.

use arcgis_credential_operator::core::Plan;
use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::TestEnv;

const CASES: usize = 1200;

/// Returns up to `most` of the pieces, one after the other.
fn some(random: &mut fastrand::Rng, pieces: &[&str], most: usize) -> String {
    (0..random.usize(..=most)).map(|_| *random.choice(pieces).unwrap()).collect()
}

fn url(random: &mut fastrand::Rng) -> String {
    let long = ["a".repeat(63), "b".repeat(64), "c.".repeat(60)];
    let hosts = [
        "a",
        "B",
        "7",
        "0x",
        "0X1f",
        "-",
        "_",
        ".",
        "..",
        "255",
        "1.2.3",
        "127.0.0.1",
        "10.0.0.01",
        "[::1]",
        "[::ffff:1.2.3.4]",
        "[1.2.3.4]",
        "[2001:db8::1]",
        "[",
        "]",
        "::",
        "%41",
        "\u{e4}",
        "xn--a",
        "host",
        "gis_1",
        "b-c",
        "h.i",
        "x2",
        ".example.com",
        &long[0],
        &long[1],
        &long[2],
    ];
    let ports =
        ["", "", "", "", "", "", ":443", ":0443", ":7443", ":0", ":65535", ":65536", ":123456", ":", ":1a", ":-1"];
    let paths = [
        "",
        "",
        "/",
        "/arcgis",
        "/portal",
        "/home",
        "/sharing/rest",
        "/rest/services",
        "/REST/Services",
        "%20",
        "%2",
        "%zz",
        "%",
        ";",
        "~",
        "..",
        "_",
        "?x",
        "#y",
        "@",
        "\\",
        " ",
        "//",
        "\u{e4}",
    ];
    let scheme = match random.u8(..24) {
        0 => "http://",
        1 => "HTTPS://",
        2 => "https:",
        _ => "https://",
    };
    format!("{scheme}{}{}{}", some(random, &hosts, 3), random.choice(ports).unwrap(), some(random, &paths, 3))
}

fn duration(random: &mut fastrand::Rng) -> String {
    let pieces = [
        "1",
        "9",
        "0",
        "59",
        "60",
        "336",
        "1.5",
        ".5",
        "5.",
        ".",
        "h",
        "h",
        "m",
        "m",
        "s",
        "ms",
        "us",
        "ns",
        "d",
        "-",
        "+",
        " ",
        "e3",
        "000000000000",
        "99999999999999999999",
        "0.123456789",
        "0.1234567890",
        "336h",
        "1m",
        "\u{b5}s",
    ];
    some(random, &pieces, 5)
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
    let fields: [(&str, fn(&mut fastrand::Rng) -> String); 4] = [
        ("/portal/url", url),
        ("/portal/publicURL", url),
        ("/token/lifetime", duration),
        ("/verification/interval", duration),
    ];
    let cases = fields.iter().cycle().take(CASES).map(|(field, text)| (*field, text(&mut random)));
    let cases: Vec<_> = cases.filter(|(_, text)| !text.is_empty()).collect();
    let outcomes = futures::stream::iter(cases).map(|(field, text)| {
        let mut manifest = env.manifest("case", "creds");
        let (object, key) = field.trim_start_matches('/').split_once('/').unwrap();
        manifest["spec"][object][key] = json!(text);
        let plan = Plan::new(&serde_json::from_value(manifest["spec"].clone()).unwrap());
        let env = &env;
        async move { (accepted(env, &manifest).await, plan.is_ok(), field, text) }
    });
    let outcomes: Vec<_> = outcomes.buffer_unordered(8).collect().await;
    let differ: Vec<_> = outcomes.iter().filter(|(admission, operator, ..)| admission != operator).collect();
    assert!(differ.is_empty(), "seed {seed}: admission, operator, field, text: {differ:#?}");
    for (field, _) in fields {
        let both = [true, false].map(|kind| outcomes.iter().any(|outcome| outcome.0 == kind && outcome.2 == field));
        assert_eq!(both, [true, true], "seed {seed}: {field} has accepted and rejected texts");
    }
}
