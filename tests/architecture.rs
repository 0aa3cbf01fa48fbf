//! Which module may use what, where neither crate boundaries nor visibility enforce it.

use std::{
    fs,
    path::{Path, PathBuf},
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
    only("ureq::", &["auth/auth0/http.rs", "auth/auth0/resolver.rs"]);
    only("rustls::", &["auth/auth0/http.rs"]);
    only("jsonwebtoken::", &["auth/jwt/jws.rs"]);
    only(
        "aws_lc_rs::",
        &[
            "auth/secret.rs",
            "auth/jwt/jwks.rs",
            "auth/jwt/jws.rs",
            "auth/auth0/http.rs",
        ],
    );
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
        &["auth/auth0/mod.rs", "auth/jwt/saved_jwks.rs"],
    );
}

/// The modules of `auth`, and what each may use, lowest first.
#[test]
fn dependencies_point_one_way() {
    let layers: &[&[&str]] = &[
        &[
            "client",
            "clock",
            "files",
            "secret",
            "state_dir",
            "log",
            "proxies",
            "refusal",
            "threads",
        ],
        &["identity"],
        &["config"],
        &["jwt", "policy_file"],
        &["sessions", "auth0", "cache"],
        &["limits"],
        &["sign_in", "stall_budget"],
        &["pending", "workers"],
        &["engine"],
        // Displays what the others say as data.
        &["messages"],
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

/// Checks that every Rust file that a comment or a document for maintainers names in backticks exists.
#[test]
fn files_named_in_comments_exist() {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, found),
                false => found.push(path),
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("build.rs"), root.join("CONTRIBUTING.md")];
    for folder in ["src", "crates", "tests", "fuzz", "docs"] {
        walk(&root.join(folder), &mut files);
    }
    let mut seen = 0;
    for file in &files {
        let is_document = file.extension().is_some_and(|e| e == "md");
        if !is_document && file.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        for line in fs::read_to_string(file).unwrap().lines() {
            if !is_document && !line.trim_start().starts_with("//") {
                continue;
            }
            let quoted = line.split('`').skip(1).step_by(2);
            let is_name = |word: &&str| !word.contains([' ', '*', '{']) && word.len() > 3;
            for name in quoted.filter(|word| word.ends_with(".rs")).filter(is_name) {
                let exists = files.iter().any(|file| file.ends_with(name));
                assert!(exists, "{} names {name}: {line}", file.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "the comments name files: {seen}");
}
