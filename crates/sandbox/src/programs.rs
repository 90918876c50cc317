//! Where the server programs are: what the environment names, else `PATH` and the folders of `scripts/server_places.txt`,
//! which `scripts/setup.sh` reads too.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::Error;

/// Names the `postgres` program; `initdb` must be beside it.
const POSTGRES_VARIABLE: &str = "WAYBILL_SANDBOX_POSTGRES_BIN";
/// Names the `redis-server` program.
const REDIS_VARIABLE: &str = "WAYBILL_SANDBOX_REDIS_BIN";
const PLACES: &str = include_str!("../../../scripts/server_places.txt");

/// The two programs of Postgres, absolute and links resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresPrograms {
    /// The server.
    pub postgres: PathBuf,
    /// The program that creates a cluster, of the same version.
    pub(crate) initdb: PathBuf,
}

/// Finds Postgres on this machine.
pub fn postgres() -> Result<PostgresPrograms, Error> {
    Machine::this().postgres()
}

/// Finds `redis-server`, or `valkey-server`, on this machine.
pub fn redis() -> Result<PathBuf, Error> {
    Machine::this().redis()
}

/// What the search sees of a machine.
struct Machine {
    /// Where absolute places begin: `/`, or a folder in which a test has built a machine.
    root: PathBuf,
    working_dir: PathBuf,
    variables: HashMap<OsString, OsString>,
}

impl Machine {
    fn this() -> Machine {
        Machine {
            root: PathBuf::from("/"),
            working_dir: env::current_dir().unwrap_or_default(),
            variables: env::vars_os().collect(),
        }
    }

    fn postgres(&self) -> Result<PostgresPrograms, Error> {
        if let Some(named) = self.named(POSTGRES_VARIABLE)? {
            let incomplete = unusable(POSTGRES_VARIABLE, &named, "has no initdb beside it");
            return with_initdb(&named).ok_or(incomplete);
        }
        let folders = [self.installed(), self.fetched()].concat();
        let found = self.all("postgres", &folders).find_map(|program| with_initdb(&program));
        found.ok_or(Error::ProgramMissing {
            program: "PostgreSQL",
            variable: POSTGRES_VARIABLE,
        })
    }

    // Links are not resolved: Debian's `redis-server` is one to `redis-check-rdb`, which acts by the name it is run under.
    fn redis(&self) -> Result<PathBuf, Error> {
        if let Some(named) = self.named(REDIS_VARIABLE)? {
            return Ok(named);
        }
        let found = [self.installed(), self.fetched()].iter().find_map(|folders| {
            let names = ["redis-server", "valkey-server"];
            names.iter().find_map(|name| self.all(name, folders).next())
        });
        found.ok_or(Error::ProgramMissing {
            program: "Redis",
            variable: REDIS_VARIABLE,
        })
    }

    /// The program that a variable names. If it cannot be used, no other is used instead: that would be a surprise.
    fn named(&self, variable: &'static str) -> Result<Option<PathBuf>, Error> {
        let Some(value) = self.variable(variable) else {
            return Ok(None);
        };
        let path = self.working_dir.join(value);
        let program = which::which(&path).map_err(|_| unusable(variable, &path, "is not an executable file"))?;
        Ok(Some(program))
    }

    /// Every executable file of this name in these folders, in their order.
    fn all(&self, name: &str, folders: &[PathBuf]) -> impl Iterator<Item = PathBuf> {
        let folders = env::join_paths(folders).unwrap_or_default();
        let programs = which::which_in_all(name, Some(folders), self.working_dir.clone());
        programs.into_iter().flatten()
    }

    /// `PATH`, and the folders of packages.
    fn installed(&self) -> Vec<PathBuf> {
        let path = self.variable("PATH").into_iter().flat_map(env::split_paths);
        let packages = places().filter_map(|place| place.strip_prefix('/'));
        path.chain(packages.flat_map(|place| expand(&self.root, place)))
            .collect()
    }

    /// The folders of what `make setup` has fetched.
    fn fetched(&self) -> Vec<PathBuf> {
        let fetched = places().filter(|place| !place.starts_with('/'));
        fetched.flat_map(|place| expand(&self.working_dir, place)).collect()
    }

