//! Image: the steps of the Dockerfile, taken without Docker: its files are there, its build builds what it copies, and the
//! binary serves as its user, with nothing to write on but its volume.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Blocking;

use tokio::process::Command;

use crate::support::namespace::run_on_device;
use crate::support::proxy::{BINARY, Proxy, set};
use crate::{LIMIT, assert_settings, file, root};

/// An instruction with its flags and its words; the words of a JSON list are its elements.
#[derive(Debug)]
struct Step {
    instruction: String,
    flags: Vec<(String, String)>,
    words: Vec<String>,
}

impl Step {
    fn flag(&self, name: &str) -> Option<&str> {
        self.flags.iter().find(|(flag, _)| flag == name).map(|(_, value)| value.as_str())
    }
}

fn words(text: &str) -> Vec<String> {
    match text.trim().strip_prefix('[') {
        Some(_) => serde_json::from_str(text.trim()).unwrap(),
        None => text.split_whitespace().map(ToOwned::to_owned).collect(),
    }
}

/// The stages of the Dockerfile, each with its steps; a stage begins with FROM.
fn stages() -> Vec<Vec<Step>> {
    let mut stages = Vec::new();
    for line in file("Dockerfile").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (instruction, mut rest) = line.split_once(' ').unwrap();
        let mut flags = Vec::new();
        while let Some(flag) = rest.strip_prefix("--").filter(|_| instruction != "RUN") {
            let (flag, tail) = flag.split_once(' ').unwrap();
            let (name, value) = flag.split_once('=').unwrap();
            flags.push((name.to_owned(), value.to_owned()));
            rest = tail;
        }
        if instruction == "FROM" {
            stages.push(Vec::new());
        }
        let step = Step { instruction: instruction.to_owned(), flags, words: words(rest) };
        stages.last_mut().expect("the first step is FROM").push(step);
    }
    stages
}

fn of<'a>(stage: &'a [Step], instruction: &str) -> Vec<&'a Step> {
    stage.iter().filter(|step| step.instruction == instruction).collect()
}

fn only<'a>(stage: &'a [Step], instruction: &str) -> &'a Step {
    let found = of(stage, instruction);
    let [step] = found[..] else { panic!("one {instruction}: {found:?}") };
    step
}

fn run(command: &mut Blocking) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_is_copied_is_there_and_builds_what_the_image_takes() {
    let stages = stages();
    let [build, image] = &stages[..] else { panic!("two stages") };
    let dir = tempfile::tempdir().unwrap();
    let ignored = file(".dockerignore");
    for step in of(build, "COPY") {
        let (to, from) = step.words.split_last().unwrap();
        for name in from {
            assert!(root().join(name).exists(), "{name} is not in the tree");
            assert!(!ignored.lines().any(|line| line == name), "{name} is ignored");
            let to = if to == "./" { name } else { to };
            // What is built is not copied, as .dockerignore has it.
            let copied = format!(
                "tar -C {} --exclude=target --exclude=node_modules -cf - {name} | tar -C {} -xf -",
                root().display(),
                dir.path().display()
            );
            run(Blocking::new("sh").args(["-c", &copied]));
            assert!(dir.path().join(to).exists());
        }
    }
    // What a first actor and dashboards are made of lies beside the package.
    let source = ["init", "dashboards"].map(|command| {
        fs::read_to_string(dir.path().join(format!("adapters/src/cli/{command}.rs"))).unwrap()
    });
    let source = source.concat();
    let beside: Vec<_> = source
        .split("include_str!(\"../../../")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(beside.len() > 12, "{beside:?}");
    assert!(beside.iter().all(|name| dir.path().join(name).is_file()), "{beside:?}");
    // Cargo finds every member and every target in what was copied, and the lock file fits.
    let described = Blocking::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(described.status.success(), "{}", String::from_utf8_lossy(&described.stderr));
    let described: serde_json::Value = serde_json::from_slice(&described.stdout).unwrap();
    let packages = described["packages"].as_array().unwrap();

    let cargo = of(build, "RUN").into_iter().find(|step| step.words[..2] == ["cargo", "build"]);
    let cargo = &cargo.unwrap().words;
    let option = |name: &str| {
        let at = cargo.iter().position(|word| word == name).unwrap_or_else(|| panic!("{name}"));
        cargo[at + 1].as_str()
    };
    assert!(cargo.iter().any(|word| word == "--locked"));
    let (package, bin, profile) = (option("-p"), option("--bin"), option("--profile"));
    let package = packages.iter().find(|known| known["name"] == package).unwrap();
    let targets = package["targets"].as_array().unwrap();
    assert!(targets.iter().any(|target| target["name"] == bin && target["kind"][0] == "bin"));
    assert!(file("Cargo.toml").contains(&format!("[profile.{profile}]")));
    let place = format!("{}/target/{profile}/{bin}", only(build, "WORKDIR").words[0]);
    let taken = of(image, "COPY").into_iter().find(|step| step.words[0] == place);
    assert_eq!(only(image, "ENTRYPOINT").words, [taken.unwrap().words[1].as_str()]);
    assert!(of(image, "RUN").is_empty(), "the image has no shell");
    for step in of(image, "COPY").into_iter().filter(|step| step.flag("from").is_none()) {
        assert!(root().join(&step.words[0]).exists(), "{step:?}");
    }
}

