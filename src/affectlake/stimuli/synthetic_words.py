"""Planted structure of the synthetic study: categories, their dimension profiles, and the words of their captions.

Only constants belong here; they are sampled in ``synthetic``.
"""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """Words of the captions of one category: who, does what, and where."""

    who: tuple[str, ...]
    does: tuple[str, ...]
    where: tuple[str, ...]


PROFILES: dict[str, tuple[float, ...]] = {
    # in the order of DIMENSIONS, each on its 1 to 9 scale; neighbours in this order are blended
    "Amusement": (7.0, 5.5, 6.0, 5.5, 4.0, 5.5, 5.5, 3.0, 6.0, 5.5, 3.0, 7.0, 6.5, 7.5),
    "Joy": (7.5, 6.0, 6.0, 6.0, 6.0, 6.0, 5.5, 4.0, 6.5, 6.0, 2.5, 7.5, 7.5, 8.0),
    "Adoration": (8.0, 4.5, 6.0, 6.5, 7.5, 5.5, 4.5, 3.5, 7.0, 6.0, 2.0, 8.0, 6.5, 8.0),
    "Romance": (7.0, 5.0, 5.5, 6.0, 8.0, 5.0, 4.5, 4.5, 6.5, 6.5, 3.0, 7.0, 6.5, 7.0),
    "Aesthetic Appreciation": (6.5, 3.5, 6.5, 6.0, 4.5, 4.5, 4.5, 3.0, 6.0, 5.0, 2.0, 7.5, 5.5, 7.5),
    "Awe": (6.0, 5.5, 7.5, 4.5, 5.0, 3.5, 4.0, 4.5, 5.5, 4.5, 3.5, 5.5, 6.0, 6.5),
    "Excitement": (6.5, 8.0, 7.5, 4.5, 5.0, 4.5, 5.5, 7.0, 5.5, 5.5, 5.0, 4.0, 6.5, 6.5),
    "Fear": (2.5, 7.5, 7.0, 3.0, 4.0, 2.5, 3.0, 6.5, 3.5, 4.5, 7.0, 1.5, 3.0, 2.5),
    "Horror": (1.5, 7.5, 6.0, 3.5, 3.5, 2.0, 2.5, 6.0, 2.0, 4.0, 7.5, 1.5, 2.0, 1.5),
    "Disgust": (1.5, 5.5, 4.0, 5.0, 2.5, 3.5, 4.5, 4.5, 3.5, 3.5, 6.0, 3.5, 2.5, 2.0),
    "Sadness": (3.5, 3.5, 5.0, 5.0, 6.5, 2.5, 3.0, 5.0, 3.0, 6.0, 6.5, 4.0, 2.0, 2.0),
    "Nostalgia": (6.0, 3.5, 5.0, 6.0, 6.0, 4.5, 4.5, 3.0, 6.0, 7.5, 3.0, 6.5, 5.0, 6.5),
}

GRAMMAR: dict[str, Words] = {
    "Amusement": Words(
        ("a clown", "a goofy raccoon", "a comedian", "a prankster"),
        ("slips on a banana peel", "pulls silly faces", "tells a joke", "wobbles on a unicycle"),
        ("at a circus", "during a sketch", "in a crowded cafeteria", "beside a trampoline"),
    ),
    "Joy": Words(
        ("a laughing family", "a bride", "a cheerful choir", "a group of dancers"),
        ("celebrates with confetti", "opens birthday presents", "sings along", "jumps into a pool"),
        ("at a wedding party", "under bright sunshine", "on a festival lawn", "around a cake"),
    ),
    "Adoration": Words(
        ("a tiny kitten", "a sleepy puppy", "a newborn baby", "a fluffy duckling"),
        ("cuddles a blanket", "yawns softly", "nuzzles its mother", "tumbles into a basket"),
        ("on a cosy sofa", "in a nursery", "among wool toys", "in gentle arms"),
    ),
    "Romance": Words(
        ("newlyweds", "two lovers", "old sweethearts", "an elderly husband and wife"),
        ("share a long kiss", "hold hands", "exchange roses", "slow-dance closely"),
        ("by candlelight", "on a balcony in Paris", "under falling petals", "at a proposal dinner"),
    ),
    "Aesthetic Appreciation": Words(
        ("a painter", "a string quartet", "a glassblower", "a ballerina"),
        ("reveals delicate patterns", "plays a quiet melody", "pauses in soft light", "turns with graceful symmetry"),
        ("in a gallery", "beside a mirror lake", "within a marble hall", "in a blossoming orchard"),
    ),
    "Awe": Words(
        ("a towering glacier", "the Milky Way", "a humpback whale", "an enormous canyon"),
        ("stretches beyond sight", "rises from the deep", "dwarfs the tiny hikers", "fills the whole sky"),
        ("above the clouds", "at a polar horizon", "under northern lights", "seen from orbit"),
    ),
    "Excitement": Words(
        ("a skydiver", "a motocross rider", "a snowboarder", "a racing driver"),
        ("leaps from a plane", "speeds through a loop", "lands a backflip", "overtakes on the last lap"),
        ("before a roaring stadium", "on a steep halfpipe", "along a rally track", "down a roller coaster"),
    ),
    "Fear": Words(
        ("a stalker", "a great white shark", "a snarling wolf", "a hissing cobra"),
        ("creeps closer in the dark", "waits above the cliff", "circles the cage", "lunges without warning"),
        ("in an abandoned basement", "on a crumbling ledge", "in black water", "behind a locked door"),
    ),
    "Horror": Words(
        ("a masked killer", "a mutilated zombie", "a possessed doll", "a screaming ghost"),
        ("drags a bloody axe", "crawls from a grave", "claws through the wall", "devours its victim"),
        ("in a ruined asylum", "at a foggy graveyard", "inside a torture chamber", "in a burning morgue"),
    ),
    "Disgust": Words(
        ("a swarm of maggots", "an infected wound", "a cockroach", "a leaking rat carcass"),
        ("oozes yellow pus", "stains the floor", "clings to rotten meat", "drips with slime"),
        ("in a filthy toilet", "inside a garbage bin", "on a mouldy plate", "near an open sewer"),
    ),
    "Sadness": Words(
        ("a grieving widow", "an orphan", "a heartbroken father", "a lonely veteran"),
        ("weeps silently", "says a last goodbye", "clutches a faded letter", "lowers a coffin"),
        ("at a funeral", "in a hospital ward", "in the cold rain", "at an empty bedside"),
    ),
    "Nostalgia": Words(
        ("an old puppeteer", "a grandmother", "a retired teacher", "a schoolyard friend"),
        ("rewinds a cassette tape", "leafs through an album", "hums a childhood tune", "winds a music box"),
        ("in a 1980s living room", "at a class reunion", "in a dusty attic", "beside a village playground"),
    ),
}