    /// An empty variable counts as not set.
    fn variable(&self, name: &str) -> Option<&OsString> {
        let value = self.variables.get(&OsString::from(name));
        value.filter(|value| !value.is_empty())
    }
}

fn places() -> impl Iterator<Item = &'static str> {
    PLACES.lines().filter(|line| !line.starts_with('#'))
}

/// The folders that a place stands for, the newest version first.
fn expand(base: &Path, place: &str) -> Vec<PathBuf> {
    let Some((before, after)) = place.split_once('*') else {
        return vec![base.join(place)];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let entries = fs::read_dir(base.join(parent)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut versions: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    versions.sort_by_cached_key(|name| std::cmp::Reverse(version(name)));
    let folder = |name| base.join(parent).join(name).join(after.trim_start_matches('/'));
    versions.into_iter().map(folder).collect()
}

/// The numbers in a name such as `9.6` or `postgresql@17`. No number sorts before any.
fn version(name: &str) -> Vec<u32> {
    let numbers = name.split(|letter: char| !letter.is_ascii_digit());
    numbers.filter_map(|digits| digits.parse().ok()).collect()
}

/// Debian's `initdb` is beside the real `postgres`, not beside a link to it.
fn with_initdb(postgres: &Path) -> Option<PostgresPrograms> {
    let postgres = postgres.canonicalize().ok()?;
    let initdb = which::which(postgres.with_file_name("initdb")).ok()?;
    Some(PostgresPrograms { postgres, initdb })
}

fn unusable(variable: &'static str, path: &Path, problem: &'static str) -> Error {
    Error::ProgramUnusable {
        variable,
        path: path.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use tempfile::TempDir;

    use super::*;

    /// A machine in a folder; its working directory is `/work`, its `PATH` is `/a:/b`.
    struct Sample {
        folder: TempDir,
        machine: Machine,
    }

    impl Sample {
        fn new(programs: &[&str]) -> Sample {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().canonicalize().unwrap();
            let path = env::join_paths(["a", "b"].map(|name| root.join(name))).unwrap();
            let machine = Machine {
                working_dir: root.join("work"),
                variables: [("PATH".into(), path)].into(),
                root,
            };
            for program in programs {
                let file = machine.root.join(program);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, "").unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
            }
            Sample { folder, machine }
        }

        /// A Postgres in each of these folders.
        fn with_postgres(folders: &[&str]) -> Sample {
            let programs = folders
                .iter()
                .flat_map(|folder| ["postgres", "initdb"].map(|name| format!("{folder}/{name}")));
            let programs: Vec<String> = programs.collect();
            Sample::new(&programs.iter().map(String::as_str).collect::<Vec<_>>())
        }

        fn name(&mut self, variable: &str, program: &str) {
            let path = self.machine.root.join(program);
            self.machine.variables.insert(variable.into(), path.into());
        }

        fn link(&self, link: &str, target: &str) {
            let link = self.machine.root.join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(self.machine.root.join(target), link).unwrap();
        }

        fn remove(&self, program: &str) {
            fs::remove_file(self.machine.root.join(program)).unwrap();
        }

        fn relative(&self, path: &Path) -> String {
            let path = path.strip_prefix(&self.machine.root).unwrap();
            path.display().to_string()
        }

        fn postgres(&self) -> String {
            self.relative(&self.machine.postgres().unwrap().postgres)
        }

        fn redis(&self) -> String {
            self.relative(&self.machine.redis().unwrap())
        }
    }

    #[test]
    fn initdb_is_found_beside_the_program_that_a_link_points_to() {
        let sample = Sample::with_postgres(&["opt/postgres"]);
        sample.link("b/postgres", "opt/postgres/postgres");
        assert_eq!(sample.postgres(), "opt/postgres/postgres");
        let programs = sample.machine.postgres().unwrap();
        assert_eq!(sample.relative(&programs.initdb), "opt/postgres/initdb");
    }

    #[test]
    fn the_newest_of_several_versions_is_used() {
        let debian = Sample::with_postgres(&["usr/lib/postgresql/9.6/bin", "usr/lib/postgresql/17/bin"]);
        assert_eq!(debian.postgres(), "usr/lib/postgresql/17/bin/postgres");
        let homebrew =
            ["openssl@3", "postgresql@16", "postgresql@18"].map(|name| format!("opt/homebrew/opt/{name}/bin"));
        let homebrew = Sample::with_postgres(&homebrew.each_ref().map(String::as_str));
        assert_eq!(homebrew.postgres(), "opt/homebrew/opt/postgresql@18/bin/postgres");
    }

    #[test]
    fn the_environment_comes_before_installed_programs_and_these_before_fetched_ones() {
        let mut sample = Sample::with_postgres(&["mine", "a", "work/.waybill/bin/postgres-18.6/bin"]);
        sample.name(POSTGRES_VARIABLE, "mine/postgres");
        assert_eq!(sample.postgres(), "mine/postgres");
        sample
            .machine
            .variables
            .insert(POSTGRES_VARIABLE.into(), OsString::new());
        assert_eq!(sample.postgres(), "a/postgres", "an empty variable is not set");
        sample.machine.variables.remove(&OsString::from("PATH"));
        assert_eq!(sample.postgres(), "work/.waybill/bin/postgres-18.6/bin/postgres");
    }

    #[test]
    fn a_server_without_initdb_is_passed_over() {
        let sample = Sample::with_postgres(&["a", "usr/lib/postgresql/15/bin"]);
        sample.remove("a/initdb");
        assert_eq!(sample.postgres(), "usr/lib/postgresql/15/bin/postgres");
    }

    #[test]
    fn valkey_is_used_where_there_is_no_redis() {
        let fetched = ["work/.waybill/bin/redis-server", "work/.waybill/bin/valkey-server"];
        let sample = Sample::new(&["a/valkey-server", "b/redis-server", fetched[0], fetched[1]]);
        assert_eq!(sample.redis(), "b/redis-server");
        sample.remove("b/redis-server");
        assert_eq!(sample.redis(), "a/valkey-server", "installed programs come first");
        sample.remove("a/valkey-server");
        sample.remove(fetched[0]);
        assert_eq!(sample.redis(), fetched[1]);
    }

    #[test]
    fn a_link_to_redis_keeps_its_name() {
        let sample = Sample::new(&["usr/bin/redis-check-rdb"]);
        sample.link("a/redis-server", "usr/bin/redis-check-rdb");
        assert_eq!(sample.redis(), "a/redis-server");
    }

    #[test]
    fn a_named_program_that_is_missing_is_not_replaced_by_another() {
        let mut sample = Sample::new(&["a/postgres", "a/initdb", "a/redis-server", "b/postgres"]);
        let gone = sample.folder.path().canonicalize().unwrap().join("gone");
        sample.name(POSTGRES_VARIABLE, "gone");
        sample.name(REDIS_VARIABLE, "gone");
        for (variable, error) in [
            (POSTGRES_VARIABLE, sample.machine.postgres().unwrap_err()),
            (REDIS_VARIABLE, sample.machine.redis().unwrap_err()),
        ] {
            let path = gone.display();
            assert_eq!(
                error.to_string(),
                format!("{variable} names {path}, which is not an executable file: correct it or unset it")
            );
        }
        sample.name(POSTGRES_VARIABLE, "b/postgres");
        let error = sample.machine.postgres().unwrap_err().to_string();
        assert!(error.contains("which has no initdb beside it"), "{error}");
    }

    #[test]
    fn a_missing_program_is_reported_with_the_command_that_installs_it() {
        let empty = Sample::new(&[]);
        assert_eq!(
            empty.machine.redis().unwrap_err().to_string(),
            "Redis was not found: run `make setup` or `apt-get install postgresql redis-server`, \
             or set WAYBILL_SANDBOX_REDIS_BIN to its path"
        );
        let error = empty.machine.postgres().unwrap_err().to_string();
        assert!(error.starts_with("PostgreSQL was not found"), "{error}");
    }
}
