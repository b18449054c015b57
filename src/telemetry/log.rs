//! The log: one line an event, on standard error, written whole.
//!
//! Text for people, with colours only on a terminal, or one JSON object a line for machines. A
//! message cannot add lines or steer the terminal: control characters are escaped. A log that
//! cannot be written (closed pipe, full disk) is dropped, never an error of the program.

use std::io::{IsTerminal, Write};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::config::raw;
use crate::runtime::wall_now_us;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text, with colours or without.
    Text {
        /// ANSI colours.
        colours: bool,
    },
    /// JSON.
    Json,
}

/// Starts the log. Only the first call of a process sets the form; later ones set the level.
pub fn init(level: raw::Level, format: raw::Format) {
    let form = match format {
        raw::Format::Json => Form::Json,
        raw::Format::Text => Form::Text { colours: stderr_has_colours() },
    };
    // An error means that there is a log already.
    drop(log::set_boxed_logger(Box::new(Stderr { form })));
    log::set_max_level(filter(level));
}

/// Whether standard error is a terminal whose user did not ask for no colours.
pub fn stderr_has_colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !unwanted && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn filter(level: raw::Level) -> LevelFilter {
    match level {
        raw::Level::Error => LevelFilter::Error,
        raw::Level::Warn => LevelFilter::Warn,
        raw::Level::Info => LevelFilter::Info,
        raw::Level::Debug => LevelFilter::Debug,
        raw::Level::Trace => LevelFilter::Trace,
    }
}

struct Stderr {
    form: Form,
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target() == "dts" || metadata.target().starts_with("dts::");
        let most = log::max_level();
        // Libraries speak of their own affairs: one step less of them.
        let most = match most {
            _ if ours => most,
            LevelFilter::Trace => LevelFilter::Debug,
            LevelFilter::Debug => LevelFilter::Info,
            LevelFilter::Info => LevelFilter::Warn,
            most => most,
        };
        metadata.level() <= most
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut line = String::with_capacity(160);
            write_line(self.form, wall_now_us(), record, &mut line);
            // One write a line, so that lines of several processes do not mix.
            drop(std::io::stderr().lock().write_all(line.as_bytes()));
        }
    }

    fn flush(&self) {}
}

/// Appends the line of `record`, made at `wall_us` microseconds since 1970 UTC, with its newline.
fn write_line(form: Form, wall_us: i64, record: &Record<'_>, out: &mut String) {
    let level = match record.level() {
        Level::Error => "ERROR",
        Level::Warn => "WARN",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
        Level::Trace => "TRACE",
    };
    let message = record.args().to_string();
    match form {
        Form::Json => {
            out.push_str("{\"ts\":\"");
            write_time(wall_us, out);
            out.push_str("\",\"level\":\"");
            out.push_str(&level.to_ascii_lowercase());
            out.push_str("\",\"target\":");
            write_json(record.target(), out);
            out.push_str(",\"message\":");
            write_json(&message, out);
            out.push('}');
        }
        Form::Text { colours } => {
            let (colour, dim, reset) = match (colours, record.level()) {
                (false, _) => ("", "", ""),
                (true, Level::Error) => ("\x1b[1;31m", "\x1b[2m", "\x1b[0m"),
                (true, Level::Warn) => ("\x1b[33m", "\x1b[2m", "\x1b[0m"),
                (true, Level::Info) => ("\x1b[32m", "\x1b[2m", "\x1b[0m"),
                (true, Level::Debug | Level::Trace) => ("\x1b[36m", "\x1b[2m", "\x1b[0m"),
            };
            out.push_str(dim);
            write_time(wall_us, out);
            out.push_str(&format!("{reset} {colour}{level:<5}{reset} {dim}{}:{reset} ", record.target()));
            for c in message.chars() {
                if c.is_control() {
                    out.extend(c.escape_default());
                } else {
                    out.push(c);
                }
            }
        }
    }
    out.push('\n');
}

fn write_json(text: &str, out: &mut String) {
    match serde_json::to_string(text) {
        Ok(json) => out.push_str(&json),
        Err(_) => out.push_str("null"),
    }
}

/// Appends `wall_us` as RFC 3339 UTC with milliseconds.
fn write_time(wall_us: i64, out: &mut String) {
    let millis = wall_us.div_euclid(1000);
    let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1000 % 60, of_day % 1000);
    out.push_str(&format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"));
}

/// Year, month and day of a number of days since 1970-01-01 (Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    // Years begin in March, so that the leap day is the last; eras are of 400 years.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(form: Form, message: &str) -> String {
        let mut out = String::new();
        let args = format_args!("{message}").to_string();
        write_line(
            form,
            1_709_164_799_999_999,
            &Record::builder().level(Level::Warn).target("dts::link").args(format_args!("{args}")).build(),
            &mut out,
        );
        out
    }

    #[test]
    fn text_is_one_line_whatever_the_message() {
        assert_eq!(
            line(Form::Text { colours: false }, "lost\nINFO faked \x1b[2J"),
            "2024-02-28T23:59:59.999Z WARN  dts::link: lost\\nINFO faked \\u{1b}[2J\n"
        );
        let coloured = line(Form::Text { colours: true }, "x");
        assert!(coloured.contains("\x1b[33mWARN"), "{coloured:?}");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let json = line(Form::Json, "a \"b\"\nc");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["message"], "a \"b\"\nc");
        assert_eq!(value["level"], "warn");
        assert_eq!(value["ts"], "2024-02-28T23:59:59.999Z");
        assert_eq!(json.matches('\n').count(), 1);
    }

    #[test]
    fn dates_far_and_near() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (47_541, (2100, 3, 1)),
            (47_540, (2100, 2, 28)),
        ] {
            assert_eq!(civil(days), date);
        }
    }

    #[test]
    fn libraries_are_quieter_than_dts() {
        log::set_max_level(LevelFilter::Info);
        let logger = Stderr { form: Form::Json };
        let enabled =
            |target, level| logger.enabled(&Metadata::builder().target(target).level(level).build());
        assert!(enabled("dts::spool", Level::Info));
        assert!(!enabled("rustls::client", Level::Info));
        assert!(enabled("rustls::client", Level::Warn));
        assert!(!enabled("dtsx", Level::Info));
    }
}
