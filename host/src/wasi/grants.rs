//! The grants of guests, as data and as text on a command line.
//!
//! Nothing is granted by default. Parsing never touches the file system or the network; [`Wasi::new`](super::Wasi::new) checks
//! that the directories exist.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use wasmtime_wasi::sockets::SocketAddrUse;

/// Half of the open files that Linux allows a program by default, so that no single guest can take them all.
const HANDLES_MAX_DEFAULT: usize = 512;

/// The grants for the guests of a system. The default grants nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    /// The directories that guests see.
    pub dirs: Vec<DirGrant>,
    /// The guests' environment. If a name comes twice, the last value holds.
    pub env: Vec<(String, String)>,
    /// The guests' arguments. The first is the program's name.
    pub args: Vec<String>,
    /// The network.
    pub net: NetGrant,
    /// May guests read this program's standard input? All processes share it: the first reader gets the bytes.
    pub stdin: bool,
    /// The most handles that one process may hold at a time: open files, sockets, streams, pollables. The granted directories and
    /// the standard streams don't count.
    pub handles_max: usize,
}

impl Grants {
    /// Checks that no directory which guests may change holds one of these folders, or lies in one. Guests that could
    /// change them could change the host.
    pub(crate) fn check_apart(&self, from: &[PathBuf]) -> Result<(), WasiError> {
        // A folder that is not there yet may be made later, so its nearest ancestor stands for the way to it.
        let real = |path: &PathBuf| {
            let there = path.ancestors().find_map(|above| {
                let rest = path.strip_prefix(above).ok()?;
                let mut real = above.canonicalize().ok()?;
                real.extend(rest);
                Some(real)
            });
            there.unwrap_or_else(|| path.clone())
        };
        for grant in self.dirs.iter().filter(|grant| grant.writable) {
            let granted = real(&grant.host);
            let kept = from.iter().map(real);
            let mut overlapping =
                kept.filter(|kept| kept.starts_with(&granted) || granted.starts_with(kept));
            if let Some(kept) = overlapping.next() {
                return Err(WasiError::new(
                    WasiErrorKind::Directory,
                    format!(
                        "`{}` can't be granted for writing: guests could change `{}`, and with it this program",
                        grant.host.display(),
                        kept.display()
                    ),
                    "grant the directories that the program needs, or add `:ro`",
                ));
            }
        }
        Ok(())
    }
}

impl Default for Grants {
    fn default() -> Grants {
        Grants {
            dirs: Vec::new(),
            env: Vec::new(),
            args: Vec::new(),
            net: NetGrant::None,
            stdin: false,
            handles_max: HANDLES_MAX_DEFAULT,
        }
    }
}

/// A directory that guests see. They see everything below it and nothing above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirGrant {
    /// The directory on the host.
    pub host: PathBuf,
    /// The path that guests see.
    pub guest: String,
    /// May guests change its contents?
    pub writable: bool,
}

impl DirGrant {
    /// Parses `HOST` or `HOST::GUEST`, either with `:ro` at the end for read-only. With `HOST` alone, the guest sees the same
    /// path. A host directory whose name ends in `:ro` needs the form with `::`.
    ///
    /// # Errors
    ///
    /// If a path is empty, there is more than one `::`, or the guest's path is not UTF-8. The host's path may be anything that
    /// the operating system allows.
    pub fn parse(text: impl AsRef<OsStr>) -> Result<DirGrant, WasiError> {
        let text = text.as_ref();
        let error = |message: &str, hint| {
            let message = format!("`{}` {message}", text.display());
            Err(WasiError::new(WasiErrorKind::Syntax, message, hint))
        };
        let (paths, writable) = match text.as_bytes().strip_suffix(b":ro") {
            Some(paths) => (paths, false),
            None => (text.as_bytes(), true),
        };
        let is_split = |two: &[u8]| two == b"::";
        let (host, guest) = match paths.windows(2).position(is_split) {
            Some(at) => (&paths[..at], &paths[at + 2..]),
            None => (paths, paths),
        };
        if host.is_empty() || guest.is_empty() || guest.windows(2).any(is_split) {
            return error(
                "does not name a directory",
                "write HOST, HOST::GUEST or HOST::GUEST:ro, as in `data::/data:ro`",
            );
        }
        let Ok(guest) = std::str::from_utf8(guest) else {
            return error(
                "is no name for a guest, which is UTF-8",
                "write HOST::GUEST, as in `data::/data`",
            );
        };
        Ok(DirGrant {
            host: OsStr::from_bytes(host).into(),
            guest: guest.to_owned(),
            writable,
        })
    }
}

