//! One case with one guest and one number of schedulers: its names, its repetitions, its figures.

use crate::cases::{Case, Figure, Guest, IDLE_PROCESSES, Work};
use crate::driver::Driver;
use crate::machine::Stopwatch;
use crate::memory;
use crate::numbers::short;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// The most cores that other programs may use during a quiet repetition.
const QUIET_CORES_MAX: f64 = 0.25;

/// The settings with which a system is started.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// The folder of built guests.
    pub guests: &'a Path,
    pub guest: Guest,
    pub schedulers: usize,
}

pub struct Measurement {
    case: &'static Case,
    guest: Guest,
    schedulers: usize,
}

/// One repetition.
pub struct Sample {
    /// The values of the case's figures, each in its unit.
    pub values: Vec<f64>,
    /// The cores that this program used meanwhile, if that is meaningful.
    pub own_cores: Option<f64>,
    /// The cores that other programs used meanwhile.
    pub others_cores: f64,
    /// A note to print.
    pub note: Option<String>,
}

impl Measurement {
    /// All measurements of a case: with its own numbers of schedulers, or with the given one.
    pub fn all_of(
        case: &'static Case,
        schedulers_wanted: Option<usize>,
    ) -> impl Iterator<Item = Measurement> {
        let own = match case.schedulers {
            [] => &[1],
            own => own,
        };
        let schedulers = schedulers_wanted.map_or(own.to_vec(), |wanted| vec![wanted]);
        schedulers.into_iter().flat_map(move |schedulers| {
            case.guests.iter().map(move |&guest| Measurement {
                case,
                guest,
                schedulers,
            })
        })
    }

    pub fn figures(&self) -> &'static [Figure] {
        self.case.figures
    }

    /// The names of the case's figures.
    pub fn names(&self) -> Vec<String> {
        let tag = match self.case.schedulers {
            [] => String::new(),
            _ => format!("_s{}", self.schedulers),
        };
        let name = |figure: &Figure| {
            let (name, part, guest) = (figure.name, figure.part, self.guest.suffix());
            format!("{name}{tag}{part}{guest}")
        };
        self.figures().iter().map(name).collect()
    }

    /// The median of each figure, over the repetitions that count.
    pub fn take(&self, guests: &Path, repetitions: u32, verbose: bool) -> Result<Vec<f64>> {
        let mut measure_once = self.start(guests)?;
        if matches!(self.case.work, Work::Million) {
            return Ok(measure_once()?.values);
        }
        measure_once().context("in the warm-up run")?;
        let mut samples = Vec::new();
        for repetition in 1..=repetitions {
            let sample = measure_once().with_context(|| format!("in repetition {repetition}"))?;
            if verbose {
                eprintln!("  {repetition}/{repetitions}: {}", self.describe(&sample));
            }
            samples.push(sample);
        }
        let counted = undisturbed(&mut samples);
        let median_of = |index: usize| median(counted.iter().map(|sample| sample.values[index]));
        (0..self.figures().len())
            .map(|index| median_of(index).context("nothing was measured"))
            .collect()
    }

    /// Prepares the case. Each call of the result performs one repetition.
    fn start<'a>(&'a self, guests: &'a Path) -> Result<Box<dyn FnMut() -> Result<Sample> + 'a>> {
        let setup = Setup {
            guests,
            guest: self.guest,
            schedulers: self.schedulers,
        };
        Ok(match self.case.work {
            Work::Timed { function, n, m } => {
                let mut driver = Driver::start(setup)?;
                Box::new(move || {
                    let (report, lap) = driver.run(function, n, m)?;
                    let value =
                        |figure: &Figure| Ok(figure.unit.value(report.pick(figure.pick)?, n));
                    let values = self.figures().iter().map(value).collect::<Result<_>>()?;
                    Ok(lap.sample(values))
                })
            }
            Work::SpawnToIdle => Box::new(move || {
                // A new system has a new mapping with untouched pages.
                let mut driver = Driver::start(setup)?;
                let stopwatch = Stopwatch::start()?;
                driver.spawn_idle(IDLE_PROCESSES)?;
                let lap = stopwatch.stop()?;
                let whole_ns = lap.wall.as_nanos() as f64;
                let value = |figure: &Figure| figure.unit.value(whole_ns, IDLE_PROCESSES);
                Ok(lap.sample(self.figures().iter().map(value).collect()))
            }),
            Work::Resident => Box::new(move || memory::measure_live(setup)),
            Work::Million => Box::new(move || {
                let mut sample = memory::measure_million(setup)?;
                for (value, figure) in sample.values.iter_mut().zip(self.figures()) {
                    *value = figure.unit.value(*value, memory::MILLION);
                }
                Ok(sample)
            }),
            Work::StartUp => Box::new(move || {
                let atoll = std::env::current_exe()?.with_file_name("atoll");
                let hello = setup.guests.join("hello.wasm");
                let stopwatch = Stopwatch::start()?;
                let output = Command::new(&atoll).arg("run").arg(hello).output();
                let lap = stopwatch.stop()?;
                let output = output.with_context(|| format!("starting {}", atoll.display()))?;
                if !output.status.success() {
                    bail!("{}", String::from_utf8_lossy(&output.stderr));
                }
                let value = |figure: &Figure| figure.unit.value(lap.wall.as_nanos() as f64, 1);
                Ok(lap.sample(self.figures().iter().map(value).collect()))
            }),
        })
    }

    fn describe(&self, sample: &Sample) -> String {
        let mut text = String::new();
        for ((name, figure), value) in self.names().iter().zip(self.figures()).zip(&sample.values) {
            text += &format!("{name} {} {}; ", short(*value), figure.unit.text());
        }
        if let Some(own_cores) = sample.own_cores {
            text += &format!("used {own_cores:.2} cores; ");
        }
        text += &format!("others used {:.2} cores", sample.others_cores);
        if let Some(note) = &sample.note {
            text += &format!("; {note}");
        }
        text
    }
}

