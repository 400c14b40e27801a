//! A throw-away certificate authority and one server certificate.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};

use crate::scratch::Scratch;

/// A certificate for `localhost` and 127.0.0.1 and the authority that signed it, as PEM files.
///
/// A child process trusts it through `SSL_CERT_FILE=<ca_file>`; one that does not is the test for distrust.
pub struct Certificates {
    ca_file: PathBuf,
    certificate_file: PathBuf,
    key_file: PathBuf,
    _scratch: Scratch,
}

impl Certificates {
    /// Generates new keys and writes the files.
    #[expect(clippy::new_without_default, reason = "a default that writes files would surprise")]
    pub fn new() -> Self {
        let ca_key = KeyPair::generate().expect("cannot generate a key");
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "testkit CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(ca, ca_key).expect("cannot sign the authority's certificate");

        let key = KeyPair::generate().expect("cannot generate a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut server = CertificateParams::new(names).expect("the names are valid");
        server.distinguished_name.push(DnType::CommonName, "localhost");
        // The nodes of a Redis Cluster show each other the certificate as clients, too.
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = server.signed_by(&key, &ca).expect("cannot sign the server's certificate");

        let scratch = Scratch::new();
        Self {
            ca_file: scratch.write("ca.pem", ca.pem()),
            certificate_file: scratch.write("server.pem", certificate.pem()),
            key_file: scratch.write("server.key", key.serialize_pem()),
            _scratch: scratch,
        }
    }

    /// Returns the authority's certificate.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Returns the server's certificate.
    pub fn certificate_file(&self) -> &Path {
        &self.certificate_file
    }

    /// Returns the server's private key.
    pub fn key_file(&self) -> &Path {
        &self.key_file
    }
}
