//! `waybill token`: tokens for apps in development. Only a private server of `waybill dev` trusts the key that signs them; in
//! production your own backend signs.

use waybill_domain::access::Role;
use waybill_domain::id::{DriverId, IdError, UserId};
use waybill_domain::operator::Operator;
use waybill_sandbox::tokens::TokenSigner;

use crate::cli::TokenArgs;
use crate::dev::TOKEN_KEY;
use crate::{Failure, print};

pub fn run(args: &TokenArgs) -> Result<(), Failure> {
    let role = Role::from(args.role);
    check_subject(role, &args.subject)?;
    if args.order.is_some() && role != Role::Customer {
        return Err(Failure::Usage("--order is for customers only".to_owned()));
    }
    let key = args.data_dir.join(TOKEN_KEY);
    if !key.exists() {
        return Err(Failure::Unavailable(format!(
            "there is no key in {}: `waybill dev` makes one when it starts, and takes the tokens that it signs",
            args.data_dir.display()
        )));
    }
    let signer = TokenSigner::open(&key).map_err(Failure::unavailable)?;
    let mut claims = TokenSigner::claims(role.as_str(), &args.subject, args.lives);
    if let (Some(order), Some(ours)) = (args.order, claims.get_mut("waybill")) {
        ours["order_id"] = order.to_string().into();
    }
    print::line(&signer.sign(&claims).map_err(Failure::unavailable)?);
    Ok(())
}

/// A token that no server takes is better refused here.
fn check_subject(role: Role, subject: &str) -> Result<(), Failure> {
    let id = |checked: Result<(), IdError>| checked.map_err(|error| error.to_string());
    let checked = match role {
        Role::Customer => id(subject.parse::<UserId>().map(drop)),
        Role::Driver => id(subject.parse::<DriverId>().map(drop)),
        Role::Dispatcher | Role::Service | Role::Operator => {
            subject.parse::<Operator>().map(drop).map_err(|error| error.to_string())
        }
    };
    checked.map_err(|why| Failure::Usage(format!("--subject {why}")))
}
