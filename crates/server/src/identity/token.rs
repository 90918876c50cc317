//! A caller's token: a JSON Web Token (RFC 7519) that the business's own backend signs for a short while, with a role and
//! the one thing that it is about.
//!
//! ```json
//! { "iss": "https://id.example.com", "aud": "waybill", "sub": "anna", "iat": 1795348000, "exp": 1795351600,
//!   "waybill": { "role": "customer", "order_id": "01a2..." } }
//! ```

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;
use waybill_domain::access::{Caller, Customer, Role};
use waybill_domain::id::{DriverId, IdError, UserId};
use waybill_domain::operator::Operator;
use waybill_domain::tenant::Tenant;
use waybill_domain::text::TextError;

use super::AccessError;
use super::access::Credential;
use super::key_set::Key;
use super::trusted_keys::{Keys, TrustedKeys};
use crate::json::ObjectOnly;

/// How far the clocks of signer and server may be apart.
pub const LEEWAY: SignedDuration = SignedDuration::from_secs(5);

/// What a token must say.
#[derive(Debug, Clone)]
pub struct TokenRules {
    /// Its `iss`.
    pub issuer: String,
    /// Its `aud`, or one of several.
    pub audience: String,
    /// How long after its `iat` the `exp` of a customer's or a driver's may be: their devices get lost.
    pub age_max: Duration,
    /// The businesses that share this deployment, of one of which a token may be.
    pub tenants: Vec<Tenant>,
}

/// Verifies tokens.
#[derive(Debug, Clone)]
pub struct TokenVerifier {
    rules: TokenRules,
    keys: TrustedKeys,
}

/// Times are numbers that may have fractions (RFC 7519, section 2).
#[derive(Deserialize)]
struct Claims {
    sub: String,
    iat: f64,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    waybill: Option<OurClaims>,
    #[serde(flatten)]
    _others: ObjectOnly,
}

/// In a claim of our own, so that no other program's claims can be taken for ours.
#[derive(Deserialize)]
struct OurClaims {
    role: Option<String>,
    order_id: Option<String>,
    provider_customer_id: Option<String>,
    tenant: Option<String>,
    #[serde(flatten)]
    _others: ObjectOnly,
}

impl TokenVerifier {
    /// Trusts who has the private half of one of these keys.
    pub fn new(rules: TokenRules, keys: TrustedKeys) -> TokenVerifier {
        TokenVerifier { rules, keys }
    }

    /// Who calls with this token. Its signature is checked first, then whom it is from and for, then its times, then ours.
    pub(super) async fn verify(&self, token: &str, now: Timestamp) -> Result<Credential, AccessError> {
        let mut keys = match self.keys.current() {
            Some(keys) => keys,
            None => self.refreshed().await?,
        };
        if let Some(verified) = keys.verified.get(token) {
            return match verified.expires_at {
                Some(at) if is_over(at, now) => Err(AccessError::Expired),
                _ => Ok(verified),
            };
        }
        let header = decode_header(token).map_err(|_| AccessError::Untrusted)?;
        // A header that asks to be understood (RFC 7515, section 4.1.11), by a program that does not.
        if header.crit.is_some() {
            return Err(AccessError::Untrusted);
        }
        let key_id = header.kid.as_deref();
        if keys.set.find(key_id).is_none() {
            keys = self.refreshed().await?;
        }
        let key = keys.set.find(key_id).ok_or(AccessError::Untrusted)?;
        let verified = self.check(key, token, now)?;
        keys.verified.insert(token.into(), verified.clone());
        Ok(verified)
    }

    async fn refreshed(&self) -> Result<Arc<Keys>, AccessError> {
        self.keys.refresh().await;
        self.keys.current().ok_or(AccessError::NotChecked)
    }

