//! `tidegate dashboards`: writes what Prometheus and Grafana need to show the proxy that the settings describe.

use std::fs::File;
use std::path::{Path, PathBuf, absolute};

use clap::Args;

use super::{made, print};
use crate::app::StartError;
use crate::config::{Config, Flags, Listen, Settings};
use crate::tls::examine_server;

/// Panels of Grafana and rules of Prometheus, as in `dashboards/`: paths below the directory, and contents.
const PAGES: [(&str, &str); 7] = [
    ("prometheus/rules.yaml", include_str!("../../../dashboards/rules.yaml")),
    ("prometheus/alerts.yaml", include_str!("../../../dashboards/alerts.yaml")),
    ("grafana/dashboards/overview.json", include_str!("../../../dashboards/overview.json")),
    ("grafana/dashboards/flow.json", include_str!("../../../dashboards/flow.json")),
    ("grafana/dashboards/actors.json", include_str!("../../../dashboards/actors.json")),
    ("grafana/dashboards/stores.json", include_str!("../../../dashboards/stores.json")),
    ("grafana/dashboards/effects.json", include_str!("../../../dashboards/effects.json")),
];
const PROMETHEUS: &str = "prometheus/prometheus.yml";
const DATASOURCE: &str = "grafana/provisioning/datasources/tidegate.yaml";
const PROVIDER: &str = "grafana/provisioning/dashboards/tidegate.yaml";

/// Writes into DIR what Prometheus and Grafana need to watch the proxy of these settings
#[derive(Debug, Args)]
pub(super) struct DashboardsArgs {
    /// The directory; made when it is missing
    dir: PathBuf,
    /// Where Prometheus reaches a proxy; may be repeated. By default this machine, on the port of the settings
    #[arg(long, value_name = "HOST:PORT", value_parser = target)]
    target: Vec<String>,
    /// Where Grafana reaches Prometheus
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    prometheus: String,
    /// Replaces files that are there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    flags: Flags,
}

fn target(given: &str) -> Result<String, String> {
    let fits = given.parse::<http::uri::Authority>().is_ok_and(|given| given.port_u16().is_some());
    fits.then(|| given.to_owned()).ok_or_else(|| "must be host:port".into())
}

impl DashboardsArgs {
    pub(super) fn run(&self) -> Result<(), StartError> {
        let settings = Config::load(&self.flags)?.settings()?;
        let dir = absolute(&self.dir).map_err(anyhow::Error::from)?;
        let made = [
            (PROMETHEUS, self.scrape(&settings)?),
            (DATASOURCE, datasource(&self.prometheus)),
            (PROVIDER, provider(&dir.join("grafana/dashboards"))),
        ];
        let pages = PAGES.iter().map(|(name, content)| (*name, *content));
        let pages: Vec<_> =
            made.iter().map(|(name, content)| (*name, content.as_str())).chain(pages).collect();
        let there = pages.iter().map(|(name, _)| dir.join(name)).find(|path| path.exists());
        if let Some(there) = there.filter(|_| !self.force) {
            let there = there.display();
            let text = format!("{there} is there already: nothing is written without --force");
            return Err(StartError::NotMade(text));
        }
        for (name, content) in pages {
            let path = dir.join(name);
            made::directory_of(&path)?;
            made::write(&path, File::create(&path), content.as_bytes())?;
        }
        let dir = dir.display();
        print(&format!(
            "Written. To use it:\n  prometheus --config.file={dir}/{PROMETHEUS}\n  \
             GF_PATHS_PROVISIONING={dir}/grafana/provisioning grafana server\n"
        ))
    }

    /// The configuration of Prometheus.
    fn scrape(&self, settings: &Settings) -> Result<String, StartError> {
        let refused = |text: &str| Err(StartError::Usage(text.into()));
        if !settings.http.metrics {
            return refused("SPAWN_DISABLE_METRICS=true switches the metrics off");
        }
        let own = match &settings.http.listen {
            Listen::Unix { .. } => {
                return refused(
                    "PROXY_UDS_ENABLED: Prometheus asks no Unix socket; what makes it a port is to be set by hand",
                );
            }
            Listen::Tcp(address) if self.target.is_empty() && address.port() == 0 => {
                return refused(
                    "PROXY_HTTP_PORT=0 names no port: --target says where the proxy is",
                );
            }
            Listen::Tcp(address) if address.ip().is_unspecified() => {
                format!("127.0.0.1:{}", address.port())
            }
            Listen::Tcp(address) => address.to_string(),
        };
        let targets = if self.target.is_empty() { vec![own] } else { self.target.clone() };
        let targets: Vec<_> = targets.iter().map(|target| quoted(target)).collect();
        Ok(format!(
            "# Written by `tidegate dashboards`. /metrics asks for no token, password or client certificate.\n\
             global:\n  scrape_interval: 15s\n  evaluation_interval: 15s\n\
             rule_files:\n  - rules.yaml\n  - alerts.yaml\n\
             scrape_configs:\n  - job_name: tidegate\n{}    static_configs:\n      - targets: [{}]\n",
            self.tls(settings)?,
            targets.join(", "),
        ))
    }

    /// How Prometheus makes sure that it speaks with the proxy.
    fn tls(&self, settings: &Settings) -> Result<String, StartError> {
        let Some(files) = &settings.http.tls else { return Ok(String::new()) };
        let examined = examine_server(files)?;
        let names = examined.first().map(|certificate| &certificate.servers[..]);
        // Without such roots the certificate itself is what is believed.
        let roots = settings.proxy_tls.roots.as_ref().unwrap_or(&files.certificate);
        let roots = absolute(&roots.path).map_err(anyhow::Error::from)?;
        let roots = quoted(&roots.display().to_string());
        // Under its own address a proxy need not be named in its certificate.
        let name = names.and_then(<[_]>::first).filter(|_| self.target.is_empty());
        let name = name.map(|name| format!("      server_name: {}\n", quoted(name)));
        let name = name.unwrap_or_default();
        Ok(format!("    scheme: https\n    tls_config:\n      ca_file: {roots}\n{name}"))
    }
}

fn datasource(url: &str) -> String {
    format!(
        "# Written by `tidegate dashboards`.\napiVersion: 1\ndatasources:\n  - name: Prometheus\n    type: prometheus\n    \
         access: proxy\n    url: {}\n    isDefault: true\n    jsonData:\n      timeInterval: 15s\n",
        quoted(url)
    )
}

fn provider(dashboards: &Path) -> String {
    format!(
        "# Written by `tidegate dashboards`.\napiVersion: 1\nproviders:\n  - name: tidegate\n    folder: Tidegate\n    \
         type: file\n    options:\n      path: {}\n",
        quoted(&dashboards.display().to_string())
    )
}

/// A text as YAML, which has the texts of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
