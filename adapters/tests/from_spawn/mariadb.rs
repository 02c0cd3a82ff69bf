//! A MariaDB server of its own, on a Unix socket only, with the table of Spawn.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How long a step may take.
const LIMIT: Duration = Duration::from_mins(2);

/// The migration of Spawn 1.3.
const TABLE: &str = "CREATE DATABASE spawn; USE spawn;
    CREATE TABLE IF NOT EXISTS snapshots (
        id BIGINT PRIMARY KEY, actor TEXT, system TEXT, status TEXT, node TEXT, revision BIGINT DEFAULT 0,
        tags JSON, data_type TEXT NOT NULL, data LONGBLOB, inserted_at TIMESTAMP, updated_at TIMESTAMP
    ) WITH SYSTEM VERSIONING;
    CREATE INDEX snapshots_status_index ON snapshots (status);";

/// A running server. Dropping it kills it.
pub(crate) struct MariaDb {
    _server: Child,
    dir: TempDir,
}

impl MariaDb {
    /// Starts an empty server and makes the table.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        // A server that starts removes the temporary tables of every other one in the same directory.
        let temporary = dir.path().join("temporary");
        std::fs::create_dir(&temporary).unwrap();
        let mut install = Command::new("mariadb-install-db");
        install.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
        install.env("TMPDIR", &temporary);
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        let installed = timeout(LIMIT, as_root(&mut install).output()).await.expect("it hangs");
        let installed =
            installed.expect("mariadb-install-db is needed: install mariadb-server-core");
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));

        let mut server = Command::new("mariadbd");
        server.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
        server.arg(format!("--socket={}", dir.path().join("socket").display()));
        server.env("TMPDIR", &temporary);
        server.args(["--skip-networking", "--character-set-server=latin1"]);
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        server.stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let server = as_root(&mut server).spawn();
        let server = server.expect("mariadbd is needed: install mariadb-server-core");
        let mariadb = Self { _server: server, dir };
        let up = async {
            while mariadb.client(&[], "SELECT 1").await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(LIMIT, up).await.expect("the server answers within its limit");
        mariadb.client(&[], TABLE).await.unwrap();
        mariadb
    }

    /// Writes a row as Spawn does: inserts it, or updates it under its id.
    pub(crate) async fn save(&self, row: &Row<'_>) {
        let Row { id, actor, status, revision, tags, type_url, data } = row;
        let set = format!(
            "system = 'counting', actor = '{actor}', status = '{status}', node = 'spawn@10.0.0.7', revision = {revision}, \
             tags = '{tags}', data_type = '{type_url}', data = X'{data}', updated_at = '2026-01-31 12:00:{revision:02}'"
        );
        let statement = format!(
            "SET NAMES utf8mb4; USE spawn; INSERT INTO snapshots SET id = {id}, {set}, inserted_at = '2026-01-31 11:00:00' \
             ON DUPLICATE KEY UPDATE {set};"
        );
        self.client(&[], &statement).await.unwrap();
    }

    /// Runs statements with the client; returns what it printed, or what it said of its failure.
    pub(crate) async fn client(&self, args: &[&str], statements: &str) -> Result<String, String> {
        let mut client = Command::new("mariadb");
        client.arg("--no-defaults").arg(format!("--socket={}", self.socket().display()));
        client.args(args).arg("--user=root");
        pipe(client, statements).await
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }
}

/// A version of a state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) id: u32,
    pub(crate) actor: &'a str,
    pub(crate) status: &'a str,
    pub(crate) revision: u64,
    pub(crate) tags: &'a str,
    pub(crate) type_url: &'a str,
    /// The sealed value, in hex.
    pub(crate) data: &'a str,
}

/// A server that root starts has to be told so.
fn as_root(command: &mut Command) -> &mut Command {
    if rustix::process::geteuid().is_root() { command.arg("--user=root") } else { command }
}

/// Runs a command with this input; returns what it printed, or what it said of its failure.
pub(crate) async fn pipe(mut command: Command, input: &str) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let program = command.as_std().get_program().to_owned();
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("{} is needed: {error}", program.display()));
    let mut stdin = child.stdin.take().unwrap();
    let (written, output) = timeout(LIMIT, async {
        tokio::join!(
            async move { stdin.write_all(input.as_bytes()).await.and(stdin.shutdown().await) },
            child.wait_with_output()
        )
    })
    .await
    .expect("it ends within its limit");
    let output = output.unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    written.unwrap();
    Ok(String::from_utf8(output.stdout).unwrap())
}
