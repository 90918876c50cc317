//! What is read, from where, and what is refused.

use secrecy::ExposeSecret as _;
use waybill_domain::search_weight::{RADIUS_MAX_M, search_weight};

use super::*;

fn load(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(None, environment, &BTreeMap::new())
}

fn refusal(environment: &[(&str, &str)]) -> String {
    load(environment).unwrap_err().to_string()
}

#[test]
fn the_documented_file_is_the_default() {
    let config = load(&[]).unwrap();
    assert_eq!(config.orders.lease, Span(Duration::from_secs(15)));
    assert_eq!(
        config.grpc.services,
        [Service::Order, Service::Location, Service::Fleet]
    );
    assert_eq!(config.postgres.acquire_timeout, Span(Duration::from_millis(250)));
}

#[test]
fn a_file_lies_over_the_defaults_the_environment_over_it_and_flags_over_all() {
    let file = std::env::temp_dir().join(format!("waybill-config-{}.toml", std::process::id()));
    std::fs::write(
        &file,
        "[postgres]\npool_max = 3\n[orders]\nsweep_batch = 3\ncandidates = 3\n",
    )
    .unwrap();
    let environment = [
        ("WAYBILL_ORDERS__SWEEP_BATCH".to_owned(), "4".to_owned()),
        ("WAYBILL_ORDERS__CANDIDATES".to_owned(), "4".to_owned()),
    ];
    let flags = BTreeMap::from([("orders.candidates", "5".to_owned())]);
    let config = Config::load(Some(&file), environment, &flags).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(
        (
            config.postgres.pool_max,
            config.orders.sweep_batch,
            config.orders.candidates
        ),
        (3, 4, 5)
    );
}

#[test]
fn bad_settings_are_refused_by_name() {
    assert!(
        refusal(&[("WAYBILL_ORDERS__LAESE", "20s")]).contains("laese"),
        "unknown key"
    );
    assert!(
        refusal(&[("WAYBILL_ORDRES__LEASE", "20s")]).contains("ordres"),
        "unknown section"
    );
    assert!(
        refusal(&[("WAYBILL_POSTGRES_URL", "x")]).contains("WAYBILL_POSTGRES_URL"),
        "one underscore"
    );
    let not_a_span = refusal(&[("WAYBILL_ORDERS__LEASE", "fast")]);
    assert!(
        not_a_span.contains("fast") && not_a_span.contains("orders.lease"),
        "{not_a_span}"
    );
    assert!(refusal(&[("WAYBILL_GRPC__SERVICES", "order,rides")]).contains("rides"));
    for none_for_sagas in ["0", "2"] {
        assert!(refusal(&[("WAYBILL_POSTGRES__POOL_MAX", none_for_sagas)]).contains("postgres.pool_max"));
    }
    assert!(refusal(&[("WAYBILL_ORDERS__LEASE", "1s")]).contains("orders.lease"));
    assert!(refusal(&[("WAYBILL_ORDERS__KEY_RETENTION", "23h")]).contains("orders.key_retention"));
    assert!(refusal(&[("WAYBILL_ORDERS__KEY_EXPIRY_INTERVAL", "0s")]).contains("orders.key_expiry_interval"));
    assert!(refusal(&[("WAYBILL_ORDERS__HOLD_MAX", "0s")]).contains("orders.hold_max"));
    assert!(refusal(&[("WAYBILL_ORDERS__HOLD_EXPIRY", "never")]).contains("orders.hold_expiry"));
    assert!(refusal(&[("WAYBILL_LOCATIONS__HIGH_WATER", "11099")]).contains("locations.high_water"));
    assert!(refusal(&[("WAYBILL_LOCATIONS__CALLER_SHARE", "0")]).contains("locations.caller_share"));
    // With a tag of its own all would be in one slot of a cluster; and what people see in a terminal has to be what it is.
    for prefix in [
        "{rides}:",
        "rides ",
        "ri\u{202e}des:",
        "*",
        "a:b:c:d:e:f:g:h:i:j:k:l:m:n:o:p:q:",
    ] {
        let refused = refusal(&[("WAYBILL_REDIS__KEY_PREFIX", prefix)]);
        assert!(refused.contains("redis.key_prefix"), "{prefix:?}: {refused}");
    }
    assert!(refusal(&[("WAYBILL_GRPC__ADDR", "nowhere")]).contains("grpc.addr"));
    assert!(refusal(&[("WAYBILL_TELEMETRY__OTLP_ENDPOINT", "127.0.0.1:4317")]).contains("telemetry.otlp_endpoint"));
}

