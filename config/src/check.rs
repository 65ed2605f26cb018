//! Collects bad values of one section, so that all are reported in one run.

use std::fmt::Display;

use crate::Problem;

/// Gathers the problems of one section.
pub(crate) struct Check<'a> {
    section: &'static str,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Check<'a> {
    pub(crate) fn new(section: &'static str, problems: &'a mut Vec<Problem>) -> Self {
        Self { section, problems }
    }

    /// Both bounds are allowed values.
    pub(crate) fn between(&mut self, key: &str, value: u64, least: u64, most: u64) {
        if value < least {
            self.refuse(key, value, format!("is below {least}"), format!("give {least} to {most}"));
        } else if value > most {
            self.refuse(key, value, format!("is above {most}"), format!("give {least} to {most}"));
        }
    }

    /// Accepts `http://…` and, where `tls` says so, `https://…`, with a host.
    pub(crate) fn url(&mut self, key: &str, value: &str, schemes: &[&str]) {
        let host = schemes.iter().find_map(|scheme| value.strip_prefix(scheme)?.strip_prefix("://"));
        if host
            .is_none_or(|host| host.is_empty() || host.starts_with('/') || host.contains(char::is_whitespace))
        {
            let remedy = format!("give {}://host:port", schemes.join(":// or "));
            self.refuse(key, format!("{value:?}"), "is not such a URL".to_owned(), remedy);
        }
    }

    /// Records that `key` is wrong.
    pub(crate) fn refuse(&mut self, key: &str, value: impl Display, problem: String, remedy: String) {
        let path = format!("{}.{key}", self.section);
        self.problems.push(Problem { path, value: value.to_string(), problem, remedy });
    }
}
