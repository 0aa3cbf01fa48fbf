//! Generates the documents that list options, refusals and metrics, and fails where a file is not as generated.
//!
//! `make docs` writes the files.

use std::{env, fmt::Write, fs, path::Path, process::Command};

use auth::{
    config::options::{self, DefaultValue, GROUPS, Kind, Opt, Reread},
    metrics::{
        table::{METRICS, Metric, MetricKind, TOPICS},
        text::sample_name,
    },
    refusal::{Reason, Responsible},
};

/// The file of this name, without the part that is generated.
type Generate = fn(&str) -> String;

const FILES: [(&str, Generate); 6] = [
    ("docs/options.md", options_page),
    ("docs/refusals.md", refusals_page),
    ("docs/metrics.md", metrics_page),
    ("packaging/auth0.conf", conf_file),
    ("man/mosquitto-auth0.conf.5", conf_manual),
    ("man/mosquitto-auth0.7", manual),
];

#[test]
fn generated_files_are_up_to_date() {
    for (name, generate) in FILES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let current = fs::read_to_string(&path).unwrap_or_default();
        let generated = generate(&current);
        if env::var_os("UPDATE").is_some() {
            fs::write(&path, generated).unwrap();
        } else {
            assert!(current == generated, "{name} is stale: run `make docs`");
        }
    }
}

#[test]
fn text_is_wrapped_and_blocks_are_kept() {
    let text = "One two, [three\nfour](x.md) + five.\n\n    a  command\n    another\n\nSix.";
    assert_eq!(
        wrapped(text, 12, ""),
        "One two,\n[three\nfour](x.md) +\nfive.\n\n    a  command\n    another\n\nSix.\n"
    );
    assert_eq!(
        wrapped(&plain(text), 14, "# "),
        "# One two,\n# three four +\n# five.\n#\n#     a  command\n#     another\n#\n# Six.\n"
    );
    assert_eq!(plain("`${a[*]}` [b](c)"), "${a[*]} b");
}

const OPTIONS: &str = "\
# Options

Two options are needed: `domain` (or `issuer`) and `audience`. If devices send passwords, `client_id` and \
`client_secret_file` are needed as well. All others have a default.

An option is a line `plugin_opt_NAME VALUE` below the `plugin` line in mosquitto.conf, or a line `NAME = \"VALUE\"` in \
the TOML file that [`config_file`](#config_file) names. In mosquitto.conf the value is the rest of the line as it is, \
without quotes and comments. If an option does not exist, is set twice, or has a value that cannot be right, the broker \
does not start, and one line of its log names the option, the value and the fix.

On SIGHUP, the plugin reads `config_file` and the files that options name again, and the table says what becomes of a \
changed option. If anything is wrong, all of it stays as it was. Options in mosquitto.conf are read when the broker \
starts, and only then: the broker gives them to no plugin again. [What a reload does](operating.md#sighup) has the \
details.";

fn options_page(_: &str) -> String {
    let mut page = wrapped(OPTIONS, WIDTH, "");
    page.push_str("\n| option | default | a change on SIGHUP |\n|---|---|---|\n");
    for option in options::all() {
        let (name, default) = (option.name, default(option));
        let row = format!("| [`{name}`](#{name}) | {default} | {} |", reread(option));
        writeln!(page, "{row}").unwrap();
    }
    for group in GROUPS {
        writeln!(page, "\n## {}", group.title).unwrap();
        if !group.text.is_empty() {
            page.push('\n');
            page.push_str(&wrapped(group.text, WIDTH, ""));
        }
        for option in group.options {
            let Opt { name, text, .. } = option;
            writeln!(page, "\n### `{name}`\n\n{}", wrapped(text, WIDTH, "")).unwrap();
            writeln!(page, "* Value: {}", option.kind).unwrap();
            writeln!(page, "* Default: {}", default(option)).unwrap();
            if option.secret {
                page.push_str("* Secret: the value is in no log line\n");
            }
            if option.of_issuer {
                page.push_str("* About one issuer: each `[[issuer]]` table may have it\n");
            }
            writeln!(page, "* A change on SIGHUP: {}", reread(option)).unwrap();
            writeln!(page, "* Since: {}", option.since).unwrap();
        }
    }
    page
}

/// Returns what becomes of a change on SIGHUP.
fn reread(option: &Opt) -> &'static str {
    match option.reread {
        Reread::Restart => "takes a restart",
        Reread::Applies => "applies",
        Reread::Forgets => "applies; remembered sign-ins are forgotten",
    }
}

fn default(option: &Opt) -> String {
    match option.default {
        DefaultValue::Value(value) => format!("`{value}`"),
        DefaultValue::Needed(text) | DefaultValue::Unset(text) => text.into(),
    }
}

const REFUSALS: &str = "\
# Refusals

Look up the word that the broker's log has in brackets. Each refusal is one line in the log: what was refused, the \
reason in brackets, to whom, what was found, and the fix. This page has the usual cause and the fix for each reason.

MQTT 3 clients are always told 5 (not authorized), and a 2.0 broker tells MQTT 5 clients always 135 (0x87, not \
authorized): they can say nothing else. 2.1 tells MQTT 5 clients the code that is given here, so that devices keep a \
good credential and try again later (136 and 137, 0x88 and 0x89) instead of throwing it away. (With `delay_mqtt5 \
true`, a client that has waited can only be told 135.) Clients print these codes in decimal, and specifications write \
them in hexadecimal.

A refusal that comes again (same client ID, reason and address) is counted, and one line a minute tells the count; \
the first line says so. Refusals after which a device is to try again (136, 137), and for which no single device is \
to blame, share one line. So do the client IDs of one address beyond the first 16 with the same reason, and all \
refusals beyond 1024 different ones a minute. What a connected client may not do is told once for each connection.";

fn refusals_page(_: &str) -> String {
    let mut page = wrapped(REFUSALS, WIDTH, "");
    for (title, reasons) in Reason::GROUPS {
        writeln!(page, "\n## {title}").unwrap();
        for reason in *reasons {
            let cause = wrapped(reason.cause(), WIDTH, "");
            writeln!(page, "\n### `[{}]`\n\n{cause}", reason.code()).unwrap();
            page.push_str(&item("Fix", reason.fix()));
            page.push_str(&item("Who has to act", who(*reason)));
            page.push_str(&item("The device is told", &connack_reason(*reason)));
        }
    }
    page
}

fn who(reason: Reason) -> &'static str {
    match reason.responsible() {
        Responsible::Device => "whoever set up the device",
        Responsible::Account => "whoever looks after the device's account in the tenant",
        Responsible::Configuration => "the operator of the broker",
        Responsible::Passing => "nobody, unless it happens often",
    }
}