#[test]
fn whoever_listens_to_other_machines_speaks_tls_or_says_that_it_ends_before() {
    let public = ("WAYBILL_GRPC__ADDR", "0.0.0.0:7200");
    let (cert, key) = (("WAYBILL_TLS__CERT", "cert.pem"), ("WAYBILL_TLS__KEY", "key.pem"));
    let client_ca = ("WAYBILL_TLS__CLIENT_CA", "ca.pem");
    let plaintext = ("WAYBILL_TLS__PLAINTEXT", "true");
    let webhooks = [
        ("WAYBILL_WEBHOOKS__ADDR", "[::]:7203"),
        ("WAYBILL_PAYMENTS__WEBHOOK_SECRETS", "whsec_test"),
    ];
    for (settings, refused) in [
        (vec![], None),
        (vec![public], Some("tls.cert")),
        (vec![("WAYBILL_GRPC__ADDR", "[::1]:7200")], None),
        (webhooks.to_vec(), Some("tls.cert")),
        (vec![webhooks[0]], None),
        (vec![("WAYBILL_WEB__ADDR", "0.0.0.0:7202")], Some("tls.cert")),
        (vec![("WAYBILL_WEB__ADDR", "")], None),
        (vec![public, plaintext], None),
        (vec![public, cert, key], None),
        (vec![public, cert, key, client_ca], None),
        (vec![cert], Some("tls.key")),
        (vec![key], Some("tls.cert")),
        (vec![client_ca], Some("tls.cert")),
        (vec![public, plaintext, client_ca], Some("tls.cert")),
        (vec![cert, key, plaintext], Some("tls.plaintext")),
    ] {
        let checked = load(&settings).and_then(|config| config.check_tls());
        let key = checked.err().map(|error| match error {
            ConfigError::Value { key, .. } => key,
            other => panic!("{other}"),
        });
        assert_eq!(key.as_deref(), refused, "{settings:?}");
    }
}

#[test]
fn a_server_knows_its_callers_or_serves_this_machine_alone() {
    let anonymous = ("WAYBILL_AUTH__ANONYMOUS", "true");
    let keys = ("WAYBILL_AUTH__KEYS", "keys.json");
    let issuer = ("WAYBILL_AUTH__ISSUER", "https://id.example.com");
    let (public, plaintext) = (
        ("WAYBILL_GRPC__ADDR", "0.0.0.0:7200"),
        ("WAYBILL_TLS__PLAINTEXT", "true"),
    );
    for (settings, refused) in [
        (vec![], None),
        (vec![public], Some("tls.cert")),
        (vec![anonymous], None),
        (vec![anonymous, public, plaintext], Some("auth.anonymous")),
        (
            vec![anonymous, ("WAYBILL_WEB__ADDR", "0.0.0.0:7202"), plaintext],
            Some("auth.anonymous"),
        ),
        (vec![keys], Some("auth.issuer")),
        (vec![keys, issuer], None),
        (vec![keys, issuer, public, plaintext], None),
        (vec![keys, issuer, public], Some("tls.cert")),
        (
            vec![keys, issuer, ("WAYBILL_AUTH__AUDIENCE", "")],
            Some("auth.audience"),
        ),
        (vec![keys, issuer, anonymous], Some("auth.anonymous")),
    ] {
        // The commands that only read the stores ask for none of it.
        let key = load(&settings).unwrap().check_serving().err().map(|error| match error {
            ConfigError::Value { key, .. } => key,
            other => panic!("{other}"),
        });
        assert_eq!(key.as_deref(), refused, "{settings:?}");
    }
}

