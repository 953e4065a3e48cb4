//! From the bytes of reads to events.

use std::mem;
use std::ops::ControlFlow::{self, Break, Continue};

use super::Fault;
use super::frame::{CONTROL_BYTES_MAX, HEADER_BYTES_MAX, Header, Opcode, mask, mask_from, parse_close};

/// Which end of the connection decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes masked frames only.
    Server,
    /// Takes unmasked frames only.
    Client,
}

/// What a decoder takes. The same for all connections of a listener, so it is not kept in each.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The end that decodes.
    pub role: Role,
    /// Largest message, bytes, fragments together. Checked at each header, before any memory is taken.
    pub message_bytes_max: usize,
    /// Whether text messages are taken. Where not, the first frame of one is a fault (1003).
    pub take_text: bool,
}

/// What a connection brought: a whole message, or a control frame. Lent for the time of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message of bytes.
    Binary(&'a [u8]),
    /// A message of text.
    Text(&'a str),
    /// To be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// An answer to a ping, or unasked.
    Pong(&'a [u8]),
    /// The peer's close: its code, if it gave one, and its reason. Nothing is decoded after it.
    Close(Option<u16>, &'a str),
}

/// What a connection keeps between reads. Memory on the heap is held only while a frame or a fragmented message is
/// incomplete.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Open,
    /// A close was decoded, or the caller broke off.
    Ended,
    Failed(Fault),
}

impl Decoder {
    /// A decoder at the start of a connection.
    pub const fn new() -> Self {
        Self { partial: None, state: State::Open }
    }

    /// Takes the bytes of one read and calls `on_event` for each complete message and control frame, in order. Frames are
    /// unmasked in `input`, whose content is undefined afterwards; all of it is consumed.
    ///
    /// `Ok(Break)` says that `on_event` broke off or that a close was decoded: the rest of `input` and all later input
    /// is dropped. `Err` is final and is given again for later input.
    pub fn feed(
        &mut self,
        config: &Config,
        input: &mut [u8],
        on_event: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Fault> {
        match self.state {
            State::Open => {}
            State::Ended => return Ok(Break(())),
            State::Failed(fault) => return Err(fault),
        }
        let outcome = self.decode(config, input, on_event);
        self.state = match outcome {
            Ok(Continue(())) => return outcome,
            Ok(Break(())) => State::Ended,
            Err(fault) => State::Failed(fault),
        };
        self.partial = None;
        outcome
    }

    /// Bytes of heap memory held for what is incomplete: at most the largest message and 256 bytes.
    pub fn buffered_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| size_of::<Partial>() + partial.message.capacity())
    }

    fn decode(
        &mut self,
        config: &Config,
        mut rest: &mut [u8],
        on_event: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Fault> {
        while !rest.is_empty() {
            if self.partial.is_none() {
                // The usual path: whole, unfragmented frames, one after the other.
                if let Some(header) = Header::parse(rest)? {
                    check(&header, config, None, 0)?;
                    let end = header.payload_len.saturating_add(header.prefix_len as u64);
                    if header.fin && end <= rest.len() as u64 {
                        let (frame, next) = rest.split_at_mut(end as usize);
                        let payload = &mut frame[header.prefix_len..];
                        if let Some(key) = header.mask {
                            mask(payload, key);
                        }
                        if emit(header.opcode, payload, on_event)?.is_break() {
                            return Ok(Break(()));
                        }
                        rest = next;
                        continue;
                    }
                }
            }
            let partial = self.partial.get_or_insert_default();
            let used = match partial.take(config, rest, on_event)? {
                Continue(used) => used,
                Break(()) => return Ok(Break(())),
            };
            if partial.is_idle() {
                self.partial = None;
            }
            rest = &mut rest[used..];
        }
        Ok(Continue(()))
    }
}

/// Refuses a frame by its header. `begun` is the kind of the fragmented message that is open, and `len` its bytes so far.
#[inline]
fn check(header: &Header, config: &Config, begun: Option<Opcode>, len: usize) -> Result<(), Fault> {
    match (config.role, header.mask) {
        (Role::Server, None) => return Err(Fault::Unmasked),
        (Role::Client, Some(_)) => return Err(Fault::Masked),
        _ => {}
    }
    match (header.opcode, begun) {
        (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => return Ok(()),
        (Opcode::Continuation, None) => return Err(Fault::NothingToContinue),
        (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Fault::MessageInMessage),
        (Opcode::Text, None) if !config.take_text => return Err(Fault::TextNotTaken),
        _ => {}
    }
    if header.payload_len > config.message_bytes_max.saturating_sub(len) as u64 {
        return Err(Fault::TooLarge);
    }
    Ok(())
}

/// Gives out a complete message or control frame; breaks after a close.
#[inline]
fn emit(
    opcode: Opcode,
    payload: &[u8],
    on_event: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Fault> {
    Ok(on_event(match opcode {
        Opcode::Binary => Event::Binary(payload),
        Opcode::Text => Event::Text(simdutf8::basic::from_utf8(payload).map_err(|_| Fault::NotUtf8)?),
        Opcode::Ping => Event::Ping(payload),
        Opcode::Pong => Event::Pong(payload),
        Opcode::Close => {
            let (code, reason) = parse_close(payload)?;
            let _ = on_event(Event::Close(code, reason));
            return Ok(Break(()));
        }
        Opcode::Continuation => unreachable!("a message is given out with the opcode of its first fragment"),
    }))
}

/// What is incomplete: a header, a frame's payload, a message in fragments; the last can be together with one of the
/// others.
#[derive(Debug)]
struct Partial {
    /// The first `header_len` bytes of the next frame's header.
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    /// The control frame's payload so far.
    control: [u8; CONTROL_BYTES_MAX],
    /// The frame whose payload is incomplete, and how many bytes of it were taken.
    frame: Option<(Header, usize)>,
    /// The kind of the open message.
    begun: Option<Opcode>,
    /// The open message so far, unmasked.
    message: Vec<u8>,
    /// How much of the message was found to be UTF-8, if it is text.
    checked: usize,
}

/// The least memory taken for a message, bytes. A peer cannot make it larger than twice what it has sent.
const MESSAGE_CAPACITY_MIN: usize = 256;

const _: () = assert!(size_of::<Partial>() <= 256 && size_of::<Decoder>() <= 16);

impl Default for Partial {
    fn default() -> Self {
        Self {
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            control: [0; CONTROL_BYTES_MAX],
            frame: None,
            begun: None,
            message: Vec::new(),
            checked: 0,
        }
    }
}

impl Partial {
    fn is_idle(&self) -> bool {
        self.header_len == 0 && self.frame.is_none() && self.begun.is_none()
    }

    /// Takes bytes up to the end of one frame; says how many.
    fn take(
        &mut self,
        config: &Config,
        input: &mut [u8],
        on_event: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), usize>, Fault> {
        let (header, have, header_used) = match self.frame {
            Some((header, have)) => (header, have, 0),
            None => match self.take_header(input)? {
                (Some(header), used) => {
                    check(&header, config, self.begun, self.message.len())?;
                    (header, 0, used)
                }
                (None, used) => return Ok(Continue(used)),
            },
        };
        let missing = header.payload_len as usize - have;
        let here = missing.min(input.len() - header_used);
        let piece = &mut input[header_used..header_used + here];
        if let Some(key) = header.mask {
            mask_from(piece, key, have);
        }
        let is_whole = here == missing;
        self.frame = if is_whole { None } else { Some((header, have + here)) };
        let flow = if header.opcode.is_control() {
            self.control[have..have + here].copy_from_slice(piece);
            if is_whole { emit(header.opcode, &self.control[..have + here], on_event)? } else { Continue(()) }
        } else {
            self.take_data(config, &header, piece, missing, on_event)?
        };
        Ok(flow.map_continue(|()| header_used + here))
    }

    /// Completes the next header from what is kept of it and from `input`; says how many bytes of `input` it took.
    fn take_header(&mut self, input: &[u8]) -> Result<(Option<Header>, usize), Fault> {
        let kept = usize::from(self.header_len);
        let here = input.len().min(HEADER_BYTES_MAX - kept);
        self.header[kept..kept + here].copy_from_slice(&input[..here]);
        let parsed = Header::parse(&self.header[..kept + here])?;
        let used = parsed.map_or(here, |header| header.prefix_len - kept);
        self.header_len = if parsed.is_some() { 0 } else { (kept + here) as u8 };
        Ok((parsed, used))
    }

    /// Takes a piece of a message. `missing` are the bytes that its frame still lacked before.
    fn take_data(
        &mut self,
        config: &Config,
        header: &Header,
        piece: &[u8],
        missing: usize,
        on_event: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Fault> {
        let is_last = header.fin && piece.len() == missing;
        let kind = self.begun.unwrap_or(header.opcode);
        if is_last && self.message.is_empty() {
            self.begun = None;
            return emit(kind, piece, on_event);
        }
        self.begun = Some(kind);
        let most = if header.fin { self.message.len() + missing } else { config.message_bytes_max };
        self.append(piece, most);
        if is_last {
            // The whole message is checked again where it is text: what was checked before says it will not fail early,
            // and only a checked slice becomes a `str`.
            self.begun = None;
            self.checked = 0;
            return emit(kind, &mem::take(&mut self.message), on_event);
        }
        if kind == Opcode::Text {
            self.check_text()?;
        }
        Ok(Continue(()))
    }

    /// Appends to the message. Its memory doubles, so that each byte is moved a constant number of times, and stays
    /// within `most`, the largest that the message can become.
    fn append(&mut self, piece: &[u8], most: usize) {
        let len = self.message.len() + piece.len();
        if len > self.message.capacity() {
            let capacity = (2 * self.message.capacity()).max(MESSAGE_CAPACITY_MIN).max(len).min(most);
            self.message.reserve_exact(capacity - self.message.len());
        }
        self.message.extend_from_slice(piece);
    }

    /// Finds bytes that no continuation can make UTF-8, as soon as they are here.
    fn check_text(&mut self) -> Result<(), Fault> {
        match simdutf8::compat::from_utf8(&self.message[self.checked..]) {
            Ok(_) => self.checked = self.message.len(),
            Err(error) if error.error_len().is_some() => return Err(Fault::NotUtf8),
            // A character that is cut: it is looked at again with the next piece.
            Err(error) => self.checked += error.valid_up_to(),
        }
        Ok(())
    }
}
