/// A small, fast generator (xorshift64*) for choices that need no secrecy; one per worker.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Starts from `seed`; any value is good.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// 64 well mixed bits.
    pub fn roll(&mut self) -> u64 {
        let mut x = self.0;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = x;
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // Multiply-shift: the bias is below 2^-32 for the sizes that occur.
        ((u128::from(self.roll()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_stay_below_their_bound() {
        let mut dice = Dice::new(0);
        assert_eq!(dice.below(0), 0);
        let mut seen = [0u32; 5];
        for _ in 0..5000 {
            seen[dice.below(5)] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
    }
}
