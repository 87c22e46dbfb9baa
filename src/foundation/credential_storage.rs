//! Where the credentials of a session are kept.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::credential::{CredentialPersistence, UrlCredential};
use super::protection_space::UrlProtectionSpace;

/// How many protection spaces are kept that servers made up. The one whose challenge was answered longest ago goes
/// first.
const MADE_BY_SERVERS: usize = 256;

/// How many of them one server may have before its own go first.
const OF_ORIGIN: usize = 16;

/// `URLCredentialStorage`: the credentials that the tasks of a session share.
///
/// ```
/// use urlsession::{
///     AuthenticationMethod, CredentialPersistence, SessionConfiguration, UrlCredential, UrlCredentialStorage,
///     UrlProtectionSpace,
/// };
///
/// let space = UrlProtectionSpace::new("example.com", 0, Some("wss"), Some("chat"), AuthenticationMethod::HttpBasic);
/// let storage = UrlCredentialStorage::new();
/// storage.set(UrlCredential::new("me", "secret", CredentialPersistence::ForSession), &space);
/// assert_eq!(storage.default_credential_for(&space).unwrap().user(), Some("me"));
///
/// let mut configuration = SessionConfiguration::default();
/// configuration.url_credential_storage = Some(storage);
/// ```
///
/// A handle: clones stand for the same storage, and handles compare by which storage they stand for. It may be used
/// from any thread and inside any callback.
///
/// Credentials are kept in memory, as in swift-corelibs-foundation: a [`Permanent`](CredentialPersistence::Permanent)
/// one is kept as long as one that is [`ForSession`](CredentialPersistence::ForSession), and one that is
/// [`None`](CredentialPersistence::None) or has no user is not kept at all. A protection space has one credential of
/// each user, and at most one of them is its default. Spaces are the same whose hosts are the same to a URL and whose
/// ports are, where 0 stands for the protocol's own.
///
/// What the program stores is kept until it removes it. Of the spaces that are here only because a server asked and was
/// answered there are at most 256, with realms of at most 1 KiB.
#[derive(Clone)]
pub struct UrlCredentialStorage(Arc<Mutex<Contents>>);

#[derive(Default)]
struct Contents {
    /// By their canonical form. None is empty.
    spaces: HashMap<UrlProtectionSpace, Credentials>,
    /// Those that came with a challenge and that the program has stored nothing for, the latest answered last.
    made_by_servers: VecDeque<UrlProtectionSpace>,
}

#[derive(Default)]
struct Credentials {
    by_user: BTreeMap<String, UrlCredential>,
    preferred: Preferred,
}

/// Whose credential is the default, and why.
#[derive(Default)]
enum Preferred {
    /// It was removed.
    #[default]
    Nobody,
    /// It was the first one, or it answered a challenge.
    Found(String),
    /// The program has said so.
    Chosen(String),
}

/// Who stores a credential.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Program,
    /// As the default.
    ProgramsChoice,
    AnsweredChallenge,
}

impl UrlCredentialStorage {
    /// `URLCredentialStorage.shared`: the one storage of the process that every default configuration uses. It is in
    /// memory.
    pub fn shared() -> Self {
        static SHARED: OnceLock<UrlCredentialStorage> = OnceLock::new();
        SHARED.get_or_init(Self::new).clone()
    }

    /// Beyond Apple: a storage of its own, in memory.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// `credentials(for:)`: all credentials of the space, by their users; empty where there are none.
    pub fn credentials_for(&self, space: &UrlProtectionSpace) -> HashMap<String, UrlCredential> {
        let space = space.canonical();
        let contents = self.contents();
        let all = contents.spaces.get(&space).into_iter().flat_map(|credentials| &credentials.by_user);
        all.map(|(user, credential)| (user.clone(), credential.clone())).collect()
    }

    /// `set(_:for:)`: takes the place of what the same user had in the space. The first credential of a space becomes
    /// its default. One that is [`CredentialPersistence::None`] or has no user is not stored: a server that is trusted and
    /// a client's certificate are for one answer, and never kept here.
    pub fn set(&self, credential: UrlCredential, space: &UrlProtectionSpace) {
        self.store(credential, space, By::Program);
    }

