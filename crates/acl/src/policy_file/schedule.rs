//! Times of day and days of the week, in the operator's time zone.
//!
//! A window is open while the local time in the zone is within it. When clocks are put forward, a window within the
//! hour that is left out does not open on that day. When they are put back, one within the hour that comes twice opens
//! twice.
//!
//! Messages cost no computation: windows are opened and closed when the time of the next change has come, or when the
//! clock has been set back to before the last update. [`crate::rights`] calls [`Schedule::update`] for each request.
//! Which windows are open is kept in [`crate::rules::windows`], where the matcher looks.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::{
    Timestamp,
    tz::{TimeZone, TimeZoneDatabase},
};

use crate::rules::windows::OpenWindows;
use crate::time::Unix;

const DAY: u32 = 86_400;

/// Times on days. The window is open if both hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimeWindow {
    /// Start and end in seconds after midnight. The end is excluded, and is on the next day if it is before the start.
    pub(crate) times: Vec<(u32, u32)>,
    /// The days on which the window begins: bit 0 is Monday.
    pub(crate) days: u8,
}

impl TimeWindow {
    /// The whole week.
    pub(crate) const ALL_DAYS: u8 = 0b111_1111;

    fn is_open(&self, local: LocalTime) -> bool {
        let begins = |day: u32| self.days >> day & 1 == 1;
        let (today, yesterday) = (local.weekday, (local.weekday + 6) % 7);
        self.times.iter().any(|&(from, to)| {
            if from < to {
                (from..to).contains(&local.second) && begins(today)
            } else {
                local.second >= from && begins(today) || local.second < to && begins(yesterday)
            }
        })
    }
}

/// Local time in a time zone.
#[derive(Clone, Copy)]
struct LocalTime {
    /// 0 is Monday.
    weekday: u32,
    /// After midnight, as it would be on a day of 24 hours.
    second: u32,
}

/// A time zone of the IANA database.
#[derive(Clone, Debug)]
pub(crate) struct Zone(TimeZone);

impl Zone {
    /// UTC.
    pub(crate) const UTC: Self = Self(TimeZone::UTC);

    /// Returns the zone with this name: as this machine knows it (`/usr/share/zoneinfo`), or else as it was when the
    /// plugin was built.
    pub(crate) fn named(name: &str) -> Option<Self> {
        TimeZone::get(name)
            .or_else(|_| TimeZoneDatabase::bundled().get(name))
            .ok()
            .map(Self)
    }

    fn local_time(&self, now: Unix) -> LocalTime {
        let local = now.0 as i64 + self.offset(now);
        LocalTime {
            // 1970-01-01 was a Thursday.
            weekday: (local.div_euclid(i64::from(DAY)) + 3).rem_euclid(7) as u32,
            second: local.rem_euclid(i64::from(DAY)) as u32,
        }
    }

    /// Returns the seconds east of UTC.
    fn offset(&self, now: Unix) -> i64 {
        self.0.to_offset(timestamp(now)).seconds().into()
    }

    /// Returns when clocks are changed next.
    fn next_change(&self, now: Unix) -> Option<Unix> {
        let transition = self.0.following(timestamp(now)).next()?;
        u64::try_from(transition.timestamp().as_second())
            .ok()
            .map(Unix)
    }
}

fn timestamp(now: Unix) -> Timestamp {
    i64::try_from(now.0)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}

/// The time windows of a policy file, and which of them are open.
pub(crate) struct Schedule {
    zone: Zone,
    /// The window at place `i` has number `i + 1`.
    windows: Vec<TimeWindow>,
    open: OpenWindows,
    /// `open` is right from this time on...
    since: AtomicU64,
    /// ...until this time.
    until: AtomicU64,
    updating: Mutex<()>,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule")
            .field("windows", &self.windows)
            .finish_non_exhaustive()
    }
}

impl Schedule {
    /// Returns a schedule whose windows are closed until the first [`Self::update`].
    pub(crate) fn new(zone: Zone, windows: Vec<TimeWindow>) -> Self {
        // Without windows there is never anything to update.
        let (since, until) = match windows.is_empty() {
            true => (0, u64::MAX),
            false => (1, 0),
        };
        Self {
            zone,
            open: OpenWindows::new(windows.len()),
            windows,
            since: AtomicU64::new(since),
            until: AtomicU64::new(until),
            updating: Mutex::new(()),
        }
    }

    /// Returns the windows that were open at the last update.
    pub(crate) fn open_windows(&self) -> &OpenWindows {
        &self.open
    }

