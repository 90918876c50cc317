//! The arguments of `waybill history`.

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use waybill_domain::id::DriverId;
use waybill_domain::tenant::Tenant;

use super::StoreArgs;

#[derive(Debug, Args)]
pub struct HistoryArgs {
    #[command(subcommand)]
    pub command: HistoryCommand,
}

#[derive(Debug, Subcommand)]
pub enum HistoryCommand {
    /// Write where a driver was to standard output, the oldest fix first
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub stores: StoreArgs,
    /// The driver's id
    #[arg(value_name = "DRIVER")]
    pub driver: DriverId,
    /// Of which business the driver is, of those in `tenants.names` [default: the one without a name]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<Tenant>,
    /// From this time on, such as `2026-03-01T00:00:00Z` [default: from the oldest fix]
    #[arg(long, value_name = "TIME")]
    pub from: Option<Timestamp>,
    /// Until before this time [default: to the newest fix]
    #[arg(long = "to", value_name = "TIME")]
    pub until: Option<Timestamp>,
    /// As what it is written
    #[arg(long, value_name = "FORMAT", default_value = "csv")]
    pub format: Format,
}

/// What other programs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines with a header: the driver, the time, the latitude, the longitude
    Csv,
    /// `GeoJSON`: a collection of points (RFC 7946)
    Geojson,
    /// A track (GPX 1.1)
    Gpx,
}
