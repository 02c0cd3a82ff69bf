//! Black-box tests of the built binary's ingress.

#![allow(clippy::unwrap_used, reason = "it is test code")]

mod raw;
#[path = "ingress/settings.rs"]
mod settings;
#[path = "ingress/unix.rs"]
mod unix;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use raw::{HANG, Proxy, is_closed_in_time, read_response, tidegate};
use rustix::process::Signal;

const INVOKE: &str = "/api/v1/system/s/actors/a/invoke";

fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    tidegate().args(arguments).envs(settings.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_connection_serves_many_requests_and_every_answer_has_a_length() {
    let proxy = Proxy::start(&[]);
    let mut stream = proxy.connect();
    for _ in 0..3 {
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let response = read_response(&mut stream, false).unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, r#"{"status":"up"}"#));
        stream
            .write_all(
                format!("POST {INVOKE} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
                    .as_bytes(),
            )
            .unwrap();
        let response = read_response(&mut stream, false).unwrap();
        assert_eq!(response.status, 400);
        assert!(response.text().contains("InvocationRequest.system is missing"), "{response:?}");
        assert!(
            response.head.contains("content-type: application/octet-stream; charset=utf-8\r\n")
        );
    }
    let metrics = proxy.get("/metrics").text();
    assert!(
        metrics.contains(r#"tidegate_http_requests_total{route="invoke",status="400"} 3"#),
        "{metrics}"
    );
}

#[test]
fn http2_without_tls_is_spoken_on_the_same_port_and_head_has_no_body() {
    let proxy = Proxy::start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(&proxy.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(
            hyper_util::rt::TokioExecutor::new(),
            hyper_util::rt::TokioIo::new(stream),
        )
        .await
        .unwrap();
        let asking = async {
            let uri = format!("http://{}/health", proxy.address);
            for method in ["GET", "HEAD"] {
                let body = http_body_util::Empty::<bytes::Bytes>::new();
                let request = http::Request::builder().method(method).uri(&uri).body(body);
                let response = sender.send_request(request.unwrap()).await.unwrap();
                assert_eq!(
                    (response.status().as_u16(), response.version()),
                    (200, http::Version::HTTP_2)
                );
                assert_eq!(response.headers()["content-length"], "15", "{method}");
                let has_ended = hyper::body::Body::is_end_stream(response.body());
                assert_eq!(has_ended, method == "HEAD");
            }
        };
        tokio::select! {
            () = asking => {}
            ended = connection => panic!("the connection ended: {ended:?}"),
        }
    });
}

#[test]
fn slow_heads_slow_bodies_and_idle_connections_are_ended() {
    let proxy = Proxy::start(&[
        ("TIDEGATE_HTTP_HEAD_TIMEOUT", "200ms"),
        ("TIDEGATE_HTTP_BODY_TIMEOUT", "200ms"),
        ("TIDEGATE_HTTP_IDLE_TIMEOUT", "400ms"),
    ]);
    assert!(is_closed_in_time(&mut proxy.connect()), "a connection without a request");
    let mut head = proxy.connect();
    head.write_all(b"POST /api/v1/system HTTP/1.1\r\nhost: localhost\r\n").unwrap();
    assert!(is_closed_in_time(&mut head), "half a head");
    let slow =
        format!("POST {INVOKE} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nhalf");
    let response = proxy.ask(slow.as_bytes());
    assert_eq!(response.status, 408, "half a body");
    assert!(response.text().contains("did not arrive within 200ms"), "{response:?}");
    let mut chunked = proxy.connect();
    let head = format!(
        "POST {INVOKE} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel"
    );
    chunked.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_response(&mut chunked, false).unwrap().status, 408, "half a chunk");
    assert!(is_closed_in_time(&mut chunked), "nothing more can be read from it");
}

#[test]
fn a_body_above_the_limit_is_refused_however_it_is_sent() {
    let proxy = Proxy::start(&[("TIDEGATE_HTTP_BODY_BYTES", "1 MiB")]);
    let body = vec![0; 2 << 20];
    let announced = format!(
        "POST {INVOKE} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut chunked = format!(
        "POST {INVOKE} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
        body.len()
    )
    .into_bytes();
    chunked.extend_from_slice(&body);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    for request in [[announced.as_bytes(), &body].concat(), chunked] {
        let response = proxy.ask(&request);
        assert_eq!(response.status, 413);
        assert!(response.text().contains("larger than 1048576 bytes"), "{response:?}");
    }
    // A client that asks first is told before it sends anything.
    let expecting = format!(
        "POST {INVOKE} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 9999999\r\n\r\n"
    );
    let mut stream = proxy.connect();
    stream.write_all(expecting.as_bytes()).unwrap();
    raw::half_close(&stream);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 413 "), "{answer}");
}

#[test]
fn at_the_bound_of_connections_a_new_one_waits_for_a_place() {
    let proxy = Proxy::start(&[("TIDEGATE_HTTP_CONNECTIONS", "1")]);
    let mut first = proxy.connect();
    first.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    read_response(&mut first, false).unwrap();
    let mut second = proxy.connect();
    second.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    second.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    assert_eq!(second.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    second.set_read_timeout(Some(HANG)).unwrap();
    assert_eq!(read_response(&mut second, false).unwrap().status, 200);
}

#[test]
fn a_unix_socket_serves_like_tcp_and_its_file_comes_and_goes_with_the_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spawn.sock");
    // A file left behind by a process that was killed.
    drop(UnixListener::bind(&path).unwrap());
    let settings = [
        ("PROXY_UDS_ENABLED", "true"),
        ("PROXY_UDS_ADDRESS", path.to_str().unwrap()),
        ("TIDEGATE_DRAIN_DELAY", "0"),
    ];
    let mut proxy = Proxy::start(&settings);
    assert_eq!(proxy.address, format!("unix:{}", path.display()));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream
        .write_all(
            format!("POST {INVOKE} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
                .as_bytes(),
        )
        .unwrap();
    assert_eq!(read_response(&mut stream, false).unwrap().status, 400);
    let second = run(&["serve"], &settings);
    assert_eq!(second.status.code(), Some(69), "somebody listens, so the file is not removed");
    assert!(text(&second.stderr).contains("PROXY_UDS_ADDRESS"), "{}", text(&second.stderr));
    let deleted = run(&["delete", "s/no body"], &settings);
    assert!(
        text(&deleted.stderr).contains("HTTP 404: Actor no body not found on ActorSystem s"),
        "{deleted:?}"
    );
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
    assert!(!path.exists());
}

/// Runs `tidegate serve`, which has to refuse to start: one that listens is stopped, and the test fails.
fn refused(settings: &[(&str, &str)]) -> Output {
    let mut child = tidegate().arg("serve").envs(settings.iter().copied()).spawn().unwrap();
    let mut told = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut told).unwrap();
    if !told.is_empty() {
        child.kill().unwrap();
    }
    let ended = child.wait_with_output().unwrap();
    assert_eq!(told, "", "it started: {}", text(&ended.stderr));
    ended
}

#[test]
fn a_port_in_use_is_named_with_its_setting() {
    let proxy = Proxy::start(&[]);
    let port = proxy.address.rsplit(':').next().unwrap();
    let second = run(&["serve"], &[("PROXY_HTTP_PORT", port)]);
    assert_eq!(second.status.code(), Some(69));
    let told = text(&second.stderr);
    assert!(told.contains(port) && told.contains("PROXY_HTTP_PORT"), "{told}");
}

#[test]
fn wrong_settings_end_the_start_with_all_of_them_named() {
    let wrong = [
        ("PROXY_HTTP_PORT", "http"),
        ("TIDEGATE_DURABILTY", "x"),
        ("PROXY_DATABASE_TYPE", "mariadb"),
    ];
    for command in ["serve", "config"] {
        let ended = run(&[command], &wrong);
        assert_eq!(ended.status.code(), Some(64));
        for (name, _) in wrong {
            assert!(text(&ended.stderr).contains(name), "{}", text(&ended.stderr));
        }
    }
}

#[test]
fn a_signal_ends_readiness_first_and_the_process_with_success() {
    let mut proxy = Proxy::start(&[("TIDEGATE_DRAIN_DELAY", "2s")]);
    let mut kept = proxy.connect();
    assert_eq!(proxy.get("/health/readiness").status, 200);
    proxy.signal(Signal::TERM);
    // The signal is on its way; readiness says no as soon as it has arrived.
    while proxy.get("/health/readiness").status == 200 {
        std::thread::yield_now();
    }
    assert_eq!(proxy.get("/health/liveness").status, 200, "still served");
    assert!(proxy.wait().success());
    assert!(is_closed_in_time(&mut kept), "a kept connection is closed");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "it has no runtime, and waits for another process")]
