-- What one payment may be is a rule of its currency, and of the provider: 1.5 million rupiah are 150,000,000 minor units
-- and some 90 dollars. The contract refuses what the provider does not charge; here is the bound of all currencies.
-- Not validated: every older row is within it, and a scan of the table would keep orders waiting.

alter table order_sagas
    drop constraint order_sagas_amount,
    add constraint order_sagas_amount check (amount between 1 and 999999999999) not valid;
