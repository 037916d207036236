use std::io;

use serde::Serialize;

/// How the thread runs beside others.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before everything that has no real-time priority (SCHED_RR).
    RealTime,
    /// Ordinary, with a better nice value.
    Nice,
    /// As everything else.
    Ordinary,
}

impl Priority {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Ordinary => 1,
            Self::Nice => 2,
            Self::RealTime => 3,
        }
    }

    /// `None`: there is no thread yet.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Self::Ordinary, Self::Nice, Self::RealTime]
            .into_iter()
            .find(|priority| priority.number() == number)
    }
}

/// The lowest of the real-time priorities would do; kernel threads have 50 and more.
const REAL_TIME: i32 = 10;

const NICE: i32 = -15;

/// Lets the calling thread run before others, as far as the process may: CAP_SYS_NICE, or the limits RTPRIO and NICE.
pub(super) fn hurry() -> Priority {
    if real_time().is_ok() {
        Priority::RealTime
    } else if nice().is_ok() {
        Priority::Nice
    } else {
        Priority::Ordinary
    }
}

#[expect(unsafe_code, reason = "scheduling that no safe interface offers")]
fn real_time() -> io::Result<()> {
    // SAFETY: `sched_param` is plain integers, for which zero is a value.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = REAL_TIME;
    // SAFETY: the pointer is to a live value; the kernel copies it. 0 is the calling thread.
    let result = unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_RR | libc::SCHED_RESET_ON_FORK,
            std::ptr::from_ref(&parameters),
        )
    };
    said(result)
}

#[expect(unsafe_code, reason = "scheduling that no safe interface offers")]
fn nice() -> io::Result<()> {
    // SAFETY: no pointers. On Linux the nice value is the thread's, and 0 is the calling thread.
    said(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) })
}

fn said(result: i32) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
