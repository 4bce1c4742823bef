//! Which clusters the proxy of the environment is not for: as kubectl has it, this machine and what `NO_PROXY` names.
//!
//! Reads the environment. The client library looks the proxy itself up in `NO_PROXY`, not the cluster.

use hyper::Uri;
use kube::Config;
use std::net::IpAddr;

/// Takes the environment's proxy out of `config` where it is not for that cluster; a proxy of the kubeconfig stays.
pub fn spare(config: &mut Config) {
    let env = |name: &str| std::env::var(name).or_else(|_| std::env::var(name.to_lowercase())).ok();
    let of_env = env("HTTPS_PROXY").and_then(|proxy| proxy.parse().ok());
    if of_env == config.proxy_url && direct(&config.cluster_url, &env("NO_PROXY").unwrap_or_default()) {
        config.proxy_url = None;
    }
}

/// Whether the server at `cluster` is reached without the proxy.
#[must_use]
pub fn direct(cluster: &Uri, no_proxy: &str) -> bool {
    let host = cluster.host().unwrap_or_default().trim_matches(['[', ']']);
    let address = host.parse::<IpAddr>().ok();
    host == "localhost"
        || address.is_some_and(|address| address.is_loopback())
        || no_proxy.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
            let name = entry.trim_start_matches("*.").trim_start_matches('.');
            entry == "*"
                || !name.is_empty()
                    && host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                || address.is_some_and(|address| within(address, entry))
        })
}

/// Whether `range`, such as `10.0.0.0/8`, has `address` in it.
fn within(address: IpAddr, range: &str) -> bool {
    let Some((net, bits)) = range.split_once('/') else { return false };
    let (Ok(net), Ok(bits)) = (net.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let differ = match (address, net) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    differ >= bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_what_no_proxy_names_is_reached_without_a_proxy() {
        for (host, no_proxy, is_direct) in [
            ("127.0.0.1:6443", "", true),
            ("[::1]:6443", "", true),
            ("localhost", "", true),
            ("k8s.example.com", "", false),
            ("k8s.example.com", "a, .example.com", true),
            ("k8s.example.com", "example.com", true),
            ("k8s.example.com", "*.example.com", true),
            ("badexample.com", "example.com", false),
            ("k8s.example.com", "*", true),
            ("10.1.2.3:443", "10.0.0.0/8,192.168.0.1", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("[fd00::1]:6443", "fd00::/8", true),
            ("k8s.example.com.", ".", false),
            ("k8s.example.com.", "*.", false),
            ("[]", ".", false),
        ] {
            let uri: Uri = format!("https://{host}").parse().unwrap();
            assert_eq!(direct(&uri, no_proxy), is_direct, "{host} with {no_proxy}");
        }
    }
}
