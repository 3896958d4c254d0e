//! A duration is rejected or between a minute and 336 hours, and its formatted value parses to the same duration.
#![no_main]

use arcgis_credential_operator::core::{format_seconds, parse_duration};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(seconds) = parse_duration(text) {
        assert!((60..=1_209_600).contains(&seconds));
        assert_eq!(parse_duration(&format_seconds(seconds as i64)), Ok(seconds));
    }
});
