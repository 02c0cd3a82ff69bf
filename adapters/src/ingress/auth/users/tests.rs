use std::fs;

use tempfile::TempDir;
use tokio::time::advance;

use super::*;
use crate::reload::Watch;

/// Costs little, for tests.
const COST: u32 = 4;

fn line(name: &str, password: &str) -> String {
    format!("{name}:{}\n", bcrypt::hash(password, COST).unwrap())
}

fn users(text: &str) -> Result<(Users, WatchedUsers, TempDir), AuthFileError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    fs::write(&file, text).unwrap();
    let (users, watched) = Users::open(file)?;
    Ok((users, watched, folder))
}

async fn name(users: &Users, name: &str, password: &str) -> Result<Arc<str>, PasswordError> {
    users.name(&STANDARD.encode(format!("{name}:{password}"))).await
}

#[tokio::test]
async fn a_user_with_its_password_is_known_and_nobody_else() {
    let long = "p".repeat(MAX_PASSWORD_BYTES);
    let text = line("alice", "with:colon") + "# of another tool\n\n" + &line("bob", &long);
    let (users, ..) = users(&text.replace("$2b$", "$2y$")).unwrap();
    assert_eq!(name(&users, "alice", "with:colon").await.as_deref(), Ok("alice"));
    assert_eq!(name(&users, "bob", &long).await.as_deref(), Ok("bob"));
    for (user, password) in [
        ("alice", "With:colon"),
        ("alice", ""),
        ("alice", &long),
        ("bob", "with:colon"),
        ("bob", &(long.clone() + "q")),
        ("Alice", "with:colon"),
        ("", "with:colon"),
        ("carol", "with:colon"),
    ] {
        assert_eq!(name(&users, user, password).await, Err(PasswordError::Wrong), "{user}");
    }
    for malformed in ["", "!", "YWxpY2U=", "/w=="] {
        assert_eq!(users.name(malformed).await, Err(PasswordError::Wrong), "{malformed}");
    }
}

#[tokio::test]
async fn the_password_of_an_unknown_user_is_compared_with_the_hash_of_the_highest_cost() {
    let hash = |cost| bcrypt::hash("one", cost).unwrap();
    let (cheap, dear) = (hash(COST), hash(COST + 2));
    // Neither the first nor the last one of the file or of the names.
    let text = format!("bob:{cheap}\nmia:{dear}\nzoe:{cheap}\namy:{cheap}");
    let (users, ..) = users(&text).unwrap();
    let known = users.known.load_full();
    for (name, hash) in [("bob", &cheap), ("mia", &dear), ("nobody", &dear), ("", &dear)] {
        assert_eq!(known.compared_with(name).as_deref(), Some(hash.as_str()), "{name}");
    }
    assert_eq!(name(&users, "nobody", "one").await, Err(PasswordError::Wrong));
}

#[tokio::test(start_paused = true)]
async fn credentials_that_were_right_are_remembered_for_a_minute_and_a_flood_is_turned_away() {
    let (users, mut watched, folder) = users(&line("alice", "one")).unwrap();
    assert!(name(&users, "alice", "one").await.is_ok());
    // From now on, no password can be checked.
    let all = u32::try_from(users.checking.available_permits()).unwrap();
    let taken = users.checking.clone().acquire_many_owned(all).await.unwrap();
    assert!(name(&users, "alice", "one").await.is_ok(), "remembered");
    assert_eq!(name(&users, "alice", "two").await, Err(PasswordError::Busy));
    let flood: Vec<_> = (0..200)
        .map(|number| {
            let users = users.clone();
            async move { name(&users, "alice", &number.to_string()).await }
        })
        .collect();
    let began = Instant::now();
    let flood = futures_util::future::join_all(flood).await;
    assert!(flood.iter().all(|outcome| *outcome == Err(PasswordError::Busy)));
    assert_eq!(began.elapsed(), MAX_WAIT, "most are turned away at once, none waits longer");
    advance(REMEMBERED_FOR).await;
    assert_eq!(name(&users, "alice", "one").await, Err(PasswordError::Busy), "forgotten");

    drop(taken);
    assert!(name(&users, "alice", "one").await.is_ok());
    fs::write(folder.path().join("users"), line("alice", "two")).unwrap();
    assert!(watched.look() && !watched.look());
    assert_eq!(name(&users, "alice", "one").await, Err(PasswordError::Wrong), "a new file counts");
    assert!(name(&users, "alice", "two").await.is_ok());
}

#[test]
fn a_mistake_is_told_with_its_line() {
    let good = line("alice", "one");
    let dear = good.replace("$04$", "$31$");
    for (text, line, part) in [
        (String::new(), None, "holds no user"),
        (good.clone() + "bob", Some(2), "a name, a colon and a hash"),
        (good.clone() + "\nbob:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", Some(3), "no bcrypt hash"),
        (good.clone() + "bob:$2b$04$short", Some(2), "no bcrypt hash"),
        (good.clone() + &good, Some(2), "for the second time"),
        (dear, Some(1), "cost is not 4 to 14"),
        (good.replace("alice", ""), Some(1), "the name is empty"),
    ] {
        let told = users(&text).err().unwrap();
        assert_eq!(told.line, line, "{told}");
        assert!(told.text.contains(part), "{told}");
    }
}
