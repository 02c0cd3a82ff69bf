//! Bootstrap on a clock of the tests.

use super::*;

const START: Duration = Duration::from_hours(24 * 365 * 56);

fn on(day: u32, dir: &Path, names: &[&str]) -> Bootstrap {
    let names = names.iter().copied().map(String::from).collect();
    let (client, now) = (Some("billing".into()), START + DAY * day);
    Bootstrap { dir: dir.into(), names, client, days: 90, now }
}

fn text(dir: &Path, file: &str) -> String {
    std::fs::read_to_string(dir.join(file)).unwrap()
}

/// Which of these files are not as they were.
fn changed(dir: &Path, run: &Bootstrap) -> Vec<&'static str> {
    const FILES: [&str; 6] =
        ["ca.pem", "ca.key", "server.pem", "server.key", "client.pem", "client.key"];
    let before = FILES.map(|file| text(dir, file));
    run.run().unwrap();
    let pairs = FILES.into_iter().zip(before);
    pairs.filter(|(file, before)| text(dir, file) != *before).map(|(file, _)| file).collect()
}

#[test]
fn what_has_lived_two_thirds_of_its_life_is_renewed_and_the_authority_never() {
    let directory = tempfile::tempdir().unwrap();
    let dir = &directory.path().join("new/tls");
    on(0, dir, &["tidegate.shop", "10.0.0.7"]).run().unwrap();
    assert!(changed(dir, &on(59, dir, &[])).is_empty());
    let leaves = ["server.pem", "server.key", "client.pem", "client.key"];
    assert_eq!(changed(dir, &on(61, dir, &[])), leaves);
    let pair = on(0, dir, &[]).pair("server");
    let contents = read(&pair).unwrap();
    pair.certified(&contents).unwrap();
    let der = &contents.of(&pair.certificate).certificates().unwrap()[0];
    let facts = Facts::of(der).unwrap();
    assert_eq!(facts.names, ["tidegate.shop", "10.0.0.7"], "its names are kept");
    assert_eq!(facts.end, START + DAY * (61 + 90));
    let authority = on(0, dir, &[]).pair("ca");
    let authority = read(&authority).unwrap().of(&authority.certificate).certificates();
    assert!(Facts::is_signed_by(der, &authority.unwrap()[0]));

    assert_eq!(changed(dir, &on(62, dir, &["other.shop"])), ["server.pem", "server.key"]);
    assert!(changed(dir, &on(63, dir, &["OTHER.shop"])).is_empty());
    for name in ["", "a b", "http://a", "*"] {
        assert!(matches!(on(63, dir, &[name]).run(), Err(BootstrapError::Name(_))), "{name}");
    }
}

#[test]
fn without_a_name_a_client_keeps_the_one_that_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    on(0, dir, &["tidegate.shop"]).run().unwrap();
    let unnamed = |day| Bootstrap { client: None, ..on(day, dir, &[]) };
    let client = || {
        let pair = unnamed(0).pair("client");
        let der = read(&pair).unwrap().of(&pair.certificate).certificates().unwrap();
        Facts::of(&der[0]).unwrap().common
    };
    assert!(changed(dir, &unnamed(1)).is_empty());
    let leaves = ["server.pem", "server.key", "client.pem", "client.key"];
    assert_eq!(changed(dir, &unnamed(61)), leaves, "it is renewed");
    assert_eq!(client().as_deref(), Some("billing"));
    let other = Bootstrap { client: Some("till".into()), ..on(62, dir, &[]) };
    assert_eq!(changed(dir, &other), ["client.pem", "client.key"]);
    assert_eq!(client().as_deref(), Some("till"));

    let first = tempfile::tempdir().unwrap();
    let said = Bootstrap { client: None, ..on(0, first.path(), &[]) }.run().unwrap();
    assert!(said[2].contains("written, for client,"), "{said:?}");
}

#[test]
fn nothing_outlives_the_authority_and_one_that_has_ended_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    on(0, dir, &[]).run().unwrap();
    let said = on(AUTHORITY_DAYS - 10, dir, &[]).run().unwrap();
    assert!(said[0].contains("another directory"), "{said:?}");
    let end = day(START + DAY * AUTHORITY_DAYS);
    assert!(said[1].contains("renewed") && said[1].ends_with(&end), "{said:?}");
    let ended = on(AUTHORITY_DAYS, dir, &[]).run().unwrap_err().to_string();
    assert!(ended.contains("has ended"), "{ended}");
}

#[test]
fn files_of_others_are_left_as_they_are_and_a_lost_key_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    on(0, dir, &[]).run().unwrap();
    std::fs::remove_file(dir.join("server.key")).unwrap();
    assert!(on(1, dir, &[]).run().unwrap()[1].contains("renewed"));

    let other = tempfile::tempdir().unwrap();
    on(0, other.path(), &[]).run().unwrap();
    std::fs::copy(other.path().join("client.pem"), dir.join("client.pem")).unwrap();
    let before = text(dir, "client.pem");
    let told = on(1, dir, &[]).run().unwrap_err().to_string();
    assert!(told.contains("client.pem") && told.contains("move it away"), "{told}");
    assert_eq!(text(dir, "client.pem"), before);

    for (lost, told_of) in [("ca.pem", "ca.pem"), ("ca.key", "ca.key")] {
        let other = tempfile::tempdir().unwrap();
        on(0, other.path(), &[]).run().unwrap();
        std::fs::remove_file(other.path().join(lost)).unwrap();
        let told = on(1, other.path(), &[]).run().unwrap_err().to_string();
        assert!(told.contains(told_of), "{told}");
        assert!(!other.path().join(lost).exists(), "no authority is made beside half of one");
    }
}
