//! A request that its head condemns is refused before its body is read (decision 39).

#![allow(clippy::unwrap_used, reason = "it is test code")]

mod raw;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::spawn;

use raw::{Proxy, is_closed_in_time, read_response};

const INVOKE: &str = "/api/v1/system/s/actors/a/invoke";
/// Longer than a test may take: what happens in time happens for another reason.
const NEVER: &str = "10m";

fn proxy() -> Proxy {
    Proxy::start(&[
        ("TIDEGATE_HTTP_BODY_TIMEOUT", NEVER),
        ("TIDEGATE_HTTP_HEAD_TIMEOUT", NEVER),
        ("TIDEGATE_HTTP_IDLE_TIMEOUT", NEVER),
        ("TIDEGATE_HTTP_BODY_BYTES", "2 MiB"),
    ])
}

/// Heads, each with the status that it is refused with.
fn condemned() -> Vec<(String, u16)> {
    let head =
        |start: &str, rest: &str| format!("{start} HTTP/1.1\r\nhost: localhost\r\n{rest}\r\n");
    let post = format!("POST {INVOKE}");
    let long = "x".repeat(600);
    let (system, json) =
        ("/api/v1/system", "content-length: 10\r\ncontent-type: application/json\r\n");
    let mut condemned = vec![
        (head("POST /nothing", "content-length: 1000\r\n"), 404),
        (head(&format!("PUT {INVOKE}"), "content-length: 1000\r\n"), 405),
        (head(&post, "content-length: 1000\r\ncontent-type: text/html\r\n"), 415),
        (head(&post, "content-length: 9000000\r\n"), 413),
        (head(&format!("POST {system}/s/channels/{long}"), "content-length: 10\r\n"), 400),
    ];
    // In JSON the path names what is called.
    for path in [
        format!("POST {system}/{long}/actors/spawn"),
        format!("POST {system}/{long}/channels/news"),
        format!("POST {system}/{long}/schedules"),
        format!("PUT {system}/s/schedules/a%0ab"),
        format!("POST {system}/{long}/actors/a/invoke"),
        format!("POST {system}/s/actors/{long}/invoke"),
        format!("POST {system}/s/actors/a%0ab/invoke"),
        format!("POST {system}/s/actors/a%ff/invoke"),
    ] {
        condemned.push((head(&path, json), 400));
    }
    condemned
}

#[test]
fn a_head_that_condemns_is_answered_although_the_body_never_comes() {
    let proxy = proxy();
    for (head, status) in condemned() {
        let mut stream = proxy.connect();
        stream.write_all(head.as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream, false).unwrap().status, status, "{head}");
        assert!(
            is_closed_in_time(&mut stream),
            "what is left of the body is not waited for: {head}"
        );
    }
}

#[test]
fn a_client_that_asks_before_it_sends_is_answered_by_the_refusal() {
    let proxy = proxy();
    for (head, status) in condemned() {
        let mut stream = proxy.connect();
        stream
            .write_all(head.replace("localhost", "localhost\r\nexpect: 100-continue").as_bytes())
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}{answer}");
    }
    let mut stream = proxy.connect();
    let right = format!(
        "POST {INVOKE} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    );
    stream.write_all(right.as_bytes()).unwrap();
    let mut told = [0; 25];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n", "nothing condemns it");
}

#[test]
fn a_refused_upload_that_goes_on_is_cut_off_when_its_client_had_time_to_read() {
    let proxy = proxy();
    let mut stream = proxy.connect();
    let head =
        format!("POST {INVOKE} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut uploading: TcpStream = stream.try_clone().unwrap();
    let upload = spawn(move || {
        let chunk = [b"10000\r\n", &vec![0_u8; 0x1_0000][..], b"\r\n"].concat();
        while uploading.write_all(&chunk).is_ok() {}
    });
    // It is too large as soon as enough has come.
    let response = read_response(&mut stream, false).unwrap();
    assert!([413, 503].contains(&response.status), "{response:?}");
    upload.join().unwrap();
}

#[test]
fn a_client_of_the_admin_port_that_sends_all_of_a_refused_upload_first_gets_its_answer() {
    let proxy = Proxy::start_at_admin(&[("TIDEGATE_ADMIN_TOKEN", "open sesame")]);
    let upload = vec![0; 6 << 20];
    let known = "authorization: Bearer open sesame\r\n";
    for (path, headers, status) in [
        (INVOKE, "", 403),
        ("/admin/hot", "", 403),
        ("/admin/hot", known, 405),
        ("/nothing", known, 404),
    ] {
        let mut stream = proxy.connect();
        let length = upload.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&upload).unwrap();
        assert_eq!(read_response(&mut stream, false).unwrap().status, status, "{path}");
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        assert_eq!(read_response(&mut stream, false).unwrap().status, 200, "{path}: it serves on");
    }
}

#[test]
fn a_refused_request_whose_body_is_on_its_way_keeps_its_connection() {
    let proxy = proxy();
    let mut stream = proxy.connect();
    for _ in 0..3 {
        stream
            .write_all(b"POST /nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\n")
            .unwrap();
        assert_eq!(read_response(&mut stream, false).unwrap().status, 404);
        stream.write_all(b"body").unwrap();
    }
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream, false).unwrap().status, 200);
}
