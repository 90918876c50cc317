-- An order whose payment is not confirmed in time fails, and one whose charge is confirmed too late is refunded. For that
-- it is known of each charge whether it can have been executed at all.

alter table order_sagas
    drop constraint order_sagas_failure_reason,
    -- Not validated: every older row has one of the older reasons.
    add constraint order_sagas_failure_reason
        check (failure_reason in ('payment_declined', 'no_driver', 'cancelled', 'payment_timed_out')) not valid;
alter table payment_attempts
    drop constraint payment_attempts_state,
    -- not_executed: every send so far was refused before it had an effect. revoked: none will have one any more.
    add constraint payment_attempts_state
        check (state in ('intent', 'not_executed', 'unknown', 'succeeded', 'declined', 'revoked')) not valid,
    drop constraint payment_attempts_refund_not_declined,
    add constraint payment_attempts_refund_not_declined
        check (operation = 'charge' or state not in ('declined', 'revoked')) not valid;
