//! How each daemon is told to be the neighbour.

use std::net::IpAddr;
use std::path::Path;

use sekisho_tests::lab::BOX;

use super::{Kind, Setup, digit, family};
use crate::rig::{PEER_V4, PEER_V6};

pub(crate) fn bird(setup: &Setup) -> String {
    let v2 = setup.kind == Kind::Bird2;
    let the_box = if setup.kind == Kind::Bird16Ipv6 {
        IpAddr::V6(BOX.v6)
    } else {
        IpAddr::V4(BOX.v4)
    };
    let mut out = format!("log stderr all;\nrouter id {PEER_V4};\nprotocol device {{ }}\n");
    if setup.blocks {
        for ([first, second], _) in setup.kind.blocks() {
            let digit = digit(first);
            let channel = if v2 { format!("ipv{digit};") } else { String::new() };
            out.push_str(&format!(
                "protocol static first{digit} {{ {channel} route {first} blackhole; }}\n"
            ));
            out.push_str(&format!(
                "protocol static second{digit} {{ {channel} route {second} blackhole; }}\n"
            ));
        }
    }
    let mut more = String::new();
    if setup.passive {
        more.push_str("passive on; ");
    }
    if let Some(password) = setup.password {
        more.push_str(&format!("password \"{password}\"; "));
    }
    if setup.ttl_security {
        more.push_str("ttl security on; ");
        if setup.asn == 64512 {
            more.push_str("direct; ");
        }
    }
    if setup.graceful_restart {
        more.push_str("graceful restart; ");
    }
    let channels = if v2 {
        format!(
            "ipv4 {{ import all; export where source = RTS_STATIC; }};\n  \
             ipv6 {{ import all; export where source = RTS_STATIC; next hop address {PEER_V6}; }};"
        )
    } else {
        "import all; export where source = RTS_STATIC; add paths on;".to_owned()
    };
    out.push_str(&format!(
        "protocol bgp box {{\n  local as {}; neighbor {the_box} as 64512; source address {};\n  {more}hold time {};\n  \
         connect delay time 1; connect retry time 2; error wait time 1,3;\n  {channels}\n}}\n",
        setup.asn,
        setup.kind.address(),
        setup.hold,
    ));
    out
}

pub(crate) fn gobgp(setup: &Setup) -> String {
    let restart = if setup.graceful_restart {
        "    [neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true\n"
    } else {
        ""
    };
    let afi = |name: &str| {
        format!(
            "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"{name}\"\n{restart}"
        )
    };
    let mut more = String::new();
    if let Some(password) = setup.password {
        more.push_str(&format!("    auth-password = \"{password}\"\n"));
    }
    if setup.ttl_security {
        more.push_str("  [neighbors.ttl-security.config]\n    enabled = true\n    ttl-min = 255\n");
    }
    if setup.graceful_restart {
        more.push_str("  [neighbors.graceful-restart.config]\n    enabled = true\n    restart-time = 20\n");
    }
    format!(
        "[global.config]\n  as = {}\n  router-id = \"{PEER_V4}\"\n  local-address-list = [\"{PEER_V4}\"]\n\
         [[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{}\"\n    peer-as = 64512\n{more}  \
         [neighbors.transport.config]\n    local-address = \"{PEER_V4}\"\n    passive-mode = {}\n  \
         [neighbors.timers.config]\n    hold-time = {}\n    keepalive-interval = {}\n    connect-retry = 5\n{}{}",
        setup.asn,
        BOX.v4,
        setup.passive,
        setup.hold,
        setup.hold / 3,
        afi("ipv4-unicast"),
        afi("ipv6-unicast"),
    )
}

pub(crate) fn frr(setup: &Setup) -> String {
    let the_box = BOX.v4;
    let mut more = String::new();
    if setup.passive {
        more.push_str(&format!(" neighbor {the_box} passive\n"));
    }
    if let Some(password) = setup.password {
        more.push_str(&format!(" neighbor {the_box} password {password}\n"));
    }
    if setup.ttl_security {
        more.push_str(&format!(" neighbor {the_box} ttl-security hops 1\n"));
    }
    if setup.graceful_restart {
        more.push_str(" bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n");
    }
    let networks = |wanted: &str| -> String {
        let all = setup.kind.blocks();
        let blocks = all
            .iter()
            .flat_map(|(blocks, _)| blocks)
            .filter(|block| setup.blocks && family(block) == wanted);
        blocks.map(|block| format!("  network {block}\n")).collect()
    };
    format!(
        "hostname peer\nrouter bgp {}\n bgp router-id {PEER_V4}\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
         neighbor {the_box} remote-as 64512\n neighbor {the_box} timers {} {}\n neighbor {the_box} timers connect 2\n \
         neighbor {the_box} update-source {PEER_V4}\n{more} \
         address-family ipv4 unicast\n{} exit-address-family\n \
         address-family ipv6 unicast\n  neighbor {the_box} activate\n  neighbor {the_box} route-map V6 out\n{} exit-address-family\n\
         route-map V6 permit 10\n set ipv6 next-hop global {PEER_V6}\n",
        setup.asn,
        setup.hold / 3,
        setup.hold,
        networks("ipv4"),
        networks("ipv6"),
    )
}

pub(super) fn openbgpd(setup: &Setup, socket: &Path) -> String {
    let mut more = String::new();
    if setup.passive {
        more.push_str("  passive\n");
    }
    if let Some(password) = setup.password {
        more.push_str(&format!("  tcp md5sig password \"{password}\"\n"));
    }
    if setup.ttl_security {
        more.push_str("  ttl-security yes\n");
    }
    if !setup.graceful_restart {
        more.push_str("  announce restart no\n");
    }
    format!(
        "AS {}\nrouter-id {PEER_V4}\nfib-update no\nsocket \"{}\"\nlisten on {PEER_V4}\nconnect-retry 2\n\
         neighbor {} {{\n  remote-as 64512\n  descr \"box\"\n  local-address {PEER_V4}\n  holdtime {}\n  \
         announce IPv4 unicast\n  announce IPv6 unicast\n{more}}}\n\
         allow from any\nallow to any\n\
         match to any prefix ::/0 prefixlen >= 0 set nexthop {PEER_V6}\n",
        setup.asn,
        socket.display(),
        BOX.v4,
        setup.hold,
    )
}

/// `ORDERS` and `HEARD` stand for files, which the caller puts in.
pub(super) fn exabgp(setup: &Setup) -> String {
    let mut more = String::new();
    if setup.passive {
        more.push_str("  passive true;\n");
    }
    if let Some(password) = setup.password {
        more.push_str(&format!("  md5-password \"{password}\";\n"));
    }
    if setup.ttl_security {
        more.push_str("  outgoing-ttl 255;\n  incoming-ttl 255;\n");
    }
    let mut routes = String::new();
    if setup.blocks {
        for (blocks, via) in setup.kind.blocks() {
            for block in blocks {
                routes.push_str(&format!("    route {block} next-hop {via};\n"));
            }
        }
    }
    format!(
        "process watch {{ run /bin/sh SCRIPT; encoder json; }}\n\
         neighbor {} {{\n  router-id {PEER_V4};\n  local-address {PEER_V4};\n  local-as {};\n  peer-as 64512;\n  hold-time {};\n{more}  \
         capability {{ graceful-restart 20; route-refresh enable; }}\n  \
         family {{ ipv4 unicast; ipv6 unicast; }}\n  static {{\n{routes}  }}\n  \
         api {{ processes [ watch ]; neighbor-changes; receive {{ parsed; update; }} }}\n}}\n",
        BOX.v4, setup.asn, setup.hold,
    )
}
