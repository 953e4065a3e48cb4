//! An edge that knows one router learns of all routers and persists.

use petrel_protocol::calls::{LeaseReply, ServiceAt, ServiceKind};

use super::pool::Pool;
use super::remote::BadAddress;
use crate::calls::{Reply, RouterCall, Service};

/// The routers as an edge calls them: what they answer its lease with says whom to call from then on.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// The routers to begin from, which are always called.
    first: Vec<String>,
    routers: Pool,
    persists: Pool,
}

impl Discovery {
    /// Begins from the routers at these addresses (host:port), and keeps both pools up to date.
    pub fn new(first: Vec<String>, routers: Pool, persists: Pool) -> Result<Self, BadAddress> {
        routers.set(&first)?;
        Ok(Self { first, routers, persists })
    }

    /// These services live. Where there is none of a kind, nobody has announced himself yet since whoever keeps the
    /// list lost it: the ones that were known are called further.
    pub fn learn(&self, services: &[ServiceAt]) {
        let of = |kind: ServiceKind| {
            services.iter().filter(move |at| at.kind() == kind).map(|at| at.calls.clone())
        };
        let routers: Vec<String> = self.first.iter().cloned().chain(of(ServiceKind::Router)).collect();
        let persists: Vec<String> = of(ServiceKind::Persist).collect();
        set(&self.routers, &routers);
        if !persists.is_empty() {
            set(&self.persists, &persists);
        }
    }
}

fn set(pool: &Pool, addresses: &[String]) {
    if let Err(e) = pool.set(addresses) {
        tracing::error!("a service announced itself wrongly: {e}; correct `calls_at` in its configuration");
    }
}

impl Service<RouterCall> for Discovery {
    fn call(&self, call: RouterCall) {
        let RouterCall::Lease(lease, reply) = call else { return self.routers.call(call) };
        let learner = self.clone();
        let then = Reply::new(move |answer: Result<LeaseReply, _>| {
            if let Ok(answer) = &answer {
                learner.learn(&answer.services);
            }
            reply.send(answer);
        });
        self.routers.call(RouterCall::Lease(lease, then));
    }
}
