//! Whether a cluster is reached by way of the environment's proxy. First line: the cluster; then `NO_PROXY`.
//!
//! - Without `NO_PROXY` only this machine is reached without; with `*` every cluster is.
//! - Each entry stands for itself: a list spares what one of its entries spares, in any order.
//! - An entry that is a name spares that name and those below it, and no other that ends with the same letters.

use super::head;
use hyper::Uri;
use roomrobot_client::proxy::direct;
use std::net::IpAddr;

pub fn check(bytes: &[u8]) {
    let (cluster, list) = head(bytes);
    let Ok(cluster) = String::from_utf8_lossy(cluster).trim().parse::<Uri>() else { return };
    let list = String::from_utf8_lossy(list);
    let Some(host) = cluster.host().filter(|host| !host.is_empty()) else { return };
    let host = host.trim_matches(['[', ']']);
    let address = host.parse::<IpAddr>().ok();
    let here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    assert_eq!(direct(&cluster, ""), here);
    assert!(direct(&cluster, &format!("{list},*")));
    let entries: Vec<&str> = list.split(',').collect();
    let one = entries.iter().any(|entry| direct(&cluster, entry));
    assert_eq!(direct(&cluster, &list), one || here);
    let reversed: Vec<&str> = entries.iter().rev().copied().collect();
    assert_eq!(direct(&cluster, &reversed.join(" , ")), one || here);
    if here {
        return;
    }
    for entry in entries.iter().map(|entry| entry.trim()).filter(|entry| direct(&cluster, entry)) {
        let name = entry.trim_start_matches("*.").trim_start_matches('.');
        let below = host.len() > name.len() && host.ends_with(&format!(".{name}"));
        let range = entry.split_once('/').is_some_and(|(net, bits)| {
            let bits = bits.parse::<u32>();
            let wide = net.parse::<IpAddr>().map(|net| if net.is_ipv4() { 32 } else { 128 });
            address.is_some() && bits.is_ok_and(|bits| wide.is_ok_and(|wide| bits <= wide))
        });
        assert!(entry == "*" || host == name || below || range, "{host:?} by {entry:?}");
        assert!(!name.is_empty(), "{host:?} by {entry:?}");
    }
}
