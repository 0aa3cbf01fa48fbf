//! The options: their names, what each is, its default. The README's table lists the same; a test
//! compares the two.

/// One option, as `plugin_opt_NAME` in mosquitto.conf or `NAME` in the file `config_file` names.
#[derive(Debug)]
pub struct Opt {
    /// Its name.
    pub name: &'static str,
    /// Whether its value must not be printed.
    pub secret: bool,
}

const fn open(name: &'static str) -> Opt {
    Opt {
        name,
        secret: false,
    }
}

/// All options, in the order of the README's table.
pub const OPTIONS: &[Opt] = &[
    open("domain"),
    open("issuer"),
    open("audience"),
    open("client_id"),
    Opt {
        name: "client_secret",
        secret: true,
    },
    open("client_secret_file"),
    open("connection"),
    open("scope"),
    open("topics_claim"),
    open("topics_pointer"),
    open("rights"),
    open("permission_verbs"),
    open("claim_placeholders"),
    open("policy_file"),
    open("username_claim"),
    open("username_prefix"),
    open("client_id_claim"),
    open("client_id_template"),
    open("takeover"),
    open("on_other"),
    open("acl"),
    open("algorithms"),
    open("hs256_secret_file"),
    open("hs256_secret_encoding"),
    open("leeway"),
    open("timeout"),
    open("login_wait"),
    open("stall_budget"),
    open("login_workers"),
    open("login_rate"),
    open("login_cache"),
    open("trusted_proxies"),
    open("delay_mqtt5"),
    open("ca_file"),
    open("jwks_file"),
    open("jwks_max_stale"),
    open("state_dir"),
    open("config_file"),
];

/// The option of that name.
pub fn find(name: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|option| option.name == name)
}

/// The option that somebody who wrote `name` may have meant: one that is a slip away, or else the one
/// with which it has most words in common, more than half of them. Of equals the table's first.
pub fn nearest(name: &str) -> Option<&'static str> {
    let slip = OPTIONS
        .iter()
        .map(|option| (distance(name, option.name), option.name))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len() / 3);
    slip.map(|(_, candidate)| candidate).or_else(|| {
        let alike = OPTIONS
            .iter()
            .map(|option| (words_in_common(name, option.name), option.name));
        let (percent, candidate) =
            alike.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
        (percent > 50).then_some(candidate)
    })
}

/// How many of the words of both are in both, in percent. A letter may be wrong in a long word.
fn words_in_common(a: &str, b: &str) -> usize {
    let words = |name: &'_ str| name.split('_').filter(|word| !word.is_empty()).count();
    let is_same = |x: &str, y: &str| distance(x, y) <= usize::from(x.len().min(y.len()) > 4);
    let shared = a
        .split('_')
        .filter(|x| !x.is_empty() && b.split('_').any(|y| is_same(x, y)))
        .count();
    200 * shared / (words(a) + words(b)).max(1)
}

/// Edits from one to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_long_enough_for_the_broker_and_distinct() {
        for (i, option) in OPTIONS.iter().enumerate() {
            // Mosquitto refuses a plugin_opt_ name of fewer than three characters.
            assert!(option.name.len() >= 3);
            assert!(OPTIONS[..i].iter().all(|other| other.name != option.name));
        }
    }

    #[test]
    fn a_slip_finds_its_option_and_nonsense_finds_none() {
        assert_eq!(nearest("audiance"), Some("audience"));
        assert_eq!(nearest("client_secret_fil"), Some("client_secret_file"));
        assert_eq!(nearest("secret_file"), Some("client_secret_file"));
        assert_eq!(nearest("clients_secrets_file"), Some("client_secret_file"));
        assert_eq!(nearest("hs256_file"), Some("hs256_secret_file"));
        assert_eq!(nearest("auth0_domain"), Some("domain"));
        assert_eq!(nearest("stale_max_jwks"), Some("jwks_max_stale"));
        assert_eq!(nearest("token_cache_size"), None);
        assert_eq!(nearest("_"), None);
        assert_eq!(nearest(""), None);
        assert_eq!(nearest("xyzzy"), None);
    }
}
