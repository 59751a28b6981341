//! Work that needs no messages: what a processor is kept busy with.

use std::hint::black_box;

use crate::{Argument, Outcome, measure, numbers};

/// The sieve of Eratosthenes over an array of bytes; fails if it does not find so many primes.
pub fn sieve(argument: Argument) -> Outcome {
    let [n, m] = numbers(&argument);
    measure(&argument, || {
        let found = primes(n as usize);
        match found == m as usize {
            true => Ok(()),
            false => Err(format!("{found} primes below {n}").into()),
        }
    })
}

fn primes(n: usize) -> usize {
    let mut is_composite = vec![false; n + 1];
    let mut factor = 2;
    while factor * factor <= n {
        if !is_composite[factor] {
            for multiple in (factor * factor..=n).step_by(factor) {
                is_composite[multiple] = true;
            }
        }
        factor += 1;
    }
    is_composite[2..].iter().filter(|it| !**it).count()
}

const SOLAR_MASS: f64 = 4.0 * std::f64::consts::PI * std::f64::consts::PI;
const DAYS_PER_YEAR: f64 = 365.24;
const STEP: f64 = 0.01;
/// What the energy of the bodies is before the first step, and how exactly.
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
            4.84143144246472090,
            -1.16032004402742839,
            -0.103622044471123109,
        ],
        [
            1.66007664274403694e-3,
            7.69901118419740425e-3,
            -6.90460016972063023e-5,
        ],
        9.54791938424326609e-4,
    ),
    (
        [
            8.34336671824457987,
            4.12479856412430479,
            -0.403523417114321381,
        ],
        [
            -2.76742510726411899e-3,
            4.99852801234917238e-3,
            2.30417297573763929e-5,
        ],
        2.85885980666130812e-4,
    ),
    (
        [
            12.8943695621391310,
            -15.1111514016986312,
            -0.223307578892655734,
        ],
        [
            2.96460137564761618e-3,
            2.37847173959480950e-3,
            -2.96589568540237556e-5,
        ],
        4.36624404335156298e-5,
    ),
    (
        [
            15.3796971148509165,
            -25.9193146099879641,
            0.179258772950371181,
        ],
        [
            2.68067772490389322e-3,
            1.62824170038242295e-3,
            -9.51592254519715870e-5,
        ],
        5.15138902046611451e-5,
    ),
];

/// The five bodies of the Benchmarks Game, so many steps.
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
        match (before - ENERGY).abs() < EXACTNESS {
            true => Ok(()),
            false => Err(format!("the energy is {before}").into()),
        }
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
            for axis in 0..3 {
                one.speed[axis] -= apart[axis] * other.mass * pull;
                other.speed[axis] += apart[axis] * one.mass * pull;
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
