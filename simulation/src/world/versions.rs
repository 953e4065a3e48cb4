//! Processes one version apart: what the next version writes has fields that this one does not know, at every level.

use bytes::Bytes;
use petrel_protocol::events::{ReceiptPack, StoredPack, UplinkPack};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

/// A field that no message has.
const FIELD: u32 = 1_000;
/// The packs' only field.
const EVENTS: u32 = 1;

/// The events of a pack.
pub(crate) trait Pack: Message {
    type Event: Message;

    fn events(&self) -> &[Self::Event];
}

macro_rules! pack {
    ($($pack:ident: $event:ident),+) => {$(
        impl Pack for $pack {
            type Event = petrel_protocol::events::$event;

            fn events(&self) -> &[Self::Event] {
                &self.events
            }
        }
    )+};
}

pack!(UplinkPack: Uplink, StoredPack: Stored, ReceiptPack: Receipt);

/// A pack as its writer encodes it.
pub(crate) fn encode<P: Pack>(pack: &P, is_next: bool) -> Bytes {
    if !is_next {
        return pack.encode_to_vec().into();
    }
    let mut bytes = Vec::new();
    add_unknown(&mut bytes);
    for event in pack.events() {
        let mut event = event.encode_to_vec();
        add_unknown(&mut event);
        encode_key(EVENTS, WireType::LengthDelimited, &mut bytes);
        encode_varint(event.len() as u64, &mut bytes);
        bytes.extend_from_slice(&event);
    }
    bytes.into()
}

/// A client's packet as a client of that version encodes it.
pub(crate) fn packet(packet: &[u8], is_next: bool) -> Bytes {
    if !is_next {
        return Bytes::copy_from_slice(packet);
    }
    let mut bytes = packet.to_vec();
    add_unknown(&mut bytes);
    bytes.into()
}

fn add_unknown(bytes: &mut Vec<u8>) {
    encode_key(FIELD, WireType::LengthDelimited, bytes);
    encode_varint(4, bytes);
    bytes.extend_from_slice(b"next");
}

#[cfg(test)]
mod tests {
    use petrel_protocol::events::Uplink;

    use super::*;

    #[test]
    fn this_version_reads_what_the_next_one_writes() {
        let pack = UplinkPack { events: vec![Uplink { user: 7, ..Uplink::default() }, Uplink::default()] };
        let next = encode(&pack, true);
        assert_ne!(next, encode(&pack, false));
        assert_eq!(UplinkPack::decode(next).expect("readable"), pack);
    }
}
