//! `docs/porting.md` against the crate: every name in its tables exists, every public item is in its tables, says its Swift
//! name where it has one, and is used by a test or an example.
//!
//! The public interface is read from the sources, behind every feature. Of traits that types implement only `Default` counts:
//! it is how some of Swift's initializers and class properties are spelled.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::buffer::{Cursor, TokenBuffer};
use syn::{Attribute, Expr, ExprLit, Fields, ImplItem, Item, Lit, Meta, TraitItem, Type, UseTree, Visibility};

const PAGE: &str = "docs/porting.md";

/// Below this heading stand the items that Apple has no name for.
const BEYOND: &str = "Beyond Apple";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse(path: &Path) -> syn::File {
    syn::parse_file(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

// The crate.

/// What an item is: how a program uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Named by itself.
    Type,
    /// `Type::name`: a variant, a constant, a function without a receiver.
    Associated,
    /// `value.name`: a method or a field.
    Member,
    /// `fn name`: a method that a program's delegate has.
    Provided,
}

#[derive(Debug)]
struct PublicItem {
    kind: Kind,
    /// The first paragraph of its documentation.
    says: String,
}

/// The items by their paths: `Type` or `Type::name`.
type Interface = BTreeMap<String, PublicItem>;

/// The whole public interface; and the types that have a `Default`.
fn interface() -> (Interface, BTreeSet<String>) {
    let mut reader = Reader { exported: exported(), interface: Interface::new(), defaults: BTreeSet::new() };
    for path in sources("src") {
        reader.items(parse(&path).items);
    }
    for name in &reader.exported {
        // `Url` is another crate's.
        assert!(name == "Url" || reader.interface.contains_key(name), "where is {name} declared?");
    }
    (reader.interface, reader.defaults)
}

/// The names that the root of the crate exports.
fn exported() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for item in parse(&root().join("src/lib.rs")).items {
        if let Item::Use(item) = item
            && is_public(&item.vis)
        {
            leaves(&item.tree, &mut names);
        }
    }
    assert!(names.contains("UrlSession") && names.len() > 30, "{names:?}");
    names
}

fn leaves(tree: &UseTree, names: &mut BTreeSet<String>) {
    match tree {
        UseTree::Path(path) => leaves(&path.tree, names),
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, names)),
        UseTree::Name(name) => assert!(names.insert(name.ident.to_string()), "{} twice", name.ident),
        UseTree::Rename(_) | UseTree::Glob(_) => panic!("the root of the crate exports its items by their names"),
    }
}

struct Reader {
    exported: BTreeSet<String>,
    interface: Interface,
    defaults: BTreeSet<String>,
}

impl Reader {
    fn items(&mut self, items: Vec<Item>) {
        for item in items {
            self.item(item);
        }
    }

    fn item(&mut self, item: Item) {
        match item {
            Item::Mod(module) if !is_of_tests(&module.attrs) => {
                self.items(module.content.map(|(_, items)| items).unwrap_or_default());
            }
            Item::Struct(item) if self.is_exported(&item.vis, &item.ident.to_string()) => {
                let name = item.ident.to_string();
                self.derived(&name, &item.attrs);
                self.insert(name.clone(), Kind::Type, &item.attrs);
                if let Fields::Named(fields) = item.fields {
                    for field in fields.named.iter().filter(|field| is_public(&field.vis)) {
                        let field_name = field.ident.as_ref().expect("it has a name");
                        self.insert(format!("{name}::{field_name}"), Kind::Member, &field.attrs);
                    }
                }
            }
            Item::Enum(item) if self.is_exported(&item.vis, &item.ident.to_string()) => {
                let name = item.ident.to_string();
                self.derived(&name, &item.attrs);
                self.insert(name.clone(), Kind::Type, &item.attrs);
                for variant in item.variants {
                    self.insert(format!("{name}::{}", variant.ident), Kind::Associated, &variant.attrs);
                }
            }
            Item::Type(item) if self.is_exported(&item.vis, &item.ident.to_string()) => {
                self.insert(item.ident.to_string(), Kind::Type, &item.attrs);
            }
            Item::Trait(item) if self.is_exported(&item.vis, &item.ident.to_string()) => {
                let name = item.ident.to_string();
                self.insert(name.clone(), Kind::Type, &item.attrs);
                for item in item.items {
                    if let TraitItem::Fn(method) = item {
                        self.insert(format!("{name}::{}", method.sig.ident), Kind::Provided, &method.attrs);
                    }
                }
            }
            Item::Impl(item) if !is_of_tests(&item.attrs) => self.implementation(item),
            // A type that a macro makes is read from what the macro is called with.
            Item::Macro(item) if item.mac.path.is_ident("error_codes") => self.error_codes(item.mac),
            _ => {}
        }
    }

