//! Address: where this proxy is, for people and other proxies on the same database.

use std::fs;

/// The kernel's name of this machine, or of its container.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Returns an address that names the machine too if the URL of the ingress does not.
pub(super) fn of(url: &str) -> String {
    let name = fs::read_to_string(HOST_NAME).unwrap_or_default();
    with_name(url, name.trim())
}

fn with_name(url: &str, machine: &str) -> String {
    let everywhere = ["//0.0.0.0:", "//[::]:"].into_iter().find(|all| url.contains(all));
    let is_local = ["//127.", "//[::1]", "unix:"].into_iter().any(|local| url.contains(local));
    match everywhere {
        _ if machine.is_empty() => url.to_owned(),
        Some(everywhere) => url.replacen(everywhere, &format!("//{machine}:"), 1),
        None if is_local => format!("{url} on {machine}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_the_machine() {
        for (url, told) in [
            ("http://0.0.0.0:9001", "http://m:9001"),
            ("https://[::]:9001", "https://m:9001"),
            ("http://127.0.0.1:9001", "http://127.0.0.1:9001 on m"),
            ("unix:/run/tidegate.sock", "unix:/run/tidegate.sock on m"),
            ("http://10.0.0.7:9001", "http://10.0.0.7:9001"),
        ] {
            assert_eq!(with_name(url, "m"), told);
        }
        assert_eq!(with_name("http://0.0.0.0:1", ""), "http://0.0.0.0:1");
    }
}
