//! What the pages say of the code, where a program can tell: the codes of errors, and where links lead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use urlsession::{ErrorCode, ErrorDomain, ProxyConfiguration, SessionConfiguration, Url, UrlSession};

/// The codes by their names.
macro_rules! codes {
    ($($name:ident)*) => { [$((stringify!($name), ErrorCode::$name)),*] };
}

/// Whether this is all of them, the source says.
const CODES: [(&str, ErrorCode); 31] = codes! {
    Unknown Cancelled BadUrl TimedOut UnsupportedUrl CannotFindHost CannotConnectToHost NetworkConnectionLost DnsLookupFailed
    HttpTooManyRedirects NotConnectedToInternet RedirectToNonExistentLocation BadServerResponse UserCancelledAuthentication
    UserAuthenticationRequired CannotParseResponse DataLengthExceedsMaximum SecureConnectionFailed
    ServerCertificateHasBadDate ServerCertificateUntrusted ServerCertificateHasUnknownRoot ServerCertificateNotYetValid
    ClientCertificateRejected ClientCertificateRequired BrokenPipe MessageTooLong ConnectionAborted ConnectionReset
    NoBufferSpace NotConnected ProtocolError
};

/// Where the codes and the stages are declared.
const DECLARED: &str = "src/foundation/error.rs";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files below a folder that end so.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.to_string_lossy().ends_with(ending) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// What stands between two marks, the first of each that comes.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("there is no {from:?}"));
    rest.split_once(to).unwrap_or_else(|| panic!("there is no {to:?} behind {from:?}")).0
}

/// All that stand in backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Each declared code with its domain, its number and Apple's name.
fn declared() -> BTreeMap<String, (String, i32, String)> {
    let source = text(DECLARED);
    let mut codes = BTreeMap::new();
    let mut apples = "";
    for line in between(&source, "\nerror_codes! {\n", "\n}\n").lines().map(str::trim) {
        if let Some(documentation) = line.strip_prefix("/// ") {
            if apples.is_empty() {
                apples = quoted(documentation).first().copied().unwrap_or_default();
            }
            continue;
        }
        let (name, value) = line.split_once(" = ").unwrap_or_else(|| panic!("{line:?} declares no code"));
        let (domain, number) = value.trim_end_matches(',').split_once(' ').unwrap();
        let code = (domain.to_owned(), number.parse().unwrap(), std::mem::take(&mut apples).to_owned());
        assert!(codes.insert(name.to_owned(), code).is_none(), "{name} is declared twice");
    }
    codes
}

/// The cells of a table's row.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split('|').map(str::trim).collect())
}

/// The stages that the page has for each code; empty for one that no task ends with.
fn stages(page: &str) -> BTreeMap<&str, Vec<&str>> {
    let rows = between(page, "\n## The codes\n", "\n### ").lines().filter_map(cells).skip(2);
    rows.map(|row| (quoted(row[0])[0], quoted(row[3]))).collect()
}

#[test]
fn every_code_is_on_the_page_with_its_number() {
    let page = text("docs/errors.md");
    let declared = declared();
    let names: BTreeSet<&str> = CODES.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, declared.keys().map(String::as_str).collect(), "the list of this test");
    let table: Vec<Vec<&str>> =
        between(&page, "\n## The codes\n", "\n### ").lines().filter_map(cells).skip(2).collect();
    let documented: Vec<&str> = table.iter().map(|row| quoted(row[0])[0]).collect();
    assert_eq!(documented.len(), names.len(), "a code is there twice, or missing");
    assert_eq!(documented.iter().copied().collect::<BTreeSet<_>>(), names);
    for row in &table {
        let name = quoted(row[0])[0];
        let (_, code) = CODES.iter().find(|(known, _)| *known == name).unwrap();
        let number: i32 = row[1].replace('\u{2212}', "-").parse().unwrap();
        let domain = if number < 0 { ErrorDomain::Url } else { ErrorDomain::Posix };
        assert_eq!((code.raw_code(), code.domain()), (number, domain), "{name}");
        let (kind, declared_number, apples) = &declared[name];
        assert_eq!((format!("{domain:?}"), number), (kind.clone(), *declared_number), "{name}");
        assert_eq!(quoted(row[2]), [apples], "{name}");
        // The constants of POSIX are in capitals, the cases of Swift are not.
        assert_eq!(apples.starts_with('.'), number < 0, "{name}");
        assert_eq!(format!("{code:?}"), name);
        let told = page.matches(&format!("**`{name}`**")).count();
        assert_eq!(told, usize::from(!quoted(row[3]).is_empty()), "what is said of {name}");
    }
}

