//! Papers: licence, man pages and completions.

use std::process::Command;

use crate::file;
use crate::support::tool::run;

/// The commands that `--help` lists.
async fn commands() -> Vec<String> {
    let help = run(&["--help"], &[]).await.said();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    // Further lines of a description are indented further.
    let named = listed.filter_map(|line| line.strip_prefix("  ")?.split_once("  "));
    let commands: Vec<_> = named.map(|(name, _)| name.to_owned()).collect();
    let commands: Vec<_> = commands.into_iter().filter(|name| !name.is_empty()).collect();
    assert!(commands.len() > 12 && commands.iter().any(|name| name == "serve"), "{commands:?}");
    commands
}

#[test]
fn the_licence_is_the_one_that_the_manifests_name() {
    let licence = file("LICENSE");
    assert!(licence.contains("Apache License") && licence.contains("Version 2.0, January 2004"));
    assert!(file("Cargo.toml").contains("license = \"Apache-2.0\""));
    assert!(file("SECURITY.md").contains("## In scope"));
}

#[tokio::test]
async fn each_command_has_a_man_page() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    run(&["man", pages.to_str().unwrap()], &[]).await.said();
    let mut expected: Vec<_> =
        commands().await.iter().map(|name| format!("tidegate-{name}.1")).collect();
    expected.push("tidegate.1".into());
    expected.sort_unstable();
    let entries = pages.read_dir().unwrap();
    let mut found: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort_unstable();
    // `help` says nothing of its own.
    expected.retain(|name| name != "tidegate-help.1");
    found.retain(|name| !name.starts_with("tidegate-help"));
    // Those of the commands below a command.
    let is_below =
        |name: &str| expected.iter().any(|above| name.starts_with(&above.replace(".1", "-")));
    found.retain(|name| expected.contains(name) || !is_below(name));
    assert_eq!(found, expected, "hidden commands have none");
    for page in &found {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains("\n.TH "), "{page} is no man page: {text}");
    }
    let serve = std::fs::read_to_string(pages.join("tidegate-serve.1")).unwrap();
    assert!(serve.contains("TIDEGATE_DATA_DIR"), "settings are in the page of serve");
}

#[tokio::test]
async fn bash_completes_what_the_binary_knows() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell], &[]).await.said();
        for word in ["restore-backup", "rate"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let script = run(&["completions", "bash"], &[]).await.said();
    let complete = "COMP_WORDS=(tidegate res); COMP_CWORD=1; _tidegate tidegate res tidegate; echo \"${COMPREPLY[@]}\"";
    let asked =
        Command::new("bash").args(["-c", &format!("{script}\n{complete}")]).output().unwrap();
    let told = String::from_utf8(asked.stdout).unwrap();
    let mut told: Vec<_> = told.split_whitespace().collect();
    told.sort_unstable();
    assert_eq!(told, ["reseal", "restore", "restore-backup"]);
}
