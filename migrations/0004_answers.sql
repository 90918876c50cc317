-- The first definite answer, whole: a replay is these bytes, whichever version of the program wrote them.

alter table order_sagas
    -- The gRPC status's text and its details (grpc-status-details-bin), beside response_code and response_body.
    add column response_message text,
    add column response_details bytea,
    -- Null once the key is forgotten: after the retention a key is like any that was never used.
    alter column idempotency_key drop not null,
    drop constraint order_sagas_answer_whole,
    drop constraint order_sagas_finished_has_answer;
-- Answers of before were all of code 0, which has no text and no details.
update order_sagas set response_message = '', response_details = '' where response_body is not null;
alter table order_sagas
    add constraint order_sagas_answer_whole check
        (num_nonnulls(response_code, response_message, response_details, response_body) in (0, 4)),
    add constraint order_sagas_finished_has_answer check
        (finished_at is null or response_body is not null or idempotency_key is null);

-- What the reaper of old keys walks: orders at rest that still have theirs, the longest at rest first.
create index order_sagas_keys_by_age on order_sagas (finished_at)
    where idempotency_key is not null and finished_at is not null;

-- As before, for the whole answer, and with the one way in which it may go.
create or replace function order_sagas_guard() returns trigger language plpgsql as $$
begin
    if new.status is distinct from old.status and (old.status, new.status) not in (
        ('started', 'charging'), ('started', 'failed'),
        ('charging', 'charged'), ('charging', 'failed'),
        ('charged', 'succeeded'), ('charged', 'refunding'),
        ('succeeded', 'charged'), ('succeeded', 'refunding'), ('refunding', 'refunded'))
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
