//! Bootstrap on a clock of the tests.

use super::*;

const START: Duration = Duration::from_hours(24 * 365 * 56);

fn on(day: u32, dir: &Path, names: &[&str]) -> Bootstrap {
    let names = names.iter().copied().map(String::from).collect();
    Bootstrap { dir: dir.into(), names, client: "billing".into(), days: 90, now: START + DAY * day }
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
