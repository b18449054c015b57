//! The config as checked: plain data, ready to run. And the checks that look at several fields.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::connector::{self, Build, Entry, SINKS, SOURCES};
use super::field::{Context, Name, Placed};
use super::node::{Kind, Node};
use super::raw::{self, Listen, Rest};
use super::section::{Mapping, nearest};
use super::{Place, Secret};
use crate::sink::SinkConfig;
use crate::source::SourceConfig;

pub use super::raw::{Class, Format, Keep, Level};

/// The lane of a buffer whose config names none.
pub const DEFAULT_LANE: &str = "default";
/// Most lanes of one buffer: each costs memory, and a watermark in every CONNACK.
const MAX_LANES: usize = 16;
/// Where metrics are served unless the config says otherwise.
const DEFAULT_HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9600);

/// A whole config, checked.
#[derive(Debug)]
pub struct Plan {
    /// At least one. Names are unique.
    pub sources: Vec<SourcePlan>,
    /// At least one. Names are unique. A sink of type `centre` is alone.
    pub sinks: Vec<SinkPlan>,
    /// The machine.
    pub device: DevicePlan,
    /// The durable buffer between them, if there is one.
    pub buffer: Option<BufferPlan>,
    /// The port for metrics and health, if there is one.
    pub http: Option<HttpPlan>,
    /// The log.
    pub log: LogPlan,
}

impl Plan {
    /// Whether it ships to a centre.
    pub fn is_agent(&self) -> bool {
        self.sinks.iter().any(|sink| sink.kind == "centre")
    }
}

/// A source, ready to be built.
#[derive(Debug)]
pub struct SourcePlan {
    /// Its name in metrics, logs and stored positions.
    pub name: Arc<str>,
    /// Its type.
    pub kind: &'static str,
    /// A lane of the buffer; [`DEFAULT_LANE`] where there is no buffer.
    pub lane: Arc<str>,
    /// Its own section.
    pub config: Box<dyn SourceConfig>,
}

/// A sink, ready to be opened.
#[derive(Debug)]
pub struct SinkPlan {
    /// Its name in metrics and logs.
    pub name: Arc<str>,
    /// Its type.
    pub kind: &'static str,
    /// Its own section.
    pub config: Box<dyn SinkConfig>,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct DevicePlan {
    /// Its name at the centre. Always there if the sink is `centre`.
    pub name: Option<Arc<str>>,
    /// Folder of identity and buffer.
    pub state_dir: PathBuf,
}

/// The durable buffer.
#[derive(Clone, Debug)]
pub struct BufferPlan {
    /// Its folder.
    pub path: PathBuf,
    /// Most bytes on disk.
    pub max_bytes: u64,
    /// Bytes of these kept free for deleting.
    pub reserve_bytes: u64,
    /// Most bytes of one stored batch.
    pub max_batch_bytes: u64,
    /// Most bytes of the classes `delayed` and `ram` in memory.
    pub max_memory_bytes: u64,
    /// At least one, at most 16. Names are unique.
    pub lanes: Vec<LanePlan>,
}

/// A lane of the buffer.
#[derive(Clone, Debug)]
pub struct LanePlan {
    /// Its name.
    pub name: Arc<str>,
    /// Its durability.
    pub class: Class,
    /// Longest time that data waits for a commit.
    pub commit_interval: Duration,
    /// Share of the link, 1 to 100.
    pub weight: u32,
    /// Most bytes, never more than the buffer's.
    pub max_bytes: u64,
    /// Longest age, if there is a limit.
    pub max_age: Option<Duration>,
    /// What happens when it is full.
    pub policy: Policy,
    /// How much delivered data stays: bytes and age.
    pub keep_acked: Option<KeepAckedPlan>,
}

/// How much delivered data a lane keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAckedPlan {
    /// Most bytes.
    pub max_bytes: u64,
    /// Longest time.
    pub max_age: Duration,
}

