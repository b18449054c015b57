//! Whole configs, with connectors of the tests' own.
#![expect(dead_code, unreachable_pub, reason = "the fields of these connectors are only read from configs")]

mod examples;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::config::connector::Build;
use crate::config::plan::{Class, KeepAckedPlan, Policy};
use crate::config::{ByteSize, Duration, Field, Mistakes, Outside, Plan, Secret, read_with};
use crate::registry::Row;
use crate::runtime::LocalFuture;
use crate::sink::{Sink, SinkConfig, SinkError};
use crate::source::{Source, SourceConfig, SourceError};

crate::section! {
    /// A source that cannot read again.
    pub struct Web {
        /// Where to listen.
        listen: SocketAddr,
        /// What callers show.
        token: Option<Secret>,
        /// Largest body.
        max_body_bytes: ByteSize = "1MiB",
        /// Patience.
        timeout: Duration = "5s",
        /// Paths.
        paths: Vec<String> = "[]",
    }
}

crate::section! {
    /// A source that can read again.
    pub struct Devices {}
}

crate::section! {
    /// Ships.
    pub struct Centre {
        /// Where to.
        address: String,
        /// Who says so.
        password: Secret,
    }
}

crate::section! {
    /// A sink with a file of its own for the secret.
    pub struct Out {
        /// A secret.
        key: Option<Secret>,
        /// Read when it is needed.
        key_file: Option<std::path::PathBuf>,
        /// Level.
        level: u8 = "3",
    }
}

macro_rules! fake {
    ($($source:ident $buffer:literal),*; $($sink:ident),*) => {
        $(impl SourceConfig for $source {
            fn build(&self, _: &str) -> Result<Box<dyn Source>, SourceError> {
                Err(SourceError::Fatal("a fake".to_owned()))
            }

            fn needs_buffer(&self) -> bool {
                $buffer
            }

            fn mistake(&self) -> Option<String> {
                format!("{self:?}").contains("both").then(|| "these do not go together".to_owned())
            }
        })*
        $(impl SinkConfig for $sink {
            fn open(&self, _: &str) -> LocalFuture<'_, Result<Box<dyn Sink>, SinkError>> {
                Box::pin(async { Err(SinkError::Fatal("a fake".to_owned())) })
            }
        })*
    };
}
fake!(Web true, Devices false; Centre, Out);

macro_rules! row {
    ($name:literal $config:ident) => {
        Row {
            name: $name,
            feature: concat!("x-", $name),
            read: Some(|node, cx| Some(Box::new(<$config as Field>::read(node, cx)?))),
            schema: Some(<$config as Field>::schema),
        }
    };
}

static SOURCES: &[Row<dyn SourceConfig>] = &[
    row!("devices" Devices),
    row!("web" Web),
    Row { name: "kafka", feature: "source-kafka", read: None, schema: None },
];
static SINKS: &[Row<dyn SinkConfig>] = &[row!("centre" Centre), row!("out" Out), row!("null" Out)];

const BUILD: Build = Build { sources: SOURCES, sinks: SINKS, spool: true, http_port: true };

