//! A store's password in a file of its own, which is read anew for each new connection: so it is replaced without a restart, by whoever
//! writes the file, and may be a token that expires.
//!
//! While the file cannot be used, the password that was last good is: a file is missing for a moment where it is replaced, and what was
//! good may still be.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, fs, io};

use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use futures_util::stream::{Stream, unfold};
use redis::{BasicAuth, ErrorKind, RedisResult, StreamingCredentialsProvider};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::{Client, Config, Error};
use tracing::{info, warn};

use crate::reload::READ_EVERY;

/// What is longer is no password: tokens of cloud providers have some 2,000 bytes.
const LEN_MAX: usize = 16 * 1024;

/// The file, and what it said. Clones share both.
#[derive(Debug, Clone)]
pub struct PasswordFile {
    setting: &'static str,
    path: Arc<Path>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    last_good: Option<SecretString>,
    /// Why the file cannot be used, as it was last logged.
    fault: Option<String>,
}

impl PasswordFile {
    /// That of this setting, such as `postgres.password_file`. An empty path stands for none.
    pub fn new(setting: &'static str, path: &Path) -> Option<PasswordFile> {
        (!path.as_os_str().is_empty()).then(|| PasswordFile {
            setting,
            path: path.into(),
            state: Arc::default(),
        })
    }

    /// Whether it can be used now, and if not, why, after the name of the setting.
    pub fn check(&self) -> Result<(), String> {
        read(&self.path).map(drop)
    }

    /// What it says now, else what it said when it was last good. `None`: it never was.
    pub(super) async fn current(&self) -> Option<SecretString> {
        let path = PathBuf::from(&*self.path);
        let contents = tokio::task::spawn_blocking(move || read(&path)).await;
        let contents = contents.unwrap_or_else(|error| Err(error.to_string()));
        let mut state = self.lock();
        match contents {
            Ok(password) => {
                if state.fault.take().is_some() {
                    info!(setting = self.setting, "a password is read from its file again");
                }
                state.last_good = Some(password);
            }
            // Once for each reason: each new connection comes here.
            Err(fault) if state.fault.as_ref() != Some(&fault) => {
                warn!(
                    setting = self.setting,
                    error = fault,
                    "the file of a password cannot be used; the last password is kept"
                );
                state.fault = Some(fault);
            }
            Err(_) => {}
        }
        state.last_good.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Its setting and its path.
impl fmt::Display for PasswordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.setting, self.path.display())
    }
}

/// The password in this file, or why there is none; never a part of it.
fn read(path: &Path) -> Result<SecretString, String> {
    let contents = fs::read(path).map_err(|error: io::Error| format!("cannot be read: {}: {error}", path.display()))?;
    let bad = |why: &str| Err(format!("{why}: {}", path.display()));
    if contents.len() > LEN_MAX {
        return bad("has more than a password");
    }
    let Ok(text) = String::from_utf8(contents) else {
        return bad("is no text");
    };
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return bad("is empty");
    }
    if line.contains(['\n', '\r', '\0']) {
        return bad("has more than one line");
    }
    Ok(SecretString::from(line))
}

/// Makes sessions with the password as it is then.
pub(super) struct WithPassword<C> {
    pub file: PasswordFile,
    pub connect: C,
}

impl<C: Connect> Connect for WithPassword<C> {
    fn connect(&self, config: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let mut config = config.clone();
        Box::pin(async move {
            // Without any, Postgres says what it misses.
            if let Some(password) = self.file.current().await {
                config.password(password.expose_secret());
            }
            self.connect.connect(&config).await
        })
    }
}

/// Shows Redis the password: of a new connection as it is then, and of one that is open each time that it changes, so that a token that
/// expires does not end it.
#[derive(Debug, Clone)]
pub(super) struct RedisCredentials {
    pub file: PasswordFile,
    /// The user of the URL.
    pub user: String,
}

impl StreamingCredentialsProvider for RedisCredentials {
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send + 'static>> {
        Box::pin(unfold((self.clone(), None), |(credentials, shown)| async {
            let password = credentials.next(shown).await;
            let Some(password) = password else {
                let why = (ErrorKind::AuthenticationFailed, "redis.password_file has no password");
                return Some((Err(why.into()), (credentials, None)));
            };
            let auth = BasicAuth::new(credentials.user.clone(), password.expose_secret().to_owned());
            Some((Ok(auth), (credentials, Some(password))))
        }))
    }
}

impl RedisCredentials {
    /// The password as it is now; once one was shown, the next that is another.
    async fn next(&self, shown: Option<SecretString>) -> Option<SecretString> {
        let Some(shown) = shown else {
            return self.file.current().await;
        };
        loop {
            sleep(READ_EVERY).await;
            let now = self.file.current().await;
            if now
                .as_ref()
                .is_some_and(|now| now.expose_secret() != shown.expose_secret())
            {
                return now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::NamedTempFile;

    use super::*;

    fn file(contents: &[u8]) -> (NamedTempFile, PasswordFile) {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), contents).unwrap();
        let password = PasswordFile::new("postgres.password_file", file.path()).unwrap();
        (file, password)
    }

    #[test]
    fn a_password_is_one_line_without_its_end() {
        for (contents, password) in [
            (&b"secret"[..], "secret"),
            (b"secret\n", "secret"),
            (b"secret\r\n", "secret"),
            (b" se cret \n", " se cret "),
            ("gehe\u{ed}m\n".as_bytes(), "gehe\u{ed}m"),
        ] {
            let (file, _) = file(contents);
            assert_eq!(read(file.path()).unwrap().expose_secret(), password);
        }
        let long = vec![b'a'; LEN_MAX + 1];
        for (contents, why) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"secret\nsecret\n", "has more than one line"),
            (b"secret\n\n", "has more than one line"),
            (b"sec\0ret", "has more than one line"),
            (b"secret\xff", "is no text"),
            (&long, "has more than a password"),
        ] {
            let (_file, password) = file(contents);
            let fault = password.check().unwrap_err();
            assert!(fault.starts_with(why) && !fault.contains("secret"), "{fault}");
        }
    }

    #[tokio::test]
    async fn the_last_good_password_is_kept_while_the_file_has_none() {
        let (file, password) = file(b"");
        let current = async || password.current().await.map(|now| now.expose_secret().to_owned());
        assert_eq!(current().await, None);
        for (contents, expected) in [("first\n", "first"), ("", "first"), ("second", "second")] {
            fs::write(file.path(), contents).unwrap();
            assert_eq!(current().await.as_deref(), Some(expected), "{contents:?}");
        }
        drop(file);
        assert_eq!(current().await.as_deref(), Some("second"));
        assert!(!format!("{password:?}").contains("second"), "{password:?}");
    }
}
