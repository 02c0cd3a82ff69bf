//! Admin: where the admin port is opened.

use super::Reader;
use crate::config::settings::AdminListen;
use crate::config::sources::Source;
use crate::config::{Mistake, Mistakes, forms};

const NAME: &str = "TIDEGATE_ADMIN_ADDRESS";

impl Reader<'_> {
    pub(super) fn admin(&self) -> Result<Option<AdminListen>, Mistakes> {
        let address = forms::parse_admin_address(&self.text(NAME)).expect("it was checked");
        let Some(address) = address else { return Ok(None) };
        if !address.ip().is_loopback() && self.value("TIDEGATE_ADMIN_TOKEN").is_none() {
            let text = "needs TIDEGATE_ADMIN_TOKEN, since others than this machine reach it";
            return Err(Mistakes(vec![Mistake { setting: NAME.into(), text: text.into() }]));
        }
        let is_needed = self.0.get(NAME).source != Source::Default;
        Ok(Some(AdminListen { address, is_needed }))
    }
}