/// Parses an environment variable: `NAME=VALUE`, or `NAME` alone for the value that it has in this program.
///
/// # Errors
///
/// If the name is empty, or if a name alone has no UTF-8 value in this program.
pub fn parse_env(text: &str) -> Result<(String, String), WasiError> {
    parse_env_with(text, |name| std::env::var_os(name))
}

fn parse_env_with(
    text: &str,
    own: impl Fn(&str) -> Option<OsString>,
) -> Result<(String, String), WasiError> {
    let error = |message: String, hint: &str| WasiError::new(WasiErrorKind::Syntax, message, hint);
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    if name.is_empty() {
        return Err(error(
            format!("`{text}` does not name an environment variable"),
            "write NAME=VALUE, or NAME to pass on your own",
        ));
    }
    let value = match value {
        Some(value) => value.to_owned(),
        None => own(name)
            .ok_or_else(|| {
                error(
                    format!("the environment variable `{name}` is not set"),
                    "set it, or write NAME=VALUE",
                )
            })?
            .into_string()
            .map_err(|_| {
                error(
                    format!("the environment variable `{name}` is not UTF-8 text"),
                    "guests only take text: write NAME=VALUE",
                )
            })?,
    };
    Ok((name.to_owned(), value))
}

/// The network addresses that guests may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetGrant {
    /// None: a guest's socket functions answer "access denied".
    #[default]
    None,
    /// These addresses. Guests may connect to them, send to them, and receive from them. Guests may listen on those that are the
    /// host's own; then any peer may connect. Host names can't be looked up.
    Peers(Vec<Peer>),
    /// Every address, and host names.
    All,
}

/// An address that guests may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The exact address.
    pub address: IpAddr,
    /// The port; `None` means any port.
    pub port: Option<u16>,
}

impl NetGrant {
    /// Parses `all`, or addresses with commas between them: `ADDRESS`, `ADDRESS:PORT`, `[IPV6]:PORT`.
    ///
    /// # Errors
    ///
    /// If an item is not an address (a host name, for example), or if a port is 0.
    pub fn parse(text: &str) -> Result<NetGrant, WasiError> {
        text.split(',').try_fold(NetGrant::None, |grant, item| {
            Ok(grant.and(match item {
                "all" => NetGrant::All,
                _ => NetGrant::Peers(vec![Peer::parse(item)?]),
            }))
        })
    }

    /// Grants what either grants.
    #[must_use]
    pub fn and(self, other: NetGrant) -> NetGrant {
        match (self, other) {
            (NetGrant::All, _) | (_, NetGrant::All) => NetGrant::All,
            (NetGrant::None, grant) | (grant, NetGrant::None) => grant,
            (NetGrant::Peers(mut peers), NetGrant::Peers(more)) => {
                peers.extend(more);
                NetGrant::Peers(peers)
            }
        }
    }

    /// Grants what both grant.
    #[must_use]
    pub fn only(&self, other: &NetGrant) -> NetGrant {
        match (self, other) {
            (NetGrant::All, grant) | (grant, NetGrant::All) => grant.clone(),
            (NetGrant::None, _) | (_, NetGrant::None) => NetGrant::None,
            (NetGrant::Peers(one), NetGrant::Peers(other)) => {
                let pairs = one
                    .iter()
                    .flat_map(|one| other.iter().map(move |other| (one, other)));
                NetGrant::Peers(pairs.filter_map(|(one, other)| one.only(other)).collect())
            }
        }
    }

