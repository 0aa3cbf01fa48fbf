//! Times as they stand in the decision log: RFC 3339 in UTC.

use acl::time::Unix;

/// The last second that has four digits for its year.
const LAST: u64 = 253_402_300_799;

/// The days of a cycle of 400 years.
const CYCLE: u64 = 146_097;

/// Writes a time.
pub(crate) fn write(time: Unix) -> String {
    let seconds = time.0.min(LAST);
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Years begin with March here, so that the day which is not always there is the last one.
    let days = days + 719_468;
    let day_of_cycle = days % CYCLE;
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524
        - day_of_cycle / (CYCLE - 1))
        / 365;
    let day_of_year = day_of_cycle - days_before(year_of_cycle);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year_of_cycle + days / CYCLE * 400 + next_year;
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Returns how many days of a cycle are before this year of it.
fn days_before(year: u64) -> u64 {
    365 * year + year / 4 - year / 100
}

/// Reads a time in UTC. Fractions of a second do not count.
pub(crate) fn read(text: &str) -> Option<Unix> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let date: Vec<u64> = numbers(date, '-')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let time: Vec<u64> = numbers(time, ':')?;
    let (&[year, month, day], &[hour, minute, second]) = (&date[..], &time[..]) else {
        return None;
    };
    let is_time = hour < 24 && minute < 60 && second < 61;
    let is_date =
        (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_time || !is_date || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year / 400 * CYCLE + days_before(year % 400) + (153 * month + 2) / 5 + day - 1;
    Some(Unix(
        (days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second,
    ))
}

fn numbers(text: &str, between: char) -> Option<Vec<u64>> {
    let parts = text.split(between);
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    parts
        .map(|part| part.parse().ok().filter(|_| is_number(part)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_795_795_277, "2026-11-27T16:01:17Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LAST, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(write(Unix(seconds)), text);
            assert_eq!(read(text), Some(Unix(seconds)), "{text}");
        }
        for day in 0..60_000 {
            let time = Unix(day * 86_400 + day % 86_400);
            assert_eq!(read(&write(time)), Some(time));
        }
        assert_eq!(write(Unix(u64::MAX)), write(Unix(LAST)));
        assert_eq!(read("1970-01-01T00:00:01.999999Z"), Some(Unix(1)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00+01:00",
            "1970-13-01T00:00:00Z",
            "1970-00-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-+1T00:00:00Z",
            "1970-01-01T00:00:00.Zx",
            "1970-01-01T00:00Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
