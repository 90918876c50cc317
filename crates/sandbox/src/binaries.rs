//! Where the server programs are. In this order: what the environment names, `PATH` and the usual places of packages
//! (Debian keeps Postgres out of `PATH`), then what `make setup` put under `.waybill/bin` of the working directory.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// Names the `postgres` program; `initdb` stands beside it.
pub const POSTGRES_VARIABLE: &str = "WAYBILL_SANDBOX_POSTGRES_BIN";
/// Names the `redis-server` program.
pub const REDIS_VARIABLE: &str = "WAYBILL_SANDBOX_REDIS_BIN";

/// Folders of folders that hold one Postgres version each, in `bin`.
const VERSIONED: [&str; 4] = [
    "/usr/lib/postgresql",
    "/opt/homebrew/opt",
    "/usr/local/opt",
    "/home/linuxbrew/.linuxbrew/opt",
];
const HOMEBREW: [&str; 3] = ["/opt/homebrew/bin", "/usr/local/bin", "/home/linuxbrew/.linuxbrew/bin"];

/// The two programs of Postgres, absolute and links resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresPrograms {
    /// The server.
    pub postgres: PathBuf,
    /// What makes a new cluster, of the same version.
    pub initdb: PathBuf,
}

/// Finds Postgres on this machine.
pub fn postgres() -> Result<PostgresPrograms, Error> {
    find_postgres(&Machine)
}

/// Finds `redis-server`, or `valkey-server`, on this machine.
pub fn redis() -> Result<PathBuf, Error> {
    find_redis(&Machine)
}

/// What the search asks of a machine: the search itself is tested on machines that do not exist.
trait Lookup {
    fn variable(&self, name: &str) -> Option<OsString>;
    /// Names of the entries of a folder; none if there is no such folder.
    fn entries(&self, folder: &Path) -> Vec<OsString>;
    /// The absolute path of an executable file, or of a link to one.
    fn program(&self, path: &Path) -> Option<PathBuf>;
    /// What a link points to in the end.
    fn resolved(&self, program: PathBuf) -> PathBuf;
}

struct Machine;

impl Lookup for Machine {
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name).filter(|value| !value.is_empty())
    }

    fn entries(&self, folder: &Path) -> Vec<OsString> {
        fs::read_dir(folder)
            .map(|list| list.flatten().map(|entry| entry.file_name()).collect())
            .unwrap_or_default()
    }

    fn program(&self, path: &Path) -> Option<PathBuf> {
        let entry = fs::metadata(path).ok()?;
        let is_program = entry.is_file() && entry.permissions().mode() & 0o111 != 0;
        is_program.then(|| std::path::absolute(path).ok()).flatten()
    }

    fn resolved(&self, program: PathBuf) -> PathBuf {
        program.canonicalize().unwrap_or(program)
    }
}

fn find_postgres(machine: &impl Lookup) -> Result<PostgresPrograms, Error> {
    // Debian's `initdb` stands beside the real `postgres`, not beside a link to it.
    let complete = |postgres: PathBuf| {
        let postgres = machine.resolved(postgres);
        let initdb = machine.program(&postgres.with_file_name("initdb"))?;
        Some(PostgresPrograms { postgres, initdb })
    };
    if let Some(named) = named(machine, POSTGRES_VARIABLE)? {
        let missing = Error::ProgramUnusable {
            variable: POSTGRES_VARIABLE,
            path: named.clone(),
            why: "which has no initdb beside it",
        };
        return complete(named).ok_or(missing);
    }
    postgres_folders(machine)
        .iter()
        .filter_map(|folder| machine.program(&folder.join("postgres")))
        .find_map(complete)
        .ok_or(Error::ProgramMissing {
            program: "PostgreSQL",
            variable: POSTGRES_VARIABLE,
        })
}

// Links are left as they are: Debian's `redis-server` is one to `redis-check-rdb`, a program that is what it is called.
fn find_redis(machine: &impl Lookup) -> Result<PathBuf, Error> {
    if let Some(named) = named(machine, REDIS_VARIABLE)? {
        return Ok(named);
    }
    let installed: Vec<PathBuf> = path(machine).into_iter().chain(HOMEBREW.map(PathBuf::from)).collect();
    [installed, vec![PathBuf::from(".waybill/bin")]]
        .iter()
        .flat_map(|folders| ["redis-server", "valkey-server"].map(|name| (name, folders)))
        .find_map(|(name, folders)| folders.iter().find_map(|folder| machine.program(&folder.join(name))))
        .ok_or(Error::ProgramMissing {
            program: "Redis",
            variable: REDIS_VARIABLE,
        })
}

