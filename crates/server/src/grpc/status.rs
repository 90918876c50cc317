//! Errors as gRPC statuses: the one place where they get their codes. No text here comes from a store or the payment
//! provider: those go to the log.

use std::collections::HashMap;
use std::time::Duration;

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::{error, warn};
use waybill_domain::id::OrderId;

use super::edge::RateLimited;
use crate::drivers;
use crate::erasure::ErasureError;
use crate::identity::AccessError;
use crate::live_feed;
use crate::locations::ingest::IngestError;
use crate::operator::{IN_FLIGHT_RETRY, OperatorError};
use crate::orders::service::{OrderError, PlaceError};
use crate::orders::watch::WatchError;
use crate::storage::StoreError;
use crate::tracking::{self, ShareError};

/// The domain of the reasons in ErrorInfo.
const DOMAIN: &str = "waybill";
/// When to try again after a store was not available: about as long as a breaker stays open at first.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// When to ask again for an order that is in progress.
const PROGRESS_RETRY: Duration = Duration::from_secs(1);
/// When to watch again after a server ended: another one serves.
const ELSEWHERE_RETRY: Duration = Duration::from_millis(100);
/// When to send fixes again after the buffer was full: the history writes some thousands of rows in that time.
const BUFFER_RETRY: Duration = Duration::from_millis(500);

/// The header in which gRPC clients expect the time to wait before they send a call again, in milliseconds.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

impl From<RateLimited> for Status {
    fn from(limited: RateLimited) -> Status {
        pushed_back(limited.to_string(), limited.retry_after)
    }
}

impl From<PlaceError> for Status {
    fn from(error: PlaceError) -> Status {
        let text = error.to_string();
        match error {
            PlaceError::KeyReused => {
                with_reason(Code::FailedPrecondition, text, "IDEMPOTENCY_KEY_REUSED", HashMap::new())
            }
            PlaceError::InProgress(order) => {
                let metadata = HashMap::from([("order_id".to_owned(), order.to_string())]);
                let mut details = ErrorDetails::with_error_info("ORDER_IN_PROGRESS", DOMAIN, metadata);
                details.set_retry_info(Some(PROGRESS_RETRY));
                Status::with_error_details(Code::Aborted, text, details)
            }
            PlaceError::TooLate => Status::deadline_exceeded(text),
            PlaceError::Overloaded => retry(Code::ResourceExhausted, text, STORE_RETRY),
            PlaceError::ChargesWait { retry_after } => pushed_back(text, retry_after.max(STORE_RETRY)),
            PlaceError::NotReady(_) => retry(Code::Unavailable, text, STORE_RETRY),
            PlaceError::Store(error) => error.into(),
        }
    }
}

impl From<AccessError> for Status {
    fn from(error: AccessError) -> Status {
        let (text, reason) = (error.to_string(), error.reason());
        let (code, metadata) = match error {
            AccessError::Missing
            | AccessError::TooLong
            | AccessError::Expired
            | AccessError::NotYetValid
            | AccessError::Untrusted
            | AccessError::Revoked => (Code::Unauthenticated, HashMap::new()),
            AccessError::NotChecked => {
                let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
                details.set_retry_info(Some(STORE_RETRY));
                return Status::with_error_details(Code::Unavailable, text, details);
            }
            AccessError::Claim { claim, .. } => {
                let metadata = HashMap::from([("claim".to_owned(), claim.to_owned())]);
                (Code::Unauthenticated, metadata)
            }
            AccessError::NotAllowed { role, method } => {
                let metadata = HashMap::from([
                    ("role".to_owned(), role.as_str().to_owned()),
                    ("method".to_owned(), format!("{method:?}")),
                ]);
                (Code::PermissionDenied, metadata)
            }
        };
        with_reason(code, text, reason, metadata)
    }
}

/// What a call names is not the caller's to name.
pub fn not_permitted(field: &str, why: &str) -> Status {
    let mut details = ErrorDetails::with_bad_request_violation(field, why);
    details.set_error_info("NOT_PERMITTED", DOMAIN, HashMap::new());
    Status::with_error_details(Code::PermissionDenied, format!("{field} {why}"), details)
}

/// This server is draining: the call goes on at any other.
pub fn elsewhere() -> Status {
    retry(Code::Unavailable, "the server is draining".to_owned(), ELSEWHERE_RETRY)
}

/// What is asked for is about the whole deployment, and the caller is of one of its businesses.
pub fn not_of_one_business() -> Status {
    let text = "how the server is, is for operators of the whole deployment, and not of one of its businesses";
    with_reason(Code::PermissionDenied, text.to_owned(), "NOT_PERMITTED", HashMap::new())
}

