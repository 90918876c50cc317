//! Whether Waybill serves: an order and some fixes, as a client sends them.

use std::sync::Arc;
use std::time::Duration;

use testkit::load::calls::{Outcome, bounded, create};
use testkit::load::history::History;
use testkit::load::tokens::Tokens;
use testkit::wire::{a_declined_ride, fix, now, position};
use tonic::transport::Channel;
use waybill_proto::location::v1::ReportLocationsRequest;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;

/// Far from every customer of the load.
const PLACE: (f64, f64) = (10.0, 10.0);
/// As many as there are in every shard, and at every node of a cluster.
const DRIVERS: usize = 48;
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// Who asks.
pub struct Probe {
    /// How it comes in, by turns.
    pub gates: Vec<Channel>,
    /// What it shows.
    pub tokens: Arc<Tokens>,
    /// Where it keeps what it was answered.
    pub history: Arc<History>,
    /// How often it asked.
    pub turn: usize,
}

impl Probe {
    /// Sends both at once; why one was not answered.
    pub async fn once(&mut self) -> Result<(), String> {
        self.turn += 1;
        let channel = &self.gates[self.turn % self.gates.len()];
        let (order, fixes) = tokio::join!(self.order(channel.clone()), self.fixes(channel.clone()));
        order.and(fixes)
    }

    /// One that is accepted, and then declined: it waits for no driver.
    async fn order(&self, channel: Channel) -> Result<(), String> {
        let mut request = a_declined_ride();
        request.pickup = Some(position(PLACE));
        self.history.asks(&request);
        let outcome = create(channel, &self.tokens, &request, ANSWERED_WITHIN).await;
        self.history.record_create(&request, &outcome, usize::MAX);
        answered(&outcome)
    }

    async fn fixes(&self, channel: Channel) -> Result<(), String> {
        let at = now();
        let name = |number: usize| format!("probe-{number:02}");
        let fixes = (0..DRIVERS)
            .map(|number| fix(&name(number), PLACE.0, PLACE.1, at))
            .collect();
        let outcome = bounded(ANSWERED_WITHIN, async {
            let request = self.tokens.service(ReportLocationsRequest { fixes });
            let answer = LocationServiceClient::new(channel).report_locations(request).await?;
            Ok(answer.into_inner())
        })
        .await;
        self.history.record("probe", "", &outcome);
        match &outcome {
            Outcome::Ok(answer) if answer.rejections.is_empty() => {
                self.history.acknowledged((0..DRIVERS).map(|number| (name(number), at)));
                Ok(())
            }
            Outcome::Ok(answer) => Err(format!("{:?}", answer.rejections.first())),
            Outcome::Refused(_) | Outcome::Unknown(_) => answered(&outcome),
        }
    }
}

fn answered<T>(outcome: &Outcome<T>) -> Result<(), String> {
    match outcome {
        Outcome::Ok(_) => Ok(()),
        Outcome::Refused(_) | Outcome::Unknown(_) => Err(format!("{}: {}", outcome.code(), outcome.message())),
    }
}
