//! Who may ask over TCP, and what: the host and the origin that a request names, and its token.
//!
//! A page of anywhere, open in a browser on this machine, can send requests here. A name of its own
//! that leads here (DNS rebinding) is no host of ours; its origin is another; and it has no token.
//! Deliberately not here: sockets (`../http.rs`), and what the answers are (`../routes.rs`).

use super::super::answer::Refusal;
use super::page;
use crate::io::store::api_tokens::ApiTokens;
use axum::http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, request::Parts};
use std::net::SocketAddr;

/// The request by which a monitor sees that it answers. The page needs no token either.
pub(in super::super) const FREE: [&str; 2] = ["/api/v1/healthz", "/v1/healthz"];
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What goes along with every answer: nothing is kept, guessed, embedded or told on.
const HEADERS: [(&str, &str); 5] = [
    ("content-security-policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// What a request has shown that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// It needs no token.
    Anyone,
    /// It has one.
    Known,
}

/// Who stands at a door.
pub(super) enum Gatekeeper {
    Tokens(HttpGate),
    /// The kernel has let them in, to read alone.
    Readers,
}

impl Gatekeeper {
    /// `local`: of TCP, the address and port of ours that the connection came to.
    pub(super) fn check(&self, request: &Parts, local: Option<SocketAddr>) -> Result<Caller, Refusal> {
        match (self, local) {
            (Self::Tokens(gate), Some(local)) => gate.check(request, local),
            (Self::Readers, None) if reads(&request.method) => Ok(Caller::Known),
            (Self::Readers, _) => {
                let why = "this socket only answers what reads; the daemon's own socket does more, for its user";
                Err(Refusal::new(StatusCode::FORBIDDEN, why))
            }
            (Self::Tokens(_), None) => Err(Refusal::failed("this connection has no address")),
        }
    }
}

pub(super) struct HttpGate {
    pub tokens: ApiTokens,
    pub tls: bool,
}

impl HttpGate {
    /// `local`: the address and port of ours that the connection came to.
    pub(super) fn check(&self, request: &Parts, local: SocketAddr) -> Result<Caller, Refusal> {
        let headers = &request.headers;
        let host = single(headers, &HOST)?.unwrap_or_default();
        // A request that names its host in the first line, too, means that one.
        let named = request.uri.authority().map(axum::http::uri::Authority::as_str);
        if [Some(host), named].into_iter().flatten().any(|host| !self.is_our_host(host, local)) {
            // As a client writes it: a socket of IPv6 takes an address of IPv4 for one of its own.
            let address = SocketAddr::new(local.ip().to_canonical(), local.port());
            let why = format!("this host name is not answered to; ask {}://{address}", self.scheme());
            return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, why));
        }
        if let Some(origin) = single(headers, &ORIGIN)?
            && !origin.eq_ignore_ascii_case(&format!("{}://{host}", self.scheme()))
        {
            let why = "pages of another origin may not ask; a program leaves the header Origin out";
            return Err(Refusal::new(StatusCode::FORBIDDEN, why));
        }
        let reads = reads(&request.method);
        if reads && (FREE.contains(&request.uri.path()) || page::is_page(request.uri.path())) {
            return Ok(Caller::Anyone);
        }
        let Some(token) = token(headers)? else {
            let why =
                "a token is needed, in 'Authorization: Bearer TOKEN' or 'X-API-Key: TOKEN'; 'dirsync web' shows it";
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, why));
        };
        let (whole, read_only) = (self.tokens.whole.is(token), self.tokens.read_only.is(token));
        match (whole, read_only) {
            (true, _) => Ok(Caller::Known),
            (false, true) if reads => Ok(Caller::Known),
            (false, true) => {
                let why = "this token may only read; 'dirsync web' shows the one that may do more";
                Err(Refusal::new(StatusCode::FORBIDDEN, why))
            }
            (false, false) => {
                let why = "this token is not one of this daemon; 'dirsync web' shows those that are";
                Err(Refusal::new(StatusCode::UNAUTHORIZED, why))
            }
        }
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// Nobody but this machine decides where its addresses and `localhost` lead.
    fn is_our_host(&self, host: &str, local: SocketAddr) -> bool {
        let usual = if self.tls { 443 } else { 80 };
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok().filter(|_| is_number(port))),
            _ => (host, Some(usual)),
        };
        let ours = local.ip().to_canonical();
        let is_ours = match name.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner.and_then(|inner| inner.parse().ok()) == Some(ours) && ours.is_ipv6(),
            None => {
                name.parse() == Ok(ours) && ours.is_ipv4()
                    || name.eq_ignore_ascii_case("localhost") && ours.is_loopback()
            }
        };
        is_ours && port == Some(local.port())
    }
}

