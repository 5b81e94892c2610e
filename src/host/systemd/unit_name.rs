//! Names of units, and of their objects on the bus.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// The name of the `.mount` unit for a path.
pub fn mount_unit_name(path: &Path) -> String {
    unit_name(path, "mount")
}

/// The name of the `.device` unit for a node below `/dev`.
pub fn device_unit_name(path: &Path) -> String {
    unit_name(path, "device")
}

/// The name of the unit for a path: systemd.unit(5), "string escaping for inclusion in unit names".
fn unit_name(path: &Path, kind: &str) -> String {
    let mut name = String::new();
    for (index, component) in path
        .components()
        .filter_map(|c| match c {
            Component::Normal(part) => Some(part),
            _ => None,
        })
        .enumerate()
    {
        if index > 0 {
            name.push('-');
        }
        for (place, &byte) in component.as_bytes().iter().enumerate() {
            let plain = byte.is_ascii_alphanumeric()
                || byte == b':'
                || byte == b'_'
                || (byte == b'.' && (index, place) != (0, 0));
            if plain {
                name.push(char::from(byte));
            } else {
                name.push_str(&format!("\\x{byte:02x}"));
            }
        }
    }
    name.push('.');
    name.push_str(kind);
    name
}

/// The object path of a unit. Everything except letters and digits is escaped as by
/// `bus_label_escape` in systemd's src/basic/bus-label.c.
pub(super) fn unit_path(name: &str) -> String {
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for (place, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphabetic() || (place > 0 && byte.is_ascii_digit());
        if plain {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_of_a_unit_has_its_name_escaped() {
        // The right-hand side is what `busctl tree org.freedesktop.systemd1` lists.
        for (name, path) in [
            ("dbus.service", "dbus_2eservice"),
            ("-.mount", "_2d_2emount"),
            (
                "mnt-data-shared_folder.mount",
                "mnt_2ddata_2dshared_5ffolder_2emount",
            ),
            (r"srv-a\x2db.mount", "srv_2da_5cx2db_2emount"),
            ("2d.service", "_32d_2eservice"),
        ] {
            assert_eq!(
                unit_path(name),
                format!("/org/freedesktop/systemd1/unit/{path}")
            );
        }
    }

    #[test]
    fn mount_units_are_named_as_systemd_escape_does() {
        // The right-hand side is the output of `systemd-escape --path --suffix=mount`.
        for (path, name) in [
            ("/mnt/data", "mnt-data.mount"),
            ("/mnt/data/shared_folder", "mnt-data-shared_folder.mount"),
            ("/srv/a-b", r"srv-a\x2db.mount"),
            ("/srv/a b", r"srv-a\x20b.mount"),
            ("/.hidden/x.y", r"\x2ehidden-x.y.mount"),
            ("/srv/공유", r"srv-\xea\xb3\xb5\xec\x9c\xa0.mount"),
        ] {
            assert_eq!(mount_unit_name(Path::new(path)), name);
        }
        assert_eq!(
            device_unit_name(Path::new("/dev/disk/by-uuid/12-ab")),
            r"dev-disk-by\x2duuid-12\x2dab.device"
        );
    }
}
