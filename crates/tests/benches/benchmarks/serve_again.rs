//! What this program does when it runs again as a process beside the server: see [`crate::again`].

use std::path::Path;

use waybill_sandbox::payments::Provider;

use crate::again::{ECHO, PAYMENTS};
use crate::echo;

/// Serves, if the arguments say so, until it is ended.
pub async fn serve(args: &[String]) {
    match args {
        [argument, rest @ ..] if argument == ECHO => echo::serve(rest).await,
        [argument, addr, ledger] if argument == PAYMENTS => {
            let _provider = Provider::start(addr.parse().unwrap(), Path::new(ledger)).await.unwrap();
            std::future::pending::<()>().await;
        }
        _ => panic!("{ECHO} and {PAYMENTS} only: {args:?}"),
    }
}

/// Whether the arguments are those of such a process.
pub fn is_asked_for(args: &[String]) -> bool {
    args.first()
        .is_some_and(|first| [ECHO, PAYMENTS].contains(&first.as_str()))
}
