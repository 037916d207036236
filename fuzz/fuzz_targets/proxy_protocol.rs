//! Octets as they come from a load balancer in front: a PROXY header, and what follows it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sekisho_proxy::proxy_protocol::{LONGEST, parse};

fuzz_target!(|octets: &[u8]| {
    match parse(octets) {
        Ok(Some((said, length))) => {
            assert!((1..=LONGEST.min(octets.len())).contains(&length));
            assert_eq!(parse(&octets[..length]), Ok(Some((said, length))));
            assert_eq!(parse(&octets[..length - 1]), Ok(None));
        }
        Ok(None) => assert!(octets.len() < LONGEST),
        Err(malformed) => assert!(!malformed.to_string().is_empty()),
    }
});