/// What a full lane does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Inputs wait.
    Block,
    /// The oldest data is given up.
    DropOldest,
    /// Only the newest row of each key is kept.
    Compact,
    /// Rows are thinned out.
    Downsample {
        /// One row a key remains for this time.
        every: Duration,
        /// Numeric fields with what remains of them; at least one.
        fields: Vec<(Box<str>, Keep)>,
    },
}

/// The port for metrics and health.
#[derive(Clone, Debug)]
pub struct HttpPlan {
    /// Address and port.
    pub listen: SocketAddr,
    /// What callers must show. Always there if `listen` is not loopback.
    pub token: Option<Secret>,
}

/// The log.
#[derive(Clone, Copy, Debug)]
pub struct LogPlan {
    /// The least important that is written.
    pub level: Level,
    /// Its form.
    pub format: Format,
}

/// Reads and checks a whole config. `None` if `cx` holds mistakes.
pub(super) fn plan(node: &Node, build: Build, cx: &mut Context) -> Option<Plan> {
    let root = Mapping::known(node, raw::ROOT, cx)?;
    let sources = connector::read_all(&SOURCES, build.sources, &root, node.place, cx);
    let sinks = connector::read_all(&SINKS, build.sinks, &root, node.place, cx);
    let rest = Rest::read(&root, cx);

    unique_names(SOURCES.one, &sources, cx);
    unique_names(SINKS.one, &sinks, cx);
    check_centre(&sources, &sinks, rest.device.as_ref(), cx);
    let wants_buffer = check_buffer(&sources, &sinks, &root, build.spool, cx);
    check_nodes(&sources, &sinks, wants_buffer, cx);
    let lane_names = lane_names(&root, wants_buffer);
    let lanes: Vec<_> = sources.iter().map(|source| lane_of(source, lane_names.as_deref(), cx)).collect();
    let http = rest.http.and_then(|http| check_http(http, &sources, &root, build.http_port, cx));
    let state_dir = rest.device.as_ref().map(|device| device.state_dir.clone());
    let buffer = match rest.buffer {
        Some(Some(buffer)) => state_dir.and_then(|dir| check_sizes(buffer, dir, cx)).map(Some),
        Some(None) if wants_buffer => state_dir.and_then(|dir| default_buffer(dir, cx)).map(Some),
        other => other.map(|_| None),
    };

    let source = |(entry, lane): (Entry<dyn SourceConfig>, Option<Arc<str>>)| {
        let Entry { kind, name, config, .. } = entry;
        Some(SourcePlan { name: name?.value, kind: kind?, lane: lane?, config: config? })
    };
    let sink = |Entry { kind, name, config, .. }: Entry<dyn SinkConfig>| {
        Some(SinkPlan { name: name?.value, kind: kind?, config: config? })
    };
    let (device, log) = (rest.device?, rest.log?);
    let plan = Plan {
        sources: sources.into_iter().zip(lanes).map(source).collect::<Option<_>>()?,
        sinks: sinks.into_iter().map(sink).collect::<Option<_>>()?,
        device: DevicePlan { name: device.name.map(|name| name.0), state_dir: device.state_dir },
        buffer: buffer?,
        http: http?,
        log: LogPlan { level: log.level, format: log.format },
    };
    (cx.mistakes.is_empty() && cx.dropped == 0).then_some(plan)
}

fn unique_names<C: ?Sized>(one: &str, entries: &[Entry<C>], cx: &mut Context) {
    for (i, entry) in entries.iter().enumerate() {
        let Some(name) = &entry.name else { continue };
        let same = |other: &&Entry<C>| other.name.as_ref().is_some_and(|n| n.value == name.value);
        if let Some(first) = entries[..i].iter().find(same) {
            let line = first.place.line;
            let message = format!(
                "a {one} called `{}` stands in line {line} already: give this one another `name`",
                name.value
            );
            cx.mistake(name.place, message);
        }
    }
}