impl From<OrderError> for Status {
    fn from(error: OrderError) -> Status {
        let text = error.to_string();
        match error {
            OrderError::NotFound => Status::not_found(text),
            OrderError::NotCompletable => {
                with_reason(Code::FailedPrecondition, text, "ORDER_NOT_COMPLETABLE", HashMap::new())
            }
            OrderError::NotCancellable => {
                with_reason(Code::FailedPrecondition, text, "ORDER_NOT_CANCELLABLE", HashMap::new())
            }
            OrderError::NotRefundable(state) => with_reason(
                Code::FailedPrecondition,
                text,
                "ORDER_NOT_REFUNDABLE",
                status_metadata(state.as_str()),
            ),
            OrderError::RefundTooLarge { left_minor } => {
                let metadata = HashMap::from([("left".to_owned(), left_minor.to_string())]);
                with_reason(Code::FailedPrecondition, text, "REFUND_TOO_LARGE", metadata)
            }
            OrderError::AmountTooLarge { left_minor, .. } => {
                let metadata = HashMap::from([("left".to_owned(), left_minor.to_string())]);
                with_reason(Code::FailedPrecondition, text, "AMOUNT_TOO_LARGE", metadata)
            }
            OrderError::WrongCurrency { field, .. } | OrderError::NotPayable { field, .. } => {
                let details = ErrorDetails::with_bad_request_violation(field, text.as_str());
                Status::with_error_details(Code::InvalidArgument, text, details)
            }
            OrderError::Disputed => with_reason(Code::FailedPrecondition, text, "PAYMENT_DISPUTED", HashMap::new()),
            OrderError::DriverAssigned => {
                with_reason(Code::FailedPrecondition, text, "DRIVER_ASSIGNED", HashMap::new())
            }
            OrderError::NoFee => with_reason(Code::FailedPrecondition, text, "NO_CANCELLATION_FEE", HashMap::new()),
            OrderError::Capturing => {
                let mut details = ErrorDetails::with_error_info("PAYMENT_BEING_CAPTURED", DOMAIN, HashMap::new());
                details.set_retry_info(Some(PROGRESS_RETRY));
                Status::with_error_details(Code::Aborted, text, details)
            }
            OrderError::KeyReused => {
                with_reason(Code::FailedPrecondition, text, "IDEMPOTENCY_KEY_REUSED", HashMap::new())
            }
            OrderError::DriverNotAssigned => {
                with_reason(Code::FailedPrecondition, text, "DRIVER_NOT_ASSIGNED", HashMap::new())
            }
            OrderError::Store(error) => error.into(),
        }
    }
}

impl From<WatchError> for Status {
    fn from(error: WatchError) -> Status {
        let text = error.to_string();
        match error {
            WatchError::NotFound => Status::not_found(text),
            WatchError::TooMany | WatchError::Unread => retry(Code::ResourceExhausted, text, STORE_RETRY),
            WatchError::Draining => retry(Code::Unavailable, text, ELSEWHERE_RETRY),
            WatchError::Store(error) => error.into(),
        }
    }
}

impl From<ShareError> for Status {
    fn from(error: ShareError) -> Status {
        let text = error.to_string();
        match error {
            ShareError::NotFound | ShareError::NoSuchLink => Status::not_found(text),
            ShareError::Ended => with_reason(Code::FailedPrecondition, text, "ORDER_ENDED", HashMap::new()),
            ShareError::TooMany => with_reason(Code::FailedPrecondition, text, "TOO_MANY_LINKS", HashMap::new()),
            ShareError::Random => retry(Code::Unavailable, text, STORE_RETRY),
            ShareError::Store(error) => error.into(),
        }
    }
}

impl From<tracking::WatchError> for Status {
    fn from(error: tracking::WatchError) -> Status {
        let text = error.to_string();
        match error {
            tracking::WatchError::Ended => with_reason(Code::NotFound, text, "LINK_ENDED", HashMap::new()),
            tracking::WatchError::TooMany | tracking::WatchError::Unread => {
                retry(Code::ResourceExhausted, text, STORE_RETRY)
            }
            tracking::WatchError::Draining => retry(Code::Unavailable, text, ELSEWHERE_RETRY),
            tracking::WatchError::Store(error) => error.into(),
        }
    }
}

impl From<drivers::WatchError> for Status {
    fn from(error: drivers::WatchError) -> Status {
        let text = error.to_string();
        match error {
            drivers::WatchError::TooMany | drivers::WatchError::Unread => {
                retry(Code::ResourceExhausted, text, STORE_RETRY)
            }
            drivers::WatchError::Store(error) => error.into(),
            drivers::WatchError::Draining => retry(Code::Unavailable, text, ELSEWHERE_RETRY),
        }
    }
}

impl From<live_feed::WatchError> for Status {
    fn from(error: live_feed::WatchError) -> Status {
        let text = error.to_string();
        match error {
            live_feed::WatchError::TooMany | live_feed::WatchError::Unread => {
                retry(Code::ResourceExhausted, text, STORE_RETRY)
            }
            live_feed::WatchError::NotFound => Status::not_found(text),
            live_feed::WatchError::Store(error) => error.into(),
            live_feed::WatchError::Unavailable => retry(Code::Unavailable, text, STORE_RETRY),
            live_feed::WatchError::Draining => retry(Code::Unavailable, text, ELSEWHERE_RETRY),
        }
    }
}