    /// May guests use this address in this way?
    pub(super) fn permits(&self, address: SocketAddr, usage: SocketAddrUse) -> bool {
        let peers = match self {
            NetGrant::None => return false,
            NetGrant::All => return true,
            NetGrant::Peers(peers) => peers,
        };
        match usage {
            // The listening address has been checked. The peer can't be known before it connects.
            SocketAddrUse::TcpAccept => true,
            // The system itself binds to any free port before it connects. This grants nothing: listening is checked again, with
            // the port that the socket then has.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind
                if address.ip().is_unspecified() && address.port() == 0 =>
            {
                true
            }
            _ => peers.iter().any(|peer| peer.is(address)),
        }
    }
}

impl Peer {
    /// The addresses that both mean.
    fn only(&self, other: &Peer) -> Option<Peer> {
        let port = match (self.port, other.port) {
            (Some(one), Some(other)) if one != other => return None,
            (one, other) => one.or(other),
        };
        (self.address == other.address).then_some(Peer {
            address: self.address,
            port,
        })
    }

    fn parse(text: &str) -> Result<Peer, WasiError> {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        let (address, port) = if let Ok(address) = bare.parse::<IpAddr>() {
            (address, None)
        } else if let Ok(address) = text.parse::<SocketAddr>() {
            (address.ip(), Some(address.port()))
        } else {
            return Err(WasiError::new(
                WasiErrorKind::Syntax,
                format!("`{text}` is not a network address"),
                "write an IP address, ADDRESS:PORT, [IPV6]:PORT, or `all`; host names are usable only with `all`",
            ));
        };
        if port == Some(0) {
            return Err(WasiError::new(
                WasiErrorKind::Syntax,
                format!("`{text}` grants port 0, which is no port"),
                "leave the port out to grant every port",
            ));
        }
        Ok(Peer {
            address: address.to_canonical(),
            port,
        })
    }

    fn is(&self, address: SocketAddr) -> bool {
        self.address == address.ip().to_canonical()
            && self.port.is_none_or(|port| port == address.port())
    }
}

/// An error in the grants. It displays what is wrong and where; [`hint`](WasiError::hint) says what to do about it.
#[derive(Debug)]
pub struct WasiError {
    kind: WasiErrorKind,
    message: String,
    hint: String,
}

/// The kinds of [`WasiError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WasiErrorKind {
    /// A text can't be parsed, such as the directory `::` or the address `localhost`.
    Syntax,
    /// A directory can't be opened, or two directories have the same guest path.
    Directory,
    /// An argument or environment variable can't be passed to a guest: it contains a NUL, or a name contains `=`.
    Text,
    /// The operating system gives no thread for the output.
    Thread,
}

impl WasiError {
    pub(super) fn new(kind: WasiErrorKind, message: String, hint: impl Into<String>) -> WasiError {
        WasiError {
            kind,
            message,
            hint: hint.into(),
        }
    }

    /// The kind of error, to match on.
    pub fn kind(&self) -> WasiErrorKind {
        self.kind
    }

    /// A hint that says what to do about it.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for WasiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for WasiError {}

#[cfg(test)]
mod tests {
    use super::*;
    use arbtest::arbitrary::{Result as Random, Unstructured};
    use arbtest::arbtest;

    /// A text of pieces that mean something on a command line, and of random ones.
    fn text(random: &mut Unstructured<'_>) -> Random<Vec<u8>> {
        const PIECES: [&str; 16] = [
            ":",
            "::",
            ":ro",
            "/",
            "a",
            "=",
            ",",
            "all",
            "[",
            "]",
            "1.2.3.4",
            "::1",
            "::ffff:1.2.3.4",
            ":80",
            "65536",
            "%1",
        ];
        let mut text = Vec::new();
        for _ in 0..random.int_in_range(0..=8)? {
            match random.ratio(1, 5)? {
                true => text.extend(random.arbitrary::<[u8; 2]>()?),
                false => text.extend(random.choose(&PIECES)?.bytes()),
            }
        }
        Ok(text)
    }

