-- Links that ended long ago are deleted.

create index order_shares_by_expiry on order_shares (expires_at);
