//! Policies: reads the policy files of a directory.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tidegate_stages::access::{CurrentPolicies, Policies, Policy, PolicyError};

use crate::reload::Watched;

/// The end of the name of a policy file.
const EXTENSION: &str = ".policy";
/// Files in the directory at most, whatever they are.
const MAX_ENTRIES: usize = 10_000;
/// Policy files at most: each call is compared with all of them.
const MAX_FILES: usize = 1_000;
/// Size of one file, in bytes.
const MAX_BYTES: u64 = 64 << 10;
/// Size of all files together, in bytes.
const MAX_TOTAL_BYTES: usize = 4 << 20;

/// Where policy files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFolder {
    /// The directory.
    pub path: PathBuf,
    /// Whether somebody named it: then it has to be there.
    pub is_given: bool,
}

/// The files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoliciesError {
    /// A file or the directory cannot be read.
    #[error("policies in {path} cannot be read: {reason}")]
    Unreadable {
        /// Which.
        path: String,
        /// What the operating system says.
        reason: String,
    },
    /// There were policies, and their directory has gone.
    #[error("the directory {0} of the policies has gone")]
    Gone(String),
    /// There is too much to read.
    #[error("{path} is too large for policies: {bound}")]
    TooMuch {
        /// Which file or directory.
        path: String,
        /// What is allowed.
        bound: &'static str,
    },
    /// Mistakes in files, one for each file that has any.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Mistakes(Vec<PolicyError>),
}

/// The text of a file, with its path.
type Text = (String, String);

impl PolicyFolder {
    /// The files as they are now, in the order of their names; `None`: there is no directory, and nobody named one.
    fn read(&self) -> Result<Option<Vec<Text>>, PoliciesError> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_given => {
                return Ok(None);
            }
            entries => entries.map_err(|error| unreadable(&self.path, &error))?,
        };
        let mut names = Vec::new();
        for (count, entry) in entries.enumerate() {
            if count == MAX_ENTRIES {
                return Err(too_much(&self.path, "at most 10,000 files are in its directory"));
            }
            let path = entry.map_err(|error| unreadable(&self.path, &error))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // Editors and Kubernetes keep their own files under names that begin with a dot.
            if name.ends_with(EXTENSION) && !name.starts_with('.') {
                names.push(path);
            }
        }
        if names.len() > MAX_FILES {
            return Err(too_much(&self.path, "at most 1,000 policies"));
        }
        names.sort_unstable();
        let (mut texts, mut total) = (Vec::new(), 0);
        for path in names {
            let text = text(&path)?;
            total += text.len();
            if total > MAX_TOTAL_BYTES {
                return Err(too_much(&self.path, "at most 4 MiB in all"));
            }
            texts.push((path.to_string_lossy().into_owned(), text));
        }
        Ok(Some(texts))
    }

    /// The policies as the files are now.
    ///
    /// # Errors
    /// When they cannot be read or have mistakes.
    pub fn load(&self) -> Result<Policies, PoliciesError> {
        parse(self.read()?.unwrap_or_default().as_slice())
    }

    /// Puts the policies into effect, now and whenever the files change.
    ///
    /// # Errors
    /// When they cannot be used now.
    pub(crate) fn watch(
        self,
        current: CurrentPolicies,
    ) -> Result<Watched<Option<Vec<Text>>, PoliciesError>, PoliciesError> {
        let path = self.path.display().to_string();
        let mut is_there = false;
        let apply = move |texts: &Option<Vec<Text>>| {
            if texts.is_none() && is_there {
                return Err(PoliciesError::Gone(path.clone()));
            }
            current.replace(parse(texts.as_deref().unwrap_or_default())?);
            is_there = texts.as_ref().is_some_and(|texts| !texts.is_empty());
            Ok(())
        };
        Watched::start("policies", move || self.read(), apply)
    }
}

fn parse(texts: &[Text]) -> Result<Policies, PoliciesError> {
    let (mut policies, mut mistakes) = (Vec::new(), Vec::new());
    for (path, text) in texts {
        match Policy::parse(path, text) {
            Ok(policy) => policies.push(policy),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if mistakes.is_empty() {
        Ok(Policies::new(policies))
    } else {
        Err(PoliciesError::Mistakes(mistakes))
    }
}

/// Reads one file. A link counts as what it leads to.
fn text(path: &Path) -> Result<String, PoliciesError> {
    let read = || {
        // Opening a pipe would wait for its writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| unreadable(path, &error))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(too_much(path, "at most 64 KiB in one file"));
    }
    Ok(text)
}

fn unreadable(path: &Path, error: &io::Error) -> PoliciesError {
    PoliciesError::Unreadable { path: path.display().to_string(), reason: error.to_string() }
}

fn too_much(path: &Path, bound: &'static str) -> PoliciesError {
    PoliciesError::TooMuch { path: path.display().to_string(), bound }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::reload::Watch;

    fn given(path: &Path) -> PolicyFolder {
        PolicyFolder { path: path.to_owned(), is_given: true }
    }

    #[test]
    fn files_are_read_in_the_order_of_their_names_and_others_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("b.policy", "type: deny");
        write("a.policy", "type: allow");
        for other in ["c.policy~", ".d.policy", "README"] {
            write(other, "!");
        }
        fs::create_dir(folder.path().join("more")).unwrap();
        let policies = given(folder.path()).load().unwrap();
        let files: Vec<_> = policies.iter().map(|policy| &policy.file[..]).collect();
        let path = |name| folder.path().join(name).display().to_string();
        assert_eq!(files, [path("a.policy"), path("b.policy")]);
        write("b.policy", "typ: deny");
        write("a.policy", "targets: a**");
        let told = given(folder.path()).load().unwrap_err().to_string();
        assert!(told.contains("a.policy:1: ") && told.contains("b.policy:1: "), "{told}");
    }

    #[test]
    fn what_is_too_much_or_no_text_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("a.policy");
        for (bytes, part) in [
            (vec![b'#'; 64 << 10], "says nothing"),
            (vec![b'#'; (64 << 10) + 1], "64 KiB"),
            (vec![0xff], "UTF-8"),
        ] {
            fs::write(&policy, bytes).unwrap();
            let told = given(folder.path()).load().unwrap_err().to_string();
            assert!(told.contains(part) && told.contains("a.policy"), "{told}");
        }
        fs::remove_file(&policy).unwrap();
        fs::create_dir(&policy).unwrap();
        assert!(given(folder.path()).load().unwrap_err().to_string().contains("it is no file"));
        fs::remove_dir(&policy).unwrap();
        for number in 0..=MAX_FILES {
            fs::write(folder.path().join(format!("{number}.policy")), "type: allow").unwrap();
        }
        assert!(given(folder.path()).load().unwrap_err().to_string().contains("1,000 policies"));
    }

    #[test]
    fn a_directory_that_somebody_named_has_to_be_there_and_one_with_policies_has_to_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policies");
        assert!(given(&path).load().is_err());
        let by_default = PolicyFolder { path: path.clone(), is_given: false };
        assert!(by_default.load().unwrap().is_empty());

        let mut watched = by_default.watch(CurrentPolicies::default()).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a.policy"), "type: allow").unwrap();
        assert!(watched.look() && !watched.look() && !watched.status().is_broken());
        fs::remove_dir_all(&path).unwrap();
        assert!(watched.look() && !watched.look() && watched.status().is_broken());
    }
}
