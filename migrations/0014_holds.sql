-- An order's amount can be held first and captured later: all of it, a final amount or a fee. What is not captured is
-- voided. What was captured, less what is kept as a fee, is the most that is refunded.

alter table order_sagas
    add column payment_mode text not null default 'charge_first',
    add constraint order_sagas_payment_mode
        check (payment_mode in ('charge_first', 'capture_at_assignment', 'capture_at_completion')) not valid;

alter table payments
    -- What is decided to be captured of a hold; 0: it is voided. Null: nothing is decided, or there is no hold.
    add column to_capture      bigint,
    -- What was taken from the customer. Null while the amount is held.
    add column captured_amount bigint,
    add column captured_at     timestamptz,
    -- When an operator looked at an order of which less was captured than was decided.
    add column shortfall_seen_at timestamptz,
    -- What a cancellation costs: kept of what was captured.
    add column kept_amount     bigint not null default 0;
update payments set captured_amount = amount, captured_at = charged_at;
alter table payments
    drop constraint payments_refund_not_above_charge,
    add constraint payments_capture_not_above_hold check (to_capture between 0 and amount),
    add constraint payments_captured_not_above_hold check (captured_amount between 0 and amount),
    add constraint payments_captured_whole check ((captured_at is null) = (captured_amount is null)),
    add constraint payments_kept check (kept_amount between 0 and amount),
    add constraint payments_refund_not_above_capture check (refund_amount between 1 and coalesce(captured_amount, 0));
create index payments_held on payments (charged_at) where captured_amount is null and to_capture is null;

-- A decision about a hold is final, and what was captured never changes.
create function payments_guard() returns trigger language plpgsql as $$
begin
    if old.to_capture is not null and new.to_capture is distinct from old.to_capture then
        raise exception 'order %: what is captured of its hold is decided', old.order_id
            using errcode = 'check_violation', constraint = 'payments_capture_decided';
    end if;
    if old.captured_amount is not null and new.captured_amount is distinct from old.captured_amount then
        raise exception 'order %: its hold is captured or voided already', old.order_id
            using errcode = 'check_violation', constraint = 'payments_captured_once';
    end if;
    return new;
end $$;
create trigger payments_guard before update on payments
    for each row execute function payments_guard();

create or replace function refunds_guard() returns trigger language plpgsql as $$
declare
    captured bigint;
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
    select coalesce(captured_amount, 0) into captured from payments where order_id = new.order_id;
    select sum(amount) into decided from refunds
     where order_id = new.order_id and state in ('open', 'succeeded');
    if decided > captured then
        raise exception 'order %: refunds of % are more than the % that was captured', new.order_id, decided, captured
            using errcode = 'check_violation', constraint = 'refunds_not_above_capture';
    end if;
    return null;
end $$;

alter table payment_attempts
    drop constraint payment_attempts_operation,
    add constraint payment_attempts_operation check (operation in ('charge', 'refund', 'capture', 'void')) not valid;

alter table order_saga_steps
    drop constraint order_saga_steps_step,
    add constraint order_saga_steps_step check
        (step in ('create', 'charge', 'assign', 'refund', 'cancel', 'complete', 'release', 'retry', 'resolve',
                  'dispute', 'capture', 'void')) not valid;
drop index order_saga_steps_one_success;
create unique index order_saga_steps_one_success on order_saga_steps
    (order_id, step, (case when step in ('create', 'charge', 'capture', 'void') then 0 else round end))
    where status = 'succeeded' and step not in ('refund', 'dispute');