/// What the environment names must be there: to take another one instead would be a surprise.
fn named(machine: &impl Lookup, variable: &'static str) -> Result<Option<PathBuf>, Error> {
    let Some(path) = machine.variable(variable).map(PathBuf::from) else {
        return Ok(None);
    };
    match machine.program(&path) {
        Some(program) => Ok(Some(program)),
        None => Err(Error::ProgramUnusable {
            variable,
            path,
            why: "which is no executable file",
        }),
    }
}

fn postgres_folders(machine: &impl Lookup) -> Vec<PathBuf> {
    let mut folders = path(machine);
    for parent in VERSIONED {
        folders.extend(newest_first(machine, Path::new(parent)));
    }
    folders.extend(HOMEBREW.map(PathBuf::from));
    let ours = Path::new(".waybill/bin");
    folders.push(ours.to_owned());
    folders.extend(newest_first(machine, ours));
    folders
}

/// `bin` of each version in `parent`: `15` (Debian), `postgresql@17` (Homebrew), `postgres-18.6` (ours).
fn newest_first(machine: &impl Lookup, parent: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<(Vec<u32>, OsString)> = machine
        .entries(parent)
        .into_iter()
        .filter_map(|name| Some((version(&name)?, name)))
        .collect();
    versions.sort();
    versions
        .into_iter()
        .rev()
        .map(|(_, name)| parent.join(name).join("bin"))
        .collect()
}

/// The numbers in the name of a folder that holds a Postgres. No number sorts before any.
fn version(name: &OsStr) -> Option<Vec<u32>> {
    let name = name.to_str()?;
    let of_postgres = name.starts_with("postgres") || name.starts_with(|first: char| first.is_ascii_digit());
    let numbers = name
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok());
    of_postgres.then(|| numbers.collect())
}

