//! The flags of `waybill keys`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use waybill_domain::access::Role;
use waybill_domain::operator::Operator;
use waybill_domain::tenant::Tenant;

use super::StoreArgs;
use super::values::duration;

/// Whoever wants one that is good for longer wants one that does not expire.
const TEN_YEARS: &str = "87840h";

#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    pub command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Create a key, and print it: once, for only a hash of it is stored
    Create(CreateArgs),
    /// List all keys, without their secrets
    List(ListKeysArgs),
    /// Make a key worth nothing: within seconds its calls are refused and its streams end
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    pub stores: StoreArgs,
    /// Whose key it is: the name under which its calls stand in logs
    #[arg(long, value_name = "NAME")]
    pub name: Operator,
    /// Of which business it is, of those in `tenants.names` [default: the one without a name]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<Tenant>,
    /// What its calls may do
    #[arg(long, value_name = "ROLE", default_value = "service")]
    pub role: RoleName,
    /// For how long it is good [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = duration(TEN_YEARS), allow_hyphen_values = true)]
    pub expires_in: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct ListKeysArgs {
    #[command(flatten)]
    pub stores: StoreArgs,
    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    pub stores: StoreArgs,
    /// The id of the key: the 12 characters after `wbk_`
    // Parsed by the command: an error of clap repeats what was given, which may be a whole key.
    #[arg(value_name = "ID")]
    pub key: String,
    /// End the links to orders that were made with it, too: for a key that others may have had
    #[arg(long)]
    pub with_links: bool,
}

/// The roles that a key may have. Customers and drivers have tokens, which are each about one of them.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RoleName {
    /// A program of the business
    Service,
    /// A person or a program that watches over all orders and drivers
    Dispatcher,
    /// A person who settles what is stuck
    Operator,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Role {
        match name {
            RoleName::Service => Role::Service,
            RoleName::Dispatcher => Role::Dispatcher,
            RoleName::Operator => Role::Operator,
        }
    }
}
