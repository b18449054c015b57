//! `dts sqlite …`: the capture of changes in an application's SQLite file.

use std::path::PathBuf;

use super::output::{Exit, Failure, print};
use super::parse::Parsed;
use super::table::{CONFIG_IF_ANY, Command, Flag, JSON};
use crate::config::node::Kind;
use crate::config::plan::SourcePlan;
use crate::config::{self, Context, Field, Node, Outside, Place};
use crate::source::sqlite::{Config, Report, admin};

const DATABASE: Flag =
    Flag::path("database", "DATABASE", "The application's SQLite file, where there is no config at hand");
const SOURCE: Flag = Flag::text("source", "NAME", "Name of the source in the config, if there are several");

pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "sqlite install",
        about: "Put the capture table and its triggers into a database",
        detail: "`dts run` does this by itself. By hand it can be done before the first start, so that no change is \
                 made unseen.",
        operand: Some(DATABASE),
        flags: &[CONFIG_IF_ANY, SOURCE, JSON],
        examples: &[("Before the first start", "dts sqlite install --config agent.yaml")],
        exits: &[],
        main: |parsed| sqlite(&Args::new(parsed, Action::Install)),
    },
    Command {
        name: "sqlite status",
        about: "Show what is captured, and how much waits",
        detail: "",
        operand: Some(DATABASE),
        flags: &[CONFIG_IF_ANY, SOURCE, JSON],
        examples: &[("Are the triggers still there?", "dts sqlite status /var/lib/app/app.db")],
        exits: &[(3, "triggers are missing or older than the tables")],
        main: |parsed| sqlite(&Args::new(parsed, Action::Status)),
    },
    Command {
        name: "sqlite uninstall",
        about: "Take the capture table and its triggers out of a database",
        detail: "Changes that were captured and not yet read are lost: stop the application first and let dts run dry.",
        operand: Some(DATABASE),
        flags: &[CONFIG_IF_ANY, SOURCE],
        examples: &[("Leave no trace", "dts sqlite uninstall /var/lib/app/app.db")],
        exits: &[],
        main: |parsed| sqlite(&Args::new(parsed, Action::Uninstall)),
    },
];

/// Arguments of `dts sqlite`.
#[derive(Clone, Debug)]
pub struct Args {
    /// The config that names the database and its tables. This or `database` is given.
    pub config: Option<PathBuf>,
    /// Which source of the config; `None` is the only one of type `sqlite`.
    pub source: Option<String>,
    /// The database itself.
    pub database: Option<PathBuf>,
    /// What to do.
    pub action: Action,
    /// Print JSON.
    pub json: bool,
}

/// What `dts sqlite` does.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Put table and triggers there.
    Install,
    /// Show what is there.
    Status,
    /// Take them away.
    Uninstall,
}

impl Args {
    fn new(parsed: &Parsed, action: Action) -> Self {
        Self {
            config: parsed.path("config"),
            source: parsed.text("source").map(str::to_owned),
            database: parsed.path("database"),
            action,
            json: parsed.is_set("json"),
        }
    }
}

fn sqlite(args: &Args) -> Result<(), Failure> {
    let config = config_of(args)?;
    let report = match args.action {
        Action::Install => admin::install(&config),
        Action::Status => admin::status(&config.path),
        Action::Uninstall => admin::uninstall(&config.path),
    };
    let report = report.map_err(Failure::failed)?;
    if args.json {
        let object = serde_json::to_value(&report).map_err(Failure::failed)?;
        print(&format!("{object:#}\n"))?;
    } else {
        print(&text(&report))?;
    }
    let unwell = !report.installed || report.tables.iter().any(|t| !t.followed);
    if matches!(args.action, Action::Status) && unwell { Err(Failure::quiet(Exit::BadData)) } else { Ok(()) }
}

/// The source's section: from the config, or with its defaults for a database by name.
fn config_of(args: &Args) -> Result<Config, Failure> {
    let which = || Failure::usage("which database? Give `--config FILE` or the DATABASE, one of them");
    match (&args.config, &args.database) {
        (Some(file), None) => {
            let plan = config::load(file, Outside::default())?;
            let named = |s: &&SourcePlan| args.source.as_deref().is_none_or(|wanted| wanted == &*s.name);
            let mut found = plan.sources.iter().filter(|s| s.kind == "sqlite").filter(named);
            let first = found.next().and_then(|s| s.config.as_any()).and_then(|c| c.downcast_ref::<Config>());
            match (first, found.next()) {
                (Some(config), None) => Ok(config.clone()),
                (None, _) => Err(Failure::usage("the config has no such source of type `sqlite`")),
                (Some(_), Some(_)) => {
                    Err(Failure::usage("several sources are of type `sqlite`: give `--source NAME`"))
                }
            }
        }
        (None, Some(path)) => {
            let place = Place::default();
            let text = path.to_str().ok_or_else(which)?.to_owned();
            let path = Node { place, kind: Kind::Scalar { text, plain: false } };
            let section = Node { place, kind: Kind::Map(vec![("path".to_owned(), place, path)]) };
            Config::read(&section, &mut Context::default()).ok_or_else(which)
        }
        _ => Err(which()),
    }
}

fn text(report: &Report) -> String {
    let mut out = format!("{} (journal mode {})\n", report.path.display(), report.journal_mode);
    if !report.installed {
        out.push_str("nothing of dts is in it\n");
    }
    for table in &report.tables {
        let how = table.capture.map_or_else(String::new, |c| format!("{c:?}, ").to_lowercase());
        let state = match (table.followed, table.stale) {
            (false, _) => "not followed",
            (true, true) => "to be read again",
            (true, false) => "followed",
        };
        let key = table.key.join(", ");
        let drop = if table.blocks_drop_column { ", blocks DROP COLUMN" } else { "" };
        out.push_str(&format!(
            "  {}: {state}, {how}{} columns, key {key}{drop}\n",
            table.name, table.columns
        ));
    }
    for skipped in &report.skipped {
        out.push_str(&format!("  {skipped:?}\n"));
    }
    if report.installed {
        let (rows, bytes, max) = (report.captured_rows, report.captured_bytes, report.max_capture_bytes);
        out.push_str(&format!("{rows} changes wait to be fetched, {bytes} of at most {max} bytes\n"));
    }
    out
}
