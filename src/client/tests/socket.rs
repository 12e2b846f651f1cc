//! The socket: whose it is, where it is, and what is believed of it.

use super::super::Client;
use super::*;
use bytes::Bytes;
use http_body_util::BodyExt;
use std::collections::BTreeSet;

#[test]
fn only_our_own_daemon_and_root_s_are_believed_and_by_root_the_owner_s() {
    let cases = [
        (7, 7, 0, true),
        (0, 7, 7, true),
        (8, 7, 8, false),
        (7, 0, 7, true),
        (0, 0, 7, true),
        // One that a user planted in /tmp.
        (7, 0, 0, false),
    ];
    for (listener, ours, owner, expected) in cases {
        assert_eq!(
            super::super::is_trusted(listener, ours, owner),
            expected,
            "{listener} answers {ours} in {owner}'s folder"
        );
    }
}

#[tokio::test]
async fn the_daemon_of_a_folder_that_lost_its_private_folder_is_found() {
    let daemon = daemon();
    fs::remove_dir_all(daemon.folder.join(".dirsync")).unwrap();
    let folder = Folder::find(&daemon.folder.join("deep/er")).unwrap();
    assert_eq!(folder.path, daemon.folder.canonicalize().unwrap());
    folder.connect().await.unwrap().get::<StatusView>("/v1/status", &[]).await.unwrap();
    // Nor does an empty one hide it.
    fs::create_dir(daemon.folder.join(".dirsync")).unwrap();
    Folder::find(&daemon.folder).unwrap().connect().await.unwrap();
}

/// Whoever listens may say anything for as long as anyone listens.
#[tokio::test]
async fn an_answer_without_an_end_is_not_read_to_the_end() {
    let home = TempDir::new().unwrap();
    fs::create_dir(home.path().join(".dirsync")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(home.path().join(".dirsync/control")).unwrap();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = socket.accept().unwrap();
        // An answer that comes before the question is another error.
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        let part = vec![b' '; 1 << 20];
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while stream.write_all(format!("{:x}\r\n", part.len()).as_bytes()).is_ok() {
            if stream.write_all(&[&part[..], b"\r\n"].concat()).is_err() {
                return;
            }
        }
    });
    let mut client = Folder::find(home.path()).unwrap().connect().await.unwrap();
    let why = client.get::<Value>("/v1/status", &[]).await.unwrap_err().to_string();
    assert!(why.contains("limit"), "{why}");
}

