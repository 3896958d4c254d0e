//! Whatever a server presents as its certificate is read or not, without a panic; what is shown of it is bounded by it.
#![no_main]

use arcgis_credential_operator::arcgis::Facts;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (host, der) = input;
    if let Some(facts) = Facts::read(der) {
        let named = facts.is_named(host);
        assert!(!named || facts.common_name.is_some());
        assert!(facts.alternative_names.is_empty() || facts.has_alternative_names);
    }
});
