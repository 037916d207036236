//! BGP messages, guarded: nothing from the network reaches a library before its lengths, flags and values are checked.

mod message;

pub use message::{
    Aggregator, AsPath, Attributes, Capability, Family, LargeCommunity, Message, NextHop, Nlri, Notification,
    Open, Origin, RawAttribute, RouteRefresh, RouteRefreshKind, Segment, Update,
};
