//! Accounts over a real socket: what every answer is, and what bad input meets.

mod bad_input;
mod door;
mod logins;
mod tokens;

#[path = "../support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use petrel_bus::calls::{CallError, Link, PersistCall};
use petrel_protocol::calls::{Lease, delivery::What};
use petrel_protocol::codes::Code;
use petrel_protocol::ids::{Device, UserId};
use petrel_protocol::limits;
use petrel_protocol::token::{Keys, Kind};
use petrel_router::{Config, PasswordCost, Router, StartError};
use serde_json::{Value, json};
use support::{SOON, World, address, lease};

/// An answer, as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| *n == name));
        line.map(|(_, value)| value)
    }

    /// Asserts a refusal with this status and code; its details.
    fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.json();
        assert_eq!((self.status, problem["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem["status"], status);
        assert!(
            !problem["detail"].as_str().unwrap().is_empty() && !problem["title"].as_str().unwrap().is_empty()
        );
        problem
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Reads one answer; none where the connection ends without one.
fn read(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        let mut some = [0; 1024];
        match stream.read(&mut some) {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend(&some[..n]),
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: String::new() };
    let length: usize = answer.header("content-length").map_or(0, |l| l.parse().unwrap());
    let mut body = bytes[head_end..].to_vec();
    let have = body.len();
    body.resize(length, 0);
    stream.read_exact(&mut body[have..]).unwrap();
    answer.body = String::from_utf8(body).unwrap();
    Some(answer)
}

fn send(addr: SocketAddr, request: &str) -> Answer {
    let mut stream = connect(addr);
    stream.write_all(request.as_bytes()).unwrap();
    read(&mut stream).expect("an answer")
}

fn get(addr: SocketAddr, path: &str) -> Answer {
    send(addr, &format!("GET {path} HTTP/1.1\r\nhost: petrel\r\n\r\n"))
}

fn post_text(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: petrel\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

const JSON: &str = "content-type: application/json\r\n";

fn post(addr: SocketAddr, path: &str, body: &Value) -> Answer {
    send(addr, &post_text(path, JSON, &body.to_string()))
}

fn register(addr: SocketAddr, username: &str) -> u64 {
    let answer = post(addr, "/api/v1/register", &json!({ "username": username, "password": "secret" }));
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["user_id"].as_str().expect("ids are decimal strings").parse().unwrap()
}

fn try_login(addr: SocketAddr, username: &str, password: &str) -> Answer {
    let body = json!({ "username": username, "password": password, "device_type": 4 });
    post(addr, "/api/v1/login", &body)
}

fn login(addr: SocketAddr, username: &str) -> Value {
    let answer = try_login(addr, username, "secret");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn refresh(addr: SocketAddr, token: &Value) -> Answer {
    post(addr, "/api/v1/refresh", &json!({ "refresh_token": token }))
}

fn logout(addr: SocketAddr, token: &str) -> Answer {
    send(addr, &post_text("/api/v1/logout", &format!("authorization: Bearer {token}\r\n"), ""))
}

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