/// The sink `centre` is alone, knows who it ships for, and has its own inputs.
fn check_centre(
    sources: &[Entry<dyn SourceConfig>],
    sinks: &[Entry<dyn SinkConfig>],
    device: Option<&raw::Device>,
    cx: &mut Context,
) {
    let Some(centre) = sinks.iter().find(|sink| sink.kind == Some("centre")) else { return };
    if sinks.len() > 1 {
        let message =
            "the sink `centre` must be the only sink: data leaves the buffer when the centre has it";
        cx.mistake(centre.place, message);
    }
    if device.is_some_and(|device| device.name.is_none()) {
        cx.mistake(centre.place, "the sink `centre` needs `device: { name: … }`, who this machine is there");
    }
    for source in sources.iter().filter(|source| source.kind == Some("devices")) {
        cx.mistake(source.place, "the source `devices` cannot feed the sink `centre`: a centre ends here");
    }
}

/// Several nodes that take the same devices need one sink that they share, and nothing before it.
fn check_nodes(
    sources: &[Entry<dyn SourceConfig>],
    sinks: &[Entry<dyn SinkConfig>],
    has_buffer: bool,
    cx: &mut Context,
) {
    let many =
        |source: &&Entry<dyn SourceConfig>| source.config.as_ref().is_some_and(|c| c.has_other_nodes());
    let Some(source) = sources.iter().find(many) else { return };
    if has_buffer {
        cx.mistake(
            source.place,
            "`nodes: many` cannot stand before a `buffer`: each node would answer for its own",
        );
    }
    if let Some(second) = sinks.get(1) {
        let message = "`nodes: many` takes one sink: what a device may forget is counted there for all nodes";
        cx.mistake(second.place, message);
    }
    for sink in sinks.iter().filter(|sink| sink.config.as_ref().is_some_and(|c| !c.shares_state())) {
        let message = format!(
            "the sink `{}` keeps nothing that several nodes could share, and `nodes: many` needs that: each node \
             would know only its own half of a device's watermark. Use the sink `sqlite`, or one node (`nodes: one`)",
            sink.kind.unwrap_or_default()
        );
        cx.mistake(sink.place, message);
    }
}

/// Whether there is a buffer, said or implied.
fn check_buffer(
    sources: &[Entry<dyn SourceConfig>],
    sinks: &[Entry<dyn SinkConfig>],
    root: &Mapping<'_>,
    compiled_in: bool,
    cx: &mut Context,
) -> bool {
    if let Some((place, _)) = root.get("buffer") {
        if !compiled_in {
            cx.mistake(place, "`buffer` is not compiled in: rebuild with `--features spool`");
        }
        return true;
    }
    if sinks.iter().any(|sink| sink.kind == Some("centre")) {
        return true;
    }
    let needs = |source: &&Entry<dyn SourceConfig>| source.config.as_ref().is_some_and(|c| c.needs_buffer());
    let Some(source) = sources.iter().find(needs) else { return false };
    if sinks.len() > 1 {
        return true;
    }
    // One sink that is not a centre may be down for days: whether its data shall fill a disk is for the
    // user to say.
    if sinks.len() == 1 {
        let message = format!(
            "the source `{}` hands over data that cannot be read again, so a buffer must stand behind it: \
             add `buffer: {{}}` for one in `state_dir`, or `buffer:` with its `path` and limits",
            source.kind.unwrap_or_default()
        );
        cx.mistake(source.place, message);
    }
    true
}

/// Names of the lanes, even where a lane has mistakes. `None` if there is no buffer.
fn lane_names<'n>(root: &Mapping<'n>, buffer: bool) -> Option<Vec<&'n str>> {
    let lanes = root.get("buffer").and_then(|(_, buffer)| buffer.get("lanes"));
    match lanes.map(|lanes| &lanes.kind) {
        Some(Kind::Map(entries)) if !entries.is_empty() => {
            Some(entries.iter().map(|(name, ..)| name.as_str()).collect())
        }
        _ => buffer.then(|| vec![DEFAULT_LANE]),
    }
}

