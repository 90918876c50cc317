//! Tables as text: what a test holds against many cases, one a line.

/// The rows of a table: two columns, parted by ` | `. A line that begins with spaces goes on with the one before.
pub fn rows(table: &str) -> Vec<(String, String)> {
    let mut lines: Vec<String> = Vec::new();
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        match lines.last_mut() {
            Some(last) if line.starts_with(' ') => *last = format!("{last} {}", line.trim()),
            _ => lines.push(line.to_owned()),
        }
    }
    let cells = |line: &String| {
        let (one, other) = line.split_once(" | ").expect("two columns");
        (one.trim().to_owned(), other.trim().to_owned())
    };
    lines.iter().map(cells).collect()
}

/// The words of a command line. `~` within a word is a space.
pub fn words(line: &str) -> Vec<String> {
    line.split(' ').map(|word| word.replace('~', " ")).collect()
}