    /// `remove(_:for:)`: takes out the credential, if it is stored for the space with this user and this password; how
    /// long it was to be kept does not matter. If it was the default, the space has none until another is stored or set
    /// as default.
    pub fn remove(&self, credential: &UrlCredential, space: &UrlProtectionSpace) {
        let Some(user) = credential.user() else { return };
        let space = space.canonical();
        let mut contents = self.contents();
        let Some(credentials) = contents.spaces.get_mut(&space) else { return };
        if credentials.by_user.get(user).is_some_and(|stored| stored.password() == credential.password()) {
            credentials.by_user.remove(user);
            if credentials.default_user() == Some(user) {
                credentials.preferred = Preferred::Nobody;
            }
            if credentials.by_user.is_empty() {
                contents.spaces.remove(&space);
                contents.made_by_servers.retain(|made| *made != space);
            }
        }
    }

    /// `defaultCredential(for:)`: what default handling answers a challenge with. It is what was
    /// [set as default](Self::set_default_credential); without that, what last answered a challenge of the space, and
    /// before any did, the first that was stored.
    pub fn default_credential_for(&self, space: &UrlProtectionSpace) -> Option<UrlCredential> {
        self.contents().spaces.get(&space.canonical())?.default().cloned()
    }

    /// `setDefaultCredential(_:for:)`: stores the credential as by [`set`](Self::set), and makes it the default of the
    /// space.
    pub fn set_default_credential(&self, credential: UrlCredential, space: &UrlProtectionSpace) {
        self.store(credential, space, By::ProgramsChoice);
    }

    /// What a challenge is answered with where nobody says more: the default, or else the credential whose user is
    /// first in the order of names.
    pub(crate) fn proposed_for(&self, space: &UrlProtectionSpace) -> Option<UrlCredential> {
        let contents = self.contents();
        let credentials = contents.spaces.get(&space.canonical())?;
        credentials.default().or_else(|| credentials.by_user.values().next()).cloned()
    }

    /// A challenge was answered with this, and the server was content: it is proposed the next time (reference 2.12),
    /// unless the program has chosen another default. A server can make up spaces, so there is a limit to those that
    /// come this way.
    pub(crate) fn store_used(&self, credential: UrlCredential, space: &UrlProtectionSpace) {
        self.store(credential, space, By::AnsweredChallenge);
    }

    /// Takes out everything.
    pub(crate) fn clear(&self) {
        *self.contents() = Contents::default();
    }

    fn store(&self, credential: UrlCredential, space: &UrlProtectionSpace, by: By) {
        let Some(user) = credential.user().map(str::to_owned) else { return };
        if credential.persistence() != CredentialPersistence::None {
            self.contents().store(user, credential, space.canonical(), by);
        }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn store(&mut self, user: String, credential: UrlCredential, space: UrlProtectionSpace, by: By) {
        let is_new = !self.spaces.contains_key(&space);
        if by == By::AnsweredChallenge && is_new && !space.has_short_realm() {
            return;
        }
        let credentials = self.spaces.entry(space.clone()).or_default();
        match (&credentials.preferred, by) {
            (_, By::ProgramsChoice) => credentials.preferred = Preferred::Chosen(user.clone()),
            (Preferred::Nobody, _) | (Preferred::Found(_), By::AnsweredChallenge) => {
                credentials.preferred = Preferred::Found(user.clone());
            }
            (Preferred::Found(_), By::Program) | (Preferred::Chosen(_), _) => {}
        }
        credentials.by_user.insert(user, credential);
        self.note_origin(space, by, is_new);
    }

    /// The program's spaces stay, the others move up or make room.
    fn note_origin(&mut self, space: UrlProtectionSpace, by: By, is_new: bool) {
        let place = self.made_by_servers.iter().position(|made| *made == space);
        let was_made = place.and_then(|place| self.made_by_servers.remove(place)).is_some();
        if by == By::AnsweredChallenge && (is_new || was_made) {
            self.made_by_servers.push_back(space.clone());
            if self.made_by_servers.len() > MADE_BY_SERVERS {
                // A server with many pushes out its own, not those of others.
                let spaces = self.made_by_servers.iter().enumerate();
                let own = spaces.filter(|(_, made)| made.has_origin_of(&space)).map(|(place, _)| place);
                let place = if own.clone().count() > OF_ORIGIN { own.min() } else { Some(0) };
                if let Some(oldest) = place.and_then(|place| self.made_by_servers.remove(place)) {
                    self.spaces.remove(&oldest);
                }
            }
        }
    }
}

impl Credentials {
    fn default_user(&self) -> Option<&str> {
        match &self.preferred {
            Preferred::Nobody => None,
            Preferred::Found(user) | Preferred::Chosen(user) => Some(user),
        }
    }