/// The repetitions that count: the quiet ones or, if there are none, the calmer half.
fn undisturbed(samples: &mut [Sample]) -> &[Sample] {
    samples.sort_by(|left, right| left.others_cores.total_cmp(&right.others_cores));
    let quiet = samples.partition_point(|sample| sample.others_cores <= QUIET_CORES_MAX);
    let counted = if quiet > 0 {
        quiet
    } else {
        samples.len().div_ceil(2)
    };
    &samples[..counted]
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values = values.collect::<Vec<_>>();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::CASES;
    use std::collections::HashSet;

    fn all_names() -> Vec<String> {
        CASES
            .iter()
            .flat_map(|case| Measurement::all_of(case, None))
            .flat_map(|measurement| measurement.names())
            .collect()
    }

    #[test]
    fn names_are_erlangs_with_the_guest_appended() {
        let names = all_names();
        for name in [
            "spawn_exit_seq_s1_bare",
            "selrecv_scan_10000_s2_rust",
            "timer_late_100000_s1_p50_rust",
            "fair_busy1000_s2_p99.9_rust",
            "cpu_fib_35_bare",
        ] {
            assert!(names.iter().any(|it| it == name), "{name}");
        }
    }

    #[test]
    fn no_two_figures_have_the_same_name() {
        let names = all_names();
        let different = names.iter().collect::<HashSet<_>>();
        assert_eq!(different.len(), names.len());
    }

    #[test]
    fn a_requested_number_of_schedulers_is_in_the_names() {
        let names = CASES
            .iter()
            .flat_map(|case| Measurement::all_of(case, Some(4)))
            .flat_map(|measurement| measurement.names())
            .collect::<Vec<_>>();
        assert!(names.iter().any(|name| name == "ring_1000_s4_bare"));
        assert!(!names.iter().any(|name| name.contains("_s1_")));
    }

    #[test]
    fn quiet_repetitions_count_and_else_the_calmer_half() {
        let counted = |others: &[f64]| {
            let sample = |others_cores: &f64| Sample {
                values: vec![*others_cores],
                own_cores: None,
                others_cores: *others_cores,
                note: None,
            };
            let mut samples = others.iter().map(sample).collect::<Vec<_>>();
            undisturbed(&mut samples)
                .iter()
                .map(|sample| sample.values[0])
                .collect::<Vec<_>>()
        };
        assert_eq!(counted(&[0.9, 0.1, 0.2]), [0.1, 0.2]);
        assert_eq!(counted(&[0.9, 0.5, 0.7]), [0.5, 0.7]);
    }
}
