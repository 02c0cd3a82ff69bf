//! Layouts, keys and places.

use proptest::prelude::*;

use super::*;

fn key(byte: u8) -> Key {
    Key([byte; 32])
}

fn from_hex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// A place and another.
fn places() -> [Place<'static>; 2] {
    [Place::head(b"joe", 1), Place::revision(b"joe", 1)]
}

/// Made by OpenSSL's AES-256-GCM (through Node's `crypto`) with key 00…1f and nonce a0…af.
#[test]
fn a_value_that_another_implementation_sealed_in_this_layout_opens() {
    let sealed = from_hex(
        "010a4145532e47434d2e5631a0a1a2a3a4a5a6a7a8a9aaabacadaeaf\
         a1701bf0f0d9967e76cbe05d39fdc7155ecb469c6bb9ac02a6be70d7cd7ee2f5",
    );
    let key = Key::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    for place in places() {
        let opened = Vault::new(std::slice::from_ref(&key)).open(&sealed, place);
        assert_eq!(opened.unwrap(), "the state of joe");
    }
}

/// Made likewise; the mark is the xxh3 of the associated data. Values of this layout open for ever.
#[test]
fn a_value_that_another_implementation_sealed_for_a_place_opens_there() {
    let sealed = from_hex(
        "010a54494445474154452e31bc15bac4816e8ecaa0a1a2a3a4a5a6a7a8a9aaabacadaeaf\
         ff18ca0a353edf581d7359e9495d622e5ecb469c6bb9ac02a6be70d7cd7ee2f5",
    );
    let key = Key::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    let vault = Vault::new(&[key]);
    let joe = crate::store::place::named_by(["s", "joe", ""]);
    assert_eq!(vault.open(&sealed, Place::revision(&joe, 7)).unwrap(), "the state of joe");
    assert_eq!(vault.open(&sealed, Place::head(&joe, 7)), Err(SealError::Elsewhere));
}

#[test]
fn a_value_opens_in_its_place_only_unless_it_is_sealed_as_spawn_does() {
    let vault = Vault::new(&[key(1)]);
    let [head, revision] = places();
    let sealed = vault.seal(b"state", head).unwrap();
    assert_eq!(vault.open(&sealed, head).unwrap(), "state");
    assert_eq!(vault.open(&sealed, revision), Err(SealError::Elsewhere));
    // Whoever can compute a mark cannot make the value fit.
    let mut forged = sealed.to_vec();
    let mark = PLACE_LABEL.len()..PLACE_LABEL.len() + MARK_BYTES;
    forged[mark.clone()].copy_from_slice(&vault.seal(b"", revision).unwrap()[mark.clone()]);
    assert_eq!(vault.open(&forged, revision), Err(SealError::NoneFits(1)));
    // Neither is a value of one layout one of the other.
    let as_spawn = [SPAWN_LABEL, &sealed[mark.end..]].concat();
    assert_eq!(vault.open(&as_spawn, head), Err(SealError::NoneFits(1)));
    let spawn = Vault::new(&[key(1)]).with_layout(Layout::Spawn).seal(b"state", head).unwrap();
    let as_place = [&sealed[..mark.end], &spawn[SPAWN_LABEL.len()..]].concat();
    assert_eq!(vault.open(&as_place, head), Err(SealError::NoneFits(1)));
    assert_eq!(vault.stale(), 0);
    assert_eq!(vault.open(&spawn, revision).unwrap(), "state");
    assert_eq!(vault.stale(), 1, "sealing again changes the layout");
}

#[test]
fn an_old_key_opens_and_the_new_one_seals() {
    let [place, _] = places();
    let sealed = Vault::new(&[key(1)]).seal(b"state", place).unwrap();
    let rotated = Vault::new(&[key(2), key(1)]);
    assert_eq!(rotated.open(&sealed, place).unwrap(), "state");
    assert_eq!(rotated.sealed_with(&sealed, place).unwrap().key, 1);
    let again = rotated.seal(b"state", place).unwrap();
    assert_eq!(rotated.sealed_with(&again, place).unwrap(), rotated.current());
    assert_eq!(rotated.stale(), 1);
    rotated.open(&again, place).unwrap();
    assert_eq!(rotated.stale(), 1, "sealed with the current key");
    rotated.pass(Bytes::new());
    assert_eq!(rotated.stale(), 2, "in the clear");
    assert_eq!(Vault::new(&[key(1)]).open(&again, place), Err(SealError::NoneFits(1)));
    assert_eq!(Vault::default().open(&again, place), Err(SealError::NoKey));
    assert_eq!(Vault::default().seal(b"state", place), None);
}

#[test]
fn a_key_is_32_bytes_of_base64_and_is_never_shown() {
    for wrong in ["", "no base64!", "c2hvcnQ="] {
        let error = Key::parse(wrong).unwrap_err();
        assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
    }
    let vault = Vault::new(&[key(7)]);
    assert!(!format!("{:?} {vault:?}", key(7)).contains('7'));
}

proptest! {
    #[test]
    fn what_is_sealed_opens_to_the_same_and_a_flipped_bit_does_not(
        value in proptest::collection::vec(any::<u8>(), 0..500),
        at in any::<proptest::sample::Index>(),
        bit in 0_u32..8,
        layout in prop_oneof![Just(Layout::Spawn), Just(Layout::Place)],
    ) {
        let vault = Vault::new(&[key(3)]).with_layout(layout);
        let [place, _] = places();
        let sealed = vault.seal(&value, place).unwrap();
        prop_assert!(sealed.len() <= value.len() + SEAL_BYTES);
        prop_assert_eq!(&vault.open(&sealed, place).unwrap()[..], &value[..]);
        let mut damaged = sealed.to_vec();
        let at = at.index(damaged.len());
        damaged[at] ^= 1_u8 << bit;
        prop_assert!(vault.open(&damaged, place).is_err());
    }
}
