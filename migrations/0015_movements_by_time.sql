-- `waybill reconcile` compares the ledger with the provider's list window by window: it reads what the ledger got within an
-- hour, of years.

create index payments_by_time on payments (charged_at);
create index refunds_by_time on refunds (settled_at) where state = 'succeeded';
