//! Text in little memory: compressed with what most specs and statuses have in common.

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};

/// What is in it costs almost nothing where it comes up in a text: keys, defaults, common values.
const COMMON: &[u8] = concat!(
    r#"{"credentialsRef":{"clientIDKey":"client_id","clientSecretKey":"client_secret","name":""},"portal":{"caBundleRef":"#,
    r#"{"key":"ca.crt","kind":"ConfigMap","name":""},"url":"https://www.arcgis.com"},"target":{"deletionPolicy":"Delete","#,
    r#""formats":["Headers"],"name":""},"token":{"lifetime":"2h"},"verification":{"interval":"15m"}}"#,
    r#"{"observedGeneration":1,"conditions":[{"type":"Ready","status":"True","reason":"TokenValid","message":"Valid until "#,
    r#"2026-01-01T02:00:00Z; renewed from 2026-01-01T01:10:00Z on","observedGeneration":1,"lastTransitionTime":"#,
    r#""2026-01-01T00:00:00Z"}],"portal":"www.arcgis.com","token":{"issueTime":"2026-01-01T00:00:00Z","expirationTime":"#,
    r#""2026-01-01T02:00:00Z","renewalTime":"2026-01-01T01:10:00Z","lifetime":"2h","digest":""},"targetVersion":"1000","#,
    r#""credentialsVersion":"1"}"#,
)
.as_bytes();

/// A text.
#[derive(Clone, Debug)]
pub struct Packed(Box<[u8]>);

impl Packed {
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(compress_prepend_size_with_dict(text.as_bytes(), COMMON).into())
    }

    /// Returns the text.
    #[must_use]
    pub fn text(&self) -> String {
        let text = decompress_size_prepended_with_dict(&self.0, COMMON).ok();
        text.and_then(|text| String::from_utf8(text).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use proptest::prelude::*;

    use super::*;
    use crate::api::{ArcGisAppCredentialStatus, Condition, TokenStatus};

    #[test]
    fn a_common_status_takes_less_than_two_fifths_of_its_text() {
        let time = |text: &str| text.parse().unwrap();
        let status = ArcGisAppCredentialStatus {
            observed_generation: 3,
            conditions: vec![Condition {
                type_: "Ready".to_owned(),
                status: "True".to_owned(),
                reason: "TokenValid".to_owned(),
                message: "Valid until 2027-03-04T05:06:07Z; renewed from 2027-03-04T04:25:17Z on".to_owned(),
                observed_generation: 3,
                last_transition_time: time("2027-02-11T17:41:35Z"),
            }],
            portal: Some("gis.example.com/portal".to_owned()),
            token: Some(TokenStatus {
                issue_time: time("2027-03-04T03:06:07Z"),
                expiration_time: time("2027-03-04T05:06:07Z"),
                renewal_time: time("2027-03-04T04:25:17Z"),
                lifetime: "2h".to_owned(),
                digest: Some("7ad7fb2881a749eca2496f7f590798b1528d468277cef5cf36a91fd85f23cebe".to_owned()),
            }),
            target_version: Some("4127893".to_owned()),
            credentials_version: Some("31189".to_owned()),
            ..ArcGisAppCredentialStatus::default()
        };
        let text = serde_json::to_string(&status).unwrap();
        let packed = Packed::new(&text);
        assert_eq!(packed.text(), text);
        assert!(packed.0.len() * 5 < text.len() * 2, "{} of {}", packed.0.len(), text.len());
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in ".{0,2000}") {
            prop_assert_eq!(Packed::new(&text).text(), text);
        }
    }
}
