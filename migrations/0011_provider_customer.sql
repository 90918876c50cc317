-- The provider's customer to whom the means of payment is attached. A means of payment without one is good for one payment.

alter table order_sagas
    add column provider_customer text;
