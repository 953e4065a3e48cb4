//! The layout of a frame (RFC 6455, section 5.2): headers both ways, masks, close payloads.

use std::ops::Deref;

use super::Fault;
use crate::codes::close;

/// Bytes of the longest header: two, a length of eight and a mask of four.
pub const HEADER_BYTES_MAX: usize = 14;

/// Payload bytes of the largest control frame.
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// The short length that says that 16 bits of length follow.
const LENGTH_16: u8 = 0x7E;
/// The short length that says that 64 bits of length follow.
const LENGTH_64: u8 = 0x7F;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation = 0,
    /// A message of UTF-8 text, or its first fragment.
    Text = 1,
    /// A message of bytes, or its first fragment.
    Binary = 2,
    /// The end.
    Close = 8,
    /// A sign of life that asks for one.
    Ping = 9,
    /// A sign of life.
    Pong = 10,
}

impl Opcode {
    /// Whether it is a control frame: at most 125 bytes, never fragmented, allowed between fragments.
    pub const fn is_control(self) -> bool {
        self as u8 >= Self::Close as u8
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

/// Writes a frame's header and returns its length. The payload must be masked with the same key; a server gives none.
pub fn encode_header(
    out: &mut [u8; HEADER_BYTES_MAX],
    mask: Option<[u8; 4]>,
    opcode: Opcode,
    fin: bool,
    payload_len: usize,
) -> usize {
    debug_assert!(
        !opcode.is_control() || (fin && payload_len <= CONTROL_BYTES_MAX),
        "a control frame is small"
    );
    out[0] = u8::from(fin) << 7 | opcode as u8;
    let mask_bit = u8::from(mask.is_some()) << 7;
    let mut len = match payload_len {
        0..=125 => {
            out[1] = mask_bit | payload_len as u8;
            2
        }
        126..=0xFFFF => {
            out[1] = mask_bit | LENGTH_16;
            out[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            4
        }
        _ => {
            out[1] = mask_bit | LENGTH_64;
            out[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        }
    };
    if let Some(key) = mask {
        out[len..len + 4].copy_from_slice(&key);
        len += 4;
    }
    len
}

/// Appends a whole, unfragmented frame.
pub fn encode_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask_key: Option<[u8; 4]>) {
    let mut header = [0; HEADER_BYTES_MAX];
    let header_len = encode_header(&mut header, mask_key, opcode, true, payload.len());
    out.reserve(header_len + payload.len());
    out.extend_from_slice(&header[..header_len]);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask_key {
        mask(&mut out[start..], key);
    }
}

/// Masks or unmasks (section 5.3) bytes that begin at the key's first byte.
pub fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let word = u32::from_ne_bytes(key);
    let wide = u128::from(word) * 0x0000_0001_0000_0001_0000_0001_0000_0001;
    let (chunks, rest) = bytes.as_chunks_mut::<16>();
    for chunk in chunks {
        *chunk = (u128::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    let (words, rest) = rest.as_chunks_mut::<4>();
    for chunk in words {
        *chunk = (u32::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, k) in rest.iter_mut().zip(key) {
        *byte ^= k;
    }
}

/// Masks or unmasks bytes that begin `offset` bytes into their frame's payload.
pub(super) fn mask_from(bytes: &mut [u8], mut key: [u8; 4], offset: usize) {
    key.rotate_left(offset % 4);
    mask(bytes, key);
}

/// Whether a close frame may carry this code: those that the registry of RFC 6455 (section 7.4.2) assigns to frames, and
/// 3000 to 4999.
pub const fn is_valid_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The payload of a close frame.
#[derive(Clone, Copy, Debug)]
pub struct ClosePayload {
    bytes: [u8; CONTROL_BYTES_MAX],
    len: u8,
}

impl Deref for ClosePayload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Builds the payload of a close frame. A reason that is too long for it is cut between two characters.
///
/// # Panics
/// The code may not be sent ([`is_valid_close_code`]).
pub fn close_payload(code: u16, reason: &str) -> ClosePayload {
    assert!(is_valid_close_code(code), "close code {code} may not be sent");
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    let mut bytes = [0; CONTROL_BYTES_MAX];
    bytes[..2].copy_from_slice(&code.to_be_bytes());
    bytes[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
    ClosePayload { bytes, len: 2 + reason.len() as u8 }
}

/// Reads the payload of a close frame: no code where there is none.
pub(super) fn parse_close(payload: &[u8]) -> Result<(Option<u16>, &str), Fault> {
    let [high, low, reason @ ..] = payload else {
        return if payload.is_empty() { Ok((None, "")) } else { Err(Fault::BadClose) };
    };
    let code = u16::from_be_bytes([*high, *low]);
    if !is_valid_close_code(code) {
        return Err(Fault::BadClose);
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Fault::NotUtf8)?;
    Ok((Some(code), reason))
}

/// A frame's header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) payload_len: u64,
    /// Bytes before the payload.
    pub(super) prefix_len: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`; none while it is incomplete. Faults that the first two bytes show are
    /// found then.
    #[inline]
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Fault> {
        let [first, second, ..] = *bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Fault::ReservedBits);
        }
        let opcode = Opcode::from_bits(first & 0x0F).ok_or(Fault::UnknownOpcode)?;
        let fin = first & 0x80 != 0;
        let short = second & 0x7F;
        if opcode.is_control() {
            if !fin {
                return Err(Fault::ControlFragmented);
            }
            if usize::from(short) > CONTROL_BYTES_MAX {
                return Err(Fault::ControlTooLarge);
            }
        }
        let (payload_len, length_end) = match short {
            LENGTH_16 => {
                let Some(&long) = bytes[2..].first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(long)), 4)
            }
            LENGTH_64 => {
                let Some(&long) = bytes[2..].first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(long), 10)
            }
            short => (u64::from(short), 2),
        };
        let minimal = match short {
            LENGTH_16 => payload_len > 125,
            LENGTH_64 => payload_len > 0xFFFF && payload_len >> 63 == 0,
            _ => true,
        };
        if !minimal {
            return Err(Fault::BadLength);
        }
        if second & 0x80 == 0 {
            return Ok(Some(Self { fin, opcode, mask: None, payload_len, prefix_len: length_end }));
        }
        let Some(&key) = bytes[length_end..].first_chunk() else { return Ok(None) };
        Ok(Some(Self { fin, opcode, mask: Some(key), payload_len, prefix_len: length_end + 4 }))
    }
}

const _: () = assert!(is_valid_close_code(close::NORMAL) && is_valid_close_code(close::SILENT));
