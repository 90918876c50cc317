//! The password that Redis is shown, of a file: to a new connection as it is then, and to one that is open each time that it changes, so that a token
//! that expires does not end it.

use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt as _, once, pending};
use redis::{BasicAuth, ErrorKind, RedisError, RedisResult, StreamingCredentialsProvider};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::password_file::PasswordFile;
use super::redis_link::Link;
use crate::reload::READ_EVERY;

/// How long the answer to a password may take: on a connection that is silent there is none.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Who shows it.
#[derive(Debug, Clone)]
pub(super) struct RedisCredentials {
    pub file: PasswordFile,
    /// The user of the URL.
    pub user: String,
}

impl StreamingCredentialsProvider for RedisCredentials {
    /// The password as it is now, and no other: the driver would show an open connection each that follows, but none after one that was refused.
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send + 'static>> {
        let RedisCredentials { file, user } = self.clone();
        let first = once(async move {
            match file.current().await {
                Some(password) => Ok(BasicAuth::new(user, password.expose_secret().to_owned())),
                None => Err(RedisError::from((
                    ErrorKind::AuthenticationFailed,
                    "redis.password_file has no password",
                ))),
            }
        });
        Box::pin(first.chain(pending()))
    }
}

/// Shows the open connection each new password, again and again until it is taken: the file may be written before Redis knows what it says, and until then
/// the connection goes on with the last. Ends when there is no link any more.
pub(super) async fn show_each_new(credentials: RedisCredentials, link: impl Fn() -> Option<Link> + Send) {
    let RedisCredentials { file, user } = credentials;
    let mut taken = file.current().await;
    let mut refused = None;
    loop {
        sleep(READ_EVERY).await;
        let Some(mut link) = link() else { return };
        let Some(now) = file.current().await else { continue };
        if is_same(taken.as_ref(), &now) {
            continue;
        }
        let answer = match timeout(ANSWER_MAX, link.authenticate(&user, &now)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        };
        match answer {
            Ok(()) => {
                if refused.take().is_some() {
                    info!("redis takes the new password");
                }
                taken = Some(now);
            }
            // Once for each password.
            Err(error) if !is_same(refused.as_ref(), &now) => {
                warn!(error, "redis does not take the new password; it is shown again");
                refused = Some(now);
            }
            Err(_) => {}
        }
    }
}

fn is_same(one: Option<&SecretString>, other: &SecretString) -> bool {
    one.is_some_and(|one| one.expose_secret() == other.expose_secret())
}