    fn default(&self) -> Option<&UrlCredential> {
        self.by_user.get(self.default_user()?)
    }
}

impl Default for UrlCredentialStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for UrlCredentialStorage {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for UrlCredentialStorage {}

impl Hash for UrlCredentialStorage {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for UrlCredentialStorage {
    /// Shows which storage it is, never a credential.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("UrlCredentialStorage").field(&Arc::as_ptr(&self.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use super::*;
    use crate::foundation::AuthenticationMethod::{self, HttpBasic, HttpDigest};
    use CredentialPersistence::{ForSession, Permanent};

    fn space(realm: &str) -> UrlProtectionSpace {
        UrlProtectionSpace::new("example.com", 443, Some("wss"), Some(realm), HttpBasic)
    }

    fn credential(user: &str, password: &str) -> UrlCredential {
        UrlCredential::new(user, password, ForSession)
    }

    /// The users that are stored, in order.
    fn users(storage: &UrlCredentialStorage, space: &UrlProtectionSpace) -> Vec<String> {
        let mut users: Vec<_> = storage.credentials_for(space).into_keys().collect();
        users.sort();
        users
    }

    /// The default, and what is proposed, by their passwords.
    fn answers(storage: &UrlCredentialStorage, space: &UrlProtectionSpace) -> (Option<String>, Option<String>) {
        let password = |credential: UrlCredential| credential.password().unwrap().to_owned();
        (storage.default_credential_for(space).map(password), storage.proposed_for(space).map(password))
    }

    fn both(password: &str) -> (Option<String>, Option<String>) {
        (Some(password.to_owned()), Some(password.to_owned()))
    }

    #[test]
    fn each_user_has_one_credential_and_the_first_is_the_default() {
        let (storage, a) = (UrlCredentialStorage::new(), space("a"));
        assert_eq!((users(&storage, &a), answers(&storage, &a)), (vec![], (None, None)));
        storage.set(credential("m", "1"), &a);
        assert_eq!(answers(&storage, &a), both("1"));
        storage.set(credential("b", "2"), &a);
        assert_eq!((users(&storage, &a), answers(&storage, &a)), (vec!["b".to_owned(), "m".to_owned()], both("1")));
        // The default is somebody's credential: with a new password it is still theirs.
        storage.set(UrlCredential::new("m", "3", Permanent), &a);
        assert_eq!(answers(&storage, &a), both("3"));
        assert_eq!(storage.credentials_for(&a)["m"], UrlCredential::new("m", "3", Permanent));
        storage.set_default_credential(credential("b", "4"), &a);
        assert_eq!((users(&storage, &a).len(), answers(&storage, &a)), (2, both("4")));
        // A default that was not stored before is stored, too.
        storage.set_default_credential(credential("x", "5"), &a);
        assert_eq!((users(&storage, &a).len(), answers(&storage, &a)), (3, both("5")));
        assert_eq!(users(&storage, &space("b")), Vec::<String>::new());
    }

