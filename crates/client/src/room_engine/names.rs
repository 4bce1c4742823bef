//! Addresses of endpoints: one look-up at a time for each host, which all calls that need it share.
//!
//! The system looks names up in blocking threads, of which a process has some hundreds. One host whose name server does
//! not answer would hold one with each of its calls, longer than a call waits, until none is left for any other host.

use futures::{FutureExt as _, future::BoxFuture, future::Shared};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{net::lookup_host, sync::oneshot};

/// What a look-up found, or the kind and the words of its error.
type Found = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

/// Asks for the addresses of a host.
type Ask = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Looks names up as the system does.
pub(super) struct Names {
    ask: Box<Ask>,
    /// The look-ups that are under way, by host.
    pending: Arc<Mutex<HashMap<String, Shared<BoxFuture<'static, Found>>>>>,
}

impl Default for Names {
    fn default() -> Self {
        Self::asking(|host| {
            // The port is the connector's to say.
            async move { lookup_host((host, 0)).await.map(Iterator::collect) }.boxed()
        })
    }
}

impl Names {
    fn asking(
        ask: impl Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync + 'static,
    ) -> Self {
        Self { ask: Box::new(ask), pending: Arc::default() }
    }

    /// The look-up of `host` that is under way, or a new one. It goes on where nobody waits for it any more: its thread
    /// cannot be called back.
    fn look_up(&self, host: &str) -> Shared<BoxFuture<'static, Found>> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = pending.get(host) {
            return found.clone();
        }
        let (tell, told) = oneshot::channel();
        let ended = |_| Err((io::ErrorKind::Other, "the look-up has ended without a result".to_owned()));
        let found = told.map(move |told| told.unwrap_or_else(ended)).boxed().shared();
        pending.insert(host.to_owned(), found.clone());
        let (asked, others, host) = ((self.ask)(host.to_owned()), Arc::clone(&self.pending), host.to_owned());
        tokio::spawn(async move {
            let found = asked.await.map_err(|error| (error.kind(), error.to_string()));
            others.lock().unwrap_or_else(PoisonError::into_inner).remove(&host);
            let _ = tell.send(found);
        });
        found
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.look_up(name.as_str());
        async move {
            match found.await {
                Ok(addresses) => Ok(Box::new(addresses.into_iter()) as Addrs),
                Err((kind, why)) => Err(io::Error::new(kind, why).into()),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    fn address(last: u8) -> SocketAddr {
        ([127, 0, 0, last], 0).into()
    }

    async fn resolve(names: &Names, host: &str) -> Result<Vec<SocketAddr>, String> {
        let found = names.resolve(host.parse().unwrap()).await;
        found.map(Iterator::collect).map_err(|error| error.downcast_ref::<io::Error>().unwrap().to_string())
    }

    /// A host that hangs has one look-up whatever waits for it; another host does not wait.
    #[tokio::test]
    async fn calls_share_the_look_up_of_a_host_that_hangs() {
        let asked = Arc::new(AtomicUsize::new(0));
        let (release, held) = oneshot::channel::<()>();
        let (count, held) = (Arc::clone(&asked), Mutex::new(Some(held)));
        let names = Arc::new(Names::asking(move |host| {
            count.fetch_add(1, Ordering::Relaxed);
            let held = if host == "hangs" { held.lock().unwrap().take() } else { None };
            async move {
                if let Some(held) = held {
                    let _ = held.await;
                }
                Ok(vec![address(host.len().try_into().unwrap())])
            }
            .boxed()
        }));
        let waiting: Vec<_> = (0..300)
            .map(|_| {
                let names = Arc::clone(&names);
                tokio::spawn(async move { resolve(&names, "hangs").await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(resolve(&names, "well").await, Ok(vec![address(4)]));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        release.send(()).unwrap();
        for found in waiting {
            assert_eq!(found.await.unwrap(), Ok(vec![address(5)]));
        }
        assert_eq!(resolve(&names, "hangs").await, Ok(vec![address(5)]));
        assert_eq!(asked.load(Ordering::Relaxed), 3, "what was found is not kept");
        assert!(names.pending.lock().unwrap().is_empty());
    }

    /// Nobody waits any more when it ends: it is not what the next one gets.
    #[tokio::test]
    async fn a_look_up_that_was_left_is_over_when_it_ends() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let names = Names::asking(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(io::Error::other("failed to lookup address information: Name or service not known"))
            }
            .boxed()
        });
        let left = tokio::time::timeout(Duration::from_millis(5), resolve(&names, "slow")).await;
        assert!(left.is_err());
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(names.pending.lock().unwrap().is_empty());
        let told = resolve(&names, "slow").await.unwrap_err();
        assert!(told.starts_with("failed to lookup address information"), "{told}");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
