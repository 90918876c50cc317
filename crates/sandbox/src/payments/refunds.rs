//! Refunds: never more than was captured and not refunded yet (<https://docs.stripe.com/refunds>).

use super::api_error::ApiError;
use super::change::Change;
use super::currencies;
use super::journal::Effect;
use super::objects::PaymentIntent;
use super::reply::Reply;
use super::request::RefundRequest;

pub(super) fn refund(intent: &PaymentIntent, request: &RefundRequest) -> Result<Change, ApiError> {
    let left = intent.amount_received() - intent.amount_refunded;
    check_refundable(intent, left)?;
    let amount = request.amount.unwrap_or(left);
    currencies::check_amount(amount, &intent.currency)?;
    if amount > left {
        let message = format!("Refund amount ({amount}) is greater than unrefunded amount on charge ({left}).");
        return Err(ApiError::parameter("amount_too_large", "amount", &message));
    }
    let refund = request.to_refund(intent, amount);
    let json = refund.to_json();
    Ok(Change {
        reply: Reply::ok(&json),
        events: vec![("refund.created", json)],
        effect: Effect::Refund(refund),
    })
}

fn check_refundable(intent: &PaymentIntent, left: i64) -> Result<(), ApiError> {
    let id = &intent.id;
    if !intent.is_authorised() {
        let message = format!("This PaymentIntent ({id}) does not have a successful charge to refund.");
        return Err(ApiError::request(&message));
    }
    // Held, or released: <https://github.com/woocommerce/woocommerce-gateway-stripe/issues/1081>.
    if intent.amount_received() == 0 {
        let message = format!(
            "This uncaptured Charge was created by a PaymentIntent ({id}). You must cancel the PaymentIntent to reverse the \
             authorization instead of refunding the Charge directly."
        );
        return Err(ApiError::request(&message));
    }
    if left == 0 {
        return Err(ApiError::already_refunded(&intent.charge_id));
    }
    Ok(())
}
