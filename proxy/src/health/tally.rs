//! What the results of an endpoint's probes come to: pure counting.

use sekisho_config::model::HealthCheck;

/// Results in a row, and what they have led to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Tally {
    /// `None`: no result yet.
    well: Option<bool>,
    /// Results in a row that speak against `well`.
    against: u32,
}

impl Tally {
    /// Takes a result in. Whether the verdict differs from the one before.
    ///
    /// The first result decides by itself; later ones have to come `rise` or `fall` times in a row.
    pub(super) fn take(&mut self, good: bool, check: &HealthCheck) -> bool {
        match self.well {
            None => self.well = Some(good),
            Some(well) if well == good => {
                self.against = 0;
                return false;
            }
            Some(_) => {
                self.against += 1;
                let needed = if good { check.rise } else { check.fall };
                if self.against < needed {
                    return false;
                }
                self.well = Some(good);
                self.against = 0;
            }
        }
        true
    }

    pub(super) fn well(&self) -> Option<bool> {
        self.well
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_in_a_row_decide() {
        let check = HealthCheck {
            rise: 2,
            fall: 3,
            ..HealthCheck::default()
        };
        for (results, want) in [
            ("", None),
            ("+", Some(true)),
            ("-", Some(false)),
            ("+--", Some(true)),
            ("+---", Some(false)),
            ("+--+--", Some(true)),
            ("+---+", Some(false)),
            ("+---++", Some(true)),
            ("-+-+", Some(false)),
            ("-++", Some(true)),
        ] {
            let mut tally = Tally::default();
            let mut before = tally.well();
            for result in results.bytes() {
                let changed = tally.take(result == b'+', &check);
                assert_eq!(changed, tally.well() != before, "{results}");
                before = tally.well();
            }
            assert_eq!(tally.well(), want, "{results}");
        }
    }
}