/// The key of the setting that is refused, and the whole text.
fn refused(settings: &[(&str, &str)]) -> Option<(Cow<'static, str>, String)> {
    let error = load(settings).err()?;
    let text = error.to_string();
    match error {
        ConfigError::Value { key, .. } => Some((key, text)),
        other => panic!("{settings:?}: {other}"),
    }
}

#[test]
fn what_browsers_would_not_understand_is_refused_by_name() {
    let origins = |list| ("WAYBILL_WEB__ORIGINS", list);
    let tiles = |url| ("WAYBILL_WEB__TILES", url);
    for (setting, expected) in [
        (origins(""), None),
        (origins("https://app.example.com, http://127.0.0.1:5173"), None),
        (origins("https://app.example.com,*"), Some(("web.origins", "\"*\""))),
        (origins("https://app.example.com/"), Some(("web.origins", "/"))),
        (tiles("https://tiles.example.com/{z}/{x}/{y}.png"), None),
        (tiles("https://tiles.example.com/"), Some(("web.tiles", "{z}/{x}/{y}"))),
    ] {
        let found = refused(&[setting]);
        let expected_key = expected.map(|(key, _)| key);
        assert_eq!(found.as_ref().map(|(key, _)| &**key), expected_key, "{setting:?}");
        if let (Some((_, text)), Some((_, named))) = (found, expected) {
            assert!(text.contains(named), "{text}");
        }
    }
    let text = refusal(&[("WAYBILL_WEB__ADDR", "localhost")]);
    assert!(text.contains("web.addr") && text.contains("127.0.0.1:7202"), "{text}");
}

#[test]
fn what_a_url_says_of_tls_does_not_contradict_the_settings() {
    let url = |mode: &'static str| ("WAYBILL_POSTGRES__URL", mode);
    let verify = ("WAYBILL_POSTGRES__TLS", "verify");
    for (settings, expected) in [
        (vec![verify], None),
        (vec![url("postgres://w@db/w?sslmode=disable")], None),
        (vec![url("postgres://w@db/w?sslmode=prefer")], Some("postgres.url")),
        (vec![url("postgres://w@db/w?sslmode=require")], Some("postgres.url")),
        (vec![url("postgres://w@db/w?ssl%6dode=require")], Some("postgres.url")),
        (vec![url("postgres://w@db/w?sslmode=verify-full")], Some("postgres.url")),
        (vec![url("host=db user=w sslmode = 'prefer'")], Some("postgres.url")),
        (vec![verify, url("postgres://w@db/w?sslmode=require")], None),
        (
            vec![verify, url("postgres://w@db/w?sslmode=disable")],
            Some("postgres.url"),
        ),
        (
            vec![verify, url("postgres://w@db/w?sslmode=prefer")],
            Some("postgres.url"),
        ),
        (
            vec![verify, url("postgres://w@db/w?sslmode=verify-full")],
            Some("postgres.url"),
        ),
        // Without a name there is nothing that a certificate could be compared with.
        (vec![verify, url("host=/run/pg user=w")], Some("postgres.url")),
        (vec![verify, url("host=db,/run/pg user=w")], Some("postgres.url")),
        (vec![verify, url("hostaddr=127.0.0.1 user=w")], Some("postgres.url")),
        (vec![verify, url("host=db hostaddr=127.0.0.1 user=w")], None),
        (vec![("WAYBILL_REDIS__URL", "rediss://cache")], None),
        (vec![("WAYBILL_REDIS__URL", "redis://a,redis://b")], Some("redis.url")),
        (
            vec![
                ("WAYBILL_REDIS__URL", "redis://a,redis://b"),
                ("WAYBILL_REDIS__CLUSTER", "true"),
                ("WAYBILL_REDIS__SHARDS", "8"),
            ],
            None,
        ),
        // The plain names of one shard are in slots of their own.
        (
            vec![("WAYBILL_REDIS__URL", "redis://a"), ("WAYBILL_REDIS__CLUSTER", "true")],
            Some("redis.shards"),
        ),
        (
            vec![
                ("WAYBILL_REDIS__URL", "redis://a/2"),
                ("WAYBILL_REDIS__CLUSTER", "true"),
            ],
            Some("redis.url"),
        ),
        (
            vec![("WAYBILL_REDIS__URL", "rediss://cache/#insecure")],
            Some("redis.url"),
        ),
    ] {
        let key = refused(&settings).map(|(key, _)| key);
        assert_eq!(key.as_deref(), expected, "{settings:?}");
    }
}

