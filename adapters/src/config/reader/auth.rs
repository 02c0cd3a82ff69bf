//! Auth: which credentials are read, and who needs any.

use super::Reader;
use crate::config::{Mistake, Mistakes};
use crate::ingress::{AuthOptions, Required, TokenRules};

impl Reader<'_> {
    pub(super) fn auth(&self) -> Result<AuthOptions, Mistakes> {
        let file = |name| self.value(name).map(|path| path.to_string().into());
        let auth = AuthOptions {
            token_keys: file("TIDEGATE_TOKEN_KEYS"),
            token_rules: TokenRules {
                audience: self.names("TIDEGATE_TOKEN_AUDIENCE"),
                issuer: self.names("TIDEGATE_TOKEN_ISSUER"),
                leeway: self.time("TIDEGATE_TOKEN_LEEWAY"),
                claim: self.text("TIDEGATE_TOKEN_CLAIM"),
            },
            users: file("TIDEGATE_USERS"),
            required: match self.text("TIDEGATE_AUTHENTICATION").as_str() {
                "network" => Required::Network,
                "always" => Required::Always,
                _ => Required::Optional,
            },
        };
        let reads_none = auth.token_keys.is_none() && auth.users.is_none();
        if auth.required != Required::Optional && reads_none {
            let text = "needs TIDEGATE_TOKEN_KEYS or TIDEGATE_USERS: nobody has credentials";
            let setting = "TIDEGATE_AUTHENTICATION".into();
            return Err(Mistakes(vec![Mistake { setting, text: text.into() }]));
        }
        Ok(auth)
    }

    /// Names separated by commas.
    fn names(&self, name: &str) -> Vec<String> {
        let text = self.text(name);
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    }
}
