//! Checks a server's certificate chain at a time that can be believed.
//!
//! While the time is unknown, a chain is good if there is *some* time, not before the floor, at
//! which it is valid: that takes in a server certificate younger than the firmware, and leaves out
//! one that has certainly expired. When the time is known the check is strict, and
//! [`ServerVerifier::recheck`] repeats it for a connection that was let in before.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::trust::TrustTime;
use super::validity::validity;

/// Of a longer chain only so many `notBefore` are tried: each costs a path building.
const MAX_CANDIDATES: usize = 8;

/// A chain verifier with a floor. It does what rustls' `WebPkiServerVerifier` does, which brings along
/// the code for revocation lists; dts has none to give it.
pub struct ServerVerifier {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
    trust: TrustTime,
    /// Why it last refused: QUIC passes on no more than an alert number.
    refusal: Mutex<Option<CertificateError>>,
}

impl ServerVerifier {
    /// Trusts `roots`, by the rules of `provider`.
    pub(super) fn new(
        roots: RootCertStore,
        provider: &CryptoProvider,
        trust: TrustTime,
    ) -> Result<Self, String> {
        if roots.is_empty() {
            return Err("there is no CA to trust".to_owned());
        }
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { roots, algorithms, trust, refusal: Mutex::new(None) })
    }

    /// Takes the reason of the last refusal.
    pub fn take_refusal(&self) -> Option<CertificateError> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Checks `chain` (the peer's own first) strictly at `now_s`, seconds since 1970 UTC.
    pub fn recheck(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now_s: u64,
    ) -> Result<(), Error> {
        let (own, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        self.at(own, rest, name, now_s)
    }

    fn at(
        &self,
        own: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now_s: u64,
    ) -> Result<(), Error> {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
        let own = ParsedCertificate::try_from(own)?;
        verify_server_cert_signed_by_trust_anchor(&own, &self.roots, rest, now, self.algorithms.all)?;
        verify_server_name(&own, name)
    }

    /// Whether the chain is valid at some time from the floor on. The times at which it becomes
    /// valid are the floor or a certificate's `notBefore`: trying those is trying all.
    fn at_some_time(
        &self,
        own: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> Result<(), Error> {
        let floor = self.trust.floor_s();
        let starts = std::iter::once(own).chain(rest).take(MAX_CANDIDATES);
        let mut candidates: Vec<u64> =
            starts.filter_map(|c| validity(c)).map(|v| v.not_before_s.max(floor)).collect();
        candidates.push(floor);
        candidates.sort_unstable();
        candidates.dedup();
        let mut refused = Err(Error::General("no certificate".to_owned()));
        for now_s in candidates {
            refused = self.at(own, rest, name, now_s);
            match &refused {
                Err(Error::InvalidCertificate(problem)) if is_about_time(problem) => {}
                _ => return refused,
            }
        }
        refused
    }
}

fn is_about_time(problem: &CertificateError) -> bool {
    use CertificateError as E;
    matches!(problem, E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. })
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerVerifier").field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = match self.trust.now_s() {
            Some(now_s) => self.at(own, rest, name, now_s),
            None => self.at_some_time(own, rest, name),
        };
        if let Err(Error::InvalidCertificate(problem)) = &verdict {
            *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem.clone());
        }
        verdict.map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
