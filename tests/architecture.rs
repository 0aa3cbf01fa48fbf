//! What neither the compiler nor rustfmt enforces: which module may use what, how long a line may be, and that the
//! files and tests that comments and documents name exist.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Returns the sources of the plugin and its crates, by names such as "src/event.rs" and "auth/jwt/jwks.rs".
fn sources() -> Vec<(String, String)> {
    fn walk(name: &str, folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{name}/{}", path.file_name().unwrap().display());
            if path.is_dir() {
                walk(&name, &path, found);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                found.push((name, code(&fs::read_to_string(&path).unwrap())));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk("src", &root.join("src"), &mut found);
    for name in ["input", "acl", "auth"] {
        walk(
            name,
            &root.join("crates").join(name).join("src"),
            &mut found,
        );
    }
    assert!(found.len() > 80, "the sources are where they were");
    found
}

/// Returns the text without comments and unit tests, which may mention anything.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Checks that `word` occurs in the allowed files only.
#[track_caller]
fn only(word: &str, allowed: &[&str]) {
    let users: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| text.contains(word))
        .map(|(name, _)| name)
        .collect();
    assert!(!users.is_empty(), "nothing uses {word}: remove this check");
    for name in users {
        assert!(
            allowed
                .iter()
                .any(|a| name == *a || a.ends_with('/') && name.starts_with(a)),
            "{name} uses {word}"
        );
    }
}

#[test]
fn few_modules_use_the_libraries_for_http_and_signatures() {
    only(
        "ureq::",
        &[
            "auth/auth0/http.rs",
            "auth/auth0/resolver.rs",
            "auth/auth0/tunnel.rs",
        ],
    );
    only(
        "rustls::",
        &["auth/auth0/http.rs", "auth/client_auth/assertion.rs"],
    );
    only("jsonwebtoken::", &["auth/jwt/jws.rs"]);
    only(
        "aws_lc_rs::",
        &[
            "auth/secret.rs",
            "auth/client_auth/assertion.rs",
            "auth/jwt/jwk.rs",
            "auth/jwt/jwks.rs",
            "auth/jwt/jws.rs",
            "auth/auth0/http.rs",
        ],
    );
}

/// Claims that nobody has verified are for the operator's tool. The plugin itself never takes them.
#[test]
fn the_plugin_takes_no_unverified_claims() {
    only("jwt::unverified", &["auth/engine/diagnosis.rs"]);
    only("admit_unverified", &["auth/engine/diagnosis.rs"]);
}

#[test]
fn one_module_knows_time_zones() {
    only("jiff::", &["acl/policy_file/schedule.rs"]);
}

#[test]
fn one_module_reads_the_time() {
    only("Instant::now", &["auth/clock.rs"]);
    only("SystemTime::now", &["auth/clock.rs"]);
    only("clock_gettime", &["src/time.rs"]);
    // Tenant responses and saved keys. The broker's calls get the time from src/time.rs.
    only(
        "clock::now",
        &[
            "auth/auth0/mod.rs",
            "auth/auth0/examine.rs",
            "auth/auth0/token_client.rs",
            "auth/jwt/saved_jwks.rs",
        ],
    );
}

/// The modules of `auth`, and what each may use, lowest first.
#[test]
fn dependencies_point_one_way() {
    let layers: &[&[&str]] = &[
        &[
            "account",
            "algorithm",
            "claim_sources",
            "client",
            "client_auth",
            "clock",
            "files",
            "hash",
            "mount",
            "http_proxy",
            "secret",
            "state_dir",
            "log",
            "metrics",
            "proxies",
            "refusal",
            "threads",
        ],
        &["saved_sessions", "decision_log"],
        &["identity", "username"],
        &["config"],
        &["jwt", "policy_file"],
        &["sessions", "auth0", "cache"],
        &["limits"],
        &["sign_in", "stall_budget", "control"],
        &["pending", "workers"],
        &["engine"],
        // Displays what the others say as data.
        &["messages"],
        // Doors for the fuzz targets, which nothing else uses.
        &["fuzzing"],
    ];
    let rank = |module: &str| layers.iter().position(|layer| layer.contains(&module));
    let mut seen = 0;
    for (name, text) in sources() {
        let Some(inside) = name.strip_prefix("auth/") else {
            continue;
        };
        let module = inside.split(['/', '.']).next().unwrap();
        let Some(own) = rank(module) else {
            assert_eq!(module, "lib", "{name} belongs to no layer");
            continue;
        };
        for part in text.split("crate::").skip(1) {
            let used: String = part
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            // `use crate::{a, b}` names them on the lines that follow.
            let names = if used.is_empty() {
                group(part)
            } else {
                vec![used]
            };
            for used in names {
                let other = rank(&used)
                    .unwrap_or_else(|| panic!("{name} uses {used}, which belongs to no layer"));
                assert!(other <= own, "{name} uses {used}, which is above it");
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "this check still finds uses: {seen}");
}

/// Returns the first names inside `{a::b, c::{d, e}, f}`.
fn group(text: &str) -> Vec<String> {
    let (mut depth, mut names, mut name) = (0, Vec::new(), String::new());
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(std::mem::take(&mut name)),
            c if depth == 1 && !c.is_whitespace() => name.push(c),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names.push(name);
    names
        .iter()
        .map(|n| n.split("::").next().unwrap().to_owned())
        .filter(|n| !n.is_empty())
        .collect()
}

/// Returns every file in these folders and files of this repository, by its path from the root, with its text.
fn texts(places: &[&str]) -> Vec<(String, String)> {
    fn walk(path: &Path, found: &mut Vec<PathBuf>) {
        if !path.is_dir() {
            return found.push(path.to_owned());
        }
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if !["target", "node_modules", ".venv"]
                .map(|name| path.ends_with(name))
                .contains(&true)
            {
                walk(&path, found);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for place in places {
        walk(&root.join(place), &mut paths);
    }
    let name = |path: &Path| {
        path.strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    let text = |path: &Path| fs::read_to_string(path).ok();
    let files = paths.iter();
    files
        .filter_map(|path| Some((name(path), text(path)?)))
        .collect()
}

/// Checks that every Rust file that a comment or a document for maintainers names in backticks exists.
#[test]
fn files_named_in_comments_exist() {
    let files = texts(&[
        "build.rs",
        "CONTRIBUTING.md",
        "src",
        "crates",
        "tests",
        "fuzz",
        "docs",
    ]);
    let mut seen = 0;
    for (file, text) in &files {
        let is_document = file.ends_with(".md");
        if !is_document && !file.ends_with(".rs") {
            continue;
        }
        for line in text.lines() {
            if !is_document && !line.trim_start().starts_with("//") {
                continue;
            }
            let quoted = line.split('`').skip(1).step_by(2);
            let is_name = |word: &&str| !word.contains([' ', '*', '{']) && word.len() > 3;
            for name in quoted.filter(|word| word.ends_with(".rs")).filter(is_name) {
                let exists = files
                    .iter()
                    .any(|(file, _)| Path::new(file).ends_with(name));
                assert!(exists, "{file} names {name}: {line}");
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "the comments name files: {seen}");
}

/// Checks that each line of the threat model names a test, and that every test that SECURITY.md names exists.
#[test]
fn the_threat_model_names_tests_that_exist() {
    let files = texts(&["SECURITY.md", "crates", "src", "tests"]);
    let text = |name: &str| files.iter().find(|(file, _)| file == name);
    let (_, security) = text("SECURITY.md").unwrap();
    let mut seen = 0;
    for line in security.lines() {
        let tests = line.split('`').filter_map(|word| word.split_once(".rs::"));
        let (_, model) = security.split_once("## Threat model").unwrap();
        let is_row =
            line.starts_with("| ") && model.contains(line) && !line.ends_with("shown by |");
        assert!(
            !is_row || tests.clone().count() > 0,
            "no test shows this: {line}"
        );
        for (file, name) in tests {
            let file = format!("{file}.rs");
            let (_, code) = text(&file).unwrap_or_else(|| panic!("there is no {file}: {line}"));
            // The attacks are a table.
            let exists =
                code.contains(&format!("fn {name}(")) || code.contains(&format!("    {name}: \""));
            assert!(exists, "there is no test {name} in {file}");
            seen += 1;
        }
    }
    assert!(seen > 40, "SECURITY.md names tests: {seen}");
}

/// Checks that every test that the page of evidence names exists.
#[test]
fn the_page_of_evidence_names_tests_that_exist() {
    let files = texts(&["docs/evidence.md", "crates", "tests"]);
    let text = |name: &str| files.iter().find(|(file, _)| file == name);
    let (_, page) = text("docs/evidence.md").unwrap();
    let tests = page.split('`').filter_map(|word| word.split_once(".rs::"));
    let mut seen = 0;
    for (file, name) in tests {
        let file = format!("{file}.rs");
        let (_, code) = text(&file).unwrap_or_else(|| panic!("there is no {file}"));
        assert!(
            code.contains(&format!("fn {name}(")),
            "there is no test {name} in {file}"
        );
        seen += 1;
    }
    assert!(seen > 20, "docs/evidence.md names tests: {seen}");
}

/// Checks that no line has more than 120 columns. Two things do not count, because they cannot be broken: the rows of
/// a Markdown table, and what is between the quotes of a string in Rust.
#[test]
fn lines_have_at_most_120_columns() {
    let places = [
        ".ci",
        ".editorconfig",
        ".github",
        "build.rs",
        "CHANGELOG.md",
        "Cargo.toml",
        "CONTRIBUTING.md",
        "crates",
        "deny.toml",
        "docs",
        "examples",
        "fuzz",
        "include",
        "Makefile",
        "man",
        "packaging",
        "README.md",
        "rustfmt.toml",
        "SECURITY.md",
        "src",
        "tests",
    ];
    // Written by tools.
    let written_by_tools = [".svg", ".json", ".lock"];
    let mut too_long = Vec::new();
    for (name, text) in texts(&places) {
        let is_marker = |line: &str| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ");
        assert!(
            !text.lines().any(is_marker),
            "{name}: git could not merge this"
        );
        let folders_of_tools = ["fuzz/seeds/", "packaging/completions/"];
        if written_by_tools.iter().any(|end| name.ends_with(end))
            || folders_of_tools
                .iter()
                .any(|folder| name.starts_with(folder))
        {
            continue;
        }
        let counted = match name.ends_with(".rs") {
            true => without_strings(&text),
            false => text,
        };
        for (number, line) in (1..).zip(counted.lines()) {
            let is_row = line.trim_start_matches([' ', '/', '!']).starts_with('|');
            let columns = line.chars().count();
            if columns > 120 && !is_row {
                too_long.push(format!("{name}:{number}: {columns} columns"));
            }
        }
    }
    assert!(too_long.is_empty(), "too long:\n{}", too_long.join("\n"));
}

/// Returns Rust without what is between the quotes of its strings. Lines stay lines.
fn without_strings(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        let whole = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("'\"'") {
            3
        } else {
            1
        };
        let is_string = rest.starts_with('"');
        kept.push_str(&rest[..whole]);
        rest = &rest[whole..];
        if is_string {
            let before = kept.trim_end_matches('"');
            let name = before.trim_end_matches('#');
            let end = if name.ends_with('r') {
                let end = format!("\"{}", "#".repeat(before.len() - name.len()));
                rest.find(&end).unwrap()
            } else {
                let mut escaped = false;
                let is_end = |c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                };
                rest.find(is_end).unwrap()
            };
            kept.extend(rest[..end].matches('\n'));
            kept.push('"');
            rest = &rest[end + 1..];
        }
    }
    kept + rest
}

#[test]
fn the_length_of_a_string_does_not_count() {
    for (text, kept) in [
        (r#"f("a\"b", 'c') // "d""#, r#"f("", 'c') // "d""#),
        ("r#\"a\"\nb\"# + \"c\"", "r#\"\n\"# + \"\""),
        ("'\"' + \"a\" / x", "'\"' + \"\" / x"),
    ] {
        assert_eq!(without_strings(text), kept);
    }
}

/// Returns what the plugin and the tool consist of: the names of all libraries that are built into them.
fn built_in() -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--prefix",
            "none",
            "--edges",
            "normal",
        ])
        .args([
            "--package",
            "mosquitto-auth0",
            "--package",
            "cli",
            "--format",
            "{p}",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(tree.stdout).unwrap();
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let mut names: Vec<String> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    assert!(names.len() > 50, "cargo tree lists them: {names:?}");
    names
}

/// A second stack would be a second place where a fault has to be fixed, and might meet the broker's OpenSSL.
#[test]
fn there_is_one_stack_for_tls_and_one_for_cryptography() {
    let names = built_in();
    let among = |all: &[&'static str]| -> Vec<&str> {
        let those = all
            .iter()
            .filter(|name| names.iter().any(|one| one == *name));
        those.copied().collect()
    };
    let tls = [
        "rustls",
        "native-tls",
        "openssl",
        "openssl-sys",
        "boring",
        "s2n-tls",
        "mbedtls",
        "wolfssl-sys",
        "gnutls",
    ];
    assert_eq!(among(&tls), ["rustls"]);
    let cryptography = [
        "aws-lc-sys",
        "aws-lc-fips-sys",
        "ring",
        "boring-sys",
        "sodiumoxide",
        "libsodium-sys",
        "rsa",
        "p256",
        "p384",
        "ed25519-dalek",
        "curve25519-dalek",
        "sha2",
        "sha1",
        "hmac",
        "md-5",
        "rand",
        "mbedtls-sys-auto",
    ];
    assert_eq!(among(&cryptography), ["aws-lc-sys"]);
}

/// Checks that `docs/evidence.md` says why each library is there that the plugin or the tool names, and no other.
#[test]
fn each_direct_dependency_has_its_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = Vec::new();
    for folder in [
        ".",
        "crates/acl",
        "crates/auth",
        "crates/cli",
        "crates/ctrl",
        "crates/input",
    ] {
        let text = fs::read_to_string(root.join(folder).join("Cargo.toml")).unwrap();
        let mut counts = false;
        for line in text.lines() {
            if line.starts_with('[') {
                counts = ["[dependencies]", "[build-dependencies]"].contains(&line);
            } else if counts
                && line.contains(['=', '.'])
                && !line.starts_with('#')
                && !line.contains("path =")
            {
                let end = line.find([' ', '.']).unwrap();
                named.push(line[..end].to_owned());
            }
        }
    }
    named.sort();
    named.dedup();
    assert!(named.len() > 15, "they are where they were: {named:?}");
    let page = fs::read_to_string(root.join("docs/evidence.md")).unwrap();
    let (_, table) = page.split_once("| library | why |").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut explained: Vec<String> = rows
        .map(|row| row.split('`').nth(1).unwrap().to_owned())
        .collect();
    explained.sort();
    assert_eq!(explained, named);
}