fn connack_reason(reason: Reason) -> String {
    let (code, name) = reason.connack_reason().mqtt5();
    format!("{code} (0x{code:02X}, {name})")
}

const ALL_METRICS: &str = "\n## All metrics\n";

/// The head of the page, which is written by hand, and the table of metrics.
fn metrics_page(current: &str) -> String {
    let head = current.split(ALL_METRICS).next().unwrap_or_default();
    let mut page = format!(
        "{head}{ALL_METRICS}\n| metric | kind | labels | topic below `{TOPICS}` | what it says |\n"
    );
    page.push_str("|---|---|---|---|---|\n");
    for metric in METRICS {
        let Metric { kind, help, .. } = metric;
        let name = sample_name(metric);
        let quoted = |text: &&str| format!("`{text}`");
        let labels: Vec<_> = metric.labels.iter().map(quoted).collect();
        let topic = match (metric.topic, kind) {
            ("", _) => "none".to_owned(),
            (topic, MetricKind::Histogram) => format!("`{topic}/count`, `{topic}/seconds`"),
            (topic, _) => quoted(&topic),
        };
        let (kind, labels) = (kind.word(), labels.join(", "));
        writeln!(page, "| `{name}` | {kind} | {labels} | {topic} | {help} |").unwrap();
    }
    page
}

/// The head of the file, which is written by hand and ends with the `plugin` line, and the options.
fn conf_file(current: &str) -> String {
    let (head, rest) = current.split_once("\n#plugin ").expect("a plugin line");
    let plugin = rest.lines().next().unwrap_or_default();
    let mut file = format!("{head}\n#plugin {plugin}\n");
    let shown = |option: &&Opt| option.example.is_some();
    for group in GROUPS
        .iter()
        .filter(|g| g.options.iter().any(|o| shown(&o)))
    {
        writeln!(file, "\n\n# ---- {} ----", group.title).unwrap();
        if !group.text.is_empty() {
            file.push_str("#\n");
            file.push_str(&wrapped(&plain(group.text), CONF_WIDTH, "# "));
        }
        for option in group.options.iter().filter(shown) {
            file.push('\n');
            file.push_str(&wrapped(&plain(&in_short(option)), CONF_WIDTH, "# "));
            let example = option.example.unwrap_or_default();
            writeln!(file, "#plugin_opt_{} {example}", option.name).unwrap();
        }
    }
    file
}