#[test]
fn the_image_serves_as_its_user_on_a_read_only_root() {
    run_on_device("400m", "image::inside_the_image");
}

/// Whether this is root of the machine, who can become another user.
fn can_become(user: &str) -> bool {
    let mapped = fs::read_to_string("/proc/self/uid_map").unwrap();
    let mut numbers = mapped.split_whitespace().map(|number| number.parse::<u64>().unwrap());
    let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
    let user: u64 = user.parse().unwrap();
    first.unwrap() + count.unwrap() > user
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by a test above"]
async fn inside_the_image() {
    let stages = stages();
    let image = stages.last().unwrap();
    let here = std::env::current_dir().unwrap();
    let place = |path: &str| -> PathBuf { here.join(path.trim_start_matches('/')) };
    let (user, group) = only(image, "USER").words[0].split_once(':').unwrap();
    assert!(user.parse::<u32>().unwrap() > 0, "not root");

    // The steps that copy.
    let entry = &only(image, "ENTRYPOINT").words[0];
    fs::create_dir_all(place(entry).parent().unwrap()).unwrap();
    fs::copy(BINARY, place(entry)).unwrap();
    let volume = &only(image, "VOLUME").words[0];
    fs::create_dir(place(volume)).unwrap();
    run(Blocking::new("chmod").arg("0700").arg(place(volume)));
    let owned = of(image, "COPY").into_iter().find(|step| step.words[1] == *volume).unwrap();
    assert_eq!(owned.flag("chown"), Some(only(image, "USER").words[0].as_str()));
    let becomes = can_become(user);
    if becomes {
        run(Blocking::new("chown").arg(format!("{user}:{group}")).arg(place(volume)));
    }
    // Nothing else can be written.
    run(Blocking::new("mount").arg("--bind").arg(place(volume)).arg(place(volume)));
    run(Blocking::new("mount").args(["-o", "remount,bind,ro", "."]));
    run(Blocking::new("mount").args(["-o", "remount,bind,ro", "/"]));
    assert!(fs::write(here.join("probe"), "").is_err() && fs::write("/tmp/probe", "").is_err());

    let (name, value) = only(image, "ENV").words[0].split_once('=').unwrap();
    assert_settings(&[(name.to_owned(), value.to_owned())]).await;
    let data = place(value).to_str().unwrap().to_owned();
    let settings = [(name, &data[..]), ("TIDEGATE_DRAIN_DELAY", "0s")];
    let begin = |words: &[String]| {
        let mut command = if becomes {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs"]);
            command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(place(entry));
            command
        } else {
            Command::new(place(entry))
        };
        command.args(words);
        command
    };
    let proxy = Proxy::spawn(begin(&only(image, "CMD").words), &settings).await;
    let (_, port) = proxy.address().rsplit_once(':').unwrap();
    let port = port.to_owned();

    let check = only(image, "HEALTHCHECK");
    let [word, asked @ ..] = &check.words[..] else { panic!("{check:?}") };
    assert_eq!(word, "CMD");
    let asked: Vec<String> = words(&asked.join(" "));
    let (program, asked) = asked.split_first().unwrap();
    assert_eq!(program, entry);
    let health = async || {
        let mut command = begin(asked);
        set(&mut command, &[("PROXY_HTTP_PORT", &port[..]), settings[0]]);
        command.output().await.unwrap()
    };
    let well = health().await;
    assert!(well.status.success(), "{}", String::from_utf8_lossy(&well.stderr));
    assert_eq!(proxy.terminate(LIMIT).await.code(), Some(0));
    let ended = health().await;
    assert_eq!(ended.status.code(), Some(69), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(Path::new(&data).join("FORMAT").exists(), "the state is on the volume");
}
