//! What is typed and what is shown.

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor, ExternalPrinter};
use urlsession::{CloseCode, Message};

use super::arguments;

/// What a line of input asks for.
pub enum Line {
    Send(Message),
    Ping,
    Close(Option<(CloseCode, String)>),
    Help,
}

impl Line {
    /// An error is a line for whoever typed it.
    pub fn parse(line: &str) -> Result<Self, String> {
        let Some(command) = line.strip_prefix('/') else { return Ok(Self::Send(line.into())) };
        let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
        match (name, rest.trim()) {
            _ if command.starts_with('/') => Ok(Self::Send(command.into())),
            ("text", _) => Ok(Self::Send(rest.into())),
            ("data", digits) => Ok(Self::Send(hex(digits).ok_or("these are no bytes in hex")?.into())),
            ("ping", "") => Ok(Self::Ping),
            ("close", "") => Ok(Self::Close(None)),
            ("close", text) => Ok(Self::Close(Some(arguments::close(text, ' ')?))),
            ("help", "") => Ok(Self::Help),
            _ => Err(format!("no command: {line}; /help lists them, //TEXT sends a text with a slash")),
        }
    }
}

/// The bytes of pairs of digits; spaces between them do not count.
fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        digits.chars().filter(|char| *char != ' ').map(|char| char.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks(2);
    pairs.map(|pair| u8::try_from(pair.first()? * 16 + pair.get(1)?).ok()).collect()
}

/// A server must not drive the terminal, or order what is read otherwise than it is written. What could is replaced by a
/// picture of it; tabs and ends of lines stay.
pub fn harmless(text: &str) -> String {
    let shown = |char| match char {
        '\n' | '\t' => char,
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(char)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}' => char::REPLACEMENT_CHARACTER,
        char if is_unseen(char) => char::REPLACEMENT_CHARACTER,
        char => char,
    };
    text.chars().map(shown).collect()
}

/// What is not seen itself: Unicode's format characters, those that order a line among them, and its separators of lines; what
/// is as wide as nothing, or looks like a space and is a letter; and the plane of tags, which can hide a whole text. (The sixteen
/// variation selectors of the first plane are let through: they change how the character before them looks.)
fn is_unseen(char: char) -> bool {
    matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
        | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The same for what the program itself says: a server must not add lines to that.
pub fn one_line(text: &str) -> String {
    harmless(text).replace('\n', "\u{240a}")
}

/// Where lines are shown. Clones are the same place.
#[derive(Clone)]
pub struct Terminal {
    /// Prints above the line that is edited. `None`: nobody edits one.
    printer: Option<Arc<Mutex<Box<dyn ExternalPrinter + Send>>>>,
    colours: bool,
}

/// Where lines come from.
pub enum Input {
    Editor(Box<Editor<(), MemHistory>>),
    Lines,
}

impl Terminal {
    /// `edit`: lines are edited where there is somebody to do so.
    pub fn new(edit: bool) -> (Self, Input) {
        let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let (printer, input) = match edit && io::stdin().is_terminal() && io::stdout().is_terminal() {
            true => editor().unwrap_or((None, Input::Lines)),
            false => (None, Input::Lines),
        };
        (Self { printer: printer.map(|printer| Arc::new(Mutex::new(printer))), colours }, input)
    }

    /// A message that has arrived.
    pub fn message(&self, message: &Message) {
        let text = match message {
            Message::String(text) => harmless(text),
            Message::Data(data) => data.iter().fold("(data) ".to_owned(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            }),
            _ => "(a message of a kind that this program does not know)".to_owned(),
        };
        match self.printer {
            // A message of several lines must not look like something else.
            Some(_) => self.print(&format!("< {}", text.replace('\n', "\n  "))),
            // If nobody reads it any more, there is nobody to tell.
            None => drop(writeln!(io::stdout(), "{text}")),
        }
    }

    /// Something about the connection.
    pub fn note(&self, text: &str) {
        self.aside("2", text);
    }

    /// Something that must not be overlooked.
    pub fn alarm(&self, text: &str) {
        self.aside("1;31", text);
    }

    fn aside(&self, colour: &str, text: &str) {
        let text = one_line(text);
        let line = if self.colours { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text };
        match self.printer {
            Some(_) => self.print(&line),
            None => drop(writeln!(io::stderr(), "{line}")),
        }
    }

    fn print(&self, line: &str) {
        if let Some(Ok(mut printer)) = self.printer.as_ref().map(|printer| printer.lock()) {
            let _ = printer.print(format!("{line}\n"));
        }
    }
}

type Printer = Box<dyn ExternalPrinter + Send>;

fn editor() -> rustyline::Result<(Option<Printer>, Input)> {
    let config = Config::builder().auto_add_history(true).build();
    let mut editor = Editor::with_history(config, MemHistory::new())?;
    let printer = editor.create_external_printer()?;
    Ok((Some(Box::new(printer)), Input::Editor(Box::new(editor))))
}

impl Input {
    pub fn is_edited(&self) -> bool {
        matches!(self, Self::Editor(_))
    }

    /// Reads lines on a thread of its own, `None` is the end of input, and an error, too. Lines that nobody types are read no faster than they
    /// are sent: behind each the thread waits for a word from `go`.
    pub fn read(self, line: impl Fn(io::Result<Option<String>>) + Send + 'static, go: mpsc::Receiver<()>) -> Settings {
        let settings = if self.is_edited() { Settings::of_terminal() } else { Settings(None) };
        thread::spawn(move || {
            match self {
                Self::Editor(mut editor) => loop {
                    match editor.readline("> ") {
                        Ok(typed) if typed.is_empty() => {}
                        Ok(typed) => line(Ok(Some(typed))),
                        // The window has another size.
                        Err(ReadlineError::Signal(_)) => {}
                        Err(_) => break,
                    }
                },
                Self::Lines => {
                    for read in io::stdin().lock().lines() {
                        let is_read = read.is_ok();
                        line(read.map(Some));
                        if !is_read || go.recv().is_err() {
                            break;
                        }
                    }
                }
            }
            line(Ok(None));
        });
        settings
    }
}

/// How the terminal was before a line was edited. If the program ends while one is, somebody has to put that right.
pub struct Settings(Option<String>);

impl Settings {
    fn of_terminal() -> Self {
        Self(stty("-g"))
    }

    pub fn restore(&self) {
        if let Self(Some(settings)) = self {
            stty(settings.trim());
            // Out of the line that was edited, where long texts are no longer pasted in brackets.
            let _ = io::stdout().write_all(b"\x1b[?2004l\r\n");
            let _ = io::stdout().flush();
        }
    }
}

/// `None` on systems that have no such program; their shells see to it themselves.
fn stty(argument: &str) -> Option<String> {
    let output = Command::new("stty").arg(argument).stdin(Stdio::inherit()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok())?
}
