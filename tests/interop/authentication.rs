//! Passwords, redirects and cookies with servers that others wrote: Basic by nginx, Digest by Apache httpd, whose
//! mod_auth_digest takes a nonce only with the count that is due, and calls it stale when it is old.
//!
//! Each test tells its requests apart in the servers' logs by the query.

use urlsession::{CredentialPersistence, Url};

use crate::houses::{Houses, OTHER_USER, PASSWORD, USER, Visit, parameter};
use crate::support::hooks::eventually;

/// Those of the servers that ask for a password.
fn doors(houses: &Houses) -> [Door<'_>; 2] {
    let (nginx, httpd) = (format!("ws://{}/basic/", houses.nginx()), format!("ws://{}/digest/", houses.httpd()));
    [
        Door { houses, url: nginx, log: "nginx.access", challenge: "challenge basic the upper house" },
        Door { houses, url: httpd, log: "httpd.access", challenge: "challenge digest the lower house" },
    ]
}

/// A place where a password is needed.
struct Door<'a> {
    houses: &'a Houses,
    url: String,
    log: &'static str,
    challenge: &'static str,
}

impl Door<'_> {
    fn url(&self, test: &str) -> Url {
        Url::parse(&format!("{}?{test}", self.url)).expect("an address")
    }

    /// The statuses of the answers, in order.
    #[track_caller]
    fn expect_answers(&self, test: &str, statuses: &[u16]) -> Vec<String> {
        let lines = self.houses.logged(self.log, test, statuses.len());
        let logged: Vec<u16> = lines.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!(logged, statuses, "{lines:#?}");
        lines
    }
}

#[test]
fn the_right_password() {
    let Some(houses) = Houses::find() else { return };
    for door in doors(&houses) {
        let visit = Visit::new(&houses, &[PASSWORD], CredentialPersistence::None);
        let (asked, _) = visit.call(door.url("right"));
        assert_eq!(asked, [format!("{} 0 -", door.challenge)]);
        door.expect_answers("?right", &[401, 101]);
        // Nothing was kept.
        let (asked, _) = visit.call(door.url("once-more"));
        assert_eq!(asked, [format!("{} 0 -", door.challenge)]);
    }
}

#[test]
fn the_wrong_password_twice() {
    let Some(houses) = Houses::find() else { return };
    for door in doors(&houses) {
        let visit = Visit::new(&houses, &["", "open", PASSWORD], CredentialPersistence::ForSession);
        let (asked, _) = visit.call(door.url("wrong"));
        assert_eq!(asked, [0, 1, 2].map(|failures| format!("{} {failures} -", door.challenge)));
        door.expect_answers("?wrong", &[401, 401, 401, 101]);
        // It is the right one that was kept.
        assert!(visit.call(door.url("wrong-before")).0.is_empty());
        door.expect_answers("?wrong-before", &[101]);
    }
}

#[test]
fn what_is_kept_goes_unasked_with_the_next_tasks() {
    let Some(houses) = Houses::find() else { return };
    for door in doors(&houses) {
        let visit = Visit::new(&houses, &[PASSWORD], CredentialPersistence::ForSession);
        visit.call(door.url("kept-0"));
        for number in 1..5 {
            let (asked, _) = visit.call(door.url(&format!("kept-{number}")));
            assert!(asked.is_empty(), "{asked:?}");
            assert_eq!(visit.requests(), 1);
        }
        let lines = door.expect_answers("?kept-", &[401, 101, 101, 101, 101, 101]);
        if door.log == "httpd.access" {
            let counts: Vec<_> = lines[1..].iter().map(|line| parameter(line, "nc").expect("a count")).collect();
            assert_eq!(counts, ["00000001", "00000002", "00000003", "00000004", "00000005"]);
            let nonces: Vec<_> = lines[1..].iter().map(|line| parameter(line, " nonce").expect("a nonce")).collect();
            assert!(nonces.iter().all(|nonce| *nonce == nonces[0] && nonce.len() > 20), "{nonces:?}");
        }
    }
}

/// The requests of tasks that open at once come in any order, and httpd refuses a count that is not above those that it has
/// seen, for all nonces of a client together. Most of them are tried again unasked, for few the delegate is asked.
#[test]
fn many_tasks_with_one_nonce() {
    let Some(houses) = Houses::find() else { return };
    for door in doors(&houses) {
        let visit = Visit::new(&houses, &[PASSWORD], CredentialPersistence::ForSession);
        visit.call(door.url("many"));
        let tasks: Vec<_> = (0..16).map(|_| visit.session.web_socket_task(door.url("many"))).collect();
        tasks.iter().for_each(|task| task.resume());
        for _ in &tasks {
            visit.events.wait_for("open");
        }
        let log = visit.events.log();
        assert!(!log.iter().any(|event| event.starts_with("complete -")), "{log:?}");
        visit.session.invalidate_and_cancel();
    }
}

