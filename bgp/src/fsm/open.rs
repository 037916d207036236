use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sekisho_config::model::{Asn, BgpRole, PeerAs, RouterId};

use super::Ended;
use crate::wire::{Capability, Families, Family, Negotiated, Notification, OnlyToCustomer, Open, WireError};

/// What we say of ourselves in an OPEN, and whom we expect on the other side.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    /// Our AS.
    pub(crate) asn: Asn,
    /// Our BGP Identifier.
    pub(crate) router_id: RouterId,
    /// Hold time that we offer, seconds; 0 or at least 3.
    pub(crate) hold_time: u16,
    /// Our own restart, as peers hear of it (RFC 4724).
    pub(crate) restart: Restart,
    /// The AS the peer must have.
    pub(crate) peer_as: PeerAs,
    /// What we are to a peer of another AS (RFC 9234).
    pub(crate) role: Option<BgpRole>,
    /// A peer that says nothing of its role is refused.
    pub(crate) role_strict: bool,
    /// Whether we offer to send several paths of a prefix (RFC 7911).
    pub(crate) add_path_send: bool,
}

/// What peers hear of our own restart (RFC 4724 section 3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Restart {
    /// Restart time, seconds.
    pub(crate) time: u16,
    /// Families whose paths peers are asked to keep while we are away; none: we only help others.
    pub(crate) families: Families,
    /// This process follows one whose peers may be waiting for us: until then the R bit says so.
    pub(crate) returned_until: Option<Instant>,
    /// Families whose routes the earlier process left in the kernel (F bit).
    pub(crate) preserved: Families,
}

impl Restart {
    /// Of whoever keeps the routes of others and asks nobody to keep its own.
    pub(crate) fn receiver(time: u16) -> Self {
        Self {
            time,
            families: Families::NONE,
            returned_until: None,
            preserved: Families::NONE,
        }
    }
}

/// What both OPENs together allow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Terms {
    /// The peer's BGP Identifier.
    pub(crate) router_id: RouterId,
    /// The peer's AS.
    pub(crate) asn: Asn,
    /// The lower of both hold times; `None`: hold and keepalive timers are off.
    pub(crate) hold_time: Option<Duration>,
    /// How messages are written and read from now on.
    pub(crate) wire: Negotiated,
    /// What the peer says of its own restart (RFC 4724); `None` without the capability.
    pub(crate) graceful_restart: Option<GracefulRestart>,
    /// Families whose routes may be kept long after the restart time (RFC 9494); none without graceful restart.
    pub(crate) long_lived: Vec<LongLived>,
    /// What the peer offered, for views.
    pub(crate) capabilities: Vec<Capability>,
    /// Our OPEN and the peer's, for whoever monitors.
    pub(crate) opens: (Open, Open),
}

/// The peer's graceful restart capability, for the families that both speak.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct GracefulRestart {
    /// How long its routes may be kept while it is away.
    pub(crate) time: Duration,
    /// A NOTIFICATION other than a hard reset ends the session as a broken connection does (N bit of RFC 8538).
    pub(crate) notification: bool,
    /// It has just restarted (R bit).
    pub(crate) restarted: bool,
    /// Families it can restart, and whether it kept forwarding state (F bit).
    pub(crate) families: Vec<(Family, bool)>,
}

/// What the peer asks for a family whose routes it cannot repeat for long (RFC 9494 section 3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LongLived {
    pub(crate) family: Family,
    /// It kept forwarding state (F bit).
    pub(crate) forwarding: bool,
    /// How long its routes may be kept after the restart time.
    pub(crate) time: Duration,
}

impl Terms {
    /// Interval between our KEEPALIVEs: a third of the hold time (RFC 4271 section 4.4).
    pub(crate) fn keepalive_time(&self) -> Option<Duration> {
        self.hold_time.map(|hold| hold / 3)
    }

