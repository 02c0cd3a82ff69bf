//! Allowed: who asks, and whether this client may. What it may not is in the audit, whoever says no.

use ::metrics::counter;
use http::request;
use tidegate_stages::actor::HostAddress;
use tidegate_stages::error::Error;
use tidegate_stages::identity::{Identity, PeerAddress};

use super::admin::Shown;
use super::http::Refusal;
use super::route::Resource;
use super::{Calls, Inner, Parts, calls};
use crate::audit::{Entry, NotWritten};
use crate::metrics::AUDIT_LINES_DROPPED_TOTAL;
use crate::tls::{ClientAuth, ServerTls};

impl<C: Calls> Inner<C> {
    /// Returns the client with the name that its credentials give it. What is refused is in the audit.
    pub(super) async fn known(
        &self,
        client: Identity,
        head: &request::Parts,
    ) -> Result<Identity, Refusal> {
        let Parts { trust, audit, auth, .. } = &self.parts;
        let known = if self.lacks_certificate(&client) {
            Err(no_certificate())
        } else if auth.reads_nothing() {
            return Ok(client);
        } else {
            let is_trusted = trust.trusts(client.peer);
            Box::pin(auth.client(client.clone(), is_trusted, &head.headers)).await
        };
        match known {
            Ok(client) => Ok(client),
            Err(refusal) => {
                Box::pin(audit.refused(&client, &asked(head), &refusal.text())).await?;
                Err(refusal)
            }
        }
    }

    /// Whether the request is allowed; its entry in the audit if it is an administrator's. What is refused is in the audit too.
    pub(super) async fn allowed(
        &self,
        resource: &Resource<'_>,
        head: &request::Parts,
        client: &Identity,
        named: Option<&HostAddress>,
    ) -> Result<Option<Entry>, Refusal> {
        let Parts { trust, audit, .. } = &self.parts;
        let asks = resource.asks(&head.method);
        match trust.check(asks, client, head, named).await {
            Err(refused) => {
                Box::pin(audit.refused(client, &asked(head), &refused)).await?;
                Err(refused.into())
            }
            Ok(_) if !asks.is_audited() || resource.is_page_of_backup() => Ok(None),
            // It goes on with what began with a line.
            Ok(_) if goes_on(resource, head) => Ok(None),
            Ok(shown) => Ok(Some(Box::pin(self.begun(shown, head, client)).await?)),
        }
    }

    /// The entry in the audit of an administrator's request that is about to be carried out.
    pub(super) async fn begun(
        &self,
        shown: Shown,
        head: &request::Parts,
        client: &Identity,
    ) -> Result<Entry, NotWritten> {
        let audit = &self.parts.audit;
        if shown == Shown::Right {
            let who = format!("{client} with the administrator's token");
            audit.begin(&who, &asked(head)).await
        } else {
            audit.begin(client, &asked(head)).await
        }
    }

    /// Tells the audit of an administrator's request that its head condemns.
    pub(super) async fn condemned(
        &self,
        client: &Identity,
        head: &request::Parts,
        refusal: Refusal,
    ) -> Refusal {
        let written = self.parts.audit.refused(client, &asked(head), &refusal.text()).await;
        written.map_or_else(Refusal::from, |()| refusal)
    }

    /// Tells the audit of a request that a policy refused while it was carried out. It stays refused if its line cannot be
    /// written: an action of it may have run, so another answer could be taken for one after which to try again.
    pub(super) async fn refused(
        &self,
        client: &Identity,
        head: &request::Parts,
        refusal: &Refusal,
    ) {
        if self.parts.audit.refused(client, &asked(head), &refusal.text()).await.is_err() {
            counter!(AUDIT_LINES_DROPPED_TOTAL).increment(1);
        }
    }

    /// What the client of a failed call is told: of hosts only if it may know where they are, as far as that is known without a
    /// lookup.
    pub(super) fn failed(&self, error: Error, client: Option<PeerAddress>) -> Refusal {
        if Refusal::names_hosts(&error) && !self.parts.trust.trusts_without_lookup(client) {
            Refusal::without_hosts(error)
        } else {
            error.into()
        }
    }

    fn lacks_certificate(&self, client: &Identity) -> bool {
        let auth = self.parts.tls.as_ref().map(ServerTls::client_auth);
        auth == Some(ClientAuth::Required) && client.tls_client.is_none()
    }
}

/// Whether a request goes on following an actor.
fn goes_on(resource: &Resource<'_>, head: &request::Parts) -> bool {
    matches!(resource, Resource::Followed { .. }) && head.headers.contains_key(calls::LAST_EVENT)
}

/// What a request asks for, in a line of the audit.
pub(super) fn asked(head: &request::Parts) -> String {
    format!("{} {}", head.method, head.uri)
}

fn no_certificate() -> Refusal {
    let text = "a client certificate with a name is required here: show one that a root in TIDEGATE_TLS_CLIENT_CA has signed \
                (TIDEGATE_TLS_CLIENT_AUTH=optional lets in clients without one)";
    Refusal::forbidden(text)
}
