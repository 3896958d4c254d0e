//! A bundle and a client certificate are refused or usable, whatever they hold.
#![no_main]

use arcgis_credential_operator::arcgis::{CaBundle, ClientCertificate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = CaBundle::parse(bytes);
    let _ = ClientCertificate::parse(bytes, bytes, jiff::Timestamp::UNIX_EPOCH);
});
