//! `tidegate hot`: the heaviest actors of a running proxy.

use clap::{Args, ValueEnum};
use http::Method;

use super::client::{Client, ProxyArgs, read};
use super::output::Output;
use super::{print, print_json};
use crate::app::StartError;
use crate::ingress::hot::{HotBody, HotLine};
use crate::terminal::{Colours, table};

/// Shows the heaviest actors of a running proxy, with their share of all: of the last one or two minutes
#[derive(Debug, Args)]
pub(super) struct Hot {
    /// What is counted: calls, time of turns, bytes written and answered, or turns that wait now
    #[arg(long, value_enum, value_name = "MEASURE", default_value = "calls")]
    by: By,
    /// How many are shown
    #[arg(long, value_name = "ACTORS", default_value = "20", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum By {
    Calls,
    Time,
    Bytes,
    Queue,
}

impl By {
    fn word(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Time => "time",
            Self::Bytes => "bytes",
            Self::Queue => "queue",
        }
    }
}

impl Hot {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let hot = ask(&Client::new(&self.proxy_args)?, self.by, self.limit).await?;
        if self.output.is_json() {
            return print_json(&hot);
        }
        print(&shown(&hot, Colours::of_stdout()))
    }
}

pub(super) async fn ask(client: &Client, by: By, limit: u16) -> Result<HotBody, StartError> {
    let path = format!("/admin/hot?by={}&limit={limit}", by.word());
    let asked = client.send(Method::GET, &path).await;
    Ok(read(&asked.map_err(anyhow::Error::from)?)?)
}

/// What was counted, and the actors as a table.
pub(super) fn shown(hot: &HotBody, colours: Colours) -> String {
    let total = amount(&hot.unit, hot.total);
    let (what, column) = match &*hot.by {
        "time" => ("of turns", "TIME"),
        "bytes" => ("written and answered", "BYTES"),
        "queue" => ("wait now", "WAITING"),
        _ => ("ended", "CALLS"),
    };
    let covers = match hot.covers_ms / 1_000 {
        0 => String::new(),
        seconds => format!(" in the last {seconds} s"),
    };
    let row = |actor: &HotLine| {
        let HotLine { system, name, member, count, error, share } = actor;
        let name = member.as_ref().unwrap_or(name);
        vec![
            format!("{system}/{name}"),
            amount(&hot.unit, *count),
            format!("{:.1} %", share * 100.0),
            if *error == 0 { String::new() } else { format!("-{}", amount(&hot.unit, *error)) },
        ]
    };
    let rows: Vec<_> = hot.actors.iter().map(row).collect();
    let title = ["ACTOR", column, "SHARE", "ERROR"];
    format!("{total} {what}{covers}\n{}", table(&title, &rows, colours))
}

/// A count with its unit, for people.
#[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
fn amount(unit: &str, count: u64) -> String {
    let scaled = |units: &[(&str, f64)]| {
        let count = count as f64;
        let fits = units.iter().find(|(_, size)| count >= *size).or_else(|| units.last());
        fits.map_or_else(String::new, |(unit, size)| format!("{:.1} {unit}", count / size))
    };
    match unit {
        "us" => scaled(&[("s", 1e6), ("ms", 1e3)]),
        "bytes" if count < 1 << 10 => format!("{count} B"),
        "bytes" => scaled(&[("GiB", 1_073_741_824.0), ("MiB", 1_048_576.0), ("KiB", 1_024.0)]),
        "turns" => format!("{count} turns"),
        _ => format!("{count} calls"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_units_and_what_is_wrong_of_them() {
        for (unit, count, text) in [
            ("calls", 7, "7 calls"),
            ("us", 812, "0.8 ms"),
            ("us", 90_500_000, "90.5 s"),
            ("bytes", 12, "12 B"),
            ("bytes", 3 << 20, "3.0 MiB"),
            ("turns", 0, "0 turns"),
        ] {
            assert_eq!(amount(unit, count), text);
        }
        let line = |name: &str, count, error| HotLine {
            system: "shop".into(),
            name: name.into(),
            member: None,
            count,
            error,
            share: 0.25,
        };
        let hot = HotBody {
            by: "bytes".into(),
            unit: "bytes".into(),
            covers_ms: 61_400,
            total: 8 << 10,
            others_at_most: 100,
            actors: vec![line("cart-7", 2 << 10, 0), line("cart-8", 2 << 10, 100)],
        };
        let text = "8.0 KiB written and answered in the last 61 s\n\
                    ACTOR          BYTES   SHARE   ERROR\n\
                    shop/cart-7  2.0 KiB  25.0 %\n\
                    shop/cart-8  2.0 KiB  25.0 %  -100 B\n";
        assert_eq!(shown(&hot, Colours::none()), text);
    }
}
