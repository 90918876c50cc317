-- A payment has any number of refunds: of the saga, requested ones, ones that a person made at the provider or past it.
-- Each has a state of its own, and their sum decides whether an order is refunded. A refund can fail after it succeeded.

create table refunds (
    order_id           uuid not null references payments (order_id),
    -- From 1. The provider's key of the request comes from it.
    number             integer not null,
    amount             bigint not null,
    currency           text not null,
    -- compensation: what the saga owes. request: by RefundOrder. again: by an operator, in place of one that failed.
    -- provider: made at the provider by a person. dispute: taken back by the customer's bank. unverified: made past the
    -- provider, by an operator's word.
    origin             text not null,
    -- open: decided, and not confirmed. failed: for good, its money is back on the account, and an operator decides what
    -- replaces it. replaced: another was decided in its place.
    state              text not null default 'open',
    provider_refund_id text unique,
    -- Of RefundOrder: unique per order.
    idempotency_key    text,
    -- Why it was requested, and why it failed: for people.
    reason             text not null default '',
    failure            text,
    -- Of a refund that a person made at the provider: an operator has named it as made for what failed. Of one that is
    -- replaced: that was in its place.
    is_named           boolean not null default false,
    created_at         timestamptz not null default now(),
    settled_at         timestamptz,
    primary key (order_id, number),
    constraint refunds_amount check (amount > 0),
    constraint refunds_number check (number > 0),
    constraint refunds_origin check
        (origin in ('compensation', 'request', 'again', 'provider', 'dispute', 'unverified')),
    constraint refunds_state check (state in ('open', 'succeeded', 'failed', 'replaced')),
    constraint refunds_settled check ((state = 'open') = (settled_at is null)),
    constraint refunds_succeeded_has_id check (state <> 'succeeded' or provider_refund_id is not null),
    constraint refunds_key_length check (octet_length(idempotency_key) between 16 and 255)
);
create index refunds_open on refunds (order_id, number) where state = 'open';
create unique index refunds_by_key on refunds (order_id, idempotency_key) where idempotency_key is not null;

insert into refunds (order_id, number, amount, currency, origin, state, provider_refund_id, created_at, settled_at)
select order_id, 1, refund_amount, currency,
       case when provider_refund_id like 'unverified:%' then 'unverified' else 'compensation' end,
       'succeeded', provider_refund_id, refunded_at, refunded_at
  from payments
 where refunded_at is not null;
insert into refunds (order_id, number, amount, currency, origin, created_at)
select a.order_id, 1, a.amount, a.currency, 'compensation', coalesce(a.first_sent_at, now())
  from payment_attempts a
  join payments p using (order_id)
 where a.operation = 'refund' and p.refunded_at is null;

-- The sum of what succeeded, and when the last of it did. Their refunds have the provider's ids.
alter table payments
    drop constraint payments_refund_whole,
    drop column provider_refund_id;
alter table payments
    add constraint payments_refund_whole check ((refunded_at is null) = (refund_amount is null));

-- No more is ever decided to be refunded than was charged, and what is settled stays as it was, but for a success that
-- turns out to have failed.
create function refunds_guard() returns trigger language plpgsql as $$
declare
    charged bigint;
    decided bigint;
begin
    if tg_op = 'UPDATE' then
        if (new.order_id, new.number, new.amount, new.currency, new.origin, new.idempotency_key)
            is distinct from (old.order_id, old.number, old.amount, old.currency, old.origin, old.idempotency_key)
        then
            raise exception 'refund % of order %: what was decided is not changed', old.number, old.order_id
                using errcode = 'check_violation', constraint = 'refunds_final';
        end if;
        if new.state <> old.state and (old.state, new.state) not in (
            ('open', 'succeeded'), ('open', 'failed'), ('open', 'replaced'),
            ('succeeded', 'failed'), ('failed', 'replaced'))
        then
            raise exception 'refund % of order %: no transition from % to %', old.number, old.order_id, old.state, new.state
                using errcode = 'check_violation', constraint = 'refunds_transition';
        end if;
    end if;
    select amount into charged from payments where order_id = new.order_id;
    select sum(amount) into decided from refunds
     where order_id = new.order_id and state in ('open', 'succeeded');
    if decided > charged then
        raise exception 'order %: refunds of % are more than the % that was charged', new.order_id, decided, charged
            using errcode = 'check_violation', constraint = 'refunds_not_above_charge';
    end if;
    return null;
