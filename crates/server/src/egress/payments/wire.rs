//! HTTP to the provider: one request, one answer, nothing clever.
//!
//! Redirects are not followed and no proxy is read from the environment: either would carry the secret to a host that was
//! not configured. The client's own retries are off, since they would be neither counted nor limited. A body is read up to a
//! cap.

use super::answer::Cause;
use super::provider_id::is_id;
use super::settings::{PaymentSettings, SettingsError};
use crate::crash_points::crash_point;
use crate::telemetry::{self, TRACEPARENT};
use crate::tls::install_crypto;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url, redirect, retry};
use secrecy::ExposeSecret;

/// The API whose shapes `verdict` reads. Pinned: an account's default version changes under its clients.
const STRIPE_VERSION: HeaderValue = HeaderValue::from_static("2025-04-30.basil");
const STRIPE_VERSION_NAME: HeaderName = HeaderName::from_static("stripe-version");
const REPLAYED_NAME: HeaderName = HeaderName::from_static("idempotent-replayed");
const IDEMPOTENCY_KEY_NAME: HeaderName = HeaderName::from_static("idempotency-key");

/// One object or one error is a few KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// A page has up to 100 objects.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A request that can be sent any number of times.
#[derive(Debug)]
pub(super) struct Outgoing {
    method: Method,
    path: String,
    parameters: Vec<(&'static str, String)>,
    key: Option<HeaderValue>,
    body_bytes_max: usize,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: u16,
    /// Whether the provider says that this is the answer to an earlier request with the same key.
    pub is_replay: bool,
    pub body: Vec<u8>,
}

/// No answer, and what that means for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    NotExecuted(Cause),
    Ambiguous(Cause),
}

/// The HTTP client.
#[derive(Debug)]
pub(super) struct Wire {
    client: reqwest::Client,
    base: String,
}

impl Outgoing {
    /// A request that moves money, under its idempotency key.
    pub fn post(path: &str, key: &str, form: Vec<(&'static str, String)>) -> Result<Self, Cause> {
        // Stripe accepts up to 255 characters.
        let is_key = !key.is_empty() && key.len() <= 255;
        let key = HeaderValue::from_str(key)
            .ok()
            .filter(|_| is_key)
            .ok_or(Cause::Unsendable)?;
        let path = path.to_owned();
        Ok(Outgoing {
            method: Method::POST,
            path,
            parameters: form,
            key: Some(key),
            body_bytes_max: BODY_BYTES_MAX,
        })
    }

    /// A read of one object. The id comes from outside, and must not name another path.
    pub fn get(path: &str, id: &str) -> Result<Self, Cause> {
        if !is_id(id) {
            return Err(Cause::Unsendable);
        }
        let path = format!("{path}/{id}");
        Ok(Outgoing {
            method: Method::GET,
            path,
            parameters: vec![],
            key: None,
            body_bytes_max: BODY_BYTES_MAX,
        })
    }

    /// A page of a list.
    pub fn list(path: &str, query: Vec<(&'static str, String)>) -> Self {
        let path = path.to_owned();
        Outgoing {
            method: Method::GET,
            path,
            parameters: query,
            key: None,
            body_bytes_max: PAGE_BYTES_MAX,
        }
    }
}

impl Wire {
    pub fn new(settings: &PaymentSettings) -> Result<Self, SettingsError> {
        install_crypto();
        let base = Url::parse(&settings.base_url).map_err(|_| SettingsError::BaseUrl)?;
        let is_plain = match base.scheme() {
            "http" => true,
            "https" => false,
            _ => return Err(SettingsError::BaseUrl),
        };
        // Credentials in a URL get into logs, and would take the place of the secret.
        if !base.username().is_empty() || base.password().is_some() || base.query().is_some() {
            return Err(SettingsError::BaseUrl);
        }
        let bearer = format!("Bearer {}", settings.secret.expose_secret());
        let mut bearer = HeaderValue::try_from(bearer).map_err(|_| SettingsError::Secret)?;
        // Keeps it out of every `Debug`.
        bearer.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer), (STRIPE_VERSION_NAME, STRIPE_VERSION)]);
        let mut builder = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("waybill/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.connect_timeout)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy();
        if is_plain {
            // The simulator's provider has no TLS, and a bare machine has no root certificates: without this line the
            // client could not be built there.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(SettingsError::Client)?;
        Ok(Wire {
            client,
            base: base.as_str().trim_end_matches('/').to_owned(),
        })
    }

    /// Sends the request once.
    pub async fn send(&self, outgoing: &Outgoing) -> Result<Reply, Fault> {
        let url = format!("{}{}", self.base, outgoing.path);
        let mut request = self.client.request(outgoing.method.clone(), url);
        request = match &outgoing.key {
            Some(key) => request.header(IDEMPOTENCY_KEY_NAME, key).form(&outgoing.parameters),
            None => request.query(&outgoing.parameters),
        };
        if let Some(traceparent) = telemetry::traceparent() {
            request = request.header(TRACEPARENT, traceparent);
        }
        let sent = request.send();
        let sent = crash_point!("charge_written",
            if outgoing.key.is_some() && outgoing.path == super::PAYMENTS_PATH, while sent);
        let sent = crash_point!("refund_written",
            if outgoing.key.is_some() && outgoing.path == super::REFUNDS_PATH, while sent);
        let mut response = sent.await.map_err(fault)?;
        let status = response.status().as_u16();
        let is_replay = response
            .headers()
            .get(REPLAYED_NAME)
            .is_some_and(|value| value == "true");
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|_| Fault::Ambiguous(Cause::ConnectionLost))?
        {
            if body.len() + chunk.len() > outgoing.body_bytes_max {
                return Err(Fault::Ambiguous(Cause::Unreadable));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply {
            status,
            is_replay,
            body,
        })
    }
}

/// Only an error while connecting proves that the provider saw nothing.
fn fault(error: reqwest::Error) -> Fault {
    let fault = if error.is_builder() {
        Fault::NotExecuted(Cause::Unsendable)
    } else if error.is_connect() {
        Fault::NotExecuted(Cause::NoConnection)
    } else {
        Fault::Ambiguous(Cause::ConnectionLost)
    };
    // The cause is for the log only. Its URL may hold ids and is left out; the secret is in a header and never in it.
    tracing::debug!(
        error = &error.without_url() as &dyn std::error::Error,
        ?fault,
        "no answer of the provider"
    );
    fault
}