    fn implementation(&mut self, item: syn::ItemImpl) {
        let Type::Path(path) = &*item.self_ty else { return };
        let Some(name) = path.path.segments.last().map(|segment| segment.ident.to_string()) else { return };
        if !self.exported.contains(&name) {
            return;
        }
        if let Some((_, path, _)) = item.trait_ {
            if path.is_ident("Default") {
                self.defaults.insert(name);
            }
            return;
        }
        for item in item.items {
            match item {
                ImplItem::Fn(function) if is_public(&function.vis) => {
                    let kind = if function.sig.receiver().is_some() { Kind::Member } else { Kind::Associated };
                    self.insert(format!("{name}::{}", function.sig.ident), kind, &function.attrs);
                }
                ImplItem::Const(constant) if is_public(&constant.vis) => {
                    self.insert(format!("{name}::{}", constant.ident), Kind::Associated, &constant.attrs);
                }
                _ => {}
            }
        }
    }

    /// `ErrorCode`: each `/// text`, `Name = Domain number,`; its two methods and its own text are in the macro's rule.
    fn error_codes(&mut self, mac: syn::Macro) {
        let parse = |input: syn::parse::ParseStream<'_>| {
            let mut codes = Vec::new();
            while !input.is_empty() {
                let attributes = input.call(Attribute::parse_outer)?;
                let name: syn::Ident = input.parse()?;
                input.parse::<syn::Token![=]>()?;
                input.parse::<syn::Ident>()?;
                input.parse::<Lit>()?;
                input.parse::<syn::Token![,]>()?;
                codes.push((name.to_string(), attributes));
            }
            Ok(codes)
        };
        let codes = syn::parse::Parser::parse2(parse, mac.tokens).expect("codes");
        assert!(codes.len() > 30, "only {} codes were found", codes.len());
        for (name, attributes) in codes {
            self.insert(format!("ErrorCode::{name}"), Kind::Associated, &attributes);
        }
        let says = |says: &str| says.to_owned();
        let rule = [
            ("ErrorCode", Kind::Type, "`URLError.Code` and the `POSIXErrorCode`s that a WebSocket task ends with."),
            ("ErrorCode::domain", Kind::Member, "Beyond Apple: the domain that the number belongs to."),
            ("ErrorCode::raw_code", Kind::Member, "`rawValue`: Apple's number, the same on every platform."),
        ];
        let source = read(&root().join("src/foundation/error.rs"));
        for (path, kind, text) in rule {
            assert!(source.contains(&format!("/// {text}\n")), "{path} says something else");
            self.interface.insert(path.to_owned(), PublicItem { kind, says: says(text) });
        }
    }

    fn is_exported(&self, visibility: &Visibility, name: &str) -> bool {
        is_public(visibility) && self.exported.contains(name)
    }

    fn derived(&mut self, name: &str, attributes: &[Attribute]) {
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
            let _ = attribute.parse_nested_meta(|derived| {
                if derived.path.is_ident("Default") {
                    self.defaults.insert(name.to_owned());
                }
                Ok(())
            });
        }
    }

    fn insert(&mut self, path: String, kind: Kind, attributes: &[Attribute]) {
        if is_of_tests(attributes) || is_hidden(attributes) {
            return;
        }
        let says = first_paragraph(attributes);
        let before = self.interface.insert(path.clone(), PublicItem { kind, says });
        assert!(before.is_none(), "{path} is declared twice");
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn is_of_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

fn is_hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("doc")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("hidden"))
    })
}

fn first_paragraph(attributes: &[Attribute]) -> String {
    let mut paragraph = String::new();
    for attribute in attributes {
        if let Meta::NameValue(pair) = &attribute.meta
            && pair.path.is_ident("doc")
            && let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value
        {
            let text = text.value();
            if text.trim().is_empty() {
                break;
            }
            paragraph.push_str(&text);
        }
    }
    paragraph
}

