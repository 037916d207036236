//! The command line.

mod client;
mod peer;
mod render;
mod routes;
mod table;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::client::Client;

/// Exit code for bad configuration (EX_CONFIG of sysexits.h).
const EXIT_CONFIG: u8 = 78;

#[derive(Parser)]
#[command(
    name = "sekisho",
    version,
    about = "Edge load balancer for Kubernetes on your own metal",
    max_term_width = 110
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the appliance
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// Form of the log lines on standard error
        #[arg(long, value_enum, default_value = "text")]
        log_format: LogFormat,
    },
    /// Read the file and the manifests, print every problem with its place and remedy; exit 78 if there is any
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One screen: sessions, VIPs, services, certificates, findings, revision
    Status(Ask),
    /// BGP sessions
    Peers {
        /// Everything about this peer
        name: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// BGP routes, with the reason why a path is best or not
    Routes {
        #[command(flatten)]
        wanted: routes::Wanted,
        #[command(flatten)]
        ask: Ask,
    },
    /// Service addresses: to whom they are announced, or why not
    Vips(Ask),
    /// One row for each backend, in use or why not
    Endpoints {
        /// Only this Service: `name` or `namespace/name`
        service: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Certificates: names, issuer, expiry, next renewal, last error
    Certificates(Ask),
    /// The whole chain for one request, from the VIP to the pods
    Explain {
        /// For example https://shop.example.com/cart
        url: String,
        /// Method of the request
        #[arg(long, short = 'X', default_value = "GET")]
        method: String,
        /// A header field of the request, `name: value`; may stand several times
        #[arg(long, short = 'H', value_name = "FIELD")]
        header: Vec<String>,
        #[command(flatten)]
        ask: Ask,
    },
}

#[derive(Args)]
struct ConfigFile {
    /// The box's file
    #[arg(long, short, value_name = "FILE", default_value = "/etc/sekisho/sekisho.toml")]
    config: PathBuf,
}

#[derive(Args)]
struct Ask {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Admin socket (path), or the admin address (http://IP:PORT) of the appliance
    #[arg(long, value_name = "SOCKET|URL", env = "SEKISHO_ADMIN")]
    admin: Option<String>,
    /// Take the admin socket and address from this file
    #[arg(long, short, value_name = "FILE", conflicts_with = "admin")]
    config: Option<PathBuf>,
}

impl Ask {
    fn client(&self) -> anyhow::Result<Client> {
        Client::new(self.admin.as_deref(), self.config.as_deref())
    }
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Parses the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run { config, log_format } => run(&config.config, log_format),
        Command::Check { config, json } => check(&config.config, json),
        Command::Status(ask) => show(&ask, "status", &[], render::status),
        Command::Peers { name, ask } => match name {
            None => show(&ask, "peers", &[], render::peers),
            Some(name) => peer(&ask, &name),
        },
        Command::Routes { wanted, ask } => routes::show(&wanted, &ask),
        Command::Vips(ask) => show(&ask, "vips", &[], render::vips),
        Command::Endpoints { service, ask } => show(
            &ask,
            "endpoints",
            &[("service", service.as_deref())],
            render::endpoints,
        ),
        Command::Certificates(ask) => show(&ask, "certificates", &[], render::certificates),
        Command::Explain {
            url,
            method,
            header,
            ask,
        } => {
            let headers = header.join("\n");
            let headers = Some(headers.as_str()).filter(|headers| !headers.is_empty());
            let query = [
                ("url", Some(url.as_str())),
                ("method", Some(method.as_str())),
                ("headers", headers),
            ];
            show(&ask, "explain", &query, render::explain)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("sekisho: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(config: &Path, log_format: LogFormat) -> anyhow::Result<ExitCode> {
    let reading = match crate::reload::read(config) {
        Ok(reading) => reading,
        Err(faults) => {
            for fault in faults {
                eprintln!("{fault}");
            }
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    start_log(log_format);
    crate::reload::warn_of(&reading);
    crate::appliance::run(config, reading.settings)?;
    Ok(ExitCode::SUCCESS)
}

fn check(config: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let (faults, warnings, findings) = match crate::reload::read(config) {
        Ok(reading) => (
            Vec::new(),
            reading.warnings,
            crate::reload::check_source(&reading.settings),
        ),
        Err(faults) => (faults, Vec::new(), Vec::new()),
    };
    let problems = faults.len() + findings.len();
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(
            out,
            "{}",
            serde_json::json!({ "faults": faults, "warnings": warnings, "findings": findings })
        )?;
    } else {
        for fault in &faults {
            writeln!(out, "{fault}")?;
        }
        for warning in &warnings {
            writeln!(out, "warning: {warning}")?;
        }
        for finding in &findings {
            writeln!(out, "{finding}")?;
        }
        match problems {
            0 => writeln!(out, "{}: no problems", config.display())?,
            n => writeln!(
                out,
                "{}: {n} problem{}",
                config.display(),
                if n == 1 { "" } else { "s" }
            )?,
        }
    }
    Ok(if problems == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_CONFIG)
    })
}

fn show(
    ask: &Ask,
    what: &str,
    query: &[(&str, Option<&str>)],
    render: fn(&serde_json::Value, &mut String),
) -> anyhow::Result<ExitCode> {
    let client = ask.client()?;
    print(ask, &client.get(what, query)?, render)
}

/// One of the peers.
fn peer(ask: &Ask, name: &str) -> anyhow::Result<ExitCode> {
    let peers = ask.client()?.get("peers", &[])?;
    let named = |peer: &&serde_json::Value| {
        let is = |key| peer.get(key).and_then(serde_json::Value::as_str) == Some(name);
        is("name") || is("address")
    };
    let Some(peer) = peers.as_array().and_then(|peers| peers.iter().find(named)) else {
        anyhow::bail!("no peer has this name or address; `sekisho peers` lists them");
    };
    print(ask, peer, peer::render)
}

fn print(
    ask: &Ask,
    answer: &serde_json::Value,
    render: fn(&serde_json::Value, &mut String),
) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    if ask.json {
        text = serde_json::to_string_pretty(answer)?;
        text.push('\n');
    } else {
        render(answer, &mut text);
    }
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn start_log(format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    // kube's client prints each failed attempt as it stands in memory; the controller says the same once, with a remedy.
    let filter = EnvFilter::try_from_env("SEKISHO_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,kube_client=off,kube_runtime=off"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => subscriber
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