fn outside() -> Outside {
    let variable = |name: &str| -> Option<OsString> {
        Some(match name {
            "PORT" => "9000".into(),
            "PASSWORD" => "hunter2hunter2".into(),
            "SHORT" => "s".into(),
            "EMPTY" => "".into(),
            "NESTED" => "${PASSWORD}".into(),
            "LONG" => "x".repeat(200_000).into(),
            _ => return None,
        })
    };
    let file = |path: &Path, max: usize| match path.to_str() {
        Some("/run/secret") => Ok(b"from a file\n".to_vec()),
        Some("/etc/dts/near") => Ok(b"  two lines \nkept\r\n".to_vec()),
        Some("/run/empty") => Ok(b"\n".to_vec()),
        Some("/run/endless") => Ok(vec![b'x'; max]),
        Some("/run/bytes") => Ok(vec![0xff, 0xfe]),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    Outside { variable, file }
}

fn read(yaml: &str) -> Result<Plan, Mistakes> {
    read_with(BUILD, yaml.as_bytes(), Path::new("t.yaml"), Path::new("/etc/dts"), outside())
}

#[track_caller]
fn plan(yaml: &str) -> Plan {
    read(yaml).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

#[track_caller]
fn mistakes(yaml: &str) -> Vec<String> {
    let mistakes = read(yaml).map(|plan| format!("{plan:?}")).expect_err("a mistake");
    mistakes.to_string().lines().map(|line| line.strip_prefix("t.yaml:").unwrap_or(line).to_owned()).collect()
}

#[test]
fn an_agent_has_defaults() {
    let plan = plan(
        "device: {name: d-1}\n\
         source: {type: web, listen: '127.0.0.1:80'}\n\
         sink: {type: centre, address: c, password: x}\n",
    );
    assert!(plan.is_agent());
    assert_eq!(
        (&*plan.sources[0].name, plan.sources[0].kind, &*plan.sources[0].lane),
        ("web", "web", "default")
    );
    let buffer = plan.buffer.expect("implied by the sink");
    assert_eq!(buffer.path, Path::new("/var/lib/dts/buffer"));
    assert_eq!(
        (buffer.max_bytes, buffer.reserve_bytes, buffer.max_batch_bytes),
        (256 << 20, 4 << 20, 120 << 10)
    );
    let lane = &buffer.lanes[0];
    assert_eq!((&*lane.name, lane.class, lane.weight), ("default", Class::Fsync, 1));
    assert_eq!(lane.commit_interval, Duration::from_millis(5));
    assert_eq!((lane.max_bytes, lane.max_age, lane.keep_acked), (256 << 20, None, None));
    assert_eq!(lane.policy, Policy::Block);
    assert!(plan.http.is_none(), "off on an agent");
}

#[test]
fn a_centre_has_no_buffer_and_a_port() {
    let plan = plan("source: {type: devices}\nsinks: [{type: out}, {type: out, name: two}]\n");
    assert!(!plan.is_agent());
    assert!(plan.buffer.is_none());
    assert_eq!(&*plan.sinks[1].name, "two");
    assert_eq!(plan.http.map(|http| http.listen.to_string()).as_deref(), Some("127.0.0.1:9600"));
    let off = "source: {type: devices}\nsink: {type: out}\nhttp: {listen: off}\n";
    assert!(self::plan(off).http.is_none());
}

#[test]
fn everything_about_lanes() {
    let plan = plan(
        "sources:
  - {type: web, listen: '127.0.0.1:80', lane: alarms}
  - {type: web, name: slow, listen: '127.0.0.1:81', lane: bulk}
sink: {type: out}
device: {state_dir: state}
buffer:
  path: spool
  max_bytes: 64MiB
  reserve: 2MiB
  max_batch_bytes: 64KiB
  lanes:
    alarms: {weight: 10, commit_interval: 20ms, keep_acked: {max_bytes: 1MiB}}
    bulk:
      class: delayed
      max_bytes: 32MiB
      max_age: 7d
      policy: downsample
      downsample: {every: 1m, fields: {temperature: mean, battery: min}}
    empty:
    live: {class: ram, policy: drop_oldest}
",
    );
    let buffer = plan.buffer.unwrap();
    assert_eq!(buffer.path, Path::new("/etc/dts/spool"), "relative to the config");
    assert_eq!(plan.device.state_dir, Path::new("/etc/dts/state"));
    let names: Vec<_> = buffer.lanes.iter().map(|lane| &*lane.name).collect();
    assert_eq!(names, ["alarms", "bulk", "empty", "live"]);
    let [alarms, bulk, empty, live] = &buffer.lanes[..] else { panic!() };
    assert_eq!(
        alarms.keep_acked,
        Some(KeepAckedPlan { max_bytes: 1 << 20, max_age: Duration::from_secs(7 * 86_400) })
    );
    assert_eq!(alarms.commit_interval, Duration::from_millis(20));
    assert_eq!((bulk.max_bytes, bulk.max_age), (32 << 20, Some(Duration::from_secs(7 * 86_400))));
    let fields = vec![
        ("temperature".into(), crate::config::plan::Keep::Mean),
        ("battery".into(), crate::config::plan::Keep::Min),
    ];
    assert_eq!(bulk.policy, Policy::Downsample { every: Duration::from_secs(60), fields });
    assert_eq!((empty.class, live.class, &live.policy), (Class::Fsync, Class::Ram, &Policy::DropOldest));
    assert_eq!(live.commit_interval, Duration::from_secs(10));
    assert_eq!((&*plan.sources[0].lane, &*plan.sources[1].lane), ("alarms", "bulk"));
}

#[test]
fn variables_and_files() {
    let plan = plan(
        "device: {name: 'd-${PORT}'}
source: {type: web, listen: '127.0.0.1:${PORT}', token_file: near, paths: ['$$5 ${EMPTY:-a b} $x ${NESTED}']}
sink: {type: centre, address: 'c${UNSET:-}', password_file: /run/secret}
",
    );
    assert_eq!(plan.device.name.as_deref(), Some("d-9000"));
    let shown = format!("{plan:?}");
    // What a variable holds is text: it is not replaced again.
    assert!(shown.contains("127.0.0.1:9000") && shown.contains("$5 a b $x ${PASSWORD}"), "{shown}");
}

#[test]
fn the_right_secret_arrives_and_is_not_shown() {
    for (yaml, secret) in [
        ("password: '${PASSWORD}'", "hunter2hunter2"),
        ("password_file: /run/secret", "from a file"),
        ("password_file: near", "  two lines \nkept"),
        ("password: 'plain to see'", "plain to see"),
    ] {
        let mut cx =
            crate::config::Context { folder: "/etc/dts".into(), outside: outside(), ..Default::default() };
        let node = crate::config::parse(format!("address: x\n{yaml}").as_bytes(), &mut cx).unwrap();
        let centre = Centre::read(&node, &mut cx).unwrap();
        assert_eq!(centre.password.expose(), secret);
        let yaml = format!(
            "device: {{name: d}}\nsource: {{type: web, listen: '[::1]:1'}}\nsink: {{type: centre, address: x, {yaml}}}\nbuffer: {{}}\n"
        );
        let shown = format!("{:?}", plan(&yaml));
        assert!(!shown.contains(secret) && shown.contains("<secret>"), "{shown}");
    }
}

#[test]
fn a_section_may_read_the_file_itself() {
    let plan =
        plan("source: {type: web, listen: '[::1]:1'}\nsink: {type: out, key_file: later}\nbuffer: {}\n");
    let shown = format!("{plan:?}");
    assert!(shown.contains("key: None") && shown.contains("/etc/dts/later"), "{shown}");
}

#[test]
fn null_is_a_type_and_nothing_is_not() {
    let source = "source: {type: web, listen: '[::1]:1'}\nbuffer: {}\n";
    assert_eq!(plan(&format!("{source}sink: {{type: null}}\n")).sinks[0].kind, "null");
    assert_eq!(plan(&format!("{source}sink: {{type: \"null\"}}\n")).sinks[0].kind, "null");
    assert_eq!(mistakes(&format!("{source}sink:\n  type:\n")), ["4:3: expected text, found nothing"]);
}

#[test]
fn every_mistake_has_its_place_and_hint() {
    let (mut yaml, mut expected, mut cases) = (String::new(), Vec::new(), 0);
    for line in include_str!("mistakes.txt").lines().chain([""]) {
        if let Some(mistake) = line.strip_prefix("=> ") {
            expected.push(mistake);
        } else if !line.is_empty() {
            yaml.push_str(line);
            yaml.push('\n');
        } else if !expected.is_empty() {
            assert_eq!(mistakes(&yaml), expected, "in:\n{yaml}");
            (yaml, expected, cases) = (String::new(), Vec::new(), cases + 1);
        } else {
            // A heading.
            assert!(yaml.lines().all(|line| line.starts_with('#')), "no mistake is expected of:\n{yaml}");
            yaml.clear();
        }
    }
    assert!(cases > 60, "{cases}");
}

#[test]
fn a_port_that_others_reach_needs_a_token() {
    let yaml = |http: &str| format!("source: {{type: devices}}\nsink: {{type: out}}\nhttp: {http}\n");
    assert_eq!(
        mistakes(&yaml("{listen: '0.0.0.0:9600'}")),
        ["3:1: `token` or `token_file` is needed: 0.0.0.0:9600 can be reached from other machines"]
    );
    assert_eq!(
        mistakes(&yaml("{listen: here}")),
        ["3:16: expected an address and port like `127.0.0.1:9600`, or `off`, found `here`"]
    );
    let http = plan(&yaml("{listen: '0.0.0.0:9600', token_file: /run/secret}")).http.unwrap();
    assert_eq!(http.token.unwrap().expose(), "from a file");
    assert!(plan(&yaml("")).http.is_some(), "the section alone switches it on");
}

#[test]
fn all_mistakes_in_one_pass_sorted_by_place() {
    let yaml = "log: {level: loud}
sources:
  - type: web
    listen: nowhere
    timeout: 5 parsec
    lane: bulck
  - type: kafka
  - type: web
    listen: '[::1]:1'
    lane: bulk
sink:
  type: centre
  pasword: x
  address: [1]
buffer:
  max_bytes: lots
  lanes:
    bulk: {class: slow, policy: forget}
device:
  name: a/b
";
    let expected = [
        "1:14: expected one of error, warn, info, debug, trace, found `loud`",
        "4:13: expected an address and port like `127.0.0.1:8080` or `[::]:8080`, found `nowhere`",
        "5:14: expected a time like `5s`, `200ms`, `15m` or `7d`, found `5 parsec`",
        "6:11: unknown lane `bulck`; did you mean `bulk`?",
        "7:11: `kafka` is not compiled in: rebuild with `--features source-kafka`",
        "8:5: a source called `web` stands in line 3 already: give this one another `name`",
        "12:3: `password` is missing",
        "13:3: unknown field `pasword`; did you mean `password`?",
        "14:12: expected text, found a list",
        "16:14: expected a size like `64MiB`, `1GB` or `512`, found `lots`",
        "18:19: expected one of fsync, delayed, ram, found `slow`",
        "18:33: expected one of block, drop_oldest, compact, downsample, found `forget`",
        "20:9: expected a name of 1 to 64 letters, digits, `.`, `_` or `-`, found `a/b`",
    ];
    assert_eq!(mistakes(yaml), expected);
}

#[test]
fn mistakes_are_bounded() {
    let yaml: String = (0..500).map(|i| format!("x{i}: 1\n")).collect();
    let list = mistakes(&yaml);
    assert_eq!(list.len(), 101);
    assert_eq!(list[100], " and 402 more mistakes");
}

#[test]
fn what_is_not_compiled_in_says_which_feature() {
    let small = Build { spool: false, http_port: false, ..BUILD };
    let read = |yaml: &str| {
        read_with(small, yaml.as_bytes(), Path::new("t"), Path::new(""), outside()).map_err(|m| m.to_string())
    };
    let devices = "source: {type: devices}\nsink: {type: out}\n";
    assert!(read(devices).unwrap().http.is_none(), "no port by default where there can be none");
    for (section, feature) in [("http", "http-port"), ("buffer", "spool")] {
        assert_eq!(
            read(&format!("{devices}{section}: {{}}\n")).unwrap_err(),
            format!("t:3:1: `{section}` is not compiled in: rebuild with `--features {feature}`")
        );
    }
}

#[test]
fn bytes_that_are_no_config() {
    let read = |bytes: &[u8]| {
        read_with(BUILD, bytes, Path::new("t"), Path::new(""), outside()).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(read(b"a: b\n# caf\xe9\n"), "t:2:6: this byte is not UTF-8");
    assert_eq!(read(&vec![b'#'; (1 << 20) + 1]), "t:1:1: a config larger than 1048576 bytes is not read");
    // A byte-order mark is not a part of the first key.
    assert!(read("\u{feff}zebra: 1".as_bytes()).contains("t:1:1: unknown field `zebra`"));
}

proptest::proptest! {
    /// Whatever the bytes: a plan or mistakes, never a panic, and no more memory than they deserve.
    #[test]
    fn any_text_is_read_or_refused(text in "([a-c\\[\\]{}:,\\-?&*!|>'\"%#$ \n\t~@]|\\$\\{A\\}|sink|source){0,80}") {
        let mut cx = crate::config::Context { outside: outside(), ..Default::default() };
        let node = crate::config::parse(text.as_bytes(), &mut cx);
        proptest::prop_assert!(node.is_some() || !cx.mistakes.is_empty());
        if let Err(mistakes) = read(&text) {
            proptest::prop_assert!(!mistakes.list.is_empty());
        }
    }
}

#[test]
fn load_reads_files() {
    let error = crate::config::load(Path::new("/nonexistent/dts.yaml"), outside()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the config /nonexistent/dts.yaml: No such file"), "{error}");
}
