//! Auth: makes a name of the credentials that a request shows.
//!
//! A name is the subject of a JWT or a user with a password. The admin token is no name: it comes on the same header,
//! is compared first, and its holder stays anonymous (decision 034). Credentials that are shown and wrong are always
//! refused, also where none are needed.

mod keys;
mod tokens;
mod users;

use std::path::PathBuf;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use metrics::counter;
use tidegate_stages::identity::Identity;

use super::AdminToken;
use super::admin::credentials;
use super::http::Refusal;
use crate::metrics::CREDENTIALS_REFUSED_TOTAL;
use crate::reload::Watch;
pub use tokens::TokenRules;
use tokens::Tokens;
use users::{PasswordError, Users};

const BEARER: &str = r#"Bearer realm="tidegate""#;
const BEARER_INVALID: &str = r#"Bearer realm="tidegate", error="invalid_token""#;
const BASIC: &str = r#"Basic realm="tidegate", charset="UTF-8""#;

/// Who has to show credentials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Required {
    /// Nobody: without, a client is anonymous.
    #[default]
    Optional,
    /// Clients that are not trusted for where they are.
    Network,
    /// Everybody.
    Always,
}

/// Which credentials there are.
#[derive(Debug, Clone, Default)]
pub struct AuthOptions {
    /// A file of keys that sign tokens. `None`: tokens are not read.
    pub token_keys: Option<PathBuf>,
    /// What else a token has to say.
    pub token_rules: TokenRules,
    /// A file of users. `None`: passwords are not read.
    pub users: Option<PathBuf>,
    /// Who has to show credentials.
    pub required: Required,
}

/// A file of keys or users cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {text}", .line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct AuthFileError {
    /// The file.
    pub file: String,
    /// Its line, from 1, where one is to blame.
    pub line: Option<u32>,
    /// What is wrong.
    pub text: String,
}

/// Reads credentials. The default reads none. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    tokens: Option<Tokens>,
    users: Option<Users>,
    required: Required,
    admin_token: Option<AdminToken>,
}

/// What a request shows.
enum Shown {
    /// Nothing that is read here.
    Nothing,
    /// The admin token.
    Admin,
    /// A name.
    Name(Arc<str>),
}

impl Auth {
    /// Reads the files for the first time. Returns also what has to be watched.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub(crate) fn open(
        options: AuthOptions,
        admin_token: Option<AdminToken>,
    ) -> Result<(Self, Vec<Box<dyn Watch>>), AuthFileError> {
        let AuthOptions { token_keys, token_rules, users, required } = options;
        let mut watched: Vec<Box<dyn Watch>> = Vec::new();
        let tokens = match token_keys {
            None => None,
            Some(file) => {
                let (tokens, keys) = Tokens::open(file, &token_rules)?;
                watched.push(Box::new(keys));
                Some(tokens)
            }
        };
        let users = match users {
            None => None,
            Some(file) => {
                let (users, file) = Users::open(file)?;
                watched.push(Box::new(file));
                Some(users)
            }
        };
        Ok((Self { tokens, users, required, admin_token }, watched))
    }

    /// Whether there are no credentials to read: every client stays anonymous.
    pub(super) fn reads_nothing(&self) -> bool {
        self.tokens.is_none() && self.users.is_none()
    }

    /// Gives a client the name that its request shows. Reads the head only. Whether the client is trusted is asked only where
    /// that decides.
    ///
    /// # Errors
    /// When credentials are wrong, or needed and missing.
    pub(super) async fn client(
        &self,
        mut client: Identity,
        is_trusted: impl Future<Output = bool>,
        headers: &HeaderMap,
    ) -> Result<Identity, Refusal> {
        if self.reads_nothing() {
            return Ok(client);
        }
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let shown = match (given.next(), given.next()) {
            (None, _) => Shown::Nothing,
            (Some(given), None) => self.shown(given).await?,
            _ => return Err(self.unauthorized("the header Authorization is given more than once")),
        };
        match shown {
            Shown::Name(name) => client.token_subject = Some(name),
            Shown::Admin => {}
            Shown::Nothing => {
                let is_required = match self.required {
                    Required::Optional => false,
                    Required::Network => !is_trusted.await,
                    Required::Always => true,
                };
                if is_required {
                    return Err(self.unauthorized("needs credentials (TIDEGATE_AUTHENTICATION)"));
                }
            }
        }
        Ok(client)
    }

    async fn shown(&self, given: &HeaderValue) -> Result<Shown, Refusal> {
        if let Some(credentials) = credentials(given, "bearer") {
            if self.admin_token.as_ref().is_some_and(|token| token.is(credentials)) {
                return Ok(Shown::Admin);
            }
            let Some(tokens) = &self.tokens else { return Ok(Shown::Nothing) };
            return tokens.subject(credentials.trim()).map(Shown::Name).map_err(|error| {
                counter!(CREDENTIALS_REFUSED_TOTAL, "means" => "token").increment(1);
                Refusal::unauthorized(error.to_string(), vec![BEARER_INVALID])
            });
        }
        let (Some(users), Some(credentials)) = (&self.users, credentials(given, "basic")) else {
            return Ok(Shown::Nothing);
        };
        users.name(credentials.trim()).await.map(Shown::Name).map_err(|error| {
            counter!(CREDENTIALS_REFUSED_TOTAL, "means" => "password").increment(1);
            match error {
                PasswordError::Wrong => Refusal::unauthorized(error.to_string(), vec![BASIC]),
                PasswordError::Busy => {
                    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
                }
            }
        })
    }

    fn unauthorized(&self, text: &str) -> Refusal {
        let bearer = self.tokens.as_ref().map(|_| BEARER);
        let basic = self.users.as_ref().map(|_| BASIC);
        Refusal::unauthorized(text, bearer.into_iter().chain(basic).collect())
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_network_needs_credentials_where_trusted_clients_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("users");
        std::fs::write(&users, format!("alice:{}", bcrypt::hash("one", 4).unwrap())).unwrap();
        let options = AuthOptions {
            users: Some(users),
            required: Required::Network,
            ..AuthOptions::default()
        };
        let admin_token = Some(AdminToken::new("admin"));
        let (auth, _watched) = Auth::open(options, admin_token).unwrap();
        let named = async |shown: &[&str], is_trusted: bool| {
            let shown = shown.iter().map(|shown| (AUTHORIZATION, shown.parse().unwrap()));
            let is_trusted = std::future::ready(is_trusted);
            let client = auth.client(Identity::default(), is_trusted, &shown.collect()).await;
            client.map(|client| client.token_subject)
        };
        let alice = Some(Arc::from("alice"));
        for is_trusted in [true, false] {
            // alice:one and alice:two
            assert_eq!(named(&["Basic YWxpY2U6b25l"], is_trusted).await, Ok(alice.clone()));
            assert_eq!(named(&["bAsIc  YWxpY2U6b25l"], is_trusted).await, Ok(alice.clone()));
            assert!(named(&["Basic YWxpY2U6dHdv"], is_trusted).await.is_err());
            assert_eq!(named(&["Bearer admin"], is_trusted).await, Ok(None));
            assert!(named(&["Bearer admin", "Basic YWxpY2U6b25l"], is_trusted).await.is_err());
        }
        for nothing in [&[][..], &["Bearer other"], &["Digest x"], &["x"]] {
            assert_eq!(named(nothing, true).await, Ok(None), "{nothing:?}");
            assert!(named(nothing, false).await.is_err(), "{nothing:?}");
        }
    }
}
