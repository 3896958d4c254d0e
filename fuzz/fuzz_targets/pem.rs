//! Any bundle is rejected or usable, without a panic.
#![no_main]

use arcgis_credential_operator::arcgis::CaBundle;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = CaBundle::parse(bytes);
});