    /// Whether both sides keep routes over a NOTIFICATION, so that an end that is meant has to be a hard reset (RFC 8538).
    pub(crate) fn is_graceful_on_notification(&self) -> bool {
        self.graceful_restart
            .as_ref()
            .is_some_and(|restart| restart.notification)
    }

    /// Whether routes of the peer are to be kept after the session has ended so (RFC 4724 section 4.2, RFC 8538 section 4).
    pub(crate) fn outlives(&self, ended: &Ended) -> bool {
        let graceful = match ended {
            Ended::Lost(_) | Ended::Restarted => true,
            Ended::Received(notification) | Ended::Sent(notification) => {
                self.is_graceful_on_notification() && !notification.is_hard_reset()
            }
        };
        graceful && (self.can_restart() || !self.long_lived.is_empty())
    }

    /// Whether routes of the peer are to be kept when the connection breaks without a word.
    pub(crate) fn can_restart(&self) -> bool {
        self.graceful_restart
            .as_ref()
            .is_some_and(|restart| !restart.families.is_empty() && !restart.time.is_zero())
    }
}

impl Identity {
    /// The OPEN that we send once a session has stood, and nothing was lost since: see [`Self::open_saying`].
    pub(crate) fn open(&self) -> Open {
        self.open_saying(false, Families::ALL)
    }

    /// The first OPENs of a process: what it has found, and whether it has restarted.
    pub(crate) fn first_open(&self, now: Instant) -> Open {
        self.open_saying(self.has_restarted(now), self.restart.preserved)
    }

    /// Whether peers may still hold paths that an earlier process told them.
    pub(crate) fn has_restarted(&self, now: Instant) -> bool {
        self.restart.returned_until.is_some_and(|until| now < until)
    }

    /// Both families, route refresh, graceful restart (a family is listed if peers are asked to keep its paths), 4-octet AS,
    /// ADD-PATH receive, enhanced route refresh, extended messages, IPv4 with IPv6 next hops.
    fn open_saying(&self, restarted: bool, forwarding: Families) -> Open {
        let kept = self.restart.families.iter().map(|family| {
            let (afi, safi) = family.numbers();
            (afi, safi, forwarding.contains(family))
        });
        let mut capabilities: Vec<_> = Family::ALL.into_iter().map(Capability::Multiprotocol).collect();
        capabilities.extend([
            Capability::RouteRefresh,
            Capability::GracefulRestart {
                restarted,
                // As a receiver: we keep routes over a NOTIFICATION of a peer that can restart (RFC 8538).
                notification: true,
                time: self.restart.time.min(0x0fff),
                families: kept.collect(),
            },
            Capability::FourOctetAs(self.asn.number()),
            Capability::EnhancedRouteRefresh,
            // As a receiver: no family of ours is kept (RFC 9494 section 4.1).
            Capability::LongLivedGracefulRestart(Vec::new()),
            Capability::ExtendedMessage,
            // IPv4 unicast with IPv6 next hops (RFC 8950).
            Capability::ExtendedNextHop(vec![(1, 1, 2)]),
            Capability::AddPath(
                Family::ALL
                    .into_iter()
                    .map(|family| {
                        let (afi, safi) = family.numbers();
                        (afi, safi, if self.add_path_send { 3 } else { 1 })
                    })
                    .collect(),
            ),
        ]);
        // Between two AS only; of a peer that may be of either kind it is said, and ignored inside our AS.
        if let Some(role) = self.role {
            capabilities.push(Capability::Role(role.number()));
        }
        Open {
            my_as: u16::try_from(self.asn.number()).unwrap_or(Asn::TRANS),
            hold_time: self.hold_time,
            router_id: self.router_id,
            capabilities,
        }
    }

