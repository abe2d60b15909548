//! Addresses of one broker for clients of several networks: `10.0.0.0/8=10.0.0.5:10911;192.168.0.0/16=192.168.1.161:10623`.

use std::net::IpAddr;

use ipnet::IpNet;
use stdx::config::Value;

/// Networks of a list at the most.
const MAX_NETWORKS: usize = 64;

/// Networks, and the address (`host:port`) of a broker for the clients in each.
#[derive(Clone, Debug, Default, PartialEq, PartialOrd)]
pub struct Networks(Vec<(IpNet, String)>);

impl Networks {
    /// The address for a client: that of the first network that it is in.
    pub fn address_for(&self, client: IpAddr) -> Option<&str> {
        let client = client.to_canonical();
        self.0.iter().find(|(network, _)| network.contains(&client)).map(|(_, address)| address.as_str())
    }

    /// Whether an address is one of the list.
    pub fn names(&self, address: &str) -> bool {
        self.0.iter().any(|(_, listed)| listed == address)
    }
}

impl Value for Networks {
    const EXPECTED: &'static str = "up to 64 of `network/bits=host:port`, separated by `;`";

    fn parse(text: &str) -> Option<Self> {
        let pair = |pair: &str| {
            let (network, address) = pair.split_once('=')?;
            let (host, port) = address.trim().rsplit_once(':')?;
            let good = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
            good.then_some((network.trim().parse().ok()?, address.trim().to_owned()))
        };
        let pairs = text.split(';').map(str::trim).filter(|text| !text.is_empty());
        let all: Vec<_> = pairs.map(pair).collect::<Option<_>>()?;
        (all.len() <= MAX_NETWORKS).then_some(Self(all))
    }

    fn text(&self) -> String {
        self.0.iter().map(|(network, address)| format!("{network}={address}")).collect::<Vec<_>>().join(";")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_network_of_a_client_counts() {
        let text = "10.1.0.0/16=10.1.0.5:1;10.0.0.0/8=mq.example:10911;fd00::/8=[fd00::5]:3";
        let networks = Networks::parse(&format!(" {};", text.replace('=', " = "))).unwrap();
        assert_eq!(networks.text(), text);
        let address = |client: &str| networks.address_for(client.parse().unwrap());
        assert_eq!(address("10.1.2.3"), Some("10.1.0.5:1"));
        assert_eq!((address("10.2.0.1"), address("::ffff:10.2.0.1")), (Some("mq.example:10911"), Some("mq.example:10911")));
        assert_eq!((address("fd00::1"), address("192.168.0.1")), (Some("[fd00::5]:3"), None));
        assert!(networks.names("10.1.0.5:1") && !networks.names("10.1.0.5:2"));
        assert_eq!(Networks::parse(""), Some(Networks::default()));
        for bad in ["10.0.0.0/8", "10.0.0.0/8=a", "10.0.0.0/33=a:1", "a=b:1", "10.0.0.0/8=:1", "10.0.0.0/8=a:0"] {
            assert_eq!(Networks::parse(bad), None, "{bad}");
        }
        assert_eq!(Networks::parse(&"10.0.0.0/8=a:1;".repeat(65)), None);
    }
}
