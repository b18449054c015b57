//! The table of connectors: the one place where a feature becomes a connector.

use crate::config::{Context, Node};
use crate::sink::SinkConfig;
use crate::source::SourceConfig;

/// Reads the section of a connector, or notes mistakes.
pub type Read<C> = fn(&Node, &mut Context) -> Option<Box<C>>;

/// One kind of source or sink.
pub struct Row<C: ?Sized + 'static> {
    /// What `type:` says in a config.
    pub name: &'static str,
    /// The Cargo feature that compiles it in.
    pub feature: &'static str,
    /// Reads its section; `None` if it is not compiled in.
    pub read: Option<Read<C>>,
    /// JSON Schema of its section; `None` if it is not compiled in, or in a build without `dts schema`.
    pub schema: Option<fn() -> serde_json::Value>,
}

macro_rules! connectors {
    ($(#[$doc:meta])* $table:ident: $config:ident in $module:ident; $($name:literal $feature:literal $folder:ident;)*) => {
        $(#[$doc])*
        pub static $table: &[Row<dyn $config>] = &[$(
            #[cfg(feature = $feature)]
            Row {
                name: $name,
                feature: $feature,
                read: Some(|node, cx| {
                    let config = <crate::$module::$folder::Config as crate::config::Field>::read(node, cx)?;
                    Some(Box::new(config))
                }),
                schema: if SCHEMA { Some(<crate::$module::$folder::Config as crate::config::Field>::schema) } else { None },
            },
            #[cfg(not(feature = $feature))]
            Row { name: $name, feature: $feature, read: None, schema: None },
        )*];
    };
}

connectors! {
    /// Every source that dts knows, compiled in or not.
    SOURCES: SourceConfig in source;
    "devices" "source-devices" devices;
    "exec" "source-exec" exec;
    "file" "source-file" file;
    "http" "source-http" http;
    "mqtt" "source-mqtt" mqtt;
    "mysql-binlog" "source-mysql" mysql;
    "sqlite" "source-sqlite" sqlite;
    "stdin" "source-stdin" stdin;
}

connectors! {
    /// Every sink that dts knows, compiled in or not.
    SINKS: SinkConfig in sink;
    "centre" "sink-centre" centre;
    "file" "sink-file" file;
    "http" "sink-http" http;
    "kafka" "sink-kafka" kafka;
    "mqtt" "sink-mqtt" mqtt;
    "null" "sink-null" null;
    "sqlite" "sink-sqlite" sqlite;
    "stdout" "sink-stdout" stdout;
}

impl<C: ?Sized> std::fmt::Debug for Row<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row").field("name", &self.name).field("compiled_in", &self.read.is_some()).finish()
    }
}

/// Finds the row of `name`, or says what is wrong with the name.
pub fn find<C: ?Sized>(table: &'static [Row<C>], name: &str) -> Result<&'static Row<C>, String> {
    let Some(row) = table.iter().find(|row| row.name == name) else {
        let names = || table.iter().map(|row| row.name);
        let hint = match crate::config::section::nearest(name, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known: {}", names().collect::<Vec<_>>().join(", ")),
        };
        return Err(format!("unknown type `{name}`; {hint}"));
    };
    if row.read.is_none() {
        return Err(format!("`{name}` is not compiled in: rebuild with `--features {}`", row.feature));
    }
    Ok(row)
}

macro_rules! features {
    ($($name:literal)*) => {
        /// Every Cargo feature below the presets, and whether it is compiled in.
        pub const FEATURES: &[(&str, bool)] = &[$(($name, cfg!(feature = $name)),)*];
    };
}

features! {
    "source-sqlite" "source-http" "source-file" "source-mqtt" "source-mysql" "source-stdin" "source-exec" "source-devices"
    "sink-centre" "sink-sqlite" "sink-file" "sink-stdout" "sink-null" "sink-http" "sink-kafka" "sink-mqtt"
    "spool" "mqtt" "tls" "quic" "http1" "http-port" "thread-ring" "zstd"
    "mysql-binlog" "cmd-edge" "cmd-ingest" "cmd-binlog"
}

/// Whether schemas are kept: only `dts schema` shows them, and an agent is smaller without.
const SCHEMA: bool = cfg!(any(feature = "cmd-ingest", test));
/// Whether there can be a buffer.
pub const SPOOL: bool = cfg!(feature = "spool");
/// Whether there can be a port for metrics.
pub const HTTP_PORT: bool = cfg!(feature = "http-port");
