//! permessage-deflate as it is negotiated: RFC 7692 §5.1 and §7.1. What it does to messages is `websocket/`'s.
//!
//! Names are compared without case, as those of all extensions are here. No two names that are registered differ in case
//! only, and a server that echoes one in another spelling means what it says.
#![forbid(unsafe_code)]

use super::extensions::Parameter;
use super::shown::shown;
use crate::foundation::{DeflateParameters, WebSocketOptions};

/// What the extension is called: RFC 7692 §7.
pub const NAME: &str = "permessage-deflate";

const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// The values of the two parameters that have one, beginning with 8. RFC 7692 §7.1.2.1: decimal, without leading zeros.
const WINDOW_BITS: [&str; 8] = ["8", "9", "10", "11", "12", "13", "14", "15"];

/// A window as large as there is.
const MOST: u8 = 15;

/// Which of the two heads it is that an extension stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    Request,
    Response,
}

/// The extension with its parameters, as it stands in a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deflate {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<ClientBits>,
}

/// `client_max_window_bits`: RFC 7692 §7.1.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientBits {
    /// Without a value: the client knows the parameter, and asks for nothing. Only in a request.
    Any,
    Most(u8),
}

impl Deflate {
    /// What these options offer. That the client knows `client_max_window_bits` is always said, so that the server may ask for
    /// a smaller window: RFC 7692 §7.1.2.2.
    ///
    /// # Errors
    /// The text says which of the options cannot be.
    pub fn offered_by(options: &WebSocketOptions) -> Result<Self, String> {
        for (name, bits) in [
            ("server_max_window_bits", options.server_max_window_bits),
            ("client_max_window_bits", options.client_max_window_bits),
        ] {
            // 8 is legal, and yet no zlib compresses with such a window.
            if !(9..=MOST).contains(&bits) {
                return Err(format!("the option {name} is {bits}, which is not one of 9 to {MOST}"));
            }
        }
        let less = |bits: u8| (bits < MOST).then_some(bits);
        Ok(Self {
            server_no_context_takeover: options.server_no_context_takeover,
            client_no_context_takeover: options.client_no_context_takeover,
            server_max_window_bits: less(options.server_max_window_bits),
            client_max_window_bits: Some(
                less(options.client_max_window_bits).map_or(ClientBits::Any, ClientBits::Most),
            ),
        })
    }

    /// Writes it as an element of `Sec-WebSocket-Extensions`.
    pub fn write(&self, text: &mut String) {
        text.push_str(NAME);
        let mut push = |name: &str, bits: Option<u8>| {
            text.extend(["; ", name]);
            if let Some(bits) = bits {
                text.extend(["=", &bits.to_string()]);
            }
        };
        if self.server_no_context_takeover {
            push(SERVER_NO_CONTEXT_TAKEOVER, None);
        }
        if self.client_no_context_takeover {
            push(CLIENT_NO_CONTEXT_TAKEOVER, None);
        }
        if let Some(bits) = self.server_max_window_bits {
            push(SERVER_MAX_WINDOW_BITS, Some(bits));
        }
        match self.client_max_window_bits {
            Some(ClientBits::Most(bits)) => push(CLIENT_MAX_WINDOW_BITS, Some(bits)),
            Some(ClientBits::Any) => push(CLIENT_MAX_WINDOW_BITS, None),
            None => {}
        }
    }

