-- What the payment provider sent to /webhooks/payments. An event only makes its order be looked at now; what it says
-- happened is asked of the provider, so nothing of its body is kept.

create table payment_events (
    -- The provider's id of the event. Providers send an event again until it is acknowledged: it counts once.
    event_id    text primary key,
    type        text not null,
    -- From the metadata of the event's object. Null: the event is not about an order of ours.
    order_id    uuid,
    received_at timestamptz not null default now(),
    constraint payment_events_id_length check (octet_length(event_id) between 1 and 255)
);
-- Old events are deleted by age.
create index payment_events_by_age on payment_events (received_at);
-- What an operator is shown of one order.
create index payment_events_by_order on payment_events (order_id) where order_id is not null;
