-- People are erased: their positions go, and in orders and their logs a pseudonym takes their name's place.

-- In the order in which an assignment locks them.
lock table drivers, order_assignments, past_assignments in access exclusive mode;

-- Of an erased driver there are assignments and no row in drivers. They are made under the lock of that row, and the audit
-- compares both.
alter table order_assignments drop constraint order_assignments_driver_id_fkey;
alter table past_assignments drop constraint past_assignments_driver_id_fkey;

-- As before; and a transaction that says that it erases (`set local waybill.erasing = 'on'`) changes the columns in which names stand,
-- and no others, and deletes positions.
create or replace function append_only() returns trigger language plpgsql as $$
declare
    names constant text[] := array['driver_id', 'detail', 'requested_by'];
begin
    if current_setting('waybill.erasing', true) = 'on' then
        if tg_op = 'DELETE' and tg_table_name like 'driver_locations%' then
            return old;
        end if;
        if tg_op = 'UPDATE' and tg_table_name in ('order_saga_steps', 'past_assignments')
            and to_jsonb(new) - names = to_jsonb(old) - names
        then
            return new;
        end if;
    end if;
    raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;

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
    -- An answer changes in two ways only: it expires together with the key that asks for it, and a name in it is erased.
    if old.response_body is not null
        and (new.response_code, new.response_message, new.response_details, new.response_body)
            is distinct from (old.response_code, old.response_message, old.response_details, old.response_body)
        and (new.idempotency_key is not null or new.response_body is not null)
        and not (current_setting('waybill.erasing', true) is not distinct from 'on'
                 and (new.response_code, new.response_message, new.response_details)
                     is not distinct from (old.response_code, old.response_message, old.response_details)
                 and new.response_body is not null)
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

-- As before; and the key of a refund, which a caller wrote, may have a name in it.
create or replace function refunds_guard() returns trigger language plpgsql as $$
declare
    captured bigint;
    decided bigint;
begin
    if tg_op = 'UPDATE' then
        if (new.order_id, new.number, new.amount, new.currency, new.origin)
            is distinct from (old.order_id, old.number, old.amount, old.currency, old.origin)
            or (new.idempotency_key is distinct from old.idempotency_key
                and current_setting('waybill.erasing', true) is distinct from 'on')
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