    #[test]
    fn any_directory_is_refused_or_says_what_was_written() {
        arbtest(|random| {
            let text = text(random)?;
            let Ok(grant) = DirGrant::parse(OsStr::from_bytes(&text)) else {
                return Ok(());
            };
            let host = grant.host.as_os_str().as_bytes();
            assert!(!host.is_empty() && !grant.guest.is_empty() && !grant.guest.contains("::"));
            if host.ends_with(b":") {
                // There is no way to write it in full: the first `::` ends the host's path.
                return Ok(());
            }
            // Written in full, it means the same again.
            let end: &[u8] = if grant.writable { b"" } else { b":ro" };
            let full = [host, b"::", grant.guest.as_bytes(), end].concat();
            let again = DirGrant::parse(OsStr::from_bytes(&full)).expect("it is a grant");
            assert_eq!(again, grant, "{}", OsStr::from_bytes(&text).display());
            Ok(())
        });
    }

    #[test]
    fn any_address_is_refused_or_grants_no_more_than_it_says() {
        arbtest(|random| {
            let text = String::from_utf8_lossy(&text(random)?).into_owned();
            match NetGrant::parse(&text) {
                Ok(NetGrant::None) => panic!("`{text}` grants nothing"),
                Ok(NetGrant::All) => assert!(text.split(',').any(|item| item == "all")),
                Ok(NetGrant::Peers(peers)) => {
                    assert_eq!(peers.len(), text.split(',').count());
                    for peer in peers {
                        assert_ne!(peer.port, Some(0));
                        let full = match peer.port {
                            Some(port) => SocketAddr::from((peer.address, port)).to_string(),
                            None => peer.address.to_string(),
                        };
                        assert_eq!(
                            NetGrant::parse(&full).expect("it is a grant"),
                            NetGrant::Peers(vec![peer])
                        );
                    }
                }
                Err(error) => assert_eq!(error.kind(), WasiErrorKind::Syntax),
            }
            Ok(())
        });
    }

    #[test]
    fn any_variable_is_refused_or_says_what_was_written() {
        arbtest(|random| {
            let text = String::from_utf8_lossy(&text(random)?).into_owned();
            match parse_env_with(&text, |_| None) {
                Ok((name, value)) => {
                    assert!(!name.is_empty() && !name.contains('='));
                    assert_eq!(format!("{name}={value}"), text);
                }
                Err(error) => {
                    assert!(error.kind() == WasiErrorKind::Syntax && !error.hint().is_empty())
                }
            }
            Ok(())
        });
    }

    #[test]
    fn directories() {
        let check = |text: &str, expected: Option<(&str, &str, bool)>| {
            let parsed = DirGrant::parse(text);
            let found = parsed.as_ref().ok().map(|grant| {
                (
                    grant.host.to_str().unwrap(),
                    grant.guest.as_str(),
                    grant.writable,
                )
            });
            assert_eq!(found, expected, "{text}");
        };
        check("data", Some(("data", "data", true)));
        check("data:ro", Some(("data", "data", false)));
        check("data::/data", Some(("data", "/data", true)));
        check("data::/data:ro", Some(("data", "/data", false)));
        check("a:b", Some(("a:b", "a:b", true)));
        check("a:ro::b", Some(("a:ro", "b", true)));
        check(".", Some((".", ".", true)));
        for bad in ["", ":ro", "::", "::a", "a::", "a:::ro", "a::b::c"] {
            check(bad, None);
        }
    }

    #[test]
    fn environment() {
        let own = |name: &str| match name {
            "SET" => Some(OsString::from("own")),
            #[cfg(unix)]
            "BINARY" => Some(std::os::unix::ffi::OsStringExt::from_vec(vec![0xff])),
            _ => None,
        };
        let check = |text: &str, expected: Result<(&str, &str), &str>| {
            let found = parse_env_with(text, own).map_err(|error| error.to_string());
            let found = found
                .as_ref()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .map_err(String::as_str);
            assert_eq!(found, expected, "{text}");
        };
        check("A=b", Ok(("A", "b")));
        check("A=", Ok(("A", "")));
        check("A=b=c", Ok(("A", "b=c")));
        check("SET", Ok(("SET", "own")));
        check("UNSET", Err("the environment variable `UNSET` is not set"));
        #[cfg(unix)]
        check(
            "BINARY",
            Err("the environment variable `BINARY` is not UTF-8 text"),
        );
        check("=b", Err("`=b` does not name an environment variable"));
        check("", Err("`` does not name an environment variable"));
    }