#[test]
fn the_files_of_a_stores_tls_are_used_or_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let ca = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    let file = |name: &str, contents: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let good = file("ca.pem", &ca.cert.pem());
    let key = file("key.pem", &ca.signing_key.serialize_pem());
    let other_key = file("other.pem", &other.signing_key.serialize_pem());
    let empty = file("empty.pem", "");
    let cut = file("cut.pem", &ca.cert.pem()[..200]);
    for store in ["postgres", "redis"] {
        let on = match store {
            "postgres" => ("POSTGRES__TLS", "verify"),
            _ => ("REDIS__URL", "rediss://cache"),
        };
        let load = |settings: &[(&str, &str)]| {
            let upper = store.to_uppercase();
            let named = settings.iter().map(|(key, value)| {
                let key = key
                    .replace("CA", &format!("{upper}__CA"))
                    .replace("CLIENT", &format!("{upper}__CLIENT"));
                (format!("WAYBILL_{key}"), (*value).to_owned())
            });
            let named: Vec<(String, String)> = named.collect();
            let named: Vec<_> = named
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            refused(&named)
        };
        let (cert, of_cert) = (("CLIENT_CERT", good.as_str()), ("CLIENT_KEY", key.as_str()));
        assert_eq!(load(&[on, ("CA", &good)]), None);
        assert_eq!(load(&[on, ("CA", &good), cert, of_cert]), None);
        for (settings, named) in [
            (vec![on, ("CA", "/none.pem")], "ca"),
            (vec![on, ("CA", &empty)], "ca"),
            (vec![on, ("CA", &cut)], "ca"),
            (vec![on, ("CA", &key)], "ca"),
            (vec![on, cert], "client_key"),
            (vec![on, of_cert], "client_cert"),
            (vec![on, ("CLIENT_CERT", &empty), of_cert], "client_cert"),
            (vec![on, cert, ("CLIENT_KEY", &good)], "client_key"),
            (vec![on, cert, ("CLIENT_KEY", &other_key)], "client_key"),
            // They are of no use without TLS, and whoever sets them wants it.
            (vec![("CA", &good)], if store == "redis" { "url" } else { "tls" }),
            (vec![cert, of_cert], if store == "redis" { "url" } else { "tls" }),
        ] {
            let (key, text) = load(&settings).unwrap_or_else(|| panic!("{store}: {settings:?}"));
            assert_eq!(key, format!("{store}.{named}"), "{settings:?}: {text}");
            assert!(!text.contains("PRIVATE KEY"), "{text}");
        }
    }
}

#[test]
fn services_are_a_list_also_where_it_is_one() {
    let services = |text| load(&[("WAYBILL_GRPC__SERVICES", text)]).unwrap().grpc.services;
    assert_eq!(services("order"), [Service::Order]);
    assert_eq!(services("order, location"), [Service::Order, Service::Location]);
    assert!(refusal(&[("WAYBILL_GRPC__SERVICES", "")]).contains("grpc.services"));
}

