//! The command lines of the measuring tools: `--name value`, and nothing else.

use std::path::PathBuf;

/// The parsed arguments.
#[derive(Debug)]
pub struct Arguments(Vec<(String, String)>);

impl Arguments {
    /// Reads the command line of this program, which may have these arguments and `--plugin`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the command line, and the arguments that it may have.
    pub fn read(known: &[&str]) -> Result<Self, String> {
        Self::of(std::env::args().skip(1), known)
    }

    fn of(mut words: impl Iterator<Item = String>, known: &[&str]) -> Result<Self, String> {
        let mut given = Vec::new();
        while let Some(name) = words.next() {
            if !known.contains(&name.as_str()) {
                let known = known.join(", ");
                return Err(format!("unknown argument {name}; try {known}"));
            }
            let value = words.next().ok_or(format!("{name} needs a value"))?;
            given.push((name, value));
        }
        Ok(Self(given))
    }

    /// Returns the value of this argument.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        // The last one counts, as usual.
        let found = self.0.iter().rfind(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the number that this argument gives, or `otherwise` without it.
    ///
    /// # Errors
    ///
    /// Returns an error when the value is not a number, or is less than `least`.
    pub fn number(&self, name: &str, least: usize, otherwise: usize) -> Result<usize, String> {
        let Some(text) = self.text(name) else {
            return Ok(otherwise);
        };
        let number = text.parse().ok().filter(|number| *number >= least);
        number.ok_or(format!("{name} {text}: that is no number from {least}"))
    }

    /// Returns the file that this argument gives, or `otherwise` without it.
    #[must_use]
    pub fn file(&self, name: &str, otherwise: &str) -> PathBuf {
        self.text(name).unwrap_or(otherwise).into()
    }

    /// Returns the plugin's file: `--plugin`, or the one beside this program. The path is absolute, because a
    /// broker runs in a folder of its own.
    ///
    /// # Errors
    ///
    /// Returns an error when the file does not exist.
    pub fn plugin(&self) -> Result<PathBuf, String> {
        let plugin = match self.text("--plugin") {
            Some(path) => path.into(),
            None => std::env::current_exe()
                .map_err(|error| error.to_string())?
                .with_file_name("libmosquitto_auth0.so"),
        };
        plugin
            .canonicalize()
            .map_err(|error| format!("{}: {error}; run `make plugin`", plugin.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, String> {
        Arguments::of(
            line.split_whitespace().map(str::to_owned),
            &["--runs", "--picture"],
        )
    }

    #[test]
    fn the_last_value_of_an_argument_counts() {
        let arguments = read("--runs 3 --runs 5").unwrap();
        assert_eq!(arguments.number("--runs", 1, 7), Ok(5));
        assert_eq!(arguments.number("--rounds", 1, 7), Ok(7));
        assert_eq!(read("--runs 0").unwrap().number("--runs", 0, 7), Ok(0));
        assert_eq!(arguments.file("--picture", "a.svg"), PathBuf::from("a.svg"));
    }

    #[test]
    fn errors_are_explained() {
        assert_eq!(
            read("--run 3").unwrap_err(),
            "unknown argument --run; try --runs, --picture"
        );
        assert_eq!(read("--runs").unwrap_err(), "--runs needs a value");
        for wrong in ["0", "-1", "many"] {
            let arguments = read(&format!("--runs {wrong}")).unwrap();
            let why = arguments.number("--runs", 1, 7).unwrap_err();
            assert_eq!(why, format!("--runs {wrong}: that is no number from 1"));
        }
    }
}
