//! Backup: hands out a copy of the embedded store, page by page, to holders of the admin token and local clients.
//!
//! `POST /api/v1/backup` begins a copy and answers its id and about how large it is. `POST /api/v1/backup/:id` answers its next
//! page, until the last one. The client asks for a page when it has written the one before: so it sets the pace, and the proxy
//! holds one page in memory.

use std::sync::Arc;

use http::StatusCode;
use tidegate_stages::error::Error;

use super::Limits;
use super::http::{Answer, JSON, Refusal, octets, of_type};
use super::sending::{Hold, Sending};
use crate::store::{BACKUP_PAGE_BYTES, BackupError, Begun, EmbeddedStore};

impl From<BackupError> for Refusal {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Store(error) => Error::Store(error).into(),
            BackupError::Running => Self::new(StatusCode::CONFLICT, error.to_string()),
            BackupError::Gone => Self::new(StatusCode::NOT_FOUND, error.to_string()),
        }
    }
}

/// Takes free bytes for a page before it is read. The last entry may go beyond the size of a page.
pub(super) async fn before_load(sending: &Sending, limits: &Limits) -> Result<Hold, Refusal> {
    let page = BACKUP_PAGE_BYTES + limits.state_bytes;
    sending.before_load(page).await.map_err(|unread| unread.refusal(false))
}

/// Begins a copy, or answers the next page of the copy `id`.
pub(super) async fn answer(
    store: Option<&Arc<EmbeddedStore>>,
    id: Option<&str>,
) -> Result<Answer, Refusal> {
    let Some(store) = store else {
        let text =
            "only the embedded store is backed up by tidegate: use the means of the database";
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, text));
    };
    if let Some(id) = id {
        let id = id.parse().map_err(|_| Refusal::from(BackupError::Gone))?;
        return Ok(octets(store.backup_page(id).await?));
    }
    let Begun { id, about_bytes } = store.begin_backup().await?;
    // As text: numbers in JSON are exact to 2^53 only.
    Ok(of_type(JSON, format!(r#"{{"id":"{id}","about_bytes":{about_bytes}}}"#).into()))
}
