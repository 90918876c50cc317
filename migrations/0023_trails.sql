-- The map that the fleet draws by driving: who passed each pixel. All of it is made from driver_locations, and can be made anew.

-- The order in which fixes came to be visible: a reader that has seen all below the oldest transaction that still runs has missed
-- none. Null where a fix is older than this column: those are not drawn.
alter table driver_locations add column tx xid8;
alter table driver_locations alter column tx set default pg_current_xact_id();
-- Rows of a transaction share an entry, and it grows at its end only. Empty for the days before this column.
create index driver_locations_arrival on driver_locations (tx) where tx is not null;

create table trails (
    -- The tile, as web maps count: zoom, column from the west, row from the north.
    zoom   smallint not null,
    x      integer not null,
    y      integer not null,
    -- The day (UTC) of the fixes. What a tile shows is that of all its days together.
    day    date not null,
    -- Each batch adds a part to the tiles that it touches, rather than rewrite them; small parts are merged.
    part   bigint not null generated always as identity,
    -- Who passed which pixel: crates/domain/src/trails/pixels.rs.
    pixels bytea not null,
    primary key (zoom, x, y, day, part)
);

-- How far driver_locations is drawn. Moves in the transaction that adds the parts.
create table trail_cursor (
    is_only     boolean primary key default true check (is_only),
    -- The last fix that is drawn, in the order (tx, driver_id, recorded_at).
    tx          xid8 not null default '0',
    driver_id   text not null default '',
    recorded_at timestamptz not null default 'epoch',
    -- Who draws at present. Spares work, decides nothing, as in history_cursors.
    lease_owner text,
    lease_until timestamptz,
    updated_at  timestamptz not null default now()
);
insert into trail_cursor default values;
