//! What stands between the service and the things that it depends on.
//!
//! A dependency fails in four ways, and each has its own guard: it is slow ([`Deadline`]), it is down
//! ([`CircuitBreaker`]), it is overloaded by us ([`Bulkhead`], [`EgressLimit`]), or it stumbles and everybody tries
//! again at once ([`RetryBudget`]). [`Guard`] is the short form for a store: a timeout and a breaker.
//!
//! The pieces know nothing of each other and of what they guard; the order in which they stand is written down where
//! they are stacked (`egress::payments`). Each reports what it did as a plain struct, which the metrics module reads.

mod breaker;
mod budget;
mod bulkhead;
mod deadline;
mod guard;
mod rate_limit;

pub use breaker::{BreakerSnapshot, CallPermit, CircuitBreaker};
pub use budget::{BudgetPolicy, RetryBudget};
pub use bulkhead::{Bulkhead, BulkheadFull, BulkheadSnapshot, Slot};
pub use deadline::{Deadline, Elapsed};
pub use guard::{Guard, GuardError, GuardSnapshot};
pub use rate_limit::{EgressLimit, EgressLimitSnapshot, TooLate};
pub use waybill_domain::breaker::{CallOutcome, Open, Policy as BreakerPolicy, State as BreakerState};
