//! The processes of a cluster, by name: what each of them used during the load, and who used how much of all.

use std::fmt::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::host::{self, Usage};
use crate::report::Cost;

/// A process that is observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its name in reports.
    pub name: String,
    /// Its id on this machine.
    pub pid: u32,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = text.split_once('=').and_then(|(name, pid)| Some((name, pid.parse::<u32>().ok()?)));
        match named {
            Some((name, pid)) if !name.is_empty() && pid > 0 => Ok(Self { name: name.to_owned(), pid }),
            _ => Err("give NAME=PID, as edge1=4711".to_owned()),
        }
    }
}

/// What a process is in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What is measured.
    Server,
    /// What that stands on: its broker, its database.
    Backend,
    /// This program.
    Generator,
}

/// What one process used during the load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessCost {
    /// Its name.
    pub name: String,
    /// What it is.
    pub part: Part,
    /// What it used; none where it ended, or another one has its id.
    pub cost: Option<Cost>,
    /// Its CPU of that of all processes listed, 0 to 1.
    pub share: f64,
}

/// The processes that a run observes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    /// Those of what is measured.
    pub servers: Vec<Named>,
    /// Those that it stands on.
    pub backends: Vec<Named>,
}

impl Processes {
    /// The first one that is not there.
    pub fn missing(&self) -> Option<&Named> {
        self.all().map(|(_, named)| named).find(|named| host::usage_of(named.pid).is_none())
    }

    /// What each has used so far.
    pub fn usages(&self) -> Vec<Option<Usage>> {
        self.all().map(|(_, named)| host::usage_of(named.pid)).collect()
    }

    /// What each has used since `before`, which [`Self::usages`] answered.
    pub fn used_since(&self, before: &[Option<Usage>]) -> Vec<Used> {
        let used = |((part, named), before): ((Part, &Named), &Option<Usage>)| {
            let usage = host::usage_of(named.pid).zip(*before).map(|(now, before)| now.since(&before));
            // A process that was started again under the same id has used less than the one before it.
            let usage = usage.filter(|usage| usage.user_s >= 0.0 && usage.system_s >= 0.0);
            Used { name: named.name.clone(), part, usage }
        };
        self.all().zip(before).map(used).collect()
    }

    fn all(&self) -> impl Iterator<Item = (Part, &Named)> {
        let servers = self.servers.iter().map(|named| (Part::Server, named));
        servers.chain(self.backends.iter().map(|named| (Part::Backend, named)))
    }
}

/// What a process used.
#[derive(Clone, Debug)]
pub struct Used {
    /// Its name.
    pub name: String,
    /// What it is.
    pub part: Part,
    /// None where it is unknown.
    pub usage: Option<Usage>,
}

/// Costs and shares, for so many messages.
pub fn costs(used: &[Used], messages: u64) -> Vec<ProcessCost> {
    let cpu = |used: &Used| used.usage.map_or(0.0, |usage| usage.cpu_s());
    let all: f64 = used.iter().map(cpu).sum();
    let cost = |used: &Used| ProcessCost {
        name: used.name.clone(),
        part: used.part,
        cost: used.usage.map(|usage| Cost::new(usage, messages)),
        share: if all > 0.0 { cpu(used) / all } else { 0.0 },
    };
    used.iter().map(cost).collect()
}

/// The sum of one part: microseconds of CPU a message, and its share.
pub fn sum(costs: &[ProcessCost], part: Part) -> (f64, f64) {
    let of_part = costs.iter().filter(|cost| cost.part == part);
    let us = |cost: &Cost| cost.user_us_per_message + cost.system_us_per_message;
    of_part
        .fold((0.0, 0.0), |(cpu, share), cost| (cpu + cost.cost.as_ref().map_or(0.0, us), share + cost.share))
}

/// A line for each process and each part, for people.
pub fn write_lines(text: &mut String, costs: &[ProcessCost]) -> fmt::Result {
    if costs.is_empty() {
        return Ok(());
    }
    writeln!(text, "\n{:<12} {:>10} {:>10} {:>10} {:>8}", "CPU", "µs/message", "user", "system", "share")?;
    for process in costs {
        let share = process.share * 100.0;
        match &process.cost {
            Some(Cost { user_us_per_message: user, system_us_per_message: system, .. }) => writeln!(
                text,
                "{:<12} {:>10.1} {user:>10.1} {system:>10.1} {share:>6.1} %",
                process.name,
                user + system
            )?,
            None => writeln!(text, "{:<12} {:>10}", process.name, "ended")?,
        }
    }
    let (us, share) = sum(costs, Part::Server);
    writeln!(text, "{:<12} {us:>10.1} {:>10} {:>10} {:>6.1} %", "all servers", "", "", share * 100.0)
}

/// The same in markdown.
pub fn write_table(text: &mut String, run: &str, costs: &[ProcessCost]) -> fmt::Result {
    if costs.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "\n| CPU of {run} | µs a message | user | system | share | resident MB |\n| --- | --- | --- | --- | --- | --- |"
    )?;
    for process in costs {
        let share = process.share * 100.0;
        match &process.cost {
            Some(Cost { user_us_per_message: user, system_us_per_message: system, usage }) => writeln!(
                text,
                "| {} | {:.1} | {user:.1} | {system:.1} | {share:.1} % | {:.0} |",
                process.name,
                user + system,
                usage.resident_bytes as f64 / 1e6
            )?,
            None => writeln!(text, "| {} | ended | | | | |", process.name)?,
        }
    }
    for (name, part) in [("all servers", Part::Server), ("what they stand on", Part::Backend)] {
        let (us, share) = sum(costs, part);
        writeln!(text, "| **{name}** | {us:.1} | | | {:.1} % | |", share * 100.0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_with_its_id() {
        assert_eq!("edge1=12".parse(), Ok(Named { name: "edge1".to_owned(), pid: 12 }));
        for bad in ["edge1", "edge1=", "=12", "edge1=x", "edge1=0"] {
            assert!(bad.parse::<Named>().is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_are_of_all_that_is_known() {
        let used = |name: &str, part, cpu: Option<f64>| Used {
            name: name.to_owned(),
            part,
            usage: cpu.map(|user_s| Usage { user_s, ..Usage::default() }),
        };
        let all = [
            used("edge", Part::Server, Some(1.0)),
            used("persist", Part::Server, Some(2.0)),
            used("broker", Part::Backend, Some(4.0)),
            used("gone", Part::Backend, None),
            used("generator", Part::Generator, Some(1.0)),
        ];
        let costs = costs(&all, 1_000);
        assert_eq!(costs.iter().map(|cost| cost.share).collect::<Vec<_>>(), [0.125, 0.25, 0.5, 0.0, 0.125]);
        assert!(costs[3].cost.is_none());
        let (us, share) = sum(&costs, Part::Server);
        assert!((us - 3_000.0).abs() < 1e-6 && (share - 0.375).abs() < 1e-9, "{us} {share}");
    }

    #[test]
    fn this_process_is_measured_and_one_that_is_not_there_is_found_out() {
        let named = |pid| Named { name: "test".to_owned(), pid };
        let here = Processes { servers: vec![named(std::process::id())], backends: Vec::new() };
        assert_eq!(here.missing(), None);
        let used = here.used_since(&here.usages());
        assert!(used[0].usage.is_some_and(|usage| usage.resident_bytes > 0));
        // Above the largest id that Linux gives.
        let gone = Processes { servers: Vec::new(), backends: vec![named(1 << 30)] };
        assert_eq!(gone.missing(), Some(&named(1 << 30)));
        assert!(gone.used_since(&gone.usages())[0].usage.is_none());
    }
}
