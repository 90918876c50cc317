//! Who may call what, and on whose data: the one matrix of methods and roles.
//!
//! A caller has a [`Role`], and is about one user or driver. [`Method::reach`] says whether the role may call a method at
//! all. What it then sees and changes is a [`Scope`], which every query of orders and drivers takes.

use std::fmt;
use std::sync::Arc;

use crate::id::{DriverId, OrderId, ProviderCustomer, UserId};
use crate::operator::Operator;
use crate::order::Order;
use crate::tenant::Tenant;

/// What a caller is to the business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Places orders, and follows its own.
    Customer,
    /// Serves orders, and reports its own position.
    Driver,
    /// A person who watches over all orders and drivers.
    Dispatcher,
    /// A program of the business.
    Service,
    /// A person who settles what is stuck.
    Operator,
}

/// Every method of the contract, by its name there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is documented in the contract, proto/waybill")]
pub enum Method {
    CreateOrder,
    GetOrder,
    ListOrders,
    WatchOrder,
    CompleteOrder,
    CancelOrder,
    RefundOrder,
    ReleaseDriver,
    ShareOrder,
    RevokeShare,
    WatchShared,
    StreamLocations,
    ReportLocations,
    GetDriver,
    SearchDrivers,
    WatchDrivers,
    ListLocations,
    ReplayLocations,
    WatchAssignments,
    SetDuty,
    ListStuckOrders,
    ShowOrder,
    RetryOrder,
    ResolveOrder,
    RefundAgain,
    ShowHealth,
    EraseDriver,
    EraseUser,
}

/// On whose data a role may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// On that of the user or driver whom the caller is about.
    Own,
    /// On anyone's of the caller's business.
    All,
}

/// A caller whose word on who it is was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A customer.
    Customer(Customer),
    /// A driver.
    Driver(DriverId),
    /// A dispatcher.
    Dispatcher(Staff),
    /// A program.
    Service(Staff),
    /// An operator.
    Operator(Staff),
}

/// A person or a program of a business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staff {
    /// Of which.
    pub tenant: Tenant,
    /// By which name.
    pub name: String,
}

/// A customer who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    /// Who.
    pub user: UserId,
    /// The one order to which it is limited, if it is.
    pub order: Option<OrderId>,
    /// Who it is at the payment provider: whose saved means of payment it may use.
    pub provider_customer: Option<ProviderCustomer>,
}

/// On whose data something is done, and in whose name.
#[derive(Debug, Clone)]
pub struct Authority {
    /// What may be seen and changed.
    pub scope: Scope,
    /// The role and the name of who asked for it; `None`: callers are not known.
    pub name: Option<Arc<str>>,
}

