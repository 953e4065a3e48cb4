//! `petrel-engines`: WebSocket servers in turn under one client. See `perf/engines.sh` and `perf/peers.sh`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use petrel_engines::compare::{
    Effort, Kind, Outcome, Scene, Server, compare, compare_idle, markdown, markdown_idle,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Compares WebSocket servers: messages a second, CPU a message, latency, memory of an idle connection.
#[derive(clap::Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    scene: SceneKind,
    /// A server as `NAME=PROGRAM [ARGUMENTS]`; `--listen ADDR` is added. Ratios are to the first one.
    #[arg(long = "server", global = true)]
    servers: Vec<Server>,
    /// Times that each server is started.
    #[arg(long, default_value_t = 5, global = true)]
    rounds: usize,
    /// Length of a measurement.
    #[arg(long, default_value_t = 1_000, global = true)]
    milliseconds: u64,
    /// Load before a measurement.
    #[arg(long, default_value_t = 300, global = true)]
    warm_up_milliseconds: u64,
    /// Core of the servers.
    #[arg(long, default_value_t = 0, global = true)]
    server_core: usize,
    /// Core of the client.
    #[arg(long, default_value_t = 1, global = true)]
    client_core: usize,
    /// First of 100 ports that the servers take in turn.
    #[arg(long, default_value_t = 26_000, global = true)]
    port: u16,
    /// Also has perf(1) say how much of the CPU is not within TCP.
    #[arg(long, global = true)]
    profile: bool,
    /// Appends every round, one JSON object a scene.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum SceneKind {
    /// Each message comes back.
    Echo {
        /// Bytes of each message; several give several tables.
        #[arg(long, value_delimiter = ',', default_values_t = [64])]
        payload: Vec<usize>,
        /// WebSockets, each with one message on the way; several give several tables.
        #[arg(long, value_delimiter = ',', default_values_t = [500])]
        connections: Vec<usize>,
        /// Messages a second over all connections; without it as fast as answers come.
        #[arg(long)]
        rate: Option<u64>,
        /// Answers to each message (servers that take `--answers`); several are rows of one table.
        #[arg(long, value_delimiter = ',', default_values_t = [1])]
        answers: Vec<u32>,
    },
    /// Each message goes to everybody (servers that take `--broadcast`).
    Broadcast {
        /// Bytes of each message; several give several tables.
        #[arg(long, value_delimiter = ',', default_values_t = [128])]
        payload: Vec<usize>,
        /// WebSockets that receive it.
        #[arg(long, value_delimiter = ',', default_values_t = [10_000])]
        connections: Vec<usize>,
    },
    /// Memory of a connection without traffic.
    Idle {
        /// Connections that the slope is taken over.
        #[arg(long, default_value_t = 8_000)]
        connections: usize,
    },
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    if arguments.servers.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "name at least one server with --server"));
    }
    let effort = Effort {
        rounds: arguments.rounds,
        warm_up: Duration::from_millis(arguments.warm_up_milliseconds),
        time: Duration::from_millis(arguments.milliseconds),
        server_core: arguments.server_core,
        client_core: arguments.client_core,
        port: arguments.port,
        is_profiled: arguments.profile,
    };
    let mut servers = arguments.servers.clone();
    let (kind, payload, connections, per_second) = match &arguments.scene {
        SceneKind::Idle { connections } => {
            let outcomes = compare_idle(&servers, *connections, &effort)?;
            println!("{}", markdown_idle(*connections, &outcomes));
            return keep(&arguments, "idle", &outcomes);
        }
        SceneKind::Echo { payload, connections, rate, answers } => {
            let each =
                |server: &Server| answers.iter().map(|&count| server.answering(count)).collect::<Vec<_>>();
            servers = servers.iter().flat_map(each).collect();
            (Kind::Echo, payload, connections, *rate)
        }
        SceneKind::Broadcast { payload, connections } => (Kind::Broadcast, payload, connections, None),
    };
    for &connections in connections {
        for &payload_bytes in payload {
            let scene = Scene { kind, payload_bytes, connections, per_second };
            let outcomes = compare(&servers, &scene, &effort)?;
            println!("{}", markdown(&scene, &outcomes));
            keep(&arguments, scene, &outcomes)?;
        }
    }
    Ok(())
}

/// Appends every round to the file that was asked for.
fn keep<T: serde::Serialize>(
    arguments: &Arguments,
    scene: impl serde::Serialize,
    outcomes: &[Outcome<T>],
) -> io::Result<()> {
    let Some(path) = &arguments.json else { return Ok(()) };
    let servers: serde_json::Map<_, _> = outcomes
        .iter()
        .map(|(server, outcome)| {
            let value = match outcome {
                Ok(rounds) => serde_json::json!({ "rounds": rounds }),
                Err(error) => serde_json::json!({ "error": error }),
            };
            (server.name.clone(), value)
        })
        .collect();
    let line = serde_json::json!({ "scene": scene, "servers": servers });
    writeln!(OpenOptions::new().create(true).append(true).open(path)?, "{line}")
}
