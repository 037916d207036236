//! Whatever happens, in whatever order.

use super::*;

fn any_event() -> impl Strategy<Value = (Duration, Event)> {
    let link = || (0..5_u64).prop_map(LinkId);
    let message = prop_oneof![
        2 => (0..12_u8, prop_oneof![Just(0_u16), Just(1), Just(3), Just(90)], any::<bool>())
            .prop_map(|(last, hold, restarts)| peer_open(last.max(1), hold, restarts)),
        4 => Just(Message::Keepalive),
        1 => Just(Message::Update(Update::default())),
        1 => (0..9_u8, 0..12_u8).prop_map(|(code, subcode)| Message::Notification(Notification {
            code,
            subcode,
            data: Bytes::new()
        })),
    ];
    let event = prop_oneof![
        3 => Just(Event::Start),
        1 => Just(Event::Stop(notification(6, 2))),
        1 => Just(Event::Reset { notification: notification(6, 6), hold_off: Duration::from_secs(1) }),
        6 => Just(Event::Deadline),
        4 => any::<bool>().prop_map(|dialed| Event::Connected(
            LinkId(u64::MAX),
            if dialed { Side::Dialed } else { Side::Accepted }
        )),
        1 => Just(Event::DialFailed),
        16 => (link(), message).prop_map(|(link, message)| Event::Message(link, message)),
        1 => (link(), prop::option::of(prop::sample::select(KINDS))).prop_map(|(link, kind)| Event::Malformed(link, kind, notification(1, 2))),
        1 => link().prop_map(|link| Event::Lost(link, String::new())),
        1 => link().prop_map(Event::Stalled),
        1 => link().prop_map(Event::Busy),
    ];
    ((0..20_000_u64).prop_map(Duration::from_millis), event)
}

proptest! {
    /// Whatever happens: no panic, never two sessions, up and down alternate, nothing is sent on a closed link.
    #[test]
    fn any_sequence(events in prop::collection::vec(any_event(), 0..200), passive: bool) {
        let mut bench = Bench::new(passive);
        let mut open: Vec<LinkId> = Vec::new();
        let mut next = 0;
        let mut up = None;
        let mut late = Vec::new();
        for (time, event) in events {
            bench.later(time);
            let event = match event {
                Event::Connected(_, side) => {
                    open.push(LinkId(next));
                    next += 1;
                    Event::Connected(LinkId(next - 1), side)
                }
                // The generator counts from the newest link, so that most events mean something.
                Event::Message(LinkId(back), message) => Event::Message(LinkId(next.saturating_sub(back + 1)), message),
                Event::Lost(LinkId(back), why) => Event::Lost(LinkId(next.saturating_sub(back + 1)), why),
                event => event,
            };
            let actions = bench.on(event);
            bench.on(Event::Deadline).into_iter().for_each(|action| late.push(action));
            let deadline = bench.fsm.deadline();
            prop_assert!(deadline.is_none_or(|deadline| deadline > bench.now), "the deadline stays in the past");
            for action in actions.into_iter().chain(std::mem::take(&mut late)) {
                match action {
                    Action::Send(link, _) => prop_assert!(open.contains(&link), "sent on closed {:?}", link),
                    Action::Close(link) => {
                        prop_assert!(open.contains(&link), "closed twice {:?}", link);
                        open.retain(|other| *other != link);
                    }
                    Action::Up(link, _) => {
                        prop_assert_eq!(up, None, "two sessions");
                        prop_assert!(open.contains(&link));
                        up = Some(link);
                    }
                    Action::Down(_) => prop_assert!(up.take().is_some(), "down without up"),
                    Action::Deliver(_) => prop_assert!(up.is_some(), "delivered without session"),
                    _ => {}
                }
            }
            prop_assert!(open.len() <= 2, "{} connections", open.len());
            prop_assert_eq!(up.is_some(), bench.fsm.state() == State::Established);
            if bench.fsm.dialer != Dialer::Stopped && !passive && open.is_empty() {
                prop_assert!(bench.fsm.deadline().is_some(), "waits for ever in {:?}", bench.fsm.dialer);
            }
        }
    }
}