    #[test]
    fn addresses() {
        let check = |text: &str, expected: Result<&[(&str, Option<u16>)], &str>| {
            let expected = expected.map(|peers| {
                let peers = peers.iter().map(|(address, port)| Peer {
                    address: address.parse().unwrap(),
                    port: *port,
                });
                NetGrant::Peers(peers.collect())
            });
            let found = NetGrant::parse(text).map_err(|error| error.to_string());
            assert_eq!(
                found.as_ref().map_err(String::as_str),
                expected.as_ref().map_err(|text| *text),
                "{text}"
            );
        };
        check("127.0.0.1", Ok(&[("127.0.0.1", None)]));
        check("127.0.0.1:80", Ok(&[("127.0.0.1", Some(80))]));
        check("::1", Ok(&[("::1", None)]));
        check("[::1]", Ok(&[("::1", None)]));
        check("[::1]:80", Ok(&[("::1", Some(80))]));
        check("::ffff:1.2.3.4", Ok(&[("1.2.3.4", None)]));
        check(
            "1.2.3.4,5.6.7.8:9",
            Ok(&[("1.2.3.4", None), ("5.6.7.8", Some(9))]),
        );
        check(
            "1.2.3.4:0",
            Err("`1.2.3.4:0` grants port 0, which is no port"),
        );
        for bad in [
            "",
            "localhost",
            "example.com:80",
            "1.2.3",
            "1.2.3.4:",
            "1.2.3.4:65536",
            ":80",
            "10.0.0.0/8",
        ] {
            check(bad, Err(&format!("`{bad}` is not a network address")));
        }
        assert_eq!(NetGrant::parse("all").unwrap(), NetGrant::All);
        assert_eq!(NetGrant::parse("1.2.3.4,all").unwrap(), NetGrant::All);
    }

    #[test]
    fn grants_of_the_network_add_up() {
        let one = NetGrant::parse("1.2.3.4").unwrap();
        let two = NetGrant::parse("5.6.7.8").unwrap();
        assert_eq!(
            one.clone().and(two),
            NetGrant::parse("1.2.3.4,5.6.7.8").unwrap()
        );
        assert_eq!(NetGrant::None.and(one.clone()), one);
        assert_eq!(one.and(NetGrant::All), NetGrant::All);
    }

    #[test]
    fn uses_of_addresses() {
        use SocketAddrUse::{
            TcpAccept, TcpBind, TcpConnect, TcpListen, UdpBind, UdpReceive, UdpSend,
        };
        let check = |grant: &str, address: &str, usage: SocketAddrUse, expected: bool| {
            let grant = match grant {
                "none" => NetGrant::None,
                _ => NetGrant::parse(grant).unwrap(),
            };
            let found = grant.permits(address.parse().unwrap(), usage);
            assert_eq!(found, expected, "{grant:?} {address} {usage:?}");
        };
        check("none", "127.0.0.1:80", TcpConnect, false);
        check("none", "0.0.0.0:0", TcpBind, false);
        check("all", "127.0.0.1:80", TcpConnect, true);
        check("1.2.3.4:80", "1.2.3.4:80", TcpConnect, true);
        check("1.2.3.4:80", "1.2.3.4:81", TcpConnect, false);
        check("1.2.3.4:80", "1.2.3.5:80", TcpConnect, false);
        check("1.2.3.4", "1.2.3.4:81", TcpConnect, true);
        check("1.2.3.4:80", "0.0.0.0:0", TcpBind, true);
        check("1.2.3.4:80", "[::]:0", UdpBind, true);
        check("1.2.3.4:80", "0.0.0.0:8080", TcpBind, false);
        check("1.2.3.4:80", "0.0.0.0:40000", TcpListen, false);
        check("127.0.0.1:80", "127.0.0.1:80", TcpBind, true);
        check("127.0.0.1:80", "127.0.0.1:80", TcpListen, true);
        check("127.0.0.1:80", "9.9.9.9:999", TcpAccept, true);
        check("1.2.3.4:53", "1.2.3.4:53", UdpSend, true);
        check("1.2.3.4:53", "1.2.3.4:53", UdpReceive, true);
        check("1.2.3.4:53", "9.9.9.9:53", UdpReceive, false);
    }
}
