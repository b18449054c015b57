//! dts-bench: load, the far side of peers, and a router that delays and drops.
//!
//! Every subcommand prints one JSON object on standard output when it ends.

mod args;
mod fleet;
mod http;
mod idle;
mod lines;
mod mqtt;
mod net;
mod publish;
mod router;
mod sink;
mod stats;
mod watch;

use args::Args;

const USAGE: &str = "\
dts-bench COMMAND [--name value]…
  http     POST numbered events to an agent           --addr --n --rate --batch --size --connections --first --acks FILE
  lines    the same as influx lines, for telegraf     --addr --n --rate --size --first
  publish  QoS 1 publishes of plain MQTT clients      --addr --n --rate --size --clients --window --topic --user --password
  sink     acknowledge and count what arrives by MQTT --addr   (SIGUSR1: outage, SIGUSR2: over)
  watch    when numbered events show in a mirror      --db --n --first --out FILE
  fleet    devices that ship frames                   --addr --devices --rows --batch --window --kind message|insert|update --password
  idle     idle QUIC sessions, and their return       --addr --n --ca --ca-key --rate --resume yes|no --probes
  router   joins two namespaces by TUN                --a NS --b NS --delay-ms --loss --seed";

fn main() {
    let mut argv = std::env::args().skip(1);
    let command = argv.next().unwrap_or_default();
    let args = Args::parse(argv);
    let result = match command.as_str() {
        "http" => run(http::run(args)),
        "lines" => run(lines::run(args)),
        "publish" => run(publish::run(args)),
        "sink" => run(sink::run(args)),
        "watch" => watch::run(&args),
        "fleet" => run(fleet::run(args)),
        "idle" => run(idle::run(args)),
        "router" => router::run(&args),
        _ => Err(USAGE.into()),
    };
    if let Err(error) = result {
        eprintln!("dts-bench {command}: {error}");
        std::process::exit(1);
    }
}

fn run(work: impl Future<Output = net::Result<()>>) -> net::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(work))
}