    #[test]
    fn what_is_for_one_answer_only_is_not_stored() {
        let (storage, a) = (UrlCredentialStorage::new(), space("a"));
        let once = UrlCredential::new("m", "1", CredentialPersistence::None);
        storage.set(once.clone(), &a);
        storage.set_default_credential(once.clone(), &a);
        storage.store_used(once.clone(), &a);
        assert_eq!((users(&storage, &a), answers(&storage, &a)), (vec![], (None, None)));
        storage.set(credential("m", "2"), &a);
        storage.set(once, &a);
        assert_eq!(answers(&storage, &a), both("2"));
    }

    #[test]
    fn what_is_removed_has_to_be_what_is_stored() {
        let (storage, a) = (UrlCredentialStorage::new(), space("a"));
        storage.set(credential("m", "1"), &a);
        storage.set(credential("b", "2"), &a);
        storage.set(credential("c", "3"), &a);
        for (user, password, space) in [("m", "2", &a), ("x", "1", &a), ("m", "1", &space("b"))] {
            storage.remove(&credential(user, password), space);
            assert_eq!(users(&storage, &a).len(), 3, "{user} {password}");
        }
        // The default goes: there is none then, and what is proposed is the first by name.
        storage.remove(&UrlCredential::new("m", "1", Permanent), &a);
        assert_eq!(answers(&storage, &a), (None, Some("2".to_owned())));
        // The next one stored becomes it, even one that was there.
        storage.set(credential("c", "4"), &a);
        assert_eq!(answers(&storage, &a), both("4"));
        storage.remove(&credential("b", "2"), &a);
        assert_eq!(answers(&storage, &a), both("4"));
        storage.remove(&credential("c", "4"), &a);
        assert_eq!((users(&storage, &a), answers(&storage, &a)), (vec![], (None, None)));
        assert!(storage.contents().spaces.is_empty());
    }

    #[test]
    fn spaces_that_mean_the_same_find_each_other() {
        let of = |host, port, protocol, realm, method: AuthenticationMethod| {
            UrlProtectionSpace::new(host, port, Some(protocol), realm, method)
        };
        let table = [
            (of("example.com", 0, "wss", Some("a"), HttpBasic), true),
            (of("Example.COM", 443, "https", Some("a"), HttpBasic), true),
            (of("example.com", 80, "wss", Some("a"), HttpBasic), false),
            (of("example.com", 0, "ws", Some("a"), HttpBasic), false),
            (of("example.com", 443, "ws", Some("a"), HttpBasic), false),
            (of("example.com", 443, "wss", Some("A"), HttpBasic), false),
            (of("example.com", 443, "wss", None, HttpBasic), false),
            (of("example.com", 443, "wss", Some("a"), HttpDigest), false),
            (of("www.example.com", 443, "wss", Some("a"), HttpBasic), false),
        ];
        for (other, same) in table {
            let storage = UrlCredentialStorage::new();
            storage.set(credential("m", "1"), &space("a"));
            assert_eq!(storage.default_credential_for(&other).is_some(), same, "{other:?}");
            storage.remove(&credential("m", "1"), &other);
            assert_eq!(storage.default_credential_for(&space("a")).is_none(), same, "{other:?}");
            storage.set(credential("m", "1"), &other);
            assert_eq!(storage.proposed_for(&other), Some(credential("m", "1")));
        }
    }

    #[test]
    fn what_answered_last_is_proposed_next_unless_the_program_chose() {
        let (storage, a) = (UrlCredentialStorage::new(), space("a"));
        storage.store_used(credential("m", "1"), &a);
        assert_eq!(answers(&storage, &a), both("1"));
        storage.store_used(credential("z", "2"), &a);
        assert_eq!((users(&storage, &a).len(), answers(&storage, &a)), (2, both("2")));
        storage.set_default_credential(credential("m", "1"), &a);
        storage.store_used(credential("z", "3"), &a);
        assert_eq!(answers(&storage, &a), both("1"));
        assert_eq!(storage.credentials_for(&a)["z"].password(), Some("3"));
        storage.store_used(credential("m", "4"), &a);
        assert_eq!(answers(&storage, &a), both("4"));
    }

