//! A certificate authority of the tests, and the programs that speak TLS to the proxy.

#![allow(clippy::unwrap_used, reason = "it is test code")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tidegate::clock::SystemClock;
use tidegate_stages::ports::Clock;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(30);

/// An authority; its files are in a directory.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: PathBuf,
    /// Its own certificate.
    pub(crate) root: String,
}

/// The paths of a certificate and its key.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Issued {
    /// The arguments with which curl shows it.
    pub(crate) fn shown(&self) -> [&str; 4] {
        ["--cert", &self.certificate, "--key", &self.key]
    }
}

impl Authority {
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let mut params = params(name, 365);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root =
            write(directory, &format!("{name}.pem"), &params.self_signed(&key).unwrap().pem());
        Self { issuer: Issuer::new(params, key), directory: directory.into(), root }
    }

    /// A certificate for `localhost` and 127.0.0.1, which ends in so many days; with a negative number, it has ended.
    pub(crate) fn server(&self, file: &str, days: i64) -> Issued {
        self.issue(file, "localhost", &["localhost", "127.0.0.1"], days)
    }

    /// A certificate of a client of this name.
    pub(crate) fn client(&self, name: &str, days: i64) -> Issued {
        self.issue(name, name, &[], days)
    }

    pub(crate) fn issue(&self, file: &str, common: &str, names: &[&str], days: i64) -> Issued {
        let mut params = params(common, days);
        let names =
            CertificateParams::new(names.iter().copied().map(String::from).collect::<Vec<_>>());
        params.subject_alt_names = names.unwrap().subject_alt_names;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued {
            certificate: write(&self.directory, &format!("{file}.pem"), &certificate),
            key: write(&self.directory, &format!("{file}.key"), &key.serialize_pem()),
        }
    }
}

fn params(common: &str, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common);
    let now = SystemClock.now().0 / 1_000_000;
    let day = 24 * 60 * 60;
    let at = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = at(now - 30 * day);
    params.not_after = at(now.checked_add_signed(days * i64::try_from(day).unwrap()).unwrap());
    params
}

fn write(directory: &Path, file: &str, text: &str) -> String {
    let path = directory.join(file);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().into()
}

/// What a program printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs curl.
pub(crate) async fn curl(args: &[&str]) -> Printed {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*"]).args(args);
    printed(command, "").await
}

/// Runs `openssl s_client`, which sends `request` after its handshake.
pub(crate) async fn s_client(address: &str, args: &[&str], request: &str) -> Printed {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", address, "-servername", "localhost"]).args(args);
    printed(command, request).await
}

async fn printed(mut command: Command, input: &str) -> Printed {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("curl and openssl are installed");
    let mut stdin = child.stdin.take().unwrap();
    // A program that has ended reads nothing.
    drop(stdin.write_all(input.as_bytes()).await);
    drop(stdin);
    let output = timeout(LIMIT, child.wait_with_output()).await.expect("it ends in time").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Printed { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
