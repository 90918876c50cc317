-- Orders and their money. Amounts are integers in the currency's minor unit. Times are the database's, so that
-- instances whose clocks differ agree on them. Statuses are text with a CHECK: a person with psql is a user too.

create table order_sagas (
    -- UUIDv7, made by the instance that accepted the order: ordered by time, so inserts stay at the right of the index.
    order_id            uuid primary key,
    -- Chosen by the client. Unique per user, never across users: a key must not tell one user of another's.
    idempotency_key     text not null,
    user_id             text not null,
    -- Minor units of `currency`. The bound is the contract's; it is here because money has a second lock on the door.
    amount              bigint not null,
    currency            text not null,
    payment_method      text not null,
    status              text not null,
    -- Why the order was failed or refunded. Null while it goes well.
    failure_reason      text,
    pickup_lat          double precision not null,
    pickup_long         double precision not null,
    drop_off_lat        double precision,
    drop_off_long       double precision,
    -- SHA-256 of the canonical request: tells the same key with another body apart from a repeat.
    request_hash        bytea not null,
    -- Set once by CancelOrder while the saga runs; the owner of the lease honours it at its next step.
    cancel_requested_at timestamptz,

    -- The lease. Every write of a saga names the fence that it was given; a worker that slept past its lease finds a
    -- higher one here and changes nothing.
    fence               bigint not null,
    lease_owner         text,
    lease_until         timestamptz,
    -- When the sweeper may take the order up. Pushed out by back-off.
    next_run_at         timestamptz not null default now(),
    -- How often a worker took the order up. For people, and for the back-off.
    attempts            integer not null default 1,
    -- Why a person should look. A flag beside the status, never instead of it: the order is still retried.
    needs_attention     text,

    -- The first definite answer, byte for byte, for replays. Written once (trigger).
    response_code       smallint,
    response_body       bytea,
    created_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now(),
    -- When the saga came to rest. A cancellation after success takes the saga up again and clears it.
    finished_at         timestamptz,

    constraint order_sagas_key_per_user unique (user_id, idempotency_key),
    constraint order_sagas_key_length check (octet_length(idempotency_key) between 16 and 255),
    constraint order_sagas_amount check (amount between 1 and 100000000),
    constraint order_sagas_currency check (currency ~ '^[A-Z]{3}$'),
    constraint order_sagas_status check
        (status in ('started', 'charging', 'charged', 'refunding', 'succeeded', 'failed', 'refunded')),
    constraint order_sagas_failure_reason check (failure_reason in ('payment_declined', 'no_driver', 'cancelled')),
    constraint order_sagas_failure_has_reason check
        ((status in ('refunding', 'failed', 'refunded')) = (failure_reason is not null)),
    constraint order_sagas_drop_off_whole check ((drop_off_lat is null) = (drop_off_long is null)),
    constraint order_sagas_finished check
        ((status in ('succeeded', 'failed', 'refunded')) = (finished_at is not null)),
    constraint order_sagas_finished_has_answer check (finished_at is null or response_body is not null),
    constraint order_sagas_answer_whole check ((response_code is null) = (response_body is null)),
    constraint order_sagas_lease_whole check ((lease_owner is null) = (lease_until is null))
);
-- What the sweeper scans: small, since finished orders leave it.
create index order_sagas_due on order_sagas (next_run_at) where finished_at is null;
-- ListOrders: order_id is ordered by time, so it is the page key too.
create index order_sagas_by_user on order_sagas (user_id, order_id desc);

-- The last line of defence behind the rulebook in the code: no statement, not even one typed by hand, makes an
-- impossible transition, lowers a fence or rewrites an answer that a client may have seen.
create function order_sagas_guard() returns trigger language plpgsql as $$
begin
    if new.status is distinct from old.status and (old.status, new.status) not in (
        ('started', 'charging'), ('started', 'failed'),
        ('charging', 'charged'), ('charging', 'failed'),
        ('charged', 'succeeded'), ('charged', 'refunding'),
        ('succeeded', 'refunding'), ('refunding', 'refunded'))
    then
        raise exception 'order %: no transition from % to %', old.order_id, old.status, new.status
            using errcode = 'check_violation', constraint = 'order_sagas_transition';
    end if;
    if new.fence < old.fence then
        raise exception 'order %: the fence went back from % to %', old.order_id, old.fence, new.fence
            using errcode = 'check_violation', constraint = 'order_sagas_fence';
    end if;
    if old.response_body is not null
        and (new.response_body, new.response_code) is distinct from (old.response_body, old.response_code)
    then
        raise exception 'order %: its answer is already given', old.order_id
            using errcode = 'check_violation', constraint = 'order_sagas_answer_final';
    end if;
    return new;