    /// Opens and closes windows if one of them may have changed. This usually takes two comparisons.
    #[inline]
    pub(crate) fn update(&self, now: Unix) {
        let (since, until) = (
            self.since.load(Ordering::Relaxed),
            self.until.load(Ordering::Relaxed),
        );
        if !(since..until).contains(&now.0) {
            self.update_now(now);
        }
    }

    /// Returns until when no window opens or closes.
    pub(crate) fn until(&self) -> Unix {
        Unix(self.until.load(Ordering::Relaxed))
    }

    #[cold]
    fn update_now(&self, now: Unix) {
        // One thread at a time sets all windows.
        let _updating = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let local = self.zone.local_time(now);
        for (number, window) in (1..).zip(&self.windows) {
            self.open.set(number, window.is_open(local));
        }
        self.since.store(now.0, Ordering::Relaxed);
        self.until
            .store(self.next_update(now, local).0, Ordering::Relaxed);
    }

    /// Returns the next time at which anything may change: the start or end of a window or a midnight, as clocks go
    /// now, or a change of the clocks.
    fn next_update(&self, now: Unix, local: LocalTime) -> Unix {
        let times = self.windows.iter().flat_map(|window| &window.times);
        let edges = times.flat_map(|&(from, to)| [from, to]);
        let seconds_until = |edge| match (edge + DAY - local.second) % DAY {
            0 => DAY,
            seconds => seconds,
        };
        let seconds = edges.chain([0]).map(seconds_until).min().unwrap_or(DAY);
        let next = now.plus(seconds.into());
        self.zone
            .next_change(now)
            .map_or(next, |change| next.min(change))
    }
}

/// Parses times of day, such as `22:00-06:00`.
pub(crate) fn times(text: &str) -> Option<(u32, u32)> {
    let time = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(hour) || !digits(minute) {
            return None;
        }
        let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
        let second = hour * 3600 + minute * 60;
        (minute < 60 && second <= DAY).then_some(second)
    };
    let (from, to) = text.split_once('-')?;
    let (from, to) = (time(from)?, time(to)?);
    (from != to && from < DAY).then_some((from, to))
}

