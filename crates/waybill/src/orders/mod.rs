//! `waybill orders`: what an operator does about orders, at a terminal. It works on the stores themselves, so that it
//! works when no server runs.

mod table;

use std::env;
use std::path::Path;
use std::time::Duration;

use waybill_domain::operator::{Assertion, AssertionError, Operator};
use waybill_server::app::{OperatorError, OperatorService, OperatorUnavailable, open_operator_service};
use waybill_server::resilience::Deadline;

use crate::cli::{OrdersArgs, OrdersCommand, RefundAgainArgs, ResolveArgs, RetryArgs, StoreArgs, load};
use crate::{Failure, print};

/// How many orders are listed; the others are counted.
const LISTED_MAX: i64 = 100;
/// How long the provider may take: a list of all its payments has many pages.
const PROVIDER_MAX: Duration = Duration::from_mins(10);

pub async fn run(config_file: Option<&Path>, args: OrdersArgs) -> Result<(), Failure> {
    match args.command {
        OrdersCommand::List(args) => {
            let listed = open(config_file, &args.stores)?
                .unfinished(args.stuck, LISTED_MAX)
                .await?;
            if args.json {
                print::json(&table::list_json(&listed));
            } else {
                if !listed.orders.is_empty() {
                    print::lines(table::list_table(&listed));
                }
                print::line(&table::list_verdict(&listed, args.stuck));
            }
        }
        OrdersCommand::Show(args) => {
            let shown = open(config_file, &args.stores)?.show(args.order).await?;
            if args.json {
                print::json(&table::details_json(&shown));
            } else {
                print::lines(table::details_text(&shown));
            }
        }
        OrdersCommand::Retry(args) => print::line(&retry(config_file, args).await?),
        OrdersCommand::Resolve(args) => print::line(&resolve(config_file, args).await?),
        OrdersCommand::RefundAgain(args) => print::line(&refund_again(config_file, args).await?),
    }
    Ok(())
}

async fn retry(config_file: Option<&Path>, args: RetryArgs) -> Result<String, Failure> {
    let operator = open(config_file, &args.stores)?;
    let by = name(args.by)?;
    let order = args.order;
    Ok(match operator.retry(order, &by, args.reason.as_ref()).await? {
        None => format!("order {order} is due now"),
        Some(lease) => format!(
            "order {order} is due now; leased by {} until {:.0}",
            lease.owner, lease.until
        ),
    })
}

async fn resolve(config_file: Option<&Path>, args: ResolveArgs) -> Result<String, Failure> {
    let reference = args.provider_id.unwrap_or_default();
    let assertion = Assertion::new(args.outcome.into(), &reference, args.unverified, args.amount).map_err(|error| {
        let flag = match error {
            AssertionError::MustBeVerified => "--unverified",
            AssertionError::NoAmount | AssertionError::AmountIsTheProviders => "--amount",
            AssertionError::Reference(_) | AssertionError::ReferenceWithoutMovement => "--provider-id",
        };
        Failure::Usage(format!("{flag} {error}"))
    })?;
    let operator = open(config_file, &args.stores)?;
    let deadline = Deadline::after(PROVIDER_MAX);
    let order = operator
        .resolve(args.order, &assertion, &name(args.by)?, &args.reason, deadline)
        .await?;
    Ok(format!("order {} is {}", order.id, order.state))
}

async fn refund_again(config_file: Option<&Path>, args: RefundAgainArgs) -> Result<String, Failure> {
    let operator = open(config_file, &args.stores)?;
    let deadline = Deadline::after(PROVIDER_MAX);
    let order = operator
        .refund_again(args.order, &name(args.by)?, &args.reason, deadline)
        .await?;
    Ok(format!(
        "order {} is {}: what failed is refunded again",
        order.id, order.state
    ))
}

fn open(config_file: Option<&Path>, stores: &StoreArgs) -> Result<OperatorService, Failure> {
    let config = load(config_file, &stores.flags())?;
    open_operator_service(&config).map_err(|error| match error {
        OperatorUnavailable::Payments(_) => Failure::Usage(error.to_string()),
        OperatorUnavailable::Store(_) => Failure::unavailable(error),
    })
}

/// The name of the operator: as given, else of whoever is logged in.
fn name(by: Option<Operator>) -> Result<Operator, Failure> {
    let logged_in = || {
        ["USER", "LOGNAME"]
            .into_iter()
            .find_map(|name| env::var(name).ok()?.parse().ok())
    };
    by.or_else(logged_in)
        .ok_or_else(|| Failure::Usage("--by is required: neither USER nor LOGNAME has your name".to_owned()))
}

impl From<OperatorError> for Failure {
    fn from(error: OperatorError) -> Failure {
        match error {
            OperatorError::Store(_) | OperatorError::Provider(_) => Failure::unavailable(error),
            OperatorError::NotFound
            | OperatorError::Settled { .. }
            | OperatorError::NotResolvable { .. }
            | OperatorError::NothingFailed
            | OperatorError::Held
            | OperatorError::RefundPending
            | OperatorError::RefundMayBeMade
            | OperatorError::InFlight
            | OperatorError::StillRetried
            | OperatorError::Contradicted(_) => Failure::Refused(error.to_string()),
        }
    }
}
