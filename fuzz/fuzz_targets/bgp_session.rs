//! A whole session on a script: octets of up to two connections, how they are cut, what time and the network do.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| sekisho_bgp::fuzzing::session(script));
