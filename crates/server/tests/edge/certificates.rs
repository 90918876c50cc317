//! Certificates as a customer's own CA makes them.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};

/// A CA of its own, with which certificates are made.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Ca {
    pub fn new() -> Ca {
        Ca::made(|_| {})
    }

    /// One that was valid itself before this century's third decade.
    pub fn expired_itself() -> Ca {
        Ca::made(|params| {
            params.not_before = date_time_ymd(2010, 1, 1);
            params.not_after = date_time_ymd(2019, 12, 31);
        })
    }

    fn made(change: impl FnOnce(&mut CertificateParams)) -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "CA of a test");
        change(&mut params);
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Of a server on this machine.
    pub fn server(&self) -> Pair {
        self.issue(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])
    }

    /// Of a peer that shows it.
    pub fn client(&self) -> Pair {
        self.issue(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// That was valid before this century's third decade.
    pub fn expired(&self) -> Pair {
        self.issue(|params| {
            params.not_before = date_time_ymd(2010, 1, 1);
            params.not_after = date_time_ymd(2019, 12, 31);
        })
    }

    /// Without an end, as RFC 5280 (section 4.1.2.5) has it.
    pub fn endless(&self) -> Pair {
        self.issue(|params| params.not_after = date_time_ymd(9999, 12, 31))
    }

    /// Marked as a CA's, as what `openssl req -x509` makes.
    pub fn ca_as_server(&self) -> Pair {
        self.issue(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
    }

    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Pair {
            cert: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}