fn path(machine: &impl Lookup) -> Vec<PathBuf> {
    machine
        .variable("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// A machine in words: its programs, and links to them.
    #[derive(Default)]
    struct Imagined {
        variables: BTreeMap<&'static str, &'static str>,
        programs: Vec<&'static str>,
        links: BTreeMap<&'static str, &'static str>,
    }

    impl Lookup for Imagined {
        fn variable(&self, name: &str) -> Option<OsString> {
            self.variables.get(name).map(OsString::from)
        }

        fn entries(&self, folder: &Path) -> Vec<OsString> {
            let below = |path: &&str| {
                Path::new(path)
                    .strip_prefix(folder)
                    .ok()?
                    .iter()
                    .next()
                    .map(OsStr::to_owned)
            };
            self.programs
                .iter()
                .filter_map(below)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect()
        }

        fn program(&self, path: &Path) -> Option<PathBuf> {
            let real = self.resolved(path.to_owned());
            self.programs
                .iter()
                .any(|program| Path::new(program) == real)
                .then(|| path.to_owned())
        }

        fn resolved(&self, program: PathBuf) -> PathBuf {
            let target = program
                .to_str()
                .and_then(|path| self.links.get(path))
                .map(PathBuf::from);
            target.unwrap_or(program)
        }
    }

    fn found(machine: &Imagined) -> String {
        find_postgres(machine).unwrap().postgres.display().to_string()
    }

    #[test]
    fn initdb_is_found_beside_the_program_that_a_link_points_to() {
        let machine = Imagined {
            variables: [("PATH", "/usr/local/bin:/usr/bin")].into(),
            programs: vec![
                "/usr/lib/postgresql/15/bin/postgres",
                "/usr/lib/postgresql/15/bin/initdb",
            ],
            links: [("/usr/local/bin/postgres", "/usr/lib/postgresql/15/bin/postgres")].into(),
        };
        let programs = find_postgres(&machine).unwrap();
        assert_eq!(programs.initdb, Path::new("/usr/lib/postgresql/15/bin/initdb"));
        assert_eq!(programs.postgres, Path::new("/usr/lib/postgresql/15/bin/postgres"));
    }

    #[test]
    fn of_several_versions_the_newest_is_taken() {
        let debian = Imagined {
            programs: vec![
                "/usr/lib/postgresql/9.6/bin/postgres",
                "/usr/lib/postgresql/9.6/bin/initdb",
                "/usr/lib/postgresql/17/bin/postgres",
                "/usr/lib/postgresql/17/bin/initdb",
            ],
            ..Imagined::default()
        };
        assert_eq!(found(&debian), "/usr/lib/postgresql/17/bin/postgres");

        let homebrew = Imagined {
            programs: vec![
                "/opt/homebrew/opt/postgresql@16/bin/postgres",
                "/opt/homebrew/opt/postgresql@16/bin/initdb",
                "/opt/homebrew/opt/postgresql@18/bin/postgres",
                "/opt/homebrew/opt/postgresql@18/bin/initdb",
                "/opt/homebrew/opt/openssl@3/bin/openssl",
            ],
            ..Imagined::default()
        };
        assert_eq!(found(&homebrew), "/opt/homebrew/opt/postgresql@18/bin/postgres");
    }

    #[test]
    fn the_environment_comes_before_the_machine_and_the_machine_before_setup() {
        let mut machine = Imagined {
            variables: [(POSTGRES_VARIABLE, "/mine/postgres"), ("PATH", "/usr/bin")].into(),
            programs: vec![
                "/mine/postgres",
                "/mine/initdb",
                "/usr/bin/postgres",
                "/usr/bin/initdb",
                ".waybill/bin/postgres-18.6/bin/postgres",
                ".waybill/bin/postgres-18.6/bin/initdb",
            ],
            ..Imagined::default()
        };
        assert_eq!(found(&machine), "/mine/postgres");
        machine.variables.remove(POSTGRES_VARIABLE);
        assert_eq!(found(&machine), "/usr/bin/postgres");
        machine.variables.remove("PATH");
        assert_eq!(found(&machine), ".waybill/bin/postgres-18.6/bin/postgres");
    }

    #[test]
    fn a_server_without_initdb_is_passed_over() {
        let machine = Imagined {
            variables: [("PATH", "/usr/bin")].into(),
            programs: vec![
                "/usr/bin/postgres",
                "/usr/lib/postgresql/15/bin/postgres",
                "/usr/lib/postgresql/15/bin/initdb",
            ],
            ..Imagined::default()
        };
        assert_eq!(found(&machine), "/usr/lib/postgresql/15/bin/postgres");
    }

    #[test]
    fn valkey_stands_in_where_there_is_no_redis() {
        let mut machine = Imagined {
            variables: [("PATH", "/a:/b")].into(),
            programs: vec!["/a/valkey-server", "/b/redis-server", ".waybill/bin/redis-server"],
            ..Imagined::default()
        };
        assert_eq!(find_redis(&machine).unwrap(), Path::new("/b/redis-server"));
        machine.programs.retain(|program| !program.starts_with("/b"));
        assert_eq!(
            find_redis(&machine).unwrap(),
            Path::new("/a/valkey-server"),
            "the machine's own comes first"
        );
        machine.programs = vec![".waybill/bin/valkey-server"];
        assert_eq!(find_redis(&machine).unwrap(), Path::new(".waybill/bin/valkey-server"));
    }

    #[test]
    fn a_link_to_redis_keeps_its_name() {
        let machine = Imagined {
            variables: [("PATH", "/usr/bin")].into(),
            programs: vec!["/usr/bin/redis-check-rdb"],
            links: [("/usr/bin/redis-server", "/usr/bin/redis-check-rdb")].into(),
        };
        assert_eq!(find_redis(&machine).unwrap(), Path::new("/usr/bin/redis-server"));
    }

    #[test]
    fn a_named_program_that_is_not_there_is_not_replaced_by_another() {
        let machine = Imagined {
            variables: [
                (POSTGRES_VARIABLE, "/gone"),
                (REDIS_VARIABLE, "/gone"),
                ("PATH", "/usr/bin"),
            ]
            .into(),
            programs: vec!["/usr/bin/postgres", "/usr/bin/initdb", "/usr/bin/redis-server"],
            ..Imagined::default()
        };
        let error = find_postgres(&machine).unwrap_err().to_string();
        assert_eq!(
            error,
            "WAYBILL_SANDBOX_POSTGRES_BIN names /gone, which is no executable file: correct it or unset it"
        );
        assert!(
            find_redis(&machine)
                .unwrap_err()
                .to_string()
                .starts_with("WAYBILL_SANDBOX_REDIS_BIN names /gone")
        );
    }

    #[test]
    fn what_is_missing_is_told_with_the_command_that_installs_it() {
        let error = find_redis(&Imagined::default()).unwrap_err().to_string();
        assert_eq!(
            error,
            "Redis was not found: run `make setup` or `apt-get install postgresql redis-server`, \
             or name it in WAYBILL_SANDBOX_REDIS_BIN"
        );
        assert!(
            find_postgres(&Imagined::default())
                .unwrap_err()
                .to_string()
                .starts_with("PostgreSQL was not found")
        );
    }
}
