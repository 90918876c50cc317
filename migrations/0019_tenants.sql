-- Several businesses in one deployment: ids of a business begin with its name, `acme/driver-7`, and those of the one without a
-- name have no prefix. No caller can write a `/`.

create function tenant_of(id text) returns text language sql immutable parallel safe as
    $$ select case when position('/' in id) > 0 then split_part(id, '/', 1) else '' end $$;

-- All orders of a business, the newest first. Of the one without a name the primary key serves: most deployments have no other.
create index order_sagas_by_tenant on order_sagas (tenant_of(user_id), order_id desc) where position('/' in user_id) > 0;
