//! TLS for both stores, and whose certificates are trusted.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::files::{self, Reading};

/// Whose certificate a server has to show for its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// One that the platform's roots have signed. `SSL_CERT_FILE` and `SSL_CERT_DIR` name others, as everywhere.
    #[default]
    Platform,
    /// One that the roots in a file have signed.
    File(PathBuf),
    /// Anybody's.
    Anybody,
}

/// Prepares TLS for connections to servers.
///
/// # Errors
/// When the file with the roots cannot be used, or the crypto library refuses its own protocol versions, which would be
/// a fault of the build.
pub fn client_config(trust: &Trust) -> io::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let roots = match trust {
        Trust::Platform => platform_roots(),
        Trust::File(path) => roots_in(path)?,
        Trust::Anybody => {
            let unverified = Arc::new(Unverified(provider));
            return Ok(builder.dangerous().with_custom_certificate_verifier(unverified).with_no_client_auth());
        }
    };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn roots_in(path: &Path) -> io::Result<RootCertStore> {
    let content = files::read(path, Reading::First).map_err(io::Error::other)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content.content()).collect();
    let mut roots = RootCertStore::empty();
    let (added, _unusable) = roots.add_parsable_certificates(certificates.map_err(|_| io::Error::other("it is no PEM"))?);
    if added == 0 { Err(io::Error::other("it has no certificate in PEM form")) } else { Ok(roots) }
}

fn platform_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "cannot read a part of the platform's root certificates");
    }
    let mut roots = RootCertStore::empty();
    // A root that this library cannot parse is passed over: the others still serve.
    let (_, _unusable) = roots.add_parsable_certificates(found.certs);
    roots
}

/// The line is encrypted, but nobody asks who is at its other end.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
