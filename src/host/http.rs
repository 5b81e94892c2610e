//! One HTTP request over its own connection: no name is resolved and nothing is kept.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::error::{Doing, Error, Result};

/// A longer page is an error.
const MAX_BODY: usize = 1 << 20;

pub struct Response {
    pub status: u16,
    pub body: String,
}

/// `GET path` of the server at `address`. The caller sets the deadline.
pub async fn get(address: SocketAddr, path: &str) -> Result<Response> {
    let doing = || format!("ask {address} for {path}");
    let stream = TcpStream::connect(address).await.map_err(|e| {
        Error::new(format!("connect to {address}: {e}"))
            .hint("does the container run, and its application listen?")
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .doing(doing())?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::get(path)
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .doing(doing())?;
    let response = sender.send_request(request).await.doing(doing())?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_BODY)
        .collect()
        .await
        .doing(doing())?
        .to_bytes();
    driver.abort();
    Ok(Response {
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
