//! A store's password in a file of its own, which is read anew for each new connection: so it is replaced without a restart, by whoever
//! writes the file, and may be a token that expires.
//!
//! While the file cannot be used, the password that was last good is: a file is missing for a moment where it is replaced, and what was
//! good may still be. A file that hangs, as one on a mount whose server is away, is read once at a time, on a thread that no one waits for at the end.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use std::{fmt, io, thread};

use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, Error};
use tracing::{info, warn};

/// What is longer is no password: tokens of cloud providers have some 2,000 bytes.
const LEN_MAX: usize = 16 * 1024;
/// How long a read may take before the last password is used: a part of the time for a connection.
const READ_MAX: Duration = Duration::from_millis(100);
/// The same at the start, where there is no last one.
const CHECK_MAX: Duration = Duration::from_secs(5);

/// The file, and what it said. Clones share both.
#[derive(Debug, Clone)]
pub struct PasswordFile {
    setting: &'static str,
    path: Arc<Path>,
    read_max: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    last_good: Option<SecretString>,
    /// Why the file cannot be used, as it was last logged.
    fault: Option<String>,
    /// The last read, which is closed once it has ended.
    reading: Option<watch::Receiver<()>>,
}

impl PasswordFile {
    /// That of this setting, such as `postgres.password_file`. An empty path stands for none.
    pub fn new(setting: &'static str, path: &Path) -> Option<PasswordFile> {
        (!path.as_os_str().is_empty()).then(|| PasswordFile {
            setting,
            path: path.into(),
            read_max: READ_MAX,
            state: Arc::default(),
        })
    }

    /// Whether it can be used now, and if not, why, after the name of the setting.
    pub fn check(&self) -> Result<(), String> {
        let (done, answer) = mpsc::channel();
        let path = Arc::clone(&self.path);
        let begun = on_a_thread(move || {
            // Whoever asked may have given up.
            let _ = done.send(read(&path).map(drop));
        });
        begun.map_err(|error| unreadable(&self.path, &error))?;
        let answer = answer.recv_timeout(CHECK_MAX);
        answer.unwrap_or_else(|_| Err(silent(&self.path, CHECK_MAX)))
    }

    /// What it says now, else what it said when it was last good. `None`: it never was.
    pub(super) async fn current(&self) -> Option<SecretString> {
        let mut reading = self.reading();
        // It changes by its end alone.
        if timeout(self.read_max, reading.changed()).await.is_err() {
            self.note(Err(silent(&self.path, self.read_max)));
        }
        self.lock().last_good.clone()
    }

    /// The read that is under way, or else another one.
    fn reading(&self) -> watch::Receiver<()> {
        let mut state = self.lock();
        if let Some(reading) = &state.reading
            && reading.has_changed().is_ok()
        {
            return reading.clone();
        }
        let (done, reading) = watch::channel(());
        state.reading = Some(reading.clone());
        drop(state);
        let file = self.clone();
        let begun = on_a_thread(move || {
            file.note(read(&file.path));
            drop(done);
        });
        if let Err(error) = begun {
            self.note(Err(unreadable(&self.path, &error)));
        }
        reading
    }

    /// What became of a read.
    fn note(&self, contents: Result<SecretString, String>) {
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

/// Runs what may hang for ever. The runtime's own threads are few, and its end waits for them.
fn on_a_thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name("password-file".to_owned());
    thread.spawn(work).map(drop)
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("cannot be read: {}: {error}", path.display())
}

fn silent(path: &Path, after: Duration) -> String {
    format!(
        "cannot be read: {}: no end within {} ms",
        path.display(),
        after.as_millis()
    )
}

/// The password in this file, or why there is none; never a part of it.
fn read(path: &Path) -> Result<SecretString, String> {
    let mut contents = Vec::new();
    let more_than_max = u64::try_from(LEN_MAX).map_or(u64::MAX, |max| max + 1);
    File::open(path)
        .and_then(|file| file.take(more_than_max).read_to_end(&mut contents))
        .map_err(|error| unreadable(path, &error))?;
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use futures_util::future::join_all;
    use tempfile::NamedTempFile;

    use super::*;

    fn file(contents: &[u8]) -> (NamedTempFile, PasswordFile) {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), contents).unwrap();
        let mut password = PasswordFile::new("postgres.password_file", file.path()).unwrap();
        // Far beyond what a read takes on a busy machine.
        password.read_max = Duration::from_secs(30);
        (file, password)
    }

    async fn current(password: &PasswordFile) -> Option<String> {
        password.current().await.map(|now| now.expose_secret().to_owned())
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
        assert_eq!(current(&password).await, None);
        for (contents, expected) in [("first\n", "first"), ("", "first"), ("second", "second")] {
            fs::write(file.path(), contents).unwrap();
            assert_eq!(current(&password).await.as_deref(), Some(expected), "{contents:?}");
        }
        drop(file);
        assert_eq!(current(&password).await.as_deref(), Some("second"));
        assert!(!format!("{password:?}").contains("second"), "{password:?}");
    }

    /// A pipe to which no one writes hangs as a file on a mount does whose server is away.
    #[tokio::test]
    async fn a_file_that_hangs_is_read_once_for_all_and_the_last_password_is_kept() {
        let (file, mut password) = file(b"first");
        assert_eq!(current(&password).await.as_deref(), Some("first"));
        fs::remove_file(file.path()).unwrap();
        let made = Command::new("mkfifo").arg(file.path()).status().unwrap();
        assert!(made.success(), "{made}");

        password.read_max = Duration::from_millis(20);
        let hung = join_all((0..32).map(|_| current(&password))).await;
        assert!(hung.iter().all(|now| now.as_deref() == Some("first")), "{hung:?}");
        assert!(
            password
                .lock()
                .fault
                .as_deref()
                .is_some_and(|fault| fault.contains("no end within"))
        );
        let mut reading = password.reading();
        assert!(reading.same_channel(&password.reading()), "there is one read for all");

        // It goes on once there is something to read.
        fs::write(file.path(), "second").unwrap();
        assert!(reading.changed().await.is_err(), "it has ended");
        assert_eq!(current(&password).await.as_deref(), Some("second"));
    }

    #[test]
    fn no_more_is_read_of_a_file_without_end_than_a_password_may_have() {
        let endless = PasswordFile::new("postgres.password_file", Path::new("/dev/zero")).unwrap();
        let fault = endless.check().unwrap_err();
        assert!(fault.starts_with("has more than a password"), "{fault}");
    }
}
