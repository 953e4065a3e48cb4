//! Peers that do not speak the protocol.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use petrel_bus::calls::CallError;
use petrel_bus::grpc::Remote;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::tokio_stream;
use tonic::transport::Endpoint;

use crate::support::{Answers, account, anywhere, find, open, runtime, serve, wait_until};

#[test]
fn a_server_survives_callers_that_speak_something_else() {
    let runtime = runtime();
    let server = serve(&runtime, anywhere(), find);
    let (remote, answers) = (open(&runtime, server.addr()), Answers::default());
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4_096], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"] {
        let mut stream = TcpStream::connect(server.addr()).expect("connects");
        // The server may have hung up at the first bytes, before the last are written.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        let mut end = Vec::new();
        // Reset or closed; what it says before is its affair.
        let _ = stream.read_to_end(&mut end);
    }
    assert_eq!(answers.one(&*remote), Ok(Some(account("0".to_owned()))));
}

#[test]
fn a_caller_survives_a_server_that_speaks_something_else() {
    let runtime = runtime();
    let listener = TcpListener::bind(anywhere()).expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a caller");
            let _ = stream.write_all(&[0xff; 4_096]);
            if tell.send(()).is_err() {
                return;
            }
        }
    });
    let remote = Remote::new(runtime.handle(), &addr.to_string()).expect("an address");
    (0..3).for_each(|_| told.recv().expect("it is tried again"));
    assert!(!remote.is_open());
    assert_eq!(Answers::default().one(&remote), Err(CallError::Unavailable));
}

/// A codec that sends and takes bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Sends one message on a link of its own; the first that comes back, if one does.
async fn send(addr: SocketAddr, message: Bytes) -> Option<Bytes> {
    let channel = Endpoint::from_shared(format!("http://{addr}")).expect("valid").connect().await;
    let mut client = Grpc::new(channel.expect("connects"));
    client.ready().await.expect("ready");
    let path = PathAndQuery::from_static("/petrel.links.Links/Open");
    let requests = tonic::Request::new(tokio_stream::once(message));
    let replies = client.streaming(requests, path, Raw).await.expect("opens");
    replies.into_inner().message().await.expect("ends in order")
}

#[test]
fn messages_that_cannot_be_read_or_ask_for_nothing_are_answered_as_far_as_they_can_be() {
    let runtime = runtime();
    let server = serve(&runtime, anywhere(), find);
    let (remote, answers) = (open(&runtime, server.addr()), Answers::default());
    runtime.block_on(async {
        // Not protobuf: the link ends.
        assert_eq!(send(server.addr(), Bytes::from_static(&[0xff; 64])).await, None);
        // No requests at all: neither are there replies.
        assert_eq!(send(server.addr(), Bytes::new()).await, None);
        // Request 5 with a call that this version does not know: reply 5 says that it is unavailable.
        let newer = Bytes::from_static(&[0x0a, 0x06, 0x08, 5, 0xba, 0x3e, 0x01, 0]);
        let reply = Bytes::from_static(&[0x0a, 0x04, 0x08, 5, 0x10, 0]);
        assert_eq!(send(server.addr(), newer).await, Some(reply));
    });
    assert_eq!(answers.one(&*remote), Ok(Some(account("0".to_owned()))));
    wait_until("the link stays open", || remote.is_open());
}
