//! What a server is set to whose speed is measured.

/// What differs from `config/waybill.toml`. Limits of callers are lifted, for it is not they that are measured; and
/// Redis may take as long as a machine that all share makes it take. No trails: what draws them works in the pauses, and here the
/// pauses are the turns of what it would be compared with.
pub const SETTINGS: &[(&str, &str)] = &[
    ("limits.orders_per_user.per_second", "1000000"),
    ("limits.orders_per_user.burst", "1000000"),
    ("limits.orders_in_all.per_second", "1000000"),
    ("limits.orders_in_all.burst", "1000000"),
    ("limits.completions_per_caller.per_second", "1000000"),
    ("limits.completions_per_caller.burst", "1000000"),
    ("limits.completions_in_all.per_second", "1000000"),
    ("limits.completions_in_all.burst", "1000000"),
    ("limits.reads_per_caller.per_second", "1000000"),
    ("limits.reads_per_caller.burst", "1000000"),
    ("limits.reads_in_all.per_second", "1000000"),
    ("limits.reads_in_all.burst", "1000000"),
    ("limits.fixes_per_driver.per_second", "1000000"),
    ("limits.fixes_per_driver.burst", "1000000"),
    ("limits.fixes_in_all.per_second", "10000000"),
    ("limits.fixes_in_all.burst", "10000000"),
    ("auth.anonymous", "true"),
    ("payments.in_flight_max", "1024"),
    ("payments.rate_per_second", "1000000"),
    ("redis.command_timeout", "2s"),
    ("drain.unready", "0s"),
    ("log.filter", "warn"),
    ("web.trails_days", "0"),
];
