-- Where drivers were. Live positions are in Redis; this is the history, written behind it.

create table driver_locations (
    driver_id   text not null,
    lat         double precision not null,
    long        double precision not null,
    -- The device's time, to the microsecond.
    recorded_at timestamptz not null,
    -- Removes duplicates, and is the index that a driver's trace is read by.
    primary key (driver_id, recorded_at),
    constraint driver_locations_lat check (lat between -90 and 90),
    constraint driver_locations_long check (long between -180 and 180)
) partition by range (recorded_at);
-- Partitions are made by the history writer, one a day (UTC), before it writes a day's first row. There is no default
-- partition: its rows would forbid the day's own partition later. Retention drops whole days.

create trigger driver_locations_append_only before update or delete on driver_locations
    for each row execute function append_only();

-- How far each stream of `location_events` is in driver_locations. Moves in the transaction that stores the rows: a
-- crash at any moment either has both or none, so no row is skipped, and a row read twice is removed by its key.
create table history_cursors (
    stream      text primary key,
    -- The last entry that is stored, as Redis writes it: milliseconds, a dash, a number.
    last_id     text not null default '0-0',
    -- Who writes this stream at present. Spares work, decides nothing: two writers would be slow, not wrong.
    lease_owner text,
    lease_until timestamptz,
    updated_at  timestamptz not null default now()
);
