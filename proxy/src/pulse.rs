//! Whether a worker keeps up. A task of its own is woken now and then and stands in line with everything else that is ready:
//! how late it comes is what every request waits here. Beyond `http.shed_after` new requests get 503 and no connection is
//! accepted, which is far cheaper than what they would cost, so that those that are under way come to their end.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::metrics::Cell;
use crate::worker::Worker;

/// Between two looks.
const PULSE: Duration = Duration::from_millis(50);

/// Whether to shed when the task came `late`. `most` zero: never. Once it is begun, the wait has to become half as long, so
/// that a worker at its limit does not change its mind with every look.
fn sheds(did: bool, late: Duration, most: Duration) -> bool {
    !most.is_zero() && late > if did { most / 2 } else { most }
}

/// Looks until the worker stops.
pub(crate) async fn run(worker: Rc<Worker>) {
    loop {
        let due = Instant::now() + PULSE;
        tokio::select! {
            biased;
            () = worker.stop.given() => break,
            () = sleep_until(due) => {}
        }
        let late = Instant::now().saturating_duration_since(due);
        let did = worker.sheds.get();
        let does = sheds(did, late, worker.shared.live.load().http.shed_after);
        if did != does {
            set(&worker, does);
            tracing::warn!(
                worker = worker.index,
                ?late,
                shedding = does,
                "a data worker is late"
            );
        }
    }
    if worker.sheds.get() {
        set(&worker, false);
    }
}

fn set(worker: &Worker, sheds: bool) {
    worker.sheds.set(sheds);
    if sheds {
        worker.counters.inc(Cell::Shedding);
    } else {
        worker.counters.dec(Cell::Shedding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_late() {
        let ms = Duration::from_millis;
        for (did, late, most, want) in [
            (false, 0, 1000, false),
            (false, 1000, 1000, false),
            (false, 1001, 1000, true),
            (true, 600, 1000, true),
            (true, 500, 1000, false),
            (false, 600, 1000, false),
            (true, 100_000, 0, false),
        ] {
            assert_eq!(sheds(did, ms(late), ms(most)), want, "{did} {late} {most}");
        }
    }
}
