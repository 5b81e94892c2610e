//! Random changes to a text.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// One change. A place is a share of the text's length, so that each change fits every text.
#[derive(Debug, Clone)]
enum Mutation {
    Remove(Index, usize),
    Insert(Index, &'static str),
    /// Before the line of this number.
    Line(Index, &'static str),
    Byte(Index, u8),
    Repeat(Index, usize),
    /// Some bytes of another text of the corpus.
    Take(Index, &'static str, Index, usize),
}

/// Bytes that are shown as a text.
#[derive(Clone)]
pub struct Text(pub Vec<u8>);

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "\n{}\n{:?}",
            self.0.escape_ascii(),
            String::from_utf8_lossy(&self.0)
        )
    }
}

/// A text of the corpus, with up to a dozen changes. `words` are what the format is made of.
pub fn texts(
    corpus: &'static [&'static str],
    words: &'static [&'static str],
) -> impl Strategy<Value = Text> {
    let at = any::<Index>;
    let mutation = prop_oneof![
        (at(), 1..40_usize).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (at(), select(words)).prop_map(|(at, word)| Mutation::Insert(at, word)),
        (at(), select(words)).prop_map(|(at, word)| Mutation::Line(at, word)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Byte(at, byte)),
        (at(), 1..40_usize).prop_map(|(at, length)| Mutation::Repeat(at, length)),
        (at(), select(corpus), at(), 1..60_usize)
            .prop_map(|(at, other, from, length)| Mutation::Take(at, other, from, length)),
    ]
    .boxed();
    // Most that is changed often is refused, and what is taken has to be seen as well.
    let mutations = prop_oneof![vec(mutation.clone(), 0..3), vec(mutation, 0..12)];
    (select(corpus), mutations).prop_map(|(text, mutations)| {
        let mut bytes = text.as_bytes().to_vec();
        for mutation in mutations {
            change(&mut bytes, mutation);
        }
        Text(bytes)
    })
}

fn change(bytes: &mut Vec<u8>, mutation: Mutation) {
    let place = |at: Index, length: usize| at.index(length + 1);
    match mutation {
        Mutation::Remove(at, length) => {
            let from = place(at, bytes.len());
            let to = bytes.len().min(from + length);
            bytes.drain(from..to);
        }
        Mutation::Insert(at, word) => {
            let at = place(at, bytes.len());
            bytes.splice(at..at, word.bytes());
        }
        Mutation::Line(at, word) => {
            let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            let mut begins: Vec<usize> = ends.map(|(at, _)| at + 1).collect();
            begins.push(0);
            let at = begins[at.index(begins.len())];
            bytes.splice(at..at, word.bytes());
        }
        Mutation::Byte(at, byte) => {
            let at = place(at, bytes.len());
            bytes.splice(at..at, [byte]);
        }
        Mutation::Repeat(at, length) => {
            let from = place(at, bytes.len());
            let to = bytes.len().min(from + length);
            let part = bytes[from..to].to_vec();
            bytes.splice(from..from, part);
        }
        Mutation::Take(at, other, from, length) => {
            let from = place(from, other.len());
            let to = other.len().min(from + length);
            let at = place(at, bytes.len());
            bytes.splice(at..at, other.as_bytes()[from..to].iter().copied());
        }
    }
}
