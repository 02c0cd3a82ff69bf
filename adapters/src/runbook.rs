//! Runbook: the pages of `docs/runbook/`, which are part of the binary.

macro_rules! pages {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../docs/runbook/", $name, ".md")))),*]
    };
}

/// Name and text of each page.
const PAGES: &[(&str, &str)] = pages! {
    "calls-lost",
    "calls-shed",
    "certificate-ends",
    "commits-in-doubt",
    "dead-letters",
    "disk-full",
    "due-work-late",
    "effects-late",
    "failures",
    "few-descriptors",
    "host-away",
    "log-dropped",
    "reload-broken",
    "schedules-missed",
    "store-fails",
    "turns-stuck",
};

/// The text of a page.
pub(crate) fn page(name: &str) -> Option<&'static str> {
    PAGES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_page_is_part_of_the_binary() {
        let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbook");
        let mut all: Vec<_> = fs::read_dir(pages)
            .unwrap()
            .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        all.sort();
        assert_eq!(all, PAGES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        assert!(page("host-away").unwrap().starts_with("# TidegateHostAway"));
        assert_eq!(page("../metrics"), None);
    }
}
