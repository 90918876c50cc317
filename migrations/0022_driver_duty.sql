-- Whether a driver takes orders, and which orders it can serve.

-- In the order in which an assignment locks them.
alter table order_sagas
    -- What its driver must be able to do.
    add column required_tags text[] not null default '{}';

alter table drivers
    -- Since when it takes none; null while it does. A driver is on duty until something else is said.
    add column off_duty_since  timestamptz,
    -- What it can do. An order is assigned to a driver who has all that it requires.
    add column tags            text[] not null default '{}',
    -- When either last changed: who shows drivers reads what changed in the last seconds.
    add column duty_changed_at timestamptz,
    -- As the calls have them. One row that cannot be read would hide others.
    add constraint drivers_tags check (cardinality(tags) <= 16 and tags::text ~ '^[{}a-z0-9_,-]*$');
create index drivers_duty_changes on drivers (duty_changed_at) where duty_changed_at is not null;
