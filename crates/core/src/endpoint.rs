//! Where calls may go: the vendor's https hosts, and what `--allow-endpoint` adds. Pure.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// The vendor's hosts, one for each data centre, each with its backup. Source: the vendor's "REST API" page.
const VENDOR_HOSTS: &[&str] = &[
    "console.tim.qq.com",
    "adminapi.my-imcloud.com",
    "adminapisgp.im.qcloud.com",
    "adminapisgp.my-imcloud.com",
    "adminapikr.im.qcloud.com",
    "adminapikr.my-imcloud.com",
    "adminapijpn.im.qcloud.com",
    "adminapijpn.my-imcloud.com",
    "adminapiger.im.qcloud.com",
    "adminapiger.my-imcloud.com",
    "adminapiusa.im.qcloud.com",
    "adminapiusa.my-imcloud.com",
    "adminapiidn.im.qcloud.com",
    "adminapiidn.my-imcloud.com",
    "adminapiind.im.qcloud.com",
    "adminapiind.my-imcloud.com",
];

/// Scheme, host and port: everything that decides where a call goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    scheme: String,
    host: String,
    port: u16,
}

/// Why a text is no endpoint. Does not repeat the text, which may hold a user part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEndpoint {
    /// Not a URL at all, or one without a host.
    #[error("it is not a URL with a host, such as https://console.tim.qq.com")]
    NotAUrl,
    /// Neither http nor https.
    #[error("its scheme is neither https nor http")]
    Scheme,
    /// A path, query, fragment or user part.
    #[error("it has a path, query, fragment or user part; only scheme, host and port are allowed")]
    TooMuch,
}

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = url::Url::parse(text).map_err(|_| NotAnEndpoint::NotAUrl)?;
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(NotAnEndpoint::NotAUrl);
        };
        if !matches!(url.scheme(), "https" | "http") {
            return Err(NotAnEndpoint::Scheme);
        }
        if !matches!(url.path(), "" | "/")
            || url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return Err(NotAnEndpoint::TooMuch);
        }
        Ok(Self { scheme: url.scheme().to_owned(), host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        match (scheme.as_str(), port) {
            ("https", 443) | ("http", 80) => write!(f, "{scheme}://{host}"),
            _ => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

/// The endpoints that calls may go to.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    more: BTreeSet<Endpoint>,
}

impl Allowed {
    /// The vendor's hosts and `more`.
    #[must_use]
    pub fn new(more: impl IntoIterator<Item = Endpoint>) -> Self {
        Self { more: more.into_iter().collect() }
    }

    /// Whether a call may go to `endpoint`.
    #[must_use]
    pub fn contains(&self, endpoint: &Endpoint) -> bool {
        let vendor = endpoint.scheme == "https"
            && endpoint.port == 443
            && VENDOR_HOSTS.contains(&endpoint.host.as_str());
        vendor || self.more.contains(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    #[test]
    fn the_vendors_hosts_are_allowed_over_https_only() {
        let allowed = Allowed::default();
        for host in VENDOR_HOSTS {
            assert!(allowed.contains(&endpoint(&format!("https://{host}"))));
            assert!(allowed.contains(&endpoint(&format!("https://{}:443/", host.to_uppercase()))));
            assert!(!allowed.contains(&endpoint(&format!("http://{host}"))));
            assert!(!allowed.contains(&endpoint(&format!("https://{host}:8443"))));
            assert!(!allowed.contains(&endpoint(&format!("https://{host}.evil.example"))));
        }
        assert_eq!(VENDOR_HOSTS.len(), 16);
    }

    #[test]
    fn what_is_added_counts_with_scheme_host_and_port() {
        let allowed = Allowed::new([endpoint("http://127.0.0.1:9000")]);
        assert!(allowed.contains(&endpoint("http://127.0.0.1:9000")));
        assert!(!allowed.contains(&endpoint("http://127.0.0.1:9001")));
        assert!(!allowed.contains(&endpoint("https://127.0.0.1:9000")));
        assert!(!allowed.contains(&endpoint("http://localhost:9000")));
    }

    #[test]
    fn more_than_an_origin_is_refused() {
        for (text, why) in [
            ("console.tim.qq.com", NotAnEndpoint::NotAUrl),
            ("", NotAnEndpoint::NotAUrl),
            ("ftp://console.tim.qq.com", NotAnEndpoint::Scheme),
            ("https://console.tim.qq.com/v4", NotAnEndpoint::TooMuch),
            ("https://console.tim.qq.com?x=1", NotAnEndpoint::TooMuch),
            ("https://console.tim.qq.com#x", NotAnEndpoint::TooMuch),
            ("https://me@console.tim.qq.com", NotAnEndpoint::TooMuch),
            ("https://console.tim.qq.com@evil.example", NotAnEndpoint::TooMuch),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn it_prints_without_the_usual_port() {
        assert_eq!(endpoint("https://console.tim.qq.com:443/").to_string(), "https://console.tim.qq.com");
        assert_eq!(endpoint("http://[::1]:9000").to_string(), "http://[::1]:9000");
    }
}
