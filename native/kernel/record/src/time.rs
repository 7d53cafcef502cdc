//! Times as records hold them.

/// Appends RFC 3339 in UTC with microseconds, for example `2026-11-21T04:00:00.000000Z`.
pub fn push_time(out: &mut Vec<u8>, now_ns: u64) {
    let (seconds, micros) = (
        now_ns / 1_000_000_000,
        (now_ns % 1_000_000_000 / 1000) as u32,
    );
    let (year, month, day) = civil((seconds / 86_400) as i64);
    let rest = (seconds % 86_400) as u32;
    let text = format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{micros:06}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    );
    out.extend_from_slice(text.as_bytes());
}

/// Year, month and day of a day since 1970-01-01, in the proleptic Gregorian calendar: years are counted from March, so that the
/// leap day is the last of its year, in eras of 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (now_ns, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_123_456_789, "2000-02-29T00:00:00.123456Z"),
            (1_795_910_399_999_999_999, "2026-11-28T23:59:59.999999Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000Z"),
        ] {
            let mut out = Vec::new();
            push_time(&mut out, now_ns);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
