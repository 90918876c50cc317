//! A call of a script. Keys and arguments are written straight into the one command that is sent: in
//! `redis::ScriptInvocation` each lies in an allocation of its own until then, which is eleven for each fix.

use redis::aio::ConnectionManager;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, Script, ServerErrorKind, ToRedisArgs};

/// Room for an argument, in bytes: a coordinate has up to 20 digits, most names of drivers have fewer.
const ARGUMENT_BYTES: usize = 20;
/// Room for what every call has: `EVALSHA`, the hash, the number of keys.
const HEAD_BYTES: usize = 64;

/// A call of a script, complete or being written.
pub struct ScriptCall<'a> {
    script: &'a Script,
    command: Cmd,
}

impl<'a> ScriptCall<'a> {
    /// A call of `script` with these keys, and with room for so many arguments.
    pub(super) fn new<K: ToRedisArgs>(
        script: &'a Script,
        keys: impl ExactSizeIterator<Item = K>,
        arguments: usize,
    ) -> ScriptCall<'a> {
        let count = keys.len();
        let variable = count + arguments;
        let mut command = Cmd::with_capacity(3 + variable, HEAD_BYTES + variable * ARGUMENT_BYTES);
        command.arg("EVALSHA").arg(script.get_hash()).arg(count);
        for key in keys {
            command.arg(key);
        }
        ScriptCall { script, command }
    }

    /// Adds an argument.
    pub(super) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.command.arg(argument);
        self
    }

    /// Calls it. A Redis that does not know the script, as after each start, is taught it.
    pub(super) async fn send<T: FromRedisValue>(&self, connection: &mut ConnectionManager) -> Result<T, RedisError> {
        match self.command.query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.script.prepare_invoke().load_async(connection).await?;
                self.command.query_async(connection).await
            }
            answer => answer,
        }
    }
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

        let said = ["EVALSHA", script.get_hash(), "2", "one", "two", "a", "1.5"];
        let said: Vec<_> = said.iter().map(|word| redis::Arg::Simple(word.as_bytes())).collect();
        assert_eq!(words, said);
    }
}
