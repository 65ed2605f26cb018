//! Blocks are neither lost nor lent twice.

use super::*;

fn prompt(tokens: std::ops::Range<u32>) -> Vec<u32> {
    tokens.collect()
}

/// Opens a sequence with a prompt, as a step would, and returns it with the number of cached tokens.
fn fill(sequences: &mut Sequences, tokens: &[u32]) -> (SequenceId, usize) {
    let (id, cached) = sequences.open(Scope::default(), tokens, None);
    sequences.reserve(&[(id, tokens.len() - cached)]).expect("room");
    sequences.commit(id, &tokens[cached..]);
    (id, cached)
}

#[test]
fn prompts_share_their_beginning_but_never_their_last_token() {
    let mut sequences = Sequences::new(16);
    let (first, cached) = fill(&mut sequences, &prompt(0..48));
    assert_eq!((cached, sequences.available()), (0, 13));
    let (second, cached) = fill(&mut sequences, &prompt(0..48));
    assert_eq!((cached, sequences.available()), (32, 13), "the third block was found to be the same");
    let (third, cached) = fill(&mut sequences, &[prompt(0..20), prompt(0..20)].concat());
    assert_eq!((cached, sequences.available()), (16, 11));
    for id in [first, second, third] {
        sequences.close(id);
    }
    assert_eq!(sequences.available(), 16);
    let (_, cached) = sequences.open(Scope::default(), &prompt(0..49), None);
    assert_eq!((cached, sequences.available()), (48, 13), "kept after its sequences were closed");
}

#[test]
fn beginnings_are_shared_within_a_scope_only() {
    let mut sequences = Sequences::new(32);
    let mut fill_in = |scope, close| {
        let (id, cached) = sequences.open(scope, &prompt(0..48), None);
        sequences.reserve(&[(id, 48 - cached)]).expect("room");
        sequences.commit(id, &prompt(cached as u32..48));
        if close {
            sequences.close(id);
        }
        (cached, sequences.available())
    };
    let (one, other) = (Scope::Shared(1), Scope::Shared(2));
    assert_eq!(fill_in(one, false), (0, 29));
    assert_eq!(fill_in(other, false), (0, 26));
    assert_eq!(fill_in(one, false), (32, 26));
    assert_eq!(fill_in(Scope::Private, true), (0, 26), "nothing of it is kept");
    assert_eq!(fill_in(Scope::Private, false), (0, 23));
    assert_eq!(fill_in(Scope::Private, false), (0, 20), "not even among themselves");
    let kv = sequences.kv_use();
    assert_eq!((kv.blocks, kv.available, kv.cached), (32, 20, 0));
}

#[test]
fn the_longest_unused_blocks_are_evicted_ends_first() {
    let mut sequences = Sequences::new(4);
    let (id, _) = fill(&mut sequences, &prompt(0..48));
    sequences.close(id);
    let (other, _) = fill(&mut sequences, &prompt(100..132));
    sequences.close(other);
    assert_eq!(sequences.open(Scope::default(), &prompt(0..64), None).1, 32, "its third block has gone");
}

#[test]
fn a_full_pool_changes_nothing() {
    let mut sequences = Sequences::new(3);
    let (id, _) = fill(&mut sequences, &prompt(0..20));
    let table = sequences.get(id).expect("open").table.clone();
    assert_eq!(sequences.reserve(&[(id, 40)]), Err(PoolFull { needed: 2, available: 1 }));
    assert_eq!(sequences.get(id).expect("open").table, table);
    assert_eq!(sequences.reserve(&[(id, 28)]), Ok(Vec::new()));
}

#[test]
fn a_fork_copies_the_unfinished_block_when_it_writes() {
    let mut sequences = Sequences::new(8);
    let (id, _) = fill(&mut sequences, &prompt(0..20));
    let fork = sequences.fork(id).expect("open");
    assert_eq!(sequences.available(), 6);
    let shared = sequences.get(id).expect("open").table[1];
    let copies = sequences.reserve(&[(fork, 1)]).expect("room");
    let own = sequences.get(fork).expect("open").table[1];
    assert_eq!((copies, sequences.available()), (vec![(shared, own)], 5));
    assert_eq!(sequences.reserve(&[(id, 1)]), Ok(Vec::new()), "the other has it alone now");
    sequences.close(id);
    sequences.close(fork);
    assert_eq!(sequences.available(), 8);
}

#[test]
fn copied_blocks_have_the_same_values_in_all_layers() {
    let geometry = Geometry { layers: 2, heads: 3, head_width: 16, blocks: 4 };
    let mut store = Store::<crate::packed::number::Single>::new(geometry).expect("small");
    #[expect(unsafe_code, reason = "there is one thread")]
    for layer in 0..2 {
        for head in 0..3 {
            // SAFETY: there is one thread, and the reference ends with the statement.
            unsafe { store.head_mut(layer, 1, head)[5][7] = (10 * layer + head) as f32 };
        }
    }
    store.copy(1, 3);
    #[expect(unsafe_code, reason = "there is one thread")]
    for layer in 0..2 {
        for head in 0..3 {
            // SAFETY: nobody writes any more.
            let view = unsafe { store.head(layer, head, &[3]) };
            assert_eq!(view.block(0).0[5][7], (10 * layer + head) as f32);
        }
    }
}