/// Whose data a call sees and changes. What lies outside is for the call as if it did not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everyone's, of all businesses: for what no caller asked for.
    Everything,
    /// Everyone's of this business.
    Tenant(Tenant),
    /// The orders of this user, or one of them.
    User(UserId, Option<OrderId>),
    /// This driver, and the orders that it serves.
    Driver(DriverId),
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 5] = [
        Role::Customer,
        Role::Driver,
        Role::Dispatcher,
        Role::Service,
        Role::Operator,
    ];

    /// By its name in tokens and keys.
    pub fn parse(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Its name in tokens and keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Customer => "customer",
            Role::Driver => "driver",
            Role::Dispatcher => "dispatcher",
            Role::Service => "service",
            Role::Operator => "operator",
        }
    }
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 28] = [
        Method::CreateOrder,
        Method::GetOrder,
        Method::ListOrders,
        Method::WatchOrder,
        Method::CompleteOrder,
        Method::CancelOrder,
        Method::RefundOrder,
        Method::ReleaseDriver,
        Method::ShareOrder,
        Method::RevokeShare,
        Method::WatchShared,
        Method::StreamLocations,
        Method::ReportLocations,
        Method::GetDriver,
        Method::SearchDrivers,
        Method::WatchDrivers,
        Method::ListLocations,
        Method::ReplayLocations,
        Method::WatchAssignments,
        Method::SetDuty,
        Method::ListStuckOrders,
        Method::ShowOrder,
        Method::RetryOrder,
        Method::ResolveOrder,
        Method::RefundAgain,
        Method::ShowHealth,
        Method::EraseDriver,
        Method::EraseUser,
    ];

    /// Whether the caller is not asked who it is: a secret in its message says what it sees.
    pub fn is_by_link(self) -> bool {
        self == Method::WatchShared
    }

    /// On whose data this role may call the method; `None`: not at all.
    #[expect(clippy::match_same_arms, reason = "a table, with a row for each method")]
    pub fn reach(self, role: Role) -> Option<Reach> {
        const OWN: Option<Reach> = Some(Reach::Own);
        const ALL: Option<Reach> = Some(Reach::All);
        const NO: Option<Reach> = None;
        let [customer, driver, dispatcher, service, operator] = match self {
            Method::CreateOrder => [OWN, NO, ALL, ALL, NO],
            Method::GetOrder => [OWN, OWN, ALL, ALL, ALL],
            Method::WatchOrder => [OWN, OWN, ALL, ALL, ALL],
            Method::ListOrders => [OWN, NO, ALL, ALL, ALL],
            Method::CompleteOrder => [NO, OWN, ALL, ALL, NO],
            Method::CancelOrder => [OWN, NO, ALL, ALL, NO],
            // Money that is given back beyond the saga is the business's to decide.
            Method::RefundOrder => [NO, NO, NO, ALL, ALL],
            Method::ReleaseDriver => [NO, OWN, ALL, ALL, NO],
            Method::ShareOrder | Method::RevokeShare => [OWN, NO, ALL, ALL, ALL],
            // No role opens it: the link does.
            Method::WatchShared => [NO, NO, NO, NO, NO],
            Method::StreamLocations => [NO, OWN, NO, ALL, NO],
            Method::ReportLocations => [NO, OWN, NO, ALL, NO],
            // A customer sees the driver of its order.
            Method::GetDriver => [OWN, OWN, ALL, ALL, ALL],
            Method::SearchDrivers => [NO, NO, ALL, ALL, ALL],
            // A customer follows the driver of its order.
            Method::WatchDrivers => [OWN, NO, ALL, ALL, ALL],
            Method::ListLocations => [NO, OWN, ALL, ALL, ALL],
            Method::ReplayLocations => [NO, NO, ALL, ALL, ALL],
            Method::WatchAssignments => [NO, OWN, ALL, ALL, ALL],
            Method::SetDuty => [NO, OWN, ALL, ALL, NO],
            Method::ListStuckOrders
            | Method::ShowOrder
            | Method::RetryOrder
            | Method::ResolveOrder
            | Method::RefundAgain
            | Method::ShowHealth => [NO, NO, NO, NO, ALL],
            // A program deletes accounts; a person does it by hand.
            Method::EraseDriver | Method::EraseUser => [NO, NO, NO, ALL, ALL],
        };
        match role {
            Role::Customer => customer,
            Role::Driver => driver,
            Role::Dispatcher => dispatcher,
            Role::Service => service,
            Role::Operator => operator,
        }
    }
}

impl Caller {
    /// A caller of this role that is about no one, and is known by its name; `None`: the role is about a user or a driver.
    pub fn named(role: Role, tenant: Tenant, name: &Operator) -> Option<Caller> {
        let staff = Staff {
            tenant,
            name: name.as_str().to_owned(),
        };
        match role {
            Role::Customer | Role::Driver => None,
            Role::Dispatcher => Some(Caller::Dispatcher(staff)),
            Role::Service => Some(Caller::Service(staff)),
            Role::Operator => Some(Caller::Operator(staff)),
        }
    }

    /// Of which business it is.
    pub fn tenant(&self) -> Tenant {
        match self {
            Caller::Customer(customer) => customer.user.tenant(),
            Caller::Driver(driver) => driver.tenant(),
            Caller::Dispatcher(staff) | Caller::Service(staff) | Caller::Operator(staff) => staff.tenant.clone(),
        }
    }

    /// What it is to the business.
    pub fn role(&self) -> Role {
        match self {
            Caller::Customer(_) => Role::Customer,
            Caller::Driver(_) => Role::Driver,
            Caller::Dispatcher(_) => Role::Dispatcher,
            Caller::Service(_) => Role::Service,
            Caller::Operator(_) => Role::Operator,
        }
    }

    /// Whom it is about, or its name, as its business knows it.
    pub fn subject(&self) -> &str {
        match self {
            Caller::Customer(customer) => customer.user.name(),
            Caller::Driver(driver) => driver.name(),
            Caller::Dispatcher(staff) | Caller::Service(staff) | Caller::Operator(staff) => &staff.name,
        }
    }

    /// What it sees and changes with this method; `None`: it may not call it.
    pub fn scope(&self, method: Method) -> Option<Scope> {
        let reach = method.reach(self.role())?;
        Some(match (reach, self) {
            (Reach::All, caller) => Scope::Tenant(caller.tenant()),
            (Reach::Own, Caller::Customer(customer)) => Scope::User(customer.user.clone(), customer.order),
            (Reach::Own, Caller::Driver(driver)) => Scope::Driver(driver.clone()),
            // They are about no user or driver, so that nothing is their own.
            (Reach::Own, Caller::Dispatcher(_) | Caller::Service(_) | Caller::Operator(_)) => return None,
        })
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role().as_str(), self.subject())
    }
}

