//! The server's side of Digest, written from RFC 7616 and RFC 2069 and with nothing of the crate's code: it makes challenges,
//! and checks each answer and each count.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::HashMap;
use std::sync::Mutex;

use md5::Md5;
use sha1::Digest;
use sha2::{Sha256, Sha512_256};

use super::origin::Request;

/// Who may come in, and what is asked of him.
pub struct Gate {
    pub user: &'static str,
    pub password: &'static str,
    pub realm: &'static str,
    /// As it is named in the challenge; an empty one is not named.
    pub algorithm: &'static str,
    /// As it is offered; an empty one is not, which is RFC 2069.
    pub qop: &'static str,
    pub opaque: &'static str,
    pub userhash: bool,
    /// How far each nonce was counted.
    pub counts: Mutex<HashMap<String, u32>>,
    /// What the key of a session is made of, by the nonce that is used: RFC 7616 §3.4.2.
    pub sessions: Mutex<HashMap<String, (String, String)>>,
}

/// What an answer that was right had in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub nonce: String,
    /// 0 without a `qop`.
    pub count: u32,
    pub client_nonce: String,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            user: "me",
            password: "secret",
            realm: "here",
            algorithm: "SHA-256",
            qop: "auth",
            opaque: "",
            userhash: false,
            counts: Mutex::default(),
            sessions: Mutex::default(),
        }
    }
}

impl Gate {
    /// The challenge with this nonce, with `more` parameters at its end.
    pub fn challenge(&self, nonce: &str, more: &str) -> String {
        let mut text = format!("Digest realm={}, nonce={}", quoted(self.realm), quoted(nonce));
        if !self.algorithm.is_empty() {
            text += &format!(", algorithm={}", self.algorithm);
        }
        for (name, value) in [("qop", self.qop), ("opaque", self.opaque)] {
            if !value.is_empty() {
                text += &format!(", {name}={}", quoted(value));
            }
        }
        if self.userhash {
            text += ", userhash=true";
        }
        text + more
    }

    /// A nonce that goes on for another by way of `nextnonce`.
    pub fn follows(&self, nonce: &str, next: &str) {
        let mut sessions = self.sessions.lock().unwrap();
        if let Some(session) = sessions.get(nonce).cloned() {
            sessions.insert(next.to_owned(), session);
        }
    }

    /// Checks the answer of a request, or says what is wrong with it.
    pub fn check(&self, request: &Request) -> Result<Given, String> {
        self.check_field(request, "Authorization")
    }

    /// The same of a request to a proxy.
    pub fn check_proxy(&self, request: &Request) -> Result<Given, String> {
        self.check_field(request, "Proxy-Authorization")
    }

    fn check_field(&self, request: &Request, field: &str) -> Result<Given, String> {
        let [value] = request.fields(field)[..] else { return Err("no answer, or several".to_owned()) };
        let value = value.strip_prefix("Digest ").ok_or("not Digest")?;
        let parts = Parts::read(value)?;
        parts.equal("realm", self.realm)?;
        parts.equal("uri", request.target())?;
        parts.equal("opaque", self.opaque)?;
        parts.equal("userhash", if self.userhash { "true" } else { "" })?;
        parts.equal("algorithm", self.algorithm)?;
        parts.equal("qop", if self.qop.is_empty() { "" } else { "auth" })?;
        self.check_user(&parts)?;
        // RFC 7616 §3.4: these have no quotes, and all the others have.
        for (name, (_, is_quoted)) in &parts.0 {
            let is_bare = ["algorithm", "qop", "nc", "userhash", "username*"].contains(&&**name);
            if is_bare == *is_quoted {
                return Err(format!("the quotes of {name}"));
            }
        }
        let nonce = parts.get("nonce").to_owned();
        let client_nonce = parts.get("cnonce").to_owned();
        let key = self.key(&nonce, &client_nonce);
        let request_hash = self.hash(&[request.method(), request.target()]);
        let expected = match self.qop {
            "" => self.hash(&[&key, &nonce, &request_hash]),
            _ => self.hash(&[&key, &nonce, parts.get("nc"), &client_nonce, "auth", &request_hash]),
        };
        parts.equal("response", &expected)?;
        let count = self.count(&nonce, parts.get("nc"))?;
        Ok(Given { nonce, count, client_nonce })
    }

