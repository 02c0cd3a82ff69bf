//! Access: who reaches the proxy, who may do what, and where hosts are.

use super::{Default, MINUTE, PORT, Setting, setting};
use crate::config::forms;
use crate::config::lists;
use crate::config::value::Kind;

/// In the order in which they are shown.
pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "PROXY_HTTP_PORT",
        Kind::Count { min: 0, max: PORT },
        Default::Is("9001"),
        "Port of the API, health and metrics; 0 lets the operating system choose.",
    ),
    setting(
        "TIDEGATE_HTTP_ADDRESS",
        Kind::Address,
        Default::Is("0.0.0.0"),
        "Address that the port is opened on.",
    ),
    setting(
        "TIDEGATE_TLS_CERT",
        Kind::Text,
        Default::Unset,
        "PEM file with the certificate of the port, and those between it and its root; unset: the port has no TLS.",
    ),
    setting("TIDEGATE_TLS_KEY", Kind::Text, Default::Unset, "PEM file with its private key."),
    setting(
        "TIDEGATE_TLS_CLIENT_CA",
        Kind::Text,
        Default::Unset,
        "PEM file with the roots of clients' certificates; unset: clients are not asked for one.",
    ),
    setting(
        "TIDEGATE_TLS_CLIENT_AUTH",
        Kind::Choice(&["required", "optional"]),
        Default::Is("required"),
        "With such roots, whether a client needs a certificate. Health and metrics are answered without one.",
    ),
    setting(
        "PROXY_UDS_ENABLED",
        Kind::Switch,
        Default::Is("false"),
        "Whether a Unix socket is opened instead of the port.",
    ),
    setting(
        "PROXY_UDS_ADDRESS",
        Kind::Text,
        Default::Is("/var/run/spawn.sock"),
        "Path of that socket.",
    ),
    setting(
        "PROXY_UDS_MODE",
        Kind::Form("an octal mode such as 0660 that lets its owner read and write", forms::mode),
        Default::Is("0660"),
        "Mode of that socket: connecting takes the right to write.",
    ),
    setting(
        "PROXY_DEPLOYMENT_MODE",
        Kind::Choice(&["sidecar", "daemon"]),
        Default::Is("sidecar"),
        "Whether hosts are beside the proxy, or listen where their registration comes from.",
    ),
    setting(
        "USER_FUNCTION_HOST",
        Kind::Text,
        Default::Is("0.0.0.0"),
        "Where the host listens beside the proxy, or unix: and a path; 0.0.0.0 means this machine.",
    ),
    setting(
        "USER_FUNCTION_PORT",
        Kind::Count { min: 1, max: PORT },
        Default::Is("8090"),
        "Port that the host listens on (SDK defaults: Node 8090, Python 8091, Rust 8093, Go none).",
    ),
    setting(
        "TIDEGATE_HOSTS",
        Kind::Choice(&["one", "many"]),
        Default::Unset,
        "Whether a registration from another address replaces the host of its definitions, or joins their hosts; unset: many with PROXY_DEPLOYMENT_MODE=daemon, else one.",
    ),
    setting(
        "TIDEGATE_HOSTS_STRATEGY",
        Kind::Choice(&["random", "round_robin", "least_loaded", "sticky"]),
        Default::Is("random"),
        "Which of several hosts is called: any, one after the other, the one with the fewest calls, or the same for each call of an actor.",
    ),
    setting(
        "TIDEGATE_HOSTS_LEAVE_AFTER",
        Kind::Time { min: 1_000, max: 7 * 24 * 60 * MINUTE },
        Default::Is("10m"),
        "How long one of several hosts may accept no connections; then it is removed, until it registers again.",
    ),
    setting(
        "TIDEGATE_HOST_TLS",
        Kind::Switch,
        Default::Is("false"),
        "Whether hosts are called over TLS; one that names its own address says so itself, with https://.",
    ),
    setting(
        "TIDEGATE_HOST_TLS_CA",
        Kind::Text,
        Default::Unset,
        "PEM file with the roots of hosts' certificates; unset: those that the system trusts.",
    ),
    setting(
        "TIDEGATE_HOST_TLS_CERT",
        Kind::Text,
        Default::Unset,
        "PEM file with the certificate that is shown to hosts that ask for one.",
    ),
    setting("TIDEGATE_HOST_TLS_KEY", Kind::Text, Default::Unset, "PEM file with its private key."),
    setting(
        "TIDEGATE_PROXY_TLS_CA",
        Kind::Text,
        Default::Unset,
        "For commands that ask a running proxy: PEM file with the roots of its certificate; unset: those that the system trusts.",
    ),
    setting(
        "TIDEGATE_PROXY_TLS_CERT",
        Kind::Text,
        Default::Unset,
        "For these commands: PEM file with the certificate that they show to a proxy that asks for one.",
    ),
    setting("TIDEGATE_PROXY_TLS_KEY", Kind::Text, Default::Unset, "PEM file with its private key."),
    setting(
        "TIDEGATE_ADMIN_TOKEN",
        Kind::SecretForm("text", forms::token),
        Default::Unset,
        "Bearer token whose holders may do everything. Once it is set, deleting, checkpoints, restoring and reading histories need it, also for local clients.",
    ),
    setting(
        "TIDEGATE_ADMIN_TOKEN_FILE",
        Kind::Text,
        Default::Unset,
        "A file that holds it, instead.",
    ),
    setting(
        "TIDEGATE_ADMIN_ADDRESS",
        Kind::Form("off, or an IP address and a port such as 127.0.0.1:9002", forms::admin_address),
        Default::Is("127.0.0.1:9002"),
        "Where the admin port is opened, with the console and everything that the API has; port 0 lets the operating system choose. An address other than loopback needs TIDEGATE_ADMIN_TOKEN. Unless it is set here, a port that is taken is a warning, and there is no admin port.",
    ),
    setting(
        "TIDEGATE_TRUSTED_PEERS",
        Kind::Form(
            "networks or addresses separated by commas, such as 10.1.0.0/16",
            lists::networks,
        ),
        Default::Unset,
        "Clients that may register and spawn, besides local ones and the machine of USER_FUNCTION_HOST.",
    ),
    setting(
        "TIDEGATE_TRUST_LOOPBACK",
        Kind::Switch,
        Default::Is("true"),
        "Whether clients over loopback may register and spawn, and everything else while no token is set; false where a proxy in front makes every client a local one.",
    ),
    setting(
        "TIDEGATE_ORIGINS",
        Kind::Form("origins separated by commas, such as https://console.example", lists::origins),
        Default::Unset,
        "Web pages that may change something: what a browser sends as Origin. Others are a 403.",
    ),
    setting(
        "TIDEGATE_HOST_NAMES",
        Kind::Form("names separated by commas, without ports", lists::names),
        Default::Unset,
        "Names besides localhost and IP addresses by which clients over loopback may call the proxy; others are a 403, since they may be a web page's.",
    ),
    setting(
        "TIDEGATE_AUDIT_FILE",
        Kind::Text,
        Default::Unset,
        "A file that gets one line for each request that its client may not make (401, 403) and for each that would administer and is refused by its head (405, 413, 415, 503), whoever sends it, and two for each that administers, but for looks at the admin port that the console repeats: who, what, its outcome. A request whose line cannot be written is a 503, and is not carried out. The log has these lines in any case.",
    ),
    setting(
        "TIDEGATE_AUTHENTICATION",
        Kind::Choice(&["optional", "network", "always"]),
        Default::Is("optional"),
        "Who needs credentials for the API, a token or a password: nobody, clients that are not trusted for where they are, or everybody; without them 401. Wrong ones always are a 401.",
    ),
    setting(
        "TIDEGATE_TOKEN_KEYS",
        Kind::Text,
        Default::Unset,
        "File of the keys that sign tokens (JWT): a JWKS, public keys in PEM, or one secret of at least 32 bytes. Unset: tokens are not read.",
    ),
    setting(
        "TIDEGATE_TOKEN_AUDIENCE",
        Kind::Text,
        Default::Unset,
        "What tokens have to name as their audience, or several such separated by commas; unset: tokens that name one are refused.",
    ),
    setting(
        "TIDEGATE_TOKEN_ISSUER",
        Kind::Text,
        Default::Unset,
        "Who has to have issued tokens, or several such separated by commas; unset: anybody.",
    ),
    setting(
        "TIDEGATE_TOKEN_LEEWAY",
        Kind::Time { min: 0, max: 10 * MINUTE },
        Default::Is("30s"),
        "How much the clocks of issuers and the proxy may differ.",
    ),
    setting(
        "TIDEGATE_TOKEN_CLAIM",
        Kind::Text,
        Default::Is("sub"),
        "Claim of a token that names its client.",
    ),
    setting(
        "TIDEGATE_USERS",
        Kind::Text,
        Default::Unset,
        "File of users and bcrypt hashes, as `htpasswd -B` writes it. Unset: passwords are not read.",
    ),
    setting(
        "TIDEGATE_POLICIES_DIR",
        Kind::Text,
        Default::Is("policies"),
        "Directory of the access policies, files named *.policy; one that is named here has to be there.",
    ),
];
