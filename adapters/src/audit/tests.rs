use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::moment;

fn lines(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An audit in a file, with the thread that writes it.
fn audit(path: &std::path::Path) -> (Audit, std::thread::JoinHandle<()>) {
    let (audit, writer) = Audit::in_file(path.to_owned()).unwrap();
    (audit, std::thread::spawn(|| writer.run()))
}

#[tokio::test]
async fn a_request_is_on_disk_before_it_is_carried_out_and_its_outcome_follows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit");
    let (audit, writer) = audit(&path);
    let entry = audit.begin(&"10.0.0.7", "DELETE /joe").await.unwrap();
    assert_eq!(lines(&path).len(), 1, "nobody waits for the outcome's line");
    entry.end("done");
    drop(audit.begin(&"10.0.0.8", "DELETE /ann").await.unwrap());
    audit.refused(&"10.0.0.9", "DELETE /ben", &"no token").await.unwrap();
    drop(audit);
    writer.join().unwrap();
    let said: Vec<_> = lines(&path)
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            assert!(moment::is_rfc_3339(&text("at")));
            (line["number"].as_u64().unwrap(), text("who"), text("outcome"))
        })
        .collect();
    let gone = "its client has gone before the end, or the request failed by a defect";
    for (line, (number, who, outcome)) in said.iter().zip([
        (1, "10.0.0.7", "begun"),
        (1, "10.0.0.7", "done"),
        (2, "10.0.0.8", "begun"),
        (2, "10.0.0.8", gone),
        (3, "10.0.0.9", "refused: no token"),
    ]) {
        assert_eq!((line.0, line.1.as_str(), line.2.as_str()), (number, who, outcome));
    }
    assert_eq!(said.len(), 5);
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) = (directory.path().join("audit"), directory.path().join("audit.1"));
    let (audit, writer) = audit(&path);
    audit.refused(&"a", "b", &"c").await.unwrap();
    std::fs::rename(&path, &moved).unwrap();
    audit.refused(&"d", "e", &"f").await.unwrap();
    assert_eq!((lines(&path)[0]["who"].as_str(), lines(&moved).len()), (Some("d"), 1));
    drop(audit);
    writer.join().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_line_that_nobody_writes_is_an_error_and_the_next_ones_do_not_pile_up() {
    let directory = tempfile::tempdir().unwrap();
    let (audit, writer) = Audit::in_file(directory.path().join("audit")).unwrap();
    let started = tokio::time::Instant::now();
    for _ in 0..300 {
        assert_eq!(audit.refused(&"a", "b", &"c").await, Err(NotWritten));
    }
    assert_eq!(started.elapsed(), 300 * Duration::from_secs(2));
    assert!(audit.begin(&"a", "b").await.is_err());
    drop(writer);
    let at_once = tokio::time::Instant::now();
    assert_eq!(audit.refused(&"a", "b", &"c").await, Err(NotWritten));
    assert_eq!(at_once.elapsed(), Duration::ZERO);
}

#[test]
fn what_a_client_chooses_makes_no_second_line() {
    let told = file::line(1, "a\nb", "\u{1b}[2J\u{7f}\u{85}\"", "x\r\n");
    assert_eq!(told.chars().filter(|c| c.is_control()).collect::<String>(), "\n");
    let line: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (line["who"].as_str(), line["what"].as_str()),
        (Some("a\nb"), Some("\u{1b}[2J\u{7f}\u{85}\""))
    );
    assert_eq!(cut("ä".repeat(1_000)).chars().count(), 513);
    assert_eq!(escaped("ä\u{7f}\u{9b}2J"), "ä\\u{7f}\\u{9b}2J");
}
