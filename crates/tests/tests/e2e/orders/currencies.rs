//! Amounts in currencies that the payment provider counts in another unit than ISO 4217, or within other limits.

use testkit::Rig;
use testkit::wire::{a_ride, refusal_fields};
use waybill_proto::order::v1::{CreateOrderRequest, Money, OrderStatus};

fn a_ride_for(currency: &str, minor_units: i64) -> CreateOrderRequest {
    CreateOrderRequest {
        amount: Some(Money {
            currency_code: currency.to_owned(),
            minor_units,
        }),
        ..a_ride()
    }
}

/// Currency, ISO minor units of the order, and what the provider must be asked for.
const AMOUNTS: [(&str, i64, i64); 6] = [
    ("UGX", 5000, 500_000),
    ("ISK", 1500, 150_000),
    ("MGA", 500_000, 5000),
    ("KWD", 1990, 1990),
    ("JPY", 1999, 1999),
    ("IDR", 150_000_000, 150_000_000),
];

#[tokio::test]
async fn the_provider_moves_what_the_order_costs_whatever_its_unit() {
    let rig = Rig::builder().set("orders.assignment_window", "0s").start().await;
    for (currency, minor, units) in AMOUNTS {
        let order = rig.place(a_ride_for(currency, minor)).await;
        assert_eq!(order.status(), OrderStatus::Refunded, "{currency}");
        assert_eq!(order.payment.unwrap().refund_amount, order.amount, "{currency}");
        for movements in [rig.charges(), rig.refunds()] {
            let last = movements.last().unwrap();
            assert_eq!(
                (last.amount_minor, last.currency.as_str()),
                (units, currency.to_ascii_lowercase().as_str())
            );
        }
    }
    // The ledger and the provider's list agree in one unit.
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_amount_that_the_provider_cannot_charge_is_refused_by_name_and_not_stored() {
    let rig = Rig::start().await;
    for (currency, minor, field) in [
        ("KWD", 1999, "amount.minor_units"),
        ("MGA", 550, "amount.minor_units"),
        ("USD", 49, "amount.minor_units"),
        ("JPY", 49, "amount.minor_units"),
        ("CZK", 1499, "amount.minor_units"),
        ("USD", 100_000_000, "amount.minor_units"),
        ("UGX", 1_000_000, "amount.minor_units"),
        ("IDR", 1_000_000_000_000, "amount.minor_units"),
        ("CUP", 5000, "amount.currency_code"),
        ("IQD", 5000, "amount.currency_code"),
    ] {
        let refused = rig
            .orders()
            .create_order(a_ride_for(currency, minor))
            .await
            .unwrap_err();
        assert_eq!(refusal_fields(&refused), [field], "{currency} {minor}: {refused:?}");
    }
    assert_eq!(rig.count("select count(*) from order_sagas").await, 0);
    assert_eq!(rig.payments().requests(), 0);
}
