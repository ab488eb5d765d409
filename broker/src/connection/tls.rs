//! TLS: whom this process trusts, how it proves who it is, and what is wrong where no connection comes about.

use std::error::Error as _;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, RedisError, TlsCertificates};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, InvalidMessage, RootCertStore};

use crate::config::Tls;
use crate::error::{Error, Result};

/// Adds the certificates to what speaks TLS; anything else stays as it is.
pub(super) fn with_certificates(info: ConnectionInfo, tls: &Tls) -> Result<ConnectionInfo> {
    let ConnectionAddr::TcpTls { insecure, .. } = info.addr() else {
        return Ok(info);
    };
    if *insecure {
        return Err(Error::BadUrl(
            "it ends with #insecure, but pmq speaks TLS only where it can tell to whom".into(),
        ));
    }
    // The one provider of this program; one that its user has installed before stays, and serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificates = TlsCertificates {
        root_cert: match &tls.ca {
            Some(path) => Some(authorities(path)?),
            None => system_authorities(),
        },
        client_tls: identity(tls)?,
    };
    Client::build_with_tls(info, certificates)
        .map(|client| client.get_connection_info().clone())
        .map_err(|error| Error::BadOption(format!("unusable TLS certificates: {error}")))
}

/// The same address, spoken to with TLS.
pub(super) fn with_tls(info: ConnectionInfo, host: String, port: u16) -> Result<ConnectionInfo> {
    let address = ConnectionAddr::TcpTls {
        host,
        port,
        insecure: false,
        tls_params: None,
    };
    with_certificates(info.set_addr(address), &Tls::default())
}

/// The authorities of a file, as PEM.
fn authorities(path: &Path) -> Result<Vec<u8>> {
    let pem = read(path, "the authorities")?;
    let bad = |why| {
        let path = path.display();
        Error::BadOption(format!("the file of authorities {path} {why}"))
    };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| bad("is no readable PEM"))?;
        store
            .add(certificate)
            .map_err(|_| bad("has a certificate that is none of an authority"))?;
    }
    if store.is_empty() {
        return Err(bad("has no certificate"));
    }
    Ok(pem)
}

/// The authorities that this system trusts, as PEM; `None` where it has none, as in a small container.
fn system_authorities() -> Option<Vec<u8>> {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::warn!(target: "pmq", %error, "could not read an authority that this system trusts");
    }
    let mut store = RootCertStore::empty();
    let mut pem = String::new();
    for certificate in found.certs {
        let text = STANDARD.encode(&certificate);
        // What can't be used would make all of them unusable.
        if store.add(certificate).is_ok() {
            pem.push_str("-----BEGIN CERTIFICATE-----\n");
            pem.push_str(&text);
            pem.push_str("\n-----END CERTIFICATE-----\n");
        }
    }
    (!pem.is_empty()).then(|| pem.into_bytes())
}

/// The client's certificate and key, if they are named; they are checked here, not at each connection.
fn identity(tls: &Tls) -> Result<Option<ClientTlsConfig>> {
    let (cert_path, key_path) = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => return Ok(None),
        (Some(_), None) => {
            return Err(Error::BadOption(
                "a client certificate without its key: name it with --tls-key or PMQ_TLS_KEY"
                    .into(),
            ));
        }
        (None, Some(_)) => {
            return Err(Error::BadOption(
                "a client key without its certificate: name it with --tls-cert or PMQ_TLS_CERT"
                    .into(),
            ));
        }
    };
    let (client_cert, client_key) = (
        read(cert_path, "the client certificate")?,
        read(key_path, "the client key")?,
    );
    let (cert_path, key_path) = (cert_path.display(), key_path.display());
    let chain = CertificateDer::pem_slice_iter(&client_cert)
        .collect::<std::result::Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| Error::BadOption(format!("{cert_path} has no readable certificate")))?;
    // What is wrong with a key is not told any closer: its text stays out of errors.
    let key = PrivateKeyDer::from_pem_slice(&client_key).map_err(|_| {
        Error::BadOption(format!(
            "{key_path} has no readable private key; an encrypted one can't be used"
        ))
    })?;
    ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_client_auth_cert(chain, key)
        .map_err(|_| {
            Error::BadOption(format!(
                "the key in {key_path} is not that of the certificate in {cert_path}"
            ))
        })?;
    Ok(Some(ClientTlsConfig {
        client_cert,
        client_key,
    }))
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| {
        Error::BadOption(format!("could not read {what} {}: {error}", path.display()))
    })
}

