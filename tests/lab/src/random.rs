//! Numbers that follow from a seed, so that a red run can be tried again as it was.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64 (Steele, Lea and Flood, 2014): a few numbers that follow from a seed need no more.
pub struct Random(pub u64);

/// A seed that no earlier run had.
pub fn new_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |since| since.as_secs())
}

impl Random {
    /// Between 0 and 1.
    pub fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.fraction() * end as f64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moments_follow_from_the_seed_and_are_spread() {
        let moments = |seed| {
            let mut random = Random(seed);
            (0..1000).map(|_| random.fraction()).collect::<Vec<f64>>()
        };
        assert_eq!(moments(7), moments(7));
        assert_ne!(moments(7), moments(8));
        let early = moments(7).iter().filter(|moment| **moment < 0.5).count();
        assert!((400..600).contains(&early), "{early}");
    }
}
