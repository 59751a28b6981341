//! Computes figures from a guest's report.

use anyhow::{Context, Result, bail};

/// A guest's report.
pub struct Report {
    /// The time of the whole work.
    whole_ns: u64,
    /// The samples in ascending order, if the guest took any.
    samples_ns: Vec<u64>,
}

/// The number of a report that a figure uses.
#[derive(Clone, Copy)]
pub enum Pick {
    Whole,
    /// The smallest sample that this percentage of the samples doesn't exceed.
    Percentile(f64),
    SampleCount,
}

/// The unit of a figure. The text is printed.
#[derive(Clone, Copy)]
pub enum Unit {
    /// The time of the work divided by the number of times that it was done.
    MicrosecondsEach(&'static str),
    NanosecondsEach(&'static str),
    PerSecond(&'static str),
    Seconds,
    Milliseconds,
    Microseconds(&'static str),
    Count,
    Bytes,
}

impl Report {
    /// Reads a report's payload.
    pub fn parse(payload: &[u8]) -> Result<Report> {
        let (numbers, rest) = payload.as_chunks::<8>();
        if !rest.is_empty() {
            bail!("the report has {} bytes", payload.len());
        }
        let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let whole_ns = numbers.next().context("the report is empty")?;
        let mut samples_ns = numbers.collect::<Vec<_>>();
        samples_ns.sort_unstable();
        Ok(Report {
            whole_ns,
            samples_ns,
        })
    }

    pub fn pick(&self, pick: Pick) -> Result<f64> {
        Ok(match pick {
            Pick::Whole => self.whole_ns as f64,
            Pick::Percentile(percent) => {
                percentile(&self.samples_ns, percent).context("the report holds no samples")? as f64
            }
            Pick::SampleCount => self.samples_ns.len() as f64,
        })
    }
}

/// Computes the percentile by nearest rank, as the Erlang benchmarks do.
fn percentile(sorted: &[u64], percent: f64) -> Option<u64> {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

impl Unit {
    pub fn text(self) -> &'static str {
        match self {
            Unit::MicrosecondsEach(text)
            | Unit::NanosecondsEach(text)
            | Unit::PerSecond(text)
            | Unit::Microseconds(text) => text,
            Unit::Seconds => "s",
            Unit::Milliseconds => "ms",
            Unit::Count => "count",
            Unit::Bytes => "B",
        }
    }

    /// Converts a number to this unit. If it is a time, it is in nanoseconds. `n` is how often the work was done.
    pub fn value(self, number: f64, n: u32) -> f64 {
        match self {
            Unit::MicrosecondsEach(_) => number / f64::from(n) / 1e3,
            Unit::NanosecondsEach(_) => number / f64::from(n),
            Unit::PerSecond(_) => f64::from(n) * 1e9 / number,
            Unit::Seconds => number / 1e9,
            Unit::Milliseconds => number / 1e6,
            Unit::Microseconds(_) => number / 1e3,
            Unit::Count | Unit::Bytes => number,
        }
    }
}

/// Prints four significant digits, or all digits before the point.
pub fn short(value: f64) -> String {
    let decimals = match value.abs() {
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
        numbers.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let report = Report::parse(&payload([7].into_iter().chain((1..=200).rev()))).unwrap();
        for (percent, sample) in [
            (0.0, 1.0),
            (0.5, 1.0),
            (50.0, 100.0),
            (99.0, 198.0),
            (99.9, 200.0),
            (100.0, 200.0),
        ] {
            assert_eq!(
                report.pick(Pick::Percentile(percent)).unwrap(),
                sample,
                "{percent} %"
            );
        }
        assert_eq!(report.pick(Pick::Whole).unwrap(), 7.0);
        assert_eq!(report.pick(Pick::SampleCount).unwrap(), 200.0);
    }

    #[test]
    fn malformed_reports_are_errors() {
        assert!(Report::parse(&[]).is_err());
        assert!(Report::parse(&[1; 9]).is_err());
        let report = Report::parse(&payload([1])).unwrap();
        assert!(report.pick(Pick::Percentile(50.0)).is_err());
    }

    #[test]
    fn units_scale_nanoseconds() {
        for (unit, value) in [
            (Unit::MicrosecondsEach("us/op"), 2.0),
            (Unit::NanosecondsEach("ns/hop"), 2000.0),
            (Unit::PerSecond("procs/s"), 500_000.0),
            (Unit::Milliseconds, 2.0),
            (Unit::Microseconds("us"), 2000.0),
        ] {
            assert_eq!(unit.value(2e6, 1000), value, "{}", unit.text());
        }
    }
}
