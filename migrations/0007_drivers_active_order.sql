-- An order has one driver, and nobody looks for the drivers of no order: free ones are looked for by name. As long as
-- they were in this index Postgres could find a free driver by it, and did, until the first analyze of the table: then
-- an order reads every free driver there is.
alter table drivers drop constraint drivers_active_order_id_key;
create unique index drivers_active_order on drivers (active_order_id) where active_order_id is not null;
