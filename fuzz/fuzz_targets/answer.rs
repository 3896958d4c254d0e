//! Any status, headers and body give a token within its limits or a reason, and an error status never gives a token.
#![no_main]

use arcgis_credential_operator::api::Reason;
use arcgis_credential_operator::arcgis::{Head, classify};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, Option<&str>, Option<&str>, bool, &[u8])| {
    let (status, retry_after, date, windows, body) = input;
    let status = status % 600;
    match classify(&Head { status, retry_after, date, windows }, body, Timestamp::UNIX_EPOCH) {
        Ok(grant) => {
            let token = grant.token.expose();
            assert!((200..300).contains(&status) && body.len() <= 64 * 1024);
            assert!((1..=315_360_000).contains(&grant.lifetime_seconds));
            assert!((1..=16_384).contains(&token.len()));
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~+/-=".contains(&b)));
        }
        Err(error) => match error.retry_after {
            Some(seconds) => assert!(error.fault.reason == Reason::RateLimited && (60..=3600).contains(&seconds)),
            None => assert_ne!(error.fault.reason, Reason::RateLimited),
        },
    }
});
