//! Limit: the most bytes that the server accepts in one write.

use scylla::client::session::Session;
use tracing::warn;

use super::error::CqlOpenError;
use super::server;
use crate::store::cql_options::CqlOptions;
use crate::store::vault::SEAL_BYTES;

/// Assumed when the server does not report its limit: half a commit log segment of Cassandra's default
/// size. ScyllaDB's limit is larger.
const ASSUMED: usize = 16 << 20;
/// Effects of a write, names, tags and the rest beside its state, in bytes.
const BESIDE: usize = (1 << 20) + (64 << 10);

/// Returns the server's limit; the largest state must fit.
pub(super) async fn of_write(
    session: &Session,
    options: &CqlOptions,
) -> Result<usize, CqlOpenError> {
    let limit = limit(&server::settings(session).await).unwrap_or_else(|| {
        warn!(
            assumed = ASSUMED,
            "the database does not say how many bytes it takes in one write (system_views.settings, system.config)"
        );
        ASSUMED
    });
    let max_state_bytes = options.max_state_bytes;
    let fitting = limit.saturating_sub(BESIDE + SEAL_BYTES);
    if max_state_bytes > fitting {
        return Err(CqlOpenError::StateLimit { limit, max_state_bytes, fitting });
    }
    Ok(limit)
}

/// Returns the limit itself, or half a segment of the commit log.
fn limit(settings: &server::Settings) -> Option<usize> {
    let value = |wanted: &str, unit: usize| bytes(server::value(settings, wanted)?, unit);
    value("max_mutation_size", 1)
        .or_else(|| value("max_mutation_size_in_kb", 1 << 10))
        .or_else(|| value("commitlog_segment_size", 1).map(|size| size / 2))
        .or_else(|| value("commitlog_segment_size_in_mb", 1 << 20).map(|size| size / 2))
        .filter(|limit| *limit > 0)
}

/// Parses a size; a size without a unit has the unit of its setting.
fn bytes(text: &str, unit: usize) -> Option<usize> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, named) = text.split_at(end);
    let unit = match named.trim() {
        "" => unit,
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &[(&str, &str)]) -> Option<usize> {
        let own = settings.iter().map(|(name, value)| ((*name).into(), Some((*value).into())));
        limit(&own.collect::<Vec<_>>())
    }

    #[test]
    fn servers_tell_their_limit_in_several_ways() {
        assert_eq!(
            of(&[("max_mutation_size", "8MiB"), ("commitlog_segment_size", "9MiB")]),
            Some(8 << 20)
        );
        assert_eq!(
            of(&[("max_mutation_size", "null"), ("commitlog_segment_size", "16MiB")]),
            Some(8 << 20)
        );
        assert_eq!(of(&[("max_mutation_size_in_kb", "8192")]), Some(8 << 20));
        assert_eq!(of(&[("commitlog_segment_size_in_mb", "64")]), Some(32 << 20));
        assert_eq!(of(&[("commitlog_segment_size_in_mb", "\"32\"")]), Some(16 << 20));
        assert_eq!(of(&[("cluster_name", "local")]), None);
    }
}
