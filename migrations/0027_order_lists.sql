--! oldest program: 25
--! outside a transaction
-- ListOrders of a state, whichever it is and however rare: settled orders by these, those that are worked on by `order_sagas_due`.
--
-- An order gets an entry when it is settled, and none before. By the bytes of the id, which sort as the id does: what lists in their order can
-- use no other index for it, whatever is believed of how rare a state is.
create index concurrently if not exists order_sagas_settled
    on order_sagas (tenant_of(user_id), status, uuid_send(order_id) desc) where finished_at is not null;
create index concurrently if not exists order_sagas_settled_by_user
    on order_sagas (user_id, status, uuid_send(order_id) desc) where finished_at is not null;