#[test]
fn a_value_that_is_no_list_may_hold_commas() {
    let config = load(&[("WAYBILL_LOG__FILTER", "warn,waybill_server=debug")]).unwrap();
    assert_eq!(config.log.filter, "warn,waybill_server=debug");
}

#[test]
fn a_bucket_is_set_number_by_number() {
    let config = load(&[("WAYBILL_LIMITS__ORDERS_PER_USER__BURST", "7")]).unwrap();
    let bucket = config.limits.orders_per_user;
    assert_eq!((bucket.per_second, bucket.burst), (5, 7));
}

/// Else it could only be made by a caller who waited for it.
#[test]
fn one_caller_may_make_the_largest_search_at_once() {
    let limits = load(&[]).unwrap().limits;
    assert!(search_weight(RADIUS_MAX_M).get() <= limits.reads_per_caller.burst);
}

#[test]
fn secrets_are_not_shown() {
    let config = load(&[
        ("WAYBILL_PAYMENTS__SECRET_KEY", "sk_test_visible"),
        ("WAYBILL_PAYMENTS__WEBHOOK_SECRETS", "whsec_visible"),
    ])
    .unwrap();
    assert!(!format!("{config:?}").contains("visible"));
}

#[test]
fn webhook_secrets_are_none_one_or_two() {
    let secrets = |text| -> Result<Vec<String>, String> {
        let config = load(&[("WAYBILL_PAYMENTS__WEBHOOK_SECRETS", text)]).map_err(|error| error.to_string())?;
        let secrets = config.payments.webhook_secrets.iter();
        Ok(secrets.map(|secret| secret.expose_secret().to_owned()).collect())
    };
    assert!(load(&[]).unwrap().payments.webhook_secrets.is_empty());
    assert_eq!(secrets("").unwrap(), [""; 0]);
    assert_eq!(secrets("whsec_a").unwrap(), ["whsec_a"]);
    assert_eq!(secrets("whsec_a, whsec_b").unwrap(), ["whsec_a", "whsec_b"]);
    for bad in ["whsec_a,", ",", "whsec_a,whsec_b,whsec_c"] {
        assert!(secrets(bad).unwrap_err().contains("payments.webhook_secrets"), "{bad}");
    }
}

#[test]
fn the_sandbox_has_variables_of_its_own() {
    assert!(load(&[("WAYBILL_SANDBOX_REDIS_BIN", "/usr/bin/redis-server")]).is_ok());
}

#[test]
fn an_account_is_one_of_a_tenant_and_has_a_key() {
    let acmes = |key: &str| format!("WAYBILL_PAYMENTS__ACCOUNTS__ACME__{key}");
    let (names, secret) = (("WAYBILL_TENANTS__NAMES", "acme"), acmes("SECRET_KEY"));
    let webhooks = acmes("WEBHOOK_SECRETS");
    let config = load(&[names, (&secret, "sk_1"), (&webhooks, "whsec_1, whsec_2")]).unwrap();
    assert_eq!(config.payments.accounts["acme"].webhook_secrets.len(), 2);
    assert!(config.payments.receives_webhooks());
    // A shell takes no `-` in a name.
    let names_of_two = ("WAYBILL_TENANTS__NAMES", "acme-2");
    let config = load(&[names_of_two, ("WAYBILL_PAYMENTS__ACCOUNTS__ACME_2__SECRET_KEY", "sk_1")]).unwrap();
    assert!(config.payments.accounts.contains_key("acme-2"));

    let refusals = [
        (
            vec![(secret.as_str(), "sk_1")],
            "payments.accounts.acme must be named after",
        ),
        (
            vec![names, (&secret, "sk_1"), ("WAYBILL_PAYMENTS__SECRET_KEY", "sk_1")],
            "payments.accounts.acme.secret_key must be another",
        ),
        (vec![names, (&secret, "")], "payments.accounts.acme.secret_key must"),
        (vec![names, (&webhooks, "whsec_1")], "secret_key"),
        (
            vec![names, (&secret, "sk_1"), (&webhooks, "a,b,c")],
            "payments.accounts.acme.webhook_secrets must",
        ),
        (
            vec![names, (&secret, "sk_1"), (&acmes("RATE_PER_SECOND"), "0")],
            "payments.accounts.acme.rate_per_second must",
        ),
        (vec![names, (&secret, "sk_1"), (&acmes("RATE"), "1")], "rate"),
        (
            vec![names, (&secret, "sk_1"), (&acmes("STATEMENT_DESCRIPTOR_SUFFIX"), "1")],
            "payments.accounts.acme.statement_descriptor_suffix must",
        ),
    ]
    .map(|(settings, why)| (refusal(&settings), why));
    for (refusal, why) in refusals {
        assert!(refusal.contains(why), "{refusal}");
    }
}

