//! Lines of Redis's MONITOR, read back into the commands that were given.

/// The arguments of a command in `<time> [<database> <client>] "arg" ...`; `None` if the line is of another database,
/// of a script, or no command.
pub fn command(line: &str, database: u16) -> Option<Vec<String>> {
    let (_, rest) = line.split_once(" [")?;
    let (from, arguments) = rest.split_once("] ")?;
    let (number, client) = from.split_once(' ')?;
    let is_wanted = number == database.to_string() && client != "lua";
    is_wanted.then(|| quoted(arguments)).flatten()
}

/// The values of `"one" "t\"wo"`.
fn quoted(text: &str) -> Option<Vec<String>> {
    let mut values = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' => {}
            '"' => {
                let mut value = String::new();
                loop {
                    match letters.next()? {
                        '"' => break,
                        '\\' => value.push(letters.next()?),
                        letter => value.push(letter),
                    }
                }
                values.push(value);
            }
            _ => return None,
        }
    }
    Some(values)
}
