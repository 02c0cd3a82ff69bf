//! Precedence, mistakes, defaults and how they are shown.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;
use tidegate_stages::rules::Durability;
use tidegate_stages::topology::{RateLimits, RetryRates};

use super::table::TABLE;
use super::*;
use crate::ingress::Hosts;

const GIB: u64 = 1 << 30;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn file(pairs: &[(&str, &str)]) -> File {
    let entries = map(pairs).into_iter().map(|(name, value)| (name, Ok(value))).collect();
    File { path: "tidegate.toml".into(), entries }
}

pub(super) fn from(environment: &[(&str, &str)]) -> Result<Config, Mistakes> {
    sources::resolve(&[], &map(environment), None, GIB)
}

fn settings(environment: &[(&str, &str)]) -> Settings {
    from(environment).unwrap().settings().unwrap()
}

#[test]
fn every_default_fits_and_every_setting_is_read() {
    let settings = settings(&[]);
    assert_eq!(settings.http.listen, Listen::Tcp("0.0.0.0:9001".parse().unwrap()));
    assert!(matches!(settings.database, Database::Embedded));
    assert_eq!(settings.durability, Durability::Acknowledged);
    assert_eq!(settings.host_connections, 4096);
    assert_eq!(settings.retries, RetryRates::default());
    assert_eq!(settings.max_demand, None);
    assert_eq!(settings.rate_limits, RateLimits::default(), "nobody is limited");
    assert_eq!(settings.bounds.admission_bytes, shares::share(GIB, 40));
    assert_eq!(settings.http.limits.body_bytes, 8_000_000);
    assert_eq!(settings.drain.timeout, Duration::from_secs(25));
    assert_eq!(settings.log, LogSettings { level: "info", json: false, lines_per_kind: 100 });
    let Hosts::Sidecar(host) = settings.hosts else { panic!("sidecar is the default") };
    assert_eq!(host.as_str(), "127.0.0.1:8090");
}

