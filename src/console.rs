//! Console blocks: `$ ` lines are commands, what stands below each is its expected output.

use std::ops::Range;

/// A command of a console block, with what the page says of it. Lines count from 1 within the block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The command line; continuation lines after a final backslash or with `> ` are joined by newlines.
    pub text: String,
    pub line: usize,
    /// What it should print, standard error included; each line ends in a newline.
    pub expected: String,
    /// Lines of the block that hold `expected` and the status.
    pub expected_lines: Range<usize>,
    /// From a line `? 1`; 0 without one.
    pub status: i32,
}

/// The commands of a block; none if it has no `$ ` line.
pub fn parse(block: &str) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    let mut continues = false;
    for (index, line) in block.lines().enumerate() {
        let number = index + 1;
        let starts = line
            .strip_prefix("$ ")
            .or_else(|| (line == "$").then_some(""));
        if let Some(text) = starts.filter(|_| !continues) {
            continues = text.ends_with('\\');
            commands.push(Command {
                text: text.to_owned(),
                line: number,
                expected: String::new(),
                expected_lines: number + 1..number + 1,
                status: 0,
            });
            continue;
        }
        let Some(command) = commands.last_mut() else {
            continue;
        };
        let typed_on = line
            .strip_prefix("> ")
            .filter(|_| command.expected_lines.is_empty());
        if continues || typed_on.is_some() {
            let text = typed_on.unwrap_or(line);
            continues = text.ends_with('\\');
            command.text.push('\n');
            command.text.push_str(text);
            command.expected_lines = number + 1..number + 1;
            continue;
        }
        command.expected_lines.end = number + 1;
        if let Some(status) = line
            .strip_prefix("? ")
            .and_then(|status| status.trim().parse().ok())
        {
            command.status = status
        } else {
            command.expected.push_str(line);
            command.expected.push('\n');
        }
    }
    // A blank line before the next command or the end is layout, not output.
    for command in &mut commands {
        while command.expected.ends_with("\n\n") || command.expected == "\n" {
            command.expected.pop();
            command.expected_lines.end -= 1;
        }
    }
    commands
}

/// The shell script that runs the commands one by one in one shell, so that `cd` and variables last. From
/// descriptor 9 it first reads a word that none of the programs that it starts gets to know. After each command it
/// writes this word and the status there and waits for a line; the next command finds the status in `$?`.
pub fn script(commands: &[Command]) -> String {
    let mut script = "IFS= read -r __verify_seal <&9; \
        __verify() { echo \"$__verify_seal $1\" >&9; IFS= read -r _ <&9; return \"$1\"; }; "
        .to_owned();
    for command in commands {
        script.push_str(&command.text);
        script.push_str("\n__verify $?\n");
    }
    script
}

/// What stands below a command for this output and status. Blank lines at the end of an output can't be
/// told from layout.
pub fn expected_text(output: &str, status: i32) -> String {
    let mut text = output.trim_end_matches(['\r', '\n']).to_owned();
    if !text.is_empty() {
        text.push('\n');
    }
    if status != 0 {
        text.push_str(&format!("? {status}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(block: &str, expected: &[(&str, &str, Range<usize>, i32)]) {
        let actual: Vec<_> = parse(block)
            .into_iter()
            .map(|c| (c.text, c.expected, c.expected_lines, c.status))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(text, output, lines, status)| {
                (
                    (*text).to_owned(),
                    (*output).to_owned(),
                    lines.clone(),
                    *status,
                )
            })
            .collect();
        assert_eq!(actual, expected);
    }

    #[test]
    fn commands_with_and_without_output() {
        check(
            "$ a\n$ b\nx\ny\n$ c\n",
            &[
                ("a", "", 2..2, 0),
                ("b", "x\ny\n", 3..5, 0),
                ("c", "", 6..6, 0),
            ],
        );
    }

    #[test]
    fn status_and_blank_lines() {
        check(
            "$ a\nx\n? 2\n\n$ b\n\nz\n",
            &[("a", "x\n", 2..4, 2), ("b", "\nz\n", 6..8, 0)],
        );
    }

    #[test]
    fn continued_commands() {
        check("$ a \\\n  b\nx\n", &[("a \\\n  b", "x\n", 3..4, 0)]);
        check(
            "$ for i in 1; do\n> echo $i\n> done\n1\n",
            &[("for i in 1; do\necho $i\ndone", "1\n", 4..5, 0)],
        );
    }

    #[test]
    fn no_prompt_no_command() {
        check("pip install x\n", &[]);
    }
}