    /// Judges the peer's OPEN (RFC 4271 section 6.2) and settles what both sides can do.
    ///
    /// # Errors
    /// What to tell the peer: 2/2 for an AS that is not the configured one, 2/3 for our own identifier inside our AS
    /// (RFC 6286 section 2.2), 2/6 for a hold time of 1 or 2 s, 2/7 when no family is common, 2/11 for a role that does not
    /// fit ours.
    pub(crate) fn negotiate(&self, open: &Open) -> Result<Terms, Notification> {
        let admitted = |asn: &Asn| self.peer_as.admits(*asn, self.asn);
        let Some(asn) = open.asn().filter(admitted) else {
            let number = open.asn().map_or_else(|| open.my_as.into(), Asn::number);
            return Err(WireError::PeerAs(number).notification());
        };
        if asn == self.asn && open.router_id == self.router_id {
            return Err(WireError::Identifier(open.router_id.address()).notification());
        }
        if matches!(open.hold_time, 1 | 2) {
            return Err(WireError::HoldTime(open.hold_time).notification());
        }
        let mut wire = Negotiated::between(&self.open(), open);
        if let (Some(role), false) = (self.role, wire.internal) {
            self.fits(role, open)
                .map_err(|why| WireError::Role(why).notification())?;
            wire.only_to_customer = Some(OnlyToCustomer {
                role,
                local: self.asn.number(),
                remote: asn.number(),
            });
        }
        if wire.families.is_empty() {
            let missing = Family::ALL.into_iter().map(Capability::Multiprotocol).collect();
            return Err(WireError::MissingCapabilities(missing).notification());
        }
        let hold_time = self.hold_time.min(open.hold_time);
        Ok(Terms {
            router_id: open.router_id,
            asn,
            hold_time: (hold_time > 0).then(|| Duration::from_secs(hold_time.into())),
            graceful_restart: graceful_restart(&open.capabilities, wire.families),
            long_lived: long_lived(&open.capabilities, wire.families),
            capabilities: open.capabilities.clone(),
            opens: (self.open(), open.clone()),
            wire,
        })
    }
}

/// The long-lived capability for families of which the other one speaks as well: alone it means nothing (RFC 9494 section 4.2).
fn long_lived(capabilities: &[Capability], common: Families) -> Vec<LongLived> {
    let Some(restart) = graceful_restart(capabilities, common) else {
        return Vec::new();
    };
    let listed = capabilities.iter().rev().find_map(|capability| match capability {
        Capability::LongLivedGracefulRestart(listed) => Some(listed),
        _ => None,
    });
    let known = |(afi, safi, flags, time): &(u16, u8, u8, u32)| LongLived::of(*afi, *safi, *flags, *time);
    let listed = listed.into_iter().flatten().filter_map(known);
    listed
        .filter(|one| !one.time.is_zero())
        .filter(|one| restart.families.iter().any(|(family, _)| *family == one.family))
        .collect()
}

impl LongLived {
    fn of(afi: u16, safi: u8, flags: u8, time: u32) -> Option<Self> {
        Some(Self {
            family: Family::from_numbers(afi, safi)?,
            forwarding: flags & 0x80 != 0,
            time: Duration::from_secs(time.into()),
        })
    }
}

impl Identity {
    /// Whether the peer's role fits ours (RFC 9234 section 4.2). A role said twice in the same way counts once.
    fn fits(&self, ours: BgpRole, open: &Open) -> Result<(), String> {
        let roles: BTreeSet<u8> = open
            .capabilities
            .iter()
            .filter_map(|capability| match capability {
                Capability::Role(number) => Some(*number),
                _ => None,
            })
            .collect();
        let wanted = ours.opposite();
        match (roles.len(), roles.first()) {
            (0, _) if self.role_strict => Err(format!("the peer says none, and has to be {wanted}")),
            (0, _) => Ok(()),
            (1, Some(number)) if *number == wanted.number() => Ok(()),
            (1, Some(number)) => {
                let theirs = BgpRole::ALL.into_iter().find(|role| role.number() == *number);
                let theirs = theirs.map_or_else(|| format!("role {number}"), |role| role.to_string());
                Err(format!(
                    "we are {ours}, so the peer has to be {wanted}, and says {theirs}"
                ))
            }
            _ => Err("the peer says several".to_owned()),
        }
    }
}

