//! Secrets in files: read, used, and never shown.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use support::client::Client;
use support::proxy::{BINARY, Proxy};
use support::tool::run;
use tokio::process::Command;

const SECRETS: [(&str, &str); 4] = [
    ("TIDEGATE_ADMIN_TOKEN", "hush-hush-token"),
    ("PROXY_DATABASE_SECRET", "hush-hush-password"),
    ("SPAWN_STATESTORE_KEY", "aHVzaGh1c2hodXNoaHVzaGh1c2hodXNoaHVzaGh1c2g="),
    ("TIDEGATE_STATESTORE_OLD_KEYS", "aGlzc2hpc3NoaXNzaGlzc2hpc3NoaXNzaGlzc2hpc3M="),
];

#[tokio::test]
async fn every_secret_may_be_in_a_file_and_none_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    for (name, secret) in SECRETS {
        let (file, setting) = (directory.path().join(name), format!("{name}_FILE"));
        let path = file.to_str().unwrap().to_owned();
        std::fs::write(&file, format!("{secret}\n")).unwrap();
        let shown = run(&["config"], &[(&setting, &path)]).await.said();
        assert!(shown.contains(&format!("{name} = (set, masked)    # {path}")), "{shown}");
        assert!(!shown.contains(secret), "{shown}");
        for (given, told) in [
            (vec![(setting.as_str(), path.as_str()), (name, secret)], "is given too"),
            (vec![(setting.as_str(), "/nowhere/at/all")], "No such file"),
            (vec![(setting.as_str(), "/dev/null")], "is empty"),
        ] {
            let said = run(&["config"], &given).await.refused(64);
            assert!(said.contains(&setting) && said.contains(told), "{said}");
            assert!(!said.contains(secret), "{said}");
        }
    }
}

#[tokio::test]
async fn a_token_in_a_file_is_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "open sesame\r\n").unwrap();
    let settings =
        [("PROXY_DATABASE_TYPE", "memory"), ("TIDEGATE_ADMIN_TOKEN_FILE", file.to_str().unwrap())];
    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    for (token, status) in [("open sesame", 404), ("open sesam", 403), ("open sesame!", 403)] {
        let request = hyper::Request::delete("/api/v1/system/s/actors/nobody")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {token}"))
            .body(http_body_util::Full::default());
        assert_eq!(client.send(request.unwrap()).await.unwrap().status, status, "{token}");
    }
}

#[tokio::test]
async fn the_configuration_says_who_is_trusted() {
    let none: [(&str, &str); 0] = [];
    let shown = run(&["config"], &none).await.said();
    assert!(
        shown.contains("clients over loopback, clients of the Unix socket may register"),
        "{shown}"
    );
    assert!(
        shown.contains("clients of this machine, until TIDEGATE_ADMIN_TOKEN is set"),
        "{shown}"
    );
    let settings = [
        ("TIDEGATE_TRUST_LOOPBACK", "false"),
        ("TIDEGATE_TRUSTED_PEERS", "10.1.0.0/16"),
        ("USER_FUNCTION_HOST", "actors"),
        ("TIDEGATE_ADMIN_TOKEN", "hush"),
    ];
    let shown = run(&["config"], &settings).await.said();
    let told = "clients of the Unix socket, the machine actors (USER_FUNCTION_HOST), \
                10.1.0.0/16 (TIDEGATE_TRUSTED_PEERS), holders of TIDEGATE_ADMIN_TOKEN may register";
    assert!(shown.contains(told), "{shown}");
    assert!(shown.contains("only holders of TIDEGATE_ADMIN_TOKEN may delete"), "{shown}");

    let certificates = [
        ("TIDEGATE_TLS_CERT", "server.pem"),
        ("TIDEGATE_TLS_KEY", "server.key"),
        ("TIDEGATE_TLS_CLIENT_CA", "ca.pem"),
        ("TIDEGATE_POLICIES_DIR", "rules"),
    ];
    let shown = run(&["config"], &certificates).await.said();
    let told = "whoever shows a client certificate (TIDEGATE_TLS_CLIENT_CA) may invoke and read current states \
                where the policies in rules allow it;";
    assert!(shown.contains(told), "{shown}");
    // The default directory counts when it is there.
    let directory = tempfile::tempdir().unwrap();
    for (is_there, told) in [
        (false, "whoever reaches the proxy may invoke and read current states;"),
        (true, "may invoke and read current states where the policies in policies allow it;"),
    ] {
        if is_there {
            std::fs::create_dir(directory.path().join("policies")).unwrap();
        }
        let mut command = Command::new(BINARY);
        command.arg("config").env_clear().current_dir(directory.path());
        let shown = command.output().await.unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout);
        assert!(shown.contains(told), "{shown}");
    }
    let passwords = [
        ("TIDEGATE_TLS_CLIENT_AUTH", "optional"),
        ("TIDEGATE_USERS", "users"),
        ("TIDEGATE_AUTHENTICATION", "always"),
    ];
    let shown = run(&["config"], &[&certificates[..3], &passwords].concat()).await.said();
    let told = "whoever shows a token or password (TIDEGATE_AUTHENTICATION) may invoke and read current states;";
    assert!(shown.contains(told), "{shown}");
}
