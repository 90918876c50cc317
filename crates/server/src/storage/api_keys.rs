//! API keys: rows that are never deleted, so that a log's key can be looked up for ever. What is read of one is not judged by the rules for new ones: they
//! grow stricter, and a key that was made stays good.

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use waybill_domain::access::{Caller, Role};
use waybill_domain::api_key::ApiKeyId;
use waybill_domain::operator::Operator;
use waybill_domain::tenant::Tenant;

use super::StoreError;
use super::postgres::Postgres;

/// API keys in Postgres.
#[derive(Clone)]
pub struct ApiKeyStore {
    postgres: Postgres,
}

/// A key that may be good, without its secret.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// SHA-256 of its secret.
    pub secret_hash: Vec<u8>,
    /// Who calls with it.
    pub caller: Caller,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is worth nothing; `None`: it does not expire.
    pub expires_at: Option<Timestamp>,
    /// Since when it is worth nothing.
    pub revoked_at: Option<Timestamp>,
}

/// A key as it is stored, for who lists and revokes them: a program of another version may have made it, and given it a role that this one lacks.
#[derive(Debug, Clone)]
pub struct ListedKey {
    /// Its id.
    pub id: String,
    /// The role of who calls with it.
    pub role: String,
    /// Their business; empty for the one without a name.
    pub tenant: String,
    /// Their name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is worth nothing; `None`: it does not expire.
    pub expires_at: Option<Timestamp>,
    /// Since when it is worth nothing.
    pub revoked_at: Option<Timestamp>,
}

statements! {
    INSERT = "insert into api_keys (key_id, secret_hash, role, tenant, name, expires_at)
              values ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
              returning key_id, secret_hash, role, tenant, name, created_at, expires_at, revoked_at";
    LIST = "select key_id, secret_hash, role, tenant, name, created_at, expires_at, revoked_at
              from api_keys order by created_at, key_id";
    /// One that expired a while ago is of no interest; before that, its caller is answered why it is refused.
    CURRENT = "select key_id, secret_hash, role, tenant, name, created_at, expires_at, revoked_at
                 from api_keys
                where revoked_at is null and (expires_at is null or expires_at > now() - interval '1 day')";
    /// The time of a first revocation stays.
    REVOKE = "update api_keys set revoked_at = coalesce(revoked_at, now()) where key_id = $1
              returning key_id, secret_hash, role, tenant, name, created_at, expires_at, revoked_at";
    /// Who made a link by a key is stored as `service shop, key <id>`.
    REVOKE_LINKS = "update order_shares set revoked_at = now(), revoked_by = 'keys revoke'
                     where right(created_by, length($1) + 6) = ', key ' || $1
                       and revoked_at is null and expires_at > now()";
}

impl ApiKeyStore {
    /// The keys in `postgres`.
    pub fn new(postgres: Postgres) -> ApiKeyStore {
        ApiKeyStore { postgres }
    }

    /// Stores a new key, which expires so many seconds from now.
    pub async fn insert(
        &self,
        id: &ApiKeyId,
        secret_hash: &[u8],
        caller: &Caller,
        expires_in: Option<f64>,
    ) -> Result<ListedKey, StoreError> {
        let (role, tenant, name) = (caller.role().as_str(), caller.tenant(), caller.subject());
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&id.as_str(), &secret_hash, &role, &tenant.as_str(), &name, &expires_in];
        let row = self.postgres.query_opt(INSERT, &parameters).await?;
        let row = row.ok_or_else(|| StoreError::unexpected("an insert returned no row"))?;
        listed(&row)
    }

    /// All keys, the oldest first.
    pub async fn list(&self) -> Result<Vec<ListedKey>, StoreError> {
        self.postgres.query(LIST, &[]).await?.iter().map(listed).collect()
    }

    /// The keys that are good, and those that expired lately. One of a role that only a newer program knows is left out.
    pub async fn current(&self) -> Result<Vec<ApiKey>, StoreError> {
        let rows = self.postgres.query(CURRENT, &[]).await?;
        Ok(rows.iter().filter_map(|row| current(row).ok()).collect())
    }

    /// Ends the links to orders that were made with this key; how many.
    pub async fn revoke_links(&self, id: &ApiKeyId) -> Result<u64, StoreError> {
        self.postgres.execute(REVOKE_LINKS, &[&id.as_str()]).await
    }

    /// Makes the key worth nothing, now and for ever; `None`: there is none with this id.
    pub async fn revoke(&self, id: &ApiKeyId) -> Result<Option<ListedKey>, StoreError> {
        let row = self.postgres.query_opt(REVOKE, &[&id.as_str()]).await?;
        row.as_ref().map(listed).transpose()
    }
}

fn listed(row: &Row) -> Result<ListedKey, StoreError> {
    Ok(ListedKey {
        id: row.try_get("key_id")?,
        role: row.try_get("role")?,
        tenant: row.try_get("tenant")?,
        name: row.try_get("name")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}

fn current(row: &Row) -> Result<ApiKey, StoreError> {
    let role: &str = row.try_get("role")?;
    let name = Operator::stored(row.try_get("name")?);
    let tenant: Option<Tenant> = match row.try_get("tenant")? {
        "" => Some(Tenant::default()),
        name => name.parse().ok(),
    };
    let caller = Role::parse(role).and_then(|role| Caller::named(role, tenant?, &name));
    let id: &str = row.try_get("key_id")?;
    Ok(ApiKey {
        id: id.parse().map_err(StoreError::unexpected)?,
        secret_hash: row.try_get("secret_hash")?,
        caller: caller.ok_or_else(|| StoreError::unexpected("an API key of a role or a tenant that it cannot have"))?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}
