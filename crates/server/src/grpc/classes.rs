//! Which limits each method of the contract counts against.

use waybill_domain::access::Method;

use super::edge::Class;

/// The class of the calls of this method.
pub(super) fn class(method: Method) -> Class {
    match method {
        Method::CreateOrder | Method::ShareOrder => Class::Orders,
        Method::CompleteOrder
        | Method::CancelOrder
        | Method::RefundOrder
        | Method::ReleaseDriver
        | Method::RevokeShare
        | Method::SetDuty
        | Method::RetryOrder
        | Method::ResolveOrder
        | Method::RefundAgain
        | Method::EraseDriver
        | Method::EraseUser
        // What is repaired is found first.
        | Method::ListStuckOrders
        | Method::ShowOrder
        | Method::ShowHealth => Class::Completions,
        Method::GetOrder
        | Method::ListOrders
        | Method::WatchOrder
        | Method::GetDriver
        | Method::SearchDrivers
        | Method::WatchDrivers
        | Method::ListLocations
        | Method::ReplayLocations
        | Method::WatchAssignments => Class::Reads,
        Method::StreamLocations | Method::ReportLocations => Class::Fixes,
        Method::WatchShared => Class::Links,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Typed a second time, by hand.
    #[test]
    fn each_method_counts_against_the_limits_that_the_table_names() {
        let table = [
            ("CreateOrder", "Orders"),
            ("GetOrder", "Reads"),
            ("ListOrders", "Reads"),
            ("WatchOrder", "Reads"),
            ("CompleteOrder", "Completions"),
            ("CancelOrder", "Completions"),
            ("RefundOrder", "Completions"),
            ("ReleaseDriver", "Completions"),
            ("ShareOrder", "Orders"),
            ("RevokeShare", "Completions"),
            ("WatchShared", "Links"),
            ("StreamLocations", "Fixes"),
            ("ReportLocations", "Fixes"),
            ("GetDriver", "Reads"),
            ("SearchDrivers", "Reads"),
            ("WatchDrivers", "Reads"),
            ("ListLocations", "Reads"),
            ("ReplayLocations", "Reads"),
            ("WatchAssignments", "Reads"),
            ("SetDuty", "Completions"),
            ("ListStuckOrders", "Completions"),
            ("ShowOrder", "Completions"),
            ("RetryOrder", "Completions"),
            ("ResolveOrder", "Completions"),
            ("RefundAgain", "Completions"),
            ("ShowHealth", "Completions"),
            ("EraseDriver", "Completions"),
            ("EraseUser", "Completions"),
        ];
        let is = Method::ALL.map(|method| (format!("{method:?}"), format!("{:?}", class(method))));
        let expected = table.map(|(method, class)| (method.to_owned(), class.to_owned()));
        assert_eq!(is, expected);
    }
}
