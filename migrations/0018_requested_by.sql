-- Who asked for what an order's log documents: the role and the name of the caller. Null for what the saga did by itself,
-- for what is older than this column, and where callers are not known.

alter table order_saga_steps add column requested_by text;
