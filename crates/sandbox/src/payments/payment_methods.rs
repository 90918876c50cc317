//! Customers and their payment methods, as far as charges depend on them. A method is for one payment, or attached to a
//! customer and for that customer's payments (<https://docs.stripe.com/api/payment_methods>,
//! <https://docs.stripe.com/payments/save-during-payment>). The provider's own test methods (`pm_card_visa`) are new at
//! each use.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::objects::{CardOutcome, PaymentIntent};

/// A payment method that a client made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PaymentMethod {
    pub id: String,
    pub card: CardOutcome,
    /// To whom it is attached.
    pub customer: Option<String>,
}

impl PaymentMethod {
    pub(super) fn to_json(&self) -> Value {
        json!({ "id": self.id, "object": "payment_method", "type": "card", "customer": self.customer, "livemode": false })
    }
}

/// All that are known.
#[derive(Debug, Default)]
pub(super) struct Wallet {
    customers: HashSet<String>,
    methods: HashMap<String, PaymentMethod>,
    /// Methods that were used without a customer.
    used: HashSet<String>,
}

impl Wallet {
    pub(super) fn enter_customer(&mut self, id: String) {
        self.customers.insert(id);
    }

    pub(super) fn enter_method(&mut self, method: PaymentMethod) {
        self.methods.insert(method.id.clone(), method);
    }

    /// Notes that a payment used its method, declined or not.
    pub(super) fn note_use(&mut self, intent: &PaymentIntent) {
        if intent.customer.is_none() && self.methods.contains_key(&intent.payment_method) {
            self.used.insert(intent.payment_method.clone());
        }
    }

    /// The method as it is once attached to the customer.
    pub(super) fn attach(&self, method: &str, customer: &str) -> Result<PaymentMethod, ApiError> {
        let found = self.methods.get(method);
        let found = found.ok_or_else(|| ApiError::not_found("PaymentMethod", "payment_method", method))?;
        if !self.customers.contains(customer) {
            return Err(ApiError::missing("customer", customer));
        }
        if self.used.contains(method) {
            let message = "This PaymentMethod was previously used without being attached to a Customer or was detached \
                           from a Customer, and may not be used again.";
            return Err(ApiError::request(message));
        }
        Ok(PaymentMethod {
            customer: Some(customer.to_owned()),
            ..found.clone()
        })
    }

    /// What the card of this method does, if this customer, or no customer, may pay with it.
    pub(super) fn card_of(&self, method: &str, customer: Option<&str>) -> Result<CardOutcome, ApiError> {
        if let Some(customer) = customer.filter(|customer| !self.customers.contains(*customer)) {
            return Err(ApiError::missing("customer", customer));
        }
        if let Some(card) = CardOutcome::of(method) {
            return Ok(card);
        }
        let Some(found) = self.methods.get(method) else {
            return Err(ApiError::missing("payment_method", method));
        };
        match (found.customer.as_deref(), customer) {
            (Some(owner), Some(payer)) if owner == payer => Ok(found.card),
            (None, None) if !self.used.contains(method) => Ok(found.card),
            (None, None) => Err(ApiError::request(
                "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, shared \
                 with a connected account without Customer attachment, or was detached from a Customer. It may not be \
                 used again. To use a PaymentMethod multiple times, you must attach it to a Customer first.",
            )),
            (Some(_), None) => Err(ApiError::request(
                "The PaymentMethod provided is attached to a Customer: include that Customer in the `customer` parameter.",
            )),
            (_, Some(_)) => {
                let message = format!(
                    "The customer does not have a payment method with the ID {method}. The payment method must be \
                     attached to the customer."
                );
                Err(ApiError::request(&message).with("param", "payment_method"))
            }
        }
    }
}