/// The lane of a source: the one it names, else the only one, else `default`.
fn lane_of<C: ?Sized>(source: &Entry<C>, lanes: Option<&[&str]>, cx: &mut Context) -> Option<Arc<str>> {
    let Some(lanes) = lanes else {
        if let Some(lane) = &source.lane {
            cx.mistake(lane.place, "a lane is a part of the buffer, and there is none: add `buffer:`");
            return None;
        }
        return Some(DEFAULT_LANE.into());
    };
    let Some(lane) = &source.lane else {
        if let [only] = lanes {
            return Some((*only).into());
        }
        if lanes.contains(&DEFAULT_LANE) || source.kind == Some("devices") {
            return Some(DEFAULT_LANE.into());
        }
        cx.mistake(source.place, format!("`lane` is missing: one of {}", lanes.join(", ")));
        return None;
    };
    if lanes.contains(&&*lane.value) {
        return Some(lane.value.clone());
    }
    let hint = match nearest(&lane.value, lanes.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the buffer has {}", lanes.join(", ")),
    };
    cx.mistake(lane.place, format!("unknown lane `{}`; {hint}", lane.value));
    None
}

fn check_http(
    http: Option<raw::Http>,
    sources: &[Entry<dyn SourceConfig>],
    root: &Mapping<'_>,
    compiled_in: bool,
    cx: &mut Context,
) -> Option<Option<HttpPlan>> {
    let (listen, token) = http.map_or((None, None), |http| (http.listen, http.token));
    let place = root.get("http").map(|(place, _)| place);
    let listen = match (listen.map(|listen| listen.value), place) {
        (Some(Listen::Off), _) => return Some(None),
        (Some(Listen::At(addr)), _) => addr,
        // Giving the section is asking for it.
        (None, Some(_)) => DEFAULT_HTTP,
        (None, None) if !compiled_in => return Some(None),
        (None, None) if sources.iter().any(|source| source.kind == Some("devices")) => DEFAULT_HTTP,
        (None, None) => return Some(None),
    };
    if let (Some(place), false) = (place, compiled_in) {
        cx.mistake(place, "`http` is not compiled in: rebuild with `--features http-port`");
        return None;
    }
    if let (false, None, Some(place)) = (listen.ip().is_loopback(), &token, place) {
        let message =
            format!("`token` or `token_file` is needed: {listen} can be reached from other machines");
        cx.mistake(place, message);
        return None;
    }
    Some(Some(HttpPlan { listen, token }))
}

fn default_buffer(state_dir: PathBuf, cx: &mut Context) -> Option<BufferPlan> {
    let nothing = Node { place: Place::default(), kind: Kind::Null };
    check_sizes(<raw::Buffer as super::Field>::read(&nothing, cx)?, state_dir, cx)
}

/// Notes a mistake unless `ok`.
fn demand(ok: bool, place: Place, message: &str, cx: &mut Context) {
    if !ok {
        cx.mistake(place, message);
    }
}

fn check_sizes(buffer: raw::Buffer, state_dir: PathBuf, cx: &mut Context) -> Option<BufferPlan> {
    let (max, reserve, batch) = (buffer.max_bytes, buffer.reserve, buffer.max_batch_bytes);
    demand(max.value.0 >= 1 << 20, max.place, "`max_bytes` of the buffer must be at least 1MiB", cx);
    let default_reserve = (4 << 20).min(max.value.0 / 4);
    let reserve_bytes = reserve.map_or(default_reserve, |reserve| reserve.value.0);
    if let Some(Placed { place, .. }) = reserve {
        let message = "`reserve` must be at most half of `max_bytes`: it is a part of it";
        demand(reserve_bytes <= max.value.0 / 2, place, message, cx);
    }
    demand(
        (4 << 10..=16 << 20).contains(&batch.value.0),
        batch.place,
        "`max_batch_bytes` must be between 4KiB and 16MiB",
        cx,
    );
    demand(
        buffer.max_memory_bytes.value.0 >= batch.value.0,
        buffer.max_memory_bytes.place,
        "`max_memory_bytes` must hold at least one batch (`max_batch_bytes`)",
        cx,
    );
    if let Some((name, _)) = buffer.lanes.0.get(MAX_LANES) {
        cx.mistake(name.place, format!("more than {MAX_LANES} lanes"));
    }
    let mut lanes = Vec::new();
    for (name, lane) in buffer.lanes.0 {
        lanes.push(check_lane(name.value, lane, max.value.0, cx));
    }
    if lanes.is_empty() {
        let nothing = Node { place: Place::default(), kind: Kind::Null };
        let lane = <raw::Lane as super::Field>::read(&nothing, cx)?;
        lanes.push(check_lane(Name(DEFAULT_LANE.into()), lane, max.value.0, cx));
    }
    Some(BufferPlan {
        path: buffer.path.unwrap_or_else(|| state_dir.join("buffer")),
        max_bytes: max.value.0,
        reserve_bytes,
        max_batch_bytes: batch.value.0,
        max_memory_bytes: buffer.max_memory_bytes.value.0,
        lanes: lanes.into_iter().collect::<Option<_>>()?,
    })
}

