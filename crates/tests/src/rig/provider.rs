//! The payment provider of a rig: its ledger, its faults, and what a person does in its dashboard.

use serde_json::Value;
use waybill_sandbox::payments::{Movement, MovementKind, Provider};

use super::{Rig, SECRET_KEY};
use crate::wire::http;

impl Rig {
    /// The payment provider: its ledger, its faults.
    pub fn payments(&self) -> &Provider {
        &self.payments
    }

    /// The provider's charges, the oldest first.
    pub fn charges(&self) -> Vec<Movement> {
        self.movements(MovementKind::Charge)
    }

    /// The provider's refunds, the oldest first.
    pub fn refunds(&self) -> Vec<Movement> {
        self.movements(MovementKind::Refund)
    }

    /// How many charges and refunds there are.
    pub fn movements_count(&self) -> (usize, usize) {
        (self.charges().len(), self.refunds().len())
    }

    /// The ids of the provider's refunds, the newest first, also of those that are pending or failed.
    pub async fn refund_ids(&self) -> Vec<String> {
        let list = self.at_provider_get("refunds").await;
        let refunds = list["data"].as_array().expect("a list");
        refunds.iter().map(id).collect()
    }

    fn movements(&self, kind: MovementKind) -> Vec<Movement> {
        let mut ledger = self.payments.ledger();
        ledger.retain(|movement| movement.kind == kind);
        ledger
    }

    /// Has the provider do something behind the servers' back, as a person in its dashboard does; its answer.
    pub async fn at_provider(&self, path: &str, form: &[(&str, String)]) -> Value {
        let answer = http()
            .post(format!("{}/v1/{path}", self.payments().url()))
            .bearer_auth(SECRET_KEY)
            .form(form)
            .send()
            .await
            .expect("the provider answers");
        answer.json().await.expect("JSON")
    }

    /// What the provider has under this path, as a person sees it in the dashboard.
    pub async fn at_provider_get(&self, path: &str) -> Value {
        let answer = http()
            .get(format!("{}/v1/{path}", self.payments().url()))
            .bearer_auth(SECRET_KEY)
            .send()
            .await
            .expect("the provider answers");
        answer.json().await.expect("JSON")
    }

    /// A charge at the provider that Waybill did not ask for; its id. `order_id`: in its metadata.
    pub async fn charge_by_hand(&self, amount: i64, currency: &str, order_id: Option<&str>) -> String {
        let mut form = vec![
            ("amount", amount.to_string()),
            ("currency", currency.to_owned()),
            ("payment_method", "pm_card_visa".to_owned()),
            ("confirm", "true".to_owned()),
        ];
        form.extend(order_id.map(|id| ("metadata[order_id]", id.to_owned())));
        id(&self.at_provider("payment_intents", &form).await)
    }

    /// A refund of this payment, made in the provider's dashboard; its id. `order_id`: in its metadata.
    pub async fn refund_by_hand(&self, payment: &str, amount: i64, order_id: Option<&str>) -> String {
        let mut form = vec![("payment_intent", payment.to_owned()), ("amount", amount.to_string())];
        form.extend(order_id.map(|id| ("metadata[order_id]", id.to_owned())));
        id(&self.at_provider("refunds", &form).await)
    }
}

fn id(answer: &Value) -> String {
    answer["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}
