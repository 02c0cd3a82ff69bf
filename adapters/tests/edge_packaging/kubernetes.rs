//! Kubernetes: the manifests set settings that the binary knows, ask probes that it answers, and give it no more than it needs.

use yaml_rust2::{Yaml, YamlLoader};

use crate::support::client::Client;
use crate::support::proxy::{Proxy, embedded};
use crate::{KEY, assert_settings, file, seconds};

fn text(yaml: &Yaml) -> &str {
    yaml.as_str().unwrap_or_else(|| panic!("no text: {yaml:?}"))
}

/// What a container sets; a secret has some value that fits.
fn environment(container: &Yaml) -> Vec<(String, String)> {
    let entries = container["env"].as_vec().unwrap().iter().map(|entry| {
        let name = text(&entry["name"]).to_owned();
        let secret = &entry["valueFrom"]["secretKeyRef"];
        let value = if secret.is_badvalue() {
            text(&entry["value"])
        } else {
            assert!(!text(&secret["name"]).is_empty() && !text(&secret["key"]).is_empty());
            if name == "SPAWN_STATESTORE_KEY" { KEY } else { "a token that nobody guesses" }
        };
        (name, value.to_owned())
    });
    entries.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifests_fit_the_binary() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(&embedded(&dir.path().join("data"), "1")).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    for (name, kind, mode) in
        [("sidecar", "StatefulSet", "sidecar"), ("daemon", "DaemonSet", "daemon")]
    {
        let parsed = YamlLoader::load_from_str(&file(&format!("packaging/kubernetes/{name}.yaml")));
        let documents = parsed.unwrap();
        let [manifest] = &documents[..] else { panic!("{name}: one document") };
        assert_eq!(text(&manifest["kind"]), kind);
        let pod = &manifest["spec"]["template"]["spec"];
        let selected = &manifest["spec"]["selector"]["matchLabels"];
        assert_eq!(selected, &manifest["spec"]["template"]["metadata"]["labels"], "{name}");
        let containers = pod["containers"].as_vec().unwrap();
        let is_ours = |container: &&Yaml| container["name"].as_str() == Some("tidegate");
        let ours = containers.iter().find(is_ours).unwrap();
        assert_eq!(ours["args"].as_vec().unwrap(), &[Yaml::String("serve".into())]);

        let given = environment(ours);
        let effective = assert_settings(&given).await;
        let of = |name: &str| {
            given.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
        };
        let effective_mode = effective.lines().find(|line| line.contains("PROXY_DEPLOYMENT_MODE"));
        assert!(effective_mode.unwrap().contains(mode), "{name}: {effective}");
        // Hosts of a daemon register from their own addresses, which nobody trusts by default.
        let of_pods = of("TIDEGATE_TRUSTED_PEERS").is_some_and(|peers| !peers.contains("/0"));
        assert_eq!(of_pods, mode == "daemon", "{name}");
        let grace = pod["terminationGracePeriodSeconds"].as_i64().unwrap();
        let drain = seconds(of("TIDEGATE_DRAIN_TIMEOUT").unwrap_or("25s"));
        assert!(u64::try_from(grace).unwrap() > drain, "{name} is killed while it drains");

        let port = of("PROXY_HTTP_PORT").unwrap();
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let asked = &ours[probe]["httpGet"];
            let reply = client.get(text(&asked["path"])).await.unwrap();
            assert_eq!(reply.status, 200, "{name}: {probe}");
            assert_eq!(asked["port"].as_i64().unwrap().to_string(), port, "{name}: {probe}");
        }
        assert!(ours["resources"]["limits"]["memory"].as_str().is_some(), "{name}: a memory limit");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], Yaml::Boolean(true), "{name}");
        let rights = &ours["securityContext"];
        assert_eq!(rights["allowPrivilegeEscalation"], Yaml::Boolean(false), "{name}");
        assert_eq!(rights["readOnlyRootFilesystem"], Yaml::Boolean(true), "{name}");
        assert_eq!(text(&rights["capabilities"]["drop"][0]), "ALL", "{name}");
        // The root is read-only, so the data needs a volume.
        let mounts = ours["volumeMounts"].as_vec().unwrap();
        let data = of("TIDEGATE_DATA_DIR").unwrap();
        let mounted = mounts.iter().find(|mount| data.starts_with(text(&mount["mountPath"])));
        let volume = text(&mounted.unwrap()["name"]);
        let claimed = &manifest["spec"]["volumeClaimTemplates"][0]["metadata"]["name"];
        let of_pod = &pod["volumes"][0]["name"];
        assert!([claimed, of_pod].iter().any(|given| given.as_str() == Some(volume)), "{name}");
    }
}
