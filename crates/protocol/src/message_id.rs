//! Message ids. An *offset message id* names a record by where it is stored: the store host's address and
//! port and the commit log offset, in upper-case hex (32 characters for IPv4, 56 for IPv6). A *unique key*
//! has the same shape but is made by the client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Writes the offset message id of the record at `offset` that `host` stored.
pub fn offset_id(host: SocketAddr, offset: i64) -> String {
    let mut id = String::with_capacity(56);
    match host.ip() {
        IpAddr::V4(ip) => push_hex(&ip.octets(), &mut id),
        IpAddr::V6(ip) => push_hex(&ip.octets(), &mut id),
    }
    push_hex(&u32::from(host.port()).to_be_bytes(), &mut id);
    push_hex(&offset.to_be_bytes(), &mut id);
    id
}

/// Reads an offset message id; `None` where the text is none.
pub fn parse_offset_id(id: &str) -> Option<(SocketAddr, i64)> {
    let bytes = unhex(id)?;
    let (ip, rest): (IpAddr, &[u8]) = match bytes.len() {
        16 => (Ipv4Addr::from(*bytes.first_chunk::<4>()?).into(), &bytes[4..]),
        28 => (Ipv6Addr::from(*bytes.first_chunk::<16>()?).into(), &bytes[16..]),
        _ => return None,
    };
    let port = u16::try_from(u32::from_be_bytes(*rest.first_chunk()?)).ok()?;
    let offset = i64::from_be_bytes(*rest[4..].first_chunk()?);
    Some((SocketAddr::new(ip, port), offset))
}

fn push_hex(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)].into());
        out.push(DIGITS[usize::from(byte & 15)].into());
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || text.len() > 56 {
        return None;
    }
    text.as_bytes().chunks(2).map(|pair| Some((hex_digit(pair[0])? << 4) | hex_digit(pair[1])?)).collect()
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|d| d as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_ids_round_trip() {
        let host: SocketAddr = "127.0.0.1:10911".parse().unwrap();
        assert_eq!(offset_id(host, 305), "7F00000100002A9F0000000000000131");
        assert_eq!(parse_offset_id("7F00000100002A9F0000000000000131"), Some((host, 305)));
        let v6: SocketAddr = "[::1]:10911".parse().unwrap();
        assert_eq!(offset_id(v6, 7).len(), 56);
        assert_eq!(parse_offset_id(&offset_id(v6, 7)), Some((v6, 7)));
        for bad in ["", "7F", "not hex at all not hex at all not", "7F00000100002A9F00000000000001310"] {
            assert_eq!(parse_offset_id(bad), None, "{bad}");
        }
    }
}
