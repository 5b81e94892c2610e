//! Whose certificates are trusted: Mozilla's list, or a site's own authority.

use anyhow::{Context, Result, ensure};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// Trusts the certificates of a PEM text alone.
pub(super) fn only(pem: &str) -> Result<TlsConfig> {
    let mut certificates = Vec::new();
    for item in parse_pem(pem.as_bytes()) {
        if let PemItem::Certificate(certificate) = item.context("ca_file holds no PEM text")? {
            certificates.push(certificate);
        }
    }
    ensure!(!certificates.is_empty(), "ca_file holds no certificate");
    let roots = RootCerts::from(certificates);
    Ok(TlsConfig::builder().root_certs(roots).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        for text in ["", "no PEM", "-----BEGIN CERTIFICATE-----\n"] {
            assert!(only(text).is_err(), "{text}");
        }
    }
}
