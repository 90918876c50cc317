//! `postgres.url`: what it says, and what may not stand in it.

use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::config::{Host, SslMode};

use crate::tls::is_this_machine;

/// The parsed URL, or what is wrong with it, in words for people. Whether there is TLS is not the URL's to say: the driver's
/// own default, `prefer`, takes plaintext from whoever offers no TLS, and `require` takes any certificate elsewhere.
pub(crate) fn parse_url(url: &SecretString, tls: bool) -> Result<tokio_postgres::Config, &'static str> {
    match (tls, ssl_mode(url.expose_secret())) {
        (_, None) | (true, Some("require")) | (false, Some("disable")) => {}
        (true, Some(_)) => {
            return Err(
                "must have no sslmode, or \"require\": postgres.tls = \"verify\" is what others call verify-full",
            );
        }
        (false, Some(_)) => return Err(ASKS_FOR_TLS),
    }
    let mut config = parse(url)?;
    let is_name = |host: &Host| matches!(host, Host::Tcp(_));
    if tls && (config.get_hosts().is_empty() || !config.get_hosts().iter().all(is_name)) {
        return Err("must name each host, as its certificate does, where postgres.tls is \"verify\"");
    }
    if !tls && config.get_ssl_mode() == SslMode::Require {
        return Err(ASKS_FOR_TLS);
    }
    config.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
    Ok(config)
}

/// Whether there is a password in it.
pub(crate) fn has_password(url: &SecretString) -> bool {
    parse(url).is_ok_and(|config| config.get_password().is_some())
}

/// Whether it is on another machine, as far as the URL says.
pub(crate) fn is_remote(url: &SecretString) -> bool {
    let Ok(config) = parse(url) else { return false };
    let is_other = |host: &Host| matches!(host, Host::Tcp(name) if !is_this_machine(name));
    config.get_hosts().iter().any(is_other) || config.get_hostaddrs().iter().any(|address| !address.is_loopback())
}

const ASKS_FOR_TLS: &str =
    "asks for TLS (sslmode), and postgres.tls is \"off\": set postgres.tls = \"verify\", or leave sslmode out";

fn parse(url: &SecretString) -> Result<tokio_postgres::Config, &'static str> {
    let parsed = url.expose_secret().parse();
    // The parser's text may quote the URL, and with it the password.
    parsed.map_err(|_| "is not a Postgres URL: postgres://user:password@host:port/database")
}

/// The `sslmode` in a text of either form, `postgres://…?sslmode=require` or `host=… sslmode = 'require'`. The parser's own
/// result does not tell `prefer` from nothing, and it knows no `verify-full`.
fn ssl_mode(url: &str) -> Option<&str> {
    let (_, rest) = url.rsplit_once("sslmode")?;
    let value = rest.trim_start().strip_prefix('=')?;
    let ends = |letter: char| matches!(letter, '&' | '\'') || letter.is_whitespace();
    value.trim_start().trim_start_matches('\'').split(ends).next()
}

/// The addresses and the database of the URL, as they are tried; nothing of its password.
pub(crate) fn address(url: &SecretString) -> String {
    let Ok(config) = parse(url) else {
        return "no address".to_owned();
    };
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(n, host)| {
        // One port for all hosts, or one for each; without any, the default.
        let port = ports.get(n).or(ports.first()).unwrap_or(&5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            #[cfg(unix)]
            Host::Unix(folder) => format!("{}:{port}", folder.display()),
        }
    });
    let hosts: Vec<String> = hosts.collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("{}/{database}", hosts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_hosts_and_the_database_and_no_password() {
        let address = |url: &str| address(&SecretString::from(url));
        assert_eq!(
            address("postgres://me:secret@db.example/waybill"),
            "db.example:5432/waybill"
        );
        assert_eq!(address("postgres://me:secret@a:1,b:2/waybill"), "a:1,b:2/waybill");
        assert_eq!(address("host=/run/pg user=me password=secret"), "/run/pg:5432/me");
        assert_eq!(address("secret"), "no address");
    }
}