/// Parses days of the week, such as `Mon-Fri`, `Sat` or `Mon,Wed-Fri`. Returns a bit for each.
pub(crate) fn days(text: &str) -> Option<u8> {
    const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let day = |name: &str| NAMES.iter().position(|known| *known == name.trim());
    text.split(',').try_fold(0, |set, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        // Fri-Mon goes over the end of the week.
        let length = (last + 7 - first) % 7;
        Some((0..=length).fold(set, |set, i| set | 1 << ((first + i) % 7)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{
        AccessRequest, Rule,
        bind::Bindings,
        compile::OrderedRule,
        matcher::{Matcher, prepare},
        template::Template,
    };

    fn moment(text: &str) -> Unix {
        Unix(text.parse::<Timestamp>().unwrap().as_second() as u64)
    }

    /// Reupdates a rule for each window, to see with whether it is open.
    fn rules(count: usize) -> Vec<Matcher> {
        (1..=count)
            .map(|window| {
                let rule = Rule::allow(Template::literal("a").unwrap());
                Matcher::new([OrderedRule {
                    order: 0,
                    rule: &rule,
                    window: window as u32,
                }])
            })
            .collect()
    }

    fn is_open(rules: &Matcher, windows: &OpenWindows) -> bool {
        prepare(AccessRequest::Receive, b"a", |request| {
            rules.first(request, &Bindings::default(), windows)
        })
        .flatten()
        .is_some()
    }

    /// A direct implementation of the definition, with the library's own calendar.
    fn naively_open(window: &TimeWindow, zone: &Zone, now: Unix) -> bool {
        let there = timestamp(now).to_zoned_datetime(zone.0.clone());
        let clock = there.hour() as u32 * 3600 + there.minute() as u32 * 60 + there.second() as u32;
        let begins =
            |weekday: jiff::civil::Weekday| window.days >> weekday.to_monday_zero_offset() & 1 == 1;
        let yesterday = there.date().yesterday().unwrap().weekday();
        window.times.iter().any(|&(from, to)| match from < to {
            true => clock >= from && clock < to && begins(there.weekday()),
            false => clock >= from && begins(there.weekday()) || clock < to && begins(yesterday),
        })
    }

    fn window(time: &str, on: &str) -> TimeWindow {
        TimeWindow {
            times: vec![times(time).unwrap()],
            days: days(on).unwrap(),
        }
    }

    #[test]
    fn windows_agree_with_a_calendar_minute_by_minute_while_clocks_change() {
        let windows = vec![
            window("22:00-06:00", "Sat"),
            window("22:00-06:00", "Mon-Fri"),
            window("02:15-02:45", "Mon-Sun"),
            window("01:30-03:30", "Sun"),
            window("00:00-24:00", "Sun"),
            window("09:00-17:00", "Fri-Mon"),
            window("23:59-00:01", "Sun,Wed"),
            window("12:00-11:59", "Sat"),
            TimeWindow {
                times: vec![(3600, 7200), (7260, 7320)],
                days: 1 << 6,
            },
        ];
        for (zone, from) in [
            // Forward on 29 March 2026, back on 25 October; the hour between 2 and 3.
            ("Europe/Berlin", "2026-03-27T12:00:00Z"),
            ("Europe/Berlin", "2026-10-23T12:00:00Z"),
            // Half an hour only.
            ("Australia/Lord_Howe", "2026-04-02T12:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-01T12:00:00Z"),
            // A day that did not exist.
            ("Pacific/Apia", "2011-12-28T12:00:00Z"),
            // At midnight.
            ("America/Santiago", "2026-09-04T12:00:00Z"),
            ("Asia/Kolkata", "2026-01-01T00:00:00Z"),
        ] {
            let zone = Zone::named(zone).unwrap();
            let schedule = Schedule::new(zone.clone(), windows.clone());
            let rules = rules(windows.len());
            let start = moment(from);
            let mut updates = 0;
            let step = if cfg!(miri) { 311 } else { 1 };
            for minute in (0..5 * 1440).step_by(step) {
                let now = start.plus(minute * 60 + minute % 60);
                let until = schedule.until.load(Ordering::Relaxed);
                schedule.update(now);
                updates += u32::from(until != schedule.until.load(Ordering::Relaxed));
                for (window, rules) in windows.iter().zip(&rules) {
                    assert_eq!(
                        is_open(rules, schedule.open_windows()),
                        naively_open(window, &zone, now),
                        "{zone:?} {window:?} {}",
                        timestamp(now).to_zoned_datetime(zone.0.clone())
                    );
                }
            }
            assert!(updates < 5 * 20, "updated {updates} times in five days");
        }
    }

    #[test]
    fn a_window_in_the_hour_that_is_left_out_stays_closed_and_in_the_repeated_hour_it_opens_twice()
    {
        let windows = vec![window("02:15-02:45", "Mon-Sun")];
        let schedule = Schedule::new(Zone::named("Europe/Berlin").unwrap(), windows);
        let rules = rules(1);
        let opened = |day: &str| {
            let start = moment(&format!("{day}T00:00:00Z"));
            let open = |minute: u64| {
                schedule.update(start.plus(minute * 60));
                is_open(&rules[0], schedule.open_windows())
            };
            (0..1440_u64).filter(|minute| open(*minute)).count()
        };
        assert_eq!(opened("2026-03-29"), 0);
        assert_eq!(opened("2026-10-25"), 60);
        assert_eq!(opened("2026-06-01"), 30);
    }

    #[test]
    fn windows_follow_a_clock_that_is_set_back() {
        let schedule = Schedule::new(Zone::UTC, vec![window("10:00-11:00", "Mon-Sun")]);
        let rules = rules(1);
        for (now, open) in [
            ("2026-01-01T10:30:00Z", true),
            ("2026-01-01T11:30:00Z", false),
            ("2026-01-01T10:59:59Z", true),
            ("2026-01-01T11:00:00Z", false),
            ("2025-01-01T10:00:00Z", true),
        ] {
            schedule.update(moment(now));
            assert_eq!(is_open(&rules[0], schedule.open_windows()), open, "{now}");
        }
        // It does not panic, however wrong the clock is.
        schedule.update(Unix(0));
        schedule.update(Unix(u64::MAX));
    }

    #[test]
    fn times_and_days_are_parsed_or_refused() {
        assert_eq!(times("22:00-06:00"), Some((79_200, 21_600)));
        assert_eq!(times("00:00 - 24:00"), Some((0, 86_400)));
        for bad in [
            "",
            "22-06",
            "22:00",
            "24:00-06:00",
            "10:00-10:00",
            "10:60-11:00",
            "1:00-2:00",
            "25:00-26:00",
            "+1:00-02:00",
        ] {
            assert_eq!(times(bad), None, "{bad}");
        }
        assert_eq!(days("Mon-Fri"), Some(0b001_1111));
        assert_eq!(days("Sat, Sun"), Some(0b110_0000));
        assert_eq!(days("Fri-Mon"), Some(0b111_0001));
        assert_eq!(days("Wed"), Some(0b000_0100));
        for bad in ["", "mon", "Monday", "Mon-", "Mon,,Tue"] {
            assert_eq!(days(bad), None, "{bad}");
        }
        assert!(Zone::named("Europe/Berlin").is_some() && Zone::named("Europe/Nowhere").is_none());
    }
}
