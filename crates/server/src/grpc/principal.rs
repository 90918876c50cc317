//! The principal whose rate limit a call counts against. Callers are not authenticated yet, so it is the user, driver
//! or order that the call names, else the caller's address. Each kind has its own namespace: a driver may have the name
//! of a user.

use tonic::Request;
use waybill_domain::id::{OrderId, UserId};

/// A call of this user.
pub fn user(user: &UserId) -> String {
    format!("user {user}")
}

/// A call about this driver.
pub fn driver(driver: &str) -> String {
    format!("driver {driver}")
}

/// A call about this order.
pub fn order(order: OrderId) -> String {
    format!("order {order}")
}

/// A call that names no user, driver or order.
pub fn caller<T>(request: &Request<T>) -> String {
    request
        .remote_addr()
        .map_or_else(|| "caller".to_owned(), |address| format!("caller {}", address.ip()))
}