/// The capability for the common families; when it is repeated the last one counts (RFC 4724 section 3).
fn graceful_restart(capabilities: &[Capability], common: Families) -> Option<GracefulRestart> {
    capabilities.iter().rev().find_map(|capability| match capability {
        Capability::GracefulRestart {
            restarted,
            notification,
            time,
            families,
        } => Some(GracefulRestart {
            time: Duration::from_secs((*time).into()),
            notification: *notification,
            restarted: *restarted,
            families: families
                .iter()
                .filter_map(|(afi, safi, kept)| Some((Family::from_numbers(*afi, *safi)?, *kept)))
                .filter(|(family, _)| common.contains(*family))
                .collect(),
        }),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn identity() -> Identity {
        Identity {
            asn: Asn::try_from(64512).unwrap(),
            router_id: RouterId::try_from(Ipv4Addr::new(192, 0, 2, 10)).unwrap(),
            hold_time: 9,
            restart: Restart::receiver(120),
            peer_as: Asn::try_from(64512).unwrap().into(),
            add_path_send: false,
            role: None,
            role_strict: false,
        }
    }

    fn open() -> Open {
        Open {
            my_as: 64512,
            hold_time: 240,
            router_id: RouterId::try_from(Ipv4Addr::new(10, 0, 0, 1)).unwrap(),
            capabilities: vec![Capability::FourOctetAs(64512)],
        }
    }

    #[test]
    fn refusals_carry_the_subcode_of_the_rfc() {
        let own_id = RouterId::try_from(Ipv4Addr::new(192, 0, 2, 10)).unwrap();
        let cases: [(&str, Open, u8); 7] = [
            (
                "other AS",
                Open {
                    my_as: 1,
                    capabilities: vec![],
                    ..open()
                },
                2,
            ),
            (
                "other AS in the capability",
                Open {
                    capabilities: vec![Capability::FourOctetAs(7)],
                    ..open()
                },
                2,
            ),
            (
                "AS 0",
                Open {
                    my_as: 0,
                    capabilities: vec![],
                    ..open()
                },
                2,
            ),
            (
                "our identifier, same AS",
                Open {
                    router_id: own_id,
                    ..open()
                },
                3,
            ),
            (
                "hold time 1",
                Open {
                    hold_time: 1,
                    ..open()
                },
                6,
            ),
            (
                "hold time 2",
                Open {
                    hold_time: 2,
                    ..open()
                },
                6,
            ),
            (
                "only a family we do not speak",
                Open {
                    capabilities: vec![
                        Capability::FourOctetAs(64512),
                        Capability::MultiprotocolOther(25, 70),
                    ],
                    ..open()
                },
                7,
            ),
        ];
        for (what, open, subcode) in cases {
            let error = identity().negotiate(&open).unwrap_err();
            assert_eq!((error.code, error.subcode), (2, subcode), "{what}");
        }
    }

    #[test]
    fn own_identifier_is_fine_in_another_as() {
        let identity = Identity {
            peer_as: Asn::try_from(65001).unwrap().into(),
            ..identity()
        };
        let open = Open {
            my_as: 65001,
            router_id: identity.router_id,
            capabilities: vec![],
            ..open()
        };
        assert!(!identity.negotiate(&open).unwrap().wire.internal);
    }

    #[test]
    fn the_lower_hold_time_counts_and_zero_turns_it_off() {
        for (ours, theirs, want) in [
            (9, 240, Some(9)),
            (240, 9, Some(9)),
            (9, 0, None),
            (0, 90, None),
            (3, 3, Some(3)),
        ] {
            let identity = Identity {
                hold_time: ours,
                ..identity()
            };
            let got = identity
                .negotiate(&Open {
                    hold_time: theirs,
                    ..open()
                })
                .unwrap();
            assert_eq!(
                got.hold_time,
                want.map(Duration::from_secs),
                "{ours} and {theirs}"
            );
        }
    }

    #[test]
    fn capabilities_of_a_calico_node() {
        let open = Open {
            capabilities: vec![
                Capability::Multiprotocol(Family::Ipv4Unicast),
                Capability::RouteRefresh,
                Capability::GracefulRestart {
                    restarted: true,
                    notification: false,
                    time: 120,
                    families: vec![(1, 1, true), (25, 70, true)],
                },
                Capability::FourOctetAs(64512),
                Capability::AddPath(vec![(1, 1, 3)]),
                Capability::EnhancedRouteRefresh,
            ],
            ..open()
        };
        let got = identity().negotiate(&open).unwrap();
        assert!(got.wire.families.iter().eq([Family::Ipv4Unicast]));
        assert!(got.wire.add_path_receive.iter().eq([Family::Ipv4Unicast]));
        assert!(got.wire.route_refresh && got.wire.four_octet_as && got.wire.internal && got.can_restart());
        assert_eq!(
            got.graceful_restart,
            Some(GracefulRestart {
                time: Duration::from_secs(120),
                notification: false,
                restarted: true,
                families: vec![(Family::Ipv4Unicast, true)],
            })
        );
    }

    /// RFC 9494: alone, for another family, or with no time the capability means nothing.
    #[test]
    fn long_lived_restart_goes_with_a_restart() {
        let restart = |families| Capability::GracefulRestart {
            restarted: false,
            notification: false,
            time: 0,
            families,
        };
        let both = [
            Capability::Multiprotocol(Family::Ipv4Unicast),
            Capability::Multiprotocol(Family::Ipv6Unicast),
        ];
        for (restart, listed, want) in [
            (
                Some(restart(vec![(1, 1, true)])),
                vec![(1, 1, 0x80, 3600)],
                vec![(Family::Ipv4Unicast, true, 3600)],
            ),
            (
                Some(restart(vec![(1, 1, true)])),
                vec![(1, 1, 0, 60), (2, 1, 0x80, 60)],
                vec![(Family::Ipv4Unicast, false, 60)],
            ),
            (Some(restart(vec![(1, 1, true)])), vec![(1, 1, 0x80, 0)], vec![]),
            (
                Some(restart(vec![(1, 1, true)])),
                vec![(25, 70, 0x80, 60)],
                vec![],
            ),
            (Some(restart(vec![])), vec![(1, 1, 0x80, 60)], vec![]),
            (None, vec![(1, 1, 0x80, 60)], vec![]),
        ] {
            let long = Capability::LongLivedGracefulRestart(listed.clone());
            let capabilities = both
                .iter()
                .cloned()
                .chain(restart)
                .chain([Capability::FourOctetAs(64512), long]);
            let open = Open {
                capabilities: capabilities.collect(),
                ..open()
            };
            let terms = identity().negotiate(&open).unwrap();
            let got: Vec<_> = terms
                .long_lived
                .iter()
                .map(|one| (one.family, one.forwarding, one.time.as_secs()))
                .collect();
            assert_eq!(got, want, "{listed:?}");
            assert_eq!(terms.outlives(&Ended::Lost(String::new())), !want.is_empty());
        }
    }

    /// RFC 8538 section 4: what ends a session whose routes are kept.
    #[test]
    fn routes_outlive_what_is_no_hard_reset() {
        let terms = |notification, time| {
            let open = Open {
                capabilities: vec![
                    Capability::FourOctetAs(64512),
                    Capability::GracefulRestart {
                        restarted: false,
                        notification,
                        time,
                        families: vec![(1, 1, true)],
                    },
                ],
                ..open()
            };
            identity().negotiate(&open).unwrap()
        };
        let shutdown = Notification::shutdown("");
        for (ended, plain, graceful) in [
            (Ended::Lost(String::new()), true, true),
            (Ended::Restarted, true, true),
            (Ended::Received(shutdown.clone()), false, true),
            (Ended::Received(shutdown.hard()), false, false),
            (Ended::Sent(Notification::hold_timer_expired()), false, true),
            (Ended::Sent(Notification::cease(1).hard()), false, false),
        ] {
            assert_eq!(terms(false, 120).outlives(&ended), plain, "{ended:?}");
            assert_eq!(terms(true, 120).outlives(&ended), graceful, "{ended:?}");
            assert!(!terms(true, 0).outlives(&ended), "no time: {ended:?}");
        }
    }

    /// RFC 9234 section 4.2.
    #[test]
    fn roles_fit_or_the_peer_is_refused() {
        use BgpRole::*;
        // Our role, strict, what the peer says; whether it may come.
        let table: &[(BgpRole, bool, &[u8], bool)] = &[
            (Customer, false, &[0], true),
            (Customer, false, &[0, 0], true),
            (Customer, false, &[], true),
            (Customer, true, &[], false),
            (Customer, true, &[0], true),
            (Customer, false, &[3], false),
            (Customer, false, &[4], false),
            (Customer, false, &[0, 1], false),
            (Customer, false, &[5], false),
            (Customer, false, &[255], false),
            (Provider, false, &[3], true),
            (Provider, false, &[0], false),
            (Peer, false, &[4], true),
            (Peer, false, &[3], false),
            (Rs, false, &[2], true),
            (Rs, false, &[1], false),
            (RsClient, false, &[1], true),
            (RsClient, false, &[0], false),
        ];
        for (role, role_strict, said, want) in table {
            let identity = Identity {
                role: Some(*role),
                role_strict: *role_strict,
                peer_as: PeerAs::External,
                ..identity()
            };
            let roles = said.iter().map(|number| Capability::Role(*number));
            let open = Open {
                my_as: 65001,
                capabilities: roles.collect(),
                ..open()
            };
            let got = identity.negotiate(&open);
            assert_eq!(got.is_ok(), *want, "{role} {role_strict} {said:?}: {got:?}");
            match got {
                Ok(terms) => assert_eq!(terms.wire.only_to_customer.map(|otc| otc.remote), Some(65001)),
                Err(error) => assert_eq!((error.code, error.subcode), (2, 11)),
            }
        }
        let internal = Identity {
            role: Some(Customer),
            role_strict: true,
            ..identity()
        };
        let terms = internal.negotiate(&open()).unwrap();
        assert_eq!(
            terms.wire.only_to_customer, None,
            "inside our AS a role means nothing"
        );
    }

    #[test]
    fn several_paths_are_sent_where_both_want_it() {
        let ours = Identity {
            add_path_send: true,
            ..identity()
        };
        let theirs = Open {
            capabilities: vec![
                Capability::FourOctetAs(64512),
                Capability::AddPath(vec![(1, 1, 1)]),
            ],
            ..open()
        };
        let got = ours.negotiate(&theirs).unwrap().wire;
        assert!(got.add_path_send.iter().eq([Family::Ipv4Unicast]) && got.add_path_receive.is_empty());
        assert!(
            identity()
                .negotiate(&theirs)
                .unwrap()
                .wire
                .add_path_send
                .is_empty()
        );
    }

    #[test]
    fn a_peer_that_only_receives_paths_sends_none() {
        for (direction, want) in [(1, 0), (2, 1), (3, 1), (0, 0), (9, 0)] {
            let open = Open {
                capabilities: vec![Capability::AddPath(vec![(1, 1, direction)])],
                ..open()
            };
            let got = identity().negotiate(&open).unwrap();
            assert_eq!(
                got.wire.add_path_receive.iter().count(),
                want,
                "direction {direction}"
            );
        }
    }

    #[test]
    fn our_own_open_is_acceptable_to_us() {
        let ours = Identity {
            asn: Asn::try_from(4_200_000_000).unwrap(),
            ..identity()
        };
        let open = ours.open();
        assert_eq!(open.my_as, Asn::TRANS);
        let theirs = Identity {
            peer_as: ours.asn.into(),
            ..identity()
        };
        let got = theirs.negotiate(&open).unwrap();
        assert_eq!(got.wire.families, Families::ALL);
        assert!(!got.can_restart() && got.wire.add_path_receive.is_empty());
    }
}