    fn check_user(&self, parts: &Parts) -> Result<(), String> {
        if self.userhash {
            parts.equal("username", &self.hash(&[self.user, self.realm]))?;
            return parts.equal("username*", "");
        }
        // Who hashes with MD5 may be too old for `username*`.
        let is_old = self.algorithm.is_empty() || self.algorithm.starts_with("MD5");
        if self.user.is_ascii() || is_old {
            parts.equal("username*", "")?;
            return parts.equal("username", self.user);
        }
        parts.equal("username", "")?;
        let encoded = parts.get("username*").strip_prefix("UTF-8''").ok_or("no charset")?;
        let mut bytes = Vec::new();
        let mut rest = encoded.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'%' => {
                    let pair = [rest.next().ok_or("half a byte")?, rest.next().ok_or("half a byte")?];
                    u8::from_str_radix(&String::from_utf8_lossy(&pair), 16).map_err(|error| error.to_string())?
                }
                byte => byte,
            });
        }
        if bytes == self.user.as_bytes() { Ok(()) } else { Err("username*".to_owned()) }
    }

    fn key(&self, nonce: &str, client_nonce: &str) -> String {
        let key = self.hash(&[self.user, self.realm, self.password]);
        if !self.algorithm.to_lowercase().ends_with("-sess") {
            return key;
        }
        let mut sessions = self.sessions.lock().unwrap();
        let session = sessions.entry(nonce.to_owned()).or_insert_with(|| (nonce.to_owned(), client_nonce.to_owned()));
        self.hash(&[&key, &session.0, &session.1])
    }

    /// No count may come twice: RFC 7616 §3.4.
    fn count(&self, nonce: &str, given: &str) -> Result<u32, String> {
        if self.qop.is_empty() {
            return if given.is_empty() { Ok(0) } else { Err("a count without qop".to_owned()) };
        }
        if given.len() != 8 {
            return Err(format!("the count {given}"));
        }
        let count = u32::from_str_radix(given, 16).map_err(|error| error.to_string())?;
        let mut counts = self.counts.lock().unwrap();
        let last = counts.entry(nonce.to_owned()).or_default();
        if count == 0 || count <= *last {
            return Err(format!("count {count} of {nonce} after {last}"));
        }
        *last = count;
        Ok(count)
    }

    fn hash(&self, parts: &[&str]) -> String {
        let text = parts.join(":");
        let name = self.algorithm.to_uppercase();
        match name.strip_suffix("-SESS").unwrap_or(&name) {
            "" | "MD5" => hex(&Md5::digest(text)),
            "SHA-256" => hex(&Sha256::digest(text)),
            "SHA-512-256" => hex(&Sha512_256::digest(text)),
            other => panic!("no algorithm {other}"),
        }
    }
}

/// The parameters of an answer by their names, with whether they had quotes.
struct Parts(HashMap<String, (String, bool)>);

impl Parts {
    fn read(text: &str) -> Result<Self, String> {
        let mut parts = HashMap::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=').ok_or("a parameter without a value")?;
            let (value, is_quoted) = match after.strip_prefix('"') {
                Some(quoted) => {
                    let mut value = String::new();
                    let mut characters = quoted.chars();
                    loop {
                        match characters.next().ok_or("quotes without an end")? {
                            '"' => break,
                            '\\' => value.push(characters.next().ok_or("quotes without an end")?),
                            character => value.push(character),
                        }
                    }
                    rest = characters.as_str();
                    (value, true)
                }
                None => {
                    let (value, _) = after.split_once(',').unwrap_or((after, ""));
                    rest = &after[value.len()..];
                    (value.to_owned(), false)
                }
            };
            rest = match rest.strip_prefix(", ") {
                Some(rest) => rest,
                None if rest.is_empty() => rest,
                None => return Err(format!("what comes behind {name}")),
            };
            if parts.insert(name.to_owned(), (value, is_quoted)).is_some() {
                return Err(format!("{name} twice"));
            }
        }
        Ok(Self(parts))
    }

    /// Empty where there is none.
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |(value, _)| value)
    }

    fn equal(&self, name: &str, expected: &str) -> Result<(), String> {
        let value = self.get(name);
        if value == expected { Ok(()) } else { Err(format!("{name} is {value:?}, not {expected:?}")) }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
