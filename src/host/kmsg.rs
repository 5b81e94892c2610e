//! The kernel's own messages about a failed CIFS mount. They go only to the kernel log. So the log
//! is opened and its end sought before the mount, and read from there after it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use super::escape::hexadecimal;

const KMSG: &str = "/dev/kmsg";

/// A read must take one whole record, else the kernel answers EINVAL (`kernel/printk/internal.h`:
/// PRINTK_MESSAGE_MAX is 2048; 8192 until 6.4).
const RECORD_MAX: usize = 8192;

/// Records after which reading stops, in case they are written faster than the agent reads.
const RECORDS: usize = 4096;

/// A place in the kernel log.
#[derive(Debug)]
pub struct Kmsg {
    /// `None` where the log may not be read. Its messages only help; without them nothing fails.
    file: Option<File>,
}

impl Kmsg {
    /// Marks the end of the kernel log. Without the permission (CAP_SYSLOG) there are no records.
    pub fn at_end() -> Self {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(KMSG)
            .and_then(|mut file| file.seek(SeekFrom::End(0)).map(|_| file));
        Self { file: file.ok() }
    }

    /// Whether there is a log to read.
    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// The texts of the records since the mark that contain `word`, oldest first.
    pub fn lines_with(&mut self, word: &str) -> Vec<String> {
        let Some(file) = &mut self.file else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        let mut buffer = vec![0; RECORD_MAX];
        for _ in 0..RECORDS {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    if let Some(text) = text_of(&String::from_utf8_lossy(&buffer[..length]))
                        && text.contains(word)
                    {
                        lines.push(text);
                    }
                }
                // EPIPE: records were overwritten before they were read; the next read goes on
                // with the oldest that is left.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        lines
    }
}

/// Text of a record `priority,sequence,microseconds,flags[,…];text`, without the tag lines that
/// follow the text (`Documentation/ABI/testing/dev-kmsg`).
fn text_of(record: &str) -> Option<String> {
    let (prefix, rest) = record.split_once(';')?;
    let mut fields = prefix.split(',');
    fields.next()?.parse::<u32>().ok()?;
    fields.next()?.parse::<u64>().ok()?;
    fields.next()?.parse::<u64>().ok()?;
    fields.next()?;
    Some(hexadecimal(rest.lines().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_gives_its_text_alone() {
        let record = "3,1234,5678901,-,caller=T1;CIFS: VFS: BAD_NETWORK_NAME: \\x5c\\x5chost\\x5cshare\n SUBSYSTEM=cifs\n";
        assert_eq!(
            text_of(record).as_deref(),
            Some("CIFS: VFS: BAD_NETWORK_NAME: \\\\host\\share")
        );
        assert_eq!(text_of("6,1,2,-;a;b\n").as_deref(), Some("a;b"));
    }

    #[test]
    fn what_is_no_record_is_skipped() {
        assert_eq!(text_of(""), None);
        assert_eq!(text_of("no prefix"), None);
        assert_eq!(text_of("a,b,c,d;text"), None);
    }

    #[test]
    fn a_log_that_cannot_be_read_gives_nothing() {
        assert_eq!(Kmsg { file: None }.lines_with("CIFS"), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_read_of_what_was_before_the_mark() {
        assert_eq!(
            Kmsg::at_end().lines_with("no record says this, ever"),
            Vec::<String>::new()
        );
    }
}
