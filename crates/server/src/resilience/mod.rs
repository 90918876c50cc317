//! What stands between the service and its dependencies.
//!
//! A dependency fails in four ways, and each has its own guard: it is slow ([`Deadline`]), it is down
//! ([`CircuitBreaker`]), we overload it ([`Bulkhead`], [`EgressLimit`]), or it fails for a moment and all callers try
//! again at once ([`RetryBudget`]). [`Admission`] begins no more than is done. [`Guard`] is the short form for a store: a timeout and a breaker.
//! [`Places`] bound what callers keep open, and [`task_stream`] ends what they follow.
//!
//! The pieces know nothing of each other and of what they guard. The order in which they stand is written down where they
//! are stacked (`egress::payments`). Each gets the handles of its metrics when it is made.

mod admission;
mod breaker;
mod budget;
mod bulkhead;
mod deadline;
mod guard;
mod places;
mod rate_limit;
mod task_stream;

pub use admission::{Admission, Overloaded, Work};
pub use breaker::{CallPermit, CircuitBreaker};
pub use budget::{BudgetPolicy, RetryBudget};
pub use bulkhead::{Bulkhead, ExpectedCall, Head, Slot, Turn, WaitsTooLong};
pub use deadline::{Deadline, Elapsed};
pub use guard::{Guard, GuardError};
pub use places::{Place, PlaceLimits, Places};
pub use rate_limit::{CallRate, EgressLimit, SharedBucket, Taken, TooLate};
pub use task_stream::task_stream;
pub use waybill_domain::breaker::{CallOutcome, Open, Policy as BreakerPolicy, State as BreakerState};
