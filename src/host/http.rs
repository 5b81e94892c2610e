//! One HTTP request over its own connection: no name is resolved and nothing is kept.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::error::{Doing, Error, Result};

/// How much of a page is searched for a text.
pub const MOST_READ: usize = 16 << 20;

/// An answer whose page is read only as far as it is needed.
pub struct Answer {
    pub status: u16,
    asked: String,
    response: Response<Incoming>,
    /// Carries the connection's bytes.
    _driver: Driver,
}

/// Ends the connection when the answer is no longer needed.
struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// `GET path` of the server at `address`. The caller sets the deadline.
///
/// # Errors
/// When nothing listens there, or what answers does not speak HTTP.
pub async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let asked = format!("ask {address} for {path}");
    let stream = TcpStream::connect(address).await.map_err(|e| {
        Error::new(format!("connect to {address}: {e}"))
            .hint("does the container run, and its application listen?")
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .doing(&asked)?;
    let driver = Driver(tokio::spawn(async move {
        // What ends the connection is told by the answer, or by the lack of one.
        let _ = connection.await;
    }));
    let request = hyper::Request::get(path)
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .doing(&asked)?;
    let response = sender.send_request(request).await.doing(&asked)?;
    Ok(Answer {
        status: response.status().as_u16(),
        asked,
        response,
        _driver: driver,
    })
}

impl Answer {
    /// Whether the page has `text` among its first [`MOST_READ`] bytes. Reads no further than the text.
    ///
    /// # Errors
    /// When the connection breaks before the text or the end.
    pub async fn contains(mut self, text: &str) -> Result<bool> {
        let (mut search, mut read) = (Search::new(text), 0);
        loop {
            if search.found {
                return Ok(true);
            }
            let Some(frame) = self.response.frame().await else {
                return Ok(false);
            };
            let frame = frame.doing(&self.asked)?;
            let bytes = frame.data_ref().map_or(&[][..], |bytes| bytes);
            search.go_on(bytes);
            read += bytes.len();
            if read > MOST_READ && !search.found {
                return Ok(false);
            }
        }
    }
}

/// The search for a text in a page that comes in pieces.
struct Search<'t> {
    text: &'t [u8],
    /// The end of what was seen, in which the text may begin.
    end: Vec<u8>,
    found: bool,
}

impl<'t> Search<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text: text.as_bytes(),
            end: Vec::new(),
            found: text.is_empty(),
        }
    }

    fn go_on(&mut self, piece: &[u8]) {
        self.end.extend_from_slice(piece);
        let length = self.text.len().max(1);
        self.found |= self.end.windows(length).any(|window| window == self.text);
        let old = self.end.len().saturating_sub(length - 1);
        self.end.drain(..old);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers one request with this page, and sends no more than is taken.
    async fn server(pieces: Vec<Vec<u8>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            for piece in pieces {
                let _ = stream.write_all(&piece).await;
                tokio::task::yield_now().await;
            }
        });
        address
    }

    #[tokio::test]
    async fn a_page_of_any_length_is_searched_for_its_text() {
        let large = vec![b'x'; 3 << 20];
        for (pieces, text, found) in [
            (
                vec![b"<p>was-".to_vec(), b"01</p>".to_vec()],
                "was-01",
                true,
            ),
            (vec![large.clone(), b"was-01".to_vec()], "was-01", true),
            (vec![large.clone()], "was-01", false),
            (vec![], "was-01", false),
            (vec![], "", true),
        ] {
            let answer = get(server(pieces).await, "/").await.unwrap();
            assert_eq!(answer.status, 200);
            assert_eq!(answer.contains(text).await.unwrap(), found, "{text}");
        }
    }

    #[tokio::test]
    async fn no_more_is_read_than_the_text_needs() {
        let endless = vec![vec![b'x'; 1 << 20]; 1000];
        let pieces = [vec![b"was-01".to_vec()], endless].concat();
        let answer = get(server(pieces).await, "/").await.unwrap();
        assert!(answer.contains("was-01").await.unwrap());
    }
}
