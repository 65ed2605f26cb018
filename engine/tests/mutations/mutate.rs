//! Broken files from a seed.

use crate::tiny::{Meta, Tiny};

/// SplitMix64: the same numbers from the same seed everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// A number that breaks things: borders of types, or close to what it replaces.
    fn absurd(&mut self, near: u64) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(64),
            3 => (1 << self.below(64)) - 1,
            4 => near.wrapping_add(1),
            5 => near.wrapping_sub(1),
            6 => near.wrapping_mul(1 + self.below(64) as u64),
            _ => self.next(),
        }
    }
}

/// A file with one to three faults.
pub fn mutant(random: &mut Random) -> Vec<u8> {
    let mut tiny = Tiny::new();
    let structural = random.below(3);
    (0..structural).for_each(|_| spoil_parts(&mut tiny, random));
    let mut bytes = tiny.bytes();
    let rest = if structural == 0 { 1 + random.below(3) } else { random.below(2) };
    (0..rest).for_each(|_| spoil_bytes(&mut bytes, random));
    bytes
}

fn spoil_parts(tiny: &mut Tiny, random: &mut Random) {
    let at = random.below(tiny.tensors.len());
    let other = tiny.tensors[random.below(tiny.tensors.len())].clone();
    let entry = random.below(tiny.meta.len());
    match random.below(11) {
        0 => tiny.tensors[at].offset = Some(random.absurd(64)),
        1 => tiny.tensors[at].offset = Some(random.below(1 << 16) as u64),
        2 => {
            let side = random.below(tiny.tensors[at].sides.len());
            tiny.tensors[at].sides[side] = random.absurd(tiny.tensors[at].sides[side]);
        }
        3 => tiny.tensors[at].sides = vec![random.absurd(32); random.below(6)],
        4 => tiny.tensors[at].type_id = random.below(40) as u32,
        5 => tiny.tensors[at].name = other.name,
        6 => drop(tiny.tensors.remove(at)),
        7 => {
            let again = tiny.meta[entry].clone();
            tiny.meta.push(again);
        }
        8 => drop(tiny.meta.remove(entry)),
        9 => tiny.meta[entry].1 = value(random),
        _ => {
            let Meta::U32(number) = tiny.meta[entry].1 else { return };
            tiny.meta[entry].1 = Meta::U32(random.absurd(number.into()) as u32);
        }
    }
}

fn value(random: &mut Random) -> Meta {
    match random.below(5) {
        0 => Meta::U32(random.absurd(32) as u32),
        1 => Meta::F32(random.pick(&[0.0, -1.0, 1e38, 1e-38, f32::NAN, f32::INFINITY])),
        2 => Meta::Text(text(random)),
        3 => Meta::Texts((0..random.below(300)).map(|_| text(random)).collect()),
        _ => Meta::Ints((0..random.below(300)).map(|_| random.absurd(3) as i32).collect()),
    }
}

fn text(random: &mut Random) -> String {
    let part = [
        "",
        " ",
        "he",
        "h e",
        "{{",
        "}}",
        "{% for m in messages %}",
        "{% endfor %}",
        "\u{1f600}",
        "<|end|>",
        "gpt2",
    ];
    (0..random.below(4)).map(|_| random.pick(&part)).collect()
}

fn spoil_bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    // Where faults tell is the header; what follows are weights.
    let header = bytes.len().min(12_000);
    let at = random.below(header);
    match random.below(6) {
        0 => (0..=random.below(8)).for_each(|_| bytes[random.below(header)] ^= 1 << random.below(8)),
        1 => bytes.truncate(random.below(bytes.len())),
        2 => put(bytes, at, &random.absurd(0).to_le_bytes()),
        3 => {
            // A length or a count is a small number in eight bytes: find one from here on.
            let small = |at: &usize| bytes[*at] != 0 && bytes[*at + 1..*at + 8].iter().all(|byte| *byte == 0);
            let found = (at..bytes.len().saturating_sub(8)).find(small).unwrap_or(at);
            let near = bytes.get(found).copied().unwrap_or(0).into();
            put(bytes, found, &random.absurd(near).to_le_bytes());
        }
        4 => {
            let (from, length) = (random.below(header), random.below(200));
            let copy: Vec<u8> = bytes[from..(from + length).min(bytes.len())].to_vec();
            put(bytes, at, &copy);
        }
        _ => {
            let end = (at + random.below(40)).min(bytes.len());
            bytes.drain(at..end);
        }
    }
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    for (byte, new) in bytes[at..].iter_mut().zip(what) {
        *byte = *new;
    }
}
