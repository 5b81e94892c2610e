//! smb.conf(5): whatever it holds, it is read without a panic, with places that exist.

use proptest::prelude::*;
use wasagent::host::samba::conf::SmbConf;

use crate::mutation::{Text, texts};

const CORPUS: [&str; 3] = [
    include_str!("corpus/smb.conf/debian"),
    include_str!("corpus/smb.conf/el"),
    include_str!("corpus/smb.conf/strange"),
];

const WORDS: [&str; 16] = [
    "[global]\n",
    "[user1]\n",
    "[",
    "]",
    "=",
    "\\\n",
    "include = /etc/samba/wasagent.conf\n",
    "include = ",
    "\n",
    "#",
    ";",
    "%",
    "hosts allow = ",
    "valid users = user1\n",
    "copy = user1\n",
    "\r\n",
];

#[test]
fn it_is_read_whatever_it_holds() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_owned();
    crate::for_a_while(&texts(&CORPUS, &WORDS), |Text(text)| {
        std::fs::write(&path, &text).unwrap();
        // An include may name what is no file.
        let Ok(conf) = SmbConf::read(&path, None) else {
            return Ok(());
        };
        let lines = String::from_utf8_lossy(&text).lines().count();
        for place in conf
            .sections
            .iter()
            .map(|(_, place)| place)
            .chain(conf.settings.iter().map(|setting| &setting.place))
        {
            prop_assert!(
                place.file != path || (1..=lines).contains(&place.line),
                "{place}"
            );
        }
        for setting in &conf.settings {
            prop_assert!(!setting.section.is_empty() || text.contains(&b'['));
            prop_assert!(!setting.key.contains(' '), "{setting:?}");
        }
        Ok(())
    });
}
