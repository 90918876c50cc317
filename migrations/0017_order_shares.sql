-- Links by which anyone who has one follows an order. Of the secret only a hash is stored.

create table order_shares (
    share_id   uuid primary key,
    order_id   uuid not null references order_sagas (order_id),
    -- SHA-256 of the secret, which has 128 random bits.
    token_hash bytea not null unique check (octet_length(token_hash) = 32),
    -- The role and the name of who made it; null where callers are not known.
    created_by text,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    revoked_at timestamptz,
    -- Who ended it first.
    revoked_by text,
    constraint order_shares_revoked check (revoked_by is null or revoked_at is not null)
);
create index order_shares_by_order on order_shares (order_id);
