//! The appliance and pods on 127.0.0.1.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use sekisho_tests::lab::{Appliance, Daemon, Manifests, Settings, State, Target, Tls, wait_for};
use tempfile::TempDir;

/// How long a change may take; far more than it needs, since the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Loopback {
    _dir: TempDir,
    state: State,
    pub(crate) manifests: Manifests,
    pub(crate) settings: Settings,
    http: SocketAddr,
    https: SocketAddr,
    admin: SocketAddr,
}

pub(crate) struct LoopbackPod {
    name: &'static str,
    pub(crate) port: u16,
    _server: Daemon,
}

impl Loopback {
    pub(crate) fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let state = State::at(dir.path())?;
        let manifests = Manifests::create(&state.file("manifests"))?;
        let [http, https, admin] = free_ports()?.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let directory = state.file("appliance");
        let toml = format!(
            "[appliance]\nname = \"edge-1\"\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\nadmin = \"{admin}\"\nworkers = 1\n\
             [listen]\nhttp = [\"{http}\"]\nhttps = [\"{https}\"]\n\
             [source]\nmanifests = \"{}\"\nallow_loopback_endpoints = true\n",
            manifests.path().display(),
            dir = directory.display(),
        );
        let settings = Settings { directory, toml };
        Ok(Self {
            _dir: dir,
            state,
            manifests,
            settings,
            http,
            https,
            admin,
        })
    }

    pub(crate) fn start(&self) -> Result<Appliance> {
        Appliance::start(&self.state, None, &self.settings)
    }

    pub(crate) fn pod(&self, name: &'static str) -> Result<LoopbackPod> {
        let [port] = free_ports()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab-echo"));
        command.args(["--pod", name, "--node", "here", "--http", &port.to_string()]);
        let mut server = Daemon::start(&self.state, name, command)?;
        wait_for(name, PATIENCE, || {
            server.check()?;
            Ok(TcpStream::connect(("127.0.0.1", port)).map(drop)?)
        })?;
        Ok(LoopbackPod {
            name,
            port,
            _server: server,
        })
    }

    pub(crate) fn target(&self, host: &str, tls: Option<Tls>) -> Target {
        let address = if tls.is_some() { self.https } else { self.http };
        Target::new(None, address, host).tls(tls)
    }

    /// Where files and logs of the test go.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The HTTPS listener.
    pub(crate) fn https(&self) -> SocketAddr {
        self.https
    }

    pub(crate) fn admin(&self) -> Target {
        Target::new(None, self.admin, "localhost")
    }
}

/// Ports that were free a moment ago: the appliance's file must name them.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let held: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// Service `name` of namespace `shop` with port `http`, and one slice for each pod, since their ports differ.
pub(crate) fn service(name: &str, pods: &[&LoopbackPod]) -> String {
    let mut out = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  ports:\n  \
         - {{name: http, port: 80, targetPort: http}}\n"
    );
    for pod in pods {
        let _ = write!(
            out,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-{pod}\n  namespace: shop\n  \
             labels: {{kubernetes.io/service-name: {name}}}\naddressType: IPv4\nports: [{{name: http, port: {}}}]\nendpoints:\n\
             - {{addresses: [127.0.0.1], conditions: {{ready: true}}, nodeName: here, targetRef: {{kind: Pod, namespace: shop, name: {pod}}}}}\n",
            pod.port,
            pod = pod.name,
        );
    }
    out
}