impl Scope {
    /// Whether this order lies within it. A driver's are those that it was the last to serve.
    pub fn covers(&self, order: &Order) -> bool {
        match self {
            Scope::Everything => true,
            Scope::Tenant(tenant) => order.user.tenant() == *tenant,
            Scope::User(user, only) => order.user == *user && only.is_none_or(|only| order.id == only),
            Scope::Driver(driver) => {
                let assignment = order.assignment.as_ref();
                assignment.is_some_and(|assignment| assignment.driver == *driver)
            }
        }
    }

    /// The user to whom it is limited.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Scope::User(user, _) => Some(user),
            Scope::Everything | Scope::Tenant(_) | Scope::Driver(_) => None,
        }
    }

    /// The order to which it is limited.
    pub fn order(&self) -> Option<OrderId> {
        match self {
            Scope::User(_, order) => *order,
            Scope::Everything | Scope::Tenant(_) | Scope::Driver(_) => None,
        }
    }

    /// The driver to whom it is limited.
    pub fn driver(&self) -> Option<&DriverId> {
        match self {
            Scope::Driver(driver) => Some(driver),
            Scope::Everything | Scope::Tenant(_) | Scope::User(..) => None,
        }
    }

    /// Whose business it is in; of everything, the one without a name.
    pub fn business(&self) -> Tenant {
        match self {
            Scope::Everything => Tenant::default(),
            Scope::Tenant(tenant) => tenant.clone(),
            Scope::User(user, _) => user.tenant(),
            Scope::Driver(driver) => driver.tenant(),
        }
    }

    /// The business to which it is limited, where it is to no less than that.
    pub fn tenant(&self) -> Option<&Tenant> {
        match self {
            Scope::Tenant(tenant) => Some(tenant),
            Scope::Everything | Scope::User(..) | Scope::Driver(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(role: Role, name: &str) -> Caller {
        Caller::named(role, Tenant::default(), &name.parse().unwrap()).unwrap()
    }

    fn callers() -> [Caller; 5] {
        [
            Caller::Customer(Customer {
                user: "anna".parse().unwrap(),
                order: None,
                provider_customer: None,
            }),
            Caller::Driver("cab-1".parse().unwrap()),
            named(Role::Dispatcher, "dora"),
            named(Role::Service, "shop"),
            named(Role::Operator, "olga"),
        ]
    }

    /// Typed a second time, by hand: `.` own, `*` all, `-` refused; customer, driver, dispatcher, service, operator.
    #[test]
    fn each_role_may_call_what_the_table_says() {
        let table = [
            ("CreateOrder", ". - * * -"),
            ("GetOrder", ". . * * *"),
            ("ListOrders", ". - * * *"),
            ("WatchOrder", ". . * * *"),
            ("CompleteOrder", "- . * * -"),
            ("CancelOrder", ". - * * -"),
            ("RefundOrder", "- - - * *"),
            ("ReleaseDriver", "- . * * -"),
            ("ShareOrder", ". - * * *"),
            ("RevokeShare", ". - * * *"),
            ("WatchShared", "- - - - -"),
            ("StreamLocations", "- . - * -"),
            ("ReportLocations", "- . - * -"),
            ("GetDriver", ". . * * *"),
            ("SearchDrivers", "- - * * *"),
            ("WatchDrivers", ". - * * *"),
            ("ListLocations", "- . * * *"),
            ("ReplayLocations", "- - * * *"),
            ("WatchAssignments", "- . * * *"),
            ("SetDuty", "- . * * -"),
            ("ListStuckOrders", "- - - - *"),
            ("ShowOrder", "- - - - *"),
            ("RetryOrder", "- - - - *"),
            ("ResolveOrder", "- - - - *"),
            ("RefundAgain", "- - - - *"),
            ("ShowHealth", "- - - - *"),
            ("EraseDriver", "- - - * *"),
            ("EraseUser", "- - - * *"),
        ];
        let is: Vec<(String, String)> = Method::ALL
            .iter()
            .map(|method| {
                let row = callers().map(|caller| match caller.scope(*method) {
                    None => "-",
                    Some(Scope::Tenant(tenant)) if tenant.is_default() => "*",
                    Some(Scope::User(user, None)) if user.as_str() == "anna" => ".",
                    Some(Scope::Driver(driver)) if driver.as_str() == "cab-1" => ".",
                    Some(_) => "?",
                });
                (format!("{method:?}"), row.join(" "))
            })
            .collect();
        let expected: Vec<(String, String)> = table.map(|(method, row)| (method.to_owned(), row.to_owned())).into();
        assert_eq!(is, expected);
    }

    #[test]
    fn a_role_is_known_by_its_name_and_by_no_other() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        for name in ["", "admin", "Customer", "customer "] {
            assert_eq!(Role::parse(name), None, "{name:?}");
        }
    }
}
