//! `waybill dev`: a private world with the server on it, until Ctrl-C.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use uuid::Uuid;
use waybill_domain::access::Role;
use waybill_sandbox::payments::WebhookEndpoint;
use waybill_sandbox::tokens::TokenSigner;
use waybill_sandbox::{World, WorldSettings};
use waybill_server::app::{App, Drained, migrate};
use waybill_server::config::Config;

use crate::cli::{DevArgs, Flags, load};
use crate::{Failure, logging, print, signals};

/// The key that the sandbox's payment provider takes. Not a secret: it opens nothing else.
pub const SANDBOX_KEY: &str = "sk_test_sandbox";
/// The private half of the key with which the private world signs its tokens, in its folder.
pub const TOKEN_KEY: &str = "token-key.der";
/// For how long the tokens for apps in development are good.
pub const TOKEN_LIVES: Duration = Duration::from_hours(30 * 24);
/// The tokens that are made for other programs: the variable, and whom it is about.
const TOKENS: [(&str, Role, &str); 5] = [
    ("CUSTOMER_TOKEN", Role::Customer, "anna"),
    ("DRIVER_TOKEN", Role::Driver, "driver-7"),
    ("DISPATCHER_TOKEN", Role::Dispatcher, "dora"),
    ("SERVICE_TOKEN", Role::Service, "shop"),
    ("OPERATOR_TOKEN", Role::Operator, "olga"),
];

/// A server on a private world.
pub struct Private {
    world: World,
    app: App,
    config: Config,
    signer: TokenSigner,
}

pub async fn run(file: Option<&Path>, args: DevArgs) -> Result<(), Failure> {
    let stop = signals::stop_token()?;
    logging::to_stderr(&load(file, &Flags::new())?.log, None)?;
    let private = Private::start(file, &args.data_dir, args.listen.flags()).await?;

    let env_file = args.data_dir.join("dev.env");
    private.write_env(&env_file)?;
    print::notes(&format!(
        "\n{}{}\n  settings for other programs are in {}; Ctrl-C ends it\n",
        private.banner(),
        private.console()?,
        env_file.display()
    ));
    stop.cancelled().await;
    // A reader would look for servers that are gone. The file may be gone itself already.
    let _ = std::fs::remove_file(&env_file);
    Box::pin(private.stop()).await
}

impl Private {
    /// Starts the private servers under `data_dir`, migrates, and serves.
    pub async fn start(file: Option<&Path>, data_dir: &Path, mut flags: Flags) -> Result<Private, Failure> {
        // A bad setting is an error before anything is started.
        load(file, &flags)?;
        let world = World::start(WorldSettings {
            data_dir: data_dir.to_owned(),
            durable: true,
            postgres_url: None,
            redis_url: None,
            payments_addr: ([127, 0, 0, 1], 0).into(),
        })
        .await
        .map_err(Failure::unavailable)?;
        let signer = TokenSigner::open_or_create(&data_dir.join(TOKEN_KEY)).map_err(Failure::unavailable)?;
        let keys = data_dir.join("token-keys.json");
        let written = signer.key_set().map_err(Failure::unavailable)?;
        std::fs::write(&keys, written).map_err(unwritable(&keys))?;
        // New with each start: no one else needs to know it.
        let webhook_secret = format!("whsec_{}{}", Uuid::now_v7().simple(), Uuid::now_v7().simple());
        // The private provider is given the address: any free one will do.
        flags.entry("webhooks.addr").or_insert_with(|| "127.0.0.1:0".to_owned());
        flags.extend([
            ("postgres.url", world.database_url.clone()),
            ("redis.url", world.redis_url.clone()),
            // The private stores have no TLS, whatever the file says of those of production.
            ("postgres.tls", "off".to_owned()),
            ("postgres.ca", String::new()),
            ("postgres.client_cert", String::new()),
            ("postgres.client_key", String::new()),
            ("redis.ca", String::new()),
            ("redis.client_cert", String::new()),
            ("redis.client_key", String::new()),
            ("payments.url", world.payments_url.clone()),
            ("payments.secret_key", SANDBOX_KEY.to_owned()),
            ("payments.webhook_secrets", webhook_secret.clone()),
            // The private provider has no rate limit of its own, and no balancer stands before a private server.
            ("payments.rate_per_second", "10000".to_owned()),
            // The private stores share this machine's processors with everything else on it.
            ("redis.command_timeout", "1s".to_owned()),
            ("grpc.reflection", "true".to_owned()),
            // The console is of little use without an operator's calls.
            ("grpc.services", "order,location,fleet,operator".to_owned()),
            ("auth.keys", keys.display().to_string()),
            ("auth.issuer", TokenSigner::ISSUER.to_owned()),
            ("auth.audience", TokenSigner::AUDIENCE.to_owned()),
            ("auth.anonymous", "false".to_owned()),
            // Apps in development need no new token for weeks; on a loopback address.
            ("auth.token_age_max", format!("{}s", TOKEN_LIVES.as_secs())),
            ("drain.unready", "0s".to_owned()),
        ]);
        let config = load(file, &flags)?;
        migrate(&config).await.map_err(Failure::unavailable)?;
        let app = App::start(config.clone()).await.map_err(Failure::unavailable)?;
        if let Some(addr) = app.webhooks_addr() {
            let url = format!("http://{addr}/webhooks/payments");
            let endpoint = WebhookEndpoint::new(&url, &webhook_secret).map_err(Failure::unavailable)?;
            world.payments.set_webhooks(Some(endpoint));
        }
        Ok(Private {
            world,
            app,
            config,
            signer,
        })
    }

