--! oldest program: 25
--! outside a transaction
-- Lists of a user's orders are read by `order_sagas_settled_by_user`, and this had three entries of each order. Programs that are older find the orders
-- of a user by `order_sagas_key_per_user`, and sort them.
drop index concurrently if exists order_sagas_by_user;
