//! A host's addresses, raced on a clock that the test sets: `happy_eyeballs.json`.
//!
//! Where a source has another delay than RFC 8305 §8 recommends, its times are taken in proportion. Three lists have no place
//! here. What `cases_rfc6724_policy` and `cases_rfc6724_scope` are about, the system's resolver decides when it sorts; its order is
//! kept within a family. `cases_one_at_a_time` (RFC 6455 §4.1, item 2) is about several tasks with one host, and a loader knows
//! only its own.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use urlsession::internals::{
    Action, Common, Env, Epoch, Event, Loader, Proxies, Random, Settings, Spare, Supply, Traces,
};
use urlsession::{ErrorCode, SessionConfiguration, Url, UrlError, UrlRequest};

use super::{cases, equal, id, run_all, text};

const FILE: &str = "happy_eyeballs.json";

/// The Connection Attempt Delay, in milliseconds as all times here.
const DELAY: u64 = 250;

const IPV6_FIRST: &str = "IPv6 begins, whatever the resolver names first";
const ALTERNATE: &str =
    "families alternate from the first address on (RFC 8305 §4), the source exhausts one before the other";
const COUNT: &str = "the First Address Family Count is 1: RFC 8305 §8";
const FIXED: &str = "the delay is that of RFC 8305 §8, and no program sets it";
const LAST: &str = "of several failures the last has the word, for the source the first";

/// What becomes of an attempt, so long after its start.
enum Fate {
    Connects(u64),
    Fails(u64, String),
    Stalls,
}

/// The addresses that refuse at once.
fn refused() -> Fate {
    Fate::Fails(0, "refused".to_owned())
}

/// What came of a race.
#[derive(Debug)]
struct Course {
    /// When which attempt began.
    starts: Vec<(u64, IpAddr)>,
    failures: Vec<(u64, IpAddr)>,
    /// How many ran together, at most.
    together: usize,
    /// Those that ran at the end.
    left: Vec<IpAddr>,
    /// When it was decided…
    at: u64,
    /// …for this one, or for none.
    result: Result<IpAddr, UrlError>,
}

impl Course {
    fn order(&self) -> Vec<IpAddr> {
        self.starts.iter().map(|(_, ip)| *ip).collect()
    }

    fn family(&self) -> Option<&'static str> {
        self.result.as_ref().ok().map(|winner| if winner.is_ipv6() { "v6" } else { "v4" })
    }

    fn error(&self) -> Option<&UrlError> {
        self.result.as_ref().err()
    }
}

struct Task {
    loader: Loader,
    supply: Supply,
    spare: Spare,
    events: Vec<Event>,
    begun: Instant,
    now: u64,
}

impl Task {
    fn resumed() -> Self {
        let begun = Instant::now();
        let common = Arc::new(Common::new(&SessionConfiguration::ephemeral(), Proxies::new(None, |_| None)));
        let request = Arc::new(UrlRequest::new(Url::parse("ws://several.test/").unwrap()));
        let epoch = Epoch { instant: begun, date: SystemTime::UNIX_EPOCH };
        let mut task = Self {
            loader: Loader::new(Settings { request, common, epoch }, 1024),
            supply: Supply::new(Random::new(|bytes| bytes.fill(7))),
            spare: Spare::default(),
            events: Vec::new(),
            begun,
            now: 0,
        };
        task.step(|loader, env| loader.start(env, None));
        task
    }

