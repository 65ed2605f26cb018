//! The generator's own CPU time, so that a report can say when the generator was the bottleneck.

use std::time::Duration;

/// Kernel clock ticks per second in `/proc`: Linux fixes what it shows to user space at 100.
const TICKS_PER_SECOND: u64 = 100;

/// User and system time that this process has used so far, or `None` where `/proc` does not say.
pub fn used() -> Option<Duration> {
    parse_stat(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

fn parse_stat(stat: &str) -> Option<Duration> {
    // The command name, in parentheses, may itself hold spaces and parentheses.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_the_name_however_odd_it_is() {
        let stat = "17 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0";
        assert_eq!(parse_stat(stat), Some(Duration::from_secs(4)));
        assert_eq!(parse_stat("17 (name"), None);
    }

    #[test]
    fn this_process_has_a_time() {
        assert!(used().is_some());
    }
}
