//! Sessions of the tests' own, past all proxies.

use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{Client, Error, NoTls};
use tokio_util::task::TaskTracker;

/// A session; it ends with its client.
pub async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    TaskTracker::new().spawn(connection);
    Ok(client)
}

/// The first column of all rows.
pub async fn column<T: FromSqlOwned>(
    client: &Client,
    query: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<T>, Error> {
    let rows = client.query(query, parameters).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The first column of the one row.
pub async fn one<T: FromSqlOwned>(
    client: &Client,
    query: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<T, Error> {
    Ok(client.query_one(query, parameters).await?.get(0))
}
