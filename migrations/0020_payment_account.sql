-- The account at the payment provider that an order is paid into: the name of its tenant, where that had an account of its own
-- when the order was accepted. Null: that of [payments]. All requests about the order's money go there.

alter table order_sagas add column payment_account text;