impl From<OperatorError> for Status {
    fn from(error: OperatorError) -> Status {
        let text = error.to_string();
        match error {
            OperatorError::NotFound => Status::not_found(text),
            OperatorError::Settled { status } => with_reason(
                Code::FailedPrecondition,
                text,
                "ORDER_AT_REST",
                status_metadata(&status),
            ),
            OperatorError::NotResolvable { state, .. } => with_reason(
                Code::FailedPrecondition,
                text,
                "ORDER_NOT_RESOLVABLE",
                status_metadata(state.as_str()),
            ),
            OperatorError::InFlight => {
                let mut details = ErrorDetails::with_error_info("ORDER_IN_FLIGHT", DOMAIN, HashMap::new());
                details.set_retry_info(Some(IN_FLIGHT_RETRY));
                Status::with_error_details(Code::Aborted, text, details)
            }
            OperatorError::StillRetried => {
                with_reason(Code::FailedPrecondition, text, "CHARGE_STILL_SENT", HashMap::new())
            }
            OperatorError::Held => with_reason(Code::FailedPrecondition, text, "PAYMENT_HELD", HashMap::new()),
            OperatorError::RefundPending => {
                with_reason(Code::FailedPrecondition, text, "REFUND_PENDING", HashMap::new())
            }
            OperatorError::RefundMayBeMade => {
                with_reason(Code::FailedPrecondition, text, "REFUND_MAY_BE_MADE", HashMap::new())
            }
            OperatorError::NothingFailed => {
                with_reason(Code::FailedPrecondition, text, "NO_FAILED_REFUND", HashMap::new())
            }
            OperatorError::Contradicted(_) => {
                with_reason(Code::FailedPrecondition, text, "PROVIDER_DISAGREES", HashMap::new())
            }
            OperatorError::Provider(_) => {
                warn!(%error, "call refused");
                retry(Code::Unavailable, text, STORE_RETRY)
            }
            OperatorError::Store(error) => error.into(),
        }
    }
}

impl From<ErasureError> for Status {
    fn from(error: ErasureError) -> Status {
        let text = error.to_string();
        let with_order = |reason, order: OrderId| {
            let metadata = HashMap::from([("order_id".to_owned(), order.to_string())]);
            with_reason(Code::FailedPrecondition, text.clone(), reason, metadata)
        };
        match error {
            ErasureError::OnOrder(order) => with_order("DRIVER_ON_ORDER", order),
            ErasureError::NotErasable(order, _) => with_order("ORDER_NOT_ERASABLE", order),
            ErasureError::HistoryBehind => retry(Code::Unavailable, text, STORE_RETRY),
            ErasureError::TooMany => retry(Code::ResourceExhausted, text, STORE_RETRY),
            ErasureError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Status {
        match error {
            StoreError::Unavailable { store, .. } | StoreError::Busy { store, .. } => {
                warn!(%error, "call refused");
                retry(Code::Unavailable, format!("{store} is not available"), STORE_RETRY)
            }
            // The worker with the lease goes on.
            StoreError::Fenced { .. } => retry(
                Code::Unavailable,
                "another worker claimed the order".to_owned(),
                PROGRESS_RETRY,
            ),
            StoreError::Aborted(_) | StoreError::Unexpected(_) => {
                error!(%error, "call failed");
                Status::internal("internal error; see the log")
            }
        }
    }
}

impl From<IngestError> for Status {
    fn from(error: IngestError) -> Status {
        match error {
            IngestError::Full | IngestError::ShareTaken => {
                retry(Code::ResourceExhausted, error.to_string(), BUFFER_RETRY)
            }
            IngestError::Unavailable | IngestError::Draining => {
                retry(Code::Unavailable, error.to_string(), STORE_RETRY)
            }
        }
    }
}

/// The order's status, for machines.
fn status_metadata(status: &str) -> HashMap<String, String> {
    HashMap::from([("status".to_owned(), status.to_owned())])
}

/// RESOURCE_EXHAUSTED until then. Clients obey the pushback by themselves.
fn pushed_back(text: String, retry_after: Duration) -> Status {
    let retry_after_ms = u64::try_from(retry_after.as_millis())
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let details = ErrorDetails::with_retry_info(Some(retry_after));
    let mut metadata = MetadataMap::new();
    metadata.insert(PUSHBACK, MetadataValue::from(retry_after_ms));
    Status::with_error_details_and_metadata(Code::ResourceExhausted, text, details, metadata)
}

fn retry(code: Code, text: String, after: Duration) -> Status {
    Status::with_error_details(code, text, ErrorDetails::with_retry_info(Some(after)))
}

fn with_reason(code: Code, text: String, reason: &str, metadata: HashMap<String, String>) -> Status {
    Status::with_error_details(code, text, ErrorDetails::with_error_info(reason, DOMAIN, metadata))
}