// The page.

/// A row of a table: Swift's names, and those of Rust by their paths; none, where there are none.
#[derive(Debug)]
struct Row {
    swift: Vec<String>,
    rust: Vec<String>,
    /// Why there is none, and what to write instead.
    text: String,
}

/// The table of one of Apple's types.
#[derive(Debug)]
struct Table {
    swift: String,
    rust: Option<String>,
    rows: Vec<Row>,
}

#[derive(Debug, Default)]
struct Page {
    tables: Vec<Table>,
    /// The paths of the items that Apple has no name for.
    beyond: Vec<String>,
}

impl Page {
    /// Each `### ` with a backquoted name begins the table of a type; `## Beyond Apple` begins the rest.
    fn new(text: &str) -> Self {
        let mut page = Self::default();
        let mut is_beyond = false;
        let mut is_program = false;
        for line in text.lines() {
            is_program ^= line.starts_with("```");
            if is_program {
                continue;
            }
            if let Some(heading) = line.strip_prefix("## ") {
                is_beyond = heading == BEYOND;
            } else if let Some(heading) = line.strip_prefix("### `") {
                let (swift, rust) = heading.split_once("`: ").unwrap_or_else(|| panic!("{line}"));
                let rust = (rust != "none").then(|| quoted(rust)[0].to_owned());
                page.tables.push(Table { swift: swift.to_owned(), rust, rows: Vec::new() });
            } else if let Some(cells) = cells(line) {
                if is_beyond {
                    page.beyond.extend(quoted(cells[0]).into_iter().map(str::to_owned));
                } else if let [swift, rust, text] = cells[..]
                    && swift.starts_with('`')
                    && let Some(table) = page.tables.last_mut()
                {
                    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
                    assert!(rust.starts_with('`') || rust == "none", "{line}");
                    let paths = quoted(rust).into_iter().map(|name| table.path(name)).collect();
                    table.rows.push(Row { swift: owned(quoted(swift)), rust: paths, text: text.to_owned() });
                }
            }
        }
        page
    }
}

impl Table {
    /// A name of the table stands for a member of its type, or for a type.
    fn path(&self, name: &str) -> String {
        let is_type = ["ChallengeHandler", "RedirectionHandler", "TaskFuture"].contains(&name);
        match &self.rust {
            Some(owner) if !is_type && !name.contains("::") => format!("{owner}::{name}"),
            _ => name.to_owned(),
        }
    }
}

/// The cells of a table's row.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split('|').map(str::trim).collect())
}

/// All that stand in backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// By what a Swift name is compared: methods without the labels of their arguments, but for initializers and those of
/// delegates, which have nothing else to be told apart by.
fn key(swift: &str) -> String {
    let name = swift.trim_start_matches('.').trim_start_matches("class func ").trim_start_matches("class var ");
    let name = name.trim_start_matches("class ");
    let is_word = |character: char| character.is_alphanumeric() || character == '_' || character == '…';
    let end = name.find(|character| !is_word(character)).unwrap_or(name.len());
    let (word, rest) = name.split_at(end);
    let rest = rest.trim_start_matches('?');
    if rest.contains(" async throws") {
        return format!("{word} async");
    }
    let is_labelled = rest.contains(':') || rest.starts_with("()");
    let is_initializer = word == "init" || word.starts_with(char::is_uppercase) && is_labelled;
    match rest.strip_prefix('(') {
        Some(arguments) if is_initializer => format!("init({})", labels(arguments)),
        Some(arguments) if word == "urlSession" => format!("urlSession({})", labels(arguments)),
        _ if word.is_empty() || rest.starts_with([' ', '.']) && !rest.starts_with(" =") => name.to_owned(),
        _ => word.to_owned(),
    }
}

/// The labels of arguments, with or without types: `_:task:`.
fn labels(arguments: &str) -> String {
    let arguments = arguments.split(')').next().unwrap_or_default();
    let (before, _) = arguments.rsplit_once(':').unwrap_or_default();
    let words = before.split(':').filter_map(|piece| piece.split([' ', ',']).next_back());
    words.filter(|word| !word.is_empty()).map(|word| format!("{word}:")).collect()
}

