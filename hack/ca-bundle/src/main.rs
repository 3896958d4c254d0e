//! Prints the root certificates of Mozilla's program in PEM, from a crate whose version `Cargo.lock` pins. The machine that
//! builds the image has no say in what the image trusts.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        let text = STANDARD.encode(certificate);
        writeln!(out, "-----BEGIN CERTIFICATE-----")?;
        for line in text.as_bytes().chunks(64) {
            out.write_all(line)?;
            writeln!(out)?;
        }
        writeln!(out, "-----END CERTIFICATE-----")?;
    }
    out.flush()
}