fn health_is_answered_while_the_store_opens() {
    // A database that takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = tidegate();
    command.arg("serve").envs([
        ("PROXY_HTTP_PORT", port.to_string().as_str()),
        ("TIDEGATE_HTTP_ADDRESS", "127.0.0.1"),
        ("PROXY_DATABASE_TYPE", "scylla"),
        ("PROXY_DATABASE_HOST", &silent.local_addr().unwrap().to_string()),
    ]);
    let mut child = Killed(command.spawn().unwrap());
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(HANG)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").ok()?;
        let response = read_response(&mut stream, false).unwrap();
        Some((response.status, response.text()))
    };
    let until = Instant::now() + HANG;
    let ready = loop {
        if let Some(ready) = ask("/health/readiness?verbose") {
            break ready;
        }
        assert!(Instant::now() < until && child.0.try_wait().unwrap().is_none(), "it listens");
        sleep(Duration::from_millis(10));
    };
    let opening = r#"{"status":"down","phase":"opening","store":"opening","policies":"ok"}"#;
    assert_eq!(ready, (503, opening.into()));
    assert_eq!(ask("/health/liveness").unwrap(), (200, r#"{"status":"up"}"#.into()));
    let (status, text) = ask("/api/v1/system/s/actors/a").unwrap();
    assert!(status == 503 && text.contains("opening its store"), "{status} {text}");
    assert_eq!(child.0.wait().unwrap().code(), Some(69), "the database cannot be used");
}

/// A child that is killed when the test ends first.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Refused when it has ended: nothing is left to kill.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut proxy =
        Proxy::start(&[("TIDEGATE_DRAIN_DELAY", "10m"), ("TIDEGATE_DRAIN_TIMEOUT", "10m")]);
    proxy.signal(Signal::INT);
    while proxy.get("/health/readiness").status == 200 {
        std::thread::yield_now();
    }
    proxy.signal(Signal::INT);
    assert!(proxy.wait().success());
}
