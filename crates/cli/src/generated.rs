//! The manual page mosquitto-auth0(1) and the shell completions, which are made from the command line's definition.
//!
//! `make docs` writes the files, and the test fails where one is not as generated.

use std::{env, fs, path::Path, process::Command};

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use crate::arguments::{Arguments, LONG_VERSION};

/// The name of the tool.
const NAME: &str = "mosquitto-auth0";

fn completions(shell: Shell) -> String {
    let mut file = Vec::new();
    generate(shell, &mut Arguments::command(), NAME, &mut file);
    String::from_utf8(file).unwrap()
}

/// What the page says beside the commands.
const SECTIONS: &str = "\
.SH EXIT STATUS
.TP
.B 0
Everything is right, or the answer is yes.
.TP
.B 1
Something is wrong, or the answer is no.
.TP
.B 2
The command line is wrong.
.TP
.B 3
There is no answer, because a file, the tenant or the broker could not be asked.
.SH FILES
.TP
.I /etc/mosquitto/mosquitto.conf
The broker's configuration, where none is named.
.TP
.I $XDG_CACHE_HOME/mosquitto\\-auth0/
The tokens that
.B token
keeps.
.SH NOTES
.B mosquitto_ctrl auth0
.I COMMAND
is the same as
.B mosquitto\\-auth0
.IR COMMAND .
.SH SEE ALSO
.BR mosquitto\\-auth0 (7),
.BR mosquitto\\-auth0.conf (5),
.BR mosquitto_ctrl (1)
";

/// Returns one page for all commands: people search it, and none of it is elsewhere.
fn manual() -> String {
    let changelog = include_str!("../../../CHANGELOG.md");
    let version = env!("CARGO_PKG_VERSION");
    let heading = format!("\n## [{version}] - ");
    let (_, release) = changelog
        .split_once(&heading)
        .expect("an entry for this version");
    let mut command = Arguments::command();
    command.build();
    let man = Man::new(command.clone())
        .title("MOSQUITTO-AUTH0")
        .section("1")
        .date(&release[.."YYYY-MM-DD".len()])
        .source(format!("{NAME} {version}"))
        .manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    let mut page = String::from_utf8(page).unwrap();
    describe(&command, "", &mut page);
    page.push_str(SECTIONS);
    tidy(&page)
}

/// Adds a section for each command, and for each command of it.
fn describe(command: &clap::Command, above: &str, page: &mut String) {
    for inner in command
        .get_subcommands()
        .filter(|inner| inner.get_name() != "help")
    {
        let name = format!("{above} {}", inner.get_name())
            .trim_start()
            .to_owned();
        page.push_str(&format!(
            ".SH COMMAND {}\n",
            name.to_uppercase().replace('-', "\\-")
        ));
        // What every command takes is said once.
        let everywhere = ["help", "version", "json"];
        let own = inner.clone().mut_args(|argument| {
            let is_everywhere = everywhere.contains(&argument.get_id().as_str());
            argument.hide(is_everywhere)
        });
        let man = Man::new(own);
        let mut text = Vec::new();
        man.render_description_section(&mut text).unwrap();
        man.render_synopsis_section(&mut text).unwrap();
        man.render_options_section(&mut text).unwrap();
        if inner.get_after_help().is_some() {
            man.render_extra_section(&mut text).unwrap();
        }
        let text = String::from_utf8(text).unwrap();
        let mut is_first = true;
        for line in text.lines() {
            match line.strip_prefix(".SH ") {
                Some("OPTIONS") | None => page.push_str(match line.starts_with(".SH ") {
                    true => ".PP",
                    false => line,
                }),
                // What the command does stands directly below its name.
                Some(_) => page.push_str(if std::mem::take(&mut is_first) {
                    ""
                } else {
                    ".PP"
                }),
            }
            page.push('\n');
        }
        describe(inner, &name, page);
    }
}

/// Returns the page without what each section repeats: the preamble, and the options of every command.
fn tidy(page: &str) -> String {
    let mut tidied = String::new();
    let mut has_preamble = false;
    for line in page.lines() {
        if line.starts_with(".ie \\n(.g") || line.starts_with(".el .ds Aq") {
            if !has_preamble {
                tidied.push_str(line);
                tidied.push('\n');
            }
            has_preamble |= line.starts_with(".el ");
            continue;
        }
        if line.starts_with('.') {
            tidied.push_str(line);
            tidied.push('\n');
        } else if !line.is_empty() {
            wrap(line, &mut tidied);
        }
    }
    // Readers of manual pages do not all know UTF-8.
    let in_ascii = |c: char| match c.is_ascii() {
        true => c.to_string(),
        false => format!("\\[u{:04X}]", u32::from(c)),
    };
    tidied.chars().map(in_ascii).collect()
}

/// Adds a line of text. A reader fills lines anyway.
fn wrap(line: &str, page: &mut String) {
    /// The longest line of any file.
    const WIDTH: usize = 120;
    let mut length = 0;
    for word in line.split(' ') {
        let width = word.chars().count() + 1;
        // A word that begins a line with one of these would be a request.
        let may_begin = !word.is_empty() && !word.starts_with(['.', '\'']);
        match length {
            0 => {}
            _ if length + width > WIDTH && may_begin => {
                page.push('\n');
                length = 0;
            }
            _ => page.push(' '),
        }
        page.push_str(word);
        length += width;
    }
    page.push('\n');
}

#[test]
fn generated_files_are_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (name, generated) in [
        ("man/mosquitto-auth0.1", manual()),
        (
            "packaging/completions/mosquitto-auth0",
            completions(Shell::Bash),
        ),
        (
            "packaging/completions/_mosquitto-auth0",
            completions(Shell::Zsh),
        ),
        (
            "packaging/completions/mosquitto-auth0.fish",
            completions(Shell::Fish),
        ),
    ] {
        let path = root.join(name);
        if env::var_os("UPDATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, generated).unwrap();
        } else {
            let current = fs::read_to_string(&path).unwrap_or_default();
            assert!(current == generated, "{name} is stale: run `make docs`");
        }
    }
}

/// groff finds nothing to warn about. Where it is not installed, nothing is checked.
#[test]
fn the_manual_page_that_is_generated_is_valid() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), manual()).unwrap();
    match Command::new("groff")
        .args(["-man", "-Tutf8", "-ww", "-z"])
        .arg(file.path())
        .output()
    {
        Ok(output) => {
            let warnings = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && warnings.is_empty(), "{warnings}");
        }
        Err(_) => eprintln!("groff is not installed: the page is not checked"),
    }
}

#[test]
fn the_generated_command_line_is_without_contradictions() {
    Arguments::command().debug_assert();
}

#[test]
fn the_generated_version_says_what_the_code_does() {
    let names: Vec<_> = testbed::broker::Version::ALL
        .iter()
        .map(|version| version.name())
        .collect();
    let (last, others) = names.split_last().unwrap();
    assert!(LONG_VERSION.contains(&format!("tested with {} and {last}", others.join(", "))));
    let generation = format!("generation {}", auth::SESSIONS_FILE_GENERATION);
    assert!(LONG_VERSION.ends_with(&generation));
}
