//! Pattern: a text in which one `*` stands for any characters.

use std::fmt;

/// Matches names. Case counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// This name.
    Exact(Box<str>),
    /// Every name that begins and ends so. The two ends do not overlap: `ab*ba` does not match `aba`.
    Wild {
        /// How it begins.
        prefix: Box<str>,
        /// How it ends.
        suffix: Box<str>,
    },
}

impl Pattern {
    /// Reads a pattern; `None` when it has more than one `*`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('*') {
            None => Some(Self::Exact(text.into())),
            Some((_, suffix)) if suffix.contains('*') => None,
            Some((prefix, suffix)) => {
                Some(Self::Wild { prefix: prefix.into(), suffix: suffix.into() })
            }
        }
    }

    /// Whether the name matches.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *name,
            Self::Wild { prefix, suffix } => {
                name.strip_prefix(&**prefix).is_some_and(|rest| rest.ends_with(&**suffix))
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Wild { prefix, suffix } => write!(f, "{prefix}*{suffix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_star_stands_for_any_characters() {
        for (pattern, matching, other) in [
            ("joe", &["joe"][..], &["Joe", "joe2", "", " joe"][..]),
            ("*", &["", "joe", "a*b"], &[]),
            ("joe*", &["joe", "joe-2"], &["my-joe", "jo"]),
            ("*joe", &["joe", "my-joe"], &["joe-2"]),
            ("a*z", &["az", "a-z", "aazz"], &["a", "z", "za"]),
            ("ab*ba", &["abba", "ab-ba"], &["aba", "ab", "ba"]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(parsed.to_string(), pattern);
            for name in matching {
                assert!(parsed.matches(name), "{pattern} {name:?}");
            }
            for name in other {
                assert!(!parsed.matches(name), "{pattern} {name:?}");
            }
        }
        assert_eq!(Pattern::parse("a**b"), None);
        assert_eq!(Pattern::parse("*a*"), None);
    }

    /// Tries every length that the star may stand for.
    fn naive(pattern: &str, name: &str) -> bool {
        match pattern.split_once('*') {
            None => pattern == name,
            Some((prefix, suffix)) => (0..=name.len()).any(|length| {
                let begins = name.get(..prefix.len()) == Some(prefix);
                begins
                    && name.get(prefix.len() + length..) == Some(suffix)
                    && prefix.len() + length + suffix.len() == name.len()
            }),
        }
    }

    proptest! {
        #[test]
        fn it_matches_what_a_naive_matcher_matches(
            pattern in "[abé]{0,3}\\*?[abé]{0,3}",
            name in "[abé]{0,6}",
        ) {
            let parsed = Pattern::parse(&pattern).unwrap();
            prop_assert_eq!(parsed.matches(&name), naive(&pattern, &name));
        }
    }
}
