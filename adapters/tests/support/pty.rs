//! Pty: the built binary on a terminal, whose screen the test sees.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::num::NonZero;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use vt100::{Parser, Screen};

use super::tool::bare;

const ROWS: NonZero<u16> = NonZero::new(40).unwrap();
const COLUMNS: NonZero<u16> = NonZero::new(100).unwrap();
/// How long it may take until something is on the screen, or the program has ended.
const LIMIT: Duration = Duration::from_mins(2);

/// A program on a terminal; dropping it kills the program.
pub(crate) struct OnTerminal {
    pub(crate) child: Child,
    parser: Parser,
    /// What the program wrote, piece by piece.
    written: mpsc::Receiver<Vec<u8>>,
    _reader: JoinSet<()>,
}

impl OnTerminal {
    /// Starts the binary with these arguments and settings.
    pub(crate) fn start<V: AsRef<OsStr>>(args: &[&str], settings: &[(&str, V)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it may be used");
        let size =
            Winsize { ws_row: ROWS.get(), ws_col: COLUMNS.get(), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("it has a size");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let program_side =
            open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("it opens");
        let child = bare()
            .args(args)
            .env("TERM", "xterm-256color")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(program_side)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let (written_to, written) = mpsc::channel(16);
        let (mut reader, mut master) = (JoinSet::new(), File::from(master));
        reader.spawn_blocking(move || {
            let mut bytes = [0; 4_096];
            // An error says that the program has ended.
            while let Ok(read @ 1..) = master.read(&mut bytes) {
                if written_to.blocking_send(bytes[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, parser: Parser::new(ROWS, COLUMNS, 0), written, _reader: reader }
    }

    pub(crate) fn screen(&self) -> &Screen {
        self.parser.screen()
    }

    /// Waits until the screen changes; whether it did before the program ended.
    pub(crate) async fn changed(&mut self) -> bool {
        let written = timeout(LIMIT, self.written.recv()).await.expect("it is silent");
        written.is_some_and(|bytes| {
            self.parser.process(&bytes);
            true
        })
    }

    /// The exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        timeout(LIMIT, self.child.wait()).await.expect("it goes on").expect("a status").code()
    }
}
