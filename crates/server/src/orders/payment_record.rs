//! The provider's record of an order's payment beside the ledger's: refunds, and disputes. A person may have refunded by
//! hand, a refund may have failed days later, and the customer's bank may have taken the money back.

use waybill_domain::order::{ListedRefund, ListedState, Maker, Order, Payment, Settlement, State};

use crate::egress::payments::{Cause, PaymentClient, ProviderDispute, ProviderRefund};
use crate::resilience::Deadline;
use crate::storage::StoreError;
use crate::storage::orders::{Dispute, LeasedOrder, OrderStore, Reconciliation, Standing};

/// A comparison of the two.
#[derive(Debug, Clone)]
pub struct Compared {
    /// What the ledger has to learn, and what is owed after that.
    pub found: Reconciliation,
    /// Whether it has anything to learn.
    pub is_news: bool,
}

/// Compares the ledger with what the provider has of the order's payment, and with what an operator refunded past it
/// (`elsewhere`). `Err` inside: the provider cannot be asked.
pub async fn compare(
    store: &OrderStore,
    payments: &PaymentClient,
    leased: &LeasedOrder,
    elsewhere: Option<ListedRefund>,
    deadline: Deadline,
) -> Result<Result<Compared, Cause>, StoreError> {
    let order = &leased.order;
    let Some(payment) = &order.payment else {
        let why = format!("order {} is to be reconciled, and has no payment", order.id);
        return Err(StoreError::Unexpected(why));
    };
    let id = payment.provider_charge_id.as_str();
    let asked = tokio::try_join!(
        payments.find_refunds(id, deadline),
        payments.find_disputes(id, deadline)
    );
    let (refunds, disputes) = match asked {
        Ok(record) => record,
        Err(cause) => return Ok(Err(cause)),
    };
    let (ledger, known) = store.read_record(order.id).await?;
    let disputes: Vec<Dispute> = disputes.into_iter().map(dispute).collect();
    let mut listed = listed(order, &refunds, &disputes);
    listed.extend(elsewhere);
    let settlement = Settlement::of(payment.refundable_minor(), &ledger, &listed);
    let is_known = |dispute: &Dispute| known.contains(&(dispute.provider_id.clone(), dispute.status.clone()));
    Ok(Ok(Compared {
        is_news: settlement.is_news() || !disputes.iter().all(is_known),
        found: Reconciliation {
            settlement,
            disputes,
            requested_at: leased.reconcile_requested_at,
            unexecuted: None,
        },
    }))
}

/// The refunds that the provider has of the order's payment. To an order that is to be refunded, a lost dispute is one.
fn listed(order: &Order, refunds: &[ProviderRefund], disputes: &[Dispute]) -> Vec<ListedRefund> {
    let mut listed: Vec<ListedRefund> = refunds.iter().map(|refund| refund_of(order, refund)).collect();
    if !matches!(order.state, State::Refunding | State::Refunded) {
        return listed;
    }
    let refunded = listed.iter().filter(|refund| refund.state == ListedState::Succeeded);
    let refundable = order.payment.as_ref().map_or(0, Payment::refundable_minor);
    let mut left = refundable - refunded.map(|refund| refund.amount_minor).sum::<i64>();
    let is_lost = |dispute: &&Dispute| dispute.standing == Standing::ChargedBack;
    for dispute in disputes.iter().filter(is_lost) {
        let amount_minor = dispute.amount_minor.min(left);
        if amount_minor > 0 {
            left -= amount_minor;
            listed.push(ListedRefund {
                provider_id: dispute.provider_id.clone(),
                maker: Maker::Bank,
                amount_minor,
                state: ListedState::Succeeded,
            });
        }
    }
    listed
}

fn refund_of(order: &Order, refund: &ProviderRefund) -> ListedRefund {
    ListedRefund {
        provider_id: refund.provider_id.clone(),
        maker: match refund.number {
            Some(number) if refund.order_id == Some(order.id.uuid()) => Maker::Order(number),
            _ => Maker::Person,
        },
        amount_minor: refund.amount_minor,
        state: match refund.status.as_str() {
            "succeeded" => ListedState::Succeeded,
            "failed" | "canceled" => ListedState::Failed,
            _ => ListedState::Pending,
        },
    }
}

/// As it is stored (<https://docs.stripe.com/api/disputes/object>): an inquiry that is closed was never a loss.
fn dispute(dispute: ProviderDispute) -> Dispute {
    let standing = match dispute.status.as_str() {
        "lost" => Standing::ChargedBack,
        "won" | "warning_closed" | "prevented" => Standing::Kept,
        _ => Standing::Open,
    };
    Dispute {
        provider_id: dispute.provider_id,
        amount_minor: dispute.amount_minor,
        reason: dispute.reason,
        status: dispute.status,
        standing,
        opened_at: dispute.opened_at,
    }
}