    /// A token that the server trusts.
    pub fn token(&self, role: Role, subject: &str, lives: Duration) -> Result<String, Failure> {
        let signed = self.signer.token(role.as_str(), subject, lives);
        signed.map_err(Failure::unavailable)
    }

    /// Where the server is.
    pub fn grpc_addr(&self) -> String {
        self.app.grpc_addr().to_string()
    }

    /// Ends the server, and leaves the stores for an audit.
    pub async fn end_server(self) -> Result<Remains, Failure> {
        match self.app.shut_down().await {
            Drained::Clean => Ok(Remains {
                world: self.world,
                config: self.config,
            }),
            Drained::Cut => Err(Failure::Unavailable("the server did not end in time".to_owned())),
        }
    }

    /// Ends everything.
    pub async fn stop(self) -> Result<(), Failure> {
        Box::pin(self.end_server()).await?.stop().await
    }

    fn banner(&self) -> String {
        let (grpc, http) = (self.app.grpc_addr(), self.app.http_addr());
        format!(
            "waybill is ready\n  gRPC      {grpc}   (reflection is on)\n  HTTP      http://{http}/readyz  /metrics\n  \
             Postgres  {}\n  Redis     {}\n  payments  {}",
            self.world.database_url, self.world.redis_url, self.world.payments_url
        )
    }

    /// Where the console is, with a token that opens all of it.
    pub fn console(&self) -> Result<String, Failure> {
        let Some(addr) = self.app.web_addr() else {
            return Ok(String::new());
        };
        let token = self.token(Role::Operator, "olga", TOKEN_LIVES)?;
        Ok(format!("\n  console   http://{addr}/#token={token}"))
    }

    fn write_env(&self, path: &Path) -> Result<(), Failure> {
        let mut lines = format!(
            "DATABASE_URL={}\nREDIS_URL={}\nPAYMENTS_URL={}\nPAYMENTS_SECRET_KEY={SANDBOX_KEY}\nGRPC_ADDR={}\nHTTP_ADDR={}\n",
            self.world.database_url,
            self.world.redis_url,
            self.world.payments_url,
            self.app.grpc_addr(),
            self.app.http_addr(),
        );
        for (variable, role, subject) in TOKENS {
            let token = self.token(role, subject, TOKEN_LIVES)?;
            lines.extend([variable, "=", &token, "\n"]);
        }
        if let Some(addr) = self.app.web_addr() {
            lines.extend(["WEB_ADDR=", &addr.to_string(), "\n"]);
        }
        // In one piece: whoever waits for the file must not read half of it.
        let draft = path.with_extension("env.part");
        write_private(&draft, &lines)
            .and_then(|()| std::fs::rename(&draft, path))
            .map_err(unwritable(path))
    }
}

/// Writes a file that no one else may read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    // One that is left of a start that was cut off may have other permissions.
    let _ = std::fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn unwritable(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::Unavailable(format!("cannot write {}: {error}", path.display()))
}

/// What is left when the server has ended.
pub struct Remains {
    /// The stores and the payment provider.
    pub world: World,
    /// How the server reached them.
    pub config: Config,
}

impl Remains {
    /// Ends the stores too.
    pub async fn stop(self) -> Result<(), Failure> {
        self.world.stop().await.map_err(Failure::unavailable)
    }
}
