//! `--http` and `--socket-group`: whether the API is also answered on TCP, or to a group, where,
//! and how.

use super::OptionError;
use crate::model::text;
use clap::Args;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

#[derive(Args, Debug, Clone)]
pub struct HttpArgs {
    /// Also answer the API over TCP, for 'dirsync web', programs and monitoring, to whoever has a
    /// token: PORT or :PORT for this machine alone, or an address named in full, such as
    /// 192.0.2.7:8080; port 0 takes any free one [default: only on the Unix socket]
    #[arg(long, value_name = "ADDR", env = "DIRSYNCD_HTTP")]
    pub http: Option<String>,

    /// With --http: TLS, with this machine's own certificate
    #[arg(long, env = "DIRSYNCD_HTTP_TLS", value_parser = super::switch)]
    pub http_tls: bool,

    /// Also answer what only reads, to the members of this group (of /etc/group, or its number), on
    /// the socket 'api' in $RUNTIME_DIRECTORY, which systemd sets [default: only to this user and
    /// root]
    #[arg(long, value_name = "GROUP", env = "DIRSYNCD_SOCKET_GROUP")]
    pub socket_group: Option<String>,
}

/// Who may read the API on a socket of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketGroup {
    pub group: String,
    /// The first of systemd's; there may be none.
    pub runtime_dir: Option<PathBuf>,
}

/// Where the API is answered on TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpPlace {
    pub address: SocketAddr,
    pub tls: bool,
}

impl HttpPlace {
    /// Other machines may reach it, and everyone on the way reads along.
    pub fn is_open_to_read(&self) -> bool {
        !self.tls && !self.address.ip().to_canonical().is_loopback()
    }
}

impl HttpArgs {
    pub(super) fn group(&self, environment: impl Fn(&str) -> Option<OsString>) -> Option<SocketGroup> {
        let group = self.socket_group.clone().filter(|group| !group.is_empty())?;
        let runtime_dir = environment("RUNTIME_DIRECTORY").map(|dirs| super::first_of(&dirs));
        Some(SocketGroup { group, runtime_dir })
    }

    pub(super) fn place(&self) -> Result<Option<HttpPlace>, OptionError> {
        // An empty variable is as good as none.
        let Some(text) = self.http.as_deref().filter(|text| !text.is_empty()) else {
            return if self.http_tls { Err(OptionError::TlsAlone) } else { Ok(None) };
        };
        let address = parse(text).ok_or_else(|| OptionError::Http(text::escape(text.as_bytes())))?;
        Ok(Some(HttpPlace { address, tls: self.http_tls }))
    }
}

/// No names but `localhost`: what a name leads to may change, and with it who can reach this.
fn parse(text: &str) -> Option<SocketAddr> {
    let here = |port: &str| {
        let is_plain = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_plain)?;
        Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    };
    let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
    here(port).or_else(|| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("8080", Some("127.0.0.1:8080"))]
    #[case(":8080", Some("127.0.0.1:8080"))]
    #[case("0", Some("127.0.0.1:0"))]
    #[case("localhost:8080", Some("127.0.0.1:8080"))]
    #[case("192.0.2.7:8080", Some("192.0.2.7:8080"))]
    #[case("0.0.0.0:8080", Some("0.0.0.0:8080"))]
    #[case("[::1]:8080", Some("[::1]:8080"))]
    #[case("nas.local:8080", None)]
    #[case("192.0.2.7", None)]
    #[case("::1", None)]
    #[case("65536", None)]
    #[case("+80", None)]
    #[case(":", None)]
    #[case("http://127.0.0.1:8080", None)]
    fn what_names_no_address_is_this_machine_alone(#[case] text: &str, #[case] due: Option<&str>) {
        assert_eq!(parse(text), due.map(|due| due.parse().unwrap()));
    }

    #[rstest]
    #[case("8080", false, false)]
    #[case("[::1]:8080", false, false)]
    #[case("0.0.0.0:8080", false, true)]
    #[case("192.0.2.7:8080", false, true)]
    #[case("[::ffff:127.0.0.1]:8080", false, false)]
    #[case("192.0.2.7:8080", true, false)]
    fn only_what_others_can_read_is_warned_of(#[case] text: &str, #[case] tls: bool, #[case] due: bool) {
        assert_eq!(HttpPlace { address: parse(text).unwrap(), tls }.is_open_to_read(), due);
    }

    #[test]
    fn tls_without_an_address_is_wrong_usage_and_an_empty_address_is_none() {
        let place = |http: Option<&str>, http_tls| {
            HttpArgs { http: http.map(str::to_owned), http_tls, socket_group: None }.place()
        };
        assert!(place(None, true).unwrap_err().to_string().contains("--http ADDR"));
        assert_eq!(place(Some(""), false).unwrap(), None);
        assert!(place(Some("nas"), false).unwrap_err().to_string().contains("'nas'"));
    }

    #[test]
    fn the_group_s_socket_is_in_the_first_runtime_directory() {
        let args =
            |group: Option<&str>| HttpArgs { http: None, http_tls: false, socket_group: group.map(str::to_owned) };
        let run = |name: &str| (name == "RUNTIME_DIRECTORY").then(|| "/run/a:/run/b".into());
        let group = |runtime_dir: Option<&str>| SocketGroup {
            group: "adm".to_owned(),
            runtime_dir: runtime_dir.map(PathBuf::from),
        };
        assert_eq!(args(Some("adm")).group(run), Some(group(Some("/run/a"))));
        assert_eq!(args(Some("adm")).group(|_| None), Some(group(None)));
        assert_eq!((args(Some("")).group(run), args(None).group(run)), (None, None));
    }
}
