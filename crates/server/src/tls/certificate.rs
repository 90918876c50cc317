//! What a server's certificate says of itself, as a client would judge it.

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

/// Why a client would refuse a certificate, whichever CA it trusts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is no X.509 certificate, version 3.
    #[error("is no certificate that can be read")]
    Unreadable,
    /// It is marked as a CA's: clients refuse it as a server's. Debian's "snakeoil", and what `openssl req -x509` makes,
    /// are.
    #[error("is the certificate of a CA and not of a server: make a CA, and with it a certificate for the server")]
    IsCa,
    /// Its extended key usage is for something else, such as for clients.
    #[error("is a certificate that no client takes for a server's: {0}")]
    NotForServers(String),
    /// Clients refuse it since then.
    #[error("expired at {0}")]
    Expired(Timestamp),
    /// Clients refuse it until then.
    #[error("is not valid before {0}")]
    NotYetValid(Timestamp),
}

/// Later than any certificate can say: the last that one can is the end of the year 9999.
const END_OF_TIME: u64 = u64::MAX >> 1;

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: Timestamp,
    /// The last moment.
    pub not_after: Timestamp,
}

impl Validity {
    /// What the certificate says, unless no client would take it at any time.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Validity, CertificateError> {
        let certificate = EndEntityCert::try_from(certificate).map_err(|_| CertificateError::Unreadable)?;
        let (validity, first_second) = Validity::stated(&certificate).ok_or(CertificateError::Unreadable)?;
        match judge(&certificate, first_second) {
            Error::UnknownIssuer => Ok(validity),
            Error::CaUsedAsEndEntity => Err(CertificateError::IsCa),
            other => Err(CertificateError::NotForServers(other.to_string())),
        }
    }

    /// What the certificate of a CA says. `None`: it is of X.509 version 1, which is trusted as a CA's all the same.
    pub fn of_ca(certificate: &CertificateDer<'_>) -> Option<Validity> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        Validity::stated(&certificate).map(|(validity, _)| validity)
    }

    /// What the certificate says, whatever it is for; and its first second of Unix time.
    fn stated(certificate: &EndEntityCert<'_>) -> Option<(Validity, u64)> {
        // The library shows the two times only in its refusals: at the beginning of time it is not valid yet, and at the
        // end not any more.
        let not_before = match judge(certificate, 0) {
            Error::CertNotValidYet { not_before, .. } => not_before.as_secs(),
            // Valid since the beginning of time.
            _ => 0,
        };
        let Error::CertExpired { not_after, .. } = judge(certificate, END_OF_TIME) else {
            return None;
        };
        let validity = Validity {
            not_before: timestamp(not_before),
            not_after: timestamp(not_after.as_secs()),
        };
        Some((validity, not_before))
    }

    /// Whether clients take it at this time.
    pub fn check(&self, now: Timestamp) -> Result<(), CertificateError> {
        if now < self.not_before {
            return Err(CertificateError::NotYetValid(self.not_before));
        }
        if now > self.not_after {
            return Err(CertificateError::Expired(self.not_after));
        }
        Ok(())
    }
}

/// Why a client that trusts no CA refuses the certificate at this time: what is wrong with itself comes before its issuer.
fn judge(certificate: &EndEntityCert<'_>, seconds: u64) -> Error {
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let judged = certificate.verify_for_usage(&[], &[], &[], at, KeyUsage::server_auth(), None, None);
    judged.err().unwrap_or(Error::UnknownIssuer)
}

fn timestamp(seconds: u64) -> Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}
