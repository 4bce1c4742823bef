//! A name server for one test: it knows a few names, all of which are this machine.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};
use testbed::{Error, Result};
use tokio::{net::UdpSocket, task::AbortHandle};

/// A loopback address that nobody else serves names on.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

/// A running name server; it ends with the value.
#[derive(Debug)]
pub struct Names {
    asked: Arc<Mutex<Vec<String>>>,
    task: AbortHandle,
}

impl Names {
    /// Answers `names` with 127.0.0.1, and every other name with "no such name".
    ///
    /// # Errors
    /// If the port cannot be bound.
    pub async fn serve(names: &'static [&'static str]) -> Result<Self> {
        let address = SocketAddr::from((ADDRESS, 53));
        let socket = UdpSocket::bind(address)
            .await
            .map_err(|error| Error::new(format!("a name server on {address} (needs root)"), error))?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let Some((name, answer)) = buffer.get(..length).and_then(|query| reply(query, names)) else {
                    continue;
                };
                if let Ok(mut heard) = heard.lock() {
                    heard.push(name);
                }
                let _ = socket.send_to(&answer, from).await;
            }
        });
        Ok(Self { asked, task: task.abort_handle() })
    }

    /// The names that were asked for.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().map(|names| names.clone()).unwrap_or_default()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The name that `query` asks for, and the answer (RFC 1035, section 4).
fn reply(query: &[u8], names: &[&str]) -> Option<(String, Vec<u8>)> {
    let mut rest = query.get(12..)?;
    let mut labels = Vec::new();
    loop {
        let (length, after) = rest.split_first()?;
        let length = usize::from(*length);
        if length == 0 {
            rest = after;
            break;
        }
        labels.push(String::from_utf8_lossy(after.get(..length)?).to_lowercase());
        rest = after.get(length..)?;
    }
    let name = labels.join(".");
    let kind = rest.get(..2)?;
    let question_end = query.len() - rest.len() + 4;
    let known = names.contains(&name.as_str());
    // A record for an IPv4 address; for another kind, the name exists and has none.
    let answers = u8::from(known && kind == [0, 1]);
    let mut answer = query.get(..2)?.to_vec();
    answer.extend([0x85, if known { 0x80 } else { 0x83 }, 0, 1, 0, answers, 0, 0, 0, 0]);
    answer.extend(query.get(12..question_end)?);
    if answers == 1 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
    }
    Some((name, answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(kind: u8) -> Vec<u8> {
        let mut query = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(b"\x01a\x04Test\x00");
        query.extend([0, kind, 0, 1]);
        query
    }

    #[test]
    fn known_names_have_an_address_and_others_do_not_exist() {
        let (name, answer) = reply(&query(1), &["a.test"]).unwrap();
        assert_eq!(name, "a.test");
        assert_eq!((answer[..2].to_vec(), answer[3], answer[7]), (vec![7, 9], 0x80, 1));
        assert!(answer.ends_with(&[0, 4, 127, 0, 0, 1]));
        let (_, answer) = reply(&query(28), &["a.test"]).unwrap();
        assert_eq!((answer[3], answer[7]), (0x80, 0));
        let (_, answer) = reply(&query(1), &["b.test"]).unwrap();
        assert_eq!((answer[3], answer[7]), (0x83, 0));
        assert_eq!(reply(&[0; 14], &[]).map(|(name, _)| name), None);
    }
}