#[test]
fn a_store_on_another_machine_in_plaintext_is_named() {
    let postgres = |url: &'static str| ("WAYBILL_POSTGRES__URL", url);
    let redis = |url: &'static str| ("WAYBILL_REDIS__URL", url);
    for (settings, named) in [
        (vec![], vec![]),
        (
            vec![postgres("postgres://w@localhost/w"), redis("redis://[::1]:6379")],
            vec![],
        ),
        (vec![postgres("postgres://w@/w?host=/run/postgresql")], vec![]),
        (vec![postgres("postgres://w@db.internal/w")], vec!["postgres.tls"]),
        (
            vec![postgres("postgres://w@127.0.0.1,10.0.0.7/w")],
            vec!["postgres.tls"],
        ),
        (
            vec![
                postgres("postgres://w@db.internal/w"),
                ("WAYBILL_POSTGRES__TLS", "verify"),
            ],
            vec![],
        ),
        (vec![redis("redis://cache.internal:6379")], vec!["redis.url"]),
        (vec![redis("rediss://cache.internal:6379")], vec![]),
    ] {
        assert_eq!(load(&settings).unwrap().plaintext_stores(), named, "{settings:?}");
    }
}

#[test]
fn who_is_believed_about_addresses_is_named_by_networks() {
    let trusted = |list| ("WAYBILL_PROXIES__TRUSTED", list);
    let protocol = ("WAYBILL_GRPC__PROXY_PROTOCOL", "true");
    for (settings, refused_key) in [
        (vec![], None),
        (vec![trusted("")], None),
        (vec![trusted("10.0.0.0/8, fd00::/8, 192.0.2.7"), protocol], None),
        (vec![trusted("10.0.0.0/8,balancer")], Some("proxies.trusted")),
        (vec![trusted("10.0.0.0/40")], Some("proxies.trusted")),
        (vec![trusted("::ffff:10.0.0.0/104")], Some("proxies.trusted")),
        (vec![protocol], Some("grpc.proxy_protocol")),
        (
            vec![("WAYBILL_WEB__PROXY_PROTOCOL", "true")],
            Some("web.proxy_protocol"),
        ),
        (
            vec![("WAYBILL_WEB__CONNECTIONS_PER_ADDRESS_MAX", "0")],
            Some("web.connections_per_address_max"),
        ),
        (vec![("WAYBILL_PROXIES__HEADER", "forwarded")], None),
        (vec![("WAYBILL_PROXIES__HEADER", "none")], None),
    ] {
        let found = refused(&settings);
        assert_eq!(found.as_ref().map(|(key, _)| &**key), refused_key, "{settings:?}");
    }
    let text = refusal(&[("WAYBILL_PROXIES__HEADER", "x-real-ip")]);
    assert!(text.contains("proxies.header"), "{text}");
}
