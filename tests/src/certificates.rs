//! Certificates of a test: an authority of its own, and what it signs for servers and clients.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::scratch::Scratch;

/// The names by which a server of the fixtures is reached.
pub const HERE: [&str; 2] = ["localhost", "127.0.0.1"];

/// An authority and its files, which go with it.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    files: Scratch,
}

/// A certificate and its private key, as files of its [`Authority`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate's file.
    pub cert: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one that nobody else trusts.
    #[must_use]
    pub fn new() -> Self {
        let mut params = params(&[]);
        params
            .distinguished_name
            .push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, key());
        let authority = Self {
            issuer: issuer.expect("the parameters fit together"),
            files: Scratch::new(),
        };
        authority.write("ca.crt", &authority.issuer.pem());
        authority
    }

    /// The file of its own certificate, which makes a program trust it.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.files.join("ca.crt")
    }

    /// Signs a certificate for these host names and addresses; none are right for a client.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.sign(&params(names))
    }

    /// The same, out of date.
    #[must_use]
    pub fn issue_expired(&self, names: &[&str]) -> Identity {
        let mut params = params(names);
        params.not_after = date_time_ymd(2001, 1, 1);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = key();
        let cert = params.signed_by(&key, &self.issuer);
        let name = format!("{:032x}", u128::from_be_bytes(serial(&key)));
        Identity {
            cert: self.write(
                &format!("{name}.crt"),
                &cert.expect("the parameters fit together").pem(),
            ),
            key: self.write(&format!("{name}.key"), &key.serialize_pem()),
        }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.files.join(name);
        std::fs::write(&path, text).expect("the certificate can be written");
        path
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// The lines of `redis.conf` for a server that speaks TLS alone. Where somebody signs the certificates of clients, servers use
/// theirs among each other as well.
pub(crate) fn directives(Identity { cert, key }: &Identity, clients: Option<&Authority>) -> String {
    let (cert, key) = (cert.display(), key.display());
    let lines = format!("port 0\ntls-cert-file {cert}\ntls-key-file {key}\n");
    match clients {
        Some(authority) => {
            let ca = authority.file();
            let ca = ca.display();
            format!("{lines}tls-ca-cert-file {ca}\ntls-replication yes\ntls-cluster yes\n")
        }
        None => format!("{lines}tls-auth-clients no\n"),
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("there is randomness")
}

/// The end of the public key: another one for each.
fn serial(key: &KeyPair) -> [u8; 16] {
    let bytes = key.public_key_raw();
    bytes[bytes.len() - 16..]
        .try_into()
        .expect("it has 16 bytes")
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    CertificateParams::new(names).expect("the names are names")
}