end $$;
create trigger order_sagas_guard before update on order_sagas
    for each row execute function order_sagas_guard();

-- What happened, in order. A row is written in the transaction of the change that it tells of.
create table order_saga_steps (
    id         bigint generated always as identity primary key,
    order_id   uuid not null references order_sagas (order_id),
    step       text not null,
    status     text not null,
    -- For people: the provider's id, the class of an error, the driver and who was passed over.
    detail     text not null default '',
    created_at timestamptz not null default clock_timestamp(),
    -- Which hold of the lease wrote it, and which instance held it: a zombie's tracks are told apart.
    fence      bigint not null,
    actor      text not null,
    constraint order_saga_steps_step check (step in ('create', 'charge', 'assign', 'refund', 'cancel', 'complete')),
    constraint order_saga_steps_status check
        (status in ('started', 'succeeded', 'failed', 'unknown', 'postponed', 'requested'))
);
create index order_saga_steps_by_order on order_saga_steps (order_id, id);
-- A step succeeds once: a second success is a double charge or a double assignment caught in the act.
create unique index order_saga_steps_one_success on order_saga_steps (order_id, step) where status = 'succeeded';

create function append_only() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;
create trigger order_saga_steps_append_only before update or delete on order_saga_steps
    for each row execute function append_only();

-- What we asked of the payment provider. The row is committed before the first byte is sent: after a crash it says
-- that money may have moved, and under which key to ask again.
create table payment_attempts (
    order_id        uuid not null references order_sagas (order_id),
    operation       text not null,
    -- Derived from order and operation, never from chance: a repeat is the same request to the provider.
    provider_key    text not null unique,
    amount          bigint not null,
    currency        text not null,
    state           text not null default 'intent',
    sends           integer not null default 0,
    first_sent_at   timestamptz,
    last_sent_at    timestamptz,
    -- The provider's id once it is known, and the class of the last answer that was not definite.
    provider_id     text,
    last_error      text,
    primary key (order_id, operation),
    constraint payment_attempts_operation check (operation in ('charge', 'refund')),
    constraint payment_attempts_state check (state in ('intent', 'unknown', 'succeeded', 'declined')),
    constraint payment_attempts_amount check (amount > 0),
    constraint payment_attempts_refund_not_declined check (operation = 'charge' or state <> 'declined')
);

-- What the provider confirmed. No row, no money.
create table payments (
    order_id           uuid primary key references order_sagas (order_id),
    amount             bigint not null,
    currency           text not null,
    charged_at         timestamptz not null default now(),
    provider_charge_id text not null unique,
    refund_amount      bigint,
    refunded_at        timestamptz,
    provider_refund_id text unique,
    constraint payments_amount check (amount > 0),
    constraint payments_refund_not_above_charge check (refund_amount between 1 and amount),
    constraint payments_refund_whole check
        ((refunded_at is null) = (refund_amount is null) and (refunded_at is null) = (provider_refund_id is null))
);

-- One row a driver that was ever a candidate: the lock that serialises assignments and releases of one driver.
create table drivers (
    driver_id       text primary key,
    -- The order that the driver serves. Beside order_assignments so that a locked row re-checks it (a sub-select
    -- would be read from the statement's older snapshot).
    active_order_id uuid unique references order_sagas (order_id),
    -- Grows by one with each assignment and each release, under the row's lock: the order of events that clocks
    -- cannot give, since now() is not the order of commits.
    assignment_seq  bigint not null default 0
);
-- Who is busy: read by every search for a driver, and small beside all drivers ever seen.
create index drivers_busy on drivers (driver_id) where active_order_id is not null;

create table order_assignments (
    order_id       uuid primary key references order_sagas (order_id),
    driver_id      text not null references drivers (driver_id),
    assigned_at    timestamptz not null default now(),
    assigned_seq   bigint not null,
    released_at    timestamptz,
    released_seq   bigint,
    release_reason text,
    constraint order_assignments_release_reason check (release_reason in ('completed', 'cancelled')),
    constraint order_assignments_release_whole check
        ((released_at is null) = (released_seq is null) and (released_at is null) = (release_reason is null)),
    constraint order_assignments_seq check (released_seq > assigned_seq)
);
-- A driver never holds two active orders, whatever the code believes.
create unique index order_assignments_one_active on order_assignments (driver_id) where released_at is null;
