//! The one stack of layers, top to bottom in the order in which a request passes them.

use std::convert::Infallible;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use tower::ServiceBuilder;
use tower::util::BoxCloneSyncService;
use tower_http::request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};

use crate::admin;
use crate::body::Body;
use crate::gateway::Gateway;
use crate::layers::{BodyLimits, CatchPanic, LimitedBody, Shed, Trace};
use crate::routes;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A connection's service.
pub(crate) type Service = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;

/// Which listener is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    Api,
    Admin,
}

/// The service of one listener. Limits on a connection's head, idle time and stalled writes come before it, in
/// [`crate::connection`].
pub(crate) fn service(gateway: Arc<Gateway>, face: Face) -> Service {
    match face {
        Face::Api => BoxCloneSyncService::new(api(gateway)),
        Face::Admin => BoxCloneSyncService::new(admin(gateway)),
    }
}

/// The layers of the API.
pub(crate) fn api<B>(
    gateway: Arc<Gateway>,
) -> impl tower::Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ Sync
+ 'static
where
    B: http_body::Body<Data = bytes::Bytes, Error: std::fmt::Display> + Send + Unpin + 'static,
{
    let routes = {
        let gateway = gateway.clone();
        tower::service_fn(move |request: Request<LimitedBody<B>>| routes::route(gateway.clone(), request))
    };
    ServiceBuilder::new()
        // First, so that no layer below can ever see a body without its limits. It refuses nothing by itself.
        .layer(BodyLimits::new(gateway.clone()))
        // Before anything that may refuse: a refusal has an id too, in the answer and in the log.
        .layer(SetRequestIdLayer::new(REQUEST_ID, RequestIds))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        // Around everything that answers, so that refusals and panics are counted like any other answer.
        .layer(Trace::new(gateway.clone()))
        // Inside the trace, so that a panic is a traced 500; around the rest, which may panic.
        .layer(CatchPanic)
        // Last before the work: costs nothing to those who are refused, not even the look-up of their key.
        .layer(Shed::new(gateway))
        // authenticate → admit → route → reserve → open → infer → close is one function, not layers.
        .service(routes)
}

/// The layers of the admin listener: the same, without the shedding, for it must answer when all else is refused.
fn admin(
    gateway: Arc<Gateway>,
) -> impl tower::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ Sync
+ 'static {
    let routes = {
        let gateway = gateway.clone();
        tower::service_fn(move |request: Request<LimitedBody<Incoming>>| {
            admin::route(gateway.clone(), request)
        })
    };
    ServiceBuilder::new()
        .layer(BodyLimits::new(gateway.clone()))
        .layer(SetRequestIdLayer::new(REQUEST_ID, RequestIds))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(Trace::new(gateway))
        .layer(CatchPanic)
        .service(routes)
}

/// Time-ordered ids, so that a log sorted by them is sorted by time.
#[derive(Clone, Copy)]
struct RequestIds;

impl MakeRequestId for RequestIds {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        HeaderValue::try_from(id).ok().map(RequestId::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layers wrap one another in the order of this list, and no other layer is there.
    const ORDER: [&str; 7] = [
        "BodyLimitsService",
        "SetRequestId",
        "PropagateRequestId",
        "TraceService",
        "CatchPanicService",
        "ShedService",
        "ServiceFn",
    ];

    fn name_of<S>(_: &impl Fn(Arc<Gateway>) -> S) -> &'static str {
        std::any::type_name::<S>()
    }

    #[test]
    fn the_layers_are_in_request_order() {
        // `Outer<Inner<…>>`: the type of the stack spells its order out.
        let name = name_of(&api::<http_body_util::Full<bytes::Bytes>>);
        let layers: Vec<_> = name
            .split('<')
            .map(|part| part.rsplit("::").next().unwrap_or(part))
            .take_while(|layer| !layer.contains('{'))
            .collect();
        assert_eq!(layers[..ORDER.len()], ORDER, "{name}");
    }
}
