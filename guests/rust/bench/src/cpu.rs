//! Work without messages, which keeps a processor busy.

use std::hint::black_box;

use crate::{Argument, Outcome, measure, numbers};

/// The sieve of Eratosthenes over an array of bytes. It fails if it does not find the expected number of primes.
pub fn sieve(argument: Argument) -> Outcome {
    let [n, m] = numbers(&argument);
    measure(&argument, || {
        let found = primes(n as usize);
        assert!(found == m as usize, "{found} primes below {n}");
        Ok(())
    })
}

fn primes(n: usize) -> usize {
    let mut is_composite = vec![false; n + 1];
    let mut factor = 2;
    while factor * factor <= n {
        if !is_composite[factor] {
            let multiples = is_composite[factor * factor..].iter_mut();
            multiples.step_by(factor).for_each(|it| *it = true);
        }
        factor += 1;
    }
    is_composite[2..].iter().filter(|it| !**it).count()
}

const SOLAR_MASS: f64 = 4.0 * std::f64::consts::PI * std::f64::consts::PI;
const DAYS_PER_YEAR: f64 = 365.24;
const STEP: f64 = 0.01;
/// The energy of the bodies before the first step, and the tolerance.
const ENERGY: f64 = -0.169_075_164;
const EXACTNESS: f64 = 1e-8;

#[derive(Clone, Copy)]
struct Body {
    at: [f64; 3],
    speed: [f64; 3],
    mass: f64,
}

/// Sun, Jupiter, Saturn, Uranus and Neptune: position, speed per day, mass in suns.
const BODIES: [([f64; 3], [f64; 3], f64); 5] = [
    ([0.0; 3], [0.0; 3], 1.0),
    (
        [
            4.841_431_442_464_721,
            -1.160_320_044_027_428_4,
            -0.103_622_044_471_123_11,
        ],
        [
            0.001_660_076_642_744_037,
            0.007_699_011_184_197_404,
            -6.904_600_169_720_63e-5,
        ],
        0.000_954_791_938_424_326_6,
    ),
    (
        [
            8.343_366_718_244_58,
            4.124_798_564_124_305,
            -0.403_523_417_114_321_4,
        ],
        [
            -0.002_767_425_107_264_119,
            0.004_998_528_012_349_172,
            2.304_172_975_737_639_3e-5,
        ],
        0.000_285_885_980_666_130_8,
    ),
    (
        [
            12.894_369_562_139_131,
            -15.111_151_401_698_631,
            -0.223_307_578_892_655_73,
        ],
        [
            0.002_964_601_375_647_616,
            0.002_378_471_739_594_809_5,
            -2.965_895_685_402_375_6e-5,
        ],
        4.366_244_043_351_563e-5,
    ),
    (
        [
            15.379_697_114_850_917,
            -25.919_314_609_987_964,
            0.179_258_772_950_371_18,
        ],
        [
            0.002_680_677_724_903_893_2,
            0.001_628_241_700_382_423,
            -9.515_922_545_197_159e-5,
        ],
        5.151_389_020_466_114_5e-5,
    ),
];

/// Simulates the five bodies of the Benchmarks Game for a number of steps.
pub fn nbody(argument: Argument) -> Outcome {
    let [n, _] = numbers(&argument);
    measure(&argument, || {
        let mut bodies = BODIES.map(|(at, speed, mass)| Body {
            at,
            speed: speed.map(|speed| speed * DAYS_PER_YEAR),
            mass: mass * SOLAR_MASS,
        });
        for axis in 0..3 {
            let momentum: f64 = bodies.iter().map(|body| body.speed[axis] * body.mass).sum();
            bodies[0].speed[axis] = -momentum / SOLAR_MASS;
        }
        let before = energy(&bodies);
        for _ in 0..n {
            advance(&mut bodies);
        }
        black_box(energy(&bodies));
        assert!((before - ENERGY).abs() < EXACTNESS, "the energy is wrong");
        Ok(())
    })
}

fn advance(bodies: &mut [Body; 5]) {
    for first in 0..bodies.len() {
        let (left, right) = bodies.split_at_mut(first + 1);
        let one = &mut left[first];
        for other in right {
            let apart: [f64; 3] = std::array::from_fn(|axis| one.at[axis] - other.at[axis]);
            let square: f64 = apart.iter().map(|apart| apart * apart).sum();
            let pull = STEP / (square * square.sqrt());
            for (axis, apart) in apart.into_iter().enumerate() {
                one.speed[axis] -= apart * other.mass * pull;
                other.speed[axis] += apart * one.mass * pull;
            }
        }
    }
    for body in bodies {
        for axis in 0..3 {
            body.at[axis] += STEP * body.speed[axis];
        }
    }
}

fn energy(bodies: &[Body; 5]) -> f64 {
    let mut energy = 0.0;
    for (index, one) in bodies.iter().enumerate() {
        let speed_square: f64 = one.speed.iter().map(|speed| speed * speed).sum();
        energy += 0.5 * one.mass * speed_square;
        for other in &bodies[index + 1..] {
            let square: f64 = (0..3)
                .map(|axis| (one.at[axis] - other.at[axis]).powi(2))
                .sum();
            energy -= one.mass * other.mass / square.sqrt();
        }
    }
    energy
}