#[tokio::test]
async fn the_socket_is_ours_alone_and_outlives_a_crash() {
    let daemon = daemon();
    let socket = daemon.folder.join(".dirsync/control");
    assert_eq!(fs::symlink_metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let outside = TempDir::new().unwrap();
    let dead = outside.path().join("dead");
    fs::create_dir_all(dead.join(".dirsync")).unwrap();
    drop(Control::bind(private(&dead).as_fd(), Path::new("/nowhere")).unwrap());
    let why = Folder::find(&dead).unwrap().connect().await.err().unwrap().to_string();
    assert!(why.contains("no daemon is running for"), "{why}");
    drop(Control::bind(private(&dead).as_fd(), Path::new("/nowhere")).unwrap());
    fs::remove_file(dead.join(".dirsync/control")).unwrap();
    let why = Folder::find(&dead).unwrap().connect().await.err().unwrap().to_string();
    assert!(why.contains("start it with: dirsyncd"), "{why}");
    let why = Folder::find(outside.path()).unwrap_err().to_string();
    assert!(why.contains("not in a synced folder"), "{why}");
}

/// A folder stands where the socket would, as a stand-in for a file system that keeps no sockets.
#[tokio::test]
async fn where_no_socket_can_be_made_in_the_folder_it_is_in_the_state_directory_and_found_from_the_folder() {
    let home = TempDir::new().unwrap();
    let (folder, state) = (home.path().join("d"), home.path().join("state"));
    fs::create_dir_all(folder.join(".dirsync/control/full")).unwrap();
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let bind = || Control::bind(private(&folder).as_fd(), &state);
    assert!(bind().unwrap().is_elsewhere());
    fs::remove_dir_all(folder.join(".dirsync/control")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(state.join("again")).unwrap();
    fs::rename(state.join("again"), state.join("control")).unwrap();
    let dialled = crate::io::control::dial(private(&folder)).await;
    assert!(dialled.is_ok(), "{dialled:?}");
    // Whoever can write to .dirsync may name any folder; only one that its owner alone may enter is
    // followed.
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(crate::io::control::dial(private(&folder)).await.is_err());
    drop(socket);
    // Back on a file system that keeps sockets, nothing leads elsewhere.
    assert!(!bind().unwrap().is_elsewhere());
    assert!(!folder.join(".dirsync/control-at").exists());
}

#[test]
fn that_no_socket_can_be_made_anywhere_is_said_with_the_way_out() {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("d");
    fs::create_dir_all(folder.join(".dirsync/control/full")).unwrap();
    let why = Control::bind(private(&folder).as_fd(), &home.path().join("none")).unwrap_err().to_string();
    assert!(why.contains("control socket") && why.contains("--state-dir"), "{why}");
}

/// Status, content type and body of an answer to any request.
async fn raw(client: &mut Client, method: &str, path: &str) -> (u16, String, Value) {
    with_body(client, method, path, "text/plain", Vec::new()).await
}

async fn with_body(client: &mut Client, method: &str, path: &str, kind: &str, body: Vec<u8>) -> (u16, String, Value) {
    let request = hyper::Request::builder().method(method).uri(path).header("host", "dirsyncd");
    let request = request.header("content-type", kind).body(super::super::whole(body));
    let answer = client.sender.send_request(request.unwrap()).await.unwrap();
    let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, kind.unwrap_or_default(), serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn every_documented_request_is_known_below_both_prefixes() {
    let daemon = daemon();
    let mut client = Folder::find(&daemon.folder).unwrap().connect().await.unwrap();
    let page = include_str!("../../../docs/api.md");
    let words = page.split(|c: char| c.is_whitespace() || "`?|,".contains(c));
    let names: BTreeSet<&str> = words.filter_map(|word| word.strip_prefix("/api/v1/")).collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        for prefix in ["/v1", "/api/v1"] {
            // No route has this method, so that nothing is done.
            let (status, kind, body) = raw(&mut client, "PATCH", &format!("{prefix}/{name}")).await;
            assert_eq!((status, kind.as_str()), (405, "application/problem+json"), "{prefix}/{name}");
            assert!(body["detail"].as_str().unwrap().contains("another method"), "{body}");
        }
    }
}

#[tokio::test]
async fn a_refusal_is_a_problem_with_the_older_field_beside() {
    let daemon = daemon();
    let mut client = Folder::find(&daemon.folder).unwrap().connect().await.unwrap();
    let refusals =
        [("/api/v1/none", 404, "Not Found"), ("/api/none", 404, "Not Found"), ("/v1/why", 400, "Bad Request")];
    for (path, code, title) in refusals {
        let (status, kind, body) = raw(&mut client, "GET", path).await;
        assert_eq!((status, kind.as_str()), (code, "application/problem+json"), "{path}");
        assert_eq!((&body["status"], &body["title"]), (&json!(code), &json!(title)), "{path}");
        assert!(body["detail"].is_string() && body["detail"] == body["error"], "{body}");
    }
    let described = raw(&mut client, "GET", "/api/openapi.json").await;
    assert_eq!((described.0, described.1.as_str()), (200, "application/json"));
    assert!(described.2["paths"]["/api/v1/status"]["get"].is_object());
    assert_eq!(raw(&mut client, "GET", "/api/v1/healthz").await.2, json!({ "ok": true }));
    let version = json!({ "version": env!("CARGO_PKG_VERSION") });
    assert_eq!(raw(&mut client, "GET", "/api/v1/version").await.2, version);
}

#[tokio::test]
async fn a_body_of_another_type_too_large_or_malformed_is_refused_with_a_problem() {
    let daemon = daemon();
    let json = "application/json";
    let large = [&b"{\"paths\": [\""[..], &vec![b'a'; 3 << 20], b"\"]}"].concat();
    for (kind, body, code, says) in [
        ("text/plain", b"{}".to_vec(), 415, "application/json"),
        (json, large, 413, "fewer paths"),
        (json, b"{\"paths\": 1}".to_vec(), 400, "paths"),
        (json, b"{".to_vec(), 400, "JSON"),
    ] {
        let mut client = Folder::find(&daemon.folder).unwrap().connect().await.unwrap();
        let (status, answered, body) = with_body(&mut client, "POST", "/api/v1/promote", kind, body).await;
        assert_eq!((status, answered.as_str()), (code, "application/problem+json"), "{body}");
        assert!(body["detail"].as_str().unwrap().contains(says), "{body}");
    }
}

#[tokio::test]
async fn an_answer_that_has_not_changed_is_not_sent_again() {
    let daemon = daemon();
    let mut client = Folder::find(&daemon.folder).unwrap().connect().await.unwrap();
    let ask = async |client: &mut Client, path: &str, known: &str| {
        let request = hyper::Request::get(path).header("host", "dirsyncd").header("if-none-match", known);
        let answer =
            client.sender.send_request(request.body(super::super::whole(Bytes::new())).unwrap()).await.unwrap();
        let tag = answer.headers().get("etag").map(|tag| tag.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        (status, tag.unwrap_or_default(), answer.into_body().collect().await.unwrap().to_bytes().len())
    };
    let (status, tag, length) = ask(&mut client, "/api/v1/ls", "\"other\"").await;
    assert!(status == 200 && tag.len() == 34 && length > 0, "{status} {tag}");
    assert_eq!(ask(&mut client, "/api/v1/ls", &tag).await, (304, tag.clone(), 0));
    assert_eq!(ask(&mut client, "/api/v1/ls?limit=1", &tag).await.0, 200, "another answer");
    assert_eq!(ask(&mut client, "/api/v1/why", &tag).await.1, "", "a refusal has none");
}
