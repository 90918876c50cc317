//! The checks: each guarantee that SQL can check, as a statement whose rows are its violations. Each takes time that grows as what it reads does.
//!
//! What is beside the ledger is a parameter of the check, for a standby has no table for it.

use super::super::Statement;

/// One check of the audit.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// The guarantee that it checks, by its id in docs/guarantees.md.
    pub promise: &'static str,
    /// The violation that it looks for.
    pub violation: &'static str,
    pub(super) needs: EvidenceSource,
    pub(super) statement: Statement,
}

/// The evidence that a check needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EvidenceSource {
    Ledger,
    Movements,
    AnsweredOrders,
    AcknowledgedFixes,
    PassedFixes,
}

/// A check of `provider_movements`: the columns of the provider's movements are its parameters. A movement that carries no order, or one that a
/// failover lost, is an order's if the ledger has its id.
macro_rules! of_movements {
    ($check:expr) => {
        concat!(
            "with ledger as (",
            ledger_movements!(),
            "), provider_movements as materialized (
                select m.kind, case when s.order_id is null then coalesce(l.order_id, m.order_id) else m.order_id end as order_id,
                       m.provider_id, m.amount, m.currency, m.account
                  from unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::text[])
                       m (kind, order_id, provider_id, amount, currency, account)
                  left join order_sagas s on s.order_id = m.order_id
                  left join ledger l on l.kind = m.kind and l.provider_id = m.provider_id) ",
            $check
        )
    };
}

/// A check of `fixes`: their drivers and times are its parameters.
macro_rules! of_fixes {
    () => {
        "select k.driver_id || ' at ' || k.recorded_at::text
           from unnest($1::text[], $2::timestamptz[]) k (driver_id, recorded_at)
           left join driver_locations l on l.driver_id = k.driver_id and l.recorded_at = k.recorded_at
          where l.driver_id is null"
    };
}

