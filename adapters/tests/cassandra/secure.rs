//! Secure: a server that requires a login, encryption, and a certificate of its clients.

use std::process::Command;

use crate::cassandra::{on, told};
use crate::support::proxy::Proxy;
use crate::support::scene::Scene;

/// What a server's first user is called, and its secret.
const USER: &str = "cassandra";
const SECRET: &str = "cassandra";
const WRONG: &str = "0pen-sesame";

/// All that is needed.
fn settings() -> Vec<(String, String)> {
    let mut settings = on(&[told("TIDEGATE_TEST_CQL_SECURE")]);
    let ca = told("TIDEGATE_TEST_CQL_CA");
    let (shown, key) = (told("TIDEGATE_TEST_CQL_CERT"), told("TIDEGATE_TEST_CQL_KEY"));
    let secure = [
        ("PROXY_DATABASE_USERNAME", USER),
        ("PROXY_DATABASE_SECRET", SECRET),
        ("PROXY_DATABASE_SSL", "true"),
        ("TIDEGATE_DATABASE_CA", &ca),
        ("TIDEGATE_DATABASE_CERT", &shown),
        ("TIDEGATE_DATABASE_KEY", &key),
    ];
    settings.extend(secure.map(|(name, value)| (name.to_owned(), value.to_owned())));
    settings
}

/// With one of the settings another one, or without it.
fn but(name: &str, value: Option<&str>) -> Vec<(String, String)> {
    let mut settings = settings();
    settings.retain(|(known, _)| known != name);
    settings.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    settings
}

/// Starts, calls, and finds everything again after a kill.
async fn works(settings: Vec<(String, String)>) {
    Scene::new(settings).killed_again_and_again(1).await;
}

/// Does not start; what it says instead.
async fn refuses(settings: Vec<(String, String)>) -> String {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let (code, said) = Proxy::refused(&settings).await;
    assert!(code.is_some_and(|code| code != 0), "it ends with {code:?}: {said}");
    let told = said.lines().find(|line| line.starts_with("tidegate: "));
    told.unwrap_or_else(|| panic!("no reason is given: {said}"));
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_user_authority_and_certificate_are_all_it_takes() {
    works(settings()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_that_the_server_trusts_it_says_so() {
    let mut without = but("TIDEGATE_DATABASE_CERT", None);
    without.retain(|(name, _)| name != "TIDEGATE_DATABASE_KEY");
    let said = refuses(without).await;
    assert!(said.contains("TIDEGATE_DATABASE_CERT"), "{said}");

    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name).to_str().expect("a readable path").to_owned();
    let (shown, key) = (at("cert.pem"), at("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]);
    openssl.args(["-subj", "/CN=stranger", "-keyout", &key, "-out", &shown]);
    assert!(openssl.output().expect("it is installed").status.success());
    let mut stranger = but("TIDEGATE_DATABASE_CERT", Some(&shown));
    stranger.retain(|(name, _)| name != "TIDEGATE_DATABASE_KEY");
    stranger.push(("TIDEGATE_DATABASE_KEY".into(), key));
    let said = refuses(stranger).await;
    assert!(said.contains("TIDEGATE_DATABASE_CERT"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_is_told_and_not_shown() {
    let said = refuses(but("PROXY_DATABASE_SECRET", Some(WRONG))).await;
    assert!(!said.contains(WRONG), "{said}");
    let hints = ["secret", "credentials", "authentication", "password"];
    assert!(hints.iter().any(|hint| said.to_lowercase().contains(hint)), "{said}");
    refuses(but("PROXY_DATABASE_USERNAME", None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_not_trusted_without_the_authority_that_signed_for_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let stranger = directory.path().join("stranger.pem");
    let store = directory.path().join("stranger.p12");
    let keytool = |arguments: &[&str]| {
        let mut keytool = Command::new("keytool");
        keytool.args(arguments).args(["-alias", "stranger", "-storepass", "tidegate"]);
        let output = keytool.arg("-keystore").arg(&store).output().expect("it is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).expect("text")
    };
    keytool(&["-genkeypair", "-keyalg", "EC", "-dname", "CN=stranger", "-ext", "bc:c"]);
    std::fs::write(&stranger, keytool(&["-exportcert", "-rfc"])).expect("written");
    for untrusted in [Some(stranger.to_str().expect("a readable path")), None] {
        let said = refuses(but("TIDEGATE_DATABASE_CA", untrusted)).await;
        assert!(said.to_lowercase().contains("certificate"), "{said}");
    }
    refuses(but("PROXY_DATABASE_SSL", None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_verification_any_server_is_believed() {
    let mut settings = but("TIDEGATE_DATABASE_CA", None);
    settings.push(("PROXY_DATABASE_SSL_VERIFY".into(), "false".into()));
    works(settings).await;
}
