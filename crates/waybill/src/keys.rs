//! `waybill keys`.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};
use waybill_domain::access::Caller;
use waybill_domain::api_key::{ApiKeyId, ApiKeyIdError};
use waybill_server::app::{ApiKeyAdmin, ListedKey};

use crate::cli::keys::{CreateArgs, KeysArgs, KeysCommand};
use crate::cli::{StoreArgs, load};
use crate::table::{Table, table};
use crate::{Failure, print};

pub async fn run(file: Option<&Path>, args: KeysArgs) -> Result<(), Failure> {
    match args.command {
        KeysCommand::Create(args) => create(file, args).await?,
        KeysCommand::List(args) => {
            let keys = open(file, &args.stores)?.list().await.map_err(Failure::unavailable)?;
            match (args.json, keys.as_slice()) {
                (true, keys) => print::json(&json!({ "keys": keys.iter().map(as_json).collect::<Vec<_>>() })),
                (false, []) => print::line("no keys: make one with `waybill keys create --name NAME`"),
                (false, keys) => print::lines(as_table(keys)),
            }
        }
        KeysCommand::Revoke(args) => {
            let id: ApiKeyId = args
                .key
                .parse()
                .map_err(|why: ApiKeyIdError| Failure::Usage(format!("ID {why}")))?;
            let keys = open(file, &args.stores)?;
            let revoked = keys.revoke(&id).await;
            let Some(key) = revoked.map_err(Failure::unavailable)? else {
                return Err(Failure::Refused(format!("there is no API key {id}")));
            };
            let at = key.revoked_at.unwrap_or_else(Timestamp::now);
            print::line(&format!("key {id} of {} is revoked since {at:.0}", key.name));
            if args.with_links {
                // After the key: no more are made with it, by a server that knows that it is revoked.
                let links = keys.revoke_links(&id).await.map_err(Failure::unavailable)?;
                let are = if links == 1 { "link is" } else { "links are" };
                print::line(&format!("{links} {are} ended"));
            }
        }
    }
    Ok(())
}

/// The key alone is on standard output, so that a script can take it; what a person has to know is beside it.
async fn create(file: Option<&Path>, args: CreateArgs) -> Result<(), Failure> {
    let role = args.role.into();
    // Every role that the flag takes has a caller of its own.
    let config = load(file, &args.stores.flags())?;
    if let Some(tenant) = args
        .tenant
        .as_ref()
        .filter(|tenant| !config.tenants.names.contains(tenant))
    {
        return Err(Failure::Usage(format!("--tenant {tenant} is not one of tenants.names")));
    }
    let caller = Caller::named(role, args.tenant.unwrap_or_default(), &args.name)
        .ok_or_else(|| Failure::Usage(format!("--role {} has tokens, and no key", role.as_str())))?;
    let made = ApiKeyAdmin::open(&config)
        .map_err(Failure::unavailable)?
        .create(&caller, args.expires_in)
        .await;
    let (key, stored) = made.map_err(Failure::unavailable)?;
    print::line(&key);
    let until = stored
        .expires_at
        .map(|at| format!(", until {at:.0}"))
        .unwrap_or_default();
    print::notes(&format!(
        "Key {} of {} ({}){until}. It is not shown again. Servers know it within seconds; send it as\n  \
         authorization: Bearer KEY",
        stored.id,
        args.name,
        role.as_str()
    ));
    Ok(())
}

fn open(file: Option<&Path>, stores: &StoreArgs) -> Result<ApiKeyAdmin, Failure> {
    let config = load(file, &stores.flags())?;
    ApiKeyAdmin::open(&config).map_err(Failure::unavailable)
}

fn as_table(keys: &[ListedKey]) -> Table {
    let mut table = table(&["id", "name", "role", "tenant", "created", "state"]);
    for key in keys {
        table.add_row([
            key.id.clone(),
            key.name.clone(),
            key.role.clone(),
            key.tenant.clone(),
            format!("{:.0}", key.created_at),
            state(key),
        ]);
    }
    table
}

fn state(key: &ListedKey) -> String {
    match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {at:.0}"),
        (None, Some(at)) if at <= Timestamp::now() => format!("expired {at:.0}"),
        (None, Some(at)) => format!("good until {at:.0}"),
        (None, None) => "good".to_owned(),
    }
}

fn as_json(key: &ListedKey) -> Value {
    json!({
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "tenant": key.tenant,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    })
}
