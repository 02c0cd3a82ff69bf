//! Faketime: shows a process another wall clock.

use std::process::Command;

/// The library that shows a process another wall clock.
pub(crate) fn library() -> String {
    let mut command = Command::new("faketime");
    let output = command.args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]).output();
    let output = output.expect("faketime is installed");
    String::from_utf8(output.stdout).expect("a path").trim().to_owned()
}

/// Settings under which a process sees this wall clock; its monotonic clock is right.
pub(crate) fn at<'a>(library: &'a str, time: &'a str) -> [(&'a str, &'a str); 3] {
    [("LD_PRELOAD", library), ("FAKETIME", time), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]
}