fn conf_manual(_: &str) -> String {
    let mut page = format!(
        "{}.SH NAME\nmosquitto\\-auth0.conf \\- options of the Auth0 plugin in mosquitto.conf\n.SH SYNOPSIS\n",
        title("MOSQUITTO\\-AUTH0.CONF", 5, "File formats")
    );
    let example = "plugin /usr/lib/x86_64-linux-gnu/mosquitto_auth0.so\n\
                   plugin_opt_domain example.eu.auth0.com\n\
                   plugin_opt_audience https://mqtt.example/";
    page.push_str(&verbatim(example, PARAGRAPH));
    page.push_str(".SH DESCRIPTION\n");
    page.push_str(&roff(
        OPTIONS.split_once("\n\n").expect("a heading").1,
        PARAGRAPH,
    ));
    page.push_str(".SH OPTIONS\n");
    for group in GROUPS {
        writeln!(page, ".SS {}", escaped(group.title)).unwrap();
        page.push_str(&roff(group.text, PARAGRAPH));
        for option in group.options {
            writeln!(page, ".TP\n.B {}", escaped(option.name)).unwrap();
            let mut text = option.text.to_owned();
            write!(
                text,
                "\n\nValue: {}. Default: {}.",
                option.kind,
                default(option)
            )
            .unwrap();
            if option.secret {
                text.push_str(" The value is in no log line.");
            }
            write!(text, " A change on SIGHUP: {}.", reread(option)).unwrap();
            page.push_str(&roff(&text, ITEM));
        }
    }
    page.push_str(FILES_SECTION);
    page.push_str(".SH SEE ALSO\n.BR mosquitto\\-auth0 (7),\n.BR mosquitto.conf (5)\n");
    page
}

const MANUAL: &str = "\
mosquitto-auth0 lets devices sign in to a Mosquitto broker with Auth0, or with any OpenID Connect provider. The broker \
loads it with a `plugin` line in mosquitto.conf; mosquitto-auth0.conf(5) describes its options.

A device sends a JSON Web Token as its password, with the user name `JWT` or any other. If `client_id` is set, it may \
also send the user name and password of its account, which the plugin checks with the tenant. The device may then \
publish and subscribe to the topics that its token and the policy file allow: the first rule that applies decides, and \
what no rule applies to is denied.

On SIGHUP (`systemctl reload mosquitto`) the tenant's keys are fetched again, and `config_file` and the files that \
options name are read again: all of them take effect, or none. Options in mosquitto.conf are read when the broker \
starts.";

fn manual(_: &str) -> String {
    let mut page = format!(
        "{}.SH NAME\nmosquitto\\-auth0 \\- sign devices in to Mosquitto with Auth0\n.SH DESCRIPTION\n",
        title("MOSQUITTO\\-AUTH0", 7, "Miscellaneous")
    );
    page.push_str(&roff(MANUAL, PARAGRAPH));
    page.push_str(".SH REFUSALS\n");
    page.push_str(&roff(
        REFUSALS.split_once("\n\n").expect("a heading").1,
        PARAGRAPH,
    ));
    for (title, reasons) in Reason::GROUPS {
        writeln!(page, ".SS {}", escaped(title)).unwrap();
        for reason in *reasons {
            writeln!(page, ".TP\n.B [{}]", escaped(reason.code())).unwrap();
            let (cause, fix) = (reason.cause(), reason.fix());
            let text = format!(
                "{cause}\n\nFix: {fix}.\n\nWho has to act: {}. The device is told: {}.",
                who(*reason),
                connack_reason(*reason)
            );
            page.push_str(&roff(&text, ITEM));
        }
    }
    page.push_str(FILES_SECTION);
    page.push_str(".SH SEE ALSO\n.BR mosquitto\\-auth0.conf (5),\n.BR mosquitto (8),\n.BR mosquitto.conf (5)\n");
    page
}

/// Returns the title of a manual page, with the date of this version. Names are never broken at the end of a line.
fn title(name: &str, section: u8, kind: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let changelog = include_str!("../CHANGELOG.md");
    let (_, release) = changelog
        .split_once(&format!("\n## [{version}] - "))
        .expect("an entry for this version");
    let date = &release[.."YYYY-MM-DD".len()];
    format!(
        ".TH {name} {section} {date} \"mosquitto\\-auth0 {version}\" \"{kind}\"\n.nr HY 0\n.nh\n.ad l\n"
    )
}