#[test]
fn every_stage_is_on_the_page() {
    let source = text(DECLARED);
    let declared: BTreeSet<&str> = between(&source, "pub enum ErrorStage {", "}")
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','))
        .filter(|name| name.chars().all(char::is_alphanumeric))
        .collect();
    assert!(declared.contains("Proxy"), "{declared:?}");
    let page = text("docs/errors.md");
    let documented: BTreeSet<&str> = between(&page, "\n| stage | |\n", "\n\n")
        .lines()
        .filter_map(cells)
        .skip(1)
        .map(|row| quoted(row[0])[0])
        .collect();
    assert_eq!(documented, declared);
    for (code, stages) in stages(&page) {
        let distinct: BTreeSet<&str> = stages.iter().copied().collect();
        assert!(distinct.len() == stages.len() && distinct.is_subset(&declared), "{code}: {stages:?}");
    }
}

/// Where the source makes an error of a code, the page must know of it, and of its stage where both stand together.
#[test]
fn what_the_source_makes_is_on_the_page() {
    let page = text("docs/errors.md");
    let stages = stages(&page);
    let mut made = BTreeSet::new();
    for path in files("src", ".rs") {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        if name == DECLARED || name.ends_with("/tests.rs") || name.contains("/tests/") {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        // What follows are the tests of the file.
        let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code = code.split("#[cfg(test)]\npub mod tests {").next().unwrap();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for piece in line.split("ErrorCode::").skip(1) {
                let end = piece.find(|character: char| !character.is_alphanumeric()).unwrap_or(piece.len());
                let (code, rest) = piece.split_at(end);
                let known = stages.get(code).unwrap_or_else(|| panic!("{name}: {code} is not on the page"));
                assert!(!known.is_empty(), "{name} makes an error of {code}, of which the page says that nobody does");
                made.insert(code.to_owned());
                if let Some(stage) = rest.strip_prefix(", ErrorStage::") {
                    let stage = stage.split(|character: char| !character.is_alphanumeric()).next().unwrap();
                    assert!(known.contains(&stage), "{name}: {code} at the stage {stage} is not on the page");
                }
            }
        }
    }
    let documented: BTreeSet<String> =
        stages.iter().filter(|(_, stages)| !stages.is_empty()).map(|(code, _)| (*code).to_owned()).collect();
    assert_eq!(made, documented, "the page has a code that nobody makes");
}

/// The text of an error at a proxy is the one that the page shows, but for the proxy and what the system says.
#[test]
fn an_error_at_a_proxy_reads_as_on_the_page() {
    let page = text("docs/errors.md");
    let shown = between(&page, "```text\n", "\n```").replace('\n', " ");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.proxy_configurations = Some(vec![ProxyConfiguration::http_connect("127.0.0.1", port)]);
    let session = UrlSession::new(configuration);
    let task = session.web_socket_task(Url::parse("wss://example.com/").unwrap());
    let (sender, receiver) = mpsc::channel();
    task.receive(move |message| sender.send(message).unwrap());
    task.resume();
    let error = receiver.recv_timeout(Duration::from_secs(20)).unwrap().unwrap_err().to_string();
    let place = format!("127.0.0.1:{port}");
    let expected = shown.replace("proxy.example.com:3128", &place).replace("192.0.2.1:3128", &place);
    let system = "Connection refused";
    let (begin, end) = (between(&expected, "", system), ": wss://example.com/");
    assert!(expected.ends_with(end) && begin.contains(&place), "{expected}");
    assert!(error.starts_with(begin) && error.ends_with(end), "{error}\n{expected}");
}

/// A heading, as it is linked to: lower case, `-` for spaces, and no other signs.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    let mut pages = files("docs", ".md");
    pages.extend(["README.md", "CHANGELOG.md"].map(|name| root().join(name)));
    let mut count = 0;
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        let inline = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let defined =
            text.lines().filter(|line| line.starts_with('[')).filter_map(|line| Some(line.split_once("]: ")?.1));
        for link in inline.chain(defined) {
            if link.contains("://") {
                continue;
            }
            let (path, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link}", page.display());
            if !place.is_empty() {
                let linked = fs::read_to_string(&target).unwrap();
                let mut headings = linked.lines().filter_map(|line| line.strip_prefix('#'));
                let is_there = headings.any(|heading| anchor(heading.trim_start_matches('#')) == place);
                assert!(is_there, "{}: {link}", page.display());
            }
            count += 1;
        }
    }
    assert!(count > 10, "only {count} links were found");
}

/// Every page is in the list of the README.
#[test]
fn every_page_is_listed() {
    let readme = text("README.md");
    for page in files("docs", ".md") {
        let name = page.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        if page.parent() == Some(&root().join("docs")) {
            assert!(readme.contains(&format!("]({name})")), "{name}");
        }
    }
}