/// The settled orders whose sums of this kind of movement are not equal on both sides.
macro_rules! ledger_differs {
    ($kind:literal) => {
        of_movements!(concat!(
            "select coalesce(o.order_id, m.order_id)::text
               from (select order_id, sum(amount) as amount from ledger where kind = '",
            $kind,
            "' group by order_id) o
               full join (select order_id, sum(amount) as amount from provider_movements
                           where kind = '",
            $kind,
            "' group by order_id) m
                 on m.order_id = o.order_id
               left join order_sagas s on s.order_id = coalesce(o.order_id, m.order_id)
              where s.finished_at is not null and o.amount is distinct from m.amount"
        ))
    };
}

statements! {
    CHARGED_TWICE = of_movements!(
        "select order_id::text from provider_movements
                      where kind = 'charge' and order_id is not null group by order_id having count(*) > 1");
    /// One that a person made carries no order, and is in the ledger once the order was compared with the provider.
    REFUNDED_BESIDE = of_movements!(
        "select m.order_id::text || ': ' || m.provider_id
                         from provider_movements m
                         join order_sagas s on s.order_id = m.order_id
                        where m.kind = 'refund' and s.finished_at is not null
                          and not exists (select from refunds r where r.provider_refund_id = m.provider_id)");
    REFUNDED_TOO_MUCH = of_movements!(
        "select order_id::text from provider_movements
                          where order_id is not null
                          group by order_id
                         having sum(case kind when 'charge' then amount else -amount end) < 0");
    AT_ANOTHER_ACCOUNT = of_movements!(
        "select m.order_id::text || ': ' || m.provider_id
                            from provider_movements m
                            join order_sagas s on s.order_id = m.order_id
                           where m.account is distinct from s.payment_account");
    MONEY_WITHOUT_ORDER = of_movements!(
        "select m.order_id::text from provider_movements m
                             left join order_sagas s on s.order_id = m.order_id
                            where m.order_id is not null and s.order_id is null");

    /// From its acceptance, its cancellation, the unassignment of its driver, or since it was resumed.
    UNFINISHED = "select order_id::text || ' is ' || status || ' since ' || updated_at::text
                    from order_sagas
                   where finished_at is null and needs_attention is null
                     and greatest(created_at, cancel_requested_at, search_from, reopened_at)
                         < now() - interval '60 seconds'";
    OPEN_AT_REST = "select r.order_id::text || ': refund ' || r.number::text
                      from refunds r
                      join order_sagas s using (order_id)
                     where r.state = 'open' and s.finished_at is not null
                    union all
                    select p.order_id::text || ': capture'
                      from payments p
                      join order_sagas s using (order_id)
                     where p.to_capture is not null and p.captured_amount is null and s.finished_at is not null";
    /// A person at the provider may give back more than is owed; the saga may not.
    FEE_REFUNDED = "select p.order_id::text
                      from payments p
                      join refunds r using (order_id)
                     where p.kept_amount > 0 and r.state = 'succeeded' and r.origin in ('compensation', 'again')
                     group by p.order_id
                    having sum(r.amount) > p.captured_amount - p.kept_amount";
    SUM_DIFFERS = "select p.order_id::text
                     from payments p
                     left join refunds r on r.order_id = p.order_id and r.state = 'succeeded'
                    group by p.order_id, p.refund_amount
                   having p.refund_amount is distinct from sum(r.amount)";
    PAID_FOR_NOTHING = "select s.order_id::text
                          from order_sagas s
                          join payments p on p.order_id = s.order_id
                          left join order_assignments a on a.order_id = s.order_id
                         where s.finished_at is not null
                           and coalesce(p.refund_amount, 0) < p.captured_amount - p.kept_amount
                           and (a.order_id is null or a.release_reason = 'cancelled')";
    /// A person at the provider may capture more of a hold than the order cost.
    OVERCHARGED = "select p.order_id::text
                     from payments p
                     join order_sagas s using (order_id)
                    where s.status = 'succeeded' and s.finished_at is not null and s.needs_attention is null
                      and coalesce(p.refund_amount, 0)
                          + (select coalesce(sum(d.amount), 0) from disputes d where d.order_id = p.order_id and d.status = 'lost')
                          < p.captured_amount - p.to_capture
                      and not exists (select from refunds r
                                       where r.order_id = p.order_id and r.state = 'replaced' and r.origin = 'request'
                                         and r.idempotency_key is null)";
    /// Of an order whose hold was gone, the flag goes with the word of an operator.
    SERVED_UNPAID = "select a.order_id::text
                       from order_assignments a
                       join order_sagas s on s.order_id = a.order_id
                       left join payments p on p.order_id = a.order_id
                      where p.order_id is null
                         or coalesce(p.captured_amount, 0) = 0
                            and s.status = 'succeeded' and s.finished_at is not null and s.needs_attention is null
                            and (a.release_reason = 'completed' or s.payment_mode = 'capture_at_assignment')
                            and p.shortfall_seen_at is null
                         or a.release_reason is distinct from 'cancelled'
                            and exists (select from refunds r where r.order_id = a.order_id
                                           and r.origin = 'compensation' and r.state = 'succeeded')";

    ANSWER_LOST = "select h.order_id::text || ' was answered ' || h.status || ', is ' || coalesce(s.status, 'missing')
                     from unnest($1::uuid[], $2::text[]) h (order_id, status)
                     left join order_sagas s on s.order_id = h.order_id
                    where s.order_id is null
                       or s.status is distinct from h.status
                          and not (h.status = 'succeeded' and s.status in ('charged', 'refunding', 'refunded')
                                   and (s.cancel_requested_at is not null or s.reassignments > 0))
                          and not (h.status = 'refunded' and s.status = 'refunding'
                                   and exists (select from order_saga_steps t
                                                where t.order_id = s.order_id and t.step = 'refund' and t.status = 'failed'))";
    LOG_GAP = "select s.order_id::text || ' is ' || s.status
                 from order_sagas s
                where not (
                    select coalesce(array_agg(step) filter (where status = 'succeeded'), '{}')
                           @> (case s.status
                                 when 'succeeded' then '{create,charge,assign}'
                                 when 'refunded' then '{create,charge}'
                                 when 'charged' then '{create,charge}'
                                 when 'refunding' then '{create,charge}'
                                 else '{create}' end)::text[]
                      from order_saga_steps t
                     where t.order_id = s.order_id)
                   or s.status = 'refunded'
                      and not exists (select from payments p
                                       where p.order_id = s.order_id and p.kept_amount >= p.captured_amount)
                      and not exists (select from order_saga_steps t
                                       where t.order_id = s.order_id
                                         and (t.step in ('refund', 'void', 'capture') and t.status = 'succeeded'
                                              or t.step = 'capture' and t.status = 'failed'))";

    LEDGER_DIFFERS_ON_CHARGE = ledger_differs!("charge");
    LEDGER_DIFFERS_ON_REFUND = ledger_differs!("refund");

    /// By the provider's own ids: equal sums may be of different movements.
    NOT_AT_PROVIDER = of_movements!(
        "select o.order_id::text || ': ' || o.provider_id
           from ledger o
           left join provider_movements m
             on m.provider_id = o.provider_id and m.amount = o.amount and m.currency = o.currency
          where m.provider_id is null");

    DRIVER_TWICE = "select driver_id from order_assignments
                     where released_at is null group by driver_id having count(*) > 1";
    /// By the per-driver sequence: clocks do not give the order of commits. Each assignment is compared with the latest end before it.
    DRIVER_OVERLAP = "with held as (
                          select driver_id, order_id, assigned_seq, released_seq from order_assignments
                          union all
                          select driver_id, order_id, assigned_seq, released_seq from past_assignments),
                      ordered as (
                          select driver_id, order_id, assigned_seq,
                                 max(coalesce(released_seq, 9223372036854775807)) over earlier as held_until
                            from held
                          window earlier as (partition by driver_id order by assigned_seq
                                             rows between unbounded preceding and 1 preceding))
                      select driver_id || ': ' || order_id::text || ' was its ' || assigned_seq || '. while it held another until its '
                             || held_until || '.'
                        from ordered
                       where held_until > assigned_seq";
    DRIVER_STATE = "select coalesce(d.driver_id, a.driver_id)
                      from (select * from drivers where active_order_id is not null) d
                      full join (select * from order_assignments where released_at is null) a
                        on a.driver_id = d.driver_id
                     where d.active_order_id is distinct from a.order_id";

    /// The steps of an order are logged under its lock, so their ids are the order of its commits.
    ZOMBIE = "select order_id::text || ': ' || step || ' ' || status || ' under fence ' || fence || ' after ' || highest
                from (select order_id, step, status, fence,
                             max(fence) over (partition by order_id order by id
                                              rows between unbounded preceding and 1 preceding) as highest
                        from order_saga_steps) t
               where fence < highest";

    ACKNOWLEDGED_LOST = of_fixes!();
    PASSED_LOST = of_fixes!();
}

/// Every check, in the order in which it is shown.
pub const CHECKS: &[Check] = &[
    Check {
        promise: "M1",
        violation: "charged twice by the provider",
        needs: EvidenceSource::Movements,
        statement: CHARGED_TWICE,
    },
    Check {
        promise: "M1",
        violation: "refunded by the provider, and not in the ledger",
        needs: EvidenceSource::Movements,
        statement: REFUNDED_BESIDE,
    },
    Check {
        promise: "M1",
        violation: "refunded more than charged",
        needs: EvidenceSource::Movements,
        statement: REFUNDED_TOO_MUCH,
    },
    Check {
        promise: "M1",
        violation: "refunded what was to be kept as a fee",
        needs: EvidenceSource::Ledger,
        statement: FEE_REFUNDED,
    },
    Check {
        promise: "M1",
        violation: "money moved for an unknown order",
        needs: EvidenceSource::Movements,
        statement: MONEY_WITHOUT_ORDER,
    },
    Check {
        promise: "M18",
        violation: "money moved at another account than the order's",
        needs: EvidenceSource::Movements,
        statement: AT_ANOTHER_ACCOUNT,
    },
    Check {
        promise: "M2",
        violation: "not settled after 60 s, and not flagged",
        needs: EvidenceSource::Ledger,
        statement: UNFINISHED,
    },
    Check {
        promise: "M2",
        violation: "paid, neither served nor refunded",
        needs: EvidenceSource::Ledger,
        statement: PAID_FOR_NOTHING,
    },
    Check {
        promise: "M2",
        violation: "served but not paid",
        needs: EvidenceSource::Ledger,
        statement: SERVED_UNPAID,
    },
    Check {
        promise: "M14",
        violation: "captured more than was decided, and not refunded",
        needs: EvidenceSource::Ledger,
        statement: OVERCHARGED,
    },
    Check {
        promise: "M8",
        violation: "a refund or a capture is open, and no worker is to make it",
        needs: EvidenceSource::Ledger,
        statement: OPEN_AT_REST,
    },
    Check {
        promise: "M9",
        violation: "a payment differs from the sum of its refunds",
        needs: EvidenceSource::Ledger,
        statement: SUM_DIFFERS,
    },
    Check {
        promise: "M3",
        violation: "an answered order is lost or changed",
        needs: EvidenceSource::AnsweredOrders,
        statement: ANSWER_LOST,
    },
    Check {
        promise: "M3",
        violation: "the log lacks a step",
        needs: EvidenceSource::Ledger,
        statement: LOG_GAP,
    },
    Check {
        promise: "M9",
        violation: "ledger and provider differ on a charge",
        needs: EvidenceSource::Movements,
        statement: LEDGER_DIFFERS_ON_CHARGE,
    },
    Check {
        promise: "M9",
        violation: "ledger and provider differ on a refund",
        needs: EvidenceSource::Movements,
        statement: LEDGER_DIFFERS_ON_REFUND,
    },
    Check {
        promise: "M9",
        violation: "the provider lacks a movement of the ledger",
        needs: EvidenceSource::Movements,
        statement: NOT_AT_PROVIDER,
    },
    Check {
        promise: "D1",
        violation: "a driver with two active orders",
        needs: EvidenceSource::Ledger,
        statement: DRIVER_TWICE,
    },
    Check {
        promise: "D1",
        violation: "a driver held two orders at once",
        needs: EvidenceSource::Ledger,
        statement: DRIVER_OVERLAP,
    },
    Check {
        promise: "D1",
        violation: "a driver's state and assignments differ",
        needs: EvidenceSource::Ledger,
        statement: DRIVER_STATE,
    },
    Check {
        promise: "D3",
        violation: "a worker wrote after it lost the order",
        needs: EvidenceSource::Ledger,
        statement: ZOMBIE,
    },
    Check {
        promise: "L1",
        violation: "an acknowledged fix is not stored",
        needs: EvidenceSource::AcknowledgedFixes,
        statement: ACKNOWLEDGED_LOST,
    },
    Check {
        promise: "L1",
        violation: "a fix behind the cursor is not stored",
        needs: EvidenceSource::PassedFixes,
        statement: PASSED_LOST,
    },
];