/// Whether a documentation says a Swift name.
fn says(documentation: &str, swift: &str) -> bool {
    quoted(documentation).iter().any(|span| {
        let last = span.split('(').next().and_then(|name| name.rfind('.')).map_or(*span, |dot| &span[dot + 1..]);
        *span == swift || key(span) == key(swift) || key(last) == key(swift) || span.ends_with(swift)
    })
}

// The check.

/// What is wrong between the page and the crate.
fn disagreements(page: &Page, interface: &Interface, defaults: &BTreeSet<String>) -> Vec<String> {
    let mut findings = Vec::new();
    let mut mapped = BTreeSet::new();
    let exists = |path: &str| {
        let is_default = path.strip_suffix("::default").is_some_and(|owner| defaults.contains(owner));
        interface.contains_key(path) || is_default
    };
    for table in &page.tables {
        if let Some(owner) = &table.rust {
            match interface.get(owner) {
                None => findings.push(format!("{owner} is on the page and not in the crate")),
                Some(item) if !quoted(&item.says).contains(&&*table.swift) => {
                    findings.push(format!("the documentation of {owner} does not say `{}`", table.swift));
                }
                Some(_) => {}
            }
            mapped.insert(owner.as_str());
        }
        if table.rows.is_empty() {
            findings.push(format!("the table of `{}` is empty", table.swift));
        }
        for row in &table.rows {
            if row.rust.is_empty() && row.text.is_empty() {
                findings.push(format!("`{}`.`{}`: why not?", table.swift, row.swift[0]));
            }
            for path in &row.rust {
                mapped.insert(path.as_str());
                if !exists(path) {
                    findings.push(format!("{path} is on the page and not in the crate"));
                } else if let Some(item) = interface.get(path)
                    && !row.swift.iter().any(|swift| says(&item.says, swift))
                {
                    findings.push(format!("the documentation of {path} says none of {:?}", row.swift));
                }
            }
        }
    }
    for path in &page.beyond {
        if !exists(path) {
            findings.push(format!("{path} is on the page and not in the crate"));
        }
        // What a type that is said to be beyond Apple has, is so, too.
        let owner = path.split("::").next().unwrap_or(path);
        let is_said = |path: &str| interface.get(path).is_some_and(|item| item.says.contains("Beyond Apple"));
        if exists(path) && !is_said(path) && !(page.beyond.iter().any(|other| other == owner) && is_said(owner)) {
            findings.push(format!("the documentation of {path} does not say that it is beyond Apple"));
        }
        if !mapped.insert(path) {
            findings.push(format!("{path} is on the page twice, or has a Swift name and is beyond Apple"));
        }
    }
    for path in interface.keys().filter(|path| !mapped.contains(path.as_str())) {
        findings.push(format!("{path} is in the crate and not on the page"));
    }
    findings
}

/// The items that no program of these uses, by their names. `code` is what [`tokens`] makes.
fn unused(interface: &Interface, code: &str) -> Vec<String> {
    let used = |(path, item): &(&String, &PublicItem)| {
        let name = path.rsplit("::").next().unwrap_or(path);
        let path = format!(" {} ", path.replace("::", " : : "));
        code.contains(&path)
            || match item.kind {
                Kind::Type | Kind::Associated => false,
                Kind::Member => code.contains(&format!(" . {name} ")),
                Kind::Provided => code.contains(&format!(" fn {name} ")),
            }
    };
    interface.iter().filter(|item| !used(item)).map(|(path, _)| format!("{path} is used by no test")).collect()
}

/// The words and signs of Rust text, one space between two; no comments, no literals, no lifetimes.
fn tokens(text: &str) -> String {
    let code = syn::parse_str::<syn::Macro>(&format!("m! {{\n{text}\n}}")).expect("Rust").tokens;
    let mut spaced = " ".to_owned();
    spell(TokenBuffer::new2(code).begin(), &mut spaced);
    spaced
}

fn spell(mut cursor: Cursor<'_>, spaced: &mut String) {
    while !cursor.eof() {
        cursor = if let Some((word, rest)) = cursor.ident() {
            *spaced += &format!("{word} ");
            rest
        } else if let Some((sign, rest)) = cursor.punct() {
            *spaced += &format!("{} ", sign.as_char());
            rest
        } else if let Some((inside, _, _, rest)) = cursor.any_group() {
            // What stands before a group does not belong to what is in it.
            *spaced += "( ";
            spell(inside, spaced);
            *spaced += ") ";
            rest
        } else {
            *spaced += "_ ";
            let rest = cursor.literal().map(|(_, rest)| rest);
            rest.or_else(|| Some(cursor.lifetime()?.1)).expect("a token")
        };
    }
}