fn check_lane(name: Name, lane: raw::Lane, buffer_bytes: u64, cx: &mut Context) -> Option<LanePlan> {
    let longest = match lane.class {
        Class::Fsync => Duration::from_millis(50),
        Class::Delayed | Class::Ram => Duration::from_secs(3600),
    };
    if let Some(interval) = lane.commit_interval {
        let message = match lane.class {
            Class::Fsync => "`commit_interval` of class `fsync` must be at most 50ms: inputs wait for it",
            Class::Delayed | Class::Ram => "`commit_interval` must be at most 1h",
        };
        demand(interval.value <= longest, interval.place, message, cx);
    }
    let default_interval = match lane.class {
        Class::Fsync => Duration::from_millis(5),
        Class::Delayed | Class::Ram => Duration::from_secs(10),
    };
    demand(
        (1..=100).contains(&lane.weight.value),
        lane.weight.place,
        "`weight` must be between 1 and 100",
        cx,
    );
    if let Some(max) = lane.max_bytes {
        demand(max.value.0 > 0, max.place, "`max_bytes` of a lane must be more than 0", cx);
        demand(
            max.value.0 <= buffer_bytes,
            max.place,
            "a lane cannot be larger than the buffer's `max_bytes`",
            cx,
        );
    }
    if let Some(age) = lane.max_age {
        demand(age.value >= Duration::from_secs(1), age.place, "`max_age` must be at least 1s", cx);
    }
    Some(LanePlan {
        class: lane.class,
        commit_interval: lane.commit_interval.map_or(default_interval, |interval| interval.value),
        weight: lane.weight.value,
        max_bytes: lane.max_bytes.map_or(buffer_bytes, |max| max.value.0),
        max_age: lane.max_age.map(|age| age.value),
        policy: check_policy(&name, lane.policy, lane.downsample, cx)?,
        keep_acked: lane
            .keep_acked
            .map(|keep| KeepAckedPlan { max_bytes: keep.max_bytes.0, max_age: keep.max_age }),
        name: name.0,
    })
}

fn check_policy(
    lane: &Name,
    policy: Placed<raw::Policy>,
    downsample: Option<Placed<raw::Downsample>>,
    cx: &mut Context,
) -> Option<Policy> {
    let simple = match policy.value {
        raw::Policy::Block => Policy::Block,
        raw::Policy::DropOldest => Policy::DropOldest,
        raw::Policy::Compact => Policy::Compact,
        raw::Policy::Downsample => {
            let Some(Placed { value: how, .. }) = downsample else {
                let message = format!(
                    "the policy `downsample` needs `downsample: {{ every: …, fields: {{ … }} }}` in lane `{}`",
                    lane.0
                );
                cx.mistake(policy.place, message);
                return None;
            };
            demand(!how.every.value.is_zero(), how.every.place, "`every` must be more than 0", cx);
            return Some(Policy::Downsample { every: how.every.value, fields: how.fields.0 });
        }
    };
    if let Some(downsample) = downsample {
        cx.mistake(downsample.place, "`downsample` is only for `policy: downsample`");
        return None;
    }
    Some(simple)
}
