use super::{BGP, SOURCE, faults, lines, read};

/// Every line of the answer to a text, word by word: what an operator reads is part of what is promised.
fn check(table: &[(String, &[&str])]) {
    for (text, want) in table {
        assert_eq!(faults(text), *want, "in:\n{text}");
    }
}

#[test]
#[rustfmt::skip]
fn sections_and_keys() {
    check(&[
        (
            [r""].concat(),
            &[
            r#"box.toml:1: source: missing section; write [source] with manifests = "/etc/sekisho/manifests" or kubeconfig = "/etc/sekisho/kubeconfig""#,
            ],
        ),
        (
            [r#"x = 1
asn = 5
[bpg]
[sauce]
[nothing-like-it]
[source]
manifest = "a"
hold_time = "9s"
zzzzzzz = 1
"#].concat(),
            &[
            r"box.toml:1: x: unknown key outside of any section; the sections are [appliance], [listen], [source], [bgp], [[vips]], [acme], [http], [access_log], [tracing], [key_sets], [timeouts]",
            r"box.toml:2: asn: unknown key outside of any section; `asn` belongs in [bgp]",
            r"box.toml:3: bpg: unknown section; did you mean [bgp]?",
            r"box.toml:4: sauce: unknown section; did you mean [source]?",
            r"box.toml:5: nothing-like-it: unknown section; the sections are [appliance], [listen], [source], [bgp], [[vips]], [acme], [http], [access_log], [tracing], [key_sets], [timeouts]",
            r#"box.toml:6: source: neither manifests nor kubeconfig is written; write manifests = "/etc/sekisho/manifests" or kubeconfig = "/etc/sekisho/kubeconfig""#,
            r"box.toml:7: source.manifest: unknown key; did you mean `manifests`?",
            r"box.toml:8: source.hold_time: unknown key; `hold_time` belongs in [bgp]",
            r"box.toml:9: source.zzzzzzz: unknown key; the keys of [source] are manifests, kubeconfig, ingress_class, routing, allow_loopback_endpoints",
            ],
        ),
        (
            [r#"[[source]]
manifests = "/m"
"#].concat(),
            &[
            r"box.toml:1: source: a list where a section is expected; write [source] on a line of its own, once",
            ],
        ),
        (
            [r#"bgp = 3
vips = 3
[source]
manifests = "/m"
"#].concat(),
            &[
            r"box.toml:1: bgp: a whole number where a section is expected; write [bgp] on a line of its own, once",
            r"box.toml:2: vips: a whole number where a list of tables is expected; write [[vips]] for each",
            ],
        ),
        (
            [SOURCE, r#"[[bgp]]
asn = 1
[vips]
name = "a"
"#].concat(),
            &[
            r"box.toml:3: bgp: a list where a section is expected; write [bgp] on a line of its own, once",
            r"box.toml:5: vips: a table where a list of tables is expected; write [[vips]] for each",
            ],
        ),
        (
            [r#""a\nb" = 1
source.manifests = "/m"
source.x.y = 1
bgp.peers = [{asn = 1}, 2]
"#].concat(),
            &[
            r"box.toml:1: a\u{a}b: unknown key outside of any section; the sections are [appliance], [listen], [source], [bgp], [[vips]], [acme], [http], [access_log], [tracing], [key_sets], [timeouts]",
            r"box.toml:3: source.x: unknown key; the keys of [source] are manifests, kubeconfig, ingress_class, routing, allow_loopback_endpoints",
            r"box.toml:4: bgp.peers[1]: a whole number where a table is expected; write [[bgp.peers]] for each",
            r"box.toml:4: bgp.asn: missing; write for example: asn = 64512",
            r#"box.toml:4: bgp.router_id: missing; write for example: router_id = "192.0.2.10""#,
            r#"box.toml:4: bgp.peers[0].address: missing; write for example: address = "10.0.0.11""#,
            r#"box.toml:4: bgp.peers[0].role: missing; write for example: role = "cluster""#,
            ],
        ),
        (
            [SOURCE, r"[bgp.peers.x]
asn = 1
"].concat(),
            &[
            r"box.toml:3: bgp.peers: a table where a list of tables is expected; write [[bgp.peers]] for each",
            r"box.toml:3: bgp.asn: missing; write for example: asn = 64512",
            r#"box.toml:3: bgp.router_id: missing; write for example: router_id = "192.0.2.10""#,
            ],
        ),
    ]);
}

#[test]
#[rustfmt::skip]
fn faults_of_the_toml_do_not_hide_the_others() {
    check(&[
        (
            [r#"[source]
manifests = /m
manifests = "/n"
[bgp]
asn = 64512
asn = 1
hold_time = 9s
foo = 1
[bgp
x = 1
[source]
"#].concat(),
            &[
            r"box.toml:2: source.manifests: a value that is no number, true or false, and is not in quotes; write text, durations and addresses in double quotes",
            r"box.toml:3: manifests: written twice; keep one of them",
            r"box.toml:6: asn: written twice; keep one of them",
            r"box.toml:7: bgp.hold_time: a value that is no number, true or false, and is not in quotes; write text, durations and addresses in double quotes",
            r"box.toml:8: bgp.foo: unknown key; the keys of [bgp] are asn, router_id, listen, hold_time, cluster_id, install_routes, table, nexthop_objects, multipath, max_paths, link_bandwidth, pod_prefixes, discover_pod_prefixes, cluster_import, cluster_export, upstream_import, upstream_export, error_wait, error_wait_max, graceful_restart, restart_time, bmp",
            r"box.toml:9: syntax: unclosed table, expected `]`; correct the TOML of this line (https://toml.io)",
            r"box.toml:11: source: written twice; keep one of them",
            ],
        ),
        (
            [r#"[source]
manifests = "/m
[bgp]
asn = 1
"#].concat(),
            &[
            r#"box.toml:2: source.manifests: invalid basic string, expected `"`; correct the TOML of this line (https://toml.io)"#,
            ],
        ),
        (
            [SOURCE, r#"[http]
max_headers = 077
access_log = True
[timeouts]
connect = "1s" drain = "2s"
"#].concat(),
            &[
            r"box.toml:4: http.max_headers: unexpected leading zero, expected nothing; correct the TOML of this line (https://toml.io)",
            r"box.toml:5: http.access_log: invalid boolean, expected `true`; correct the TOML of this line (https://toml.io)",
            r"box.toml:7: syntax: unexpected key or value, expected newline, `#`; correct the TOML of this line (https://toml.io)",
            ],
        ),
        (
            [SOURCE, r#"[[bgp.peers]]
name = "a\q"
address = [1,
 "2", x]
"#].concat(),
            &[
            r#"box.toml:4: bgp.peers[0].name: missing escaped value, expected `b`, `e`, `f`, `n`, `r`, `\`, `"`, `x`, `u`, `U`; correct the TOML of this line (https://toml.io)"#,
            r#"box.toml:5: bgp.peers[0].address: a list where a string is expected; write for example: address = "10.0.0.11""#,
            r"box.toml:6: bgp.peers[0].address[2]: a value that is no number, true or false, and is not in quotes; write text, durations and addresses in double quotes",
            ],
        ),
    ]);
}

#[test]
#[rustfmt::skip]
fn appliance_and_listen() {
    check(&[
        (
            [r#"[appliance]
name = "ein Name"
run_dir = "/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
admin = "localhost:80"
workers = 5000
[listen]
http = ["0.0.0.0:80", "0.0.0.0:80", 80, "224.0.0.1:80"]
https = "443"
ingress_addresses = ["0.0.0.0"]
trusted_proxies = ["10.0.0.1/8", "::ffff:10.0.0.0/104"]
proxy_protocol_from = ["10.0.0.1/8", "::ffff:10.0.0.0/104"]
[source]
manifests = "/m"
"#].concat(),
            &[
            r"box.toml:2: appliance.name: `ein Name` cannot be a name; use 1 to 63 letters, digits, `-`, `_` or `.`",
            r"box.toml:3: appliance.run_dir: too long for the unix socket that is made in it (107 octets with /admin.sock); choose a shorter path",
            r#"box.toml:4: appliance.admin: `localhost:80` is not a socket address; write address:port, for example "0.0.0.0:80" or "[::]:80""#,
            r"box.toml:5: appliance.workers: 5000 is out of range; write a number from 0 to 1024",
            r"box.toml:7: listen.http[1]: `0.0.0.0:80` is written twice; keep one of them",
            r#"box.toml:7: listen.http[2]: a whole number where a string is expected; write for example: http = ["0.0.0.0:80", "[::]:80"]"#,
            r"box.toml:7: listen.http[3]: `224.0.0.1:80` is a multicast address; write a unicast address",
            r#"box.toml:8: listen.https: a string where a list is expected; write for example: https = ["0.0.0.0:443", "[::]:443"]"#,
            r"box.toml:9: listen.ingress_addresses[0]: `0.0.0.0` is no machine's address; write the address itself",
            r"box.toml:10: listen.trusted_proxies[0]: `10.0.0.1/8` has host bits set (the network is 10.0.0.0/8); write the network address",
            r"box.toml:10: listen.trusted_proxies[1]: `::ffff:10.0.0.0/104` is IPv4 in IPv6 form; write it as IPv4",
            r"box.toml:11: listen.proxy_protocol_from[0]: `10.0.0.1/8` has host bits set (the network is 10.0.0.0/8); write the network address",
            r"box.toml:11: listen.proxy_protocol_from[1]: `::ffff:10.0.0.0/104` is IPv4 in IPv6 form; write it as IPv4",
            ],
        ),
        (
            [SOURCE, BGP, r#"listen = ["0.0.0.0:179", "10.0.0.1:179"]
[appliance]
admin = "127.0.0.1:80"
[listen]
https = ["0.0.0.0:80", "127.0.0.1:80"]
"#].concat(),
            &[
            r"box.toml:6: bgp.listen[0]: 0.0.0.0:179 and 10.0.0.1:179 of bgp.listen[1] (line 6) want one port of one address; choose another port",
            r"box.toml:8: appliance.admin: 127.0.0.1:80 is already taken by listen.https[1] (line 10); give each listener an address and port of its own",
            r"box.toml:8: appliance.admin: 127.0.0.1:80 and 0.0.0.0:80 of listen.http (line 9) want one port of one address; choose another port",
            r"box.toml:8: appliance.admin: 127.0.0.1:80 and 0.0.0.0:80 of listen.https[0] (line 10) want one port of one address; choose another port",
            r"box.toml:10: listen.https[0]: 0.0.0.0:80 is already taken by listen.http (line 9); give each listener an address and port of its own",
            ],
        ),
        (
            [SOURCE, r#"[listen]
http = ["0.0.0.0:8080", "192.0.2.1:8080"]
https = []
"#].concat(),
            &[
            ],
        ),
        (
            [SOURCE, r#"[listen]
https = ["0.0.0.0:443", "[::]:443"]
http3 = ["[::]:443", "0.0.0.0:80", "192.0.2.1:443", "[::]:443"]
"#].concat(),
            &[
            r"box.toml:5: listen.http3[3]: `[::]:443` is written twice; keep one of them",
            r"box.toml:5: listen.http3[1]: 0.0.0.0:80 is no HTTPS listener, and HTTP/3 is served beside one; write it in listen.https, too, or take it out here",
            r"box.toml:5: listen.http3[2]: 192.0.2.1:443 is no HTTPS listener, and HTTP/3 is served beside one; write it in listen.https, too, or take it out here",
            ],
        ),
        (
            [SOURCE, r#"[listen]
https = ["192.0.2.1:443", "[::]:443"]
http3 = ["192.0.2.1:443"]
"#].concat(),
            &[
            ],
        ),
    ]);
}

#[test]
#[rustfmt::skip]
fn source() {
    check(&[
        (
            [r"[source]
"].concat(),
            &[
            r#"box.toml:1: source: neither manifests nor kubeconfig is written; write manifests = "/etc/sekisho/manifests" or kubeconfig = "/etc/sekisho/kubeconfig""#,
            ],
        ),
        (
            [r#"[source]
manifests = "/a"
kubeconfig = "/b"
"#].concat(),
            &[
            r"box.toml:3: source.kubeconfig: manifests is written too; keep one of them: objects come from a directory or from a cluster",
            ],
        ),
        (
            [r#"[source]
manifests = ""
ingress_class = "Böse\nKlasse"
routing = "requierd"
"#].concat(),
            &[
            r"box.toml:2: source.manifests: empty, too long, or not a path; write the path of a file or folder",
            r"box.toml:3: source.ingress_class: `Böse\u{a}Klasse` cannot name an object; use lower-case letters, digits, `-` and `.`",
            r#"box.toml:4: source.routing: `requierd` is none of the words known here; write "required", "preferred" or "off""#,
            ],
        ),
        (
            [SOURCE, r#"routing = "required"
"#].concat(),
            &[
            r#"box.toml:3: source.routing: "required" without a [bgp] section: no route could ever be learned; write "off", or add [bgp]"#,
            ],
        ),
        (
            [SOURCE, r#"routing = "preferred"
allow_loopback_endpoints = "yes"
"#].concat(),
            &[
            r#"box.toml:3: source.routing: "preferred" without a [bgp] section: no route could ever be learned; write "off", or add [bgp]"#,
            r"box.toml:4: source.allow_loopback_endpoints: a string where true or false is expected; write for example: allow_loopback_endpoints = false",
            ],
        ),
    ]);
}

#[test]
#[rustfmt::skip]
fn bgp() {
    check(&[
        (
            [SOURCE, r"[bgp]
"].concat(),
            &[
            r"box.toml:3: bgp.asn: missing; write for example: asn = 64512",
            r#"box.toml:3: bgp.router_id: missing; write for example: router_id = "192.0.2.10""#,
            ],
        ),
        (
            [SOURCE, r#"[bgp]
asn = 0
router_id = "0.0.0.0"
hold_time = "2s"
table = "local"
listen = ["0.0.0.0"]
install_routes = 1
"#].concat(),
            &[
            r"box.toml:4: bgp.asn: 0 is out of range; write a number from 1 to 4294967295",
            r"box.toml:5: bgp.router_id: router id 0.0.0.0 is reserved (RFC 6286); write an IPv4 address of this box, for example 192.0.2.10",
            r#"box.toml:6: bgp.hold_time: a hold time is whole seconds, and 1 s and 2 s are forbidden (RFC 4271 section 4.2); write "0s" (off) or "3s" and more"#,
            r#"box.toml:7: bgp.table: table `local` belongs to the kernel; write "main" or another number"#,
            r#"box.toml:8: bgp.listen[0]: `0.0.0.0` is not a socket address; write address:port, for example "0.0.0.0:80" or "[::]:80""#,
            r"box.toml:9: bgp.install_routes: a whole number where true or false is expected; write for example: install_routes = true",
            ],
        ),
        (
            [SOURCE, r#"[bgp]
asn = 4294967296
router_id = "fe80::1"
hold_time = 9
table = 255
"#].concat(),
            &[
            r"box.toml:4: bgp.asn: 4294967296 is out of range; write a number from 1 to 4294967295",
            r#"box.toml:5: bgp.router_id: `fe80::1` is not a router id; write an IPv4 address of this box, for example "192.0.2.10""#,
            r#"box.toml:6: bgp.hold_time: 9 has no unit; write "9s" for seconds, or "9ms", "9m", "9h""#,
            r#"box.toml:7: bgp.table: table `255` belongs to the kernel; write "main" or another number"#,
            ],
        ),
        (
            [SOURCE, r#"[bgp]
asn = "64512"
router_id = 1
hold_time = "70000s"
table = "mian"
"#].concat(),
            &[
            r"box.toml:4: bgp.asn: a string where a whole number is expected; write for example: asn = 64512",
            r#"box.toml:5: bgp.router_id: a whole number where a string is expected; write for example: router_id = "192.0.2.10""#,
            r#"box.toml:6: bgp.hold_time: 70000s is out of range; write "0s" to "65535s""#,
            r#"box.toml:7: bgp.table: `mian` is not a routing table; write "main" or a number from 1 to 4294967295"#,
            ],
        ),
        (
            [SOURCE, r#"[bgp]
asn = -1
router_id = "1.2.3"
hold_time = "3500ms"
table = 0
"#].concat(),
            &[
            r"box.toml:4: bgp.asn: -1 is out of range; write a number from 1 to 4294967295",
            r#"box.toml:5: bgp.router_id: `1.2.3` is not a router id; write an IPv4 address of this box, for example "192.0.2.10""#,
            r#"box.toml:6: bgp.hold_time: a hold time is whole seconds, and 1 s and 2 s are forbidden (RFC 4271 section 4.2); write "0s" (off) or "3s" and more"#,
            r#"box.toml:7: bgp.table: table `0` belongs to the kernel; write "main" or another number"#,
            ],
        ),
    ]);
}

#[test]
fn every_word_of_a_rule() {
    let rule = r#"[[bgp.rules]]
name = "all"
family = "ipv4"
prefixes = ["10.0.0.0/8 le 32"]
communities = ["65000:*", "rt:65000:1"]
all_communities = ["1:2:3-4"]
as_path_has = 1
as_path_neighbour = 2
as_path_origin = 3
as_path_length = "ge 1 le 3"
as_path = "^2 .* 3$"
next_hops = ["10.0.0.0/24"]
local_preference = 5
med = 6
add_med = 7
prepend = 2
set_communities = ["65000:1"]
remove_communities = ["65000:*"]
add_communities = ["ro:65000:1"]
next_hop = "10.0.0.9"
then = "accept"
[[bgp.rules]]
name = "none"
then = "reject"
reason = "nobody asked"
"#;
    let peers = "[[bgp.peers]]\naddress = \"10.0.0.1\"\nasn = 65001\nrole = \"upstream\"\n\
                 [[bgp.peers]]\naddress = \"10.0.0.2\"\nasn = 65001\nrole = \"cluster\"\nimport = []\nexport = [\"none\"]\n";
    let usual = "upstream_import = [\"all\"]\ncluster_import = [\"none\"]\n";
    let reading = read(&[SOURCE, BGP, usual, rule, peers].concat()).unwrap();
    assert_eq!(lines(&reading.warnings), [""; 0]);
    let bgp = reading.settings.bgp.unwrap();
    let names = |rules: &[std::sync::Arc<crate::model::PolicyRule>]| {
        rules.iter().map(|rule| rule.name.to_string()).collect::<Vec<_>>()
    };
    let [above, below] = &bgp.peers[..] else { panic!() };
    assert_eq!(
        (names(&above.import), names(&above.export)),
        (vec!["all".to_owned()], vec![])
    );
    // An empty list is a list.
    assert_eq!(
        (names(&below.import), names(&below.export)),
        (vec![], vec!["none".to_owned()])
    );
    let all = &above.import[0];
    assert_eq!((all.change.add_med, all.change.communities.len()), (7, 4));
    assert_eq!(all.as_path.length, Some((1, 3)));
    assert_eq!(below.export[0].reason.as_deref(), Some("nobody asked"));

    for (bad, want) in [
        ("family = \"ipv5\"", "family: `ipv5` is none of the words"),
        ("as_path = \"(\"", "as_path: a parenthesis is not closed"),
        ("as_path_length = \"3\"", "as_path_length: `3` is no length"),
        ("communities = [\"65000\"]", "communities[0]: not a community"),
        (
            "add_communities = [\"65000:*\"]",
            "add_communities[0]: not a community",
        ),
        (
            "all_communities = []",
            "all_communities: an empty list holds for nothing",
        ),
        ("next_hop = \"there\"", "next_hop: `there` is no next hop"),
        ("add_med = 0", "add_med: 0 is out of range"),
        ("reason = \"\"", "reason: a reason is one line"),
    ] {
        let text = format!("{SOURCE}{BGP}[[bgp.rules]]\nname = \"r\"\n{bad}\nthen = \"accept\"\n{peers}")
            .replace("export = [\"none\"]\n", "export = [\"r\"]\n");
        let found = faults(&text);
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
        assert!(found[0].contains(want), "{bad}: {found:?}");
    }
}

#[test]
fn what_is_passed_on() {
    let text = format!(
        "{SOURCE}{BGP}[[bgp.peers]]\naddress = \"10.0.0.1\"\nasn = 65001\nrole = \"upstream\"\nroute_reflector_client = true\n\
         [[bgp.peers]]\naddress = \"10.0.0.2\"\nasn = 64512\nrole = \"cluster\"\nroute_reflector_client = true\nreannounce = \"pods\"\n\
         [[bgp.peers]]\naddress = \"10.0.0.3\"\nasn = \"external\"\nrole = \"cluster\"\nnext_hop = \"unchanged\"\n"
    );
    let found = faults(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("bgp.peers[0].route_reflector_client: only a peer of our own AS"),
        "{found:?}"
    );
    let reading = read(&text.replacen("route_reflector_client = true\n", "", 1)).unwrap();
    let warned = lines(&reading.warnings).join("\n");
    assert!(
        warned.contains("bgp.peers[2].next_hop: it is about what is passed on"),
        "{warned}"
    );
    let bgp = reading.settings.bgp.unwrap();
    assert_eq!(bgp.identity.cluster_id, bgp.identity.router_id);
    assert!(bgp.peers[1].pass_on.pods && bgp.peers[1].pass_on.reflector_client);
}

#[test]
#[rustfmt::skip]
fn peers() {
    check(&[
        (
            [SOURCE, BGP, r"[[bgp.peers]]
"].concat(),
            &[
            r#"box.toml:6: bgp.peers[0].address: missing; write for example: address = "10.0.0.11""#,
            r"box.toml:6: bgp.peers[0].asn: missing; write for example: asn = 64512",
            r#"box.toml:6: bgp.peers[0].role: missing; write for example: role = "cluster""#,
            ],
        ),
        (
            [SOURCE, BGP, r#"[[bgp.peers]]
name = "a b"
address = "10.0.0.1:179"
asn = 1.5
role = "node"
port = 0
passive = "no"
bfd = { interval = "5ms", multiplier = 0, min_ttl = 254, hops = 2 }
password_file = "/x"
import = ["far"]
multihop = 0
keepalive = 3
"#].concat(),
            &[
            r"box.toml:7: bgp.peers[0].name: `a b` cannot name a peer; use 1 to 63 letters, digits, `-`, `_`, `.` or `:`",
            r"box.toml:8: bgp.peers[0].address: `10.0.0.1:179` is not an IP address; write it without port and prefix length, for example 10.0.0.11",
            r#"box.toml:9: bgp.peers[0].asn: a fraction where an AS number, a list of them, "internal" or "external" is expected; write for example: asn = 64512"#,
            r#"box.toml:10: bgp.peers[0].role: `node` is none of the words known here; write "cluster" or "upstream""#,
            r"box.toml:11: bgp.peers[0].port: 0 is out of range; write a number from 1 to 65535",
            r"box.toml:12: bgp.peers[0].passive: a string where true or false is expected; write for example: passive = false",
            r"box.toml:13: bgp.peers[0].bfd.hops: unknown key; the keys of [bgp.peers.bfd] are interval, multiplier, multihop, min_ttl, auth, strict",
            r#"box.toml:13: bgp.peers[0].bfd.interval: 5ms is out of range; write "10ms" to "1m""#,
            r"box.toml:13: bgp.peers[0].bfd.multiplier: 0 is out of range; write a number from 1 to 255",
            r"box.toml:14: bgp.peers[0].password_file: the file cannot be read: entity not found; correct the path, or let the user of the service read it and nobody else (chown, chmod 0400)",
            r"box.toml:15: bgp.peers[0].import[0]: no rule is named `far`; add it as [[bgp.rules]], or correct the name",
            r"box.toml:16: bgp.peers[0].multihop: 0 is out of range; write a number from 1 to 255",
            r"box.toml:17: bgp.peers[0].keepalive: unknown key; the keys of [[bgp.peers]] are name, address, asn, role, passive, port, password_file, ao_keys, bfd, ttl_security, multihop, source_address, max_prefixes, max_prefixes_warning, max_prefixes_action, max_prefixes_restart, enforce_first_as, bgp_role, bgp_role_strict, shutdown, import, export, reannounce, route_reflector_client, next_hop, advertisement_interval",
            ],
        ),
        (
            [SOURCE, BGP, r#"[[bgp.peers]]
name = "n1"
address = "10.0.0.1"
asn = 64512
role = "cluster"
[[bgp.peers]]
name = "n1"
address = "10.0.0.1"
asn = 64512
role = "cluster"
"#].concat(),
            &[
            r"box.toml:11: bgp.peers[1].name: `n1` is the name of bgp.peers[0] too (line 6); give each peer a name of its own",
            r"box.toml:11: bgp.peers[1].address: 10.0.0.1 is the address of bgp.peers[0] too (line 6); keep one of them: one session runs between two addresses",
            ],
        ),
        (
            [SOURCE, BGP, r#"[[bgp.peers]]
name = "upstream"
address = "fe80::1"
asn = 1
role = "upstream"
[[bgp.peers]]
address = "::ffff:1.2.3.4"
asn = 1
role = "upstream"
"#].concat(),
            &[
            r"box.toml:7: bgp.peers[0].name: `upstream` is a role and cannot name a peer; choose another name",
            r#"box.toml:8: bgp.peers[0].address: `fe80::1` is link-local: it says nothing without an interface; write the interface after it, for example "fe80::1%eth1""#,
            r"box.toml:12: bgp.peers[1].address: `::ffff:1.2.3.4` is an IPv4 address in IPv6 form; write it as IPv4",
            ],
        ),
        (
            [SOURCE, BGP, r#"[[bgp.peer_ranges]]
prefix = "10.0.0.0/24"
asn = 1
role = "cluster"
[[bgp.peer_ranges]]
prefix = "10.0.0.128/25"
asn = 1
role = "upstream"
[[bgp.peer_ranges]]
prefix = "10.0.0.0/24"
asn = 1
role = "cluster"
[[bgp.peer_ranges]]
prefix = "10.0.0.1/24"
ttl_security = true
"#].concat(),
            &[
            r"box.toml:10: bgp.peer_ranges[1].prefix: 10.0.0.128/25 lies in 10.0.0.0/24 of bgp.peer_ranges[0] (line 6), which has another AS, role or protection; make the ranges disjoint",
            r"box.toml:14: bgp.peer_ranges[2].prefix: 10.0.0.0/24 is written twice: 10.0.0.0/24 of bgp.peer_ranges[0] (line 6); keep one of them",
            r"box.toml:18: bgp.peer_ranges[3].asn: missing; write for example: asn = 64512",
            r#"box.toml:18: bgp.peer_ranges[3].role: missing; write for example: role = "cluster""#,
            r"box.toml:19: bgp.peer_ranges[3].prefix: `10.0.0.1/24` has host bits set (the network is 10.0.0.0/24); write the network address",
            r"box.toml:20: bgp.peer_ranges[3].ttl_security: true where a whole number is expected; write for example: ttl_security = 1",
            ],
        ),
        (
            [SOURCE, BGP, r#"[[bgp.peers]]
name = "10.0.0.2"
address = "10.0.0.1"
asn = 64512
role = "cluster"
[[bgp.peers]]
name = "10.0.0.3"
address = "10.0.0.3"
asn = 64512
role = "cluster"
"#].concat(),
            &[
            r"box.toml:7: bgp.peers[0].name: `10.0.0.2` is an address, and not the one of this peer; choose another name, or leave it out",
            ],
        ),
        (
            [SOURCE, BGP, r#"[[bgp.rules]]
name = "a"
prefixes = ["10.0.0.0/8 le 7", "10.0.0.0/8 to 9"]
communities = []
add_communities = ["65536:1"]
then = "drop"
[[bgp.rules]]
name = "a"
then = "accept"
[[bgp.peers]]
address = "10.0.0.1"
asn = 1
role = "cluster"
import = ["a", "b"]
"#].concat(),
            &[
            r"box.toml:8: bgp.rules[0].prefixes[0]: the lengths after it leave nothing; keep to: its own length <= ge <= le <= 32 (IPv4) or 128 (IPv6)",
            r#"box.toml:8: bgp.rules[0].prefixes[1]: not a set of prefixes; write a prefix, with ge and le after it for others inside: "10.244.0.0/16 ge 24 le 26""#,
            r"box.toml:9: bgp.rules[0].communities: an empty list holds for nothing; remove it (then it holds for all), or fill it",
            r#"box.toml:10: bgp.rules[0].add_communities[0]: not a community; write "65000:100", a large one "65000:1:2", an extended one "rt:65000:1", "ro:65000:1" or "ext:0x0002fde800000001"; or graceful-shutdown, no-export, no-advertise, blackhole"#,
            r#"box.toml:11: bgp.rules[0].then: `drop` is none of the words known here; write "accept", "reject" or "next""#,
            r"box.toml:13: bgp.rules[1].name: another rule has this name; give each rule a name of its own",
            r"box.toml:19: bgp.peers[0].import[1]: no rule is named `b`; add it as [[bgp.rules]], or correct the name",
            ],
        ),
        (
            [SOURCE, BGP, r#"[[bgp.peers]]
address = "10.0.0.1"
asn = "Internal"
role = "cluster"
[[bgp.peers]]
address = "10.0.0.2"
asn = [64512, 0]
role = "cluster"
[[bgp.peers]]
address = "10.0.0.3"
asn = []
role = "cluster"
[[bgp.peers]]
address = "10.0.0.4"
asn = ["1"]
role = "cluster"
"#].concat(),
            &[
            r#"box.toml:8: bgp.peers[0].asn: `Internal` is none of the words known here; write a number without quotes, a list of numbers, "internal" or "external""#,
            r"box.toml:12: bgp.peers[1].asn[1]: 0 is out of range; write a number from 1 to 4294967295",
            r"box.toml:16: bgp.peers[2].asn: an empty list lets nobody in; write the AS numbers",
            r#"box.toml:20: bgp.peers[3].asn[0]: a string where an AS number, a list of them, "internal" or "external" is expected; write for example: asn = 64512"#,
            ],
        ),
        (
            [SOURCE, BGP, "error_wait = \"10s\"\nerror_wait_max = \"5s\"\n", r#"[[bgp.peers]]
address = "10.0.0.1"
asn = 65001
role = "upstream"
password_file = "/etc/sekisho/bgp.password"
ao_keys = ["1 hmac-sha-1-96 /etc/sekisho/tor-1.ao", "1/2 hmac-sha-1-96 /etc/sekisho/tor-1.ao"]
[[bgp.peers]]
address = "10.0.0.2"
asn = 65001
role = "upstream"
ao_keys = ["1 hmac-sha-1-96 /etc/sekisho/tor-1.ao"]
password_file = "/etc/sekisho/bgp.password"
shutdown = "a\nb"
bgp_role = "upstream"
"#].concat(),
            &[
            r"box.toml:7: bgp.error_wait_max: shorter than error_wait, which is the first wait; write a time that is at least as long, or lower error_wait",
            r"box.toml:13: bgp.peers[0].ao_keys[1]: another key has this id; give each key ids of its own",
            r"box.toml:18: bgp.peers[1].ao_keys: password_file is written too, and a connection is signed in one way; keep one of them",
            r"box.toml:20: bgp.peers[1].shutdown: `a\u{a}b` is longer than 255 octets, or holds control characters; write one short line for the operator of the peer; an empty one is allowed",
            r#"box.toml:21: bgp.peers[1].bgp_role: `upstream` is none of the words known here; write "provider", "customer", "peer", "rs" or "rs-client""#,
            ],
        ),
        (
            [SOURCE, BGP, r#"[[bgp.peers]]
address = "10.0.0.1"
asn = 64512
role = "cluster"
ttl_security = 1
multihop = 2
source_address = "fd00::1"
"#].concat(),
            &[
            r"box.toml:11: bgp.peers[0].multihop: ttl_security is written too, and names the distance already; keep one of them",
            r"box.toml:12: bgp.peers[0].source_address: fd00::1 is not of the family of the peer's address; write an address of the box of the same family",
            ],
        ),
        (
            [SOURCE, BGP, r#"[[bgp.peers]]
address = "10.0.0.1"
asn = 64512
role = "cluster"
[[bgp.peer_ranges]]
prefix = "10.0.0.0/24"
asn = 64512
role = "cluster"
password_file = "/etc/sekisho/bgp.password"
"#].concat(),
            &[
            r"box.toml:6: bgp.peers[0].password_file: missing, and 10.0.0.1 is inside 10.0.0.0/24 of bgp.peer_ranges[0] (line 10), which has one: the kernel asks for it from every address of the range; write the password_file of this peer",
            ],
        ),
    ]);
}

#[test]
#[rustfmt::skip]
fn vips() {
    check(&[
        (
            [SOURCE, BGP, r#"[[bgp.peers]]
name = "n1"
address = "10.0.0.1"
asn = 64512
role = "cluster"
[[bgp.peers]]
name = "r1"
address = "10.0.0.2"
asn = 65000
role = "upstream"
[[vips]]
name = "a"
addresses = ["10.0.0.0/29"]
announce_to = ["r1", "n1", "upstream", "cluster", "r2", "r1"]
[[vips]]
name = "a"
addresses = ["10.0.0.4/30", "0.0.0.0/0", "224.0.0.0/8"]
[[vips]]
name = "c"
addresses = []
[[vips]]
addresses = "10.0.0.0/24"
"#].concat(),
            &[
            r"box.toml:18: vips[0].addresses[0]: 10.0.0.0/29 holds 10.0.0.1, the address of the BGP peer n1: the box would answer for it; leave the addresses of other machines out",
            r"box.toml:19: vips[0].announce_to[5]: `r1` is written twice; keep one of them",
            r#"box.toml:19: vips[0].announce_to[1]: peer `n1` has the role "cluster", and nothing is ever announced to it; write "upstream", or the name of a peer whose role is "upstream""#,
            r#"box.toml:19: vips[0].announce_to[3]: nothing is ever announced to the nodes of the cluster; write "upstream", or the name of a peer whose role is "upstream""#,
            r#"box.toml:19: vips[0].announce_to[4]: `r2` is neither a role nor the name of a peer; write "upstream", or the name of a peer whose role is "upstream""#,
            r"box.toml:21: vips[1].name: `a` is the name of another pool too (line 17); give each pool a name of its own",
            r"box.toml:22: vips[1].addresses[1]: 0.0.0.0/0 is too large for a pool; write /8 or longer for IPv4, /32 or longer for IPv6",
            r"box.toml:22: vips[1].addresses[2]: 224.0.0.0/8 holds addresses that no machine can have; write unicast addresses",
            r"box.toml:22: vips[1].addresses[0]: 10.0.0.4/30 overlaps 10.0.0.0/29 of vips[0].addresses[0] (line 18); give each address to one pool, once",
            r#"box.toml:25: vips[2].addresses: no address; write prefixes, for example ["203.0.113.0/28"]"#,
            r#"box.toml:26: vips[3].name: missing; write for example: name = "public""#,
            r#"box.toml:27: vips[3].addresses: a string where a list is expected; write for example: addresses = ["203.0.113.0/28", "2001:db8:1::/112"]"#,
            ],
        ),
        (
            [SOURCE, r#"[[vips]]
name = "a"
addresses = ["10.9.0.0/29"]
announce_to = ["upstream"]
"#].concat(),
            &[
            r"box.toml:6: vips[0].announce_to: there is no [bgp] section, so nothing can be announced; write [], or add [bgp]",
            ],
        ),
        (
            [SOURCE, BGP, r#"[[bgp.peers]]
name = "r1"
addres = "10.0.0.2"
asn = 65000
role = "upstream"
[[vips]]
name = "a"
addresses = ["10.9.0.0/29"]
announce_to = ["upstream", "r1"]
"#].concat(),
            &[
            r#"box.toml:6: bgp.peers[0].address: missing; write for example: address = "10.0.0.11""#,
            r"box.toml:8: bgp.peers[0].addres: unknown key; did you mean `address`?",
            ],
        ),
    ]);
}

#[test]
#[rustfmt::skip]
fn acme() {
    check(&[
        (
            [SOURCE, r"[acme]
"].concat(),
            &[
            r#"box.toml:3: acme.directory: missing; write for example: directory = "https://acme.example/directory""#,
            ],
        ),
        (
            [SOURCE, r#"[acme]
directory = "http://ca"
email = "mailto:a@b"
ca_file = "/nowhere"
eab_key_id = "a b"
"#].concat(),
            &[
            r#"box.toml:4: acme.directory: `http://ca` is not an https URL; write the https URL of the CA's directory, for example "https://acme.example/directory""#,
            r#"box.toml:5: acme.email: `mailto:a@b` is not one email address; write it plain, for example "ops@example.com""#,
            r"box.toml:6: acme.ca_file: the file cannot be read: entity not found; correct the path or the permissions",
            r"box.toml:7: acme.eab_key_id: not a key identifier; copy it from the CA, without spaces",
            r"box.toml:7: acme.eab_key_id: eab_hmac_key_file is missing; an external account binding needs both: write eab_hmac_key_file, or remove eab_key_id",
            ],
        ),
        (
            [SOURCE, r#"[acme]
directory = "https://ca/"
ca_file = "/etc/sekisho/text"
eab_hmac_key_file = "/etc/sekisho/text"
eab_hmac_key = "hunter2"
"#].concat(),
            &[
            r"box.toml:5: acme.ca_file: no certificate in PEM form in this file; name a file with the root certificate of the CA",
            r"box.toml:6: acme.eab_hmac_key_file: the file does not hold base64url; put the HMAC key into the file as the CA prints it, in base64url",
            r"box.toml:6: acme.eab_hmac_key_file: eab_key_id is missing; an external account binding needs both: write eab_key_id, or remove eab_hmac_key_file",
            r"box.toml:7: acme.eab_hmac_key: unknown key; the keys of [acme] are directory, email, ca_file, eab_key_id, eab_hmac_key_file",
            ],
        ),
        (
            [SOURCE, r#"[acme]
directory = "https://ca/"
eab_key_id = "a"
eab_hmac_key_file = "/hunter2"
"#].concat(),
            &[
            r"box.toml:6: acme.eab_hmac_key_file: the file cannot be read: entity not found; correct the path or the permissions",
            ],
        ),
    ]);
}

#[test]
#[rustfmt::skip]
fn limits_and_timeouts() {
    check(&[
        (
            [SOURCE, r#"[http]
max_header_bytes = "64KB"
max_headers = 1
max_connections = true
access_log = "on"
max_idle_per_endpoint = 1_000_000
[timeouts]
connect = "5"
drain = 30
keep_alive = "1ms"
tcp_idle = "9999999h"
conect = "5s"
response_read = 5.0
"#].concat(),
            &[
            r#"box.toml:4: http.max_header_bytes: `64KB` is not a size; write octets as a number, or with KiB or MiB, for example "64KiB""#,
            r"box.toml:5: http.max_headers: 1 is out of range; write a number from 16 to 4096",
            r"box.toml:6: http.max_connections: true where a whole number is expected; write for example: max_connections = 100000",
            r"box.toml:7: http.access_log: a string where true or false is expected; write for example: access_log = true",
            r"box.toml:8: http.max_idle_per_endpoint: 1000000 is out of range; write a number from 0 to 65535",
            r#"box.toml:10: timeouts.connect: `5` is not a duration; write a whole number with ms, s, m or h, for example "10s" or "500ms""#,
            r#"box.toml:11: timeouts.drain: 30 has no unit; write "30s" for seconds, or "30ms", "30m", "30h""#,
            r#"box.toml:12: timeouts.keep_alive: 1ms is out of range; write "10ms" to "24h""#,
            r#"box.toml:13: timeouts.tcp_idle: 9999999h is out of range; write "10ms" to "168h""#,
            r"box.toml:14: timeouts.conect: unknown key; did you mean `connect`?",
            r#"box.toml:15: timeouts.response_read: a fraction where a string is expected; write for example: response_read = "1m""#,
            ],
        ),
        (
            [SOURCE, r#"[http]
sticky_key_file = "/nowhere"
"#].concat(),
            &[
            r"box.toml:4: http.sticky_key_file: the file cannot be read: entity not found; correct the path or the permissions",
            ],
        ),
        (
            [SOURCE, r#"[http]
sticky_key_file = "/etc/sekisho/eab.key"
"#].concat(),
            &[
            r"box.toml:4: http.sticky_key_file: the file does not hold 16 to 4096 octets; put a random key into it, for example with `openssl rand -hex 32`, the same on every box",
            ],
        ),
        (
            [SOURCE, r#"[http]
error_pages = ["/etc/sekisho/5xx.html", "/etc/sekisho/text", "404.html", "/etc/sekisho/5xx.txt", ""]
"#].concat(),
            &[
            r"box.toml:4: http.error_pages[4]: empty, too long, or not a path; write the path of a file or folder",
            r"box.toml:4: http.error_pages[1]: `text` is not a status of an error; write one from 400 to 599, 4xx or 5xx",
            r"box.toml:4: http.error_pages[2]: the file cannot be read: entity not found; correct the path or the permissions",
            r"box.toml:4: http.error_pages[3]: there is another page for 5xx; keep one of them",
            ],
        ),
        (
            [SOURCE, r#"[http]
max_header_bytes = "2MiB"
max_headers = 0x10
max_concurrent_streams = 99999999999999999999
"#].concat(),
            &[
            r"box.toml:4: http.max_header_bytes: 2MiB is out of range; write 8KiB to 1MiB",
            r"box.toml:6: http.max_concurrent_streams: 99999999999999999999 is out of range; write a number from 1 to 65535",
            ],
        ),
    ]);
}

#[test]
#[rustfmt::skip]
fn warnings_do_not_refuse() {
    let table: &[(String, &[&str])] = &[
        (
            [SOURCE, BGP, r#"[[bgp.peers]]
address = "2001:db8::1"
asn = 1
role = "cluster"
passive = true
[[bgp.peer_ranges]]
prefix = "2001:db8:2::/64"
asn = 1
role = "cluster"
"#].concat(),
            &[
            r#"box.toml:6: bgp.peers[0]: it must dial the box over IPv6, and no address of bgp.listen is IPv6; add "[::]:179" to bgp.listen"#,
            r#"box.toml:11: bgp.peer_ranges[0]: it must dial the box over IPv6, and no address of bgp.listen is IPv6; add "[::]:179" to bgp.listen"#,
            ],
        ),
        (
            [SOURCE, BGP, r#"[[bgp.peers]]
name = "n1"
address = "10.0.0.1"
asn = 64512
role = "cluster"
[[vips]]
name = "a"
addresses = ["10.9.0.0/29"]
announce_to = ["upstream"]
"#].concat(),
            &[
            r#"box.toml:14: vips[0].announce_to[0]: no peer or range has the role "upstream": the addresses are announced to nobody; add the routers above to [[bgp.peers]] with role = "upstream""#,
            ],
        ),
        (
            [SOURCE, r#"[listen]
http = []
[acme]
directory = "https://ca/"
"#].concat(),
            &[
            r"box.toml:5: acme: listen.http is empty, and HTTP-01 validation comes to port 80; add an HTTP listener, or take certificates from Secrets only",
            ],
        ),
        (
            [SOURCE, BGP, r""].concat(),
            &[
            r#"box.toml:1: source.routing: no endpoint can be eligible: routing is "required" and no peer or range has the role "cluster"; add the nodes to [[bgp.peers]], or write routing = "off""#,
            r"box.toml:3: bgp: no peer and no range: no session will ever come up; add [[bgp.peers]]",
            ],
        ),
        (
            [SOURCE, BGP, r#"[[bgp.peers]]
name = "r1"
address = "10.0.0.2"
asn = 65000
role = "upstream"
passive = true
port = 1179
[[vips]]
name = "a"
addresses = ["10.9.0.0/29"]
[listen]
ingress_addresses = ["10.8.0.1"]
trusted_proxies = ["0.0.0.0/0"]
http = ["127.0.0.1:0"]
[appliance]
admin = "0.0.0.0:9901"
"#].concat(),
            &[
            r#"box.toml:1: source.routing: no endpoint can be eligible: routing is "required" and no peer or range has the role "cluster"; add the nodes to [[bgp.peers]], or write routing = "off""#,
            r"box.toml:12: bgp.peers[0].port: the port of a passive peer is never dialled; remove it, or passive = true",
            r#"box.toml:13: vips[0]: its addresses are announced to nobody; write announce_to = ["upstream"], or [] if another router has static routes for them"#,
            r"box.toml:17: listen.ingress_addresses[0]: 10.8.0.1 lies in no [[vips]] pool: it is written to the status of Ingresses and never announced; add it to a pool, unless something else leads clients there",
            r"box.toml:18: listen.trusted_proxies[0]: 0.0.0.0/0 believes the X-Forwarded-* headers of every client; name the networks of your own proxies",
            r"box.toml:19: listen.http[0]: 127.0.0.1:0: port 0 lets the system choose a port; write the port that clients use",
            r"box.toml:21: appliance.admin: 0.0.0.0:9901 answers on every address of the box and asks for no password; listen on 127.0.0.1 or a management address, or keep strangers off with a firewall",
            ],
        ),
        (
            [SOURCE, r#"[listen]
proxy_protocol_from = ["10.0.0.0/8", "::/0"]
"#].concat(),
            &[
            r"box.toml:4: listen.proxy_protocol_from[1]: ::/0 lets every client say which address it has, and refuses those that do not; name the networks of your own load balancers",
            ],
        ),
        (
            [SOURCE, r"allow_loopback_endpoints = true
"].concat(),
            &[
            r"box.toml:3: source.allow_loopback_endpoints: whoever may write an EndpointSlice reaches the box's own ports; remove it outside of trials",
            ],
        ),
        (
            [SOURCE, BGP, r#"[[bgp.peer_ranges]]
prefix = "10.0.0.0/24"
asn = 1
role = "cluster"
[[bgp.peer_ranges]]
prefix = "10.0.0.128/25"
asn = 1
role = "cluster"
"#].concat(),
            &[
            r"box.toml:10: bgp.peer_ranges[1].prefix: 10.0.0.128/25 lies in 10.0.0.0/24 of bgp.peer_ranges[0] (line 6), which says the same; remove the smaller one",
            ],
        ),
    ];
    for (text, want) in table {
        let reading = read(text).map_err(|faults| lines(&faults)).unwrap();
        assert_eq!(lines(&reading.warnings), *want, "in:\n{text}");
    }
}
