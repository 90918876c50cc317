//! What the apps of drivers see and say: what a driver serves (W6), and whether it takes orders.

mod assignments;
mod duty;

use std::time::Duration;

use testkit::Rig;
use tonic::transport::Channel;
use waybill_proto::driver::v1::driver_service_client::DriverServiceClient;
use waybill_proto::driver::v1::{SetDutyRequest, Tags};

/// What has to come well within this time, and in a program that is broken never would.
const IN_TIME: Duration = Duration::from_mins(1);

fn drivers(rig: &Rig) -> DriverServiceClient<Channel> {
    DriverServiceClient::new(rig.channel())
}

/// The driver takes no orders.
fn off(driver: &str) -> SetDutyRequest {
    SetDutyRequest {
        driver_id: driver.to_owned(),
        on_duty: Some(false),
        tags: None,
    }
}

/// The driver takes orders.
fn on(driver: &str) -> SetDutyRequest {
    SetDutyRequest {
        on_duty: Some(true),
        ..off(driver)
    }
}

/// The driver can do this.
fn with(driver: &str, tags: &[&str]) -> SetDutyRequest {
    SetDutyRequest {
        driver_id: driver.to_owned(),
        on_duty: None,
        tags: Some(Tags {
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        }),
    }
}
