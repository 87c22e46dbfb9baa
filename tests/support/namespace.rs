//! A test in a network of its own, with its own file of hosts and its own name server: the test binary runs itself again,
//! for that test alone, in namespaces of the kernel (user, network, mount). Nothing of the machine's is touched.
//!
//! Needs Linux that lets a user make namespaces, `unshare` and `mount` of util-linux, `timeout` of coreutils and `ip` of
//! iproute2. Where they cannot be had, the test is passed over and says why.

use std::any;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the child is told: the name of its test.
const TOLD: &str = "URLSESSION_TEST_NAMESPACE";

/// How many seconds a test may take in there.
const LIMIT: &str = "120";

/// The address of the name server, for a test that has one. Without, nobody answers there.
pub const NAME_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), 53);

/// Puts the files in their places and the network up; then runs what comes behind the folder, the state and the addresses.
/// Daemons of the machine that answer for the files (nscd) are out of sight.
const SET_UP: &str = r#"
set -eu
PATH=$PATH:/usr/sbin:/sbin
folder=$1 state=$2 addresses=$3
shift 3
mount --bind "$folder/hosts" /etc/hosts
mount --bind "$folder/resolv.conf" /etc/resolv.conf
[ ! -e /etc/nsswitch.conf ] || mount --bind "$folder/nsswitch.conf" /etc/nsswitch.conf
[ ! -d /var/run/nscd ] || mount -t tmpfs none /var/run/nscd
ip link set lo "$state"
for address in $addresses; do
  ip address add "$address" dev lo
done
exec "$@"
"#;

/// What a test finds.
#[derive(Clone, Copy)]
pub struct Network<'a> {
    /// Whether there is one: the loopback device is up. Once up it should stay so: a device that goes down keeps routes that
    /// lead to nowhere.
    pub up: bool,
    /// What it has beside 127.0.0.0/8 and ::1, as `fd00::1/128`.
    pub addresses: &'a [&'a str],
    /// Lines of the file of hosts, behind those for `localhost`.
    pub hosts: &'a str,
}

impl Default for Network<'_> {
    fn default() -> Self {
        Self { up: true, addresses: &[], hosts: "" }
    }
}

/// Runs the rest of a test, the closure, in `network`. It must be the first and the last thing that the test does.
#[track_caller]
pub fn inside<F: FnOnce()>(network: Network<'_>, rest: F) {
    // Of `addresses::a_test::{{closure}}`, the way to the test as `--exact` wants it.
    let name = any::type_name::<F>().trim_end_matches("::{{closure}}");
    let name = name.split_once("::").map_or(name, |(_, name)| name);
    if env::var(TOLD).as_deref() == Ok(name) {
        return rest();
    }
    if let Some(reason) = refusal() {
        // Past the harness, which keeps what a test prints that succeeds.
        let _ = writeln!(io::stderr(), "{name} is passed over: {reason}");
        return;
    }
    let program = env::current_exe().unwrap();
    let arguments = [program.to_str().unwrap(), "--exact", name, "--nocapture"];
    let output = run(network, &arguments, name).expect("the namespaces of a moment ago");
    let (told, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    print!("{told}");
    eprint!("{failed}");
    assert!(output.status.success(), "{name} failed in its namespace: {}", output.status);
    assert!(told.contains("test result: ok. 1 passed"), "{name} was not run in its namespace");
}

/// Why there are no such namespaces here, if so.
fn refusal() -> Option<&'static str> {
    static REFUSAL: OnceLock<Option<String>> = OnceLock::new();
    let refusal = REFUSAL.get_or_init(|| {
        let network = Network { up: true, addresses: &["fd00::1/128"], hosts: "" };
        match run(network, &["true"], "") {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(format!("no namespaces: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Some(format!("no namespaces: {error}")),
        }
    });
    refusal.as_deref()
}

fn run(network: Network<'_>, arguments: &[&str], told: &str) -> io::Result<Output> {
    let folder = Folder::new()?;
    let hosts = format!("127.0.0.1 localhost\n::1 localhost\n{}\n", network.hosts);
    // A look-up that nobody answers hangs for longer than any test.
    let resolver = format!("nameserver {}\nsearch .\noptions timeout:30 attempts:4\n", NAME_SERVER.ip());
    fs::write(folder.0.join("hosts"), hosts)?;
    fs::write(folder.0.join("resolv.conf"), resolver)?;
    fs::write(folder.0.join("nsswitch.conf"), "hosts: files dns\n")?;
    Command::new("timeout")
        .args(["--kill-after=5", LIMIT, "unshare", "--user", "--map-root-user", "--net", "--mount"])
        .args(["sh", "-c", SET_UP, "sh"])
        .arg(&folder.0)
        .args([if network.up { "up" } else { "down" }, &network.addresses.join(" ")])
        .args(arguments)
        .env(TOLD, told)
        .output()
}

/// Goes with its files.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("urlsession-namespace-{}-{number}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// In the namespace: changes the network, as `ip` would with these arguments.
#[track_caller]
pub fn ip(arguments: &str) {
    let path = format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default());
    let status = Command::new("ip").args(arguments.split(' ')).env("PATH", path).status().expect("iproute2");
    assert!(status.success(), "ip {arguments}: {status}");
}

/// In the namespace: the addresses that sockets are being connected to, and nobody has answered yet.
pub fn being_connected() -> Vec<SocketAddr> {
    const SYN_SENT: &str = "02";
    let mut found = Vec::new();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap().lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            if columns[3] == SYN_SENT {
                found.push(address_of_the_kernel(columns[2]));
            }
        }
    }
    found
}

/// `0100007F:1F90`, `00000000000000000000000001000000:1F90`: words as the machine has them in memory, and the port.
fn address_of_the_kernel(text: &str) -> SocketAddr {
    let (words, port) = text.split_once(':').unwrap();
    let word = |index: usize| u32::from_str_radix(&words[8 * index..8 * index + 8], 16).unwrap().to_ne_bytes();
    let ip = if words.len() == 8 {
        IpAddr::from(Ipv4Addr::from(word(0)))
    } else {
        let bytes: Vec<u8> = (0..4).flat_map(word).collect();
        IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap()))
    };
    SocketAddr::new(ip, u16::from_str_radix(port, 16).unwrap())
}
