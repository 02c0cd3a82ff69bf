//! Secret: reads the files that hold a secret.

use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use super::sources::Source;
use super::table::TABLE;
use super::value::Kind;
use super::{Config, Mistake, Mistakes};

/// What follows the name of a secret setting in the name of the setting that names its file.
const FILE: &str = "_FILE";
/// Largest file of a secret, in bytes.
const FILE_BYTES: u64 = 64 << 10;

impl Config {
    /// Reads the secrets that settings name files for.
    ///
    /// # Errors
    /// When a file cannot be read or holds no such secret, or the secret is given too.
    pub(super) fn read_secret_files(mut self) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let is_secret = |kind| matches!(kind, Kind::Secret | Kind::SecretForm(..));
        for setting in TABLE.iter().filter(|setting| is_secret(setting.kind)) {
            let name = format!("{}{FILE}", setting.name);
            let Some(path) = self.get(&name).value.as_ref().map(ToString::to_string) else {
                continue;
            };
            let source = Source::File(path.clone().into());
            let value = if self.get(setting.name).value.is_some() {
                Err(format!("{} is given too: one of them is enough", setting.name))
            } else {
                contents(Path::new(&path)).and_then(|text| setting.kind.parse(&text))
            };
            match value {
                Ok(value) => {
                    let effective = super::Effective { value: Some(value), source };
                    self.values.insert(setting.name, effective);
                }
                Err(text) => {
                    let setting = format!("{name} ({})", self.get(&name).source);
                    mistakes.push(Mistake { setting, text: format!("{path}: {text}") });
                }
            }
        }
        if mistakes.is_empty() { Ok(self) } else { Err(Mistakes(mistakes)) }
    }
}

/// What a file holds, without the line end that editors add.
fn contents(path: &Path) -> Result<Zeroizing<String>, String> {
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(FILE_BYTES + 1).read_to_string(&mut text);
    let read = read.map_err(|error| error.to_string())?;
    if read as u64 > FILE_BYTES {
        return Err(format!("is larger than {FILE_BYTES} bytes"));
    }
    let line = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(line);
    if text.is_empty() { Err("is empty".into()) } else { Ok(text) }
}
