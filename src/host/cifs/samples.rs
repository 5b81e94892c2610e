//! A sample share, and local servers for it, for the tests of this module.

use std::io::Read;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::share::SMB_PORT;
use super::share::{CifsMount, Recovery};
use crate::config::Dialect;

pub(super) fn share() -> CifsMount {
    CifsMount {
        source: "//192.168.2.13/user1".to_owned(),
        address: IpAddr::from([192, 168, 2, 13]),
        port: SMB_PORT,
        user: "user1".to_owned(),
        dialect: Dialect::V3_1_1,
        seal: true,
        uid: 0,
        gid: 988,
        file_mode: 0o660,
        dir_mode: 0o2770,
        recovery: Recovery::Soft,
        echo_interval: Duration::from_secs(10),
        context: Some("system_u:object_r:container_file_t:s0".to_owned()),
        mfsymlinks: false,
        actimeo: None,
    }
}

pub(super) fn local(port: u16) -> CifsMount {
    CifsMount {
        address: IpAddr::from([127, 0, 0, 1]),
        port,
        ..share()
    }
}

/// Starts a server that reads one request and passes the connection to `answer`; returns its port.
pub(super) fn server(answer: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 512]);
        answer(stream);
    });
    port
}
