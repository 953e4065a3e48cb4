//! The door itself: health, metrics, connections, its port.

use super::*;

#[test]
fn health_readiness_and_metrics() {
    let world = World::new();
    let addr = world.addr();
    assert_eq!(get(addr, "/healthz").status, 200);
    let detail = get(addr, "/readyz").problem(503, "not_ready")["detail"].clone();
    assert_eq!(detail, "not ready: edge");
    world.edge(1, 10, 0);
    let ready = get(addr, "/readyz");
    assert_eq!((ready.status, &ready.json()["is_ready"]), (200, &json!(true)));
    world.persist.fail(Some(CallError::Unavailable));
    assert_eq!(get(addr, "/readyz").problem(503, "not_ready")["detail"], "not ready: persist");

    world.claim(UserId(1), Device::Web, address(1, 10, 1)).unwrap();
    let metrics = get(addr, "/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    for name in [
        "process_resident_memory_bytes",
        "petrel_router_routes",
        "petrel_router_lease_age_ms{edge=\"1\"}",
        "petrel_router_http_requests_total{path=\"/readyz\",status=\"503\"}",
        "petrel_router_refusals_total{code=\"not_ready\"}",
    ] {
        assert!(metrics.body.contains(name), "{name} is missing in\n{}", metrics.body);
    }
}

#[test]
fn a_connection_is_kept_and_many_are_served() {
    let world = World::new();
    let addr = world.addr();
    let mut one = connect(addr);
    for _ in 0..3 {
        one.write_all(b"GET /healthz HTTP/1.1\r\nhost: petrel\r\n\r\n").unwrap();
        assert_eq!(read(&mut one).unwrap().status, 200);
    }
    let clients: Vec<_> = (0..8).map(|_| thread::spawn(move || get(addr, "/healthz").status)).collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), 200);
    }
}

#[test]
fn a_port_in_use_is_named_with_its_mend() {
    let world = World::new();
    let persist: Link<PersistCall> = world.persist.clone();
    let config = Config::new(world.addr());
    let error = match Router::start(config, world.bus.clone(), persist, Arc::clone(&world.keys)) {
        Err(error @ StartError::Listen { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the port is taken"),
    };
    assert!(error.contains(&world.addr().port().to_string()) && error.contains("--http"), "{error}");
    assert_eq!(get(world.addr(), "/healthz").status, 200, "the other one goes on");
}
