//! What several runs come to: median, least and most, and ratios between two contestants within one run.

/// Three numbers about many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Summary {
    /// Of these values; of none there is no summary.
    pub fn of(values: &[f64]) -> Option<Summary> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        } else {
            sorted[middle]
        };
        Some(Summary {
            median,
            least,
            most,
        })
    }
}

/// How many times longer the first took than the second, for each run in which both have a value. `(run, value)` each.
///
/// A machine that is slower during one run is slower for both, so that a ratio of one run says more than one of medians.
pub fn ratios(these: &[(usize, f64)], those: &[(usize, f64)]) -> Vec<f64> {
    let pairs = these.iter().filter_map(|(run, value)| {
        let (_, other) = those.iter().find(|(other, _)| other == run)?;
        (*other > 0.0).then_some(value / other)
    });
    pairs.collect()
}

/// The slope of the straight line that is nearest to these points (least squares): what one more of x costs.
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    let below: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    (below > 0.0).then_some(above / below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        let odd = Summary::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.least, odd.most), (2.0, 1.0, 3.0));
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Summary::of(&[7.0]).unwrap().median, 7.0);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn ratios_are_taken_within_one_run_only() {
        let these = [(1, 10.0), (2, 30.0), (4, 5.0)];
        let those = [(1, 5.0), (2, 10.0), (3, 1.0)];
        assert_eq!(ratios(&these, &those), [2.0, 3.0]);
        assert_eq!(ratios(&these, &[(1, 0.0)]), [0.0; 0]);
    }

    #[test]
    fn a_straight_line_has_its_slope() {
        let points = [(1.0, 5.5), (10.0, 10.0), (100.0, 55.0)];
        assert!((slope(&points).unwrap() - 0.5).abs() < 1e-9);
        assert_eq!(slope(&[(1.0, 1.0)]), None);
    }
}
