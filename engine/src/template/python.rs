//! What templates expect of Python: `json.dumps` and `strftime`.

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind};
use serde_json::Value;

/// The filter `tojson` as transformers has it: `json.dumps(value, ensure_ascii=False, indent=…)`.
pub(super) fn tojson(
    value: &minijinja::Value,
    indent: Option<usize>,
    options: Kwargs,
) -> Result<String, Error> {
    const MAX_INDENT: usize = 16;
    let refused = |detail: String| Error::new(ErrorKind::InvalidOperation, detail);
    let named: Option<usize> = options.get("indent")?;
    let indent = indent.or(named);
    if indent.is_some_and(|indent| indent > MAX_INDENT) {
        return Err(refused(format!("tojson: indent must be at most {MAX_INDENT}")));
    }
    if options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false) {
        return Err(refused("tojson: ensure_ascii=true is not supported".to_owned()));
    }
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let (comma, colon) = match separators.as_deref() {
        None => (if indent.is_some() { "," } else { ", " }, ": "),
        Some([comma, colon]) => (comma.as_str(), colon.as_str()),
        Some(_) => return Err(refused("tojson: separators must be two texts".to_owned())),
    };
    let value = serde_json::to_value(value).map_err(|error| refused(error.to_string()))?;
    let style = Style { indent, comma, colon, sort_keys };
    let mut out = String::new();
    style.write(&value, 0, &mut out);
    Ok(out)
}

struct Style<'a> {
    indent: Option<usize>,
    comma: &'a str,
    colon: &'a str,
    sort_keys: bool,
}

impl Style<'_> {
    fn write(&self, value: &Value, level: usize, out: &mut String) {
        match value {
            Value::Number(number) => out.push_str(&self::number(number)),
            Value::Array(items) if items.is_empty() => out.push_str("[]"),
            Value::Object(members) if members.is_empty() => out.push_str("{}"),
            Value::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.between(index, level + 1, out);
                    self.write(item, level + 1, out);
                }
                self.line(level, out);
                out.push(']');
            }
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                if self.sort_keys {
                    members.sort_by_key(|(name, _)| *name);
                }
                out.push('{');
                for (index, (name, member)) in members.into_iter().enumerate() {
                    self.between(index, level + 1, out);
                    out.push_str(&Value::from(name.as_str()).to_string());
                    out.push_str(self.colon);
                    self.write(member, level + 1, out);
                }
                self.line(level, out);
                out.push('}');
            }
            // Texts are escaped as Python does it, the others have one spelling.
            other => out.push_str(&other.to_string()),
        }
    }

    fn between(&self, index: usize, level: usize, out: &mut String) {
        if index > 0 {
            out.push_str(self.comma);
        }
        self.line(level, out);
    }

    fn line(&self, level: usize, out: &mut String) {
        if let Some(indent) = self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * level));
        }
    }
}

/// Python's `repr` of a number: shortest digits, an exponent below 1e-4 and from 1e16 on.
fn number(number: &serde_json::Number) -> String {
    let float = match number.as_f64() {
        Some(float) if number.is_f64() => float,
        _ => return number.to_string(),
    };
    let scientific = format!("{float:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if float != 0.0 && !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{float:?}"),
    }
}

/// `datetime.fromtimestamp(seconds, UTC).strftime(format)`, of the directives that templates use.
pub(super) fn strftime(seconds: i64, format: &str) -> Result<String, Error> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[days.rem_euclid(7) as usize]);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('Y') => out.push_str(&format!("{year:04}")),
            Some('y') => out.push_str(&format!("{:02}", year.rem_euclid(100))),
            Some('m') => out.push_str(&format!("{month:02}")),
            Some('d') => out.push_str(&format!("{day:02}")),
            Some('B') => out.push_str(month_name),
            Some('b' | 'h') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&day_name[..3]),
            Some('H') => out.push_str(&format!("{hour:02}")),
            Some('I') => out.push_str(&format!("{:02}", (hour + 11) % 12 + 1)),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('M') => out.push_str(&format!("{minute:02}")),
            Some('S') => out.push_str(&format!("{:02}", second % 60)),
            Some('F') => out.push_str(&format!("{year:04}-{month:02}-{day:02}")),
            Some('%') => out.push('%'),
            other => {
                let other = other.map(String::from).unwrap_or_default();
                let detail = format!("strftime_now: the directive %{other} is not supported");
                return Err(Error::new(ErrorKind::InvalidOperation, detail));
            }
        }
    }
    Ok(out)
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar (Neri and Schneider's
/// and Hinnant's scheme: years begin in March, eras have 400 years).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::{Environment, context};
    use serde_json::json;

    fn render(template: &str, value: &Value) -> String {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        environment
            .render_str(
                template,
                context! { value => minijinja::Value::from(minijinja::value::Serde(value)) },
            )
            .expect("a sound template")
    }

    /// As printed by Python 3's `json.dumps(value, ensure_ascii=False)`.
    #[test]
    fn json_is_written_as_python_writes_it() {
        let value = json!({ "b": [1, 2.0, -0.5, null, true], "a": { "é<>&'\"\\\n\u{1}\u{7f}": "" }, "e": [], "o": {} });
        assert_eq!(
            render("{{ value | tojson }}", &value),
            "{\"b\": [1, 2.0, -0.5, null, true], \"a\": {\"é<>&'\\\"\\\\\\n\\u0001\u{7f}\": \"\"}, \"e\": [], \"o\": {}}"
        );
        assert_eq!(
            render("{{ value | tojson(indent=2) }}", &json!({ "a": [1, {}], "b": [] })),
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}"
        );
        assert_eq!(
            render("{{ value | tojson(separators=[',', ':'], sort_keys=true) }}", &json!({ "b": 1, "a": 2 })),
            r#"{"a":2,"b":1}"#
        );
    }

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        for (number, expected) in [
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e22, "1.5e+22"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
            (0.1, "0.1"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(render("{{ value | tojson }}", &json!(number)), expected);
        }
        assert_eq!(render("{{ value | tojson }}", &json!(u64::MAX)), "18446744073709551615");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let date = |seconds| strftime(seconds, "%a %d %b %Y %H:%M:%S %j").map_err(|error| error.to_string());
        assert!(date(0).expect_err("an unknown directive").contains("%j"));
        let date =
            |seconds| strftime(seconds, "%A %d %B %Y %I:%M %p, %y-%m 100%%").expect("known directives");
        assert_eq!(date(0), "Thursday 01 January 1970 12:00 AM, 70-01 100%");
        assert_eq!(date(951_782_400 + 46_800), "Tuesday 29 February 2000 01:00 PM, 00-02 100%");
        assert_eq!(date(-1), "Wednesday 31 December 1969 11:59 PM, 69-12 100%");
        assert_eq!(strftime(1_721_952_000, "%d %b %Y, %F").expect("known"), "26 Jul 2024, 2024-07-26");
    }
}
