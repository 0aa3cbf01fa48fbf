//! What people read, one file for each command or group of commands.

pub(crate) mod administration;
pub(crate) mod can;
pub(crate) mod check;
pub(crate) mod doctor;
pub(crate) mod lint;
pub(crate) mod login;
pub(crate) mod replay;
pub(crate) mod token;

/// Returns a time span for people.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", (seconds + 30) / 60),
        7200..172_800 => format!("{} h", (seconds + 1800) / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
