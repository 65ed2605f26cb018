//! How large a regular expression becomes when its repetitions are written out.

use regex_syntax::hir::{Hir, HirKind};

use super::GrammarError;

/// Repetitions in repetitions multiply, and with them the memory that following the expression takes.
const MAX_WRITTEN_OUT: u64 = 20_000;

/// Refuses nested repetitions beyond a limit. What is malformed is left to the compiler, which says why.
pub(super) fn check(regex: &str) -> Result<(), GrammarError> {
    match regex_syntax::parse(regex).map(|parsed| written_out(&parsed)) {
        Ok(found) if found > MAX_WRITTEN_OUT => Err(GrammarError::TooLarge {
            what: "characters when the repetitions of its regular expression are written out",
            found,
            limit: MAX_WRITTEN_OUT,
        }),
        _ => Ok(()),
    }
}

/// Recurses as deep as the expression is nested: the parser allows 250 levels.
fn written_out(regex: &Hir) -> u64 {
    match regex.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(_) => 1,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Capture(capture) => written_out(&capture.sub),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min.max(1));
            written_out(&repetition.sub).saturating_mul(times.into())
        }
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(written_out).fold(0, u64::saturating_add)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_multiply() {
        let size =
            |regex: &str| regex_syntax::parse(regex).map(|parsed| written_out(&parsed)).expect("sound");
        assert_eq!(size("ab[cd]{3}(e|fg)*$"), 2 + 3 + 3 + 1);
        assert_eq!(size("((a{10}b){3,}c?){2,5}"), (11 * 3 + 1) * 5);
        assert_eq!(size("((a{1000}){1000}){1000}"), 1_000_000_000);
        assert!(check("a{20000}").is_ok() && check("(").is_ok());
        assert!(matches!(check("(a{1000}){21}"), Err(GrammarError::TooLarge { found: 21_000, .. })));
    }
}