#[test]
fn the_page_and_the_crate_agree() {
    let page = Page::new(&read(&root().join(PAGE)));
    assert!(page.tables.len() > 30, "only {} tables were found", page.tables.len());
    let (interface, defaults) = interface();
    assert!(interface.len() > 350, "only {} items were found", interface.len());
    let findings = disagreements(&page, &interface, &defaults);
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn every_item_is_used() {
    let mut code = String::new();
    for path in sources("tests").into_iter().chain(sources("examples")) {
        if !path.ends_with("tests/porting.rs") {
            code += &tokens(&read(&path));
        }
    }
    let findings = unused(&interface().0, &code);
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

// A list of Apple's members.

/// The sections of the list, each with the types whose tables answer for it.
const SECTIONS: [(&str, &[&str]); 19] = [
    (
        "1.1",
        &[
            "URLSession",
            "URLSessionWebSocketTask",
            "URLSessionWebSocketTask.Message",
            "URLSessionWebSocketTask.CloseCode",
        ],
    ),
    ("1.2", &["URLSessionWebSocketDelegate"]),
    ("1.3", &["URLSession", "URLSession.AuthChallengeDisposition"]),
    ("1.4", &["URLSessionTask", "URLSessionTask.State"]),
    ("1.5", &["URLSessionConfiguration"]),
    ("1.6", &["URLRequest"]),
    ("1.7", &["HTTPURLResponse"]),
    ("1.8", &["HTTPCookie", "HTTPCookieStringPolicy"]),
    ("1.9", &["HTTPCookieStorage", "HTTPCookie.AcceptPolicy"]),
    ("1.10", &["URLCredential", "URLCredential.Persistence"]),
    ("1.11", &["URLCredentialStorage"]),
    ("1.12", &["URLProtectionSpace", "NSURLAuthenticationMethod…"]),
    ("1.13", &["URLAuthenticationChallenge"]),
    ("1.14", &["SecTrust", "SecIdentity", "URLCredential"]),
    ("1.15", &["URLSessionTaskMetrics", "URLSessionTaskTransactionMetrics", "tls_protocol_version_t"]),
    ("1.16", &["URLSessionDelegate", "URLSessionTaskDelegate"]),
    ("1.17", &["connectionProxyDictionary", "ProxyConfiguration"]),
    ("1.18", &["OperationQueue"]),
    ("1.19", &["Progress"]),
];

/// The members that a section lists: what stands in backquotes in the first cells of its tables, in the second cells where
/// those have an enumeration's cases or a dictionary's keys, and in lines that begin with a member.
fn listed(section: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut has_names_in_second = false;
    for line in section.lines() {
        let names = match cells(line) {
            Some(cells) => {
                if cells.iter().any(|cell| cell.starts_with("Cases") || *cell == "Key string") {
                    has_names_in_second = true;
                }
                let mut names = quoted(cells[0]);
                if has_names_in_second {
                    names.extend(quoted(cells.get(1).copied().unwrap_or_default()));
                }
                names
            }
            None => {
                has_names_in_second = false;
                let is_list = line.starts_with('`')
                    || ["Constants:", "Class properties:"].iter().any(|mark| line.starts_with(mark));
                if is_list { quoted(line) } else { Vec::new() }
            }
        };
        found.extend(names.into_iter().map(str::to_owned));
    }
    found
}

/// Names of the list that are not Swift's.
const SPELLINGS: [(&str, &str); 4] =
    [("Max-Age", "maximumAge"), ("SameSite", "sameSitePolicy"), ("Lax", "sameSiteLax"), ("Strict", "sameSiteStrict")];

/// The names that a listed one stands for, each in the ways in which it may be meant: `aSent/Received` is `aSent` and
/// `aReceived`, `aMinimum/MaximumB` is `aMinimumB` and `aMaximumB`.
fn meant(name: &str) -> Vec<Vec<String>> {
    if [".swift", ".kt", ".cs"].iter().any(|ending| name.contains(ending)) {
        return Vec::new();
    }
    if let Some((_, spelling)) = SPELLINGS.iter().find(|(listed, _)| *listed == name) {
        return vec![vec![(*spelling).to_owned()]];
    }
    if name.starts_with('…') || name.starts_with("urlSession(") && name.ends_with("…)") {
        return vec![vec![name.trim_end_matches(')').to_owned()]];
    }
    let (first, others) = match name.split_once('/') {
        Some((first, others)) if !name.contains('(') => (first, others),
        _ => {
            let last = name.split('(').next().and_then(|word| word.rfind('.')).map_or(name, |dot| &name[dot + 1..]);
            let mut small = last.to_owned();
            small[..1].make_ascii_lowercase();
            return vec![vec![key(name), key(last), small]];
        }
    };
    let ends_of_words =
        |word: &str| -> Vec<usize> { word.rmatch_indices(char::is_uppercase).map(|(at, _)| at).collect() };
    let first = first.split(':').next().unwrap_or(first);
    let mut names = vec![vec![first.to_owned()]];
    for other in others.split('/').map(|other| other.split(':').next().unwrap_or(other)) {
        names[0].extend(ends_of_words(other).into_iter().map(|at| format!("{first}{}", &other[at..])));
        let mut ways = vec![other.to_owned()];
        ways.extend(ends_of_words(first).into_iter().map(|at| format!("{}{other}", &first[..at])));
        names.push(ways);
    }
    names
}

/// Whether the tables have a name; of one that is cut off, what is left of it.
fn has(ours: &BTreeSet<String>, name: &str) -> bool {
    if let Some(end) = name.strip_prefix('…') {
        return ours.iter().any(|our| our.contains(end));
    }
    if let Some(beginning) = name.strip_suffix('…') {
        return ours.iter().any(|our| our.starts_with(beginning));
    }
    ours.contains(name) || name.starts_with("Set") && ours.iter().any(|our| our.ends_with(name))
}

/// The tables have every member of a list of Apple's interface, where the variable names a folder with one.
#[test]
fn every_listed_member_is_on_the_page() {
    let Some(folder) = std::env::var_os("URLSESSION_REFERENCE") else {
        println!("URLSESSION_REFERENCE names no list of Apple's members");
        return;
    };
    let list = read(&Path::new(&folder).join("apple-behaviour.md"));
    let page = Page::new(&read(&root().join(PAGE)));
    let mut findings = Vec::new();
    for (number, types) in SECTIONS {
        let (_, rest) = list.split_once(&format!("\n## {number} ")).unwrap_or_else(|| panic!("no section {number}"));
        let section = rest.split("\n## ").next().unwrap_or(rest);
        let tables: Vec<&Table> = page.tables.iter().filter(|table| types.contains(&&*table.swift)).collect();
        assert_eq!(tables.len(), types.len(), "{number}: the tables of {types:?}");
        let rows = tables.iter().flat_map(|table| &table.rows).flat_map(|row| &row.swift);
        let last = |table: &&Table| table.swift.rsplit('.').next().unwrap_or_default().to_owned();
        let mut ours: BTreeSet<String> = rows.map(|swift| key(swift)).collect();
        ours.extend(tables.iter().map(last));
        let mut count = 0;
        for name in listed(section) {
            for ways in meant(&name) {
                count += 1;
                if !ways.iter().any(|way| has(&ours, way)) {
                    findings.push(format!("{number} {name}: {ways:?}"));
                }
            }
        }
        println!("{number}: {count}");
        assert!(count > 1, "{number} lists only {count} members");
    }
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

// The check of the check.

fn item(kind: Kind, says: &str) -> PublicItem {
    PublicItem { kind, says: says.to_owned() }
}

/// A crate with a type, two methods of it and a type that Apple lacks; and its page.
fn small() -> (Interface, String) {
    let items = [
        ("Task", item(Kind::Type, "`URLTask`: a task.")),
        ("Task::cancel_with", item(Kind::Member, "`cancel(with:reason:)`: ends it.")),
        ("Task::amount", item(Kind::Member, "Beyond Apple: bytes.")),
        ("Options", item(Kind::Type, "Beyond Apple: choices.")),
        ("Options::LARGE", item(Kind::Associated, "More than a little.")),
    ];
    let page = "### `URLTask`: `Task`\n\n| Swift | Rust | |\n|---|---|---|\n| `cancel(with:reason:)` | `cancel_with` | |\n\
                | `progress` | none | nobody knows |\n\n## Beyond Apple\n\n| Rust | |\n|---|---|\n| `Task::amount` | bytes |\n\
                | `Options`, `Options::LARGE`, `Options::default` | choices |\n";
    (items.into_iter().map(|(path, item)| (path.to_owned(), item)).collect(), page.to_owned())
}

#[test]
fn each_kind_of_disagreement_is_found() {
    let defaults = BTreeSet::from(["Options".to_owned()]);
    let (interface, page) = small();
    assert_eq!(disagreements(&Page::new(&page), &interface, &defaults), Vec::<String>::new());
    let breaches = [
        ("| `cancel(with:reason:)` | `cancel_with` | |\n", "", "Task::cancel_with is in the crate and not on the page"),
        ("`cancel_with`", "`cancel`", "Task::cancel is on the page and not in the crate"),
        ("`cancel(with:reason:)`", "`stop(with:)`", "the documentation of Task::cancel_with says none of"),
        ("`URLTask`", "`URLSessionTask`", "the documentation of Task does not say `URLSessionTask`"),
        ("`Task`\n", "`Work`\n", "Work is on the page and not in the crate"),
        ("nobody knows", "", "`URLTask`.`progress`: why not?"),
        ("| `Task::amount` |", "| `Task::cancel_with`, `Task::amount` |", "Task::cancel_with is on the page twice"),
        ("`Task::amount`", "`Task::amount`, `Task::weight`", "Task::weight is on the page and not in the crate"),
        ("`Options::default`", "`Task::default`", "Task::default is on the page and not in the crate"),
        ("`Options`, ", "", "Options is in the crate and not on the page"),
    ];
    for (from, to, expected) in breaches {
        assert!(page.contains(from), "{from}");
        let findings = disagreements(&Page::new(&page.replacen(from, to, 1)), &interface, &defaults);
        assert!(findings.iter().any(|finding| finding.contains(expected)), "{expected}: {findings:?}");
    }
    let (mut interface, page) = small();
    interface.insert("Task::amount".to_owned(), item(Kind::Member, "Bytes."));
    let findings = disagreements(&Page::new(&page), &interface, &defaults);
    assert_eq!(findings, ["the documentation of Task::amount does not say that it is beyond Apple"]);
}

#[test]
fn what_is_used_is_told_from_what_is_only_mentioned() {
    let (interface, _) = small();
    let used = "/// Options::LARGE\nfn f(task: &Task) { task.cancel_with(Options::LARGE); assert!(task.amount() > 0) }";
    assert_eq!(unused(&interface, &tokens(used)), Vec::<String>::new());
    let mentioned =
        "/// Task::amount\nfn f(cancel_with: Options) { \"Options::LARGE Task .amount\"; LARGE } // task.cancel_with()";
    let missing: Vec<String> = unused(&interface, &tokens(mentioned));
    let missing: Vec<&str> = missing.iter().filter_map(|finding| finding.split(' ').next()).collect();
    assert_eq!(missing, ["Options::LARGE", "Task", "Task::amount", "Task::cancel_with"]);
}

#[test]
fn swift_names_compare_by_what_tells_them_apart() {
    let same = [
        ("send(_:completionHandler:)", "send(_ message: Message, completionHandler: (Error?) -> Void)"),
        ("URLSession(configuration:)", "init(configuration:)"),
        ("HTTPCookie(properties:)", "init?(properties:)"),
        ("OperationQueue()", "init()"),
        (".normalClosure", "normalClosure"),
        ("receive() async throws", "receive() async throws -> Message"),
        (
            "urlSession(_:webSocketTask:didCloseWith:reason:)",
            "urlSession(_:webSocketTask:didCloseWith: CloseCode, reason: Data?)",
        ),
        ("shared", "class var shared"),
    ];
    for (ours, apples) in same {
        assert_eq!(key(ours), key(apples));
    }
    let different = [
        ("receive(completionHandler:)", "receive() async throws"),
        ("URLSession(configuration:)", "init(configuration:delegate:delegateQueue:)"),
        ("urlSession(_:didReceive:completionHandler:)", "urlSession(_:task:didReceive:completionHandler:)"),
    ];
    for (ours, apples) in different {
        assert_ne!(key(ours), key(apples));
    }
}