const FILES_SECTION: &str = "\
.SH FILES
.TP
.I /etc/mosquitto/conf.d/auth0.conf
The options, as comments.
.TP
.I /var/log/mosquitto/mosquitto.log
The log, in which every line of the plugin begins with \\(dqmosquitto\\-auth0:\\(dq.
.TP
.I /usr/share/doc/mosquitto\\-auth0/docs/
Guides for the tenant, for the policy file, and for operating.
";

/// What begins a paragraph of a manual page, and one that belongs to an item of a list.
const PARAGRAPH: &str = ".PP\n";
const ITEM: &str = ".IP\n";

/// Returns Markdown as paragraphs and blocks of a manual page.
fn roff(markdown: &str, paragraph: &str) -> String {
    let mut page = String::new();
    for (number, block) in markdown.split("\n\n").filter(|b| !b.is_empty()).enumerate() {
        if number > 0 {
            page.push_str(paragraph);
        }
        if block.starts_with("    ") {
            let lines: Vec<_> = block.lines().map(str::trim_start).collect();
            page.push_str(&verbatim(&lines.join("\n"), paragraph));
            continue;
        }
        let text = without_links(block);
        let mut spans = String::new();
        for (number, span) in text.split('`').enumerate() {
            let span = escaped(span);
            match number % 2 {
                0 => spans.push_str(&span),
                _ => write!(spans, "\\fB{span}\\fR").unwrap(),
            }
        }
        for line in wrapped(&spans, WIDTH, "").lines() {
            let guard = if line.starts_with(['.', '\'']) {
                "\\&"
            } else {
                ""
            };
            writeln!(page, "{guard}{line}").unwrap();
        }
    }
    page
}

/// Returns lines that are kept as they are. (.RS would end the item that it is in.)
fn verbatim(lines: &str, paragraph: &str) -> String {
    let lines = escaped(lines);
    match paragraph {
        ITEM => format!(".EX\n    {}\n.EE\n", lines.replace('\n', "\n    ")),
        _ => format!(".RS 4\n.EX\n{lines}\n.EE\n.RE\n"),
    }
}

/// Returns text in which nothing means anything to roff.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// groff finds nothing to warn about. Where it is not installed, nothing is checked.
#[test]
fn manual_pages_are_valid() {
    for (name, _) in FILES.iter().filter(|(name, _)| name.starts_with("man/")) {
        let arguments = ["-man", "-Tutf8", "-ww", "-z", name];
        let groff = Command::new("groff")
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output();
        match groff {
            Ok(output) => {
                let warnings = String::from_utf8_lossy(&output.stderr);
                assert!(
                    output.status.success() && warnings.is_empty(),
                    "{name}: {warnings}"
                );
            }
            Err(_) => eprintln!("groff is not installed: {name} is not checked"),
        }
    }
}

/// Returns all that a comment above an option says: what it does, its range, and its default.
fn in_short(option: &Opt) -> String {
    let mut text = option.text.to_owned();
    let gap = if text.contains("\n\n") { "\n\n" } else { " " };
    let range = match option.kind {
        Kind::OneOf(_) | Kind::SomeOf(_) | Kind::Whole { .. } | Kind::Seconds { .. } => {
            format!("{gap}Write {}.", option.kind)
        }
        _ => String::new(),
    };
    text.push_str(&range);
    if !matches!(option.default, DefaultValue::Needed(_)) {
        let gap = if range.is_empty() { gap } else { " " };
        write!(text, "{gap}Without this line: {}.", default(option)).unwrap();
    }
    text
}

/// The longest line of a page, and of the configuration file.
const WIDTH: usize = 120;
const CONF_WIDTH: usize = 100;

/// Returns an item of a list.
fn item(name: &str, text: &str) -> String {
    let lines = wrapped(&format!("{name}: {text}"), WIDTH, "  ");
    format!("*{}", &lines[1..])
}

/// Returns Markdown as plain text: without backquotes, and of links only the text.
fn plain(markdown: &str) -> String {
    without_links(markdown).replace('`', "")
}

/// Returns Markdown with only the text of its links.
fn without_links(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, after)) = rest.split_once("](") {
        let (lead, linked) = before.rsplit_once('[').expect("a link");
        text.extend([lead, linked]);
        rest = after.split_once(')').expect("a link's end").1;
    }
    text.push_str(rest);
    text
}

/// Wraps paragraphs and keeps indented blocks; each line begins with `prefix`.
fn wrapped(text: &str, width: usize, prefix: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for block in text.split("\n\n") {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        if block.starts_with("    ") {
            lines.extend(block.lines().map(str::to_owned));
            continue;
        }
        let mut line = String::new();
        for word in words(block) {
            let is_full = prefix.len() + line.len() + 1 + word.len() > width;
            if is_full && !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
        lines.push(line);
    }
    let lines = lines.iter();
    lines
        .map(|line| format!("{}\n", format!("{prefix}{line}").trim_end()))
        .collect()
}

/// Returns the words of a paragraph. What would begin a list, a heading or a quotation at the beginning of a
/// line stays with the word before it.
fn words(paragraph: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in paragraph.split_whitespace() {
        match words.last_mut() {
            Some(last) if matches!(word, "+" | "-" | "*" | "#" | ">") => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    words
}