/// Why no TLS connection came about. [`TlsProblem::hint`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// Its certificate leads to no authority that is trusted here.
    #[error("nobody who is trusted here has signed its certificate")]
    UnknownIssuer,

    /// Its certificate is out of date.
    #[error("its certificate has expired")]
    Expired,

    /// Its certificate is of the future.
    #[error("its certificate is not valid yet")]
    NotYetValid,

    /// Its certificate is not for the host of the URL.
    #[error("its certificate is for another name")]
    OtherName,

    /// Its certificate can't be used for another reason.
    #[error("its certificate can't be used ({0})")]
    BadCertificate(String),

    /// It lets nobody in without a certificate.
    #[error("it wants a client certificate")]
    NoClientCertificate,

    /// It does not accept the certificate of this client.
    #[error("it refused the client certificate")]
    ClientCertificateRefused,

    /// It speaks Redis without TLS, where the URL asks for TLS.
    #[error("it does not speak TLS")]
    Plain,

    /// It speaks TLS alone, where the URL asks for none.
    #[error("the URL does not ask for it, and the server speaks nothing else")]
    NotAsked,

    /// They have no version or cipher in common, or the like.
    #[error("{0}")]
    Other(String),
}

impl TlsProblem {
    /// What TLS has against a connection; `None` where the error is of another kind.
    pub(super) fn of(error: &RedisError) -> Option<Self> {
        let cause = error
            .source()?
            .downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            return Some(Self::of_tls(error));
        }
        let inner = cause.downcast_ref::<io::Error>()?.get_ref()?;
        inner.downcast_ref::<rustls::Error>().map(Self::of_tls)
    }

    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => Self::of_certificate(error),
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::Plain,
            error => Self::Other(error.to_string()),
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            // A signature is bad where another authority has the name of one that is trusted.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherName
            }
            error => Self::BadCertificate(error.to_string()),
        }
    }

    /// What the server tells before it closes the connection.
    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => {
                Self::NoClientCertificate
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => Self::ClientCertificateRefused,
            alert => Self::Other(format!("it ended the connection ({alert:?})")),
        }
    }

    /// What to do about it, in one sentence, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::UnknownIssuer => {
                "name the file of the authority that signed it with --tls-ca (PMQ_TLS_CA); where none is named, those of this system are trusted"
            }
            Self::Expired => {
                "have it renewed, and load it into the server; is the clock here right?"
            }
            Self::NotYetValid => "is the clock here right, and was the server's when it was made?",
            Self::OtherName => {
                "use a host name that the certificate names, or have one made that names this host (subjectAltName)"
            }
            Self::BadCertificate(_) => {
                "a server needs a certificate of version 3 with its names in subjectAltName, which is not an authority's own"
            }
            Self::NoClientCertificate => {
                "name yours with --tls-cert and --tls-key (PMQ_TLS_CERT, PMQ_TLS_KEY)"
            }
            Self::ClientCertificateRefused => {
                "is it signed by an authority that the server trusts (tls-ca-cert-file), and still valid?"
            }
            Self::Plain => {
                "is this the server's port for TLS (tls-port)? Without TLS, the URL begins with redis://"
            }
            Self::NotAsked => "begin the URL with rediss://",
            Self::Other(_) => return None,
        })
    }
}
