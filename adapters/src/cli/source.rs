//! Source: where the command line reads an actor's history: from the running proxy, otherwise from the
//! store.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use http::Method;
use tidegate_stages::actor::ActorId;
use tidegate_stages::error::Error;
use tidegate_stages::history_reader::HistoryReader;
use tidegate_stages::ports::Registry;

use super::actor::{ActorName, Which};
use super::client::{Client, ProxyArgs, Unanswered, read};
use super::query::Query as AskedQuery;
use super::say;
use crate::app::StartError;
use crate::app::stores::{self, OpenStore, Purpose};
use crate::clock::SystemClock;
use crate::config::Database;
use crate::ingress::history::{Span, listing};
use crate::ingress::query::Query;
use crate::moment;
use crate::wire::{Entry, Listing};

/// Time limit for closing the store.
const CLOSING: Duration = Duration::from_secs(10);

/// Reads an actor's history.
pub(super) struct Source {
    client: Client,
    /// Set once no proxy has responded.
    opened: Option<Opened>,
}

struct Opened {
    history: HistoryReader,
    store: OpenStore,
}

/// A request for one state, or for a page of the history.
enum Question<'a> {
    One(Which),
    Many(&'a str),
}

enum Answer {
    One(Entry),
    Many(Listing),
}

impl Source {
    /// Reads the settings; sends no request yet.
    pub(super) fn new(proxy_args: &ProxyArgs) -> Result<Self, StartError> {
        Ok(Self { client: Client::new(proxy_args)?, opened: None })
    }

    /// Returns one state of an actor.
    pub(super) async fn entry(
        &mut self,
        actor: &ActorName,
        which: Which,
    ) -> Result<Entry, StartError> {
        match self.ask(actor, &Question::One(which)).await? {
            Answer::One(entry) => Ok(entry),
            Answer::Many(_) => unreachable!("one was asked for"),
        }
    }

    /// Returns a page of an actor's history; `query` has the format of the HTTP endpoint.
    pub(super) async fn listing(
        &mut self,
        actor: &ActorName,
        query: &str,
    ) -> Result<Listing, StartError> {
        match self.ask(actor, &Question::Many(query)).await? {
            Answer::Many(listing) => Ok(listing),
            Answer::One(_) => unreachable!("many were asked for"),
        }
    }

    /// Closes the store, if open.
    pub(super) async fn close(self) {
        if let Some(Opened { history, store }) = self.opened {
            drop(history);
            store.close(CLOSING).await;
        }
    }

    async fn ask(
        &mut self,
        actor: &ActorName,
        question: &Question<'_>,
    ) -> Result<Answer, StartError> {
        if self.opened.is_none() {
            match self.ask_proxy(actor, question).await {
                Err(Unanswered::Nobody(_)) if !self.client.is_given => {
                    self.opened = Some(self.open().await?);
                }
                answered => return Ok(answered.map_err(anyhow::Error::from)?),
            }
        }
        let opened = self.opened.as_ref().expect("opened just now");
        Ok(opened.ask(actor, question).await?)
    }

    async fn ask_proxy(
        &self,
        actor: &ActorName,
        question: &Question<'_>,
    ) -> Result<Answer, Unanswered> {
        let path = match question {
            Question::One(Which::Latest) => "/state".to_owned(),
            Question::One(Which::Revision(number)) => format!("/revisions/{number}"),
            Question::One(Which::At(at)) => {
                format!("/state?{}", AskedQuery::default().with("at", Some(&moment::show(*at))))
            }
            Question::Many(query) => format!("/revisions?{query}"),
        };
        let body = self.client.ask(Method::GET, actor, &path).await?;
        let answer = match question {
            Question::One(_) => read(&body).map(Answer::One),
            Question::Many(_) => read(&body).map(Answer::Many),
        };
        answer.map_err(Unanswered::Other)
    }

    async fn open(&self) -> Result<Opened, StartError> {
        let (settings, address) = (&self.client.settings, &self.client.address);
        let place = match &settings.database {
            Database::Embedded => settings.data_dir.display().to_string(),
            Database::Scylla(_) => "the database".to_owned(),
            Database::Memory => {
                return Err(StartError::NoStore(format!(
                    "nothing listens on {address}, and PROXY_DATABASE_TYPE=memory keeps nothing when the proxy ends"
                )));
            }
        };
        say(&format!("nothing listens on {address}: reading {place} itself"));
        let store = stores::open(settings, Purpose::Read).await?;
        Ok(Opened {
            history: HistoryReader::new(store.states.clone(), Arc::new(SystemClock)),
            store,
        })
    }
}

impl Opened {
    async fn ask(&self, actor: &ActorName, question: &Question<'_>) -> anyhow::Result<Answer> {
        let id = key_of(&*self.store.registry, actor).await?;
        let entry = match question {
            Question::One(Which::Latest) => {
                Entry::from(self.history.latest(&id).await?).exact(true)
            }
            Question::One(Which::Revision(number)) => {
                self.history.revision(&id, *number).await?.into()
            }
            // No other process writes while this one has the store open.
            Question::One(Which::At(at)) => self.history.at(&id, *at, true).await?.into(),
            Question::Many(query) => {
                let query = Query::read(Some(query)).and_then(|query| Span::of(&query));
                let span = query.map_err(|refusal| anyhow::anyhow!(refusal.into_text()))?;
                let page = self.history.revisions(&id, span.interval, span.limit).await?;
                return Ok(Answer::Many(listing(page, &span)));
            }
        };
        Ok(Answer::One(entry))
    }
}

/// Returns the key under which the store has the actor.
async fn key_of(registry: &dyn Registry, actor: &ActorName) -> anyhow::Result<Arc<ActorId>> {
    let all = registry.load().await?;
    let is_meant = |id: &ActorId| id.system == actor.system && id.name == actor.name;
    let Some(known) = all.into_iter().find(|one| is_meant(one.id())) else {
        let ActorName { system, name } = actor.clone();
        bail!(Error::ActorNotFound { system, name });
    };
    Ok(known.key)
}