/// A nonce that is a second old, or that was used: the request is repeated with a new one, and nobody is asked.
#[test]
fn a_nonce_that_is_stale() {
    let Some(houses) = Houses::find() else { return };
    for place in ["aging", "once"] {
        let visit = Visit::new(&houses, &[PASSWORD], CredentialPersistence::ForSession);
        let url = |number: usize| Url::parse(&format!("ws://{}/{place}/?{place}-{number}", houses.httpd())).unwrap();
        let (asked, _) = visit.call(url(0));
        assert_eq!(asked, ["challenge digest the lower house 0 -"]);
        // One after the other, until one of them was told that the nonce is stale.
        let mut number = 0;
        eventually("a stale nonce", || {
            number += 1;
            let (asked, _) = visit.call(url(number));
            assert!(asked.is_empty(), "{asked:?}");
            visit.requests() == 2
        });
        let about = format!("?{place}-{number} ");
        let lines = houses.logged("httpd.access", &about, 2);
        assert!(lines[0].starts_with("401 ") && lines[1].starts_with("101 "), "{lines:#?}");
        assert_eq!(parameter(&lines[1], "nc"), Some("00000001"));
        assert_ne!(parameter(&lines[0], " nonce"), parameter(&lines[1], " nonce"));
    }
}

#[test]
fn the_user_of_the_address() {
    let Some(houses) = Houses::find() else { return };
    for door in doors(&houses) {
        let with = |test: &str, password: &str| {
            let mut url = door.url(test);
            url.set_username(USER).unwrap();
            url.set_password(Some(password)).unwrap();
            url
        };
        let visit = Visit::new(&houses, &[], CredentialPersistence::None);
        assert!(visit.call(with("address", PASSWORD)).0.is_empty());
        door.expect_answers("?address", &[401, 101]);

        // The delegate is asked when that of the address was wrong.
        let visit = Visit::new(&houses, &[PASSWORD], CredentialPersistence::None);
        assert_eq!(visit.call(with("no-address", "open")).0, [format!("{} 1 -", door.challenge)]);
        door.expect_answers("?no-address", &[401, 401, 101]);
    }
}

#[test]
fn redirects_to_where_a_password_is_needed() {
    let Some(houses) = Houses::find() else { return };
    let basic = "challenge basic the upper house 0 -";
    let table = [
        ("relative", "/basic/", format!("ws://{}/basic/", houses.nginx()), basic, "nginx.access"),
        ("absolute", "/basic/", format!("ws://{}/basic/", houses.nginx()), basic, "nginx.access"),
        ("tls", "/basic/", format!("wss://{}/basic/", houses.nginx_tls()), basic, "nginx.access"),
        (
            "httpd",
            "/digest/",
            format!("ws://{}/digest/", houses.httpd()),
            "challenge digest the lower house 0 -",
            "httpd.access",
        ),
    ];
    for (way, path, target, challenge, log) in table {
        let visit = Visit::new(&houses, &[PASSWORD], CredentialPersistence::ForSession);
        // nginx and its TLS have one name for this one, so that the cookie is for both.
        let nginx = houses.nginx().replace("127.0.0.1", if way == "tls" { "localhost" } else { "127.0.0.1" });
        let from = |number: usize| Url::parse(&format!("ws://{nginx}/to/{way}?way-{way}-{number}")).unwrap();
        let (asked, url) = visit.call(from(1));
        assert_eq!(asked, [format!("redirect 301 {path}"), challenge.to_owned()], "{way}");
        assert_eq!(url.as_str(), format!("{target}?way-{way}-1"));
        assert_eq!(visit.requests(), 3);

        // The second time nobody is asked for a password.
        let (asked, _) = visit.call(from(2));
        assert_eq!(asked, [format!("redirect 301 {path}")], "{way}");
        assert_eq!(visit.requests(), 2);

        // The cookie of the redirect went with what followed it.
        for (number, statuses) in [(1, vec!["401", "101"]), (2, vec!["101"])] {
            let lines = houses.logged(log, &format!("{path}?way-{way}-{number} "), statuses.len());
            for (line, status) in lines.iter().zip(statuses) {
                assert!(line.starts_with(&format!("{status} ")) && line.contains(&format!(" way={way}")), "{line}");
            }
        }
    }
}

/// Neither server has said `charset=UTF-8`, and both compare bytes.
#[test]
fn a_user_who_is_not_ascii() {
    let Some(houses) = Houses::find() else { return };
    for door in doors(&houses) {
        let mut url = door.url("not-ascii");
        url.set_username(OTHER_USER).unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
        let visit = Visit::new(&houses, &[], CredentialPersistence::None);
        assert!(visit.call(url).0.is_empty());
        door.expect_answers("?not-ascii", &[401, 101]);
    }
}
