"""The fingerprint of a key as twelve words, for two people to compare by telephone.

The words are the two-syllable half of the PGP word list (Juola and Zimmermann 1995), chosen to be told apart when they
are spoken. Each stands for 8 bits: to find another key with the same twelve takes 2⁹⁶ tries.
"""

from __future__ import annotations

import hashlib

from policies.errors import InvalidRequest

FINGERPRINT = 12  # bytes of a fingerprint, and words
WORDS = tuple(
    """
    aardvark absurd accrue acme adrift adult afflict ahead aimless algol allow alone ammo ancient apple artist assume
    athens atlas aztec baboon backfield backward banjo beaming bedlamp beehive beeswax befriend belfast berserk
    billiard bison blackjack blockade blowtorch bluebird bombast bookshelf brackish breadline breakup brickyard
    briefcase burbank button buzzard cement chairlift chatter checkup chisel choking chopper christmas clamshell
    classic classroom cleanup clockwork cobra commence concert cowbell crackdown cranky crowfoot crucial crumpled
    crusade cubic dashboard deadbolt deckhand dogsled dragnet drainage dreadful drifter dropper drumbeat drunken
    dupont dwelling eating edict egghead eightball endorse endow enlist erase escape exceed eyeglass eyetooth facial
    fallout flagpole flatfoot flytrap fracture framework freedom frighten gazelle geiger glitter glucose goggles
    goldfish gremlin guidance hamlet highchair hockey indoors indulge inverse involve island jawbone keyboard kickoff
    kiwi klaxon locale lockup merit minnow miser mohawk mural music necklace neptune newborn nightbird oakland obtuse
    offload optic orca payday peachy pheasant physique playhouse pluto preclude prefer preshrunk printer prowler pupil
    puppy python quadrant quiver quota ragtime ratchet rebirth reform regain reindeer rematch repay retouch revenge
    reward rhythm ribcage ringbolt robust rocker ruffled sailboat sawdust scallion scenic scorecard scotland seabird
    select sentence shadow shamrock showgirl skullcap skydive slingshot slowdown snapline snapshot snowcap snowslide
    solo southward soybean spaniel spearhead spellbind spheroid spigot spindle spyglass stagehand stagnate stairway
    standard stapler steamship sterling stockman stopwatch stormy sugar surmount suspense sweatband swelter tactics
    talon tapeworm tempest tiger tissue tonic topmost tracker transit trauma treadmill trojan trouble tumor tunnel
    tycoon uncut unearth unwind uproot upset upshot vapor village virus vulcan waffle wallet watchword wayside willow
    woodlark zulu
    """.split()
)
_NUMBERS = {word: number for number, word in enumerate(WORDS)}


def fingerprint(key: bytes) -> bytes:
    """The first bytes of the key's SHA-256."""
    return hashlib.sha256(b"private-datasites key\0" + key).digest()[:FINGERPRINT]


def words_of(print_of_key: bytes) -> str:
    """A fingerprint in words, with a space between two."""
    return " ".join(WORDS[number] for number in print_of_key)


def fingerprint_in(words: str) -> bytes:
    """The fingerprint that a person typed in words. Raises `InvalidRequest` naming the word that is none."""
    typed = words.lower().replace(",", " ").split()
    for word in typed:
        if word not in _NUMBERS:
            raise InvalidRequest(f"words: {word[:40]!r} is no word of a key. Ask the hospital to read its words again.")
    if len(typed) != FINGERPRINT:
        raise InvalidRequest(f"words: a key has {FINGERPRINT} words, and these are {len(typed)}. Write them all.")
    return bytes(_NUMBERS[word] for word in typed)
