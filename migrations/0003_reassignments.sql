-- A driver that declines or falls silent sets its order free for the next nearest one. The payment stays as it is.

alter table order_sagas
    -- How many drivers the order has lost. The steps of each further search carry it, so that the log tells them apart.
    add column reassignments integer not null default 0,
    -- Since when a driver is looked for, if not since the charge: the window begins anew with each search.
    add column search_from   timestamptz,
    add constraint order_sagas_search_from check ((reassignments > 0) = (search_from is not null));

-- What order_assignments held before the order's present driver: that table has one row an order.
create table past_assignments (
    order_id       uuid not null references order_sagas (order_id),
    driver_id      text not null references drivers (driver_id),
    assigned_at    timestamptz not null,
    assigned_seq   bigint not null,
    released_at    timestamptz not null default now(),
    released_seq   bigint not null,
    release_reason text not null,
    -- The driver's own sequence: no two assignments of one driver share a place in it.
    primary key (driver_id, assigned_seq),
    constraint past_assignments_release_reason check (release_reason in ('declined', 'silent')),
    constraint past_assignments_seq check (released_seq > assigned_seq)
);
-- Whom not to offer an order again. A driver loses an order once: it is not offered to them again.
create unique index past_assignments_by_order on past_assignments (order_id, driver_id);
create trigger past_assignments_append_only before update or delete on past_assignments
    for each row execute function append_only();

-- A step succeeds once in each round: the first search is round 0, the search after the first lost driver round 1.
alter table order_saga_steps
    add column round integer not null default 0,
    drop constraint order_saga_steps_step,
    add constraint order_saga_steps_step check
        (step in ('create', 'charge', 'assign', 'refund', 'cancel', 'complete', 'release', 'retry', 'resolve'));
drop index order_saga_steps_one_success;
-- The order is created and the money moves once, whatever the round.
create unique index order_saga_steps_one_success on order_saga_steps
    (order_id, step, (case when step in ('create', 'charge', 'refund') then 0 else round end))
    where status = 'succeeded';

-- As before, and an order that lost its driver looks for another.
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
    if old.response_body is not null
        and (new.response_body, new.response_code) is distinct from (old.response_body, old.response_code)
    then
        raise exception 'order %: its answer is already given', old.order_id
            using errcode = 'check_violation', constraint = 'order_sagas_answer_final';
    end if;
    return new;
end $$;