end $$;
create trigger refunds_guard after insert or update on refunds
    for each row execute function refunds_guard();

-- Each numbered refund has a request of its own, with a key of its own.
alter table payment_attempts
    add column number integer not null default 1,
    drop constraint payment_attempts_pkey,
    add primary key (order_id, operation, number),
    drop constraint payment_attempts_state,
    -- not_executed: every send so far was refused before it had an effect. revoked: none will have one any more. failed:
    -- executed, and the money came back.
    add constraint payment_attempts_state
        check (state in ('intent', 'not_executed', 'unknown', 'succeeded', 'declined', 'revoked', 'failed')) not valid,
    drop constraint payment_attempts_refund_not_declined,
    add constraint payment_attempts_refund_not_declined
        check (operation = 'charge' or state <> 'declined') not valid;

create table disputes (
    provider_dispute_id text primary key,
    order_id            uuid not null references payments (order_id),
    amount              bigint not null,
    currency            text not null,
    -- The provider's words for why the customer's bank disputes the payment, and for how it stands.
    reason              text not null,
    status              text not null,
    -- Whether it is still to be decided.
    is_open             boolean not null,
    opened_at           timestamptz not null,
    changed_at          timestamptz not null default now(),
    constraint disputes_amount check (amount > 0)
);
create index disputes_by_order on disputes (order_id);

alter table order_sagas
    -- When it was last said that the provider's record of the payment changed, or may have: the payment is compared with it.
    add column reconcile_requested_at timestamptz,
    -- Since when an order that was settled is worked on again.
    add column reopened_at timestamptz,
    -- A settled order is taken up again in its state: for a refund, or to be compared with the provider.
    drop constraint order_sagas_finished,
    add constraint order_sagas_finished
        check (finished_at is null or status in ('succeeded', 'failed', 'refunded')) not valid;
-- A dispute keeps the flag of an order that is settled.
create index order_sagas_flagged on order_sagas (order_id) where needs_attention is not null;

alter table order_saga_steps
    drop constraint order_saga_steps_step,
    add constraint order_saga_steps_step check
        (step in ('create', 'charge', 'assign', 'refund', 'cancel', 'complete', 'release', 'retry', 'resolve',
                  'dispute')) not valid;
drop index order_saga_steps_one_success;
-- Refunds are counted in their own table.
create unique index order_saga_steps_one_success on order_saga_steps
    (order_id, step, (case when step in ('create', 'charge') then 0 else round end))
    where status = 'succeeded' and step not in ('refund', 'dispute');

create or replace function order_sagas_guard() returns trigger language plpgsql as $$
begin
    if new.status is distinct from old.status and (old.status, new.status) not in (
        ('started', 'charging'), ('started', 'failed'),
        ('charging', 'charged'), ('charging', 'failed'),
        ('charged', 'succeeded'), ('charged', 'refunding'),
        ('succeeded', 'charged'), ('succeeded', 'refunding'),
        ('refunding', 'refunded'), ('refunded', 'refunding'))
    then
        raise exception 'order %: no transition from % to %', old.order_id, old.status, new.status
            using errcode = 'check_violation', constraint = 'order_sagas_transition';
    end if;
    if new.fence < old.fence then
        raise exception 'order %: the fence went back from % to %', old.order_id, old.fence, new.fence
            using errcode = 'check_violation', constraint = 'order_sagas_fence';
    end if;
    -- An answer changes in one way only: it is forgotten together with the key that asks for it.
    if old.response_body is not null
        and (new.response_code, new.response_message, new.response_details, new.response_body)
            is distinct from (old.response_code, old.response_message, old.response_details, old.response_body)
        and (new.idempotency_key is not null or new.response_body is not null)
    then
        raise exception 'order %: its answer is already given', old.order_id
            using errcode = 'check_violation', constraint = 'order_sagas_answer_final';
    end if;
    if new.idempotency_key is distinct from old.idempotency_key
        and (new.idempotency_key is not null or old.finished_at is null)
    then
        raise exception 'order %: its key is forgotten once it is at rest, and never changed', old.order_id
            using errcode = 'check_violation', constraint = 'order_sagas_key_final';
    end if;
    return new;
end $$;
