//! A call of a script. Keys and arguments are written straight into the one command that is sent: in
//! `redis::ScriptInvocation` each lies in an allocation of its own until then, which is eleven for each fix.

use redis::aio::ConnectionLike;
use redis::{Arg, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, ToRedisArgs};
use tokio::time::Instant;

/// Room for an argument, in bytes: a coordinate has up to 20 digits, most names of drivers have fewer.
const ARGUMENT_BYTES: usize = 20;
/// Room for what every call has: `EVALSHA`, the hash, the number of keys.
const HEAD_BYTES: usize = 64;

/// A script, which Redis knows by its hash once it has run it.
pub struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    /// The script of this code.
    pub(crate) fn new(code: &'static str) -> Script {
        let hash = redis::Script::new(code).get_hash().to_owned();
        Script { code, hash }
    }
}

/// A call of a script, complete or being written.
pub struct ScriptCall<'a> {
    script: &'a Script,
    command: Cmd,
}

impl<'a> ScriptCall<'a> {
    /// A call of `script` with these keys, and with room for so many arguments.
    pub(crate) fn new<K: ToRedisArgs>(
        script: &'a Script,
        keys: impl ExactSizeIterator<Item = K>,
        arguments: usize,
    ) -> ScriptCall<'a> {
        let count = keys.len();
        let variable = count + arguments;
        let mut command = Cmd::with_capacity(3 + variable, HEAD_BYTES + variable * ARGUMENT_BYTES);
        command.arg("EVALSHA").arg(&script.hash).arg(count);
        for key in keys {
            command.arg(key);
        }
        ScriptCall { script, command }
    }

    /// Adds an argument.
    pub(crate) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.command.arg(argument);
        self
    }

    /// Calls it. A Redis that does not know the script, as after each start, is sent it whole: the node of a cluster that has the keys.
    pub(crate) async fn send<T: FromRedisValue>(&self, connection: &mut impl ConnectionLike) -> RedisResult<T> {
        match self.command.query_async(connection).await {
            Err(error) if is_unknown(&error) => self.whole().query_async(connection).await,
            answer => answer,
        }
    }

    /// Calls it, and waits until so many replicas have what it wrote, until then at most: its answer, and how many have it.
    pub(super) async fn send_to_replicas<T: FromRedisValue>(
        &self,
        connection: &mut impl ConnectionLike,
        replicas: u16,
        until: Instant,
    ) -> RedisResult<(T, u16)> {
        let send = async |connection: &mut _, call: Cmd| -> RedisResult<(RedisResult<T>, RedisResult<u16>)> {
            let mut pipe = redis::pipe();
            pipe.ignore_errors()
                .add_command(call)
                .add_command(wait(replicas, until));
            pipe.query_async(connection).await
        };
        let (answer, have_it) = match send(connection, self.command.clone()).await? {
            (Err(error), _) if is_unknown(&error) => send(connection, self.whole()).await?,
            answers => answers,
        };
        Ok((answer?, have_it?))
    }

    /// The call with the script itself in the place of its hash.
    fn whole(&self) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(self.script.code);
        for argument in self.command.args_iter().skip(2) {
            if let Arg::Simple(argument) = argument {
                command.arg(argument);
            }
        }
        command
    }
}

/// Waits until so many replicas have all that the connection wrote before, until then at most: how many have it.
fn wait(replicas: u16, until: Instant) -> Cmd {
    let left = until.saturating_duration_since(Instant::now());
    // 0 would be without end.
    let left_ms = u64::try_from(left.as_millis().max(1)).unwrap_or(u64::MAX);
    let mut wait = redis::cmd("WAIT");
    wait.arg(replicas).arg(left_ms);
    wait
}

fn is_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_its_script_then_its_keys_then_its_arguments() {
        let script = Script::new("return 1");
        let mut call = ScriptCall::new(&script, ["one", "two"].into_iter(), 2);
        call.arg("a").arg(1.5);

        let words: Vec<_> = call.command.args_iter().collect();

        let said = ["EVALSHA", script.hash.as_str(), "2", "one", "two", "a", "1.5"];
        let said: Vec<_> = said.iter().map(|word| redis::Arg::Simple(word.as_bytes())).collect();
        assert_eq!(words, said);
    }

    #[test]
    fn a_script_that_is_not_known_is_sent_whole_with_the_same_keys_and_arguments() {
        let script = Script::new("return 1");
        let mut call = ScriptCall::new(&script, ["one"].into_iter(), 1);
        call.arg("a");

        let whole = call.whole();

        let said = ["EVAL", "return 1", "1", "one", "a"].map(|word| redis::Arg::Simple(word.as_bytes()));
        assert_eq!(whole.args_iter().collect::<Vec<_>>(), said);
    }
}
