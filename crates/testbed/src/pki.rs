//! Certificates for the servers and clients of a test, from an authority in memory.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate authority that exists only in memory: ECDSA P-256, valid from 2020 to 2049.
///
/// The years are constants so that no test depends on the day it runs. They end before 2050, where X.509
/// changes its time format (RFC 5280 section 4.1.2.5).
pub struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its private key.
#[derive(Debug)]
pub struct Leaf {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// The private key, PKCS #8 PEM, not encrypted.
    pub key_pem: String,
    cert_der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// 2020 to 2049.
    Now,
    /// 2020 to 2021.
    Past,
    /// 2048 to 2049.
    Future,
}

impl Authority {
    /// Creates an authority with this common name.
    pub fn new(name: &str) -> Self {
        let mut params = params(&[], name, Validity::Now);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key();
        let certificate = params.self_signed(&key).expect("a self-signed certificate");
        Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Returns the authority's own certificate, PEM, which clients have to trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns the authority's own certificate, DER.
    pub fn der(&self) -> CertificateDer<'static> {
        self.der.clone()
    }

    /// Issues a server certificate for these DNS names and IP addresses.
    pub fn issue(&self, names: &[&str]) -> Leaf {
        self.issue_valid(names, Validity::Now)
    }

    /// Issues a server certificate that expired in 2021.
    pub fn issue_expired(&self, names: &[&str]) -> Leaf {
        self.issue_valid(names, Validity::Past)
    }

    /// Issues a server certificate for these names and this validity.
    pub fn issue_valid(&self, names: &[&str], validity: Validity) -> Leaf {
        let common_name = names.first().copied().unwrap_or("nobody");
        let params = params(names, common_name, validity);
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Issues a client certificate with this common name.
    pub fn issue_client(&self, common_name: &str) -> Leaf {
        let params = params(&[], common_name, Validity::Now);
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Leaf {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = new_key();
        let signed = params.signed_by(&key, &self.issuer);
        Leaf::of(&signed.expect("a signed certificate"), &key)
    }
}

impl Leaf {
    /// Makes a certificate for these names that signs itself: a server's, or an authority's, as `openssl req -x509`
    /// makes it.
    pub fn self_signed(names: &[&str], of_authority: bool) -> Self {
        let common_name = names.first().copied().unwrap_or("nobody");
        let mut params = params(names, common_name, Validity::Now);
        params.is_ca = match of_authority {
            true => IsCa::Ca(BasicConstraints::Unconstrained),
            false => IsCa::ExplicitNoCa,
        };
        let key = new_key();
        let certificate = params.self_signed(&key).expect("a self-signed certificate");
        Self::of(&certificate, &key)
    }

    fn of(certificate: &Certificate, key: &KeyPair) -> Self {
        Self {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            cert_der: certificate.der().clone(),
            key_der: key.serialize_der(),
        }
    }

    /// Returns the certificate for rustls. Like a real server, it leaves out the authority.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.cert_der.clone()]
    }

    /// Returns the private key for rustls.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_der.clone()).into()
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a P-256 key")
}

fn params(names: &[&str], common_name: &str, validity: Validity) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("DNS names and IP addresses");
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let (first, last) = match validity {
        Validity::Now => (2020, 2049),
        Validity::Past => (2020, 2021),
        Validity::Future => (2048, 2049),
    };
    params.not_before = date_time_ymd(first, 1, 1);
    params.not_after = date_time_ymd(last, 12, 31);
    params
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{CertificateError, Error, RootCertStore};

    fn verify(authority: &Authority, leaf: &Leaf, name: &str) -> Result<(), CertificateError> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::new(default_provider()))
                .build()
                .unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        match verifier.verify_server_cert(&leaf.cert_der, &[], &name, &[], UnixTime::now()) {
            Ok(_) => Ok(()),
            Err(Error::InvalidCertificate(why)) => Err(why),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_certificate_is_valid_for_its_names_and_authority_only() {
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        let leaf = ours.issue(&["localhost", "127.0.0.1", "::1"]);
        for name in ["localhost", "127.0.0.1", "::1"] {
            assert_eq!(verify(&ours, &leaf, name), Ok(()));
        }
        assert!(matches!(
            verify(&ours, &leaf, "elsewhere.example"),
            Err(CertificateError::NotValidForNameContext { .. })
        ));
        assert_eq!(
            verify(&theirs, &leaf, "localhost"),
            Err(CertificateError::UnknownIssuer)
        );
    }

    #[test]
    fn validity_and_purpose_are_checked() {
        let ours = Authority::new("ours");
        let expired = ours.issue_expired(&["localhost"]);
        assert!(matches!(
            verify(&ours, &expired, "localhost"),
            Err(CertificateError::ExpiredContext { .. })
        ));
        let early = ours.issue_valid(&["localhost"], Validity::Future);
        assert!(matches!(
            verify(&ours, &early, "localhost"),
            Err(CertificateError::NotValidYetContext { .. })
        ));
        assert!(verify(&ours, &ours.issue_client("localhost"), "localhost").is_err());
    }
}