#[test]
fn the_table_names_each_setting_once() {
    let mut names = HashSet::new();
    assert!(TABLE.iter().all(|setting| names.insert(setting.name)));
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file() {
    let name = "PROXY_HTTP_PORT";
    let (file, environment) = (file(&[(name, "1")]), map(&[(name, "2")]));
    let flag = [(name.to_owned(), "3".to_owned())];
    let resolved = |flags: &[_], environment: &BTreeMap<_, _>, file| {
        let config = sources::resolve(flags, environment, file, GIB).unwrap();
        let Effective { value, source } = config.get(name).clone();
        (value.unwrap().to_string(), source)
    };
    assert_eq!(resolved(&flag, &environment, Some(&file)), ("3".into(), Source::Flag));
    assert_eq!(resolved(&[], &environment, Some(&file)), ("2".into(), Source::Environment));
    assert_eq!(resolved(&[], &map(&[]), Some(&file)).0, "1");
    // Empty means unset.
    assert_eq!(resolved(&[], &map(&[(name, "")]), Some(&file)).0, "1");
    assert_eq!(resolved(&[], &map(&[(name, "")]), None), ("9001".into(), Source::Default));
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_setting() {
    let environment = map(&[
        ("PROXY_HTTP_PORT", "http"),
        ("PROXY_UDS_ENABLED", "yes"),
        ("TIDEGATE_DURABLITY", "snapshot"),
        ("PROXY_DATABASE_TYPE", "mariadb"),
        ("SPAWN_STATESTORE_KEY", "3Jnb0hZiHIzHTOih7t2cTEPEpY98Tu1wvQ=="),
    ]);
    let file = file(&[("USER_FUNCTION_PORT", "0")]);
    let text = sources::resolve(&[], &environment, Some(&file), GIB).unwrap_err().to_string();
    for part in [
        "6 mistake(s)",
        "PROXY_HTTP_PORT (environment): must be a number from 0 to 65535, not \"http\"",
        "PROXY_UDS_ENABLED (environment): must be true or false",
        "did you mean TIDEGATE_DURABILITY?",
        "must be one of embedded, scylla, memory, not \"mariadb\"; states of another store have to be imported",
        "USER_FUNCTION_PORT (tidegate.toml): must be a number from 1",
        "SPAWN_STATESTORE_KEY (environment): must be 32 bytes in base64, has 25",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains("3Jnb0"), "a key is never shown");
}

#[test]
fn values_that_contradict_each_other_are_a_mistake() {
    let config = from(&[("TIDEGATE_DRAIN_DELAY", "9s"), ("TIDEGATE_DRAIN_TIMEOUT", "5s")]).unwrap();
    assert!(config.settings().unwrap_err().to_string().contains("TIDEGATE_DRAIN_DELAY"));
}

#[test]
fn places_must_hold_three_of_the_largest_states() {
    let small = from(&[("TIDEGATE_CHECKPOINT_BYTES", "11 MiB")]).unwrap();
    let told = small.settings().unwrap_err().to_string();
    for part in ["TIDEGATE_CHECKPOINT_BYTES", "12582912", "TIDEGATE_MAX_STATE_BYTES"] {
        assert!(told.contains(part), "{part:?} in {told}");
    }
    let fitting = [("TIDEGATE_CHECKPOINT_BYTES", "11 MiB"), ("TIDEGATE_MAX_STATE_BYTES", "1 MiB")];
    assert_eq!(from(&fitting).unwrap().settings().unwrap().bounds.checkpoint_bytes, 11 << 20);
    let raised = from(&[("TIDEGATE_MAX_STATE_BYTES", "1 GiB")]).unwrap().settings().unwrap();
    assert_eq!(raised.bounds.checkpoint_bytes, 3 << 30);
}

#[test]
fn all_bodies_must_hold_one_of_the_largest() {
    let body = ("TIDEGATE_HTTP_BODY_BYTES", "1 GiB");
    let small = from(&[body, ("TIDEGATE_HTTP_BODIES_BYTES", "1 MiB")]).unwrap();
    let told = small.settings().unwrap_err().to_string();
    for part in ["TIDEGATE_HTTP_BODIES_BYTES", "1073741824", "TIDEGATE_HTTP_BODY_BYTES"] {
        assert!(told.contains(part), "{part:?} in {told}");
    }
    assert_eq!(settings(&[body]).http.limits.bodies_bytes, 1 << 30);
}

#[test]
fn a_file_that_is_no_toml_is_told_without_its_secrets() {
    for secret in ["hush-hush", "\"hush", "\"\" hush", "99999999999999999999"] {
        let text = format!("PROXY_HTTP_PORT = 1\nTIDEGATE_ADMIN_TOKEN = {secret}\n");
        let told = sources::parse(Path::new("it"), &text).unwrap_err().to_string();
        assert!(told.contains("line 2, column "), "{told}");
        assert!(!told.contains("hush") && !told.contains("999"), "{told}");
    }
}

#[test]
fn a_token_that_no_header_carries_is_refused_without_being_told() {
    assert!(from(&[("TIDEGATE_ADMIN_TOKEN", "open sesame")]).is_ok());
    for wrong in ["hush ", "hu\nsh", "hüsh", " hush"] {
        let told = from(&[("TIDEGATE_ADMIN_TOKEN", wrong)]).unwrap_err().to_string();
        assert!(told.contains("TIDEGATE_ADMIN_TOKEN") && told.contains("visible ASCII"), "{told}");
        assert!(!told.contains("hush") && !told.contains("hüsh"), "{told}");
    }
}

#[test]
fn a_machine_over_loopback_is_trusted_only_if_loopback_is() {
    for (trusted, host, is_told) in
        [("false", "127.0.0.1", false), ("true", "127.0.0.1", true), ("false", "10.0.0.7", true)]
    {
        let given = [("TIDEGATE_TRUST_LOOPBACK", trusted), ("USER_FUNCTION_HOST", host)];
        let shown = effective(&from(&given).unwrap());
        assert_eq!(shown.contains("(USER_FUNCTION_HOST)"), is_told, "{shown}");
    }
}

#[test]
fn a_former_name_works_and_contradicts_the_name_of_today_only_with_another_value() {
    let config = from(&[("TIDEGATE_DOOR_EVENTS", "9"), ("TIDEGATE_DOOR_BYTES", "2 MiB")]).unwrap();
    let bounds = config.settings().unwrap().bounds;
    assert_eq!((bounds.admission_events, bounds.admission_bytes), (9, 2 << 20));
    let former: Vec<_> = config.former().iter().map(|former| (former.name, former.now)).collect();
    let events = ("TIDEGATE_DOOR_EVENTS", "TIDEGATE_ADMISSION_EVENTS");
    assert_eq!(former, [("TIDEGATE_DOOR_BYTES", "TIDEGATE_ADMISSION_BYTES"), events]);
    let shown = effective(&config);
    assert!(shown.contains("TIDEGATE_ADMISSION_EVENTS = 9    # environment"), "{shown}");
    assert!(from(&[]).unwrap().former().is_empty());

    // Whatever sources they come from.
    let old = file(&[("TIDEGATE_DOOR_EVENTS", "9")]);
    let both = |new: &str| {
        sources::resolve(&[], &map(&[("TIDEGATE_ADMISSION_EVENTS", new)]), Some(&old), GIB)
    };
    assert_eq!(both("9").unwrap().settings().unwrap().bounds.admission_events, 9);
    let told = both("8").unwrap_err().to_string();
    for part in ["TIDEGATE_DOOR_EVENTS (tidegate.toml)", "TIDEGATE_ADMISSION_EVENTS"] {
        assert!(told.contains(part), "{part:?} in {told}");
    }
    let wrong = from(&[("TIDEGATE_DOOR_EVENTS", "few")]).unwrap_err().to_string();
    assert!(wrong.contains("TIDEGATE_DOOR_EVENTS (environment)"), "{wrong}");
}

#[test]
fn secrets_are_masked_and_what_has_no_effect_is_told() {
    let config = from(&[
        ("TIDEGATE_ADMIN_TOKEN", "hush"),
        ("PROXY_DATABASE_SECRET", "hush"),
        ("PROXY_CLUSTER_STRATEGY", "gossip"),
    ])
    .unwrap();
    let shown = effective(&config);
    assert!(!shown.contains("hush"), "{shown}");
    assert!(shown.contains("TIDEGATE_ADMIN_TOKEN = (set, masked)    # environment"), "{shown}");
    assert!(shown.contains("only holders of TIDEGATE_ADMIN_TOKEN may delete"), "{shown}");
    assert!(shown.contains("PROXY_HTTP_PORT = 9001    # default"), "{shown}");
    let without: Vec<_> = config.without_effect().map(|one| (one.setting, one.asks)).collect();
    assert_eq!(without, [("PROXY_CLUSTER_STRATEGY", false)]);
}

#[test]
fn a_value_of_spawn_s_database_that_does_not_fit_is_a_mistake_only_where_it_is_read() {
    let of_spawn = [("PROXY_DATABASE_PORT", "0"), ("PROXY_DATABASE_NAME", "eigr-functions-db")];
    for kind in ["embedded", "memory"] {
        let given = [&of_spawn[..], &[("PROXY_DATABASE_TYPE", kind)]].concat();
        let config = from(&given).unwrap();
        let database = config.settings().unwrap().database;
        assert_eq!(matches!(database, Database::Embedded), kind == "embedded");
        let told: Vec<_> = config.without_effect().map(|one| (one.setting, one.asks)).collect();
        assert_eq!(told, of_spawn.map(|(name, _)| (name, false)));
        let shown = effective(&config);
        for (name, _) in of_spawn {
            let told = format!("{name} = (set; no effect: only PROXY_DATABASE_TYPE=scylla reads");
            assert!(shown.contains(&told), "{shown}");
        }
    }
    let scylla = [&of_spawn[..], &[("PROXY_DATABASE_TYPE", "scylla")]].concat();
    let told = from(&scylla).unwrap_err().to_string();
    for (name, _) in of_spawn {
        assert!(told.contains(&format!("{name} (environment): must be ")), "{told}");
    }
}

#[test]
fn the_cql_store_can_be_asked_for_where_it_is_built_in() {
    let scylla = from(&[
        ("PROXY_DATABASE_TYPE", "scylla"),
        ("PROXY_DATABASE_USERNAME", "joe"),
        ("PROXY_DATABASE_SECRET", "hush"),
    ]);
    let settings = scylla.unwrap().settings();
    if cfg!(feature = "scylla") {
        let settings = settings.unwrap();
        assert!(!format!("{settings:?}").contains("hush"), "{settings:?}");
    } else {
        let mistakes = settings.unwrap_err().to_string();
        assert!(mistakes.contains("PROXY_DATABASE_TYPE"), "{mistakes}");
        assert!(mistakes.contains("feature `scylla`"), "{mistakes}");
    }
}

#[test]
fn what_asks_for_something_that_is_not_there_is_one_of_the_names_without_effect() {
    for (name, unless) in upstream::ASK_UNLESS {
        let other = match *unless {
            "true" => "false",
            "false" => "true",
            _ => "other",
        };
        for (value, asks) in [(*unless, false), (other, true)] {
            let config = from(&[(*name, value)]).unwrap();
            let told: Vec<_> = config.without_effect().map(|one| (one.setting, one.asks)).collect();
            assert_eq!(told, [(*name, asks)]);
        }
    }
}

#[test]
fn a_switch_without_effect_is_true_or_false_like_any_other() {
    for name in upstream::SWITCHES {
        for value in ["true", "false"] {
            let config = from(&[(*name, value)]).unwrap();
            assert!(config.without_effect().any(|one| one.setting == *name), "{name}");
        }
        let text = from(&[(*name, "maybe")]).unwrap_err().to_string();
        let told = format!("{name} (environment): must be true or false, not \"maybe\"");
        assert!(text.contains(&told), "{text}");
    }
}

#[test]
fn the_help_and_the_table_name_every_setting() {
    let (help, table) = (help(), markdown());
    for setting in TABLE.iter() {
        assert!(help.contains(setting.name), "{}", setting.name);
        assert_eq!(table.matches(&format!("`{}`", setting.name)).count(), 1, "{}", setting.name);
    }
}

#[test]
fn whatever_the_memory_limit_the_defaults_in_bytes_leave_the_rest_free() {
    let mut limit = 64 << 20;
    while limit <= 1 << 40 {
        let config = sources::resolve(&[], &map(&[]), None, limit).unwrap();
        let memory = config.memory();
        assert!(memory.sum_bytes() * 100 <= limit * shares::PERCENT, "{memory}");
        assert!(memory.fits(), "{memory}");
        // What one bound takes in has to fit the bounds that it passes.
        let settings = config.settings().unwrap();
        assert!(
            settings.http.limits.body_bytes as u64 <= settings.bounds.admission_bytes,
            "{memory}"
        );
        let largest = settings.host.body_bytes as u64 + settings.max_state_bytes;
        assert!(largest <= settings.bounds.checkpoint_bytes, "{memory}");
        limit += limit / 3;
    }
}

#[test]
fn with_256_mebibytes_the_largest_state_and_answers_are_what_they_were() {
    let config = sources::resolve(&[], &map(&[]), None, 256 << 20).unwrap();
    let settings = config.settings().unwrap();
    assert_eq!(settings.max_state_bytes, 4 << 20);
    assert_eq!(settings.host.body_bytes, 16 << 20);
    assert_eq!(settings.http.limits.body_bytes, 8_000_000);
}

#[test]
fn bounds_beyond_the_memory_limit_are_told_with_their_sum() {
    let config = from(&[("TIDEGATE_ADMISSION_BYTES", "1 GiB")]).unwrap();
    let memory = config.memory();
    assert!(!memory.fits() && memory.sum_bytes() > GIB, "{memory}");
    let shown = effective(&config);
    assert!(shown.contains(&format!("# {memory}")), "{shown}");
    assert!(shown.contains("TIDEGATE_ADMISSION_BYTES 1048576 KiB"), "{shown}");
}

#[test]
fn a_host_may_be_a_name_an_address_or_a_socket() {
    for (host, address) in [
        ("actors.local", "actors.local:8090"),
        ("10.0.0.7", "10.0.0.7:8090"),
        ("::1", "[::1]:8090"),
        ("unix:/run/host.sock", "unix:/run/host.sock"),
    ] {
        let Hosts::Sidecar(found) = settings(&[("USER_FUNCTION_HOST", host)]).hosts else {
            panic!()
        };
        assert_eq!(found.as_str(), address);
    }
}

#[test]
fn names_of_the_protocol_set_what_they_set_upstream() {
    let settings = settings(&[
        ("ACTORS_GLOBAL_BACKPRESSURE_MAX_DEMAND", "70"),
        ("ACTORS_GLOBAL_BACKPRESSURE_MIN_DEMAND", "-1"),
        ("PROXY_HTTP_CLIENT_ADAPTER_POOL_SIZE", "30"),
        ("PROXY_UDS_ENABLED", "true"),
        ("SPAWN_PROXY_LOGGER_LEVEL", "warning"),
    ]);
    assert_eq!(settings.max_demand, Some(70));
    assert_eq!((settings.host_connections, settings.host.connections), (30, 30));
    let listen = Listen::Unix { path: "/var/run/spawn.sock".into(), mode: 0o660 };
    assert_eq!(settings.http.listen, listen);
    assert_eq!(settings.log.level, "warn");
}

#[test]
fn the_page_of_settings_shows_them_all() {
    let page = include_str!("../../../docs/settings.md");
    assert!(
        page.contains(markdown().trim()),
        "put the output of `tidegate config --markdown` into docs/settings.md"
    );
}

#[test]
fn hosts_join_in_daemon_mode_or_when_it_is_asked_for() {
    use tidegate_stages::topology::HostChoice::{LeastLoaded, Random, RoundRobin, Sticky};
    let rules = |given: &[(&str, &str)]| settings(given).host_rules;
    let daemon = ("PROXY_DEPLOYMENT_MODE", "daemon");
    assert!(!rules(&[]).join && rules(&[daemon]).join);
    assert!(rules(&[("TIDEGATE_HOSTS", "many")]).join);
    assert!(!rules(&[daemon, ("TIDEGATE_HOSTS", "one")]).join);
    let choice = |word| rules(&[("TIDEGATE_HOSTS_STRATEGY", word)]).choice;
    let words = ["random", "round_robin", "least_loaded", "sticky"];
    assert_eq!(words.map(choice), [Random, RoundRobin, LeastLoaded, Sticky]);
    assert_eq!(rules(&[]).choice, Random);
}
