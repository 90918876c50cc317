-- A retry or an event of the provider that comes while a worker holds the order: when the worker defers the order, it is
-- due at once, and not at the end of the worker's own delay.

alter table order_sagas
    add column due_requested boolean not null default false;
