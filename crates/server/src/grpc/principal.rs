//! Who makes a call: what the edge found out of its caller, and the name under which its rate limits count.
//!
//! Where callers are not known, that is the user, driver or order that the call names, else the caller's address. Each kind
//! has its own namespace: a driver may have the name of a user.

use futures_util::stream::{Stream, StreamExt as _, unfold};
use tonic::{Extensions, Request, Status};
use waybill_domain::access::{Caller, Scope};
use waybill_domain::id::{DriverId, OrderId, ProviderCustomer, UserId};
use waybill_domain::operator::Operator;

use super::edge::ClientAddress;
use super::status::{not_of_one_business, not_permitted};
use crate::identity::Access;

/// What this call sees and changes. A call that did not pass the edge sees nothing.
pub fn access<T>(request: &Request<T>) -> Result<Access, Status> {
    let access = request.extensions().get::<Access>();
    access
        .cloned()
        .ok_or_else(|| Status::permission_denied("the call was not admitted"))
}

/// Under which name the rate limits count this call: the caller's, or the one that is named in the call. Who may call on
/// anyone's data calls for many: each of them has a limit, so that one does not use up those of the others.
pub fn of(access: &Access, named: impl FnOnce() -> String) -> String {
    match (access.caller(), &access.scope) {
        (Some(caller), Scope::Tenant(tenant)) => format!("{tenant}/{caller} {}", named()),
        (Some(caller), _) => format!("{}/{caller}", caller.tenant()),
        (None, _) => named(),
    }
}

/// Refuses an order in another user's name.
pub fn check_user(access: &Access, user: &UserId) -> Result<(), Status> {
    match &access.scope {
        Scope::Everything | Scope::Tenant(_) => Ok(()),
        // It is about an order that is there already.
        Scope::User(_, Some(_)) => Err(not_permitted("user_id", "a token for one order places no other")),
        Scope::User(own, None) if own == user => Ok(()),
        Scope::User(own, None) => Err(not_permitted("user_id", &format!("must be {}, the caller", own.name()))),
        Scope::Driver(_) => Err(not_permitted("user_id", "a driver places no orders")),
    }
}

/// Refuses what a driver does in another driver's name; the driver who does it, if the call names one or is one's.
pub fn check_driver(access: &Access, named: Option<DriverId>) -> Result<Option<DriverId>, Status> {
    match (access.scope.driver(), named) {
        (Some(own), Some(named)) if *own != named => Err(not_permitted(
            "driver_id",
            &format!("must be {}, the caller", own.name()),
        )),
        (own, named) => Ok(named.or_else(|| own.cloned())),
    }
}

/// Refuses what an operator does in another one's name.
pub fn check_operator(access: &Access, named: &Operator) -> Result<(), Status> {
    match access.caller() {
        Some(caller) if caller.subject() != named.as_str() => Err(not_permitted(
            "operator",
            &format!("must be {}, the caller", caller.subject()),
        )),
        _ => Ok(()),
    }
}

/// Refuses what is about the whole deployment to an operator of one of its businesses.
pub fn check_all_businesses(access: &Access) -> Result<(), Status> {
    if access.scope.business().is_default() {
        return Ok(());
    }
    Err(not_of_one_business())
}

/// The stream, until what the caller showed is worth nothing any more: then it ends with that reason.
pub fn until_ended<T: Send>(
    stream: impl Stream<Item = Result<T, Status>> + Send + Unpin,
    access: Access,
) -> impl Stream<Item = Result<T, Status>> + Send {
    let ended = Box::pin(async move { access.ended().await });
    unfold(Some((stream, ended)), |state| async {
        let (mut stream, mut ended) = state?;
        tokio::select! {
            biased;
            why = &mut ended => Some((Err(why.into()), None)),
            item = stream.next() => Some((item?, Some((stream, ended)))),
        }
    })
}

/// Refuses what the business decides, and neither its customers nor its drivers.
pub fn check_business(access: &Access, field: &'static str, is_named: bool) -> Result<(), Status> {
    match access.scope {
        Scope::User(..) | Scope::Driver(_) if is_named => Err(not_permitted(field, "may be set by the business only")),
        _ => Ok(()),
    }
}

/// Refuses to charge what another customer has saved at the provider.
pub fn check_provider_customer(access: &Access, named: Option<&ProviderCustomer>) -> Result<(), Status> {
    match (access.caller(), named) {
        (Some(Caller::Customer(customer)), Some(named)) if customer.provider_customer.as_ref() != Some(named) => {
            let why = "must be the one of the token's claim waybill.provider_customer_id";
            Err(not_permitted("provider_customer_id", why))
        }
        _ => Ok(()),
    }
}

/// Who calls, as far as it is known: its name, else its address.
pub fn caller(access: &Access, extensions: &Extensions) -> String {
    access
        .caller()
        .map_or_else(|| address(extensions), |caller| format!("{}/{caller}", caller.tenant()))
}

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
pub fn address(extensions: &Extensions) -> String {
    ClientAddress::of(extensions).map_or_else(
        || "caller".to_owned(),
        |client| format!("caller {}", client.counted_as()),
    )
}
