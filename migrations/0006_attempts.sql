-- Answers that a request under the same key may get for ever.

alter table payment_attempts
    -- How often the provider answered with a server error. Stripe replays a saved 500 to its key: after the third the
    -- provider's list is asked beside the key.
    add column server_errors integer not null default 0;