    /// What the token says, which this key has to have signed.
    fn check(&self, key: &Key, token: &str, now: Timestamp) -> Result<Credential, AccessError> {
        let mut validation = Validation::new(key.algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.rules.issuer]);
        validation.set_audience(&[&self.rules.audience]);
        // By the clock that is handed in, below.
        validation.validate_exp = false;
        let claims: Claims = match decode(token, &key.public, &validation) {
            Ok(data) => data.claims,
            Err(error) => return Err(refusal(error.kind())),
        };
        let (caller, expires_at) = self.judge(claims, now)?;
        Ok(Credential {
            caller: Arc::new(caller),
            key: None,
            expires_at: Some(expires_at),
            revoked: key.removed.clone(),
        })
    }

    /// Who the claims say it is, and until when.
    fn judge(&self, claims: Claims, now: Timestamp) -> Result<(Caller, Timestamp), AccessError> {
        let (issued_at, expires_at) = (time("iat", claims.iat)?, time("exp", claims.exp)?);
        let not_before = claims.nbf.map(|nbf| time("nbf", nbf)).transpose()?;
        if is_over(expires_at, now) {
            return Err(AccessError::Expired);
        }
        let is_ahead = |time: Timestamp| time.duration_since(now) > LEEWAY;
        if is_ahead(issued_at) || not_before.is_some_and(is_ahead) {
            return Err(AccessError::NotYetValid);
        }
        let ours = claims.waybill.ok_or_else(|| claim("waybill", "is missing"))?;
        let role = ours.role.as_deref().and_then(Role::parse).ok_or_else(|| {
            let roles = Role::ALL.map(Role::as_str).join(", ");
            claim("waybill.role", &format!("must be one of {roles}"))
        })?;
        let age = expires_at.duration_since(issued_at);
        let age_max = SignedDuration::try_from(self.rules.age_max).unwrap_or(SignedDuration::MAX);
        if matches!(role, Role::Customer | Role::Driver) && age > age_max {
            let most = self.rules.age_max.as_secs();
            return Err(claim(
                "exp",
                &format!("must be at most {most} s after iat for a {}", role.as_str()),
            ));
        }
        let order = ours
            .order_id
            .as_deref()
            .map(|id| part("waybill.order_id", id))
            .transpose()?;
        let provider_customer = ours.provider_customer_id.as_deref();
        let provider_customer = provider_customer
            .map(|id| part("waybill.provider_customer_id", id))
            .transpose()?;
        let tenant = match ours.tenant.as_deref() {
            None => Tenant::default(),
            Some(name) => {
                let known = self.rules.tenants.iter().find(|tenant| tenant.as_str() == name);
                known
                    .cloned()
                    .ok_or_else(|| claim("waybill.tenant", "must be one of tenants.names"))?
            }
        };
        let sub = claims.sub.as_str();
        let caller = match role {
            Role::Customer => Caller::Customer(Customer {
                user: part::<UserId>("sub", sub)?.of(&tenant),
                order,
                provider_customer,
            }),
            _ if order.is_some() => return Err(claim("waybill.order_id", "is for customers only")),
            _ if provider_customer.is_some() => {
                return Err(claim("waybill.provider_customer_id", "is for customers only"));
            }
            Role::Driver => Caller::Driver(part::<DriverId>("sub", sub)?.of(&tenant)),
            Role::Dispatcher | Role::Service | Role::Operator => {
                let name: Operator = sub
                    .parse()
                    .map_err(|error: TextError| claim("sub", &error.to_string()))?;
                Caller::named(role, tenant, &name)
                    .ok_or_else(|| claim("waybill.role", "is about a user or a driver"))?
            }
        };
        Ok((caller, expires_at))
    }
}

/// What is reported of a token that the library refuses: of one with a good signature, which claim is missing.
fn refusal(kind: &ErrorKind) -> AccessError {
    match kind {
        ErrorKind::MissingRequiredClaim(missing) => {
            let missing = ["exp", "iss", "aud", "sub"].into_iter().find(|claim| claim == missing);
            claim(missing.unwrap_or("exp"), "is missing")
        }
        ErrorKind::Json(_) => claim("sub, iat, exp or waybill", "is missing or of another type"),
        _ => AccessError::Untrusted,
    }
}

fn claim(claim: &'static str, why: &str) -> AccessError {
    AccessError::claim(claim, why)
}

fn is_over(expires_at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(expires_at) >= LEEWAY
}

fn part<T: FromStr<Err = IdError>>(name: &'static str, text: &str) -> Result<T, AccessError> {
    text.parse().map_err(|error: IdError| claim(name, &error.to_string()))
}

fn time(name: &'static str, seconds: f64) -> Result<Timestamp, AccessError> {
    // Also false for what is not a number.
    let is_of_this_era = (0.0..=253_402_300_799.0).contains(&seconds);
    let whole = SignedDuration::try_from_secs_f64(seconds)
        .ok()
        .filter(|_| is_of_this_era);
    whole
        .and_then(|since| Timestamp::UNIX_EPOCH.checked_add(since).ok())
        .ok_or_else(|| claim(name, "must be a time in seconds"))
}
