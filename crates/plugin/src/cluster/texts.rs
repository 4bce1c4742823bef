//! Values in texts: headers of the API server, metrics of the operator.

use k8s_openapi::jiff::Timestamp;

/// The time of an HTTP `Date` header.
#[must_use]
pub fn http_date(text: &str) -> Option<Timestamp> {
    let zoned = k8s_openapi::jiff::fmt::rfc2822::parse(text).ok()?;
    Some(zoned.timestamp())
}

/// The value of a gauge with these labels in the text of `/metrics`.
#[must_use]
pub fn gauge(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let line = text.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| {
            rest.starts_with('{')
                && labels.iter().all(|(label, value)| rest.contains(&format!("{label}=\"{value}\"")))
        })
    })?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_gauges_are_read() {
        assert_eq!(http_date("Tue, 15 Nov 1994 08:12:31 GMT").unwrap().as_second(), 784_887_151);
        let text = "# TYPE x gauge\nx{application=\"a\",command=\"b\"} 1.5\nxy{application=\"a\"} 2\n";
        assert_eq!(gauge(text, "x", &[("application", "a"), ("command", "b")]), Some(1.5));
        assert_eq!(gauge(text, "x", &[("application", "c")]), None);
    }
}
