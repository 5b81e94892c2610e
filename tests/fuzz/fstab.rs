//! fstab(5): the lines of a place are found, taken out and put back, and no other byte changes.

use std::path::Path;

use proptest::prelude::*;
use wasagent::host::fstab::{entries, put_lines_back, without};

use crate::mutation::{Text, texts};

const CORPUS: [&str; 2] = [
    include_str!("corpus/fstab/guide"),
    include_str!("corpus/fstab/strange"),
];

const WORDS: [&str; 14] = [
    "/mnt/data/shared_folder",
    "/mnt/data/shared\\040folder",
    "//192.168.2.13/user1",
    "cifs",
    "credentials=/root/.smb.cred",
    "cred=\\134x",
    "#",
    "\n",
    "\t",
    " ",
    "\\040",
    "\\777",
    "0 0\n",
    "\r\n",
];

#[test]
fn only_the_lines_of_a_place_go_and_come_back() {
    let places = vec![
        "/mnt/data/shared_folder",
        "/mnt/data",
        "/",
        "/mnt/data/shared folder",
    ];
    let inputs = (texts(&CORPUS, &WORDS), proptest::sample::select(places));
    crate::for_a_while(&inputs, |(Text(fstab), place)| {
        let place = Path::new(place);
        let of = |bytes: &[u8]| entries(&String::from_utf8_lossy(bytes), place);
        let found = of(&fstab);
        let taken_out = without(&fstab, &found);
        prop_assert!(of(&taken_out).is_empty());
        let lines = |bytes: &[u8]| -> Vec<Vec<u8>> {
            bytes
                .split(|byte| *byte == b'\n')
                .map(<[u8]>::to_vec)
                .collect()
        };
        let (all, mut left) = (lines(&fstab), lines(&taken_out));
        let others: Vec<Vec<u8>> = all
            .iter()
            .enumerate()
            .filter(|(index, _)| found.iter().all(|entry| entry.line != index + 1))
            .map(|(_, line)| line.clone())
            .collect();
        // A last line that went leaves the end of the line before it.
        if left.len() == others.len() + 1 && left.last().is_some_and(Vec::is_empty) {
            left.pop();
        }
        prop_assert_eq!(&left, &others);
        match put_lines_back(&fstab, &taken_out, place) {
            None => prop_assert!(found.is_empty()),
            Some(back) => {
                prop_assert!(back.starts_with(&taken_out));
                let ours: Vec<&Vec<u8>> = found.iter().map(|entry| &all[entry.line - 1]).collect();
                let came = of(&back);
                prop_assert_eq!(came.len(), ours.len());
                let back = lines(&back);
                for (entry, line) in came.iter().zip(ours) {
                    prop_assert_eq!(&back[entry.line - 1], line);
                }
            }
        }
        Ok(())
    });
}
