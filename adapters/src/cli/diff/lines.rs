//! Lines: finds the common lines of two texts.

/// Largest number of line pairs to compare; above it, everything between the common start and end counts as
/// changed.
const PAIRS: usize = 4_000_000;

/// A line of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// In both texts.
    Both(&'a str),
    /// Only in the first.
    Old(&'a str),
    /// Only in the second.
    New(&'a str),
}

/// Compares two texts and finds as many common lines as possible, unless the texts are very long.
pub(super) fn compare<'a>(old: &'a [String], new: &'a [String]) -> Vec<Line<'a>> {
    let start = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (head, old) = old.split_at(start);
    let new = new.get(start..).unwrap_or_default();
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, tail) = old.split_at(old.len() - end);
    let new = new.get(..new.len() - end).unwrap_or_default();
    let mut lines: Vec<Line<'a>> = head.iter().map(|line| Line::Both(line)).collect();
    if old.len().saturating_mul(new.len()) > PAIRS {
        lines.extend(old.iter().map(|line| Line::Old(line)));
        lines.extend(new.iter().map(|line| Line::New(line)));
    } else {
        lines.extend(middle(old, new));
    }
    lines.extend(tail.iter().map(|line| Line::Both(line)));
    lines
}

/// Finds the longest common subsequence with a table of the common lengths of all suffixes.
fn middle<'a>(old: &'a [String], new: &'a [String]) -> Vec<Line<'a>> {
    let width = new.len() + 1;
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for (i, old) in old.iter().enumerate().rev() {
        for (j, new) in new.iter().enumerate().rev() {
            let place = i * width + j;
            common[place] = if old == new {
                common[place + width + 1] + 1
            } else {
                common[place + width].max(common[place + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::with_capacity(old.len() + new.len());
    loop {
        match (old.get(i), new.get(j)) {
            (None, None) => return lines,
            (Some(line), Some(other)) if line == other => {
                lines.push(Line::Both(line));
                (i, j) = (i + 1, j + 1);
            }
            (Some(line), other) => {
                let place = i * width + j;
                if other.is_none() || common[place + width] >= common[place + 1] {
                    lines.push(Line::Old(line));
                    i += 1;
                } else if let Some(line) = other {
                    lines.push(Line::New(line));
                    j += 1;
                }
            }
            (None, Some(line)) => {
                lines.push(Line::New(line));
                j += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(words: &str) -> Vec<String> {
        words.chars().map(String::from).collect()
    }

    fn marked(old: &str, new: &str) -> String {
        let (old, new) = (text(old), text(new));
        let lines = compare(&old, &new);
        let marked = lines.iter().map(|line| match line {
            Line::Both(line) => (*line).to_owned(),
            Line::Old(line) => format!("-{line}"),
            Line::New(line) => format!("+{line}"),
        });
        marked.collect()
    }

    #[test]
    fn common_lines_stay() {
        assert_eq!(marked("abc", "abc"), "abc");
        assert_eq!(marked("abc", "axc"), "a-b+xc");
        assert_eq!(marked("abcd", "bxd"), "-ab-c+xd");
        assert_eq!(marked("", "a"), "+a");
        assert_eq!(marked("aa", "a"), "a-a");
    }

    #[test]
    fn very_long_texts_are_compared_at_their_ends() {
        let long = |sign: &str| -> Vec<String> {
            let mut lines = vec!["same".to_owned()];
            lines.extend(std::iter::repeat_n(sign.to_owned(), 3_000));
            lines.push("end".into());
            lines
        };
        let (old, new) = (long("a"), long("b"));
        let lines = compare(&old, &new);
        assert_eq!(lines.len(), 6_002);
        assert_eq!((lines[0], lines[6_001]), (Line::Both("same"), Line::Both("end")));
    }

    proptest! {
        #[test]
        fn both_texts_can_be_told_from_the_comparison(old in "[ab]{0,12}", new in "[abc]{0,12}") {
            let (old, new) = (text(&old), text(&new));
            let lines = compare(&old, &new);
            let told = |is_old: bool| -> Vec<&str> {
                lines.iter().filter_map(|line| match line {
                    Line::Both(line) => Some(*line),
                    Line::Old(line) => is_old.then_some(*line),
                    Line::New(line) => (!is_old).then_some(*line),
                }).collect()
            };
            prop_assert_eq!(told(true), old.clone());
            prop_assert_eq!(told(false), new.clone());
        }
    }
}
