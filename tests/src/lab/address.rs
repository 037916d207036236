use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A machine of the lab with one address of each family on the network it is known by.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
}

/// The box, on the nodes' network.
pub const BOX: Machine = Machine {
    v4: Ipv4Addr::new(10, 0, 0, 10),
    v6: Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0x10),
};

/// The router above, on the network it shares with the box.
pub const ROUTER: Machine = Machine {
    v4: Ipv4Addr::new(192, 0, 2, 1),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1),
};

/// The address that Ingresses get: the first of the pool that is not its network's own.
pub const VIP_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

/// The same, IPv6.
pub const VIP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1));

/// A node of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Its number, 1 to 3.
    pub number: u8,
    /// Its name, which is the name of its namespace too.
    pub name: &'static str,
}

/// The first node.
pub const NODE1: Node = Node {
    number: 1,
    name: "node1",
};
/// The second node.
pub const NODE2: Node = Node {
    number: 2,
    name: "node2",
};
/// The third node.
pub const NODE3: Node = Node {
    number: 3,
    name: "node3",
};
/// All of them.
pub const NODES: [Node; 3] = [NODE1, NODE2, NODE3];

impl Node {
    /// Its IPv4 address, which is its router id too.
    pub fn v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, 10 + self.number)
    }

    /// Its IPv6 address.
    pub fn v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0x10 + u16::from(self.number))
    }

    /// Its /26.
    pub fn block_v4(self) -> String {
        format!("10.244.{}.0/26", self.number)
    }

    /// Its /122.
    pub fn block_v6(self) -> String {
        format!("fd00:244:0:{}::/122", self.number)
    }

    /// Address number `n` of its blocks, in both families.
    pub fn pod(self, n: u8) -> Machine {
        Machine {
            v4: Ipv4Addr::new(10, 244, self.number, n),
            v6: Ipv6Addr::new(0xfd00, 0x244, 0, self.number.into(), 0, 0, 0, n.into()),
        }
    }
}