    #[test]
    fn one_server_cannot_push_out_the_others() {
        let storage = UrlCredentialStorage::new();
        let space = |host: &str, realm: usize| {
            let realm = realm.to_string();
            UrlProtectionSpace::new(host, 80, Some("http"), Some(&realm), HttpBasic)
        };
        storage.store_used(credential("m", "1"), &space("good.example", 0));
        for realm in 0..2 * MADE_BY_SERVERS {
            storage.store_used(credential("m", "1"), &space("evil.example", realm));
        }
        assert!(storage.proposed_for(&space("good.example", 0)).is_some());
        assert_eq!(storage.contents().spaces.len(), MADE_BY_SERVERS);
        // Many servers with few each: the oldest goes.
        for server in 0..MADE_BY_SERVERS {
            storage.store_used(credential("m", "1"), &space(&format!("{server}.example"), 0));
        }
        assert!(storage.proposed_for(&space("good.example", 0)).is_none());
        assert_eq!(storage.contents().spaces.len(), MADE_BY_SERVERS);
    }

    #[test]
    fn servers_cannot_fill_a_storage() {
        let storage = UrlCredentialStorage::new();
        let stored = |realm: usize| storage.proposed_for(&space(&realm.to_string())).is_some();
        let answer = |realm: usize| storage.store_used(credential("m", "1"), &space(&realm.to_string()));
        let count = || {
            let contents = storage.contents();
            (contents.spaces.len(), contents.made_by_servers.len())
        };
        // The program's: before a challenge, after one, and as the default.
        storage.set(credential("m", "1"), &space("0"));
        (0..=4).for_each(answer);
        storage.set(credential("b", "2"), &space("1"));
        storage.set_default_credential(credential("m", "1"), &space("2"));
        assert_eq!(count(), (5, 2));
        // The fourth is answered once more, so that the third is the oldest.
        answer(3);
        (5..3 + MADE_BY_SERVERS).for_each(answer);
        assert_eq!(count(), (3 + MADE_BY_SERVERS, MADE_BY_SERVERS));
        answer(1000);
        assert!(!stored(4) && stored(3));
        (2000..2000 + MADE_BY_SERVERS).for_each(answer);
        assert_eq!((stored(0), stored(1), stored(2), stored(3), stored(1000)), (true, true, true, false, false));
        assert_eq!(count(), (3 + MADE_BY_SERVERS, MADE_BY_SERVERS));
        // What the program takes out counts no longer.
        storage.remove(&credential("m", "1"), &space("2000"));
        assert_eq!(count(), (2 + MADE_BY_SERVERS, MADE_BY_SERVERS - 1));
        let realm = |length: usize| space(&"r".repeat(length));
        storage.store_used(credential("m", "1"), &realm(1024));
        storage.store_used(credential("m", "1"), &realm(1025));
        assert!(storage.proposed_for(&realm(1024)).is_some() && storage.proposed_for(&realm(1025)).is_none());
        storage.set(credential("m", "1"), &realm(1025));
        storage.store_used(credential("m", "2"), &realm(1025));
        assert_eq!(answers(&storage, &realm(1025)), both("2"));
        storage.clear();
        assert_eq!((count(), stored(0)), ((0, 0), false));
    }

    #[test]
    #[expect(clippy::mutable_key_type, reason = "what is in it has no part in its hash")]
    fn handles_compare_by_identity_and_show_no_credential() {
        let own = UrlCredentialStorage::new();
        assert_eq!(own, own.clone());
        assert_ne!(own, UrlCredentialStorage::default());
        assert_eq!(UrlCredentialStorage::shared(), UrlCredentialStorage::shared());
        let set = HashSet::from([own.clone(), own.clone(), UrlCredentialStorage::shared()]);
        assert_eq!(set.len(), 2);
        // From any thread, and seen by every handle.
        let other = own.clone();
        thread::spawn(move || other.set(credential("somebody", "hidden"), &space("a"))).join().unwrap();
        assert_eq!(answers(&own, &space("a")), both("hidden"));
        let shown = format!("{own:?}");
        assert!(!shown.contains("somebody") && !shown.contains("hidden"), "{shown}");
    }
}
