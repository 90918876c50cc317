-- The payment's name at the provider. It comes from the client's request: a repeat after a failover that lost the order
-- meets the charge that was made for it.

alter table order_sagas
    -- Null for orders that were accepted before: their keys come from the order's id.
    add column payment_key text;