    fn step(&mut self, step: impl FnOnce(&mut Loader, &mut Env<'_>)) {
        let Self { loader, supply, spare, events, begun, now } = self;
        step(
            loader,
            &mut Env {
                now: *begun + Duration::from_millis(*now),
                supply,
                spare,
                events,
                traces: &mut Traces::default(),
            },
        );
    }

    fn deadline(&self) -> Option<u64> {
        let deadline = self.loader.next_deadline()?.duration_since(self.begun);
        Some(u64::try_from(deadline.as_millis()).unwrap())
    }

    fn error(&self) -> Option<UrlError> {
        self.events.iter().find_map(|event| match event {
            Event::End(end) => end.error.clone(),
            _ => None,
        })
    }
}

/// The race between what the resolver names, in its order.
fn race(addresses: &[IpAddr], fate: impl Fn(IpAddr) -> Fate) -> Course {
    race_until(addresses, fate, u64::MAX)
}

/// The same, cancelled at `cancel` if nothing is decided by then.
fn race_until(addresses: &[IpAddr], fate: impl Fn(IpAddr) -> Fate, cancel: u64) -> Course {
    let mut task = Task::resumed();
    let (mut starts, mut failures, mut together) = (Vec::new(), Vec::new(), 0);
    // When something becomes of it, its number, and what that is.
    let mut running: Vec<(u64, u32, SocketAddr, Fate)> = Vec::new();
    loop {
        while let Some(action) = task.loader.next_action() {
            match action {
                Action::Resolve { look_up, port, .. } => {
                    let answer = addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
                    task.step(|loader, env| loader.resolved(env, look_up, Ok(answer)));
                }
                Action::Connect { attempt, address } => {
                    let fate = fate(address.ip());
                    let due = match fate {
                        Fate::Connects(delay) | Fate::Fails(delay, _) => task.now + delay,
                        Fate::Stalls => u64::MAX,
                    };
                    starts.push((task.now, address.ip()));
                    running.push((due, attempt, address, fate));
                    together = together.max(running.len());
                }
                Action::Disconnect => {}
            }
        }
        let left = |running: &[(u64, u32, SocketAddr, Fate)]| running.iter().map(|entry| entry.2.ip()).collect();
        if let Some(error) = task.error() {
            return Course { starts, failures, together, left: left(&running), at: task.now, result: Err(error) };
        }
        let next = running.iter().enumerate().min_by_key(|(_, entry)| (entry.0, entry.1));
        let (next, due) = next.map_or((0, u64::MAX), |(index, entry)| (index, entry.0));
        let deadline = task.deadline().unwrap_or(u64::MAX);
        assert!(due.min(deadline) < u64::MAX, "nothing happens any more");
        task.now = due.min(deadline).min(cancel);
        if task.now == cancel {
            task.step(|loader, env| loader.cancel(env));
        } else if deadline < due {
            task.step(|loader, env| loader.handle_timeout(env));
        } else {
            let (_, attempt, address, fate) = running.remove(next);
            if let Fate::Fails(_, why) = fate {
                failures.push((task.now, address.ip()));
                let error = io::Error::new(ErrorKind::ConnectionRefused, why);
                task.step(|loader, env| loader.connect_failed(env, attempt, error));
                continue;
            }
            task.step(|loader, env| loader.connected(env, attempt, None, Some(address)));
            // It is the race's end: the others may say what they want, and nobody else starts.
            for (_, attempt, address, _) in &running {
                assert!(!task.loader.awaits_connection(*attempt));
                task.step(|loader, env| loader.connected(env, *attempt, None, Some(*address)));
                let error = ErrorKind::ConnectionRefused.into();
                task.step(|loader, env| loader.connect_failed(env, *attempt, error));
            }
            task.now += DELAY;
            task.step(|loader, env| loader.handle_timeout(env));
            assert!(task.loader.next_action().is_none() && task.error().is_none());
            let at = task.now - DELAY;
            return Course { starts, failures, together, left: left(&running), at, result: Ok(address.ip()) };
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}

fn ips(value: &Value) -> Vec<IpAddr> {
    value.as_array().unwrap().iter().map(|address| ip(address.as_str().unwrap())).collect()
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} is no number: {value}"))
}

#[test]
fn parameters() {
    let Some(mut cases) = cases(FILE, "rfc8305_parameters", 6) else { return };
    for case in &mut cases {
        case["id"] = case["name"].clone();
    }
    let differences = [("Resolution Delay", "the system's resolver answers once, with both families")];
    let addresses = ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map(ip);
    let course = race(&addresses, |ip| if ip.is_ipv4() { Fate::Connects(10) } else { Fate::Stalls });
    let delay = course.starts[1].0;
    run_all(&cases, &differences, |case| match id(case) {
        "Connection Attempt Delay" => equal("the delay", format!("{delay} ms").as_str(), text(case, "value")),
        "Minimum Connection Attempt Delay" => equal("100 ms or more", delay >= 100, true),
        "Maximum Connection Attempt Delay" => equal("2 s or less", delay <= 2000, true),
        "First Address Family Count" => equal("the order", course.order(), vec![addresses[0], addresses[2]]),
        "after success" => equal("those that are given up", &course.left, &vec![addresses[0]]),
        name => Err(format!("there is no {name}")),
    });
}

#[test]
fn attempts_that_all_fail() {
    let Some(cases) = cases(FILE, "cases_curl", 10) else { return };
    let differences = [("curl-he-10", "all that have had their turn run together, for the source no more than 6")];
    run_all(&cases, &differences, |case| {
        let own = number(case, "happy_eyeballs_timeout_ms");
        let scaled = |key: &str| number(case, key) * DELAY / own;
        // Which family it is to be, a resolver is told.
        let wanted = |ip: &IpAddr| match text(case, "ip_version") {
            "v4 only" => ip.is_ipv4(),
            "v6 only" => ip.is_ipv6(),
            _ => true,
        };
        let addresses: Vec<IpAddr> = ips(&case["resolve"]["addresses"]).into_iter().filter(wanted).collect();
        let course = race(&addresses, |ip| {
            let key = if ip.is_ipv6() { "v6_attempt_fails_after_ms" } else { "v4_attempt_fails_after_ms" };
            Fate::Fails(scaled(key), "refused".to_owned())
        });
        type Starts = Vec<(u64, IpAddr)>;
        let (six, four): (Starts, Starts) = course.starts.iter().copied().partition(|(_, ip)| ip.is_ipv6());
        equal("attempts", six.len() as u64, number(case, "expect_v6_attempts"))?;
        equal("attempts", four.len() as u64, number(case, "expect_v4_attempts"))?;
        equal("long enough", course.at >= scaled("min_duration_ms"), true)?;
        equal("short enough", course.at <= number(case, "max_duration_ms"), true)?;
        equal("so many together", course.together as u64 <= number(case, "max_concurrent"), true)?;
        if case["preferred_family"] == "v6" {
            equal("the first of each family", (six[0].0, four[0].0), (0, DELAY))?;
        }
        equal("the result", text(case, "result"), "CURLE_COULDNT_CONNECT")?;
        equal("the error", course.error().map(UrlError::code), Some(ErrorCode::CannotConnectToHost))
    });
}

/// Plans are addresses of one family, so that they have their turns in the source's order. One that was connected before is
/// one that connects at once.
#[test]
fn timelines() {
    const ONE: &str = "a task takes one connection";
    const ONCE: &str = "an address has one turn, and where TLS fails the task has failed";
    let Some(cases) = cases(FILE, "cases_okhttp", 21) else { return };
    let differences = [
        ("okhttp-takeMultipleConnections", ONE),
        ("okhttp-takeMultipleConnectionsReturnsRaceLoser", ONE),
        ("okhttp-firstConnectionFailsToConnectAndSecondFailureIsSuppressedException", LAST),
        ("okhttp-firstConnectionCrashesWithUncheckedException", "every failure gives the next address its turn"),
        ("okhttp-retryConnectionThatLostTcpRaceAfterWinnersTlsFails", ONCE),
        ("okhttp-tcpConnectFollowUpPlanUsed", ONCE),
        ("okhttp-tlsConnectFollowUpPlanUsed", ONCE),
        ("okhttp-tcpConnectionsRaceAfterTlsFails", ONCE),
        (
            "okhttp-minimumDelayEnforcedBetweenConnects",
            "a failure gives the next address its turn at once, for the source only the failure of all that run",
        ),
        ("okhttp-reusePlanAndNewConnectRace", "there are no connections of other tasks to take"),
    ];
    run_all(&cases, &differences, |case| {
        let plans: Vec<&Value> = case["plans"].as_array().unwrap().iter().collect();
        let address = |plan: u64| ip(&format!("192.0.2.{plan}"));
        let own = plans.iter().filter(|plan| plan["derived"].is_null());
        let addresses: Vec<IpAddr> = own.map(|plan| address(number(plan, "plan"))).collect();
        let course = race(&addresses, |ip| {
            let plan = plans.iter().find(|plan| address(number(plan, "plan")) == ip).unwrap();
            let delay = plan["tcp_connect_delay_ms"].as_u64().unwrap_or(0);
            match plan["tcp_connect_error"].as_str().or_else(|| plan["planning_error"].as_str()) {
                Some(error) => Fate::Fails(delay, error.to_owned()),
                None => Fate::Connects(delay),
            }
        });
        let (mut starts, mut failures, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for moment in case["timeline"].as_array().unwrap() {
            for event in moment["events"].as_array().unwrap() {
                let (at, event) = (number(moment, "at_ms"), event.as_str().unwrap());
                let words: Vec<&str> = event.split(' ').collect();
                let plan = words.iter().find_map(|word| word.parse().ok()).unwrap();
                match words.as_slice() {
                    ["take", ..] => starts.push((at, address(plan))),
                    // One that comes from another is not taken.
                    [.., "TCP", "connecting..."] if !plans[plan as usize]["derived"].is_null() => {
                        starts.push((at, address(plan)));
                    }
                    [.., "TCP", "connect", "failed"] => failures.push((at, address(plan))),
                    [.., "cancel"] => left.push(address(plan)),
                    _ => {}
                }
            }
        }
        // That one failed before it connected, the source's timeline does not tell.
        failures.extend(plans.iter().filter(|plan| plan["planning_error"].is_string()).map(|_| (0, address(0))));
        equal("the starts", &course.starts, &starts)?;
        equal("the failures", &course.failures, &failures)?;
        equal("those that are given up", &course.left, &left)?;
        match case["fails_with"].as_str() {
            Some(error) => {
                let said = course.error().is_some_and(|failure| failure.reason().contains(error));
                equal("the error", said, true)
            }
            None => equal("the winner", course.result.ok(), case["winner"].as_u64().map(address)),
        }
    });
}

#[test]
fn slow_and_unreachable_addresses() {
    let Some(cases) = cases(FILE, "cases_go", 13) else { return };
    let slow = [("slowDst4", "198.18.0.254"), ("slowDst6", "2001:2::254")];
    run_all(&cases, &[("go-dialparallel-05", IPV6_FIRST)], |case| {
        let list = |key: &str| match &case[key] {
            Value::Array(names) => names.iter().map(|name| name.as_str().unwrap()).collect(),
            copies => vec![text(copies, "address"); number(copies, "copies") as usize],
        };
        let known =
            |name: &str| slow.iter().find(|(slow, _)| *slow == name).map_or(name, |(_, address)| *address).parse();
        let addresses: Vec<IpAddr> =
            [list("primaries"), list("fallbacks")].concat().into_iter().flat_map(known).collect();
        let fate = |address: IpAddr| match case["unreachable_family"].as_str() {
            _ if slow.iter().any(|(_, slow)| ip(slow) == address) => Fate::Stalls,
            Some("tcp6") if address.is_ipv6() => refused(),
            Some("tcp4") if address.is_ipv4() => refused(),
            _ => Fate::Connects(0),
        };
        let course = race(&addresses, fate);
        equal("connected", course.result.is_ok(), case["expect_ok"] == true)?;
        let least = number(case, "min_elapsed_ms") * DELAY / number(case, "fallback_delay_ms");
        equal("long enough", course.at >= least, true)?;
        equal("at once", least > 0 || course.at == 0, true)?;
        // Wherever it would hang, it can be cancelled.
        let cancelled = race_until(&addresses, |_| Fate::Stalls, 5);
        let code = if addresses.is_empty() { ErrorCode::CannotFindHost } else { ErrorCode::Cancelled };
        equal("the error", cancelled.error().map(UrlError::code), Some(code))
    });
}

#[test]
fn delays() {
    let Some(cases) = cases(FILE, "cases_go_delay", 3) else { return };
    // What the second one expects, 200 ms, leaves room for 250.
    run_all(&cases, &[("go-fallbackdelay-1", FIXED), ("go-fallbackdelay-3", FIXED)], |case| {
        let course =
            race(
                &["2001:2::254", "127.0.0.1"].map(ip),
                |ip| {
                    if ip.is_ipv6() { Fate::Stalls } else { Fate::Connects(0) }
                },
            );
        equal("the winner", course.family(), Some("v4"))?;
        let late = course.at as i64 - case["expect_ms"].as_i64().unwrap();
        let tolerance = [0, 1].map(|index| case["tolerance_ms"][index].as_i64().unwrap());
        equal("in time", (tolerance[0]..=tolerance[1]).contains(&late), true)
    });
}

#[test]
fn orders() {
    let Some(cases) = cases(FILE, "cases_interleave", 6) else { return };
    run_all(&cases, &[("aiohe-interleave-3", IPV6_FIRST), ("aiohe-interleave-6", COUNT)], |case| {
        equal("the order", race(&ips(&case["input"]), |_| refused()).order(), ips(&case["output"]))
    });
}

#[test]
fn orders_where_some_fail() {
    let Some(cases) = cases(FILE, "cases_connect_order", 5) else { return };
    run_all(&cases, &[("aiohe-first_ipv6_fails_count_2", COUNT), ("aiohe-all_fail", LAST)], |case| {
        let (addresses, fails) = (ips(&case["addresses"]), case["fails"][0].as_str().unwrap());
        let course = race(&addresses, |address| match fails {
            "every IPv6 socket" if address.is_ipv6() => refused(),
            "every IPv4 socket" if address.is_ipv4() => refused(),
            "both, with errors err1 and err2" => {
                Fate::Fails(0, if address == addresses[0] { "err1" } else { "err2" }.to_owned())
            }
            failing if failing.parse() == Ok(address) => refused(),
            _ => Fate::Connects(0),
        });
        if !case["attempts"].is_null() {
            equal("the attempts", course.order(), ips(&case["attempts"]))?;
        }
        match case["winner_family"].as_str() {
            Some(family) => equal("the winner", course.family(), Some(family)),
            None => equal("the first error", course.error().unwrap().reason().contains("err1"), true),
        }
    });
}

#[test]
fn winners_and_how_long_they_took() {
    let Some(cases) = cases(FILE, "cases_hyper_util", 12) else { return };
    let differences = [
        ("hyper-he-03", IPV6_FIRST),
        ("hyper-he-07", IPV6_FIRST),
        ("hyper-he-08", ALTERNATE),
        ("hyper-he-09", IPV6_FIRST),
    ];
    run_all(&cases, &differences, |case| {
        const FAILING: u64 = 10;
        let course = race(&ips(&case["addresses"]), |ip| match ip.to_string().as_str() {
            "127.0.0.1" | "::1" => Fate::Connects(0),
            "127.0.0.2" | "::2" => Fate::Fails(FAILING, "unreachable".to_owned()),
            _ => Fate::Stalls,
        });
        let expected = text(case, "elapsed").split(" + ").map(|part| match part {
            "0" => 0,
            "happy eyeballs delay" => DELAY,
            "time of U4 failing" | "time of U6 failing" => FAILING,
            other => panic!("{other}"),
        });
        equal("the winner", course.family(), case["winner_family"].as_str())?;
        equal("how long it took", course.at, expected.sum())
    });
}

#[test]
fn races_of_web_sockets() {
    let Some(cases) = cases(FILE, "cases_chromium", 10) else { return };
    let differences = [
        ("chromium-ws-IPv6NoIPv4AddressesToFallbackTo", "addresses of one family race, too: RFC 8305 §5"),
        ("chromium-tcp-IPv6FallbackSocketIPv4FinishesFirst", ALTERNATE),
    ];
    run_all(&cases, &differences, |case| {
        let addresses = ips(&case["addresses"]);
        let course = race(&addresses, |ip| {
            let behaviour = &case["behaviour"];
            let own = behaviour.as_object().unwrap().iter().find(|(key, _)| key.parse() == Ok(ip));
            let common = || behaviour["all"].as_str().or_else(|| behaviour["both"].as_str());
            match own.and_then(|(_, own)| own.as_str()).or_else(common).unwrap() {
                "connects" => Fate::Connects(0),
                "connects 50 ms after the fallback time" | "slow, connects" => Fate::Connects(DELAY + 50),
                "fails" | "fails at once" => refused(),
                "fails soon" => Fate::Fails(10, "refused".to_owned()),
                "fails after 100 ms" => Fate::Fails(100, "refused".to_owned()),
                "stalls" => Fate::Stalls,
                "under test control, IPv4 first then IPv6" => {
                    Fate::Connects(if ip.is_ipv4() { 50 } else { DELAY + 100 })
                }
                other => panic!("{other}"),
            }
        });
        if let Some(sockets) = case["sockets"].as_u64() {
            equal("sockets", course.starts.len() as u64, sockets)?;
        }
        if !case["reported_failures"].is_null() {
            let failures: Vec<IpAddr> = course.failures.iter().map(|(_, ip)| *ip).collect();
            equal("failures", failures, ips(&case["reported_failures"]))?;
        }
        match id(case) {
            "chromium-ws-IPv6RapidFail" => equal("before the delay is over", course.at < DELAY, true)?,
            "chromium-ws-LastFailureWins" => {
                equal("late enough", course.at >= 500, true)?;
                equal("reported", course.failures.len(), addresses.len())?;
                let (_, last) = course.failures.last().unwrap();
                equal("the last", course.error().unwrap().reason().contains(&format!("[{last}]")), true)?;
            }
            _ => {}
        }
        match (case["winner"].as_str(), case["winner_family"].as_str()) {
            (Some(winner), _) => equal("the winner", course.result.ok(), Some(ip(winner))),
            (None, family) => equal("the winner", course.family(), family),
        }
    });
}

/// Each order of what the resolver may say.
#[test]
fn sorted_addresses() {
    const SYSTEM: &str = "the system's resolver sorts by the source of each address, and here families alternate";
    let Some(cases) = cases(FILE, "cases_rfc6724_sort", 5) else { return };
    run_all(&cases, &[("go-rfc6724-sort-02", SYSTEM), ("go-rfc6724-sort-04", SYSTEM)], |case| {
        let candidates = case["candidates"].as_array().unwrap();
        let mut addresses: Vec<IpAddr> = candidates.iter().map(|pair| ip(text(pair, "destination"))).collect();
        for _ in 0..if case["also_reversed"] == true { 2 } else { 1 } {
            equal("the order", race(&addresses, |_| refused()).order(), ips(&case["sorted"]))?;
            addresses.reverse();
        }
        Ok(())
    });
}
