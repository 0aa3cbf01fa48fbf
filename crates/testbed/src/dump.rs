//! Reads what a core dump of a running process would contain.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// How much of a text counts as a leak, in bytes: so much of a password or of a token's signature should not
/// be in a dump. A fragment of twice this length always contains such a piece.
const PIECE: usize = 20;

/// The size of the blocks that are searched.
const PAGE: usize = 4096;
const ZEROS: [u8; PAGE] = [0; PAGE];

/// The memory that the kernel would write with the default `coredump_filter` (core(5)): memory without a file
/// behind it, and the modified pages of memory with one.
pub struct Dump(Vec<(String, Vec<u8>)>);

impl Dump {
    /// Reads the dump of this process, which keeps running.
    ///
    /// # Errors
    ///
    /// Returns an error when the process does not exist, or its memory is not readable for this user.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mappings = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let mut areas = Vec::new();
        for (name, start, end) in dumped(&mappings) {
            let mut bytes = vec![0; end - start];
            // A mapping may have been removed since.
            if memory.read_exact_at(&mut bytes, start as u64).is_ok() {
                areas.push((name, bytes));
            }
        }
        Ok(Self(areas))
    }

    /// Whether the dump contains this text, or a piece of it.
    #[must_use]
    pub fn holds(&self, text: impl AsRef<[u8]>) -> bool {
        !self.find(&[text]).is_empty()
    }

    /// Returns where these texts, or pieces of them, are: the index of the text, and the name of the mapping.
    #[must_use]
    pub fn find<T: AsRef<[u8]>>(&self, texts: &[T]) -> Vec<(usize, &str)> {
        let mut pieces: HashMap<&[u8], usize> = HashMap::new();
        let mut begins = vec![false; 1 << 16];
        for (number, text) in texts.iter().enumerate() {
            for piece in text.as_ref().as_chunks::<PIECE>().0 {
                begins[usize::from(u16::from_ne_bytes([piece[0], piece[1]]))] = true;
                pieces.insert(piece, number);
            }
        }
        let mut found = HashSet::new();
        for (name, bytes) in &self.0 {
            for (page, content) in bytes.chunks(PAGE).enumerate() {
                // Most pages were never used, and no text begins with a zero.
                if content == &ZEROS[..content.len()] {
                    continue;
                }
                for place in page * PAGE..(page * PAGE + content.len()).min(bytes.len() - PIECE) {
                    if begins[usize::from(u16::from_ne_bytes([bytes[place], bytes[place + 1]]))]
                        && let Some(number) = pieces.get(&bytes[place..place + PIECE])
                    {
                        found.insert((*number, name.as_str()));
                    }
                }
            }
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_unstable();
        found
    }
}

/// Returns the mappings in /proc/PID/smaps that are dumped: name, start, end.
fn dumped(smaps: &str) -> Vec<(String, usize, usize)> {
    let mut mappings: Vec<(String, usize, usize, bool)> = Vec::new();
    let mut anonymous = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some((start, end)) = first.split_once('-') {
            let number = |text| usize::from_str_radix(text, 16).expect("an address");
            let rest: Vec<&str> = words.collect();
            let name = rest.get(4).copied().unwrap_or("anonymous");
            anonymous = rest[3] == "0" && rest[0].starts_with('r');
            mappings.push((name.to_owned(), number(start), number(end), false));
        } else if first == "Anonymous:" {
            anonymous |= words.next() != Some("0");
        } else if first == "VmFlags:" {
            let flags: Vec<&str> = words.collect();
            let (_, _, _, is_dumped) = mappings.last_mut().expect("a mapping above its flags");
            // Device memory, and memory that is marked as not to be dumped.
            *is_dumped = anonymous && !flags.iter().any(|flag| ["dd", "io", "pf"].contains(flag));
        }
    }
    let dumped = mappings
        .into_iter()
        .filter(|(_, _, _, is_dumped)| *is_dumped);
    dumped
        .map(|(name, start, end, _)| (name, start, end))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::random_text;

    #[test]
    fn live_secrets_are_found_and_absent_ones_are_not() {
        let (here, elsewhere) = (random_text(), random_text());
        let remainder = here[10..50].to_owned();
        let dump = Dump::of(std::process::id()).unwrap();
        assert!(dump.holds(&here));
        assert!(dump.holds(&remainder));
        // The text is stored reversed, so that memory does not contain it.
        let turned: String = random_text().chars().rev().collect();
        drop(elsewhere);
        assert!(!dump.holds(&turned));
    }

    #[test]
    fn only_dumped_mappings_are_read() {
        let smaps = "\
5000-6000 r-xp 00000000 08:01 7 /usr/sbin/mosquitto
Anonymous:             0 kB
VmFlags: rd ex
6000-7000 rw-p 00001000 08:01 7 /usr/sbin/mosquitto
Anonymous:             4 kB
VmFlags: rd wr
7000-9000 rw-p 00000000 00:00 0 [heap]
Anonymous:             8 kB
VmFlags: rd wr
9000-a000 rw-p 00000000 00:00 0
Anonymous:             4 kB
VmFlags: rd wr dd
";
        let dumped = dumped(smaps);
        let names: Vec<&str> = dumped.iter().map(|(name, _, _)| name.as_str()).collect();
        assert_eq!(names, ["/usr/sbin/mosquitto", "[heap]"]);
        assert_eq!((dumped[1].1, dumped[1].2), (0x7000, 0x9000));
    }
}
