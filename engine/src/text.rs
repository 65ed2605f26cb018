//! From token bytes to text that can be sent: whole characters, no part of a stop string.

/// The text of one answer under way.
#[derive(Debug)]
pub(crate) struct TextStream {
    stops: Vec<Vec<u8>>,
    /// Bytes not yet sent: part of a character, or what may become a stop string.
    held: Vec<u8>,
}

/// What a token added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Text that is safe to send.
    pub(crate) text: String,
    /// A stop string was completed; nothing more is to be sent.
    pub(crate) stopped: bool,
}

impl TextStream {
    pub(crate) fn new(stops: &[String]) -> Self {
        Self { stops: stops.iter().map(|stop| stop.as_bytes().to_vec()).collect(), held: Vec::new() }
    }

    /// Adds the bytes of a token.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Piece {
        self.held.extend_from_slice(bytes);
        if let Some(start) = self.first_stop() {
            self.held.truncate(start);
            return Piece { text: self.finish(), stopped: true };
        }
        let safe = whole_characters(&self.held[..self.held.len() - self.stop_in_progress()]);
        let text = lossy(&self.held[..safe]);
        self.held.drain(..safe);
        Piece { text, stopped: false }
    }

    /// The rest, when no more tokens come.
    pub(crate) fn finish(&mut self) -> String {
        lossy(&std::mem::take(&mut self.held))
    }

    /// Where the first complete stop string begins.
    fn first_stop(&self) -> Option<usize> {
        let find =
            |stop: &Vec<u8>| self.held.windows(stop.len()).position(|window| window == stop.as_slice());
        self.stops.iter().filter_map(find).min()
    }

    /// Length of the longest tail that begins a stop string.
    fn stop_in_progress(&self) -> usize {
        let tail = |stop: &Vec<u8>| {
            let longest = self.held.len().min(stop.len() - 1);
            (1..=longest).rev().find(|length| self.held.ends_with(&stop[..*length]))
        };
        self.stops.iter().filter_map(tail).max().unwrap_or(0)
    }
}

/// Length of `bytes` without a last character that still lacks bytes. Bytes that can never become a
/// character do not wait: they are sent as U+FFFD.
fn whole_characters(bytes: &[u8]) -> usize {
    let mut start = 0;
    loop {
        match std::str::from_utf8(&bytes[start..]) {
            Ok(_) => return bytes.len(),
            Err(error) => {
                start += error.valid_up_to();
                match error.error_len() {
                    None => return start,
                    Some(length) => start += length,
                }
            }
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(stops: &[&str]) -> TextStream {
        TextStream::new(&stops.iter().map(|stop| (*stop).to_owned()).collect::<Vec<_>>())
    }

    /// Feeds `tokens`; the texts that came out, and whether a stop string ended it.
    fn feed(stops: &[&str], tokens: &[&[u8]]) -> (Vec<String>, bool) {
        let mut stream = stream(stops);
        let mut texts = Vec::new();
        for token in tokens {
            let piece = stream.push(token);
            texts.push(piece.text);
            if piece.stopped {
                return (texts, true);
            }
        }
        texts.push(stream.finish());
        (texts, false)
    }

    #[test]
    fn a_character_is_never_split() {
        let euro = "€".as_bytes();
        let (texts, stopped) = feed(&[], &[b"1 ", &euro[..1], &euro[1..2], &euro[2..], b"."]);
        assert_eq!(
            (texts.as_slice(), stopped),
            (["1 ", "", "", "€", ".", ""].map(str::to_owned).as_slice(), false)
        );
    }

    #[test]
    fn bytes_that_cannot_become_a_character_do_not_wait() {
        assert_eq!(feed(&[], &[b"a\xff", b"b", b"\xe2\x82"]).0, ["a\u{fffd}", "b", "", "\u{fffd}"]);
    }

    #[test]
    fn a_stop_string_over_token_borders_is_cut_off_whole() {
        let (texts, stopped) = feed(&["END"], &[b"one E", b"N", b"D two"]);
        assert_eq!((texts.concat(), stopped), ("one ".to_owned(), true));
        assert_eq!(texts[0], "one ", "text before a possible stop does not wait");
    }

    #[test]
    fn what_only_looked_like_a_stop_string_comes_after_all() {
        assert_eq!(feed(&["END"], &[b"E", b"N", b"Q"]).0, ["", "", "ENQ", ""]);
        assert_eq!(feed(&["aab"], &[b"aa", b"ab"]).0.concat(), "a");
    }

    #[test]
    fn the_first_of_several_stop_strings_wins() {
        assert_eq!(feed(&["two", "one"], &[b"zero one two"]), (vec!["zero ".to_owned()], true));
    }

    proptest! {
        /// However an answer is cut into tokens, what is sent is the text before the first stop string.
        #[test]
        fn borders_do_not_matter(text in "[abé€ ]{0,40}", cuts in prop::collection::vec(0_usize..120, 0..12), stop in "[ab€]{1,3}") {
            let bytes = text.as_bytes();
            let mut borders: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= bytes.len()).collect();
            borders.extend([0, bytes.len()]);
            borders.sort_unstable();
            let tokens: Vec<&[u8]> = borders.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let expected = text.find(&stop).map_or(text.as_str(), |start| &text[..start]);
            let (texts, stopped) = feed(&[&stop], &tokens);
            prop_assert_eq!(texts.concat(), expected);
            prop_assert_eq!(stopped, text.contains(&stop));
        }
    }
}
