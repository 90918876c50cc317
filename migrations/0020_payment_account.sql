-- The account at the payment provider that an order is paid into: the name of its tenant, where that had an account of its own
-- when the order was accepted. Null: that of [payments]. All requests about the order's money go there.

alter table order_sagas add column payment_account text;

-- The tenants that have an account of their own, as a server says at its start.
create table payment_accounts (
    tenant     text primary key,
    -- Whether new orders of the tenant are paid into it. Once they are, no server may pay one into another account.
    new_orders boolean not null
);

-- A server that lacks the account, or is of a version that knows none, would charge into that of another business.
create function order_sagas_payment_account() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        raise exception 'the payment account of an order stays'
            using errcode = '55000', constraint = 'order_sagas_payment_account';
    end if;
    if exists (select from payment_accounts where tenant = tenant_of(new.user_id) and new_orders) then
        raise exception 'this server lacks [payments.accounts.%]', tenant_of(new.user_id)
            using errcode = '55000', constraint = 'order_sagas_payment_account';
    end if;
    return new;
end $$;
-- Of a tenant without a name nothing is asked.
create trigger order_sagas_payment_account before insert on order_sagas
    for each row when (new.payment_account is null and position('/' in new.user_id) > 0)
    execute function order_sagas_payment_account();
create trigger order_sagas_payment_account_stays before update of payment_account on order_sagas
    for each row when (new.payment_account is distinct from old.payment_account)
    execute function order_sagas_payment_account();
