//! Schedules: which faults happen when and to whom, as a seed says.

use std::time::Duration;

use super::fault::{Fault, Kind};

/// The faults of a run: each kind of the menu in turn, in random order, at random targets; the same for the same seed.
#[must_use]
pub fn schedule(menu: &[Kind], window: Duration, every: Duration, shape: &Shape) -> Vec<Fault> {
    let mut rng = fastrand::Rng::with_seed(shape.seed);
    let (mut faults, mut at, mut course) = (Vec::new(), Duration::ZERO, Vec::new());
    while at < window && !menu.is_empty() {
        if course.is_empty() {
            course = menu.to_vec();
            rng.shuffle(&mut course);
        }
        let Some(kind) = course.pop() else { break };
        let (least, most) = kind.lasts();
        let lasts = shape.lease.mul_f64(rng.u64(least..=most) as f64 / 1000.0);
        let target = match kind.place() {
            Some(place) => {
                let places = shape.places.iter().filter(|p| p.starts_with(place));
                rng.choice(places.collect::<Vec<_>>())
                    .cloned()
                    .unwrap_or_default()
            }
            None => kind.aim().to_owned(),
        };
        faults.push(Fault {
            kind,
            target,
            at,
            lasts,
        });
        at += lasts + every.mul_f64(0.7 + 0.6 * rng.f64());
    }
    faults
}

/// What a schedule depends on beside its menu.
pub struct Shape {
    /// The seed of all choices.
    pub seed: u64,
    /// The lease, which is the measure of time.
    pub lease: Duration,
    /// The places that there are.
    pub places: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(seed: u64) -> Shape {
        let places = ["worker-0", "worker-1", "producer-0"]
            .map(str::to_owned)
            .into();
        Shape {
            seed,
            lease: Duration::from_secs(3),
            places,
        }
    }

    #[test]
    fn a_seed_stands_for_one_schedule() {
        let menu = [
            Kind::Kill("worker"),
            Kind::KillBroker,
            Kind::Pause("producer"),
        ];
        let (window, every) = (Duration::from_secs(20), Duration::from_secs(1));
        let faults = schedule(&menu, window, every, &shape(7));
        assert_eq!(faults, schedule(&menu, window, every, &shape(7)));
        assert_ne!(faults, schedule(&menu, window, every, &shape(8)));
        for kind in menu {
            assert!(faults.iter().any(|fault| fault.kind == kind), "{kind:?}");
        }
        assert!(
            faults
                .iter()
                .all(|f| f.target == "broker" || f.kind.place().is_some())
        );
    }
}
