//! What a list of samples comes to.

/// The middle one; 0 where there is none.
pub(crate) fn median(samples: Vec<f64>) -> f64 {
    percentile(samples, 50.0)
}

/// The nearest-rank percentile; 0 where there is no sample.
pub(crate) fn percentile(mut samples: Vec<f64>, percent: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let rank = (samples.len() as f64 * percent / 100.0).ceil() as usize;
    samples.get(rank.max(1) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let samples: Vec<f64> = (1..=200).map(f64::from).collect();
        assert!((median(samples.clone()) - 100.0).abs() < 1e-9);
        assert!((percentile(samples, 99.0) - 198.0).abs() < 1e-9);
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!(percentile(Vec::new(), 99.0).abs() < 1e-9);
    }
}