    /// What these parameters say. RFC 7692 §7.1: one that is not defined, that is there twice, or whose value is not what
    /// it may be here, makes all of it worthless.
    ///
    /// # Errors
    /// The text says what is wrong; it begins with the name of the extension.
    pub fn read(parameters: &[Parameter<'_>], head: Head) -> Result<Self, String> {
        let mut deflate = Self::default();
        for parameter in parameters {
            let is = |name: &str| parameter.name.eq_ignore_ascii_case(name);
            let (name, doubled) = if is(SERVER_NO_CONTEXT_TAKEOVER) {
                without_value(SERVER_NO_CONTEXT_TAKEOVER, parameter)?;
                (SERVER_NO_CONTEXT_TAKEOVER, std::mem::replace(&mut deflate.server_no_context_takeover, true))
            } else if is(CLIENT_NO_CONTEXT_TAKEOVER) {
                without_value(CLIENT_NO_CONTEXT_TAKEOVER, parameter)?;
                (CLIENT_NO_CONTEXT_TAKEOVER, std::mem::replace(&mut deflate.client_no_context_takeover, true))
            } else if is(SERVER_MAX_WINDOW_BITS) {
                let bits = window_bits(SERVER_MAX_WINDOW_BITS, parameter)?;
                (SERVER_MAX_WINDOW_BITS, deflate.server_max_window_bits.replace(bits).is_some())
            } else if is(CLIENT_MAX_WINDOW_BITS) {
                let bits = match (&parameter.value, head) {
                    (None, Head::Request) => ClientBits::Any,
                    _ => ClientBits::Most(window_bits(CLIENT_MAX_WINDOW_BITS, parameter)?),
                };
                (CLIENT_MAX_WINDOW_BITS, deflate.client_max_window_bits.replace(bits).is_some())
            } else {
                let name = shown(parameter.name);
                return Err(format!("{NAME} has the parameter {name}, which RFC 7692 does not know"));
            };
            if doubled {
                return Err(format!("{NAME} has the parameter {name} twice"));
            }
        }
        Ok(deflate)
    }

    /// What holds once a server has answered `offers` with `self`.
    ///
    /// Several offers are fallbacks (RFC 7692 §5.1), and an answer does not say which of them it is to. So it has to fit
    /// one of them, and of all that it fits, this side keeps every promise.
    ///
    /// # Errors
    /// The text says why the answer fits none, or why it does not fit the first of several.
    pub fn agreed(&self, offers: &[Self]) -> Result<DeflateParameters, String> {
        let mut agreed: Option<DeflateParameters> = None;
        let mut misfit = None;
        for offer in offers {
            match self.agreed_of(offer) {
                Ok(parameters) => match &mut agreed {
                    None => agreed = Some(parameters),
                    Some(agreed) => {
                        agreed.client_no_context_takeover |= parameters.client_no_context_takeover;
                        agreed.client_max_window_bits =
                            agreed.client_max_window_bits.min(parameters.client_max_window_bits);
                    }
                },
                Err(reason) => _ = misfit.get_or_insert(reason),
            }
        }
        agreed.ok_or_else(|| misfit.unwrap_or_else(|| format!("{NAME} was not offered")))
    }

    /// As [`agreed`](Self::agreed), of one offer.
    fn agreed_of(&self, offer: &Self) -> Result<DeflateParameters, String> {
        let missing = |name: &str| format!("{NAME} has no {name}, which was asked for");
        let larger = |name: &str, bits: u8, most: u8| {
            format!("{NAME} has the parameter {name} with the value {bits}, which is more than the offered {most}")
        };
        // RFC 7692 §7.1.1.1: who accepts the offer includes the parameter.
        if offer.server_no_context_takeover && !self.server_no_context_takeover {
            return Err(missing(SERVER_NO_CONTEXT_TAKEOVER));
        }
        // §7.1.2.1: with the same or a smaller value.
        match (offer.server_max_window_bits, self.server_max_window_bits) {
            (Some(_), None) => return Err(missing(SERVER_MAX_WINDOW_BITS)),
            (Some(most), Some(bits)) if bits > most => return Err(larger(SERVER_MAX_WINDOW_BITS, bits, most)),
            _ => {}
        }
        // §7.1.2.2: not where the offer does not have it. What the client said about itself holds without an answer, too.
        let client_max_window_bits = match (offer.client_max_window_bits, self.client_max_window_bits) {
            (None, Some(_)) => {
                return Err(format!("{NAME} has the parameter {CLIENT_MAX_WINDOW_BITS}, which was not offered"));
            }
            (Some(ClientBits::Most(most)), Some(ClientBits::Most(bits))) if bits > most => {
                return Err(larger(CLIENT_MAX_WINDOW_BITS, bits, most));
            }
            (_, Some(ClientBits::Most(bits))) | (Some(ClientBits::Most(bits)), _) => bits,
            _ => MOST,
        };
        Ok(DeflateParameters {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover || offer.client_no_context_takeover,
            server_max_window_bits: self.server_max_window_bits.unwrap_or(MOST),
            client_max_window_bits,
        })
    }
}

/// RFC 7692 §7.1.1: neither of the two has a value.
fn without_value(name: &str, parameter: &Parameter<'_>) -> Result<(), String> {
    match &parameter.value {
        None => Ok(()),
        Some(value) => {
            Err(format!("{NAME} has the parameter {name} with the value {}, where none may be", shown(value)))
        }
    }
}

/// RFC 7692 §7.1.2.
fn window_bits(name: &str, parameter: &Parameter<'_>) -> Result<u8, String> {
    let Some(value) = &parameter.value else {
        return Err(format!("{NAME} has the parameter {name} without a value"));
    };
    let known = (8..).zip(WINDOW_BITS).find(|(_, text)| text == value);
    known.map(|(bits, _)| bits).ok_or_else(|| {
        format!("{NAME} has the parameter {name} with the value {}, which is not one of 8 to {MOST}", shown(value))
    })
}

#[cfg(test)]
mod tests;
