//! Guesses which option a misspelt name is meant to be.

use super::options;

/// Returns the option that `name` may be meant to be: one that is a slip away, or else the one that has most
/// words in common with it, more than half. Of equals, the table's first.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let slip = options::all()
        .map(|option| (distance(name, option.name), option.name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= candidate.len() / 3);
    slip.map(|(_, candidate)| candidate).or_else(|| {
        let alike = options::all().map(|option| (words_in_common(name, option.name), option.name));
        let (percent, candidate) =
            alike.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
        (percent > 50).then_some(candidate)
    })
}

/// Returns how many of the words of both names are in both, in percent. A letter of a long word may be wrong.
fn words_in_common(a: &str, b: &str) -> usize {
    let words = |name: &'_ str| name.split('_').filter(|word| !word.is_empty()).count();
    let is_same = |x: &str, y: &str| distance(x, y) <= usize::from(x.len().min(y.len()) > 4);
    let shared = a
        .split('_')
        .filter(|x| !x.is_empty() && b.split('_').any(|y| is_same(x, y)))
        .count();
    200 * shared / (words(a) + words(b)).max(1)
}

/// Returns the number of edits from one name to the other (Levenshtein distance).
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
