"""The cryptography of Stratum V2 against published vectors, each given by value with its source."""

import hashlib

import pytest
from coincurve import PublicKeyXOnly

from simulators.pool.ellswift import KeyPair, make_key, shared_secret, x_only
from simulators.pool.noise import Authority, Cipher, ForeignError, base58_check
from tests.support import secp256k1 as curve

# BIP 324, packet_encoding_test_vectors.csv: in_priv_ours, in_ellswift_ours, in_ellswift_theirs, in_initiating,
# mid_x_ours, mid_shared_secret.
BIP324 = [
    (
        "e79f04ad4c684525ff3e3cf7c19f4cdb11193d387d7f3fe82a948a0c3165f5fe",
        "4eff53ea1945e57b5d170565e760d771e5d496101c1005c302fd687af80d8b858c5a681c474fc4c0546ee464a1b95899ecb9d4f50c2c0854fe029fc0"
        "54ae6777",
        "824a1da0530fa695b95b375fee2a56ec96ce375ddd2fcf8367cc8ec1c0b751a3304bbef5dc96543acaac50c24be8cb39906ef8521727de0c6e96c206"
        "0a026bd7",
        True,
        "b63341693587b4944b865485cffcc34707b3e0760a6ba8d1d402fc1c996c4e91",
        "05ac09c882b2cddd57fd4a1a14f93ae78d78a2ab2adb8cb6d67176cdb3101e15",
    ),
    (
        "53a915e6d8f6c5bbb93e537081085e9e642dc525649acf05be74e3a825e20921",
        "715d7b8357dd4d15a07b3f8c6764ebd9927140f75047fb50478c33ea8889d710511cdf39aa0fd6b1e94ea660d87f9d97bffc548646f9e2aaebc1468f"
        "e563fb97",
        "cea7abc3112397b894bd3e89a615248af473f897bbdd30997c20e53e7ce499a295e55c4c5655cd3d21191e76c8af0aa1bbea10fd1b540a42d0fbed38"
        "8dc59877",
        False,
        "533bbaefc711f303be5e8271fdecfd31d03abd42128ff73479e2a427059e4a74",
        "08cbe6a86ff92a9757b2aeea92b8b2f4d78426786a2caec99c3cc73d7dda47ab",
    ),
]
# Stratum V2 specification, 04 Protocol Security, 4.7.1.
AUTHORITY = bytes([
    118, 99, 112, 0, 151, 156, 28, 17, 175, 12, 48, 11, 205, 140, 127, 228, 134, 16, 252, 233, 185, 193, 30, 61, 174, 227, 90,
    224, 176, 138, 116, 85,
])  # fmt: skip
# BIP 340, test-vectors.csv, index 1: public key, message, signature.
BIP340 = (
    "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
    "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
    "6896bd60eeae296db48a229ff71dfe071bde413e6d43f917dc8dcf8c78de33418906d11ac976abccb20b091292bff4ea897efcb639ea871cfa95f6de"
    "339e4b0a",
)
# RFC 8439, appendix A.5: key, associated data, sealed text and tag.
RFC8439_KEY = "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0"
RFC8439_ASSOCIATED = "f33388860000000000004e91"
RFC8439_SEALED = (
    "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0bdb7b73c321b0100d4f03b7f"
    "355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c8559797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0"
    "f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04"
    "b3564eea1b422273f548271a0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130"
    "305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709beead9d67890cbb22392336fea1851f38"
)


@pytest.mark.parametrize(("secret", "ours", "theirs", "is_initiator", "x", "expected"), BIP324)
def test_the_shared_secret_is_that_of_bip_324(secret, ours, theirs, is_initiator, x, expected):
    ours, theirs = bytes.fromhex(ours), bytes.fromhex(theirs)
    initiator, responder = (ours, theirs) if is_initiator else (theirs, ours)
    own = KeyPair(bytes.fromhex(secret), ours)
    assert shared_secret(initiator, responder, own, is_initiator=is_initiator).hex() == expected
    assert x_only(ours).hex() == x
    assert curve.decoded_x(ours) == int(x, 16)
    assert curve.shared(int(secret, 16), theirs, initiator, responder).hex() == expected


def test_the_library_and_the_plain_curve_agree_on_keys():
    made = make_key()
    assert curve.decoded_x(made.encoded) == curve.times(int.from_bytes(made.secret, "big"), curve.G)[0]
    secret, encoded = curve.key_pair()
    assert x_only(encoded) == curve.times(secret, curve.G)[0].to_bytes(32, "big")


def test_the_authority_is_shown_as_in_the_specification():
    assert base58_check(b"\x01\x00" + AUTHORITY) == "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh"


def test_certificates_are_bip_340_signatures():
    key, message, signature = (bytes.fromhex(one) for one in BIP340)
    assert curve.verifies(key, message, signature)
    assert PublicKeyXOnly(key).verify(signature, message)
    authority = Authority(hashlib.sha256(b"a secret").digest())
    certificate = authority.certificate(AUTHORITY, 1_700_000_000.0)
    assert len(certificate) == 74
    signed = hashlib.sha256(certificate[:10] + AUTHORITY).digest()
    assert curve.verifies(authority.public_key, signed, certificate[10:])
    assert not curve.verifies(authority.public_key, signed, certificate[10:-1] + b"\0")
    assert int.from_bytes(certificate[2:6], "little") < 1_700_000_000 < int.from_bytes(certificate[6:10], "little")


def test_blocks_are_those_of_rfc_8439():
    cipher = Cipher(bytes.fromhex(RFC8439_KEY))
    cipher._count = 0x0807060504030201  # whose nonce is the vector's: four zero bytes, then 01 to 08
    plain = cipher.decrypt(bytes.fromhex(RFC8439_SEALED), bytes.fromhex(RFC8439_ASSOCIATED))
    assert plain.startswith(b"Internet-Drafts are draft documents valid for a maximum of six months")
    assert len(plain) == 265


def test_blocks_are_opened_in_their_order_alone():
    key = bytes(range(32))
    cipher, reader = Cipher(key), Cipher(key)
    sealed = [cipher.encrypt(b"same text") for _ in range(2)]
    assert sealed[0] != sealed[1]
    assert [reader.decrypt(one) for one in sealed] == [b"same text"] * 2
    with pytest.raises(ForeignError):
        reader.decrypt(sealed[0])
