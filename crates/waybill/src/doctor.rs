//! `waybill doctor`: what a server needs, and what to change.

use std::path::Path;

use waybill_server::app::Mark;

use crate::cli::{StoreArgs, load};
use crate::table::table;
use crate::{Failure, print};

pub async fn run(file: Option<&Path>, args: StoreArgs) -> Result<(), Failure> {
    let config = load(file, &args.flags())?;
    let found = waybill_server::app::doctor(&config).await;
    let mut table = table(&["part", "", "finding"]);
    for diagnosis in &found {
        table.add_row([
            diagnosis.part,
            match diagnosis.mark {
                Mark::Ok => "ok",
                Mark::Warning => "WARNING",
                Mark::Change => "CHANGE",
            },
            &diagnosis.finding,
        ]);
    }
    print::lines(table);
    if found.iter().any(|diagnosis| diagnosis.mark == Mark::Change) {
        Err(Failure::Found)
    } else {
        Ok(())
    }
}
