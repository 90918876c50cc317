//! What it costs to know who calls: a customer who reads its own order and shows its token. The baseline is the same read
//! of the same order, at a server on the same stores that lets everyone in.
//!
//! It is given as the server's processor time, as in [`super::edge`]: of a rate the most would be Postgres's.

use std::fs;
use std::time::Duration;

use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use waybill_proto::order::v1::GetOrderRequest;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_sandbox::tokens::TokenSigner;

use super::processor_each;
use crate::load::calls::{self, CALLERS};
use crate::load::one_order;
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;
use testkit::benchmark::rounds::{Turn, take_turns};
use testkit::benchmark::{Benchmark, Better};

const DATABASE: &str = "tokens";
const REDIS: u16 = 4;
/// No longer than a customer's token may be valid.
const LIVES: Duration = Duration::from_hours(1);

/// The benchmark of calls with a token.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let open = Server::start(world, DATABASE, REDIS).await;
    one_order::bring_drivers(&open.channel()).await;
    let placed = one_order::request();
    let user = placed.user_id.clone();
    let order_id = one_order::serve(&open.channel(), placed).await.order_id;

    let signer = TokenSigner::new().unwrap();
    let keys = world.path("keys.json");
    fs::write(&keys, signer.key_set().unwrap()).unwrap();
    let settings = [
        ("auth.anonymous", "false"),
        ("auth.keys", keys.to_str().unwrap()),
        ("auth.issuer", TokenSigner::ISSUER),
    ];
    let knowing = Server::start_with(world, DATABASE, REDIS, &settings).await;
    let token = signer.token("customer", &user, LIVES).unwrap();
    let mut token: MetadataValue<Ascii> = format!("Bearer {token}").parse().unwrap();
    token.set_sensitive(true);

    let time = scale.refusal_turn;
    read(&knowing, &order_id, Some(&token), time).await;
    read(&open, &order_id, None, time).await;
    world.settle([DATABASE]).await;
    let pairs = take_turns(
        scale.read_rounds,
        async || processor_each(|| knowing.cost(), read(&knowing, &order_id, Some(&token), time)).await,
        async || processor_each(|| open.cost(), read(&open, &order_id, None, time)).await,
    )
    .await;
    knowing.stop().await;
    open.stop().await;
    let is = "the same calls at a server that lets everyone in";
    vec![
        Benchmark::against("token_get_order_server_cpu", "µs/call", Better::Less, is, pairs)
            .with(format!("GetOrder with a customer's token, {CALLERS} callers"))
            .to_reach(0.95),
    ]
}

/// All callers read one order for so long.
async fn read(server: &Server, order_id: &str, token: Option<&MetadataValue<Ascii>>, time: Duration) -> Turn {
    let (order_id, token) = (order_id.to_owned(), token.cloned());
    let call = move |channel: Channel| {
        let (order_id, token) = (order_id.clone(), token.clone());
        async move {
            let mut request = Request::new(GetOrderRequest { order_id });
            if let Some(token) = token {
                request.metadata_mut().insert("authorization", token);
            }
            let answer = OrderServiceClient::new(channel).get_order(request).await;
            assert!(answer.unwrap().into_inner().order.is_some());
        }
    };
    calls::run(&server.endpoint(), time, call).await
}
