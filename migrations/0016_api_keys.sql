-- How programs call. Of a key only its id and a hash are stored: it is shown once. A row stays when its key is revoked.

create table api_keys (
    key_id      text primary key check (key_id ~ '^[a-z0-9]{12}$'),
    -- SHA-256 of the secret, which has 256 random bits: nothing slower is needed against guessing.
    secret_hash bytea not null check (octet_length(secret_hash) = 32),
    role        text not null check (role in ('dispatcher', 'service', 'operator')),
    -- Of which business; empty for the one without a name.
    tenant      text not null default '' check (tenant ~ '^[a-z0-9-]{0,32}$'),
    -- Under which name its calls stand in logs.
    name        text not null check (length(name) between 1 and 64 and name !~ '[[:cntrl:]]' and name = btrim(name)),
    created_at  timestamptz not null default now(),
    expires_at  timestamptz,
    revoked_at  timestamptz
);