/// Whether a request of this method changes nothing, and has no body that anyone reads.
pub(super) fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Adds what goes along with every answer.
pub(super) fn dress(status: StatusCode, headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        // Some answers are stricter.
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(axum::http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
}

fn is_number(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// A header that two of would be read in two ways.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Refusal::malformed(format!("{name} is no text"))),
        _ => Err(Refusal::malformed(format!("there are two headers {name}"))),
    }
}

fn token(headers: &HeaderMap) -> Result<Option<&[u8]>, Refusal> {
    if let Some(value) = single(headers, &AUTHORIZATION)? {
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        return Ok(scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().as_bytes()));
    }
    Ok(single(headers, &API_KEY)?.map(|value| value.trim().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use rstest::rstest;
    use tempfile::TempDir;

    fn gate(tls: bool) -> HttpGate {
        let home = TempDir::new().unwrap();
        HttpGate { tokens: ApiTokens::read_or_make(home.path()).unwrap(), tls }
    }

    const LOCAL: &str = "127.0.0.1:8080";

    /// The code of the refusal, or 200.
    fn code(gate: &HttpGate, local: &str, method: &str, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let request = headers.iter().fold(Request::builder().method(method).uri(uri), |all, (name, value)| {
            all.header(
                *name,
                value.replace("WHOLE", gate.tokens.whole.digits()).replace("READ", gate.tokens.read_only.digits()),
            )
        });
        let (parts, ()) = request.body(()).unwrap().into_parts();
        gate.check(&parts, local.parse().unwrap()).map_or_else(|refusal| refusal.status().as_u16(), |_| 200)
    }

    #[rstest]
    #[case("127.0.0.1:8080", LOCAL, false, true)]
    #[case("localhost:8080", LOCAL, false, true)]
    #[case("LOCALHOST:8080", LOCAL, false, true)]
    #[case("[::1]:8080", "[::1]:8080", false, true)]
    #[case("localhost:8080", "[::1]:8080", false, true)]
    #[case("192.0.2.7:8080", "192.0.2.7:8080", false, true)]
    #[case("192.0.2.7:8080", "[::ffff:192.0.2.7]:8080", false, true)]
    #[case("[2001:db8::7]:8080", "[2001:db8::7]:8080", false, true)]
    #[case("127.0.0.1", "127.0.0.1:80", false, true)]
    #[case("127.0.0.1", "127.0.0.1:443", true, true)]
    #[case::port_of_the_other_scheme("127.0.0.1", "127.0.0.1:80", true, false)]
    #[case::no_port("127.0.0.1", LOCAL, false, false)]
    #[case::another_port("127.0.0.1:8081", LOCAL, false, false)]
    #[case::signed_port("127.0.0.1:+8080", LOCAL, false, false)]
    #[case::rebound_name("evil.example:8080", LOCAL, false, false)]
    #[case::name_that_begins_so("localhost.evil.example:8080", LOCAL, false, false)]
    #[case::name_with_a_dot("localhost.:8080", LOCAL, false, false)]
    #[case::another_address_of_ours("192.0.2.7:8080", LOCAL, false, false)]
    #[case::localhost_from_outside("localhost:8080", "192.0.2.7:8080", false, false)]
    #[case::number("2130706433:8080", LOCAL, false, false)]
    #[case::user("x@127.0.0.1:8080", LOCAL, false, false)]
    #[case::bare_ipv6("::1:8080", "[::1]:8080", false, false)]
    #[case::bracketed_ipv4("[127.0.0.1]:8080", LOCAL, false, false)]
    #[case::empty("", LOCAL, false, false)]
    fn a_host_is_the_address_that_was_asked_or_localhost(
        #[case] host: &str,
        #[case] local: &str,
        #[case] tls: bool,
        #[case] due: bool,
    ) {
        assert_eq!(gate(tls).is_our_host(host, local.parse().unwrap()), due);
    }

    #[rstest]
    #[case::a_bearer("GET", "/api/v1/status", &[("authorization", "Bearer WHOLE")], 200)]
    #[case::in_any_case("GET", "/api/v1/status", &[("authorization", "bearer WHOLE")], 200)]
    #[case::a_key("POST", "/api/v1/pause", &[("x-api-key", "WHOLE")], 200)]
    #[case::none("GET", "/api/v1/status", &[], 401)]
    #[case::stale("GET", "/api/v1/status", &[("x-api-key", "00")], 401)]
    #[case::basic("GET", "/api/v1/status", &[("authorization", "Basic WHOLE")], 401)]
    #[case::a_stale_bearer_beside_a_key("GET", "/api/v1/status", &[("authorization", "Bearer 0"), ("x-api-key", "WHOLE")], 401)]
    #[case::two_keys("GET", "/api/v1/status", &[("x-api-key", "WHOLE"), ("x-api-key", "WHOLE")], 400)]
    #[case::reading("GET", "/api/v1/status", &[("x-api-key", "READ")], 200)]
    #[case::reading_a_head("HEAD", "/api/v1/status", &[("x-api-key", "READ")], 200)]
    #[case::no_more_than_reading("POST", "/api/v1/pause", &[("x-api-key", "READ")], 403)]
    #[case::of_any_method("DELETE", "/api/v1/status", &[("x-api-key", "READ")], 403)]
    #[case::health("GET", "/api/v1/healthz", &[], 200)]
    #[case::page("GET", "/", &[], 200)]
    #[case::posting_there("POST", "/api/v1/healthz", &[], 401)]
    #[case::below_it("GET", "/api/v1/healthz/", &[], 401)]
    #[case::unknown("GET", "/none", &[], 401)]
    #[case::own_origin("GET", "/", &[("origin", "http://127.0.0.1:8080")], 200)]
    #[case::another_origin("GET", "/", &[("origin", "http://evil.example")], 403)]
    #[case::another_origin_with_a_token("POST", "/api/v1/pause", &[("origin", "http://127.0.0.1:80"), ("x-api-key", "WHOLE")], 403)]
    #[case::another_scheme("GET", "/", &[("origin", "https://127.0.0.1:8080")], 403)]
    #[case::no_origin_to_speak_of("GET", "/", &[("origin", "null")], 403)]
    #[case::preflight("OPTIONS", "/api/v1/status", &[("origin", "http://evil.example")], 403)]
    #[case::host_in_the_first_line("GET", "http://evil.example:8080/", &[], 421)]
    #[case::our_host_in_the_first_line("GET", "http://127.0.0.1:8080/", &[], 200)]
    fn a_request_needs_a_token_that_may_do_it_and_no_foreign_origin(
        #[case] method: &str,
        #[case] uri: &str,
        #[case] headers: &[(&str, &str)],
        #[case] due: u16,
    ) {
        let headers = [headers, &[("host", LOCAL)]].concat();
        assert_eq!(code(&gate(false), LOCAL, method, uri, &headers), due);
    }

    #[test]
    fn a_host_that_is_not_ours_is_refused_whatever_the_token_and_so_is_none_or_two() {
        let gate = gate(false);
        let with = |hosts: &[&str]| {
            let hosts = hosts.iter().map(|host| ("host", *host));
            code(&gate, LOCAL, "GET", "/api/v1/healthz", &hosts.chain([("x-api-key", "WHOLE")]).collect::<Vec<_>>())
        };
        assert_eq!(
            (with(&[LOCAL]), with(&["evil.example:8080"]), with(&[]), with(&[LOCAL, LOCAL])),
            (200, 421, 421, 400)
        );
    }

    #[rstest]
    #[case(false, "[::ffff:192.0.2.7]:8080", "http://192.0.2.7:8080")]
    #[case(true, "[2001:db8::7]:8443", "https://[2001:db8::7]:8443")]
    fn who_names_another_host_is_told_the_address_as_a_client_writes_it(
        #[case] tls: bool,
        #[case] local: &str,
        #[case] due: &str,
    ) {
        let request = Request::builder().header("host", "evil.example").body(()).unwrap();
        let refusal = gate(tls).check(&request.into_parts().0, local.parse().unwrap()).unwrap_err();
        assert!(refusal.text().ends_with(&format!("; ask {due}")), "{}", refusal.text());
    }

    #[rstest]
    #[case("GET", "/api/v1/status", 200)]
    #[case("HEAD", "/api/v1/status", 200)]
    #[case("POST", "/api/v1/pause", 403)]
    #[case("DELETE", "/api/v1/status", 403)]
    #[case("OPTIONS", "/api/v1/status", 403)]
    fn readers_are_answered_what_reads_whatever_they_call_it(
        #[case] method: &str,
        #[case] uri: &str,
        #[case] due: u16,
    ) {
        let whole = gate(false).tokens.whole;
        let request =
            Request::builder().method(method).uri(uri).header("host", "x").header("x-api-key", whole.digits());
        let checked = Gatekeeper::Readers.check(&request.body(()).unwrap().into_parts().0, None);
        assert_eq!(checked.map_or_else(|refusal| refusal.status().as_u16(), |_| 200), due);
    }

    #[test]
    fn no_header_lets_another_origin_read() {
        let mut headers = HeaderMap::new();
        dress(StatusCode::OK, &mut headers);
        assert!(headers.keys().all(|name| !name.as_str().starts_with("access-control-")));
        assert!(headers["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"));
        assert!(!headers.contains_key("www-authenticate"));
        dress(StatusCode::UNAUTHORIZED, &mut headers);
        assert_eq!(headers["www-authenticate"], "Bearer");
    }
}
